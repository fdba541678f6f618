import math

import pytest

from drawing import draw, misplaced, texts
from maskatlas.figures.training import training_curves


def steps(count: int) -> list[dict[str, object]]:
    return [
        {
            "epoch": i / 10,
            "loss_total": 20 / (1 + i),
            "loss_binary": 10 / (1 + i),
            "mask_mean": 0.5,
            "mask_active": 0.9,
        }
        for i in range(count)
    ]


EPOCHS = [{"epoch": e, "val_accuracy": 0.9, "val_auroc": 0.95} for e in (1, 2, 3)]


@pytest.mark.parametrize("width", [3.4, 7.0])
@pytest.mark.parametrize("count", [1, 3, 300])
def test_curves_are_drawn_for_any_number_of_points(count, width):
    figure = training_curves(steps(count), EPOCHS[:count], width=width)
    assert draw(figure)[..., 3].any()
    assert misplaced(figure) == []


def test_what_is_missing_none_or_not_finite_is_left_out():
    lines = [
        *steps(3),
        {"epoch": 1},
        {"epoch": 2, "loss_total": None, "mask_mean": math.nan},
        {"epoch": 3, "loss_total": math.inf, "mask_mean": "high"},
        {},
    ]
    figure = training_curves(lines, EPOCHS)
    assert [len(line.get_xdata()) for axes in figure.axes for line in axes.get_lines()] == [
        3, 3, 3, 3, 3, 3,
    ]  # fmt: skip
    draw(figure)


def test_nothing_recorded_is_said():
    figure = training_curves([], [])
    assert [text.get_text() for text in texts(figure)].count("not recorded") == 3


def test_a_loss_of_zero_keeps_a_plain_scale():
    figure = training_curves([{"epoch": 0, "loss_total": 0.0}, {"epoch": 1, "loss_total": 1.0}], [])
    assert figure.axes[0].get_yscale() == "linear"
    assert training_curves(steps(3), []).axes[0].get_yscale() == "log"
