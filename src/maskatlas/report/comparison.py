"""``comparison.html``: the table of a comparison, from the file that it wrote."""

import datetime
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from maskatlas._version import __version__
from maskatlas.errors import RunError
from maskatlas.files import write_atomically
from maskatlas.metrics import METRICS
from maskatlas.report.accuracy import COLUMNS
from maskatlas.report.page import render_page

TITLES: Mapping[str, str] = {
    "accuracy": "Accuracy",
    "balanced_accuracy": "Balanced",
    "f1": "F1",
    "average_precision": "AP",
    "auroc": "AUROC",
}
"""The metrics, as heads of columns."""


@dataclass(frozen=True, slots=True)
class Figure:
    """A value and its interval, None where undefined."""

    value: float | None
    low: float | None
    high: float | None


@dataclass(frozen=True, slots=True)
class SystemRow:
    """A system's row in the tables of means and of costs."""

    name: str
    title: str
    note: str
    figures: tuple[Figure, ...]
    """In the order of :data:`maskatlas.metrics.METRICS`."""
    differences: tuple[Figure, ...]
    minutes: float
    milliseconds: float
    parameters: int
    gibibytes: float | None


def write_comparison(folder: Path) -> Path:
    """Write ``comparison.html`` from the ``comparison.json`` in a folder.

    Returns:
        Path of the page.

    Raises:
        RunError: There is no comparison in it, it is damaged, or the page cannot be written.
    """
    source, path = folder / "comparison.json", folder / "comparison.html"
    try:
        result = json.loads(source.read_text(encoding="utf-8"))
        page = render_page(_facts(result), "report/comparison.html")
    except OSError as error:
        raise RunError(
            f"{source}: cannot be read ({error.strerror}); make it with `maskatlas compare`"
        ) from error
    except (ValueError, KeyError, TypeError) as error:
        raise RunError(
            f"{source}: damaged ({error!r}); remove it and call `maskatlas compare` again"
        ) from error
    try:
        write_atomically(path, page.encode())
    except OSError as error:
        raise RunError(f"{path}: cannot be written ({error.strerror}); nothing changed") from error
    return path


def _facts(result: Mapping[str, Any]) -> dict[str, Any]:
    systems = result["systems"]
    return {
        "data": Path(result["data"]).name or result["data"],
        "split": result["split"] or "all",
        "images": result["images"],
        "interval": result["interval"],
        "reference": result["reference"],
        "metrics": tuple(TITLES[name] for name in METRICS),
        "rows": tuple(_row(system) for system in systems),
        "accuracies": tuple(
            (attribute, tuple(s["attributes"][attribute]["accuracy"]["value"] for s in systems))
            for attribute in result["attributes"]
        ),
        "precisions": tuple(
            (
                attribute,
                tuple(s["attributes"][attribute]["average_precision"]["value"] for s in systems),
            )
            for attribute in result["attributes"]
        ),
        "skipped": tuple(result["skipped"].items()),
        "published": _published(result["published"], result["attributes"]),
        "version": __version__,
        "written": f"{datetime.datetime.now().astimezone():%d %B %Y}",
    }


def _row(system: Mapping[str, Any]) -> SystemRow:
    peak = system["peak_bytes"]
    return SystemRow(
        name=system["name"],
        title=system["title"],
        note=system["note"],
        figures=tuple(Figure(**system["mean"][name]) for name in METRICS),
        differences=tuple(Figure(**system["difference"][name]) for name in METRICS),
        minutes=system["training_seconds"] / 60,
        milliseconds=system["milliseconds_per_image"],
        parameters=system["parameters"],
        gibibytes=None if peak is None else peak / 2**30,
    )


def _published(published: Mapping[str, Any] | None, attributes: list[str]) -> dict[str, Any] | None:
    """Return the printed columns that a reader is shown, row by row, in per cent."""
    if published is None:
        return None
    columns = {name: published["columns"][name] for name in COLUMNS}
    return {
        "note": published["note"],
        "titles": tuple(COLUMNS.values()),
        "means": tuple(column["mean"] for column in columns.values()),
        "rows": tuple(
            (attribute, tuple(column["attributes"][attribute] for column in columns.values()))
            for attribute in attributes
        ),
    }
