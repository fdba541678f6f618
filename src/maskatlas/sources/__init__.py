"""Every layout that is read, behind one door."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

from maskatlas.config import FacesConfig
from maskatlas.data import AttributeDataset
from maskatlas.errors import DataError
from maskatlas.sources.celeba import find_celeba, open_celeba
from maskatlas.sources.celebamask import find_celebamask, open_celebamask
from maskatlas.sources.columns import read_excluded
from maskatlas.sources.lfwa import find_lfwa, open_lfwa
from maskatlas.sources.listing import (
    SPLITS,
    Request,
    enumerate_names,
    nearest,
    restrict,
    split_of,
)
from maskatlas.sources.parquet import find_parquet, open_parquet
from maskatlas.sources.table import find_table, open_table

__all__ = ["SPLITS", "open_dataset", "open_whole"]

_FACES = "faces"
_CHOOSING_COLUMNS = ("table", "parquet")  # layouts that know of columns that are no attributes


def open_dataset(
    path: str | Path,
    *,
    split: str | None = None,
    exclude: str | Path | None = None,
    ignore: Sequence[str] = (),
    limit: int | None = None,
    faces: FacesConfig | None = None,
) -> AttributeDataset:
    """Open a folder of labelled images in any supported layout, or the rendered faces.

    Args:
        path: The folder, or ``faces``.
        split: ``train``, ``val`` or ``test`` (other usual spellings too); None is everything.
        exclude: File that lists images to leave out: one a line, or a table that names them.
        ignore: Attributes, or columns of a table, to leave out.
        limit: Most images of each split, spread evenly over it.
        faces: Which faces are rendered; only for ``faces``.

    Raises:
        DataError: with what is wrong, in which file and line, and what to do.
    """
    wanted = None if split is None else split_of(split)
    if split is not None and wanted is None:
        raise DataError(
            f"split: expected {', '.join(SPLITS[:-1])} or {SPLITS[-1]}, found {split!r}."
            + nearest(split, [*SPLITS, "valid", "validation"])
        )
    excluded = None if exclude is None else read_excluded(Path(exclude))
    data = open_whole(path, ignore=ignore, faces=faces)
    left = () if data.source in _CHOOSING_COLUMNS else tuple(ignore)
    return restrict(data, Request(wanted, excluded, left, limit))


def open_whole(
    path: str | Path, *, ignore: Sequence[str] = (), faces: FacesConfig | None = None
) -> AttributeDataset:
    """All images of a folder, also where some lack labels or a split has none.

    Args:
        path: The folder, or ``faces``.
        ignore: Columns that are no attributes. Attributes of other layouts than tables stay.
        faces: Which faces are rendered; only for ``faces``.

    Raises:
        DataError: The layout is unknown, or its tables are wrong.
    """
    if str(path) == _FACES:
        from maskatlas.sources.faces import open_faces

        return open_faces(faces if faces is not None else FacesConfig(), None)
    root = Path(path)
    if not root.is_dir():
        found = "a file" if root.exists() else "nothing"
        raise DataError(
            f"{root}: expected a folder of labelled images, or {_FACES!r}; found {found}. "
            + ("Name the folder that holds it." if root.exists() else "Check the path.")
        )
    try:
        return _open_folder(root, ignore)
    except OSError as error:
        raise DataError(f"{error.filename or root}: cannot be read: {error.strerror}.") from error


def _open_folder(root: Path, ignore: Sequence[str]) -> AttributeDataset:
    """Open what lies in a folder, or in the one folder in it that holds a dataset."""
    if (opener := _find_layout(root)) is not None:
        return opener(ignore)
    inner = {
        folder: opener
        for folder in sorted(root.iterdir())
        if folder.is_dir() and not folder.name.startswith(".")
        if (opener := _find_layout(folder)) is not None
    }
    if len(inner) == 1:
        ((folder, opener),) = inner.items()
        data = opener(ignore)
        return replace(data, notes=(f"The dataset is in {folder}.", *data.notes))
    raise DataError(_describe_unknown(root, list(inner)))


def _find_layout(root: Path) -> Callable[[Sequence[str]], AttributeDataset] | None:
    """What opens this folder, given the columns to ignore; None if its layout is unknown."""
    if (celebamask := find_celebamask(root)) is not None:
        return lambda _: open_celebamask(celebamask)
    if (celeba := find_celeba(root)) is not None:
        return lambda _: open_celeba(celeba)
    if (lfwa := find_lfwa(root)) is not None:
        return lambda _: open_lfwa(lfwa)
    if shards := find_parquet(root):
        return partial(open_parquet, shards)
    if (table := find_table(root)) is not None:
        return partial(open_table, table)
    return None


def _describe_unknown(root: Path, inner: Sequence[Path]) -> str:
    if inner:
        names = enumerate_names([folder.name for folder in inner])
        return f"{root}: holds several datasets: {names}. Name the one to open."
    found = enumerate_names(sorted(path.name for path in root.iterdir())) or "nothing"
    return (
        f"{root}: expected CelebA (list_attr_celeba.txt or .csv), CelebAMask-HQ "
        "(CelebAMask-HQ-attribute-anno.txt), LFWA (lfw_att_40.mat), Parquet files, or a table "
        f"(.csv, .parquet) with images; found {found}. If it is an archive, unpack it."
    )
