"""LFWA: Labeled Faces in the Wild with 40 attributes, in MATLAB 7.3 files, which are HDF5."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float32, Int64

from maskatlas.data import AttributeDataset
from maskatlas.errors import DataError
from maskatlas.images import describe_content
from maskatlas.sources.label_tables import LabelTable, Problems
from maskatlas.sources.listing import Listing
from maskatlas.sources.stores import FolderImages, list_images

_TABLE = "lfw_att_40.mat"
_PARTITION = "indices_train_test.mat"
_INDICES = {"train": "indices_img_train", "test": "indices_img_test"}
_IMAGES = "lfw"


def find_lfwa(root: Path) -> Path | None:
    """The table of LFWA in a folder, or None."""
    table = root / _TABLE
    return table if table.is_file() else None


def open_lfwa(path: Path) -> AttributeDataset:
    """All of LFWA: a person is an identity; the split is train or test, as far as one is given.

    Raises:
        DataError: A file is missing, damaged, or disagrees with another.
    """
    root = path.parent
    table = _read_table(path)
    folder = next((at for at in (root / _IMAGES / _IMAGES, root / _IMAGES) if at.is_dir()), None)
    if folder is None:
        raise DataError(f"{root}: has labels of LFWA but no folder {_IMAGES}. Fetch it.")
    found = {
        f"{person.name}/{name}"
        for person in folder.iterdir()
        if person.is_dir()
        for name in list_images(person, within=folder)
    }
    notes = []
    if unlabelled := len(found - set(table.names)):
        # the published table leaves 90 images of the published folder out
        notes.append(f"{unlabelled} images in {folder} have no label; left out.")
    splits = None
    if (root / _PARTITION).is_file():
        splits = _read_partition(root / _PARTITION, len(table.names))
        if outside := splits.count(""):
            notes.append(f"{outside} labelled images are in no split; left out.")
            table = _keep(table, [row for row, split in enumerate(splits) if split])
            splits = tuple(split for split in splits if split)
    people = [name.split("/")[0] for name in table.names]
    numbers = {person: number for number, person in enumerate(sorted(set(people)))}
    identities = np.array([numbers[person] for person in people], np.int64)
    rows = [row for row, name in enumerate(table.names) if name in found]
    images = FolderImages(folder, [table.names[row] for row in rows])
    listing = Listing(table, splits, identities, tuple(notes))
    return listing.dataset("lfwa", root, rows, images)


def _keep(table: LabelTable, rows: Sequence[int]) -> LabelTable:
    names = tuple(table.names[row] for row in rows)
    return LabelTable(table.attributes, names, table.labels[list(rows)])


def _read_table(path: Path) -> LabelTable:
    content = _read_matlab(path, ("AttrName", "label", "name"))
    attributes = [name.strip().replace(" ", "_") for name in content["AttrName"]]
    names = [name.strip().replace("\\", "/") for name in content["name"]]
    labels = np.asarray(content["label"], np.float64)
    problems = Problems(path, unit="row")
    if labels.shape != (len(names), len(attributes)):
        problems.add(
            1,
            f"expected labels of {len(names)} images and {len(attributes)} attributes, found "
            f"{' x '.join(map(str, labels.shape))}",
        )
        problems.raise_any()
    problems.check_header(1, attributes)
    problems.check_names(names, range(1, len(names) + 1))
    for row, column in np.argwhere(~np.isin(labels, (-1, 0, 1))).tolist():
        what = f"expected -1, 0 or 1, found {labels[row, column]:g}"
        problems.add(row + 1, f"{names[row]}, {attributes[column]}: {what}")
    problems.raise_any()
    present: Float32[np.ndarray, "image attribute"] = (labels == 1).astype(np.float32)
    return LabelTable(tuple(attributes), tuple(names), present)


def _read_partition(path: Path, count: int) -> tuple[str, ...]:
    """The split of each image, empty where the file names none."""
    content = _read_matlab(path, tuple(_INDICES.values()))
    splits = [""] * count
    problems = Problems(path, unit="index")
    for split, variable in _INDICES.items():
        indices: Int64[np.ndarray, " image"] = np.asarray(content[variable]).ravel().astype(int)
        for index in indices.tolist():  # from 1, as MATLAB counts
            if not 1 <= index <= count:
                problems.add(index, f"{variable}: expected 1 to {count}")
            elif splits[index - 1] not in ("", split):
                problems.add(index, f"{variable}: the image is in {splits[index - 1]} too")
            else:
                splits[index - 1] = split
    problems.raise_any()
    return tuple(splits)


def _read_matlab(path: Path, variables: Sequence[str]) -> dict[str, Any]:
    """Arrays [rows columns] and lists of texts, from MATLAB 7.3 (HDF5) or an older format."""
    try:
        import h5py
    except ImportError as error:
        raise DataError(f"{path}: needs h5py: pip install 'maskatlas[lfwa]'.") from error
    from scipy.io.matlab import MatReadError

    try:
        if h5py.is_hdf5(path):
            with h5py.File(path, "r") as file:
                return {name: _matlab_value(file, file[name]) for name in variables}
        return _read_older(path, variables)
    except (OSError, KeyError, ValueError, TypeError, MatReadError, NotImplementedError) as error:
        with path.open("rb") as opened:
            found = describe_content(opened.read(512))
        raise DataError(
            f"{path}: expected a MATLAB file with {', '.join(variables)}, found {found} "
            f"({error}). Fetch it again."
        ) from error


def _matlab_value(file: Any, variable: Any) -> Any:
    """A cell of texts as a list, numbers as an array in MATLAB's own order of dimensions."""
    values = variable[()]
    if values.dtype.kind == "O":
        cells = values.ravel(order="F")
        return ["".join(map(chr, np.asarray(file[cell]).ravel().tolist())) for cell in cells]
    return values.T


def _read_older(path: Path, variables: Sequence[str]) -> dict[str, Any]:
    from scipy.io import loadmat

    content = loadmat(path, variable_names=variables)
    read: dict[str, Any] = {}
    for name in variables:
        value = content[name]
        if value.dtype.kind == "O":
            value = [str(cell.item()) if cell.size else "" for cell in value.ravel()]
        read[name] = value
    return read
