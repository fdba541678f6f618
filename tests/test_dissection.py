import json

import numpy as np
import pytest

from maskatlas.data import AttributeDataset
from maskatlas.dissection import dissect
from maskatlas.errors import ConfigError, DataError
from maskatlas.explanations.words import ChannelWords
from networks import make_dataset, make_network
from reference import dissection as slow
from reference.localization import centre_square

NETWORK = make_network(3, channels=4, image_size=16)
SIZE = 16


class Parts:
    """Regions and named parts in memory."""

    def __init__(self, regions: list, parts: list) -> None:
        self.known, self.named = regions, parts

    def regions(self, index: int) -> np.ndarray | None:
        return self.known[index]

    def parts(self, index: int) -> dict[str, np.ndarray] | None:
        return self.named[index]


def blob(random: np.random.Generator, size: tuple[int, int]) -> np.ndarray:
    found = np.zeros(size, np.uint8)
    top, left = random.integers(0, size[0] - 6), random.integers(0, size[1] - 6)
    found[top : top + 9, left : left + 9] = 1
    return found


def some_data(seed: int, images: int = 6, size: tuple[int, int] = (20, 16)) -> AttributeDataset:
    """Regions of three attributes; the last is known nowhere, and one image has none at all."""
    random = np.random.default_rng(seed)
    regions: list = []
    parts: list = []
    for index in range(images):
        known = np.stack([blob(random, size) for _ in range(3)])
        known[0, :, :3] = 255
        known[2] = 255
        regions.append(None if index == 1 else known)
        parts.append(None if index == 1 else {"nose": blob(random, size), "hat": known[1]})
    data = make_dataset(images, 3, size=size, seed=seed)
    object.__setattr__(data, "regions_of", Parts(regions, parts))
    return data


@pytest.mark.parametrize("seed", [0, 1])
def test_words_are_those_of_the_slow_twin(seed: int) -> None:
    data = some_data(seed)
    found = dissect(NETWORK, data, quantile=0.8)
    features = slow.features_of(NETWORK, data)
    assert found.images == len(features) == 5
    assert found.concepts == ("nose", "hat", *data.attributes[:2])
    assert found.kinds == ("part", "part", "attribute", "attribute")
    for channel in range(4):
        values = [float(v) for f in features.values() for v in f[channel].flat]
        threshold = slow.quantile(values, 0.8)
        assert found.thresholds[channel] == pytest.approx(threshold, rel=1e-6)
        for place, concept in enumerate(found.concepts):
            shown = {}
            for index in features:
                if found.kinds[place] == "part":
                    part = data.parts(index)[concept].numpy()
                    shown[index] = centre_square(part, SIZE)
                else:
                    attribute = data.attributes.index(concept)
                    shown[index] = slow.shown_attribute(NETWORK, data, index, attribute)
            expected = slow.iou(features, channel, found.thresholds[channel], shown, SIZE)
            assert found.iou[channel, place] == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize("seed", [2, 3])
def test_places_are_shared_whatever_the_labels(seed: int) -> None:
    data = some_data(seed)
    found = dissect(NETWORK, data)
    regions = {
        place: [
            (
                centre_square(data.parts(index)[concept].numpy(), SIZE)
                if kind == "part"
                else centre_square(
                    data.regions(index)[data.attributes.index(concept)].numpy(), SIZE
                )
            )
            == 1
            for index in (0, 2, 3, 4, 5)
        ]
        for place, (concept, kind) in enumerate(zip(found.concepts, found.kinds, strict=True))
    }
    for i, first in regions.items():
        for j, second in regions.items():
            both = sum(int((a & b).sum()) for a, b in zip(first, second, strict=True))
            smaller = min(sum(int(a.sum()) for a in group) for group in (first, second))
            assert found.shared[i, j] == pytest.approx(both / smaller)
    hat = found.concepts.index("hat")
    assert found.looks_where(hat, data.attributes[1]) is True
    assert found.looks_where(hat, data.attributes[2]) is None


def test_a_channel_that_lights_up_on_a_part_is_called_after_it() -> None:
    """Each image's region is where the second channel is highest."""
    data = make_dataset(np.ones((8, 3)), 3, size=(SIZE, SIZE), seed=3)
    regions: list = [np.zeros((3, SIZE, SIZE), np.uint8) for _ in range(8)]
    object.__setattr__(data, "regions_of", Parts(regions, [None] * 8))
    features = slow.features_of(NETWORK, data)
    values = [float(v) for f in features.values() for v in f[1].flat]
    threshold = slow.quantile(values, 0.9)
    for index, region in enumerate(regions):
        region[2] = slow.upsampled(features[index][1], SIZE) > threshold
        region[0, :4, :4] = 1
    found = dissect(NETWORK, data, quantile=0.9)
    assert found.word(1) == data.attributes[2]
    assert found.iou[1, found.concepts.index(data.attributes[2])] > 0.99
    strict = dissect(NETWORK, data, quantile=0.9, least_iou=1.0)
    assert [strict.word(channel) for channel in range(4)] == [None] * 4


def test_a_sample_is_spread_evenly() -> None:
    data = some_data(1)
    assert dissect(NETWORK, data, limit=3).images == 3


def test_words_are_kept_as_json() -> None:
    found = dissect(NETWORK, some_data(4))
    again = ChannelWords.from_json(json.loads(json.dumps(found.to_json(), allow_nan=False)))
    assert (again.concepts, again.kinds) == (found.concepts, found.kinds)
    np.testing.assert_array_equal(again.iou, found.iou)
    np.testing.assert_array_equal(again.thresholds, found.thresholds)
    broken = found.to_json() | {"concepts": ["nose"]}
    with pytest.raises(ValueError, match="do not fit"):
        ChannelWords.from_json(broken)


def test_without_regions_nothing_has_a_name() -> None:
    with pytest.raises(DataError, match="no image has one"):
        dissect(NETWORK, make_dataset(3))
    with pytest.raises(ConfigError, match="between 0 and 1"):
        dissect(NETWORK, some_data(0), quantile=1.0)
