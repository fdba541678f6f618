"""From what a layout lists to the dataset that was asked for: one way for every layout."""

import difflib
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Int64

from maskatlas.data import AttributeDataset, ImageStore, RegionStore
from maskatlas.errors import DataError
from maskatlas.sources.label_tables import LabelTable

SPLITS = ("train", "val", "test")
"""The splits, in the order of CelebA's numbers 0, 1, 2."""

_SPLIT_NAMES = {
    **dict.fromkeys(("0", "train", "training"), "train"),
    **dict.fromkeys(("1", "val", "valid", "validation"), "val"),
    **dict.fromkeys(("2", "test", "testing"), "test"),
}


def split_of(name: str) -> str | None:
    """The split that a name or CelebA's number stands for; None if it stands for none."""
    return _SPLIT_NAMES.get(name.strip().lower())


@dataclass(frozen=True, slots=True)
class Request:
    """What is asked of a layout."""

    split: str | None = None
    """One of SPLITS; None is everything."""
    excluded: frozenset[str] | None = None
    """Names of images to leave out."""
    ignore: tuple[str, ...] = ()
    """Attributes to leave out."""
    limit: int | None = None
    """Most images of each split."""


@dataclass(frozen=True, eq=False)
class Listing:
    """The labelled images of a layout, whether they are there or not."""

    table: LabelTable
    splits: tuple[str, ...] | None
    """The split of each; None where nothing says."""
    identities: Int64[np.ndarray, " image"] | None
    """Who or what each shows, -1 unknown; None where nothing says."""
    notes: tuple[str, ...] = ()

    def dataset(
        self,
        source: str,
        path: Path,
        rows: Sequence[int],
        images: ImageStore,
        *,
        regions: RegionStore | None = None,
        unlabelled: Sequence[str] = (),
    ) -> AttributeDataset:
        """All images that are there.

        Args:
            source: The layout.
            path: Its folder.
            rows: The row of each image in the store.
            images: The store.
            regions: The regions of the images in the store, by all attributes.
            unlabelled: Images that no row labels.
        """
        stored = np.array(rows, np.int64)
        splits = self.splits
        notes = list(self.notes)
        if splits is None:
            splits = (SPLITS[0],) * len(self.table.names)
            notes.append(f"Nothing says which image is in which split: all are in {SPLITS[0]}.")
        here = np.zeros(len(self.table.names), bool)
        here[stored] = True
        absent: dict[str, list[str]] = {}
        for row in np.flatnonzero(~here).tolist():
            absent.setdefault(splits[row], []).append(self.table.names[row])
        identities = None if self.identities is None else torch.from_numpy(self.identities[stored])
        return AttributeDataset(
            attributes=self.table.attributes,
            labels=torch.from_numpy(self.table.labels[stored]),
            names=tuple(self.table.names[row] for row in rows),
            splits=tuple(splits[row] for row in rows),
            images=images,
            source=source,
            identities=identities,
            regions_of=regions,
            path=path,
            notes=tuple(notes),
            absent={split: tuple(names) for split, names in absent.items()},
            unlabelled=tuple(unlabelled),
        )


def restrict(data: AttributeDataset, request: Request) -> AttributeDataset:
    """The part of a whole dataset that is asked for.

    Raises:
        DataError: Images lack labels, a split is left empty, or a name is unknown.
    """
    chosen = np.ones(len(data), bool)
    if request.excluded is not None:
        data = without_excluded(data, request.excluded)
        chosen = np.array([name not in request.excluded for name in data.names], bool)
        left_out = len(chosen) - int(chosen.sum())
        note = f"{left_out} of the {len(request.excluded)} images to exclude are here; left out."
        data = replace(data, notes=(*data.notes, note))
    if data.unlabelled:
        raise DataError(
            f"{data.path}: {len(data.unlabelled)} images have no label: "
            f"{enumerate_names(data.unlabelled)}. Label them, move them away, or list them in a "
            "file for --data.exclude."
        )
    splits = np.array(data.splits, dtype=object)
    if data.absent:
        counts = "; ".join(
            f"{len(names)} in {split}, such as {names[0]}" for split, names in data.absent.items()
        )
        note = f"Some labels are of images that are not there: {counts}."
        data = replace(data, notes=(*data.notes, note))
    _check_splits(data, request.split, Counter(splits[chosen]))
    if request.split is not None:
        chosen &= splits == request.split
    chosen &= _limited(splits, chosen, request.limit)
    if not chosen.all():
        data = data.subset(np.flatnonzero(chosen).tolist())
    return replace(_without_attributes(data, request.ignore), split=request.split)


