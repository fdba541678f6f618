"""A table whose rows are images and whose columns are attributes: CSV or Parquet."""

import csv
import io
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from operator import itemgetter
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Int64, UInt8

from maskatlas.errors import DataError
from maskatlas.sources.label_tables import (
    ABSENT,
    BAD,
    MINUS_ONE,
    PRESENT,
    UNKNOWN,
    LabelTable,
    Problems,
    as_labels,
    read_text,
)
from maskatlas.sources.listing import check_ignored, split_of
from maskatlas.sources.parquet import import_pyarrow

IMAGE_COLUMNS = ("image", "image_id", "file", "filename", "path")
"""The first of these names the image."""

_SPLIT_COLUMNS = ("split", "partition")
_IDENTITY_COLUMN = "identity"
PART_PREFIX = "part_"
"""Columns that begin so are no attributes."""

_CELLS = {
    **dict.fromkeys(("0", "0.0", "false"), ABSENT),
    **dict.fromkeys(("1", "1.0", "true"), PRESENT),
    **dict.fromkeys(("-1", "-1.0"), MINUS_ONE),
    **dict.fromkeys(("", "nan", "na", "n/a", "null", "none"), UNKNOWN),
}


@dataclass(frozen=True, eq=False)
class TableContent:
    """What a table says about its images."""

    table: LabelTable
    splits: tuple[str, ...] | None
    identities: Int64[np.ndarray, " image"] | None
    others: tuple[str, ...]
    """Columns that are no attributes."""


@dataclass(frozen=True, slots=True)
class _Roles:
    """Which column is what, as places in the header."""

    image: int
    split: int | None
    identity: int | None
    attributes: tuple[int, ...]


@dataclass
class _Rows:
    """The cells that count, row by row."""

    lines: list[int]
    names: list[str]
    splits: list[str]
    identities: list[str]
    codes: UInt8[np.ndarray, "image attribute"]
    bad: dict[tuple[int, int], str]
    """What stands in the cells whose code is BAD."""


def read_csv(path: Path, *, ignore: Sequence[str] = (), unknown: bool = True) -> TableContent:
    """Read a CSV (or one separated by semicolons or tabs).

    Args:
        path: The file.
        ignore: Columns that are no attributes.
        unknown: Whether a cell may be empty or NaN.

    Raises:
        DataError: with every error and its line.
    """
    text = read_text(path, "a CSV table with a header")
    rows = _iterate_csv(path, text)
    line, header = next(rows)
    header = [name.strip() for name in header]
    problems = Problems(path)
    roles = _roles(problems, line, header, ignore)
    return _content(problems, header, roles, _read_rows(problems, header, roles, rows), unknown)


def read_parquet(path: Path, *, ignore: Sequence[str] = ()) -> TableContent:
    """Read a Parquet table; raises DataError with every error and its row, from 1."""
    pyarrow, parquet = import_pyarrow(path)
    try:
        table = parquet.read_table(path)
    except (pyarrow.ArrowException, OSError) as error:
        raise DataError(f"{path}: cannot be read as Parquet: {error}. Fetch it again.") from error
    header = list(table.column_names)
    problems = Problems(path, unit="row")
    roles = _roles(problems, 1, header, ignore)

    def texts(place: int | None) -> list[str]:
        if place is None:
            return []
        return ["" if cell is None else str(cell) for cell in table.column(place).to_pylist()]

    rows = _Rows(
        lines=list(range(1, table.num_rows + 1)),
        names=texts(roles.image),
        splits=texts(roles.split),
        identities=texts(roles.identity),
        codes=np.empty((table.num_rows, len(roles.attributes)), np.uint8),
        bad={},
    )
    for column, place in enumerate(roles.attributes):
        cells = [str(cell) for cell in table.column(place).to_pylist()]
        rows.codes[:, column] = np.frombuffer(_encode(cells), np.uint8)
        for row in np.flatnonzero(rows.codes[:, column] == BAD).tolist():
            rows.bad[row, column] = cells[row]
    return _content(problems, header, roles, rows, unknown=True)


def _roles(problems: Problems, line: int, header: Sequence[str], ignore: Sequence[str]) -> _Roles:
    problems.check_header(line, header)
    image = _image_column(header)
    if image is None:
        problems.add(
            line,
            f"expected a column that names the image ({', '.join(IMAGE_COLUMNS)}), found "
            f"{', '.join(header)[:200]}",
        )
        problems.raise_any()
    assert image is not None
    check_ignored(ignore, header, problems.path)
    split = next((name for name in _SPLIT_COLUMNS if name in header), None)
    apart = {*IMAGE_COLUMNS, *_SPLIT_COLUMNS, _IDENTITY_COLUMN, *ignore}
    attributes = tuple(
        place
        for place, name in enumerate(header)
        if name not in apart and not name.startswith(PART_PREFIX)
    )
    if not attributes:
        problems.add(line, f"no column is an attribute: {', '.join(header)[:200]}")
        problems.raise_any("Add a column of 0 and 1 for each attribute.")
    return _Roles(
        image=image,
        split=None if split is None else header.index(split),
        identity=header.index(_IDENTITY_COLUMN) if _IDENTITY_COLUMN in header else None,
        attributes=attributes,
    )


def _image_column(header: Sequence[str]) -> int | None:
    """The place of the column that names the image."""
    return next((header.index(name) for name in IMAGE_COLUMNS if name in header), None)


