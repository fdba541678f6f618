"""Maps from a network: where in the image is what speaks for an attribute, and against it."""

from maskatlas.explanations.activation import contribution_map
from maskatlas.explanations.methods import (
    FLOORS,
    METHODS,
    SLOW,
    Explainable,
    Explainer,
    caveat,
    explain,
    explainer_of,
    explainers,
)
from maskatlas.explanations.photo import ImageExplanation, check_speakable, explain_image

__all__ = [
    "FLOORS",
    "METHODS",
    "SLOW",
    "Explainable",
    "Explainer",
    "ImageExplanation",
    "caveat",
    "check_speakable",
    "contribution_map",
    "explain",
    "explain_image",
    "explainer_of",
    "explainers",
]
