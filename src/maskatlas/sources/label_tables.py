"""Tables of labels, splits and identities as text: every error in one of them is told at once."""

import csv
import io
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from jaxtyping import Float32, UInt8

from maskatlas.errors import DataError
from maskatlas.images import describe_content

_MOST_TOLD = 50  # problems of one file that a message spells out

ABSENT, PRESENT, MINUS_ONE, UNKNOWN, BAD = range(5)
"""Codes of a cell: 0 or false, 1 or true, -1, empty or NaN, anything else."""

_MEANING = np.array([0, 1, 0, np.nan, np.nan], np.float32)  # label of each code

_CELLS = {
    **dict.fromkeys(("0", "0.0", "false"), ABSENT),
    **dict.fromkeys(("1", "1.0", "true"), PRESENT),
    **dict.fromkeys(("-1", "-1.0"), MINUS_ONE),
    **dict.fromkeys(("", "nan", "na", "n/a", "null", "none"), UNKNOWN),
}


@dataclass
class Problems:
    """What is wrong with one file, collected so that it is told at once."""

    path: Path
    found: list[tuple[int, str]] = field(default_factory=list)

    def add(self, line: int, what: str) -> None:
        """Note something wrong in a line, counted from 1."""
        self.found.append((line, what))

    def raise_any(self, remedy: str) -> None:
        """Raise DataError with all of them, in the order of their lines, if there are any."""
        if not self.found:
            return
        told = [f"  line {line}: {what}" for line, what in sorted(self.found)[:_MOST_TOLD]]
        if len(self.found) > _MOST_TOLD:
            told.append(f"  ... and {len(self.found) - _MOST_TOLD} more")
        count = "1 error" if len(self.found) == 1 else f"{len(self.found)} errors"
        raise DataError("\n".join([f"{self.path}: {count}:", *told, remedy]))


@dataclass(frozen=True, eq=False)
class LabelTable:
    """Labels of images as a file has them."""

    attributes: tuple[str, ...]
    names: tuple[str, ...]
    labels: Float32[np.ndarray, "image attribute"]
    """1 present, 0 absent, NaN unknown."""


def read_text(path: Path, expected: str) -> str:
    """The text of a table, without a byte order mark, with plain line ends.

    Raises:
        DataError: It cannot be read, is empty, is no text, or is a web page.
    """
    try:
        data = path.read_bytes()
    except OSError as error:
        raise DataError(
            f"{path}: expected {expected}; cannot be read: {error.strerror}."
        ) from error
    found = describe_content(data)
    if not found.startswith("text"):
        raise DataError(f"{path}: expected {expected}, found {found}. Fetch the file again.")
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data[: error.start].count(b"\n") + 1
        raise DataError(
            f"{path}: expected {expected} in UTF-8; line {line} holds the byte "
            f"0x{data[error.start]:02x}. Save it as UTF-8."
        ) from error
    return text.replace("\r\n", "\n").replace("\r", "\n")


def read_spaced_labels(path: Path, names_header: str = "the attribute names") -> LabelTable:
    """CelebA's ``list_attr_celeba.txt``: a count, the attributes, then a file name and -1/1.

    Raises:
        DataError: with every error and its line.
    """
    lines = read_text(path, "a count, attribute names, and lines of `file -1 1 ...`").split("\n")
    while lines and not lines[-1].strip():
        lines.pop()
    problems = Problems(path)
    start = 1 if len(lines[0].split()) == 1 else 0
    attributes = lines[start].split() if len(lines) > start else []
    if not attributes or set(attributes[1:]) & {"-1", "0", "1"}:
        problems.add(start + 1, f"expected {names_header}, found no such line")
        problems.raise_any("The file's beginning is missing: fetch it again.")
    _check_header(problems, start + 1, attributes)
    if start:
        _check_count(problems, lines[0].strip(), len(lines) - 2)
    names: list[str] = []
    flags: list[str] = []
    rows: list[int] = []
    for number, line in enumerate(lines[start + 1 :], start + 2):
        name, rest = (*line.split(None, 1), "", "")[:2]
        # one character a value: the count of values and their join then show every other form
        values = rest.replace("-1", "\x00").split()
        joined = "".join(values)
        if len(values) != len(attributes):
            problems.add(
                number, f"expected {len(attributes)} values after {name!r}, found {len(values)}"
            )
            joined = "0" * len(attributes)
        elif len(joined) != len(attributes):
            wrong = next(value for value in values if len(value) != 1).replace("\x00", "-1")
            problems.add(number, f"{name}: expected -1, 0 or 1, found {wrong!r}")
            joined = "0" * len(attributes)
        names.append(name)
        flags.append(joined)
        rows.append(number)
    recode = np.full(256, BAD, np.uint8)
    recode[[ord("0"), ord("1"), 0]] = ABSENT, PRESENT, MINUS_ONE
    raw = "".join(flags).encode("latin-1", "replace")
    codes = recode[np.frombuffer(raw, np.uint8)].reshape(len(names), len(attributes))
    for row, column in np.argwhere(codes == BAD).tolist():
        what = f"{names[row]}, {attributes[column]}: expected -1, 0 or 1, found "
        problems.add(rows[row], what + repr(flags[row][column]))
    check_names(problems, names, rows)
    _check_mixture(problems, attributes, codes, start + 1)
    problems.raise_any("Mend these lines, or fetch the file again.")
    return LabelTable(tuple(attributes), tuple(names), as_labels(codes))


