"""The table of a comparison: each system's figures with their intervals, and what was published."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from jaxtyping import Float
from torch import Tensor

from maskatlas.atlas_files import Cell, table_text
from maskatlas.comparison.intervals import drawn_metrics
from maskatlas.data import AttributeDataset
from maskatlas.metrics import METRICS, Metrics, attribute_metrics, or_none
from maskatlas.published import published_accuracies
from maskatlas.resampling import LEVEL, percentile_interval, poisson_weights, resampling_units

OURS = "subnets"
"""The system that others are held against; where it is missing, the first of the table."""
REPLICATES = 200
"""Bootstrap draws."""
RENDERED = "faces"
"""Images of this source are no photographs: what was published does not stand beside them."""


@dataclass(frozen=True)
class Costs:
    """What a system takes."""

    training_seconds: float
    milliseconds_per_image: float
    """Of inference, in batches."""
    parameters: int
    peak_bytes: int | None
    """Most memory in training, above what the process held before; None where nothing tells."""

    def to_json(self) -> dict[str, float | int | None]:
        """Return the costs by name."""
        return asdict(self)


@dataclass(frozen=True, eq=False)
class Entry:
    """A system that was trained, and what it says of the images."""

    name: str
    title: str
    scores: Float[Tensor, "image attribute"]
    costs: Costs
    note: str


Draws = Mapping[str, Float[np.ndarray, "replicate attribute"]]


def table(
    entries: Sequence[Entry], data: AttributeDataset, *, skipped: Mapping[str, str], seed: int
) -> dict[str, Any]:
    """Return the table, fit for JSON; None where a figure is undefined.

    Every figure is ``{"value", "low", "high"}``: on all images, and the bounds of the middle 95 %
    of bootstrap draws, of people where they are known, else of images. ``difference`` is a system's
    mean less that of the reference, on the same draws.

    Args:
        entries: In the table's order, scored on these images.
        data: The images and their labels.
        skipped: Why other systems are not in it.
        seed: Of the draws.
    """
    labels = data.labels.numpy().astype(np.float64)
    identities = None if data.identities is None else data.identities.numpy()
    units = resampling_units(len(labels), identities)
    weights = poisson_weights(units, REPLICATES, seed)
    measured = {
        entry.name: (
            attribute_metrics(entry.scores.double().numpy(), labels),
            drawn_metrics(entry.scores.double().numpy(), labels, weights),
        )
        for entry in entries
    }
    reference = OURS if OURS in measured else next(iter(measured), None)
    return {
        "data": str(data.path or data.source),
        "split": data.split,
        "images": len(labels),
        "interval": {
            "level": LEVEL,
            "replicates": REPLICATES,
            "units": len(np.unique(units)),
            "people": bool(identities is not None and (identities >= 0).any()),
        },
        "attributes": list(data.attributes),
        "reference": reference,
        "systems": [
            {
                "name": entry.name,
                "title": entry.title,
                "note": entry.note,
                **entry.costs.to_json(),
                **_figures(*measured[entry.name], data.attributes),
                "difference": _difference(measured[entry.name], measured[str(reference)]),
            }
            for entry in entries
        ],
        "skipped": dict(skipped),
        "published": _published(data),
    }


def _figure(value: float, draws: Float[np.ndarray, " replicate"]) -> dict[str, float | None]:
    low, high = percentile_interval(draws)
    return {"value": or_none(value), "low": or_none(float(low)), "high": or_none(float(high))}


def _figures(metrics: Metrics, draws: Draws, attributes: Sequence[str]) -> dict[str, Any]:
    return {
        "mean": {
            name: _figure(value, mean_draws(draws[name])) for name, value in metrics.mean().items()
        },
        "attributes": {
            attribute: {
                name: _figure(float(getattr(metrics, name)[k]), draws[name][:, k])
                for name in METRICS
            }
            for k, attribute in enumerate(attributes)
        },
    }


def mean_draws(draws: Float[np.ndarray, "replicate attribute"]) -> Float[np.ndarray, " replicate"]:
    """Return the mean over the attributes that each draw defines; NaN where it defines none."""
    defined = ~np.isnan(draws)
    count = defined.sum(1)
    total = np.where(defined, draws, 0.0).sum(1)
    means = np.full(len(draws), np.nan)
    np.divide(total, count, out=means, where=count > 0)
    return means


def _difference(
    system: tuple[Metrics, Draws], reference: tuple[Metrics, Draws]
) -> dict[str, dict[str, float | None]]:
    ours, theirs = system[0].mean(), reference[0].mean()
    return {
        name: _figure(
            ours[name] - theirs[name],
            mean_draws(system[1][name]) - mean_draws(reference[1][name]),
        )
        for name in METRICS
    }


def _published(data: AttributeDataset) -> dict[str, Any] | None:
    """Return the printed accuracies, in per cent; None for images that they say nothing of."""
    printed = published_accuracies()
    columns = {
        name: printed.column(name, data.attributes)
        for name in printed.columns
        if not name.startswith("positive_")
    }
    if data.source == RENDERED or np.isnan(next(iter(columns.values()))).all():
        return None
    return {
        "unit": "percent",
        "note": printed.note(),
        "columns": {
            name: {
                "mean": or_none(float(np.nanmean(values))),
                "attributes": dict(
                    zip(data.attributes, map(or_none, values.tolist()), strict=True)
                ),
            }
            for name, values in columns.items()
        },
    }


def csv_text(result: Mapping[str, Any]) -> str:
    """Return a table as CSV: a row for each system's mean, and one for each attribute.

    Then comes what was published, marked as such.

    Args:
        result: What :func:`table` returned.
    """
    costs = ("training_seconds", "milliseconds_per_image", "parameters", "peak_bytes")
    figures = [f"{metric}{end}" for metric in METRICS for end in ("", "_low", "_high")]
    rows: list[list[Cell]] = [["origin", "system", "attribute", *figures, *costs]]
    for system in result["systems"]:
        paid = [_cell(system[cost]) for cost in costs]
        rows.append(["measured", system["name"], "mean", *_cells(system["mean"]), *paid])
        rows += [
            ["measured", system["name"], attribute, *_cells(row), *[""] * len(costs)]
            for attribute, row in system["attributes"].items()
        ]
    for name, column in ((result["published"] or {}).get("columns", {})).items():
        for attribute, value in {"mean": column["mean"], **column["attributes"]}.items():
            shown = "" if value is None else round(value / 100, 6)
            rest = [""] * (len(figures) + len(costs) - 1)
            rows.append(["published", name, attribute, shown, *rest])
    return table_text(rows)


def _cells(figures: Mapping[str, Mapping[str, float | None]]) -> list[Cell]:
    return [_cell(figures[m][end]) for m in METRICS for end in ("value", "low", "high")]


def _cell(value: float | int | None) -> Cell:
    return "" if value is None else value
