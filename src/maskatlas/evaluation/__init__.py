"""Is the network right, and do its explanations say the truth."""

from typing import Any

from maskatlas.cache import PackedImages
from maskatlas.data import AttributeDataset
from maskatlas.errors import DataError
from maskatlas.evaluation.explanations import ExplanationEvaluation, evaluate_explanations
from maskatlas.inference import labels_for, predict
from maskatlas.metrics import Metrics, attribute_metrics, or_none
from maskatlas.model import AttributeNetwork

__all__ = ["ExplanationEvaluation", "evaluate", "evaluate_explanations"]


def evaluate(
    network: AttributeNetwork,
    data: AttributeDataset,
    *,
    explanations: ExplanationEvaluation | None = None,
    progress: bool = False,
) -> dict[str, Any]:
    """Score a network on a dataset; attributes are matched by name.

    Args:
        network: In eval mode.
        data: Images with labels.
        explanations: What :func:`evaluate_explanations` said of the same network and data.
        progress: Show progress bars on a terminal.

    Returns:
        What ``evaluation.json`` holds: ``mean_accuracy`` of the head that answers, 0 to 1, then
        ``data``, ``split``, ``images``, ``subnetworks``, ``multilabel`` (each None, or ``mean``
        and ``attributes`` by name), ``explanations`` (None unless given). None where undefined.

    Raises:
        DataError: No image, or no attribute in common.
    """
    if not len(data):
        raise DataError(f"{data.path or data.source}: no image to evaluate on")
    images = PackedImages(data, network.preprocessing, progress=progress)
    labels = labels_for(network, images.data)
    predictions = predict(network, images, title="evaluating" if progress else None)
    heads = {
        "subnetworks": predictions.logits,
        "multilabel": predictions.multilabel_logits,
    }
    truth = labels.numpy()
    scores = {
        name: None if logits is None else attribute_metrics(logits.numpy(), truth)
        for name, logits in heads.items()
    }
    answers = scores["subnetworks"] or scores["multilabel"]
    assert answers is not None
    return {
        "mean_accuracy": or_none(answers.mean()["accuracy"]),
        "data": str(data.path or data.source),
        "split": data.split,
        "images": len(images),
        **{name: _section(metrics, network) for name, metrics in scores.items()},
        "explanations": None if explanations is None else explanations.to_json(),
    }


def _section(metrics: Metrics | None, network: AttributeNetwork) -> dict[str, Any] | None:
    if metrics is None:
        return None
    return {
        "mean": {name: or_none(value) for name, value in metrics.mean().items()},
        "attributes": metrics.rows(network.attributes),
    }
