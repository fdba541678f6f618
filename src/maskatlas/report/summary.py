"""What a reader in a hurry needs: verdicts, each from a number and a threshold, and next steps."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from maskatlas.analysis import Atlas
from maskatlas.report.accuracy import Accuracy, Row
from maskatlas.report.channels import Disagreement, Importance, Pair
from maskatlas.report.history import History
from maskatlas.report.run import Run
from maskatlas.statistics import OUT

WEAK = 0.7
"""An attribute with a smaller balanced accuracy is named as weak."""
RANKED = 0.8
"""With an AUROC from here on the images of an attribute are ranked well."""
FEW = 5
"""At most so many attributes are named in a piece of advice."""
BETTER = 0.1
"""By so much contributions must follow the effects better than masks do, to be called better."""
ENTANGLED = 0.5
"""Two attributes whose masks and whose labels correlate by more than this are named."""
WORDS = (
    (0.95, "Even with both answers weighed alike it is nearly always right."),
    (0.85, "With both answers weighed alike it is mostly right."),
    (WEAK, "With both answers weighed alike it is clearly better than guessing, and often wrong."),
    (-math.inf, "With both answers weighed alike it is little better than guessing."),
)
"""Mean balanced accuracy from which on a sentence holds."""
AGREEMENT_VERDICTS = ((0.6, "good"), (0.3, "open"), (-math.inf, "warn"))
POINTING_VERDICTS = ((0.8, "good"), (0.5, "open"), (-math.inf, "warn"))


@dataclass(frozen=True, slots=True)
class Health:
    """The verdicts and the numbers that they rest on; None where a number is missing."""

    mask_mean: float | None
    out: bool
    agreement: float | None
    """Median rank correlation of mask and effect over attributes."""
    agreement_verdict: str | None
    contributions: float
    """The same of contribution and effect; NaN where the effect was not measured."""
    contributions_better: bool
    """Contributions follow the effects clearly better than masks do."""
    pointing_verdict: str | None
    gain: float | None
    """Points of accuracy above always giving the commoner answer."""
    words: str
    """How right the network is, in words."""


def health(
    run: Run,
    accuracy: Accuracy | None,
    history: History | None,
    agreement: Mapping[str, float],
) -> Health:
    """Return the verdicts.

    Args:
        run: The run.
        accuracy: Facts on accuracy, if any.
        history: Facts on the training, if any.
        agreement: Median rank correlation by pair of readings; empty without an atlas.
    """
    mask_mean = _mask_mean(run.atlas, history)
    together = agreement.get("mask-drop", agreement.get("mask-contribution", math.nan))
    contributions = agreement.get("contribution-drop", math.nan)
    pointing = run.evaluation.pointing if run.evaluation else None
    mean = accuracy.classifier.mean if accuracy else {}
    balanced = mean.get("balanced_accuracy", math.nan)
    return Health(
        mask_mean=mask_mean,
        out=mask_mean is not None and mask_mean < OUT,
        agreement=None if math.isnan(together) else together,
        agreement_verdict=_verdict(AGREEMENT_VERDICTS, together),
        contributions=contributions,
        contributions_better=contributions - together >= BETTER,
        pointing_verdict=_verdict(POINTING_VERDICTS, pointing.mean if pointing else math.nan),
        gain=100 * (mean["accuracy"] - accuracy.majority) if accuracy else None,
        words=_verdict(WORDS, balanced) or "",
    )


def _mask_mean(atlas: Atlas | None, history: History | None) -> float | None:
    if atlas is not None:
        return float(atlas.mask_mean.mean())
    return history.health[-1].mask_mean if history and history.health else None


def _verdict(steps: Sequence[tuple[float, str]], value: float) -> str | None:
    return next((word for floor, word in steps if value >= floor), None)


def median_agreement(rows: Sequence[Importance]) -> dict[str, float]:
    """Return the median over attributes of each pair of readings' rank correlation."""
    pairs = rows[0].agreement if rows else {}
    medians = {}
    for pair in pairs:
        values = np.array([row.agreement[pair] for row in rows])
        defined = values[~np.isnan(values)]
        medians[pair] = float(np.median(defined)) if defined.size else math.nan
    return medians


def weak(accuracy: Accuracy | None) -> tuple[str, ...]:
    """Return the attributes that the network is bad at, the worst first; five at most."""
    return tuple(row.name for row in _badly_answered(accuracy) if row.score.auroc < RANKED)[:FEW]


def timid(accuracy: Accuracy | None) -> tuple[str, ...]:
    """Return the attributes whose images are ranked well but answered badly; five at most."""
    return tuple(row.name for row in _badly_answered(accuracy) if row.score.auroc >= RANKED)[:FEW]


def _badly_answered(accuracy: Accuracy | None) -> list[Row]:
    rows = accuracy.rows if accuracy else ()
    return sorted(
        (row for row in rows if row.score.balanced_accuracy < WEAK),
        key=lambda row: row.score.balanced_accuracy,
    )


def entangled(pairs: Sequence[Pair]) -> tuple[Pair, ...]:
    """Return the pairs that look and are labelled alike; three at most."""
    return tuple(p for p in pairs if p.masks > ENTANGLED and abs(p.labels) > ENTANGLED)[:3]


def next_steps(
    run: Run,
    accuracy: Accuracy | None,
    verdicts: Health,
    disagreements: Sequence[Disagreement],
    pairs: Sequence[Pair],
) -> tuple[str, ...]:
    """Return the names of the templates that say what to do next, the most urgent first."""
    pointing = run.evaluation is not None and run.evaluation.pointing is not None
    steps = {
        "relight": verdicts.out,
        "evaluate": accuracy is None,
        "analyze": run.atlas is None,
        "undefined": accuracy is not None and bool(accuracy.undefined),
        "weak": bool(weak(accuracy)),
        "threshold": bool(timid(accuracy)),
        "disagree": any(row.kind == "against" for row in disagreements) and not verdicts.out,
        "entangled": bool(entangled(pairs)),
        "explanations": accuracy is not None and not pointing,
        "explain": True,
    }
    return tuple(step for step, due in steps.items() if due)
