"""Linear support vector machines, one for each attribute, by scikit-learn."""

from typing import NamedTuple

import numpy as np
from jaxtyping import Float

STRENGTH = 20.0
"""C times the number of images: how much the images weigh against the norm of the weights."""


class LinearSVMs(NamedTuple):
    """K of them, on features as they come."""

    weight: Float[np.ndarray, "attribute feature"]
    bias: Float[np.ndarray, " attribute"]

    def scores(
        self, features: Float[np.ndarray, "image feature"]
    ) -> Float[np.ndarray, "image attribute"]:
        """Return the signed distances, in margins."""
        scores: np.ndarray = features @ self.weight.T + self.bias
        return scores


def fit_svms(
    features: Float[np.ndarray, "image feature"], labels: Float[np.ndarray, "image attribute"]
) -> LinearSVMs:
    """Fit them with squared hinge loss, on features of mean 0 and deviation 1.

    An attribute whose known labels are all alike gets that answer: 1 or -1; 0 where none is known.

    Args:
        features: Of the training images.
        labels: 0, 1, or NaN where unknown; such an image is left out for that attribute.
    """
    from sklearn.svm import LinearSVC

    mean, deviation = features.mean(0), features.std(0)
    deviation = np.where(deviation > 0, deviation, 1.0)
    standard = (features - mean) / deviation
    weight = np.zeros((labels.shape[1], features.shape[1]))
    bias = np.zeros(labels.shape[1])
    for k, column in enumerate(labels.T):
        known = ~np.isnan(column)
        truths = column[known] == 1
        if truths.all() or not truths.any():
            bias[k] = np.sign(truths.mean() - 0.5) if known.any() else 0.0
            continue
        machine = LinearSVC(C=STRENGTH / len(truths), dual=False)
        machine.fit(standard[known], truths)
        weight[k] = machine.coef_[0] / deviation
        bias[k] = float(machine.intercept_[0]) - float(weight[k] @ mean)
    return LinearSVMs(weight, bias)
