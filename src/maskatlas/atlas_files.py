"""How an atlas lies on disk: ``atlas.safetensors``, ``atlas.json``, and CSV tables beside them.

Each file is written to a temporary one and moved into place, the description last, so that a folder
holds a whole atlas or none. Nothing is unpickled, and shapes are compared before anything is read.
"""

import csv
import hashlib
import io
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save

from maskatlas.errors import RunError
from maskatlas.files import write_atomically
from maskatlas.resampling import Draws

FORMAT = "maskatlas atlas 1"
TENSORS = "atlas.safetensors"
DESCRIPTION = "atlas.json"

_SHAPES: Mapping[str, tuple[str | int, ...]] = {
    "mask_mean": ("K", "C"),
    "mask_deviation": ("K", "C"),
    "contribution_mean": ("K", "C"),
    "contribution_magnitude": ("K", "C"),
    "contribution_deviation": ("K", "C"),
    "channel_correlation": ("C", "C"),
    "channel_correlation_centred": ("C", "C"),
    "attribute_correlation": ("K", "K"),
    "attribute_correlation_centred": ("K", "K"),
    "label_correlation": ("K", "K"),
}
_OPTIONAL: Mapping[str, tuple[str | int, ...]] = {"importance_drop": ("K", "C")}
_CONFIDENCE: Mapping[str, tuple[str | int, ...]] = {
    f"confidence.{name}": shape
    for name, shape in {
        "mask_mean_interval": (2, "K", "C"),
        "mask_rank_interval": (2, "K", "C"),
        "contribution_magnitude_interval": (2, "K", "C"),
        "contribution_rank_interval": (2, "K", "C"),
        "channel_correlation_interval": (2, "C", "C"),
        "channel_correlation_p": ("C", "C"),
        "channel_correlation_centred_interval": (2, "C", "C"),
        "channel_correlation_centred_p": ("C", "C"),
        "attribute_correlation_interval": (2, "K", "K"),
        "attribute_correlation_p": ("K", "K"),
        "attribute_correlation_apart": ("K", "K"),
        "attribute_correlation_halves": ("H", "K", "K"),
        "attribute_correlation_centred_interval": (2, "K", "K"),
        "attribute_correlation_centred_p": ("K", "K"),
        "attribute_correlation_centred_apart": ("K", "K"),
        "attribute_correlation_centred_halves": ("H", "K", "K"),
        "apart_images": ("K", "K"),
        "label_correlation_interval": (2, "K", "K"),
        "label_correlation_p": ("K", "K"),
        "following": ("K", "K"),
        "following_interval": (2, "K", "K"),
        "following_p": ("K", "K"),
    }.items()
}
_EXAMPLES: Mapping[str, tuple[str | int, ...]] = {
    "examples.images": ("E", "S", "S", 3),
    "examples.scores": ("E", "K"),
    "examples.labels": ("E", "K"),
    "examples.channels": ("K", "n"),
    "examples.masks": ("E", "K", "n", "h", "w"),
    "examples.contributions": ("E", "K", "h", "w"),
}
_FLOATS = ("F64", "F32", "F16")
_DTYPES = {"examples.images": ("U8",), "examples.channels": ("I64", "I32")}


@dataclass(frozen=True)
class Description:
    """What ``atlas.json`` says."""

    attributes: tuple[str, ...]
    channels: int
    images: int
    source: str
    examples: tuple[str, ...] | None
    """Names of the example images; None where there are none."""
    draws: Draws | None = None
    """None where no confidence was measured, as in an atlas of maskatlas 0.1."""


Cell = str | int | float
Table = Sequence[Sequence[Cell]]


def write(
    directory: Path,
    description: Description,
    tensors: Mapping[str, np.ndarray],
    tables: Mapping[str, Table],
) -> None:
    """Write an atlas, each file in one move and the description last.

    Args:
        directory: Folder to write into; made if it is not there.
        description: What is no array.
        tensors: The arrays by field name, those of the examples as ``examples.<field>``.
        tables: Rows of each CSV file by file name, the header first.

    Raises:
        OSError: A file cannot be written, for example on a full disk; what stood there stays.
    """
    packed = save({name: np.ascontiguousarray(array) for name, array in tensors.items()})
    for name, rows in tables.items():
        write_atomically(directory / name, table_text(rows).encode())
    write_atomically(directory / TENSORS, packed)
    meta = {
        "format": FORMAT,
        "sha256": hashlib.sha256(packed).hexdigest(),
        "attributes": list(description.attributes),
        "channels": description.channels,
        "images": description.images,
        "source": description.source,
        "examples": None if description.examples is None else list(description.examples),
        "draws": description.draws and asdict(description.draws),
    }
    write_atomically(directory / DESCRIPTION, json.dumps(meta, indent=1).encode())


def table_text(rows: Iterable[Sequence[Cell]]) -> str:
    r"""Return rows as CSV; text that a spreadsheet would run is made plain text.

    Example:
        >>> table_text([["attribute", "drop"], ["=HYPERLINK(0)", -0.5]])
        "attribute,drop\r\n'=HYPERLINK(0),-0.5\r\n"
    """
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\r\n")  # so that neither is left unquoted
    writer.writerows([_plain(cell) for cell in row] for row in rows)
    return buffer.getvalue()


