"""All that is told of one image: scores, channels, masks, and where the evidence is."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int, UInt8
from PIL import Image
from torch import Tensor

from maskatlas.errors import ConfigError
from maskatlas.explanations.activation import contribution_map
from maskatlas.explanations.methods import UNSIGNED, explain, explainer_of, explainers
from maskatlas.explanations.words import ChannelWords, SpokenAnswer, read_words
from maskatlas.model import AttributeNetwork


@dataclass(frozen=True, eq=False)
class ImageExplanation:
    """What the network says of one image, and why; arrays on the CPU."""

    name: str
    image: UInt8[np.ndarray, "size size 3"]
    """The image as the network saw it, RGB."""
    attributes: tuple[str, ...]
    """By score, the highest first."""
    logits: Float[np.ndarray, " attribute"]
    biases: Float[np.ndarray, " attribute"]
    """What each logit is without any contribution: the classifier's bias."""
    channels: Int[np.ndarray, "attribute top"]
    """Ids of the channels that contribute most, for or against, the strongest first; none of a
    network without sub-networks."""
    channel_contributions: Float[np.ndarray, "attribute top"]
    """What those channels add to the logit, over all positions."""
    masks: Float[np.ndarray, "attribute top height width"]
    """Masks of those channels, 0 to 1."""
    contributions: Float[np.ndarray, "attribute height width"] | None
    """What each position adds to the logit, over all channels; with the bias, it sums to it. None
    for a network that answers in a way of its own."""
    method: str
    """By which the evidence was mapped."""
    evidence: Float[np.ndarray, "attribute rows columns"]
    """Where the evidence is by that method; the contributions themselves, or as large as the
    image."""
    words: tuple[SpokenAnswer, ...] | None = None
    """The same channels in words, for each attribute; None where they have no names."""

    @property
    def signed(self) -> bool:
        """Whether the evidence speaks against attributes too."""
        return self.method not in UNSIGNED

    @property
    def scores(self) -> Float[np.ndarray, " attribute"]:
        """Probability of each attribute."""
        return torch.from_numpy(self.logits).sigmoid().numpy()

    def to_json(self) -> dict[str, Any]:
        """Return names and numbers, without the arrays of positions."""
        return {
            "image": self.name,
            "method": self.method,
            "attributes": {
                name: {
                    "score": float(self.scores[k]),
                    "logit": float(self.logits[k]),
                    "bias": float(self.biases[k]),
                    "channels": [
                        {"channel": int(channel), "contribution": float(contribution)}
                        for channel, contribution in zip(
                            self.channels[k], self.channel_contributions[k], strict=True
                        )
                    ],
                    "peak": self._peak(k),
                }
                | ({} if self.words is None else {"words": self.words[k].to_json()})
                for k, name in enumerate(self.attributes)
            },
        }

    def _peak(self, attribute: int) -> dict[str, float]:
        """Return where the evidence is highest: the centre of that position, 0 to 1."""
        positions = self.evidence[attribute]
        row, column = np.unravel_index(int(positions.argmax()), positions.shape)
        height, width = positions.shape
        return {
            "x": (float(column) + 0.5) / width,
            "y": (float(row) + 0.5) / height,
            "value": float(positions[row, column]),
        }