def _iterate_csv(path: Path, text: str) -> Iterator[tuple[int, list[str]]]:
    """Rows of a CSV with the line in which each ends; blank lines are left out."""
    header = text.split("\n", 1)[0]
    delimiter = next((mark for mark in ",;\t" if mark in header), ",")
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True)
    try:
        for row in reader:
            if row:
                yield reader.line_num, row
    except csv.Error as error:
        raise DataError(
            f"{path}: line {reader.line_num}: breaks the rules of CSV: {error}. Mend this line."
        ) from error


def _read_rows(
    problems: Problems,
    header: Sequence[str],
    roles: _Roles,
    rows: Iterator[tuple[int, list[str]]],
) -> _Rows:
    read = _Rows([], [], [], [], np.empty((0, 0), np.uint8), {})
    attributes = itemgetter(*roles.attributes) if len(roles.attributes) > 1 else None
    codes: list[bytes] = []
    for line, row in rows:
        if len(row) != len(header):
            problems.add(line, f"expected {len(header)} cells, found {len(row)}")
            continue
        cells = attributes(row) if attributes else (row[roles.attributes[0]],)
        encoded = _encode(cells)
        if BAD in encoded:
            read.bad |= {
                (len(codes), column): cells[column]
                for column, code in enumerate(encoded)
                if code == BAD
            }
        codes.append(encoded)
        read.lines.append(line)
        read.names.append(row[roles.image].strip())
        if roles.split is not None:
            read.splits.append(row[roles.split])
        if roles.identity is not None:
            read.identities.append(row[roles.identity])
    shape = len(codes), len(roles.attributes)
    read.codes = np.frombuffer(b"".join(codes), np.uint8).reshape(shape)
    return read


def _encode(cells: Sequence[str]) -> bytes:
    """One code for each cell."""
    try:
        return bytes([_CELLS[cell] for cell in cells])
    except KeyError:
        return bytes([_CELLS.get(cell.strip().lower(), BAD) for cell in cells])


def _content(
    problems: Problems, header: Sequence[str], roles: _Roles, rows: _Rows, unknown: bool
) -> TableContent:
    attributes = [header[place] for place in roles.attributes]
    if not rows.names:
        problems.add(1, "there is no row below the header")
    problems.check_names(rows.names, rows.lines)
    _check_cells(problems, attributes, rows, unknown)
    problems.check_mixture(1, attributes, rows.codes)
    splits = None if roles.split is None else _splits(problems, rows)
    problems.raise_any()
    apart = set(range(len(header))) - set(roles.attributes)
    return TableContent(
        table=LabelTable(tuple(attributes), tuple(rows.names), as_labels(rows.codes)),
        splits=splits,
        identities=None if roles.identity is None else _identities(rows.identities),
        others=tuple(header[place] for place in sorted(apart)),
    )


def _check_cells(problems: Problems, attributes: Sequence[str], rows: _Rows, unknown: bool) -> None:
    """Note bad cells; a column with no good one counts as one error."""
    expected = "expected 0, 1, -1, true or false" + (", or nothing" if unknown else "")
    wrong = dict(rows.bad)
    if not unknown:
        for row, column in np.argwhere(rows.codes == UNKNOWN).tolist():
            wrong[row, column] = ""
    columns = range(len(attributes))
    good = [bool(np.isin(rows.codes[:, c], (ABSENT, PRESENT, MINUS_ONE)).any()) for c in columns]
    told: set[int] = set()
    for (row, column), cell in sorted(wrong.items()):
        name = attributes[column]
        found = repr(cell[:40]) if cell else "nothing"
        if good[column]:
            problems.add(rows.lines[row], f"{rows.names[row]}, {name}: {expected}, found {found}")
        elif column not in told:
            told.add(column)
            problems.add(
                rows.lines[row],
                f"column {name}: {expected}, found {found} and no label in any row; if it is no "
                f"attribute, use --data.ignore {name}",
            )


def _splits(problems: Problems, rows: _Rows) -> tuple[str, ...]:
    splits = [split_of(name) for name in rows.splits]
    for line, name, found, split in zip(rows.lines, rows.names, rows.splits, splits, strict=True):
        if split is None:
            problems.add(line, f"{name}: expected train, val or test as its split, found {found!r}")
    return tuple(split or "" for split in splits)


def _identities(texts: Sequence[str]) -> Int64[np.ndarray, " image"]:
    """Numbers as they are; other names numbered in their order; -1 for nothing."""
    texts = [text.strip() for text in texts]
    if all(text.isascii() and text.isdigit() and len(text) < 19 for text in texts if text):
        return np.array([int(text) if text else -1 for text in texts], np.int64)
    numbers: dict[str, Any] = {
        text: number for number, text in enumerate(sorted({text for text in texts if text}))
    }
    return np.array([numbers.get(text, -1) for text in texts], np.int64)


def read_excluded(path: Path) -> frozenset[str]:
    """The images that a file lists: one name a line, or a CSV table with a column of images.

    Empty lines, and lines that begin with ``#``, are skipped.

    Raises:
        DataError: It cannot be read, or lists nothing.
    """
    text = read_text(path, "names of images to leave out, one a line")
    header = {name.strip() for name in re.split("[,;\t]", text.split("\n", 1)[0])}
    if header & set(IMAGE_COLUMNS):
        rows = _iterate_csv(path, text)
        _, names = next(rows)
        column = _image_column([name.strip() for name in names])
        assert column is not None
        listed = {row[column].strip() for _, row in rows if len(row) > column}
    else:
        lines = (line.strip() for line in text.split("\n"))
        listed = {line for line in lines if not line.startswith("#")}
    listed.discard("")
    if not listed:
        raise DataError(f"{path}: lists no image to leave out.")
    return frozenset(listed)
