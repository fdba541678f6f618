"""CelebA as published, as torchvision lays it out, and as Kaggle packs it."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Int64

from maskatlas.data import AttributeDataset, ImageStore
from maskatlas.errors import DataError
from maskatlas.sources.columns import read_csv
from maskatlas.sources.label_tables import LabelTable, read_pairs, read_spaced_labels
from maskatlas.sources.listing import SPLITS, Listing, enumerate_names
from maskatlas.sources.stores import FolderImages, ZipImages, list_archive, list_images

_IMAGES = "img_align_celeba"
_FOLDERS = (".", "Anno", "Eval", "Img")
_TABLES = ("list_attr_celeba.txt", "list_attr_celeba.csv")
PARTITIONS = ("list_eval_partition.txt", "list_eval_partition.csv")
IDENTITIES = ("identity_CelebA.txt",)


@dataclass(frozen=True, slots=True)
class CelebaFiles:
    """Where the tables of CelebA are."""

    root: Path
    attributes: Path
    partition: Path | None
    identity: Path | None


def find_celeba(root: Path) -> CelebaFiles | None:
    """The tables of CelebA in a folder, or None if there is no trace of it.

    Raises:
        DataError: Parts of CelebA are there, but not the attributes.
    """
    attributes = find_file(root, _TABLES)
    if attributes is not None:
        return CelebaFiles(
            root, attributes, find_file(root, PARTITIONS), find_file(root, IDENTITIES)
        )
    trace = find_file(root, (*PARTITIONS, *IDENTITIES, f"{_IMAGES}.zip")) or _find_folder(root)
    if trace is not None:
        raise DataError(
            f"{root}: holds {trace.relative_to(root)} of CelebA, but not its attributes: expected "
            f"{' or '.join(_TABLES)} there or in Anno. Fetch it from where the images are from."
        )
    return None


def find_file(root: Path, names: Sequence[str]) -> Path | None:
    """The first of these files in a folder, or in one of those that CelebA is published in."""
    places = (root / folder / name for name in names for folder in _FOLDERS)
    return next((place for place in places if place.is_file()), None)


def _find_folder(root: Path) -> Path | None:
    """The folder of images, nested in itself or not, if it holds one."""
    for base in (root / place / _IMAGES for place in _FOLDERS):
        for folder in (base, base / _IMAGES):
            if folder.is_dir() and list_images(folder):
                return folder
    return None


def open_celeba(files: CelebaFiles) -> AttributeDataset:
    """All of CelebA, its images in a folder or in the archive as downloaded.

    Raises:
        DataError: A file is missing, damaged, or disagrees with another.
    """
    table = read_labels(files.attributes)
    splits = None if files.partition is None else read_partition(files.partition, table.names)
    identities = read_identities(files.identity, table.names)
    rows, images, unlabelled, notes = _find_images(files.root, table.names)
    listing = Listing(table, splits, identities, notes)
    return listing.dataset("celeba", files.root, rows, images, unlabelled=unlabelled)


def read_labels(path: Path) -> LabelTable:
    """The attributes, from the published text or from Kaggle's CSV; raises DataError."""
    if path.suffix == ".txt":
        return read_spaced_labels(path)
    return read_csv(path, unknown=False).table


def read_partition(path: Path, names: Sequence[str]) -> tuple[str, ...]:
    """The split of each image; raises DataError if one has none."""
    numbers = read_pairs(path, "partition 0 (train), 1 (val) or 2 (test)", (0, 1, 2))
    without = [name for name in names if name not in numbers]
    if without:
        raise DataError(
            f"{path}: {len(without)} images have labels but no partition: "
            f"{enumerate_names(without)}. Fetch it again, or remove it: all is then one split."
        )
    return tuple(SPLITS[numbers[name]] for name in names)


def read_identities(path: Path | None, names: Sequence[str]) -> Int64[np.ndarray, " image"] | None:
    """The person on each image, -1 where the file does not say; raises DataError."""
    if path is None:
        return None
    people = read_pairs(path, "an identity number")
    return np.array([people.get(name, -1) for name in names], np.int64)


def _find_images(
    root: Path, names: Sequence[str]
) -> tuple[list[int], ImageStore, list[str], tuple[str, ...]]:
    """The rows whose images are there, the images, those without a row, and what to note."""
    folder, archive = _find_folder(root), find_file(root, (f"{_IMAGES}.zip",))
    notes: tuple[str, ...] = ()
    if folder is not None:
        found = list_images(folder)
        rows = [row for row, name in enumerate(names) if name in found]
        images: ImageStore = FolderImages(folder, [names[row] for row in rows])
        if archive is not None:
            notes = (f"Images are read from {folder}, not from {archive.name} beside it.",)
        return rows, images, sorted(found - set(names)), notes
    if archive is not None:
        members = list_archive(archive)
        rows = [row for row, name in enumerate(names) if name in members]
        images = ZipImages(archive, [members[names[row]] for row in rows])
        return rows, images, sorted(set(members) - set(names)), notes
    raise DataError(
        f"{root}: has labels of CelebA but no images: expected the folder {_IMAGES} or the "
        f"archive {_IMAGES}.zip there or in Img. Fetch it; it need not be unpacked."
    )
