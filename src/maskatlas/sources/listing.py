"""From what a layout lists to the dataset that was asked for: one way for every layout."""

import difflib
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float32, Int64

from maskatlas.data import AttributeDataset, ImageStore, RegionStore
from maskatlas.errors import DataError

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
    exclude: Path | None = None
    """File that lists images to leave out."""
    ignore: tuple[str, ...] = ()
    """Attributes, or columns of a table, to leave out."""
    limit: int | None = None
    """Most images of each split."""


@dataclass(frozen=True, eq=False, kw_only=True)
class Listing:
    """All that a layout lists, before anything is chosen.

    Rows are the labelled images, whether they are there or not; the stores hold those that are.
    """

    source: str
    path: Path
    where: Path
    """Where the images were looked for."""
    attributes: tuple[str, ...]
    names: tuple[str, ...]
    labels: Float32[np.ndarray, "row attribute"]
    splits: tuple[str, ...]
    identities: Int64[np.ndarray, " row"] | None
    stored: Int64[np.ndarray, " image"]
    """The row of each image in the store."""
    images: ImageStore
    regions: RegionStore | None = None
    unlabelled: tuple[str, ...] = ()
    """Images without a label."""
    notes: tuple[str, ...] = ()


def as_dataset(listing: Listing, request: Request) -> AttributeDataset:
    """The images of a listing that are asked for.

    Raises:
        DataError: Images lack labels, a split is left empty, or a name is unknown.
    """
    excluded = _read_excluded(request.exclude)
    chosen = np.ones(len(listing.names), bool)
    notes = list(listing.notes)
    if request.exclude is not None:
        chosen = np.array([name not in excluded for name in listing.names], bool)
        left_out = len(chosen) - int(chosen.sum())
        notes.append(f"{left_out} images are left out, as {request.exclude} lists them.")
    _check_unlabelled(listing, excluded)
    present = np.zeros(len(listing.names), bool)
    present[listing.stored] = True
    absent = _absent(listing, ~present & chosen)
    if absent:
        counts = ", ".join(f"{len(absent[split])} {split}" for split in SPLITS if split in absent)
        notes.append(f"Labels of images that are not in {listing.where}: {counts}.")
    splits = np.array(listing.splits, dtype=object)
    _check_splits(listing, request, Counter(splits[present & chosen]), absent)
    places = np.flatnonzero(chosen[listing.stored])
    if request.split is not None:
        places = places[splits[listing.stored[places]] == request.split]
    places = _limit(places, splits[listing.stored[places]], request.limit)
    return _select(listing, request, places, tuple(notes), absent)


def _select(
    listing: Listing,
    request: Request,
    places: Int64[np.ndarray, " chosen"],
    notes: tuple[str, ...],
    absent: dict[str, tuple[str, ...]],
) -> AttributeDataset:
    rows = listing.stored[places]
    kept = _kept_attributes(listing, request.ignore)
    identities = None if listing.identities is None else listing.identities[rows]
    return AttributeDataset(
        attributes=tuple(listing.attributes[column] for column in kept),
        labels=torch.from_numpy(listing.labels[rows][:, kept]),
        names=tuple(listing.names[row] for row in rows),
        splits=tuple(listing.splits[row] for row in rows),
        images=listing.images,
        source=listing.source,
        identities=None if identities is None else torch.from_numpy(identities),
        regions_of=None if listing.regions is None else listing.regions.select(kept),
        positions=torch.from_numpy(places),
        split=request.split,
        path=listing.path,
        notes=notes,
        absent=absent,
    )


def _check_unlabelled(listing: Listing, excluded: frozenset[str]) -> None:
    unlabelled = [name for name in listing.unlabelled if name not in excluded]
    if unlabelled:
        raise DataError(
            f"{listing.path}: {len(unlabelled)} images in {listing.where} have no label: "
            f"{enumerate_names(unlabelled)}. Label them, move them away, or list them in a file "
            "for --data.exclude."
        )


def _absent(listing: Listing, missing: np.ndarray) -> dict[str, tuple[str, ...]]:
    names: dict[str, list[str]] = {}
    for row in np.flatnonzero(missing):
        names.setdefault(listing.splits[row], []).append(listing.names[row])
    return {split: tuple(found) for split, found in names.items()}


def _check_splits(
    listing: Listing,
    request: Request,
    counts: "Counter[str]",
    absent: dict[str, tuple[str, ...]],
) -> None:
    there = ", ".join(f"{split} ({counts[split]})" for split in SPLITS if counts[split]) or "none"
    wanted = [request.split] if request.split is not None else list(absent) or list(SPLITS)
    for split in wanted:
        if counts[split]:
            continue
        if split in absent:
            raise DataError(
                f"{listing.path}: split {split} is empty: {len(absent[split])} images of it have "
                f"labels, such as {absent[split][0]}, but none is in {listing.where}. Fetch "
                f"them, or ask for a split that has images: {there}."
            )
        if request.split is not None:
            raise DataError(
                f"{listing.path}: has no split {split}; splits with images: {there}. Ask for one "
                "of these, or for everything."
            )
    if not counts.total():
        raise DataError(f"{listing.path}: no image is left. Check --data.exclude.")


def _kept_attributes(listing: Listing, ignore: Sequence[str]) -> list[int]:
    kept = [place for place, name in enumerate(listing.attributes) if name not in set(ignore)]
    if not kept:
        raise DataError(f"{listing.path}: no attribute is left. Check --data.ignore.")
    return kept


def _limit(
    places: Int64[np.ndarray, " image"], splits: np.ndarray, limit: int | None
) -> Int64[np.ndarray, " chosen"]:
    """At most so many of each split, spread evenly over it, in their order."""
    if limit is None:
        return places
    if limit < 1:
        raise DataError(f"limit: expected at least 1 image, found {limit}.")
    kept = np.zeros(len(places), bool)
    for split in set(splits):
        of_split = np.flatnonzero(splits == split)
        count = min(limit, len(of_split))
        kept[of_split[np.arange(count) * len(of_split) // count]] = True
    return places[kept]


def without_split(listing: Listing, why: str) -> Listing:
    """The listing as one split, `train`, with a note that says so."""
    note = f"{why}: all {len(listing.names)} images are one split, train."
    splits = ("train",) * len(listing.names)
    return replace(listing, splits=splits, notes=(*listing.notes, note))


def _read_excluded(path: Path | None) -> frozenset[str]:
    if path is None:
        return frozenset()
    raise NotImplementedError


def enumerate_names(names: Sequence[str], most: int = 10) -> str:
    """Some of these names, and how many more there are."""
    told = ", ".join(names[:most])
    return told if len(names) <= most else f"{told} and {len(names) - most} more"


def nearest(name: str, valid: Sequence[str]) -> str:
    """A hint at the valid name that is most like this one, or nothing."""
    close = difflib.get_close_matches(name, valid, n=1)
    return f" Did you mean {close[0]}?" if close else ""
