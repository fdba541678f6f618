"""Facts on where the maps point: every method by every measure, and maps that hit and missed."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType

import numpy as np

from maskatlas.cases import Case
from maskatlas.figures import outlined, overlay
from maskatlas.report.judged import FLOORS
from maskatlas.report.measured import Bounds, Measured, Methods, methods_of
from maskatlas.report.overlays import enlarged, where_in_words
from maskatlas.report.pictures import Picture, photo_picture
from maskatlas.report.values import count_of, table_of

MEASURES: Mapping[str, tuple[str, bool]] = MappingProxyType(
    {
        "pointing": ("Pointing game, %", True),
        "energy_ratio": ("Energy ratio", False),
        "iou": ("IoU, %", True),
        "attention_iou": ("Attention-IoU, %", True),
    }
)
"""What a reader calls each measure, and whether it is a share."""
MOST_CASES = 8
"""So many attributes are shown: those that maps point at worst, and those best."""


@dataclass(frozen=True, slots=True)
class Where:
    """What ``evaluation.json`` says of where maps point."""

    images: int
    units: int
    people: bool
    """Whether intervals draw people; else images."""
    methods: Methods
    """By method, then by measure; the first method is the one of reference."""


@dataclass(frozen=True, slots=True)
class Cell:
    """One measure of one method, as the table shows it."""

    bounds: Bounds
    share: bool
    best: bool
    against: str
    """``better`` or ``worse`` than the reference by more than the interval, else empty."""


@dataclass(frozen=True, slots=True)
class CasePictures:
    """One case, drawn."""

    image: Picture
    map: Picture
    energy_ratio: float


@dataclass(frozen=True, slots=True)
class CaseRow:
    """The clearest hit and the clearest miss of one attribute."""

    name: str
    accuracy: float
    hit: CasePictures | None
    miss: CasePictures | None


@dataclass(frozen=True, slots=True)
class WhereFacts:
    """Everything that the section shows."""

    where: Where
    reference: str
    titles: tuple[str, ...]
    rows: tuple[tuple[str, tuple[Cell, ...]], ...]
    energy: Mapping[str, Bounds]
    """Of the method of reference, by attribute."""
    pointing: Mapping[str, Bounds]
    cases: tuple[CaseRow, ...]
    leader: tuple[str, float] | None
    """The method that points best and how well, of those above that of reference by more than the
    interval."""


def read_where(found: object, place: str) -> Where | None:
    """Read the section ``localization``; None where there is none.

    Raises:
        RunError: It is not what ``maskatlas evaluate`` writes.
    """
    if found is None:
        return None
    section = table_of(found, place)
    methods = methods_of(section, place)
    if not methods:
        return None
    return Where(
        images=count_of(section, "images", place),
        units=count_of(section, "units", place),
        people=section.get("people") is True,
        methods=methods,
    )


def where_facts(where: Where | None, cases: Sequence[Case]) -> WhereFacts | None:
    """Return the facts on where maps point, or None where that was not measured."""
    if where is None:
        return None
    reference = next(iter(where.methods))
    shown = [name for name in MEASURES if name in where.methods[reference]]
    rows = {m: found for m, found in where.methods.items() if found.keys() >= set(shown)}
    best = {
        name: max(
            (mean for f in rows.values() if not math.isnan(mean := f[name].overall.mean)),
            default=math.nan,
        )
        for name in shown
    }
    pointing, energy = (
        where.methods[reference][name].attributes if name in shown else {}
        for name in ("pointing", "energy_ratio")
    )
    return WhereFacts(
        where=where,
        reference=reference,
        titles=tuple(MEASURES[name][0] for name in shown),
        rows=tuple(
            (method, tuple(_cell(found[name], name, best[name]) for name in shown))
            for method, found in rows.items()
        ),
        energy=energy,
        pointing=pointing,
        cases=_case_rows(cases, pointing),
        leader=_leader(rows),
    )


def _leader(methods: Methods) -> tuple[str, float] | None:
    better = {
        method: found["pointing"].overall.mean
        for method, found in methods.items()
        if method not in FLOORS and "pointing" in found and _better(found["pointing"])
    }
    return max(better.items(), key=lambda led: led[1], default=None)


def _better(measured: Measured) -> bool:
    return measured.difference is not None and measured.difference.low > 0


def _cell(measured: Measured, name: str, best: float) -> Cell:
    lost = measured.difference
    against = ""
    if lost is not None:
        against = "better" if lost.low > 0 else "worse" if lost.high < 0 else ""
    return Cell(
        bounds=measured.overall,
        share=MEASURES[name][1],
        best=measured.overall.mean == best,
        against=against,
    )


def _case_rows(cases: Sequence[Case], pointing: Mapping[str, Bounds]) -> tuple[CaseRow, ...]:
    """Return the attributes that are pointed at worst and best, the worst first."""
    by_attribute: dict[str, dict[bool, Case]] = {}
    for case in cases:
        if case.attribute in pointing:
            by_attribute.setdefault(case.attribute, {})[case.hit] = case
    ranked = sorted(by_attribute, key=lambda name: pointing[name].mean)
    few = MOST_CASES // 2
    if len(ranked) > MOST_CASES:
        ranked = ranked[:few] + ranked[-few:]
    return tuple(
        CaseRow(
            name=name,
            accuracy=pointing[name].mean,
            hit=_drawn(by_attribute[name].get(True)),
            miss=_drawn(by_attribute[name].get(False)),
        )
        for name in ranked
    )


def _drawn(case: Case | None) -> CasePictures | None:
    if case is None:
        return None
    image, values = enlarged(case.image), np.nan_to_num(case.map.astype(float))
    outcome = "hits" if case.hit else "misses"
    seen = f"{case.image_name}, the region of {case.attribute} outlined"
    found = f"{case.method} map of {case.attribute}, which {outcome}: {where_in_words(values)}"
    coloured = overlay(image, values, limit=float(np.abs(values).max()))
    return CasePictures(
        image=photo_picture(outlined(image, case.region), seen),
        map=photo_picture(outlined(coloured, case.region), found),
        energy_ratio=case.energy_ratio,
    )
