import hashlib
import itertools
import subprocess
import sys
from dataclasses import replace
from functools import cache

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from scipy.ndimage import binary_dilation

from maskatlas.config import FacesConfig
from maskatlas.errors import ConfigError, DataError
from maskatlas.published import plain_name, published_accuracies
from maskatlas.sources import open_dataset
from maskatlas.sources.faces import (
    ATTRIBUTES,
    RENDERER,
    FaceParameters,
    draw_face,
    open_faces,
    render_face,
    render_image,
    split_of_face,
)
from maskatlas.sources.faces.canvas import Canvas, Frame
from maskatlas.sources.faces.parameters import PROBABILITIES, draw_labels
from reference.coverage import counted_coverage

SIZE = 64
FITTED, HELD_OUT = 1000, 500  # faces for the single-pixel classifiers


@cache
def _face(index: int) -> FaceParameters:
    return draw_face(11, index)


@cache
def _rendered(index: int, size: int = SIZE) -> tuple[np.ndarray, np.ndarray]:
    return render_face(_face(index), size)


def _grid(size: int) -> Frame:
    steps = ((np.arange(size) + 0.5) * 2 / size - 1).astype(np.float32)
    x, y = np.meshgrid(steps, steps)
    return Frame(x, y, 2 / size)


# -- the attributes and how they are drawn


def test_attributes_are_celebas() -> None:
    celeba = {plain_name(name) for name in published_accuracies().attributes}
    assert len(ATTRIBUTES) >= 12
    assert len(set(ATTRIBUTES)) == len(ATTRIBUTES)
    assert {plain_name(name) for name in ATTRIBUTES} <= celeba


def test_attributes_are_independent_and_as_frequent_as_stated() -> None:
    labels = open_faces(FacesConfig(count=6000, seed=3), None).labels.numpy()
    deviation = 1 / np.sqrt(len(labels))
    for column, name in enumerate(ATTRIBUTES):
        assert abs(labels[:, column].mean() - PROBABILITIES[name]) < 4 * 0.5 * deviation
    correlation = np.corrcoef(labels.T)
    for first, second in itertools.combinations(range(len(ATTRIBUTES)), 2):
        assert abs(correlation[first, second]) < 4.5 * deviation
        # independence of binary variables is absence of correlation, also within the triples:
    third = labels[:, 0] * labels[:, 1]
    assert np.all(np.abs([np.corrcoef(third, c)[0, 1] for c in labels.T[2:]]) < 4.5 * deviation)


# -- a function of (seed, index)


def _digest(index: int) -> str:
    image, regions = render_face(draw_face(5, index), SIZE)
    return hashlib.sha256(image.tobytes() + regions.tobytes()).hexdigest()


def test_another_process_in_another_order_draws_the_same() -> None:
    code = (
        "import hashlib\n"
        "from maskatlas.sources.faces import draw_face, render_face\n"
        "for index in (40, 7, 3):\n"
        f"    image, regions = render_face(draw_face(5, index), {SIZE})\n"
        "    print(hashlib.sha256(image.tobytes() + regions.tobytes()).hexdigest())\n"
    )
    found = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    ).stdout.split()
    assert found == [_digest(40), _digest(7), _digest(3)]


def test_count_and_split_do_not_matter_to_a_face() -> None:
    few = open_faces(FacesConfig(count=10), None)
    many = open_faces(FacesConfig(count=40), "val")
    assert many.names[0] == few.names[8] == "face-000008"
    assert torch.equal(many.labels[0], few.labels[8])
    assert torch.equal(many[0].image, few[8].image)


def test_seed_and_index_matter() -> None:
    images = {_digest(0), _digest(1)}
    images |= {hashlib.sha256(render_image(draw_face(6, 0), SIZE).tobytes()).hexdigest()}
    assert len(images) == 3


def test_picture_alone_is_the_same_picture() -> None:
    for index in range(5):
        assert np.array_equal(render_image(_face(index), SIZE), _rendered(index)[0])


# -- what is drawn


