"""What is in a dataset, and what is wrong with it."""

import dataclasses
import hashlib
import logging
import os
import sys
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import torch
from tqdm import tqdm

from maskatlas.config import FacesConfig
from maskatlas.data import AttributeDataset
from maskatlas.data_report import Balance, DataReport, Duplicate, SharedIdentity, Unreadable
from maskatlas.errors import DataError
from maskatlas.sources import SPLITS, open_whole
from maskatlas.sources.columns import read_excluded
from maskatlas.sources.listing import (
    Request,
    empty_splits,
    enumerate_names,
    restrict,
    without_excluded,
)

_LOG = logging.getLogger(__name__)
_MOST_TOLD = 20  # of one kind of finding, in the text
_LOG_SECONDS = 10.0
_CHUNK = 256


def check_dataset(
    path: str | Path,
    *,
    exclude: Path | None = None,
    ignore: Sequence[str] = (),
    limit: int | None = None,
    strict: bool = False,
    progress: bool = False,
    faces: FacesConfig | None = None,
) -> DataReport:
    """Look at everything in a dataset: its tables, every image, every mask.

    Args:
        path: The folder, or ``faces``.
        exclude: File that lists images to leave out.
        ignore: Attributes, or columns of a table, to leave out.
        limit: Most images of each split that are looked at.
        strict: What stands in two splits must be mended.
        progress: Show a progress bar on a terminal; else a line is logged now and then.
        faces: Which faces are rendered; only for ``faces``.
    """
    try:
        whole = open_whole(path, ignore=ignore, faces=faces)
        data, errors = _chosen(whole, exclude, ignore, limit)
    except DataError as error:
        return DataReport(path=str(path), errors=(str(error),))
    passed = _look_at_images(data, progress=progress)
    duplicates = _duplicates(data, passed.digests)
    shared = _shared_identities(data)
    balance = _balance(data)
    apart = [group for group in duplicates if len(set(group.splits)) > 1]
    in_two_splits = _tell_duplicates(apart, "stand in several splits") + _tell_shared(shared)
    within = [group for group in duplicates if len(set(group.splits)) == 1]
    warnings = _tell_duplicates(within, "stand twice in a split") + _undefined(balance)
    errors = errors + _tell_unreadable(passed.unreadable)
    return DataReport(
        path=str(path),
        source=data.source,
        images=len(data),
        splits=_in_order(Counter(data.splits)),
        attributes=data.attributes,
        identities=0 if data.identities is None else _count_known(data.identities),
        regions=passed.regions,
        balance=balance,
        missing={split: len(names) for split, names in whole.absent.items()},
        unlabelled=whole.unlabelled,
        unreadable=passed.unreadable,
        duplicates=duplicates,
        shared_identities=shared,
        errors=errors + (in_two_splits if strict else ()),
        warnings=warnings if strict else in_two_splits + warnings,
        notes=data.notes,
    )


def _chosen(
    whole: AttributeDataset, exclude: Path | None, ignore: Sequence[str], limit: int | None
) -> tuple[AttributeDataset, tuple[str, ...]]:
    """The images to look at, and what must be mended before a look at any."""
    excluded = None if exclude is None else read_excluded(exclude)
    data = whole if excluded is None else without_excluded(whole, excluded)
    errors = []
    if data.unlabelled:
        names = enumerate_names(data.unlabelled)
        errors.append(f"{len(data.unlabelled)} images have no label: {names}.")
    counts = Counter(data.splits)
    for split in empty_splits(data, counts):
        count = len(data.absent[split])
        errors.append(f"Split {split} is empty: none of its {count} labelled images is there.")
    left = tuple(name for name in ignore if name in data.attributes)
    data = dataclasses.replace(data, unlabelled=())
    kept = {split: names for split, names in data.absent.items() if counts[split]}
    data = restrict(dataclasses.replace(data, absent=kept), Request(None, excluded, left, limit))
    return data, tuple(errors)


@dataclass(frozen=True, slots=True)
class _Pass:
    """What reading every image showed."""

    digests: tuple[bytes | None, ...]
    """Of the content of each image; None where it cannot be read."""
    unreadable: tuple[Unreadable, ...]
    regions: int


