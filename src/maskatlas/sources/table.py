"""One's own table, CSV or Parquet, with a folder of images and perhaps masks of their parts."""

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path, PurePosixPath
from posixpath import normpath

from maskatlas.data import AttributeDataset
from maskatlas.errors import DataError
from maskatlas.sources.columns import TableContent, read_csv, read_parquet
from maskatlas.sources.listing import Listing, enumerate_names
from maskatlas.sources.parts import (
    CELEBAMASK_ATTRIBUTES,
    CELEBAMASK_PARTS,
    MaskFiles,
    PartRegions,
    PartTable,
    read_part_table,
)
from maskatlas.sources.stores import FolderImages, list_images

_SUFFIXES = (".csv", ".tsv", ".parquet")
_IMAGES, _MASKS, _PARTS = "images", "masks", "parts.toml"


def find_table(root: Path) -> Path | None:
    """The table in a folder, or None if there is none; raises DataError if there are several."""
    tables = sorted(
        path
        for path in root.iterdir()
        if path.suffix.lower() in _SUFFIXES and path.is_file() and not path.name.startswith(".")
    )
    if len(tables) > 1:
        raise DataError(
            f"{root}: expected one table, found {len(tables)}: "
            f"{enumerate_names([path.name for path in tables])}. Leave one in the folder."
        )
    return tables[0] if tables else None


def open_table(path: Path, ignore: Sequence[str] = ()) -> AttributeDataset:
    """The images that a table lists.

    Args:
        path: The table; its images are beside it or in ``images/`` beside it.
        ignore: Columns that are no attributes.

    Raises:
        DataError: with every error in the table, or what is wrong with the folder.
    """
    root = path.parent
    read = read_parquet if path.suffix.lower() == ".parquet" else read_csv
    content = read(path, ignore=ignore)
    names = content.table.names
    found = _find_images(root, names)
    rows = [row for row, name in enumerate(names) if name in found]
    if not rows:
        raise DataError(
            f"{path}: none of its {len(names)} images is in {root} or {root / _IMAGES}; the first "
            f"is {names[0]}. Put the images there, under the names that the table has."
        )
    stored = [found[names[row]] for row in rows]
    if len(set(stored)) < len(stored):
        twice, _ = Counter(stored).most_common(1)[0]
        told = [names[row] for row, place in zip(rows, stored, strict=True) if place == twice]
        raise DataError(f"{path}: {' and '.join(told)} are the same file, {root / twice}.")
    images = FolderImages(root, stored)
    regions, notes = _find_regions(root, content, images, ignore)
    listing = Listing(content.table, content.splits, content.identities, tuple(notes))
    unlabelled = _unlabelled(root, stored)
    return listing.dataset("table", root, rows, images, regions=regions, unlabelled=unlabelled)


def _find_images(root: Path, names: Sequence[str]) -> Mapping[str, str]:
    """Where each image that is there lies, below the folder."""
    wanted: dict[str, dict[str, str]] = {}  # by the folder in the name, then by the file
    for name in names:
        parent, _, file = name.rpartition("/")
        wanted.setdefault(parent, {})[file] = name
    found: dict[str, str] = {}
    for parent, files in wanted.items():
        for base in (_IMAGES, "."):  # the folder itself comes last, and stands
            folder = root / base / parent
            if folder.is_dir():
                here = list_images(folder, within=root / base, names=files)
                found |= {files[file]: normpath(f"{base}/{parent}/{file}") for file in here}
    return found


def _unlabelled(root: Path, stored: Sequence[str]) -> list[str]:
    """The images in ``images/`` that no row names; elsewhere a picture may be anything."""
    folder = root / _IMAGES
    if not folder.is_dir():
        return []
    used = {place.removeprefix(f"{_IMAGES}/") for place in stored}
    return sorted(list_images(folder) - used)


def _find_regions(
    root: Path, content: TableContent, images: FolderImages, ignore: Sequence[str]
) -> tuple[PartRegions | None, list[str]]:
    """The regions of the images, if there are masks and it is known what looks at which part."""
    folder = root / _MASKS
    attributes = content.table.attributes
    if not folder.is_dir():
        return None, []
    if (root / _PARTS).is_file():
        parts = read_part_table(root / _PARTS, attributes, ignore)
    else:
        looks_at = {name: CELEBAMASK_ATTRIBUTES.get(name, ()) for name in attributes}
        parts = PartTable(looks_at, CELEBAMASK_PARTS)
        if not any(looks_at.values()):
            note = f"{folder} is not used: no {_PARTS} says which attribute looks at which part."
            return None, [note]
    masks = MaskFiles(folder, [PurePosixPath(name) for name in images.names])
    notes = []
    if not (root / _PARTS).is_file():
        notes.append(f"Parts in {folder} are numbered as in CelebAMask-HQ: there is no {_PARTS}.")
    chosen = [parts.attributes[name] for name in attributes]
    return PartRegions(masks, images, chosen, parts.names), notes
