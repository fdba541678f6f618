"""CelebAMask-HQ: faces with a mask for each of their parts."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from jaxtyping import Int64, UInt8

from maskatlas.data import AttributeDataset
from maskatlas.errors import DataError, ImageError
from maskatlas.images import open_image
from maskatlas.sources.celeba import (
    IDENTITIES,
    PARTITIONS,
    find_file,
    read_identities,
    read_partition,
)
from maskatlas.sources.label_tables import Problems, read_spaced_labels, read_text
from maskatlas.sources.listing import Listing
from maskatlas.sources.parts import CELEBAMASK_ATTRIBUTES, CELEBAMASK_PARTS, PARTS, PartRegions
from maskatlas.sources.stores import FolderImages, list_images

_TABLE = "CelebAMask-HQ-attribute-anno.txt"
_MAPPING = "CelebA-HQ-to-CelebA-mapping.txt"
_IMAGES = "CelebA-HQ-img"
_MASKS = "CelebAMask-HQ-mask-anno"
_MASKS_IN_A_FOLDER = 2000


def find_celebamask(root: Path) -> Path | None:
    """The table of CelebAMask-HQ in a folder, or None."""
    table = root / _TABLE
    return table if table.is_file() else None


def open_celebamask(path: Path) -> AttributeDataset:
    """All of CelebAMask-HQ; with CelebA's partition and identities, if they lie beside the table.

    Raises:
        DataError: A file is missing, damaged, or disagrees with another.
    """
    root = path.parent
    table = read_spaced_labels(path)
    folder = root / _IMAGES
    if not folder.is_dir():
        raise DataError(f"{root}: has labels of CelebAMask-HQ but no folder {_IMAGES}. Fetch it.")
    found = list_images(folder)
    rows = [row for row, name in enumerate(table.names) if name in found]
    images = FolderImages(folder, [table.names[row] for row in rows])
    regions = None
    notes: list[str] = []
    if (root / _MASKS).is_dir():
        masks = SeparateParts(root / _MASKS, [_number(path, name) for name in images.names])
        parts = [CELEBAMASK_ATTRIBUTES.get(name, ()) for name in table.attributes]
        regions = PartRegions(masks, images, parts, CELEBAMASK_PARTS)
    else:
        notes.append(f"There is no {_MASKS} in {root}: no regions are known.")
    splits, identities = _origins(root, table.names)
    listing = Listing(table, splits, identities, tuple(notes))
    return listing.dataset(
        "celebamask",
        root,
        rows,
        images,
        regions=regions,
        unlabelled=sorted(found - set(table.names)),
    )


class SeparateParts:
    """Masks of which each part is a file of its own; a file that is missing is an absent part."""

    def __init__(self, folder: Path, numbers: Sequence[int]) -> None:
        self.folder = folder
        self.numbers = tuple(numbers)

    def name(self, index: int) -> str:
        """The files of one image."""
        return str(self._path(self.numbers[index], "*"))

    def parts(self, index: int) -> UInt8[np.ndarray, "height width"] | None:
        """The parts of one image, merged in the official order; None if it has none.

        Raises:
            ImageError: A file is damaged, or two differ in size.
        """
        merged: UInt8[np.ndarray, "height width"] | None = None
        for part, name in enumerate(PARTS, 1):
            path = self._path(self.numbers[index], name)
            if not path.exists():
                continue
            inside = np.asarray(open_image(path))[:, :, 0] > 127
            if merged is None:
                merged = np.zeros(inside.shape, np.uint8)
            if merged.shape != inside.shape:
                raise ImageError(
                    f"{path}: is {inside.shape[1]} x {inside.shape[0]} pixels, unlike the other "
                    "parts of this face. Fetch it again."
                )
            merged[inside] = part
        return merged

    def _path(self, number: int, part: str) -> Path:
        return self.folder / str(number // _MASKS_IN_A_FOLDER) / f"{number:05d}_{part}.png"


def _number(path: Path, name: str) -> int:
    stem = Path(name).stem
    if not (stem.isascii() and stem.isdigit()):
        raise DataError(f"{path}: expected images named by numbers, such as 0.jpg; found {name}.")
    return int(stem)


def _origins(
    root: Path, names: Sequence[str]
) -> tuple[tuple[str, ...] | None, Int64[np.ndarray, " image"] | None]:
    """Splits and identities of the photos in CelebA that these come from, where they are known."""
    partition, identity = find_file(root, PARTITIONS), find_file(root, IDENTITIES)
    mapping = root / _MAPPING
    if not mapping.is_file() or (partition is None and identity is None):
        return None, None
    origin = _read_mapping(mapping)
    missing = [name for name in names if name not in origin]
    if missing:
        raise DataError(f"{mapping}: names no origin of {missing[0]} ({len(missing)} such images).")
    originals = [origin[name] for name in names]
    splits = None if partition is None else read_partition(partition, originals)
    return splits, read_identities(identity, originals)


def _read_mapping(path: Path) -> Mapping[str, str]:
    """The file in CelebA of each image: a header, then ``idx orig_idx orig_file``."""
    problems = Problems(path)
    origin: dict[str, str] = {}
    text = read_text(path, "lines of `idx orig_idx orig_file`")
    for line, row in enumerate(text.split("\n"), 1):
        fields = row.split()
        if line == 1 or not fields:
            continue
        if len(fields) != 3 or not fields[0].isdigit():
            problems.add(line, f"expected `idx orig_idx orig_file`, found {row[:60]!r}")
            continue
        origin[f"{fields[0]}.jpg"] = fields[2]
    problems.raise_any()
    return origin
