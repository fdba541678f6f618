"""A run folder as a frozen record: everything that a report may show, checked while it is read.

A part that is not there is None or empty; a part that is damaged is a :class:`RunError`.
"""

import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from maskatlas.analysis import Atlas
from maskatlas.cases import FILE, Case, load_cases
from maskatlas.config import Config, load_run
from maskatlas.errors import MaskatlasError, RunError
from maskatlas.metrics import METRICS
from maskatlas.report.judgements import Judgements, read_judgements
from maskatlas.report.values import count_of, names_of, number_of, table_of
from maskatlas.report.where import Where, read_where

ALL = "all splits"
"""The split of an evaluation on everything."""

_T = TypeVar("_T")


@dataclass(frozen=True, slots=True)
class Score:
    """How right a classifier is about one attribute; NaN where a measure is undefined."""

    accuracy: float
    balanced_accuracy: float
    f1: float
    average_precision: float
    auroc: float
    positives: int
    negatives: int

    @property
    def positive_share(self) -> float:
        """Share of positives among the known labels."""
        known = self.positives + self.negatives
        return self.positives / known if known else math.nan

    @property
    def majority(self) -> float:
        """Accuracy of always answering what most of these images are."""
        return max(self.positive_share, 1 - self.positive_share)


@dataclass(frozen=True, slots=True)
class Classifier:
    """The scores of one classifier, by attribute."""

    mean: Mapping[str, float]
    """Means of the measures over the attributes for which they are defined."""
    attributes: Mapping[str, Score]


@dataclass(frozen=True, slots=True)
class Hits:
    """Outcome of the pointing game for one attribute."""

    hits: int
    images: int
    accuracy: float


@dataclass(frozen=True, slots=True)
class Pointing:
    """The pointing game: how often the maximum of a map falls on the attribute's region."""

    method: str
    tolerance: float
    """How far off the region still counts, in pixels of the network's input."""
    mean: float
    attributes: Mapping[str, Hits]


@dataclass(frozen=True, slots=True)
class Evaluation:
    """What ``evaluation.json`` says."""

    mean_accuracy: float
    data: str
    split: str
    images: int
    subnetworks: Classifier | None
    multilabel: Classifier | None
    pointing: Pointing | None
    where: Where | None
    """Where the maps of every method point."""
    judgements: Judgements | None
    """What else maps were judged on."""


@dataclass(frozen=True, slots=True)
class Run:
    """The parts of a run folder."""

    folder: Path
    config: Config | None
    attributes: tuple[str, ...]
    """Names from the model, else from the atlas or the evaluation; empty if none is there."""
    steps: tuple[Mapping[str, Any], ...]
    """The training's records of single steps."""
    epochs: tuple[Mapping[str, Any], ...]
    """The training's records of whole epochs, with validation scores."""
    evaluation: Evaluation | None
    cases: tuple[Case, ...]
    """Maps that hit and maps that missed; empty where none were kept."""
    atlas: Atlas | None


def read_run(folder: Path) -> Run:
    """Read what is there of a run folder.

    Raises:
        RunError: The folder is no run folder, or one of its files is damaged; names the file.
    """
    if not folder.is_dir():
        raise RunError(f"{folder}: expected a run folder, found none; `maskatlas train` makes one")
    config = _part(folder / "config.toml", load_run)
    names = _part(folder / "model" / "config.json", _model_attributes)
    records = _part(folder / "metrics.jsonl", _records)
    evaluation = _part(folder / "evaluation.json", _evaluation)
    cases = _part(folder / FILE, load_cases)
    atlas = _part(folder / "atlas", Atlas.load)
    if config is None and not any((names, records, evaluation, atlas)):
        raise RunError(
            f"{folder}: expected a run folder (config.toml, metrics.jsonl, model/, atlas/, ...), "
            "found none of its parts; `maskatlas train --out` makes one"
        )
    if names is None and atlas is not None:
        names = atlas.attributes
    if names is None and evaluation is not None and evaluation.subnetworks is not None:
        names = tuple(evaluation.subnetworks.attributes)
    return Run(
        folder=folder,
        config=config,
        attributes=names or (),
        steps=tuple(r for r in records or () if r.get("event") == "step"),
        epochs=tuple(r for r in records or () if r.get("event") == "epoch"),
        evaluation=evaluation,
        cases=cases or (),
        atlas=atlas,
    )


