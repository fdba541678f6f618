"""The majority: every image is given each attribute's commoner answer.

What any system must beat. The score of an attribute is the log-odds of its share among the known
training labels, so that it is positive where most have the attribute. It ranks nothing: AUROC 0.5.
"""

from jaxtyping import Float
from torch import Tensor

from maskatlas.cache import PackedImages
from maskatlas.comparison.system import Fitted, Job
from maskatlas.data import AttributeDataset
from maskatlas.tensorfile import load_tensors, save_tensors
from maskatlas.training_data import open_data


def log_odds(labels: Float[Tensor, "image attribute"]) -> Float[Tensor, " attribute"]:
    """Return the log-odds of each attribute's share, one positive and one negative added.

    Args:
        labels: 0, 1, or NaN where unknown; an unknown label counts nowhere.
    """
    positives = (labels == 1).sum(0).double()
    negatives = (labels == 0).sum(0).double()
    return ((positives + 1) / (negatives + 1)).log()


class Majority:
    """The system, for :mod:`maskatlas.comparison`."""

    name = "majority"
    title = "Majority of the training labels"

    def obstacle(self, data: AttributeDataset) -> str | None:
        """Return None: labels suffice."""

    def fit(self, job: Job) -> Fitted:
        """Count the training labels."""
        path = job.folder / "model.safetensors"
        if not path.exists():
            save_tensors(path, {"scores": log_odds(open_data(job.config).training.labels)}, {})
        scores = load_tensors(path)[0]["scores"]

        def score(images: PackedImages) -> Tensor:
            return scores.expand(len(images), -1)

        return Fitted(score, parameters=len(scores))
