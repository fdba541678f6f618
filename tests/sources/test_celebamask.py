from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from layouts import ATTRIBUTES, encoded, picture, write_images
from maskatlas.errors import DataError
from maskatlas.sources import open_dataset
from maskatlas.sources.celebamask import SeparateParts
from maskatlas.sources.parts import PARTS

SIDE = 16  # of the images; masks are half as large, as in the original


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Three faces; the second has no masks at all."""
    root = tmp_path / "CelebAMask-HQ"
    names = ["0.jpg", "1.jpg", "2000.jpg"]
    write_images(
        root / "CelebA-HQ-img",
        {name: encoded(picture(place, SIDE, SIDE)) for place, name in enumerate(names)},
    )
    rows = "".join(f"{name}  1 -1 1 -1\n" for name in names)
    text = f"3\n{' '.join(ATTRIBUTES)}\n{rows}"
    (root / "CelebAMask-HQ-attribute-anno.txt").write_text(text)
    for number, mode in ((0, "L"), (2000, "RGB")):
        for part in ("skin", "mouth", "u_lip", "hair", "eye_g"):
            write_part(root, number, part, mode)
    return root


def part_pixels(number: int, part: str) -> np.ndarray:
    seed = number + PARTS.index(part)
    return np.random.default_rng(seed).random((SIDE // 2, SIDE // 2)) > 0.5


def write_part(root: Path, number: int, part: str, mode: str) -> None:
    path = root / "CelebAMask-HQ-mask-anno" / str(number // 2000) / f"{number:05d}_{part}.png"
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(part_pixels(number, part).astype(np.uint8) * 255).convert(mode).save(path)


def merged(number: int) -> np.ndarray:
    """Later parts over earlier ones, pixel by pixel."""
    result = np.zeros((SIDE // 2, SIDE // 2), np.uint8)
    for y, x in np.ndindex(*result.shape):
        for part in ("skin", "nose", "eye_g", "mouth", "u_lip", "hair"):
            if part != "nose" and part_pixels(number, part)[y, x]:
                result[y, x] = PARTS.index(part) + 1
    return result


def test_labels_and_images(folder: Path) -> None:
    for path in (folder, folder.parent):
        data = open_dataset(path)
        assert data.source == "celebamask"
        assert data.attributes == ATTRIBUTES
        assert data.names == ("0.jpg", "1.jpg", "2000.jpg")
        assert data.labels.tolist() == [[1, 0, 1, 0]] * 3
        assert data[2].image.shape == (3, SIDE, SIDE)
    assert data.splits == ("train",) * 3
    assert data.identities is None


def test_merging(folder: Path) -> None:
    masks = SeparateParts(folder / "CelebAMask-HQ-mask-anno", [0, 1, 2000])
    for place, number in ((0, 0), (2, 2000)):
        parts = masks.parts(place)
        assert parts is not None
        assert np.array_equal(parts, merged(number))
    assert masks.parts(1) is None


def test_regions_in_the_frame_of_the_image(folder: Path) -> None:
    data = open_dataset(folder)
    regions = data[0].regions
    assert regions is not None
    inside = np.isin(merged(0), (10, 11, 12)).astype(np.uint8)
    expected = torch.from_numpy(inside.repeat(2, axis=0).repeat(2, axis=1))
    assert torch.equal(regions[data.attributes.index("Smiling")], expected)
    assert (regions[data.attributes.index("Male")] == 255).all()
    assert data[1].regions is None


def test_no_masks(folder: Path) -> None:
    (folder / "CelebAMask-HQ-mask-anno").rename(folder / "away")
    data = open_dataset(folder)
    assert not data.has_regions
    assert any("no regions are known" in note for note in data.notes)


def test_parts_of_different_size(folder: Path) -> None:
    path = folder / "CelebAMask-HQ-mask-anno" / "0" / "00000_hair.png"
    Image.new("L", (3, 3)).save(path)
    with pytest.raises(DataError, match=r"00000_hair\.png: is 3 x 3 pixels, unlike the other"):
        open_dataset(folder)[0]


def test_splits_and_identities_of_the_originals(folder: Path) -> None:
    mapping = "idx orig_idx orig_file\n0 5 000006.jpg\n1 8 000009.jpg\n2000 1 000002.jpg\n"
    (folder / "CelebA-HQ-to-CelebA-mapping.txt").write_text(mapping)
    assert open_dataset(folder).splits == ("train",) * 3  # the partition is not there
    (folder / "list_eval_partition.txt").write_text("000002.jpg 2\n000006.jpg 0\n000009.jpg 1\n")
    (folder / "identity_CelebA.txt").write_text("000002.jpg 7\n000009.jpg 8\n")
    data = open_dataset(folder)
    assert data.splits == ("train", "val", "test")
    assert data.identities is not None
    assert data.identities.tolist() == [-1, 8, 7]


def test_errors_in_the_mapping(folder: Path) -> None:
    (folder / "list_eval_partition.txt").write_text("000006.jpg 0\n")
    path = folder / "CelebA-HQ-to-CelebA-mapping.txt"
    path.write_text("idx orig_idx orig_file\n0 5\n")
    with pytest.raises(DataError, match=r"line 2: expected `idx orig_idx orig_file`, found '0 5'"):
        open_dataset(folder)
    path.write_text("idx orig_idx orig_file\n0 5 000006.jpg\n")
    with pytest.raises(DataError, match=r"names no origin of 1\.jpg \(2 such images\)"):
        open_dataset(folder)


def test_no_images(folder: Path) -> None:
    (folder / "CelebA-HQ-img").rename(folder / "away")
    with pytest.raises(DataError, match="no folder CelebA-HQ-img"):
        open_dataset(folder)


def test_images_with_other_names(folder: Path) -> None:
    table = folder / "CelebAMask-HQ-attribute-anno.txt"
    table.write_text(table.read_text().replace("2000.jpg", "face.jpg"))
    (folder / "CelebA-HQ-img" / "2000.jpg").rename(folder / "CelebA-HQ-img" / "face.jpg")
    with pytest.raises(DataError, match=r"expected images named by numbers.*found face\.jpg"):
        open_dataset(folder)
