"""Tables of labels, splits and identities as text: every error in one of them is told at once."""

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from jaxtyping import Float32, UInt8

from maskatlas.errors import DataError
from maskatlas.images import describe_content

_MOST_TOLD = 50  # problems of one file that a message spells out
_LEAVES = re.compile(r"[/\\]|[A-Za-z]:[/\\]|(.*[/\\])?\.\.([/\\]|$)")

ABSENT, PRESENT, MINUS_ONE, UNKNOWN, BAD = range(5)
"""Codes of a cell: 0 or false, 1 or true, -1, empty or NaN, anything else."""

_MEANING = np.array([0, 1, 0, np.nan, np.nan], np.float32)  # the label of each code


@dataclass
class Problems:
    """What is wrong with one file, collected so that it is told at once."""

    path: Path
    unit: str = "line"
    """What the numbers count."""
    found: list[tuple[int, str]] = field(default_factory=list)

    def add(self, line: int, what: str) -> None:
        """Note something wrong in a line, counted from 1."""
        self.found.append((line, what))

    def raise_any(self, remedy: str = "Mend the table, or fetch it again.") -> None:
        """Raise DataError with all of them, in the order of their lines, if there are any."""
        if not self.found:
            return
        told = [f"  {self.unit} {line}: {what}" for line, what in sorted(self.found)[:_MOST_TOLD]]
        if len(self.found) > _MOST_TOLD:
            told.append(f"  ... and {len(self.found) - _MOST_TOLD} more")
        count = "1 error" if len(self.found) == 1 else f"{len(self.found)} errors"
        raise DataError("\n".join([f"{self.path}: {count}:", *told, remedy]))

    def check_header(self, line: int, names: Sequence[str]) -> None:
        """Note columns that have no name, or one that another has too."""
        for name in sorted({name for name in names if names.count(name) > 1 and name}):
            self.add(line, f"{names.count(name)} columns are named {name!r}")
        for place, name in enumerate(names, 1):
            if not name:
                self.add(line, f"column {place} has no name")

    def check_names(self, names: Sequence[str], lines: Sequence[int]) -> None:
        """Note names that are empty, stand twice, or leave the folder."""
        first: dict[str, int] = {}
        for name, line in zip(names, lines, strict=True):
            if not name:
                self.add(line, "the image has no name")
            elif first.setdefault(name, line) != line:
                self.add(line, f"{name!r} was already in {self.unit} {first[name]}")
            elif _LEAVES.match(name) or "\x00" in name:
                self.add(line, f"{name!r} leaves the folder: expected a path below it")

    def check_mixture(
        self, line: int, attributes: Sequence[str], codes: UInt8[np.ndarray, "image attribute"]
    ) -> None:
        """Note attributes that hold both -1 and 0: nobody can say which of them means absent."""
        mixed = (codes == MINUS_ONE).any(axis=0) & (codes == ABSENT).any(axis=0)
        for column in np.flatnonzero(mixed).tolist():
            self.add(
                line,
                f"{attributes[column]} holds both -1 and 0, and -1 may mean absent or unknown: "
                "use one of them for absent, and where cells may be empty, nothing for unknown",
            )


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
    found = "binary data" if b"\x00" in data[512:] else describe_content(data)
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


def read_spaced_labels(path: Path) -> LabelTable:
    """CelebA's ``list_attr_celeba.txt``: a count, the attributes, then a file name and -1/1.

    Raises:
        DataError: with every error and its line.
    """
    expected = "a count, a line of attribute names, then lines of `file -1 1 ...`"
    lines = read_text(path, expected).rstrip().split("\n")
    problems = Problems(path)
    counted = len(lines[0].split()) == 1
    start = 1 if counted else 0  # of the line with the attributes
    attributes = lines[start].split() if len(lines) > start else []
    if not attributes or {"-1", "0", "1"} & set(attributes):
        problems.add(start + 1, f"expected {expected}; found no names here")
        problems.raise_any()
    problems.check_header(start + 1, attributes)
    if counted and lines[0].strip() != str(len(lines) - 2):
        problems.add(
            1,
            f"says that {lines[0].strip()} images follow, but {len(lines) - 2} do: is the file "
            "cut short?",
        )
    names, codes, numbers = _parse_spaced(problems, lines, start + 1, attributes)
    problems.check_names(names, numbers)
    problems.check_mixture(start + 1, attributes, codes)
    problems.raise_any()
    return LabelTable(tuple(attributes), tuple(names), as_labels(codes))


