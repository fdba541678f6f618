"""What came out: rows side by side, as a table for people and as JSON for machines."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np
import torch

from maskatlas.bench.measuring import Call, Clock, Timing, interleaved, once
from maskatlas.metrics import or_none

Facts = Mapping[str, int | str | None]


class Form(NamedTuple):
    """One way of doing it."""

    name: str
    call: Call | None
    """None: it does not run here, and the note says why."""
    baseline: bool = False
    """Whether the others are set against it."""
    note: str = ""
    errors: Mapping[str, float] = {}
    """How far its results are from the truth, by the name of the result; relative norms."""
    tolerance: float | None = None
    """How far they may be; None where that is not ours to say."""
    images: int | None = None
    """Of a call, where not all forms take the same number."""

    @property
    def largest_error(self) -> float:
        """The largest of the errors; NaN if one is."""
        return float(np.max([*self.errors.values()]))


@dataclass(frozen=True, slots=True)
class Row:
    """What a form came to."""

    form: Form
    images: int
    timing: Timing | None = None
    peak: int | None = None
    """Bytes beyond inputs and results; None where the system does not tell."""
    ratios: Mapping[str, float] = field(default_factory=dict)
    """How many times as fast as each baseline, a median over rounds."""

    @property
    def agrees(self) -> bool | None:
        """Whether the results are as near to the truth as they must be; None: nobody says."""
        if self.form.tolerance is None:
            return None
        return all(error <= self.form.tolerance for error in self.form.errors.values())

    def to_json(self) -> dict[str, Any]:
        """Return names and numbers; None where it did not run."""
        timing = self.timing
        return {
            "name": self.form.name,
            "baseline": self.form.baseline,
            "images": self.images,
            "median_seconds": timing and timing.median,
            "spread_seconds": timing and timing.spread,
            "seconds": timing and list(timing.seconds),
            "images_per_second": timing and self.images / timing.median,
            "peak_bytes": self.peak,
            "times_as_fast_as": dict(self.ratios),
            "relative_errors": {name: or_none(x) for name, x in self.form.errors.items()},
            "tolerance": self.form.tolerance,
            "agrees": self.agrees,
            "note": self.form.note,
        }


@dataclass(frozen=True, slots=True)
class Case:
    """Forms measured side by side at the same sizes."""

    title: str
    facts: Facts
    clock: str
    """`processor` or `wall`."""
    rows: tuple[Row, ...]

    def to_json(self) -> dict[str, Any]:
        """Return sizes and rows."""
        return {
            "title": self.title,
            "case": dict(self.facts),
            "clock": self.clock,
            "rows": [row.to_json() for row in self.rows],
        }

    def text(self) -> str:
        """Return the case as a table in plain text."""
        baselines = [row.form.name for row in self.rows if row.form.baseline and row.timing]
        head = ["", "median ms", "spread ms", "images/s", "peak MiB", "error"]
        lines = [head + [f"x {name}" for name in baselines]]
        lines += [_cells(row, baselines) for row in self.rows]
        kept = [i for i in range(len(lines[0])) if i == 0 or any(line[i] for line in lines[1:])]
        widths = {i: max(len(line[i]) for line in lines) for i in kept}
        told = [f"{self.title}; {self.clock} time"]
        for line, row in zip(lines, (None, *self.rows), strict=True):
            cells = [line[i].ljust(widths[i]) if i == 0 else line[i].rjust(widths[i]) for i in kept]
            note = _note(row) if row else ""
            told.append("  " + "  ".join([*cells, note]).rstrip())
        return "\n".join(told)


def _note(row: Row) -> str:
    wrong = f"differs by more than {row.form.tolerance:g}" if row.agrees is False else ""
    return "; ".join(part for part in (wrong, row.form.note) if part)


def _cells(row: Row, baselines: Sequence[str]) -> list[str]:
    timing = row.timing
    return [
        row.form.name,
        short(1e3 * timing.median) if timing else "",
        short(1e3 * timing.spread) if timing and len(timing.seconds) > 1 else "",
        short(row.images / timing.median) if timing else "",
        "" if row.peak is None else short(row.peak / 2**20),
        f"{row.form.largest_error:.1e}" if row.form.errors else "",
        *(f"{row.ratios[name]:.2f}" if name in row.ratios else "" for name in baselines),
    ]


def short(number: float) -> str:
    """Return a number with three digits, and all of those before the point.

    Example:
        >>> short(1234.5), short(12.345), short(0.012345), short(0.0)
        ('1234', '12.3', '0.0123', '0')
    """
    if number == 0 or not math.isfinite(number):
        return f"{number:g}"
    digits = max(0, 2 - math.floor(math.log10(abs(number))))
    return f"{number:.{digits}f}"


def compare(
    title: str,
    facts: Facts,
    forms: Sequence[Form],
    *,
    images: int,
    rounds: int,
    device: torch.device,
    clock: Clock,
) -> Case:
    """Measure forms side by side: each once to be warm, once for its memory, then in turn.

    Args:
        title: What is compared.
        facts: The sizes, for machines.
        forms: What is compared; those that do not run here get a row with their note.
        images: That a call takes, unless the form says otherwise.
        rounds: How often each is timed.
        device: Where they run.
        clock: What time is taken by.
    """
    calls = {form.name: form.call for form in forms if form.call is not None}
    for call in calls.values():
        call()
    peaks = {name: once(call, device, clock)[1] for name, call in calls.items()}
    timings = interleaved(calls, rounds, clock)
    baselines = {form.name for form in forms if form.baseline} & timings.keys()
    return Case(
        title,
        facts,
        clock.name,
        tuple(
            Row(
                form,
                form.images or images,
                timings[form.name],
                peaks[form.name],
                _ratios(form.name, timings, baselines),
            )
            if form.name in timings
            else Row(form, form.images or images)
            for form in forms
        ),
    )


def _ratios(name: str, timings: Mapping[str, Timing], baselines: set[str]) -> dict[str, float]:
    return {
        baseline: timings[name].times_as_fast_as(timings[baseline])
        for baseline in timings
        if baseline in baselines and baseline != name
    }


def measure_once(
    title: str, facts: Facts, forms: Sequence[Form], *, device: torch.device, clock: Clock
) -> Case:
    """Run each form a single time, for its time and its memory: for what takes long.

    Args:
        title: What is measured.
        facts: The sizes, for machines.
        forms: What is measured; each says how many images it takes.
        device: Where they run.
        clock: What time is taken by.
    """
    rows = []
    for form in forms:
        assert form.call is not None
        assert form.images is not None
        timing, peak = once(form.call, device, clock)
        rows.append(Row(form, form.images, timing, peak))
    return Case(title, facts, clock.name, tuple(rows))
