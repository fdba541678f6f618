"""Made-up atlases, small enough to look through."""

import numpy as np

from maskatlas.analysis import Atlas, Examples
from maskatlas.confidence import confidence
from maskatlas.replicates import ReplicateSums
from maskatlas.statistics import MaskStatistics


def made_up_atlas(
    attributes: int | list[str] = 6,
    channels: int = 8,
    *,
    seed: int = 0,
    drop: bool = True,
    examples: int | None = 4,
    replicates: int = 0,
) -> Atlas:
    """An atlas of random masks, through the statistics; its examples show coloured noise."""
    random = np.random.default_rng(seed)
    count = attributes if isinstance(attributes, int) else len(attributes)
    names = [f"Attribute_{k}" for k in range(count)] if isinstance(attributes, int) else attributes
    level = random.random((count, channels)) * random.random((count, channels))
    masks = np.clip(level + 0.05 * random.normal(size=(30, count, channels)), 0, 1)
    statistics = MaskStatistics(count, channels)
    weight = random.normal(size=(count, channels)) / channels
    seen = masks, masks * weight, random.integers(0, 2, (30, count)).astype(float)
    statistics.update(*seen)
    units = np.arange(30) // 2
    sums = ReplicateSums(count, channels, units, replicates=replicates, splits=3)
    sums.update(*seen, units)
    return Atlas.from_summary(
        names,
        statistics.compute(),
        confidence=confidence(sums, seen[2], units) if replicates else None,
        importance_drop=np.abs(weight) * level if drop else None,
        examples=None if examples is None else _examples(random, level, examples),
        source="made up",
    )


def _examples(random: np.random.Generator, level: np.ndarray, count: int) -> Examples:
    attributes = len(level)
    top = np.argsort(-level, axis=1)[:, : min(3, level.shape[1])]
    return Examples(
        names=tuple(f"{i:03d}.png" for i in range(count)),
        images=random.integers(0, 256, (count, 16, 16, 3), dtype=np.uint8),
        scores=random.random((count, attributes)),
        labels=random.choice([0.0, 1.0, np.nan], (count, attributes)),
        channels=top,
        masks=random.random((count, attributes, top.shape[1], 4, 4)).astype(np.float16),
        contributions=random.normal(size=(count, attributes, 4, 4)).astype(np.float32),
    )
