"""Every layout that is read, behind one door."""

from collections.abc import Sequence
from pathlib import Path

from maskatlas.config import FacesConfig
from maskatlas.data import AttributeDataset
from maskatlas.errors import DataError
from maskatlas.sources.celeba import find_celeba, open_celeba
from maskatlas.sources.listing import SPLITS, Request, nearest, split_of

__all__ = ["open_dataset"]


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
            f"split: expected one of {', '.join(SPLITS)}, found {split!r}."
            + nearest(split, [*SPLITS, "valid", "validation"])
        )
    if str(path) == "faces":
        from maskatlas.sources.faces import open_faces

        return open_faces(faces if faces is not None else FacesConfig(), wanted)
    request = Request(
        split=wanted,
        exclude=None if exclude is None else Path(exclude),
        ignore=tuple(ignore),
        limit=limit,
    )
    root = Path(path)
    files = find_celeba(root)
    if files is None:
        raise DataError(f"{root}: holds no known layout")
    return open_celeba(files, request)
