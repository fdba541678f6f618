"""CelebA as published, as torchvision lays it out, and as Kaggle packs it."""

import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from jaxtyping import Int64

from maskatlas.data import AttributeDataset, ImageStore
from maskatlas.errors import DataError
from maskatlas.sources.label_tables import LabelTable, read_pairs, read_spaced_labels
from maskatlas.sources.listing import (
    SPLITS,
    Listing,
    Request,
    as_dataset,
    enumerate_names,
    without_split,
)
from maskatlas.sources.stores import FolderImages, ZipImages, list_archive, list_folder

_IMAGES = "img_align_celeba"
_FOLDERS = (".", "Anno", "Eval", "Img")


@dataclass(frozen=True, slots=True)
class CelebaFiles:
    """Where the files of CelebA are."""

    root: Path
    attributes: Path
    partition: Path | None
    identity: Path | None


def find_celeba(root: Path) -> CelebaFiles | None:
    """The label tables of CelebA in a folder, or None if it holds no table of attributes."""
    attributes = _find(root, "list_attr_celeba.txt", "list_attr_celeba.csv")
    if attributes is None:
        return None
    return CelebaFiles(
        root=root,
        attributes=attributes,
        partition=_find(root, "list_eval_partition.txt", "list_eval_partition.csv"),
        identity=_find(root, "identity_CelebA.txt", "identity_CelebA.csv"),
    )


def _find(root: Path, *names: str) -> Path | None:
    places = (root / folder / name for name in names for folder in _FOLDERS)
    return next((place for place in places if place.is_file()), None)


def open_celeba(files: CelebaFiles, request: Request) -> AttributeDataset:
    """Open CelebA, its images in a folder or in the archive as downloaded.

    Raises:
        DataError: A file is missing, damaged, or disagrees with another.
    """
    table = read_labels(files.attributes)
    where, found, notes = _find_images(files.root)
    rows = {name: row for row, name in enumerate(table.names)}
    unlabelled = tuple(name for name in found if name not in rows)
    stored = np.array([row for name, row in rows.items() if name in found], np.int64)
    listing = Listing(
        source="celeba",
        path=files.root,
        where=where,
        attributes=table.attributes,
        names=table.names,
        labels=table.labels,
        splits=(),
        identities=read_identities(files.identity, table.names),
        stored=stored,
        images=_store(where, found, [table.names[row] for row in stored]),
        unlabelled=unlabelled,
        notes=notes,
    )
    if files.partition is None:
        why = f"There is no list_eval_partition.txt in {files.root}"
        return as_dataset(without_split(listing, why), request)
    splits = read_partition(files.partition, table.names)
    return as_dataset(replace(listing, splits=splits), request)


def read_labels(path: Path) -> LabelTable:
    """The attributes, from the published text or from Kaggle's CSV; raises DataError."""
    return read_spaced_labels(path)


def read_partition(path: Path, names: Sequence[str]) -> tuple[str, ...]:
    """The split of each image; raises DataError if one has none."""
    numbers = read_pairs(path, "partition")
    unknown = {number for number in numbers.values() if not 0 <= number < len(SPLITS)}
    if unknown:
        name = next(name for name, number in numbers.items() if number in unknown)
        raise DataError(
            f"{path}: {name}: expected partition 0 (train), 1 (val) or 2 (test), found "
            f"{numbers[name]}. Mend it, or fetch the file again."
        )
    without = [name for name in names if name not in numbers]
    if without:
        raise DataError(
            f"{path}: {len(without)} images have labels but no partition: "
            f"{enumerate_names(without)}. Fetch the file again."
        )
    return tuple(SPLITS[numbers[name]] for name in names)


def read_identities(path: Path | None, names: Sequence[str]) -> Int64[np.ndarray, " row"] | None:
    """The person on each image, -1 where the file does not say; raises DataError."""
    if path is None:
        return None
    people = read_pairs(path, "identity")
    return np.array([people.get(name, -1) for name in names], np.int64)


def _find_images(
    root: Path,
) -> tuple[Path, Mapping[str, Path] | Mapping[str, zipfile.ZipInfo], tuple[str, ...]]:
    """The folder or archive of images, what it holds by name, and what to note about it."""
    archive = _find(root, f"{_IMAGES}.zip")
    for base in (root / place / _IMAGES for place in _FOLDERS):
        for folder in (base, base / _IMAGES):
            found = list_folder(folder) if folder.is_dir() else {}
            if found:
                note = f"The images in {folder} are read; {archive} is not."
                return folder, found, (note,) if archive else ()
    if archive is not None:
        return archive, list_archive(archive), ()
    raise DataError(
        f"{root}: has labels of CelebA but no images: expected the folder {_IMAGES} or the "
        f"archive {_IMAGES}.zip there or in Img. Fetch it; it need not be unpacked."
    )


def _store(
    where: Path,
    found: Mapping[str, Path] | Mapping[str, zipfile.ZipInfo],
    names: Sequence[str],
) -> ImageStore:
    if where.is_dir():
        return FolderImages(where, names)
    members = [found[name] for name in names]
    return ZipImages(where, [member for member in members if isinstance(member, zipfile.ZipInfo)])