@pytest.mark.parametrize(("size", "least"), [(32, 1), (64, 6), (128, 24)])
def test_region_of_every_attribute_is_visible(size: int, least: int) -> None:
    for index in range(150 * 32 // size):
        _, regions = _rendered(index, size)
        assert set(np.unique(regions)) == {0, 1}
        counts = regions.sum((1, 2))
        assert counts.min() >= least, (index, ATTRIBUTES[int(counts.argmin())])


def test_regions_are_small_beside_the_picture() -> None:
    shares = np.array([_rendered(index)[1].mean((1, 2)) for index in range(100)])
    medians = dict(zip(ATTRIBUTES, np.median(shares, 0), strict=True))
    assert max(medians.values()) < 0.16
    assert sum(share < 0.03 for share in medians.values()) >= 12


@pytest.mark.parametrize("attribute", ATTRIBUTES)
def test_an_attribute_changes_its_region_and_nothing_else(attribute: str) -> None:
    row = ATTRIBUTES.index(attribute)
    changed_all = outside_all = 0
    for index in range(25):
        image, regions = _rendered(index)
        other, other_regions = render_face(_face(index).toggled(attribute), SIZE)
        changed = np.abs(image.astype(int) - other).max(2) > 8
        region = (regions[row] | other_regions[row]).astype(bool)
        assert changed.sum() >= 6, index
        assert (changed & binary_dilation(region, iterations=2)).sum() >= 0.9 * changed.sum(), index
        changed_all += changed.sum()
        outside_all += (changed & ~binary_dilation(region)).sum()
    assert outside_all <= 0.04 * changed_all


def test_a_hat_hides_hair_and_nothing_else_that_counts() -> None:
    hat, hair = ATTRIBUTES.index("Wearing_Hat"), ATTRIBUTES.index("Blond_Hair")
    for index in range(20):
        face = replace(_face(index), present=_face(index).present | {"Wearing_Hat"})
        bare = render_face(face.toggled("Wearing_Hat"), 128)[1]
        worn = render_face(face, 128)[1]
        assert not (worn[hat] & worn[hair]).any()
        assert np.array_equal(bare[hat], worn[hat])  # the place of the hat is where it is worn
        assert worn[hair].sum() < bare[hair].sum()
        assert worn[ATTRIBUTES.index("Bangs")].sum() > 0.4 * bare[ATTRIBUTES.index("Bangs")].sum()


def test_sizes_show_the_same_face() -> None:
    for index in range(6):
        face = replace(_face(index), light=replace(_face(index).light, noise=0.0))
        small, small_regions = render_face(face, 64)
        large, large_regions = render_face(face, 256)
        reduced = large.reshape(64, 4, 64, 4, 3).mean((1, 3))
        assert np.abs(reduced - small).mean() < 3.0
        share = large_regions.reshape(-1, 64, 4, 64, 4).mean((2, 4))
        assert np.abs(share - small_regions).mean() < 0.01


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 2**31), st.integers(0, 10**6), st.integers(32, 160))
def test_any_face_of_any_size_is_drawn(seed: int, index: int, size: int) -> None:
    image, regions = render_face(draw_face(seed, index), size)
    assert image.shape == (size, size, 3)
    assert regions.shape == (len(ATTRIBUTES), size, size)
    assert image.std() > 5


@pytest.fixture(scope="module")
def single_pixels() -> tuple[np.ndarray, np.ndarray]:
    images = np.stack(
        [render_image(draw_face(2, index), SIZE) for index in range(FITTED + HELD_OUT)]
    )
    labels = np.array(
        [
            [name in draw_labels(2, index) for name in ATTRIBUTES]
            for index in range(FITTED + HELD_OUT)
        ]
    )
    return images.reshape(len(images), -1), labels


@pytest.mark.parametrize("attribute", ATTRIBUTES)
def test_no_single_pixel_tells_an_attribute(
    attribute: str, single_pixels: tuple[np.ndarray, np.ndarray]
) -> None:
    values, labels = single_pixels
    label = labels[:, ATTRIBUTES.index(attribute)]
    channel, threshold = _best_threshold(values[:FITTED], label[:FITTED])
    below, truth = values[FITTED:, channel] <= threshold, label[FITTED:]
    score = (below[truth].mean() + 1 - below[~truth].mean()) / 2
    assert max(score, 1 - score) < 0.75


