from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from maskatlas.augmentation import augment
from reference.augmentation import shifted

Version = tuple[int, int, bool]


def noise(batch: int, side: int, seed: int = 0) -> Tensor:
    """Images no two versions of which are the same, laid out as the cache lays them out."""
    generator = torch.Generator().manual_seed(seed)
    images = torch.randint(0, 256, (batch, side, side, 3), generator=generator, dtype=torch.uint8)
    return images.permute(0, 3, 1, 2)


def augmented(images: Tensor, **changes: Any) -> Tensor:
    batch = len(images)
    settings_ = {
        "seed": 0,
        "step": 0,
        "batch": batch,
        "part": slice(0, batch),
        "flip": True,
        "shift": 2,
    }
    return augment(images, **(settings_ | changes))


def version_of(image: Tensor, found: Tensor, shift: int) -> Version:
    """Which of all versions of an image this is."""
    reach = range(-shift, shift + 1)
    versions = [
        (rows, columns, mirrored)
        for rows in reach
        for columns in reach
        for mirrored in (False, True)
        if torch.equal(shifted(image, rows, columns, mirrored=mirrored), found)
    ]
    assert len(versions) == 1, versions
    return versions[0]


def versions(images: Tensor, shift: int = 2, **changes: Any) -> list[Version]:
    found = augmented(images, shift=shift, **changes)
    return [version_of(*pair, shift) for pair in zip(images, found, strict=True)]


def test_every_image_becomes_one_of_its_mirrored_and_shifted_versions_each_as_likely() -> None:
    found = versions(noise(200, 4), shift=1)
    rows, columns, mirrored = zip(*found, strict=True)
    for offsets in (rows, columns):
        counts = [offsets.count(offset) for offset in (-1, 0, 1)]
        assert min(counts) > 42, counts  # 67 are expected; 42 is 3.7 deviations away
    assert 74 < sum(mirrored) < 126
    assert len(set(found)) == 18


def test_without_flips_and_shifts_nothing_changes() -> None:
    images = noise(5, 6)
    assert torch.equal(augmented(images, flip=False, shift=0), images)


def test_without_flips_nothing_is_mirrored_and_without_shifts_nothing_moves() -> None:
    images = noise(10, 5)
    assert not any(mirrored for _, _, mirrored in versions(images, flip=False))
    assert {(rows, columns) for rows, columns, _ in versions(images, shift=0)} == {(0, 0)}


def test_a_shift_wider_than_the_image_leaves_the_border() -> None:
    images = noise(50, 3)
    found = augmented(images, flip=False, shift=20)
    for image, result in zip(images, found, strict=True):
        assert {tuple(pixel) for pixel in result.flatten(1).T.tolist()} <= {
            tuple(pixel) for pixel in image.flatten(1).T.tolist()
        }


@pytest.mark.parametrize("seeds", [(0, 1), (0, 2**32), (5, 2**40 + 5), (0, 2**63 - 1)])
def test_other_seeds_and_other_steps_draw_anew(seeds: tuple[int, int]) -> None:
    images = noise(40, 4)
    one, other = (versions(images, 1, seed=seed) for seed in seeds)
    assert sum(a == b for a, b in zip(one, other, strict=True)) < 12
    later = versions(images, 1, seed=seeds[0], step=1)
    assert sum(a == b for a, b in zip(one, later, strict=True)) < 12
    assert versions(images, 1, seed=seeds[0]) == one


@settings(deadline=None, max_examples=20)
@given(
    batch=st.integers(1, 12),
    cut=st.integers(0, 12),
    side=st.integers(1, 9),
    shift=st.integers(0, 4),
    seed=st.integers(0, 2**63 - 1),
    step=st.integers(0, 10**6),
    flip=st.booleans(),
)
def test_parts_of_a_batch_together_are_the_batch(
    batch: int, cut: int, side: int, shift: int, seed: int, step: int, flip: bool
) -> None:
    images, cut = noise(batch, side, seed % 1000), min(cut, batch)
    same: dict[str, Any] = {"seed": seed, "step": step, "flip": flip, "shift": shift}
    whole = augmented(images, **same)
    parts = [
        augmented(images[part], batch=batch, part=part, **same)
        for part in (slice(0, cut), slice(cut, batch))
    ]
    assert torch.equal(torch.cat(parts), whole)
    assert whole.shape == images.shape
    assert whole.dtype == torch.uint8


def test_the_images_themselves_stay_as_they_are() -> None:
    images = noise(8, 6)
    before = images.clone()
    augmented(images)
    assert torch.equal(images, before)