def _look_at_images(data: AttributeDataset, *, progress: bool) -> _Pass:
    def look(index: int) -> tuple[bytes | None, str, bool]:
        try:
            digest = hashlib.blake2b(data.content(index), digest_size=16).digest()
            data.read(index)
            return digest, "", data.regions(index) is not None
        except DataError as error:
            return None, str(error), False

    digests: list[bytes | None] = []
    unreadable: list[Unreadable] = []
    regions = 0
    bar = progress and sys.stderr.isatty()
    told = time.monotonic()
    with (
        ThreadPoolExecutor(os.cpu_count()) as threads,
        tqdm(total=len(data), desc="reading", unit=" images", disable=not bar) as shown,
    ):
        for start in range(0, len(data), _CHUNK):
            chunk = range(start, min(start + _CHUNK, len(data)))
            for index, (digest, reason, known) in zip(chunk, threads.map(look, chunk), strict=True):
                digests.append(digest)
                regions += known
                if reason:
                    unreadable.append(Unreadable(data.names[index], reason))
            shown.update(len(chunk))
            if not bar and time.monotonic() - told > _LOG_SECONDS:
                told = time.monotonic()
                _LOG.info("read %d of %d images", len(digests), len(data))
    return _Pass(tuple(digests), tuple(unreadable), regions)


def _duplicates(data: AttributeDataset, digests: Sequence[bytes | None]) -> tuple[Duplicate, ...]:
    groups: dict[bytes, list[int]] = {}
    for index, digest in enumerate(digests):
        if digest is not None:
            groups.setdefault(digest, []).append(index)
    return tuple(
        Duplicate(
            names=tuple(data.names[index] for index in group),
            splits=tuple(data.splits[index] for index in group),
        )
        for group in groups.values()
        if len(group) > 1
    )


def _shared_identities(data: AttributeDataset) -> tuple[SharedIdentity, ...]:
    if data.identities is None:
        return ()
    counts: dict[int, Counter[str]] = {}
    for identity, split in zip(data.identities.tolist(), data.splits, strict=True):
        if identity >= 0:
            counts.setdefault(identity, Counter())[split] += 1
    return tuple(
        SharedIdentity(identity, _in_order(images))
        for identity, images in sorted(counts.items())
        if len(images) > 1
    )


def _balance(data: AttributeDataset) -> dict[str, dict[str, Balance]]:
    balance: dict[str, dict[str, Balance]] = {}
    for split in _in_order(Counter(data.splits)):
        labels = data.labels[torch.tensor([of == split for of in data.splits])]
        counts = zip(
            data.attributes,
            (labels == 1).sum(dim=0).tolist(),
            (labels == 0).sum(dim=0).tolist(),
            labels.isnan().sum(dim=0).tolist(),
            strict=True,
        )
        balance[split] = {name: Balance(*numbers) for name, *numbers in counts}
    return balance


def _in_order(counts: Mapping[str, int]) -> dict[str, int]:
    """Counts in the order of the splits."""
    return {split: counts[split] for split in SPLITS if split in counts}


def _count_known(identities: torch.Tensor) -> int:
    return len(set(identities[identities >= 0].tolist()))


def _tell(title: str, found: Sequence[str]) -> tuple[str, ...]:
    """One finding of several items, cut short."""
    if not found:
        return ()
    more = [f"  ... and {len(found) - _MOST_TOLD} more"] if len(found) > _MOST_TOLD else []
    return ("\n".join([title, *(f"  {item}" for item in found[:_MOST_TOLD]), *more]),)


def _tell_unreadable(found: Sequence[Unreadable]) -> tuple[str, ...]:
    return _tell(f"{len(found)} images cannot be read:", [item.reason for item in found])


def _tell_duplicates(found: Sequence[Duplicate], where: str) -> tuple[str, ...]:
    told = [
        " = ".join(f"{n} ({s})" for n, s in zip(item.names, item.splits, strict=True))
        for item in found
    ]
    return _tell(f"{len(found)} groups of images with the same content {where}:", told)


def _tell_shared(found: Sequence[SharedIdentity]) -> tuple[str, ...]:
    told = [
        f"{item.identity}: "
        + ", ".join(f"{count} in {split}" for split, count in item.images.items())
        for item in found
    ]
    return _tell(f"{len(found)} identities stand in several splits:", told)


def _undefined(balance: Mapping[str, Mapping[str, Balance]]) -> tuple[str, ...]:
    told = [
        f"{attribute} in {split}: {counts.positive} positive, {counts.negative} negative"
        for split, attributes in balance.items()
        for attribute, counts in attributes.items()
        if not counts.positive or not counts.negative
    ]
    title = (
        f"{len(told)} attributes lack positives or negatives, so that most scores are undefined:"
    )
    return _tell(title, told)
