"""A run folder made of numbers that never were a network's, as large and as odd as a test wants."""

import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.random import Generator, default_rng

from maskatlas.analysis import Atlas, Examples
from maskatlas.cases import FILE, Case, save_cases
from maskatlas.confidence import confidence
from maskatlas.config import PRESETS, dump_toml
from maskatlas.replicates import ReplicateSums
from maskatlas.statistics import MaskStatistics

HOSTILE = (
    "<script>alert(1)</script>",
    "</script><img src=x onerror=alert(2)>",
    "\"quoted\" 'twice' `back`",
    "\u202eright to left override",
    "\u05e9\u05dc\u05d5\u05dd_\u0639\u0627\u0644\u0645",
    "\u7b11\u9854 \U0001f600 na\u00efve",
    "{{ 7 * 7 }} {% raw %} $x_1^2$ \\frac",
    "<!-- <![CDATA[ ]]> &amp; &lt;",
    "javascript:alert(3)",
    "a" * 300,
    "\x00\x07\u2028line\u2029",
    "</style><style>*{display:none}</style>",
    "=HYPERLINK(1)",
)
"""Names that are text and must stay text."""


def names(count: int) -> tuple[str, ...]:
    """Names that are nobody's."""
    return tuple(f"Attribute_{number}" for number in range(count))


