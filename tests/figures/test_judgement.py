import math

import numpy as np
import pytest

from drawing import HOSTILE, draw, misplaced
from maskatlas.figures.judgement import mask_exchange, share_curves

METHODS = [
    "contribution", "mask", "contribution-flat-masks", "grad-cam", "hires-cam",
    "gradient-x-input", "integrated-gradients", "random", "centre",
]  # fmt: skip
FLOORS = ("random", "centre")


def curves(names, points=9):
    series = {name: np.linspace(0, k + 1, points).tolist() for k, name in enumerate(names)}
    return {"insertion": series, "deletion": series}


@pytest.mark.parametrize("width", [3.4, 7.0])
@pytest.mark.parametrize("count", [1, 3, 9])
def test_curves_of_any_number_of_methods_are_drawn(count, width):
    figure = share_curves(curves(METHODS[:count]), along="pixels, %", faint=FLOORS, width=width)
    assert draw(figure)[..., 3].any()
    assert misplaced(figure) == []
    for axes in figure.axes:
        drawn = [line for line in axes.get_lines() if len(line.get_xdata())]
        assert [line.get_label() for line in drawn] == METHODS[:count]
        for k, line in enumerate(drawn):
            assert line.get_xdata().tolist() == np.linspace(0, 100, 9).tolist()
            assert line.get_ydata()[-1] == k + 1


def test_no_two_methods_look_the_same_and_floors_are_grey():
    figure = share_curves(curves(METHODS), along="pixels, %", faint=FLOORS)
    lines = [line for line in figure.axes[0].get_lines() if len(line.get_xdata())]
    looks = {line.get_label(): (line.get_color(), line.get_linestyle()) for line in lines}
    assert len(set(looks.values())) == len(METHODS)
    assert looks["random"][0] == looks["centre"][0]
    assert looks["random"][0] not in {looks[name][0] for name in METHODS if name not in FLOORS}


def test_what_is_undefined_is_left_out():
    figure = share_curves({"AUROC": {"mask": [1.0, math.nan, 0.5]}}, along="channels gone, %")
    (line,) = (line for line in figure.axes[0].get_lines() if len(line.get_xdata()))
    assert line.get_xdata().tolist() == [0, 100]
    draw(share_curves({"AUROC": {"mask": []}}, along="channels gone, %"))


def test_hostile_methods_are_text():
    draw(share_curves(curves(HOSTILE), along="pixels, %"))


@pytest.mark.parametrize("width", [3.4, 7.0])
@pytest.mark.parametrize("count", [1, 3, 40])
def test_a_table_of_any_size_is_drawn(count, width):
    change = np.random.default_rng(0).normal(0, 1, (count, count))
    change[0, -1] = math.nan
    figure = mask_exchange([f"Attribute_{k}" for k in range(count)], change, width=width)
    assert draw(figure)[..., 3].any()
    assert misplaced(figure) == []


@pytest.mark.parametrize(
    ("largest", "end"), [(0.23, 0.3), (-4.0, 4.0), (0.0, 1.0), (17.0, 20.0), (math.nan, 1.0)]
)
def test_the_scale_ends_at_a_round_number(largest, end):
    figure = mask_exchange(["a", "b"], np.array([[0.0, largest], [0.0, 0.0]]))
    assert figure.axes[-1].get_xlim() == pytest.approx((-end, end))


def test_values_stand_where_they_are_said_to() -> None:
    figure = share_curves({"a": {"f": [0.1, math.nan, 0.3]}}, along="p", at=[0.0, 0.5, 0.95])
    lines = [line.get_xydata().tolist() for line in figure.axes[0].get_lines()]
    assert [[0, 0.1], [0.95, 0.3]] in lines