def without_excluded(data: AttributeDataset, excluded: frozenset[str]) -> AttributeDataset:
    """The dataset, with nothing that is excluded among what is not there or not labelled."""
    absent = {
        split: left
        for split, names in data.absent.items()
        if (left := tuple(name for name in names if name not in excluded))
    }
    unlabelled = tuple(name for name in data.unlabelled if name not in excluded)
    return replace(data, absent=absent, unlabelled=unlabelled)


def _check_splits(data: AttributeDataset, split: str | None, counts: Mapping[str, int]) -> None:
    there = ", ".join(f"{name} ({counts[name]})" for name in SPLITS if counts.get(name)) or "none"
    for name in empty_splits(data, counts):
        if split in (None, name):
            names = data.absent[name]
            raise DataError(
                f"{data.path}: split {name} is empty: {len(names)} images of it have labels, such "
                f"as {names[0]}, but none of them is there. Fetch them, take their labels out of "
                f"the table, or ask for a split that has images: {there}."
            )
    if split is not None and not counts.get(split):
        raise DataError(
            f"{data.path or data.source}: has no split {split}. Ask for one that has images: "
            f"{there}."
        )
    if not any(counts.values()):
        raise DataError(
            f"{data.path or data.source}: no image is left. Look at its label table, and at "
            "--data.exclude."
        )


def empty_splits(data: AttributeDataset, counts: Mapping[str, int]) -> list[str]:
    """The splits that have labels but no image."""
    return [name for name in data.absent if not counts.get(name)]


def _limited(splits: np.ndarray, chosen: np.ndarray, limit: int | None) -> np.ndarray:
    """Where an image is among at most `limit` chosen ones of its split, spread evenly over it."""
    if limit is None:
        return chosen
    if limit < 1:
        raise DataError(f"limit: expected at least 1 image, found {limit}.")
    kept = np.zeros(len(splits), bool)
    for split in set(splits):
        of_split = np.flatnonzero(chosen & (splits == split))
        count = min(limit, len(of_split))
        if count:
            kept[of_split[np.arange(count) * len(of_split) // count]] = True
    return kept


def _without_attributes(data: AttributeDataset, ignore: Sequence[str]) -> AttributeDataset:
    if not ignore:
        return data
    check_ignored(ignore, data.attributes, data.path or data.source)
    kept = [place for place, name in enumerate(data.attributes) if name not in ignore]
    if not kept:
        raise DataError(f"{data.path or data.source}: no attribute is left. See --data.ignore.")
    return replace(
        data,
        attributes=tuple(data.attributes[place] for place in kept),
        labels=data.labels[:, kept],
        regions_of=None if data.regions_of is None else data.regions_of.select(kept),
    )


def check_ignored(ignore: Sequence[str], columns: Sequence[str], where: Path | str) -> None:
    """Raise DataError if something is to be ignored that is not there."""
    for name in ignore:
        if name not in columns:
            raise DataError(
                f"{where}: --data.ignore names {name!r}, which is no column of it."
                f"{nearest(name, columns)}"
            )


def enumerate_names(names: Sequence[str], most: int = 10) -> str:
    """Some of these names, and how many more there are."""
    told = ", ".join(names[:most])
    return told if len(names) <= most else f"{told} and {len(names) - most} more"


def nearest(name: str, valid: Sequence[str]) -> str:
    """A hint at the valid name that is most like this one, or nothing."""
    close = difflib.get_close_matches(name, valid, n=1)
    return f" Did you mean {close[0]}?" if close else ""