def explain_image(
    network: AttributeNetwork,
    image: Image.Image,
    name: str,
    *,
    attributes: Sequence[str] | None = None,
    top: int = 3,
    method: str = "contribution",
    words: ChannelWords | None = None,
) -> ImageExplanation:
    """Explain what the network says of one image.

    Args:
        network: In eval mode; without sub-networks there are maps, but no channels and no masks.
        image: Any that Pillow opens.
        name: What to call it.
        attributes: Names; None means all.
        top: How many channels of each attribute to show.
        method: Which map shows where the evidence is; one that :func:`maskatlas.explain` knows.
        words: What channels are called, of :func:`maskatlas.dissection.dissect`; to put them in
            words.

    Raises:
        ConfigError: An attribute or a method that is not known, no channel, words of another
            network, or of one without sub-networks.
        ImageError: The image cannot be brought to RGB.
    """
    if top < 1:
        raise ConfigError(f"top: expected at least 1 channel of each attribute, found {top}")
    if words is not None:
        check_speakable(network)
        if len(words.thresholds) != network.channels:
            raise ConfigError(
                f"words: expected names of this network's {network.channels} channels, found those "
                f"of {len(words.thresholds)}; name them again with dissect"
            )
    device = next(network.parameters()).device
    pixels = network.preprocess(image).to(device)
    names = [network.attributes[k] for k in network.attribute_indices(attributes)]
    explainer_of(network, method)
    with torch.no_grad():
        output = network(pixels[None])
        contributions = _contributions(network, output.features, names)
        channels, added, masks = _channels(network, output.features, names, top)
    evidence = contributions
    if method != "contribution" or evidence is None:
        evidence = explain(network, pixels[None], method, names)[0]
    rows = network.attribute_indices(names)
    logits = output.scores[0, rows]
    order = logits.argsort(descending=True, stable=True).cpu()
    spoken = None
    if words is not None:
        scores = dict(zip(network.attributes, output.scores[0].sigmoid().tolist(), strict=True))
        highest = _array(output.features[0].amax((1, 2)))
        spoken = tuple(
            read_words(
                words,
                names[k],
                dict(zip(channels[k].tolist(), added[k].tolist(), strict=True)),
                highest,
                scores,
            )
            for k in order.tolist()
        )
    return ImageExplanation(
        name=name,
        image=(pixels.permute(1, 2, 0) * 255).round().to(torch.uint8).cpu().numpy(),
        attributes=tuple(names[k] for k in order.tolist()),
        logits=_array(logits.cpu()[order]),
        biases=_array(_biases(network)[rows].cpu()[order]),
        channels=channels[order].numpy(),
        channel_contributions=_array(added[order]),
        masks=_array(masks[order]),
        contributions=None if contributions is None else _array(contributions.cpu()[order]),
        method=method,
        evidence=_array(evidence.cpu()[order]),
        words=spoken,
    )


def check_speakable(network: AttributeNetwork) -> None:
    """Check that channels contribute, so that answers can be put in their words.

    Raises:
        ConfigError: The network has no sub-networks.
    """
    if network.subnetworks is None:
        raise ConfigError(
            "words: they are of channels that contribute, which is known of sub-networks alone, "
            "and this network has none; train one with model.subnetworks = true"
        )


def _contributions(
    network: AttributeNetwork, features: Float[Tensor, "1 channel height width"], names: list[str]
) -> Float[Tensor, "attribute height width"] | None:
    if "contribution" not in explainers(network):
        return None
    return contribution_map(network, features, names)[0]


def _channels(
    network: AttributeNetwork,
    features: Float[Tensor, "1 channel height width"],
    names: list[str],
    top: int,
) -> tuple[
    Int[Tensor, "attribute top"],
    Float[Tensor, "attribute top"],
    Float[Tensor, "attribute top height width"],
]:
    """Return the strongest channels, what each adds, and its mask, on the CPU; all there are."""
    count = 0 if network.subnetworks is None else min(top, network.channels)
    shape = len(names), count
    channels = torch.zeros(shape, dtype=torch.int64)
    added = torch.zeros(shape, dtype=features.dtype)
    masks = torch.zeros(*shape, *features.shape[2:], dtype=features.dtype)
    for k, name in enumerate(names if count else ()):
        by_channel = network.contributions(features, [name])[0, 0].sum((1, 2))
        ids = by_channel.abs().argsort(descending=True, stable=True)[:count]
        channels[k], added[k] = ids.cpu(), by_channel[ids].cpu()
        masks[k] = network.masks(features, [name], ids.tolist())[0, 0].cpu()
    return channels, added, masks


def _biases(network: AttributeNetwork) -> Float[Tensor, " attribute"]:
    """Return those of the head that answers."""
    head = network.classifier if network.subnetworks is None else network.subnetworks
    assert head is not None, "a network answers through at least one of its heads"
    return head.bias.detach()


def _array(tensor: Tensor) -> np.ndarray:
    """Return it as NumPy has it, which knows no bfloat16."""
    return (tensor.float() if tensor.dtype == torch.bfloat16 else tensor).cpu().numpy()
