"""Facts for the section on accuracy: table 3, its averages, and the published numbers beside it."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType

import numpy as np

from maskatlas.metrics import mean_defined
from maskatlas.published import PRINTED_AVERAGE, published_accuracies
from maskatlas.report.run import Classifier, Run, Score

COLUMNS: Mapping[str, str] = MappingProxyType(
    {
        "paper": "Kimura & Tanaka 2019",
        "mt_rbm_pca": "MT-RBM PCA",
        "lnets_anet": "LNets+ANet",
        "facetracer": "FaceTracer",
        "abn_release": "ABN, released model",
        "resnet50": "ResNet-50",
        "majority": "Majority of train",
    }
)
"""The published columns that are shown, and what a reader calls them."""

FEW = 3
"""So many attributes are named as the strongest and as the weakest."""


@dataclass(frozen=True, slots=True)
class Row:
    """One attribute of table 3."""

    name: str
    score: Score
    multilabel: float
    """Accuracy of the multi-label classifier, or NaN."""


@dataclass(frozen=True, slots=True)
class Published:
    """The published table, as far as the run's attributes are CelebA's; in percent."""

    rows: tuple[tuple[str, float, tuple[float, ...]], ...]
    """Name, this run's accuracy, and those of :data:`COLUMNS`."""
    averages: tuple[float, ...]
    """Of the rows shown: ours first, then the published columns."""
    paper: float
    """The average of the paper's own column over all forty attributes."""
    printed: float
    """What the paper prints as that average."""
    complete: bool
    """All forty attributes are shown."""


@dataclass(frozen=True, slots=True)
class Accuracy:
    """Everything that the section shows."""

    classifier: Classifier
    """The sub-networks, or the multi-label classifier where there are none."""
    is_subnetworks: bool
    other: Classifier | None
    """The multi-label classifier beside the sub-networks."""
    rows: tuple[Row, ...]
    majority: float
    """Mean over attributes of always giving the commoner answer."""
    multilabel: float
    """Mean of the multi-label classifier's accuracies."""
    undefined: tuple[str, ...]
    """Attributes for which one of the classes is missing."""
    weakest: tuple[Row, ...]
    strongest: tuple[Row, ...]
    published: Published | None
    rendered: bool
    """The images were rendered: numbers published for photographs do not apply."""


def accuracy_facts(run: Run) -> Accuracy | None:
    """Return the facts on accuracy, or None where nothing was evaluated."""
    evaluation = run.evaluation
    if evaluation is None:
        return None
    classifier = evaluation.subnetworks or evaluation.multilabel
    if classifier is None:
        return None
    other = evaluation.multilabel if evaluation.subnetworks else None
    beside = other.attributes if other else {}
    rows = tuple(
        Row(name, score, beside[name].accuracy if name in beside else math.nan)
        for name, score in classifier.attributes.items()
    )
    ranked = sorted(
        (row for row in rows if not math.isnan(row.score.balanced_accuracy)),
        key=lambda row: row.score.balanced_accuracy,
    )
    few = min(FEW, len(ranked) // 2)
    rendered = evaluation.data == "faces"
    return Accuracy(
        classifier=classifier,
        is_subnetworks=evaluation.subnetworks is not None,
        other=other,
        rows=rows,
        majority=_mean([row.score.majority for row in rows]),
        multilabel=_mean([row.multilabel for row in rows]),
        undefined=tuple(r.name for r in rows if not (r.score.positives and r.score.negatives)),
        weakest=tuple(ranked[:few]),
        strongest=tuple(ranked[::-1][:few]),
        published=None if rendered else _published(rows),
        rendered=rendered,
    )


def _published(rows: Sequence[Row]) -> Published | None:
    table = published_accuracies()
    names = [row.name for row in rows]
    theirs = np.stack([table.column(column, names) for column in COLUMNS], axis=1)
    ours = np.array([100 * row.score.accuracy for row in rows])
    shown = np.flatnonzero(~np.isnan(theirs[:, 0]))
    if not shown.size:
        return None
    return Published(
        rows=tuple((names[i], float(ours[i]), tuple(theirs[i].tolist())) for i in shown),
        averages=(mean_defined(ours[shown]), *theirs[shown].mean(0).tolist()),
        paper=table.average("paper"),
        printed=PRINTED_AVERAGE,
        complete=len(shown) == len(table.attributes),
    )


def _mean(values: Sequence[float]) -> float:
    return mean_defined(np.array(values, dtype=float))