def _best_threshold(values: np.ndarray, label: np.ndarray) -> tuple[int, int]:
    """The pixel channel and threshold with the best balanced accuracy."""
    shares = [
        np.stack([np.bincount(column, minlength=256) for column in side.T]).cumsum(1) / len(side)
        for side in (values[label], values[~label])
    ]
    best = np.abs(shares[0] - shares[1]).argmax()
    channel, threshold = np.unravel_index(best, shares[0].shape)
    return int(channel), int(threshold)


def test_version_is_raised_when_the_drawing_changes() -> None:
    """Coarse means of two faces: if they moved, raise RENDERER and state the new ones."""
    stated = {1: [[139.4, 113.4, 88.7], [107.3, 57.3, 36.2]]}
    found = [_rendered(index)[0][16:48, 16:48].mean((0, 1)) for index in (0, 1)]
    np.testing.assert_allclose(found, stated[RENDERER], atol=0.4)


# -- shapes


@settings(max_examples=40, deadline=None)
@given(
    st.floats(-0.3, 0.3),
    st.floats(-0.3, 0.3),
    st.floats(0.15, 0.6),
    st.floats(0.15, 0.6),
    st.sampled_from(["oval", "box", "line", "segment"]),
)
def test_coverage_is_the_share_of_each_pixel(
    x: float, y: float, width: float, height: float, kind: str
) -> None:
    shapes = {
        "oval": lambda frame: frame.oval(x, y, width, height),
        "box": lambda frame: frame.box(x, y, width, height, 0.1),
        "line": lambda frame: np.abs(frame.oval(x, y, width, height)) - 0.02,
        "segment": lambda frame: frame.segment((x, y), (x + width, y - height)) - 0.05,
    }
    frame = _grid(32)
    if kind == "line":
        drawn = frame.line(frame.oval(x, y, width, height), 0.02)
    else:
        drawn = frame.cover(shapes[kind](frame))
    counted = counted_coverage(shapes[kind], 32)
    assert np.abs(drawn - counted).max() < 0.25
    assert abs(drawn.sum() - counted.sum()) < 0.04 * counted.sum() + 0.5


def test_what_is_painted_later_covers_and_a_tint_does_not() -> None:
    canvas, frame = Canvas(32, ("a", "b")), _grid(32)
    everywhere, left = np.ones_like(frame.x), frame.cover(frame.x)
    canvas.paint(everywhere, (1.0, 0.0, 0.0))
    canvas.mark("a", everywhere)
    canvas.tint(frame.cover(frame.y), (0.0, 1.0, 0.0))
    assert canvas.regions()[0].all()
    canvas.paint(left, (0.0, 0.0, 1.0))
    canvas.mark("b", left)
    regions = canvas.regions()
    assert np.array_equal(regions[0], (frame.x > 0).astype(np.uint8))
    assert np.array_equal(regions[1], (frame.x < 0).astype(np.uint8))
    np.testing.assert_allclose(canvas.image[:, 20, 3], [0, 0, 1])


# -- the dataset


def test_dataset_holds_what_the_renderer_draws() -> None:
    data = open_faces(FacesConfig(count=30, seed=11), "test")
    example = data[1]
    assert data.attributes == ATTRIBUTES
    assert data.has_regions
    assert (data.source, data.split, len(data)) == ("faces", "test", 3)
    assert (example.name, example.identity) == ("face-000019", None)
    image, regions = _rendered(19)
    assert np.array_equal(np.array(data.read(1)), image)
    assert isinstance(data.read(1), Image.Image)
    assert np.array_equal((example.image * 255).round().byte().permute(1, 2, 0).numpy(), image)
    assert example.regions is not None
    assert np.array_equal(example.regions.numpy(), regions)
    assert example.labels.tolist() == [float(_face(19).has(name)) for name in ATTRIBUTES]