def _check_count(problems: Problems, stated: str, found: int) -> None:
    if stated.replace(",", "") != str(found):
        problems.add(1, f"says that {stated} images follow, but {found} do: cut short, or a part")


def _check_header(problems: Problems, line: int, attributes: Sequence[str]) -> None:
    for name in sorted({name for name in attributes if attributes.count(name) > 1}):
        problems.add(line, f"attribute {name!r} is named {attributes.count(name)} times")
    for place, name in enumerate(attributes):
        if not name.strip():
            problems.add(line, f"column {place + 1} has no name")


def _check_mixture(
    problems: Problems,
    attributes: Sequence[str],
    codes: UInt8[np.ndarray, "image attribute"],
    line: int,
) -> None:
    """Where one attribute holds both -1 and 0, nobody can say which of them means absent."""
    mixed = (codes == MINUS_ONE).any(axis=0) & (codes == ABSENT).any(axis=0)
    for column in np.flatnonzero(mixed).tolist():
        problems.add(
            line,
            f"{attributes[column]} holds both -1 and 0, so that -1 may mean absent or unknown: "
            "write 0 or -1 for absent throughout",
        )


def check_names(problems: Problems, names: Sequence[str], lines: Sequence[int]) -> None:
    """Note empty names, repeated ones, and paths that leave the folder."""
    first: dict[str, int] = {}
    for name, line in zip(names, lines, strict=True):
        if first.setdefault(name, line) != line:
            problems.add(line, f"{name!r} was already in line {first[name]}")
        if ".." in name or "\\" in name or name[:1] in "/~" or ":" in name:
            check_name(problems, name, line)


def check_name(problems: Problems, name: str, line: int) -> None:
    """Note a name that is empty, absolute, or climbs out of its folder."""
    if not name:
        problems.add(line, "the image has no name")
        return
    parts = name.replace("\\", "/").split("/")
    if name[0] in "/\\" or ":" in parts[0] or parts[0].startswith("~") or ".." in parts:
        problems.add(line, f"{name!r} leaves the folder: expected a path below it")


def as_labels(
    codes: UInt8[np.ndarray, "image attribute"],
) -> Float32[np.ndarray, "image attribute"]:
    """Labels of cells: 1, 0 or NaN."""
    meaning = np.array([0, 1, 0, np.nan, np.nan], np.float32)
    return meaning[codes]


def read_pairs(path: Path, second: str) -> dict[str, int]:
    """A file of ``name integer`` lines without header, or a CSV of two columns with one.

    Raises:
        DataError: with every error and its line.
    """
    text = read_text(path, f"lines of `file {second}`")
    problems = Problems(path)
    pairs: dict[str, int] = {}
    lines: dict[str, int] = {}
    comma = path.suffix.lower() == ".csv"
    for number, line in enumerate(text.split("\n"), 1):
        if not line.strip() or (comma and number == 1):
            continue
        fields = line.split("," if comma else None)
        if len(fields) != 2:
            problems.add(number, f"expected `file {second}`, found {line[:60]!r}")
            continue
        name, value = fields[0].strip(), fields[1].strip()
        try:
            number_found = int(value)
        except ValueError:
            problems.add(number, f"{name}: expected {second} as an integer, found {value!r}")
            continue
        if lines.setdefault(name, number) != number:
            problems.add(number, f"{name!r} was already in line {lines[name]}")
        pairs[name] = number_found
    problems.raise_any("Mend these lines, or fetch the file again.")
    return pairs


def iterate_csv(path: Path, text: str) -> Iterator[tuple[int, list[str]]]:
    """Rows of a CSV with the line in which each ends; blank lines are left out.

    Raises:
        DataError: It breaks the rules of CSV, such as with a quote that never ends.
    """
    header = text.split("\n", 1)[0]
    delimiter = next((mark for mark in ",;\t" if mark in header), ",")
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True)
    try:
        for row in reader:
            if row:
                yield reader.line_num, row
    except csv.Error as error:
        raise DataError(
            f"{path}: line {reader.line_num}: is no CSV: {error}. Mend this line."
        ) from error


def encode_cells(cells: Iterable[str]) -> bytes:
    """One code for each cell, such as PRESENT."""
    try:
        return bytes([_CELLS[cell] for cell in cells])
    except KeyError:
        return bytes([_CELLS.get(cell.strip().lower(), BAD) for cell in cells])
