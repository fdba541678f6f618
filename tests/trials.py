"""What a trial with a planted shortcut and a comparison have found, made up."""

import numpy as np
import torch

from maskatlas.cases import Sight
from maskatlas.comparison.table import Costs, Entry, table
from maskatlas.data import AttributeDataset
from maskatlas.evaluation.intervals import Bounds
from maskatlas.evaluation.shortcuts import (
    Moved,
    PlantedPair,
    ShortcutCurve,
    ShortcutPoint,
    shortcut_curve,
)

METHODS = ("contribution", "grad-cam", "random")


def made_up_trial(attribute: str = "Smiling", source: str = "Wearing_Hat") -> ShortcutCurve:
    """Three networks of two probabilities; nothing is defined in the last."""
    return shortcut_curve(
        [
            _point(attribute, source, 0.0, 0.98, PlantedPair(0.4, None, 0), share=0.2),
            _point(attribute, source, 0.95, 0.61, PlantedPair(0.001, 1, 2), share=0.7),
            _point(attribute, source, 0.95, float("nan"), None, share=float("nan")),
        ]
    )


def _point(
    attribute: str,
    source: str,
    probability: float,
    right: float,
    pair: PlantedPair | None,
    *,
    share: float,
) -> ShortcutPoint:
    bounds = Bounds(share, share - 0.1, share + 0.1)
    return ShortcutPoint(
        attribute=attribute,
        source=source,
        probability=probability,
        accuracy=right,
        counter_accuracy=right,
        pair=pair,
        methods=tuple(Moved(method, bounds, bounds, bounds) for method in METHODS),
        sights=tuple(_sight(seed) for seed in range(2)),
    )


def _sight(seed: int) -> Sight:
    random = np.random.default_rng(seed)
    own, other = np.zeros((2, 16, 16), np.uint8)
    own[2:6, 3:9] = other[10:14, 3:9] = 1
    return Sight(
        image_name=f"face-{seed}",
        image=random.integers(0, 256, (16, 16, 3), dtype=np.uint8),
        own=own,
        other=other,
        map=random.normal(size=(16, 16)).astype(np.float32),
    )


def made_up_entries(data: AttributeDataset, *names: str) -> list[Entry]:
    """Systems that answer at random."""
    generator = torch.Generator().manual_seed(0)
    scores = torch.randn(len(names), *data.labels.shape, generator=generator)
    costs = Costs(60.0, 1.5, 1234, None)
    return [
        Entry(n, n.title(), s, costs, "<i>note</i>") for n, s in zip(names, scores, strict=True)
    ]


def made_up_comparison(data: AttributeDataset) -> dict:
    """What ``comparison.json`` holds of some of them."""
    made = made_up_entries(data, "plain", "subnets", "abn")
    return table(made, data, skipped={"gain": "a & b"}, seed=0)