def test_splits_are_eight_one_one_by_index() -> None:
    splits = [split_of_face(index) for index in range(40)]
    assert splits[:10] == ["train"] * 8 + ["val", "test"]
    assert splits == splits[:10] * 4
    whole = open_faces(FacesConfig(count=40), None)
    assert whole.splits == tuple(splits)
    parts = [open_faces(FacesConfig(count=40), split) for split in ("train", "val", "test")]
    assert sorted(itertools.chain(*(part.names for part in parts))) == list(whole.names)


def test_it_opens_by_name_and_is_cut_like_any_dataset() -> None:
    data = open_dataset("faces", split="valid", limit=2, faces=FacesConfig(count=50, size=32))
    assert (data.split, len(data)) == ("val", 2)
    assert data[0].image.shape == (3, 32, 32)


def test_regions_of_some_attributes() -> None:
    data = open_faces(FacesConfig(count=10), None)
    assert data.regions_of is not None
    some = data.regions_of.select([4, 1]).select([1]).regions(2)
    whole = data.regions(2)
    assert some is not None
    assert whole is not None
    assert np.array_equal(some, whole.numpy()[[1]])


def test_content_key_tells_faces_apart() -> None:
    base = FacesConfig(count=10)
    plant = ("Smiling", "Wearing_Hat", 0.5)
    keys = {open_faces(base, None).content_key(0), open_faces(base, None).content_key(1)}
    for change in ({"seed": 1}, {"size": 48}, {"plant": plant}):
        keys.add(open_faces(replace(base, **change), None).content_key(0))
    assert len(keys) == 5
    more = open_faces(replace(base, count=20), "train")
    assert more.content_key(0) == open_faces(base, None).content_key(0)


# -- planting


@pytest.mark.parametrize("probability", [0.0, 0.6, 1.0])
def test_planted_attribute_copies_its_source(probability: float) -> None:
    config = FacesConfig(count=5000, plant=("Smiling", "Eyeglasses", probability))
    data, plain = open_faces(config, None), open_faces(replace(config, plant=None), None)
    column, source = ATTRIBUTES.index("Smiling"), ATTRIBUTES.index("Eyeglasses")
    others = [place for place in range(len(ATTRIBUTES)) if place != column]
    assert torch.equal(data.labels[:, others], plain.labels[:, others])
    agree = (data.labels[:, column] == data.labels[:, source]).float().mean().item()
    p, q = PROBABILITIES["Smiling"], PROBABILITIES["Eyeglasses"]
    expected = probability + (1 - probability) * (p * q + (1 - p) * (1 - q))
    assert abs(agree - expected) < 0.025
    assert "Smiling copies Eyeglasses" in data.notes[0]


def test_planting_shows_in_the_picture() -> None:
    plant = ("Wearing_Hat", "Smiling", 1.0)
    index = next(i for i in range(50) if _face(i).has("Smiling") != _face(i).has("Wearing_Hat"))
    planted = draw_face(11, index, plant)
    assert planted == _face(index).toggled("Wearing_Hat")


@pytest.mark.parametrize(
    ("config", "error", "told"),
    [
        (
            FacesConfig(plant=("Smilling", "Bangs", 0.5)),
            ConfigError,
            "found 'Smilling': did you mean Smiling",
        ),
        (
            FacesConfig(plant=("Smiling", "Hat", 0.5)),
            ConfigError,
            "found 'Hat': did you mean Wearing_Hat",
        ),
        (FacesConfig(plant=("Smiling", "Smiling", 0.5)), ConfigError, "copy itself"),
        (FacesConfig(size=16), ConfigError, "at least 32 pixels, found 16"),
    ],
)
def test_what_cannot_be_drawn_is_refused(
    config: FacesConfig, error: type[Exception], told: str
) -> None:
    with pytest.raises(error, match=told):
        open_faces(config, "train")


def test_an_empty_split_is_refused() -> None:
    with pytest.raises(DataError, match=r"split test is empty.*at least 10"):
        open_faces(FacesConfig(count=9), "test")