def _part(path: Path, read: Callable[[Path], _T]) -> _T | None:
    """What `read` makes of a part, or None where there is no such part."""
    try:
        return read(path) if path.exists() else None
    except RunError:
        raise
    except MaskatlasError as error:
        raise RunError(str(error)) from error
    except OSError as error:
        raise RunError(f"{path}: cannot be read ({error.strerror})") from error


def _json(path: Path) -> Any:
    try:
        return json.loads(path.read_bytes())
    except (ValueError, RecursionError) as error:
        raise RunError(f"{path}: expected JSON; {error}") from error


def _model_attributes(path: Path) -> tuple[str, ...]:
    return names_of(table_of(_json(path), str(path)), "attributes", str(path))


def _records(path: Path) -> Sequence[Mapping[str, Any]]:
    """The lines of ``metrics.jsonl``; a last line that a killed run left unfinished is dropped."""
    lines = path.read_bytes().splitlines(keepends=True)
    records = []
    for number, line in enumerate(lines, 1):
        where = f"{path}, line {number}"
        try:
            record = json.loads(line)
        except (ValueError, RecursionError) as error:
            if number == len(lines) and not line.endswith(b"\n"):
                break
            raise RunError(f"{where}: expected a JSON object; {error}") from error
        records.append(_record(table_of(record, where), where))
    return records


def _record(record: Mapping[str, Any], where: str) -> Mapping[str, Any]:
    """A record of the training whose values, but for its kind, are numbers or null."""
    defined = {k: not math.isnan(number_of(record, k, where)) for k in record if k != "event"}
    numbers = {key: record[key] if there else None for key, there in defined.items()}
    return {"event": record.get("event"), **numbers}


def _evaluation(path: Path) -> Evaluation:
    found, where = table_of(_json(path), str(path)), str(path)
    explanations = table_of(found.get("explanations") or {}, f"{where}: explanations")
    return Evaluation(
        mean_accuracy=number_of(found, "mean_accuracy", where),
        data=str(found.get("data", "")),
        split=str(found.get("split") or ALL),
        images=count_of(found, "images", where),
        subnetworks=_classifier(found.get("subnetworks"), f"{where}: subnetworks"),
        multilabel=_classifier(found.get("multilabel"), f"{where}: multilabel"),
        pointing=_pointing(explanations.get("pointing"), f"{where}: explanations.pointing"),
        where=read_where(explanations.get("localization"), f"{where}: explanations.localization"),
        judgements=read_judgements(explanations, f"{where}: explanations"),
    )


def _classifier(found: object, where: str) -> Classifier | None:
    if found is None:
        return None
    table = table_of(found, where)
    mean = table_of(table.get("mean"), f"{where}.mean")
    scores = {}
    for name, value in table_of(table.get("attributes"), f"{where}.attributes").items():
        inside = f"{where}.attributes.{name}"
        row = table_of(value, inside)
        measures = {metric: number_of(row, metric, inside) for metric in METRICS}
        positives, negatives = (count_of(row, side, inside) for side in ("positives", "negatives"))
        scores[name] = Score(**measures, positives=positives, negatives=negatives)
    return Classifier({m: number_of(mean, m, f"{where}.mean") for m in METRICS}, scores)


def _pointing(found: object, where: str) -> Pointing | None:
    """Return the game, or None where it was not played on any image."""
    if not found:
        return None
    table = table_of(found, where)
    attributes = {}
    for name, value in table_of(table.get("attributes"), f"{where}.attributes").items():
        inside = f"{where}.attributes.{name}"
        row = table_of(value, inside)
        attributes[name] = Hits(
            hits=count_of(row, "hits", inside),
            images=count_of(row, "images", inside),
            accuracy=number_of(row, "accuracy", inside),
        )
    if not attributes:
        return None
    return Pointing(
        method=str(table.get("method", "")),
        tolerance=number_of(table, "tolerance_pixels", where),
        mean=number_of(table, "mean", where),
        attributes=attributes,
    )
