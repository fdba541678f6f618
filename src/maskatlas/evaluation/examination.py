"""What the judges of explanations are given, and what they give back."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol, runtime_checkable

import numpy as np
from jaxtyping import Bool, Float
from torch import Tensor

from maskatlas.cache import PackedImages
from maskatlas.model import AttributeNetwork


@dataclass(frozen=True, eq=False)
class Examination:
    """A network, the images and labels that its maps are judged on, and which maps."""

    network: AttributeNetwork
    """In eval mode."""
    images: PackedImages
    labels: Float[Tensor, "image attribute"]
    """0, 1, or NaN where unknown; in the network's order."""
    methods: tuple[str, ...]
    """Of :func:`maskatlas.explanations.explainers`; the first is the one of reference."""
    seed: int = 0
    progress: bool = False
    """Show progress bars on a terminal."""

    others: Mapping[str, AttributeNetwork] = field(default_factory=dict)
    """Networks of other seeds that this one is compared with, by name; in eval mode."""

    def judged(self) -> Bool[np.ndarray, " attribute"]:
        """Return which attributes are judged: those some image's label of which is given."""
        known: np.ndarray = (~self.labels.isnan()).any(0).numpy()
        return known


@runtime_checkable
class Judgement(Protocol):
    """What came out of one subject: a frozen record."""

    def to_json(self) -> Mapping[str, Any]:
        """Return it as ``evaluation.json`` has it."""