def make_atlas(
    attributes: Sequence[str],
    channels: int,
    *,
    seed: int = 0,
    size: int = 64,
    cells: int = 16,
    drop: bool = True,
    examples: int = 6,
    faint: float = 1.0,
    replicates: int = 0,
) -> Atlas:
    """An atlas whose attributes fall into groups of about four.

    Args:
        attributes: Names.
        channels: How many.
        seed: Of all numbers.
        size: Side of the example images.
        cells: Side of their masks.
        drop: Whether the causal reading was measured.
        examples: Number of images; 0 leaves them out.
        faint: Factor on all masks.
        replicates: Bootstrap replicates; 0 leaves confidence out.
    """
    random = default_rng(seed)
    count = len(attributes)
    kinds = random.random((count // 4 + 1, channels)) ** 2
    means = np.clip(kinds[np.arange(count) // 4] + random.normal(0, 0.08, (count, channels)), 0, 1)
    noise = random.normal(0, 0.05, (40, count, channels))
    masks = faint * np.clip(0.9 * means + noise, 0.001, 1)
    labels = (random.random((40, count)) > 0.5).astype(float)
    statistics = MaskStatistics(count, channels)
    seen = masks, masks * random.normal(0, 1, (40, count, channels)), labels
    statistics.update(*seen)
    people = np.arange(40) // 2
    sums = ReplicateSums(count, channels, people, replicates=replicates, splits=3)
    sums.update(*seen, people)
    effect = np.maximum(0, means - 0.4) * random.random((count, channels)) / 10
    return Atlas.from_summary(
        attributes,
        statistics.compute(),
        confidence=confidence(sums, labels, people) if replicates else None,
        importance_drop=effect - 0.002 if drop else None,
        examples=_examples(random, means, examples, size, cells) if examples else None,
        source="faces, val",
    )


def _examples(random: Generator, means: np.ndarray, count: int, size: int, cells: int) -> Examples:
    attributes = len(means)
    top = np.argsort(-means, axis=1)[:, :3]
    across = np.linspace(-1, 1, cells)
    places = random.uniform(-0.6, 0.6, (2, *top.shape, 1, 1))
    spots = np.exp(-6 * ((across[:, None] - places[0]) ** 2 + (across - places[1]) ** 2))
    masks = np.clip(spots + random.normal(0, 0.03, (count, *spots.shape)), 0, 1)
    scores = random.random((count, attributes))
    return Examples(
        names=tuple(f"{number:06d}.jpg" for number in range(count)),
        images=np.stack([_face(random, size) for _ in range(count)]),
        scores=scores,
        labels=(scores > 0.4).astype(float),
        channels=top,
        masks=masks.astype(np.float32),
        contributions=(masks[:, :, 0] - 0.5 * masks[:, :, -1]) / 30,
    )


def _face(random: Generator, size: int) -> np.ndarray:
    """A disc with eyes and a mouth, enough to see where a mask lies."""
    y, x = np.mgrid[-1 : 1 : size * 1j, -1 : 1 : size * 1j]
    image = np.full((size, size, 3), random.integers(40, 220, 3), float)
    image[(x / 0.7) ** 2 + (y / 0.9) ** 2 < 1] = (214, 170, 140)
    for eye in (-0.3, 0.3):
        image[(x - eye) ** 2 + (y + 0.2) ** 2 < 0.01] = (40, 30, 30)
    image[(abs(x) < 0.3) & (abs(y - 0.45) < 0.06)] = (150, 50, 50)
    return image.astype(np.uint8)


def score(random: Generator) -> dict[str, Any]:
    """The measures of one attribute."""
    accuracy = random.uniform(0.8, 0.99)
    positives = int(random.integers(5, 400))
    return {
        "accuracy": accuracy,
        "balanced_accuracy": random.uniform(0.55, accuracy),
        "f1": random.uniform(0.4, 0.95),
        "average_precision": random.uniform(0.4, 0.95),
        "auroc": random.uniform(0.7, 0.99),
        "positives": positives,
        "negatives": 800 - positives,
    }


def classifier(attributes: Sequence[str], random: Generator) -> dict[str, Any]:
    """A classifier of ``evaluation.json``."""
    rows = {name: score(random) for name in attributes}
    measures = ("accuracy", "balanced_accuracy", "f1", "average_precision", "auroc")
    return {
        "mean": {m: math.fsum(row[m] for row in rows.values()) / len(rows) for m in measures},
        "attributes": rows,
    }


def make_evaluation(
    attributes: Sequence[str],
    *,
    data: str = "faces",
    pointing: bool = True,
    judged: bool = False,
    seed: int = 1,
) -> dict[str, Any]:
    """An ``evaluation.json``.

    Args:
        attributes: Names.
        data: What the network was scored on.
        pointing: Whether it was judged where maps point.
        judged: Whether maps were judged on every other subject.
        seed: Of all numbers.
    """
    random = default_rng(seed)
    subnetworks = classifier(attributes, random)
    played = {
        name: {"hits": 80 + number % 20, "images": 100, "accuracy": (80 + number % 20) / 100}
        for number, name in enumerate(attributes)
    }
    game = {"method": "contribution", "tolerance_pixels": 5.39, "mean": 0.88, "attributes": played}
    where = make_localization(random, played)
    explanations = {"pointing": game, "localization": where} if pointing else {}
    explanations |= make_judgements(attributes) if judged else {}
    return {
        "mean_accuracy": subnetworks["mean"]["accuracy"],
        "data": data,
        "split": "val",
        "images": 800,
        "subnetworks": subnetworks,
        "multilabel": classifier(attributes, random),
        "explanations": explanations or None,
    }


def make_localization(
    random: Generator, played: Mapping[str, Mapping[str, float]]
) -> dict[str, Any]:
    """The section on where maps point: the pointing game that was played, all else at random."""
    methods: dict[str, Any] = {}
    for method in ("contribution", "mask", "random"):
        measures = {}
        for measure in ("pointing", "energy_ratio", "iou", "attention_iou"):
            own = (method, measure) == ("contribution", "pointing")
            rows = {
                name: bounds(row["accuracy"] if own else random.random()) | {"images": 100}
                for name, row in played.items()
            }
            difference = bounds(random.normal(0, 0.2)) if methods else None
            overall = bounds(0.88 if own else random.random())
            measures[measure] = {**overall, "difference": difference, "attributes": rows}
        methods[method] = measures
    return {"images": 200, "units": 150, "people": True, "methods": methods}


FAITHFULNESS = ("insertion", "deletion", "gain", "infidelity", "relative_infidelity")


def make_judgements(
    attributes: Sequence[str], *, channels: int = 8, seed: int = 5
) -> dict[str, Any]:
    """Every other section on explanations; the last reading of each kind is undefined."""
    random = default_rng(seed)
    count, methods = len(attributes), ("contribution", "mask", "random")
    means = {"logit": -0.4, "accuracy": -0.02, "auroc": None}
    areas = {"mask": 0.1, "contribution": 0.2}
    return {
        "faithfulness": {"images": 60, "steps": 8, "squares": 64}
        | _measures(random, attributes, methods, *FAITHFULNESS)
        | {
            "curves": {
                method: {kind: random.random(9).tolist() for kind in ("insertion", "deletion")}
                for method in methods
            }
        },
        "channel_faithfulness": {
            "images": 60,
            "completeness_error": 2.5e-6,
            "removal": {
                order: {"logit": [1.0, 0.5, None], "auroc": random.random(3).tolist()}
                | (
                    {
                        "logit_area": _measured(areas[order], attributes),
                        "auroc_area": bounds(areas[order] / 10),
                    }
                    if order in areas
                    else {}
                )
                for order in (*areas, "random")
            },
            "agreement": _spreads(
                attributes,
                **{
                    "mask-logit": 0.4,
                    "mask-auroc": 0.1,
                    "contribution-logit": None,
                    "mask-change": 0.7,
                },
            ),
        },
        "specificity": {
            "images": 60,
            "methods": {
                method: {
                    "mean": mean,
                    "low": mean and mean - 0.02,
                    "high": mean and mean + 0.02,
                    "difference": None,
                    "similarity": random.random((count, count)).tolist(),
                }
                for method, mean in zip(methods, (0.31, 0.17, None), strict=True)
            },
        },
        "mask_exchange": {
            "images": 60,
            "attributes": list(attributes),
            "mean": {name: bounds(mean) for name, mean in means.items()},
        }
        | {kind: random.normal(0, 1, (count, count)).tolist() for kind in means},
        "randomization": {
            "images": 20,
            "methods": {
                method: [_stage(layer, left, chance, attributes) for layer, left in stages.items()]
                for method, stages, chance in (
                    ("contribution", {"subnetworks": 0.8, "extractor.0": 0.25}, 0.2),
                    ("mask", {"subnetworks": 0.7, "extractor.0": 0.35, "masks alone": 0.6}, 0.2),
                )
            },
            "networks": 5,
            "expected": {
                "contribution": _measured(0.07, attributes) | {"chance": 0.06},
                "mask": _measured(0.09, attributes) | {"chance": 0.06},
            },
        },
        "sensitivity": {"images": 60, "samples": 10, "radius": 0.02}
        | _measures(random, attributes, methods, "max_sensitivity"),
        "seed_agreement": {
            "runs/b": {
                "channels": [[0, 3], [1, 2]],
                "channel_correlation": bounds(0.71),
                "readings": _spreads(attributes, mask=0.62, contribution=0.83),
                "maps": {m: {"agreement": _measured(0.57, attributes)} for m in methods},
            }
        },
        "map_simplicity": {"images": 60}
        | _measures(random, attributes, methods, "gini", "entropy"),
        "channel_simplicity": {
            "images": 60,
            "channels": channels,
            "dead": [3, 5],
            "duplicates": [{"channels": [1, 6], "correlation": 0.995}],
            "gini": _spreads(attributes, mask=0.12, contribution=None),
            "entropy": _spreads(attributes, mask=0.98, contribution=None),
        },
    }


def _measures(
    random: Generator, attributes: Sequence[str], methods: Sequence[str], *measures: str
) -> dict[str, Any]:
    return {
        "methods": {
            method: {name: _measured(random.random(), attributes) for name in measures}
            for method in methods
        }
    }


def _measured(mean: float, attributes: Sequence[str]) -> dict[str, Any]:
    rows = {name: bounds(mean) | {"images": 7} for name in attributes}
    return {**bounds(mean), "difference": None, "attributes": rows}


def _spreads(attributes: Sequence[str], **means: float | None) -> dict[str, Any]:
    return {
        name: {**bounds(mean), "attributes": dict.fromkeys(attributes, mean)}
        for name, mean in means.items()
    }


def _stage(layer: str, left: float, chance: float, attributes: Sequence[str]) -> dict[str, Any]:
    magnitude = _measured(left, attributes)
    return {"layer": layer, "correlation": left, "magnitude": magnitude, "chance": chance}


def bounds(mean: float | None) -> dict[str, float | None]:
    """A mean and its interval."""
    if mean is None:
        return dict.fromkeys(("mean", "low", "high"))
    return {"mean": mean, "low": mean - 0.1, "high": mean + 0.1}


def make_cases(attributes: Sequence[str], *, seed: int = 3, size: int = 64) -> list[Case]:
    """A hit of every attribute, and a miss of every second one."""
    random = default_rng(seed)
    y, x = np.mgrid[-1 : 1 : size * 1j, -1 : 1 : size * 1j]
    cases = []
    for number, name in enumerate(attributes):
        for hit in (True, False)[: 2 - number % 2]:
            across, down = random.uniform(-0.6, 0.6, 2)
            away = (x - across) ** 2 + (y - down) ** 2
            values = np.exp(-6 * away) - 0.3 if hit else 0.3 - np.exp(-6 * away)
            cases.append(
                Case(
                    method="contribution",
                    attribute=name,
                    image_name=f"{number:06d}.jpg",
                    hit=hit,
                    energy_ratio=3.0 if hit else 0.2,
                    image=_face(random, size),
                    region=(away < 0.1).astype(np.uint8),
                    map=values.astype(np.float32),
                )
            )
    return cases


def make_metrics(*, epochs: int = 6, steps: int = 20, final_mask: float = 0.35) -> str:
    """The lines of a ``metrics.jsonl``; the masks go from 0.5 to the given mean."""
    lines = []
    for number in range(1, epochs * steps + 1):
        share = number / (epochs * steps)
        mask = 0.5 + (final_mask - 0.5) * share
        lines.append(
            {"event": "step", "step": 10 * number, "epoch": number / steps}
            | {"loss_total": 8 * math.exp(-share), "loss_binary": 4 * math.exp(-share)}
            | {"loss_multilabel": 4 * math.exp(-share), "loss_reconstruction": 0.05}
            | {"mask_mean": mask, "mask_active": min(1.0, 2 * mask), "unused_channels": 1}
        )
        if number % steps == 0:
            right = 0.95 - 0.3 * math.exp(-3 * share)
            lines.append(
                {"event": "epoch", "step": 10 * number, "epoch": number // steps}
                | {"val_accuracy": right, "val_balanced_accuracy": right - 0.05}
                | {"val_auroc": right, "mask_mean": mask, "seconds": 20.0 * number}
            )
    return "".join(f"{json.dumps(line)}\n" for line in lines)


def make_run(
    folder: Path,
    *,
    attributes: Sequence[str] = names(6),
    channels: int = 8,
    judged: bool = False,
    **atlas: Any,
) -> Path:
    """A whole run folder, but for its weights.

    Args:
        folder: Where; made if it is not there.
        attributes: Names.
        channels: How many.
        judged: Whether explanations were judged on every subject.
        atlas: Further arguments of :func:`make_atlas`.
    """
    (folder / "model").mkdir(parents=True, exist_ok=True)
    (folder / "config.toml").write_text(dump_toml(PRESETS["demo"]))
    (folder / "model" / "config.json").write_text(json.dumps({"attributes": list(attributes)}))
    (folder / "metrics.jsonl").write_text(make_metrics())
    (folder / "evaluation.json").write_text(json.dumps(make_evaluation(attributes, judged=judged)))
    save_cases(folder / FILE, make_cases(attributes))
    make_atlas(attributes, channels, **atlas).save(folder / "atlas")
    return folder
