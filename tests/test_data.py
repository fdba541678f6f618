from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from layouts import picture
from maskatlas.data import AttributeDataset, Example, epoch_order
from maskatlas.errors import ImageError


class Pictures:
    """Images in memory; every third is damaged on demand."""

    def __init__(self, damaged: frozenset[int] = frozenset()) -> None:
        self.damaged = damaged

    def image(self, index: int) -> Image.Image:
        if index in self.damaged:
            raise ImageError(f"picture {index}: damaged")
        return picture(index)

    def content(self, index: int) -> bytes:
        return self.image(index).tobytes()

    def key(self, index: int) -> bytes:
        return f"picture {index}".encode()


class Regions:
    def __init__(self, attributes: tuple[int, ...]) -> None:
        self.attributes = attributes

    def regions(self, index: int) -> np.ndarray | None:
        if index == 2:
            return None
        planes = [np.full((22, 18), (index + attribute) % 2, np.uint8) for attribute in range(3)]
        return np.stack(planes)[list(self.attributes)]

    def select(self, attributes: list[int]) -> "Regions":
        return Regions(tuple(self.attributes[place] for place in attributes))


def dataset(count: int = 5) -> AttributeDataset:
    labels = torch.arange(count * 3).reshape(count, 3).remainder(2).float()
    labels[1, 1] = torch.nan
    return AttributeDataset(
        attributes=("A", "B", "C"),
        labels=labels,
        names=tuple(f"p{place}" for place in range(count)),
        splits=("train",) * count,
        images=Pictures(),
        source="test",
        identities=torch.tensor([7, -1, 7, 8, 8][:count]),
        regions_of=Regions((0, 1, 2)),
    )


def test_example() -> None:
    example = dataset()[0]
    assert example.image.shape == (3, 22, 18)
    assert example.image.dtype == torch.float32
    expected = torch.from_numpy(np.array(picture(0))).permute(2, 0, 1) / 255
    assert torch.equal(example.image, expected)
    assert example.labels.tolist() == [0, 1, 0]
    assert example.name == "p0"
    assert example.identity == 7
    assert example.regions is not None
    assert example.regions[:, 0, 0].tolist() == [0, 1, 0]


def test_what_is_unknown() -> None:
    data = dataset()
    assert data[1].identity is None
    assert data[1].labels.isnan().tolist() == [False, True, False]
    assert data[2].regions is None


def test_indices() -> None:
    data = dataset()
    assert data[-1].name == "p4"
    assert data[np.int64(3)].name == "p3"
    assert [example.name for example in data] == list(data.names)
    for place in (5, -6):
        with pytest.raises(IndexError, match="dataset of 5"):
            data[place]


@settings(deadline=None)
@given(st.lists(st.integers(0, 4), min_size=1, max_size=8), st.data())
def test_subset_of_a_subset(first: list[int], more: st.DataObject) -> None:
    second = more.draw(st.lists(st.integers(0, len(first) - 1), max_size=8))
    data = dataset()
    once = data.subset([first[place] for place in second])
    twice = data.subset(first).subset(second)
    assert once.names == twice.names == tuple(f"p{first[place]}" for place in second)
    for place in range(len(once)):
        for part in (once, twice):
            assert_same(part[place], data[first[second[place]]])
            assert part.content_key(place) == data.content_key(first[second[place]])


def assert_same(one: Example, other: Example) -> None:
    for field, expected in zip(one, other, strict=True):
        if isinstance(field, torch.Tensor):
            assert torch.equal(field.nan_to_num(9), expected.nan_to_num(9))
        else:
            assert field == expected


def test_subset_keeps_rows_together() -> None:
    part = dataset().subset(torch.tensor([3, 0]))
    assert part.names == ("p3", "p0")
    assert part.identities is not None
    assert part.identities.tolist() == [8, 7]
    assert torch.equal(part.labels, dataset().labels[[3, 0]])
    assert torch.equal(part[0].image, dataset()[3].image)


def test_content_keys_differ() -> None:
    data = dataset()
    assert len({data.content_key(place) for place in range(5)}) == 5
    assert all(len(data.content_key(place)) == 16 for place in range(5))


@settings(deadline=None)
@given(st.integers(0, 50), st.integers(0, 2**40), st.integers(0, 100))
def test_epoch_order(count: int, seed: int, epoch: int) -> None:
    order = epoch_order(count, seed, epoch)
    assert sorted(order.tolist()) == list(range(count))
    torch.rand(3)  # the global random state has no part in it
    assert torch.equal(order, epoch_order(count, seed, epoch))


def test_orders_differ() -> None:
    orders = {
        tuple(epoch_order(30, seed, epoch).tolist()) for seed in range(5) for epoch in range(5)
    }
    assert len(orders) == 25


def test_missing_file_is_named(tmp_path: Path) -> None:
    data = dataset()
    data.images.damaged = frozenset({2})
    with pytest.raises(ImageError, match="picture 2"):
        data[2]