def _plain(cell: Cell) -> Cell:
    """Put an apostrophe before text that begins, blanks aside, like a formula."""
    if isinstance(cell, str) and cell.lstrip().startswith(("=", "+", "-", "@")):
        return "'" + cell
    return "" if isinstance(cell, float) and np.isnan(cell) else cell


def read(directory: Path) -> tuple[Description, dict[str, np.ndarray]]:
    """Read the description and the arrays, after checking that they belong together.

    Raises:
        RunError: No atlas there, or one that is damaged or does not fit together.
    """
    text = _bytes(directory / DESCRIPTION)
    try:
        meta = json.loads(text)
    except ValueError as error:
        raise _damaged(directory / DESCRIPTION, f"no JSON ({error})") from error
    description = _description(meta, directory / DESCRIPTION)
    packed = _bytes(directory / TENSORS)
    if hashlib.sha256(packed).hexdigest() != meta.get("sha256"):
        raise _damaged(directory / TENSORS, f"not the bytes that {DESCRIPTION} was written for")
    return description, _tensors(directory / TENSORS, description)


def _bytes(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise RunError(
            f"{path}: cannot be read ({error.strerror}); run `maskatlas analyze` to write the atlas"
        ) from error


def _damaged(path: Path, found: str) -> RunError:
    return RunError(f"{path}: {found}; run `maskatlas analyze` to write the atlas anew")


def _description(meta: Any, path: Path) -> Description:
    if not isinstance(meta, dict) or meta.get("format") != FORMAT:
        found = meta.get("format") if isinstance(meta, dict) else type(meta).__name__
        raise _damaged(path, f"expected the format {FORMAT!r}, found {found!r}")
    for key, kind in (("attributes", list), ("channels", int), ("images", int), ("source", str)):
        if type(meta.get(key)) is not kind:
            raise _damaged(path, f"{key}: expected {kind.__name__}, found {meta.get(key)!r:.60}")
    examples = meta.get("examples")
    for key, names in (("attributes", meta["attributes"]), ("examples", examples)):
        if names is not None and not (
            isinstance(names, list) and all(isinstance(name, str) for name in names)
        ):
            raise _damaged(path, f"{key}: expected names, found {names!r:.60}")
    attributes = tuple(meta["attributes"])
    if len(set(attributes)) != len(attributes):
        raise _damaged(path, "attributes: a name stands there twice")
    return Description(
        attributes=attributes,
        channels=meta["channels"],
        images=meta["images"],
        source=meta["source"],
        examples=None if examples is None else tuple(examples),
        draws=_draws(meta.get("draws"), path),
    )


def _draws(found: Any, path: Path) -> Draws | None:
    if found is None:
        return None
    kinds = {"replicates": int, "units": int, "people": bool}
    if not isinstance(found, dict) or {k: type(v) for k, v in found.items()} != kinds:
        raise _damaged(path, f"draws: expected {', '.join(kinds)}, found {found!r:.60}")
    return Draws(**found)


def _tensors(path: Path, description: Description) -> dict[str, np.ndarray]:
    try:
        with safe_open(path, framework="np") as file:
            names = set(file.keys())
            headers = {name: file.get_slice(name) for name in names}
            shapes = {name: tuple(header.get_shape()) for name, header in headers.items()}
            dtypes = {name: header.get_dtype() for name, header in headers.items()}
            _check(path, description, shapes, dtypes)
            return {name: file.get_tensor(name) for name in sorted(names)}
    except SafetensorError as error:
        raise _damaged(path, f"no whole safetensors file ({error})") from error


def _check(
    path: Path,
    description: Description,
    shapes: Mapping[str, tuple[int, ...]],
    dtypes: Mapping[str, str],
) -> None:
    """Compare names, kinds and shapes with the description, before an array is allocated."""
    required = dict(_SHAPES)
    if description.examples is not None:
        required |= _EXAMPLES
    if description.draws is not None:
        required |= _CONFIDENCE
    known = {**required, **_OPTIONAL}
    if missing := sorted(required.keys() - shapes.keys()):
        raise _damaged(path, f"lacks {', '.join(missing)}")
    if foreign := sorted(shapes.keys() - known.keys()):
        raise _damaged(path, f"holds the unknown array {foreign[0]!r:.60}")
    sizes = {"K": len(description.attributes), "C": description.channels}
    sizes["E"] = len(description.examples or ())
    for name in sorted(shapes):
        if dtypes[name] not in _DTYPES.get(name, _FLOATS):
            raise _damaged(path, f"{name}: unexpected type {dtypes[name]}")
        shape, expected = shapes[name], known[name]
        if len(shape) != len(expected) or any(
            size != (axis if isinstance(axis, int) else sizes.setdefault(axis, size))
            for size, axis in zip(shape, expected, strict=False)
        ):
            raise _damaged(
                path, f"{name}: expected [{' '.join(map(str, expected))}], found {shape}"
            )
