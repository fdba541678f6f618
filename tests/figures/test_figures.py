"""What holds of every figure: names are text, labels have room, nothing global is touched."""

import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from functools import partial

import matplotlib
import numpy as np
import pytest
from matplotlib.figure import Figure
from matplotlib.text import Text

from atlases import made_up_atlas
from drawing import HOSTILE, draw, misplaced
from maskatlas import figures
from maskatlas.analysis import Atlas
from maskatlas.figures import DARK, LIGHT, mask_limit

Draw = Callable[..., Figure]


def explained(atlas: Atlas, *, top: int | None = None, **options: object) -> Figure:
    shown = atlas.examples
    return figures.explain_picture(
        shown.images[0],
        atlas.attributes,
        shown.scores[0],
        evidence=shown.contributions[0],
        channels=shown.channels[:, :top],
        masks=shown.masks[0][:, :top],
        **options,
    )


def scored(atlas: Atlas, **options: object) -> Figure:
    random = np.random.default_rng(0)
    keys = ("accuracy", "balanced_accuracy", "auroc")
    rows = {
        name: dict(zip(keys, random.uniform(0.5, 1, 3).tolist(), strict=True))
        | {"positives": 30, "negatives": 70}
        for name in atlas.attributes
    }
    return figures.accuracy_chart(rows, **options)


def readings(atlas: Atlas, **options: object) -> Figure:
    return figures.importance_readings(atlas, atlas.attributes[0], **options)


DRAWN: dict[str, Draw] = {
    "mask_grids": figures.mask_grids,
    "top_channel_overlays": figures.top_channel_overlays,
    "channel_correlation": figures.channel_correlation,
    "attribute_correlation": figures.attribute_correlation,
    "dendrogram": figures.dendrogram,
    "importance_readings": readings,
    "importance_agreement": figures.importance_agreement,
    "accuracy_chart": scored,
    "explain_picture": explained,
    "explain_picture, maps alone": partial(explained, top=0),
}
every = pytest.mark.parametrize("name", DRAWN)


@every
def test_hostile_names_are_drawn_without_a_warning(name):
    figure = DRAWN[name](made_up_atlas(HOSTILE, 6))
    assert draw(figure)[..., 3].any()
    assert not any(t.get_parse_math() or t.get_usetex() for t in figure.findobj(Text))


@every
@pytest.mark.parametrize("width", [3.4, 7.0])
def test_no_label_leaves_the_figure_or_lies_on_another(name, width):
    names = [f"A_rather_long_name_{k}" for k in range(18)]
    assert misplaced(DRAWN[name](made_up_atlas(names, 32), width=width)) == []


@every
def test_one_attribute_and_one_channel_are_enough(name):
    draw(DRAWN[name](made_up_atlas(1, 1)))


@every
def test_undefined_values_are_drawn(name):
    atlas = made_up_atlas(3, 4)
    blank = np.full_like(atlas.importance_drop, np.nan)
    atlas = replace(
        atlas,
        importance_drop=blank,
        attribute_correlation=np.full((3, 3), np.nan),
        channel_correlation=np.full((4, 4), np.nan),
    )
    draw(DRAWN[name](atlas))


@every
def test_without_the_causal_reading_the_other_two_are_drawn(name):
    draw(DRAWN[name](made_up_atlas(3, 4, drop=False)))


@every
def test_figures_are_transparent_and_take_the_theme(name):
    atlas = made_up_atlas(3, 4)
    light, dark = (draw(DRAWN[name](atlas, theme=theme)) for theme in (LIGHT, DARK))
    assert (light[..., 3] == 0).mean() > 0.02
    assert light.shape == dark.shape
    assert (light != dark).any()


def test_drawing_leaves_the_settings_of_matplotlib_alone():
    before = dict(matplotlib.rcParams)
    for drawn in DRAWN.values():
        drawn(made_up_atlas(3, 4))
    assert dict(matplotlib.rcParams) == before


def test_neither_pyplot_nor_torch_is_imported():
    code = (
        "import sys, maskatlas.figures, maskatlas.analysis, maskatlas.metrics\n"
        "print([n for n in ('matplotlib.pyplot', 'torch', 'sklearn') if n in sys.modules])"
    )
    found = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=120
    )
    assert found.stdout.strip() == "[]"


def test_attributes_stand_by_score_and_what_is_left_out_is_said():
    atlas = made_up_atlas(20, 4)
    figure = explained(atlas, details=2)
    labels = [label.get_text() for label in figure.axes[1].get_yticklabels()]
    order = np.argsort(-atlas.examples.scores[0])
    assert labels == [f"Attribute {row}" for row in order[:16]]
    said = [text.get_text() for text in figure.findobj(Text)]
    assert f"4 more, at most {atlas.examples.scores[0][order[16]]:.2f}" in said
    assert said.count("contribution") == 2


def test_masks_share_one_scale_that_holds_them_all():
    atlas = made_up_atlas(6, 8)
    assert atlas.mask_mean.max() <= mask_limit(atlas) <= atlas.mask_mean.max() + 0.1


def test_readings_are_ordered_by_the_causal_one():
    atlas = made_up_atlas(2, 20)
    figure = figures.importance_readings(atlas, "Attribute_1", n=3)
    channels = [int(label.get_text()) for label in figure.axes[0].get_yticklabels()]
    drops = atlas.importance_drop[1][channels]
    assert (np.diff(drops) <= 0).all()
    firsts = {c for by in atlas.readings for c in atlas.top_channels("Attribute_1", 3, by)}
    assert set(channels) == firsts


def test_what_looks_for_misplaced_labels_finds_them():
    figure = Figure(figsize=(2, 1))
    for place, name in ((0.5, "one"), (0.52, "other"), (0.97, "far out")):
        figure.text(place, 0.5, name)
    assert [line.split("'")[1] for line in misplaced(figure)] == ["far out", "one"]


def test_a_map_without_a_sign_speaks_against_nothing() -> None:
    atlas = made_up_atlas(3, 4)

    def scale(evidence: np.ndarray, *, signed: bool) -> list[str]:
        figure = figures.explain_picture(
            atlas.examples.images[0],
            atlas.attributes,
            atlas.examples.scores[0],
            evidence=evidence,
            method="grad-cam",
            signed=signed,
            channels=atlas.examples.channels,
            masks=atlas.examples.masks[0],
        )
        figure.draw_without_rendering()
        (axes,) = (a for a in figure.axes if a.get_xlabel().startswith("grad-cam"))
        return [label.get_text() for label in axes.get_xticklabels()]

    positive = np.abs(atlas.examples.contributions[0])
    assert scale(positive, signed=True) == ["against", "0", "for"]
    none, most = map(float, scale(positive, signed=False))
    assert (none, most > 0) == (0, True)
