"""Is the network right, and do its explanations point at what they speak of."""

from typing import Any

from maskatlas.cache import PackedImages
from maskatlas.data import AttributeDataset
from maskatlas.errors import DataError
from maskatlas.evaluation.localization import pointing_game
from maskatlas.inference import labels_for, predict
from maskatlas.metrics import Metrics, attribute_metrics, or_none
from maskatlas.model import AttributeNetwork

__all__ = ["evaluate", "pointing_game"]


def evaluate(
    network: AttributeNetwork,
    data: AttributeDataset,
    *,
    explanations: bool = False,
    progress: bool = False,
) -> dict[str, Any]:
    """Score a network on a dataset; attributes are matched by name.

    Args:
        network: In eval mode.
        data: Images with labels; with regions if explanations are judged.
        explanations: Whether to play the pointing game with the network's maps.
        progress: Show progress bars on a terminal.

    Returns:
        What ``evaluation.json`` holds: ``mean_accuracy`` of the head that answers, 0 to 1, then
        ``data``, ``split``, ``images``, ``subnetworks``, ``multilabel`` (each None, or ``mean``
        and ``attributes`` by name), ``explanations`` (None unless asked for). None where undefined.

    Raises:
        DataError: No image, no attribute in common, or no regions where they are needed.
    """
    if not len(data):
        raise DataError(f"{data.path or data.source}: no image to evaluate on")
    if explanations and not data.has_regions:
        raise DataError(
            f"{data.path or data.source}: explanations are judged against regions, and this data "
            "has none; see docs/data.md for how to add masks/, or leave --explanations out"
        )
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
        "explanations": (
            {"pointing": pointing_game(network, images, labels, progress=progress).to_json()}
            if explanations
            else None
        ),
    }


def _section(metrics: Metrics | None, network: AttributeNetwork) -> dict[str, Any] | None:
    if metrics is None:
        return None
    return {
        "mean": {name: or_none(value) for name, value in metrics.mean().items()},
        "attributes": metrics.rows(network.attributes),
    }