def _parse_spaced(
    problems: Problems, lines: Sequence[str], start: int, attributes: Sequence[str]
) -> tuple[list[str], UInt8[np.ndarray, "image attribute"], list[int]]:
    """Names, codes and line numbers of the rows from line index `start` on."""
    names: list[str] = []
    flags: list[str] = []
    numbers: list[int] = []
    filler = "1" * len(attributes)
    for number, line in enumerate(lines[start:], start + 1):
        name, rest = (*line.split(None, 1), "", "")[:2]
        # -1 as one character: as many values as attributes whose join is as long are all of one
        values = rest.replace("-1", "\x00").split()
        joined = "".join(values)
        if len(values) != len(attributes):
            problems.add(number, f"{name}: expected {len(attributes)} values, found {len(values)}")
            joined = filler
        elif len(joined) != len(attributes) or not joined.isascii():
            for value, attribute in zip(rest.split(), attributes, strict=True):
                if value not in ("-1", "0", "1"):
                    problems.add(number, _bad_value(name, attribute, value))
            joined = filler
        names.append(name)
        flags.append(joined)
        numbers.append(number)
    recode = np.full(128, BAD, np.uint8)
    recode[[ord("0"), ord("1"), 0]] = ABSENT, PRESENT, MINUS_ONE
    raw = np.frombuffer("".join(flags).encode("ascii"), np.uint8)
    codes = recode[raw].reshape(len(names), len(attributes))
    for row, column in np.argwhere(codes == BAD).tolist():
        problems.add(numbers[row], _bad_value(names[row], attributes[column], flags[row][column]))
    return names, codes, numbers


def _bad_value(name: str, attribute: str, value: str) -> str:
    return f"{name}, {attribute}: expected -1, 0 or 1, found {value!r}"


def as_labels(
    codes: UInt8[np.ndarray, "image attribute"],
) -> Float32[np.ndarray, "image attribute"]:
    """Labels of cells: 1, 0 or NaN."""
    labels: Float32[np.ndarray, "image attribute"] = _MEANING[codes]
    return labels


def read_pairs(path: Path, second: str, allowed: Sequence[int] | None = None) -> dict[str, int]:
    """A file of ``name integer`` lines without header, or a CSV of two columns with one.

    Args:
        path: The file.
        second: What the integer is, for errors.
        allowed: What it may be, if not everything.

    Raises:
        DataError: with every error and its line.
    """
    text = read_text(path, f"lines of a file name and {second}")
    problems = Problems(path)
    pairs: dict[str, int] = {}
    lines: dict[str, int] = {}
    comma = path.suffix.lower() == ".csv"
    for number, line in enumerate(text.split("\n"), 1):
        if not line.strip() or (comma and number == 1):
            continue
        fields = [field.strip() for field in line.split("," if comma else None)]
        if len(fields) != 2:
            problems.add(number, f"expected a file name and {second}, found {line[:60]!r}")
            continue
        name, value = fields
        if lines.setdefault(name, number) != number:
            problems.add(number, f"{name!r} was already in line {lines[name]}")
        pairs[name] = int(value) if re.fullmatch(r"[+-]?[0-9]{1,18}", value) else -1
        if (allowed is not None and pairs[name] not in allowed) or pairs[name] < 0:
            problems.add(number, f"{name}: expected {second}, found {value!r}")
    problems.raise_any()
    return pairs
