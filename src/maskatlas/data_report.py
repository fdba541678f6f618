"""The record of what is in a dataset and what is wrong with it, as text and as plain values."""

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True, slots=True)
class Balance:
    """How many images of a split have an attribute."""

    positive: int
    negative: int
    unknown: int


@dataclass(frozen=True, slots=True)
class Unreadable:
    """An image, or its mask, that cannot be read."""

    name: str
    reason: str


@dataclass(frozen=True, slots=True)
class Duplicate:
    """Images with the same content."""

    names: tuple[str, ...]
    splits: tuple[str, ...]
    """The split of each."""


@dataclass(frozen=True, slots=True)
class SharedIdentity:
    """Somebody who is shown in several splits."""

    identity: int
    images: Mapping[str, int]
    """Number of images in each split."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DataReport:
    """All that :func:`maskatlas.checking.check_dataset` finds."""

    path: str
    source: str = ""
    """The layout; empty if the dataset cannot be opened at all."""
    images: int = 0
    splits: Mapping[str, int] = field(default_factory=dict)
    attributes: tuple[str, ...] = ()
    identities: int = 0
    """Number of different people or things; 0 if not known."""
    regions: int = 0
    """Number of images with regions."""
    balance: Mapping[str, Mapping[str, Balance]] = field(default_factory=dict)
    """By split, then attribute."""
    missing: Mapping[str, int] = field(default_factory=dict)
    """Labels whose image is not there, by split."""
    unlabelled: tuple[str, ...] = ()
    """Images without a label."""
    unreadable: tuple[Unreadable, ...] = ()
    duplicates: tuple[Duplicate, ...] = ()
    shared_identities: tuple[SharedIdentity, ...] = ()
    errors: tuple[str, ...] = ()
    """What must be mended."""
    warnings: tuple[str, ...] = ()
    """What may spoil results."""
    notes: tuple[str, ...] = ()

    @property
    def failed(self) -> bool:
        """Whether something must be mended."""
        return bool(self.errors)

    def to_mapping(self) -> dict[str, Any]:
        """The report as plain values, for JSON."""
        return {**dataclasses.asdict(self), "failed": self.failed}

    def text(self) -> str:
        """The report for a terminal: what is there, then what is wrong with it."""
        lines = [f"{self.path}: {self.source or 'cannot be opened'}"]
        if self.source:
            lines[0] += f", {self.images} images, {len(self.attributes)} attributes"
            lines[0] += f", {self.identities} identities" if self.identities else ""
            lines[0] += f", {self.regions} with regions" if self.regions else ""
            lines += ["", *self._counts()]
        for title, found in (
            ("Must be mended", self.errors),
            ("Warnings", self.warnings),
            ("Notes", self.notes),
        ):
            if found:
                lines += ["", f"{title}:", *(f"  {line}" for f in found for line in f.split("\n"))]
        if not self.errors:
            lines += ["", "Nothing must be mended."]
        return "\n".join(map(_printable, lines))

    def _counts(self) -> list[str]:
        """A table: images, and the share of images with each attribute, in each split."""
        width = max(map(len, (*self.attributes, "labels without image")))
        rows = {
            "images": [str(count) for count in self.splits.values()],
            "labels without image": [str(self.missing.get(split, 0)) for split in self.splits],
            "": ["positive %"] * len(self.splits),
        }
        for attribute in self.attributes:
            rows[attribute] = [_share(self.balance[split][attribute]) for split in self.splits]
        heads = "".join(f"{split:>18}" for split in self.splits)
        return [
            " " * width + heads,
            *(f"{name:<{width}}" + "".join(f"{v:>18}" for v in row) for name, row in rows.items()),
        ]


def _share(balance: Balance) -> str:
    known = balance.positive + balance.negative
    share = f"{100 * balance.positive / known:.1f}" if known else "undefined"
    return f"{share} ({balance.unknown} ?)" if balance.unknown else share


def _printable(line: str) -> str:
    """A line without what would steer the terminal."""
    return "".join(
        mark if mark.isprintable() else mark.encode("unicode_escape").decode() for mark in line
    )
