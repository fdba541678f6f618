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
from maskatlas.explanations.methods import UNSIGNED, explain
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
    """Ids of the channels that contribute most, for or against, the strongest first."""
    channel_contributions: Float[np.ndarray, "attribute top"]
    """What those channels add to the logit, over all positions."""
    masks: Float[np.ndarray, "attribute top height width"]
    """Masks of those channels, 0 to 1."""
    contributions: Float[np.ndarray, "attribute height width"]
    """What each position adds to the logit, over all channels; with the bias, it sums to it."""
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
        network: In eval mode, with sub-networks.
        image: Any that Pillow opens.
        name: What to call it.
        attributes: Names; None means all.
        top: How many channels of each attribute to show.
        method: Which map shows where the evidence is; one that :func:`maskatlas.explain` knows.
        words: What channels are called, of :func:`maskatlas.dissection.dissect`; to put them in
            words.

    Raises:
        ConfigError: An attribute or a method that is not known, a network without sub-networks, no
            channel, or words of another network.
        ImageError: The image cannot be brought to RGB.
    """
    if top < 1:
        raise ConfigError(f"top: expected at least 1 channel of each attribute, found {top}")
    if words is not None and len(words.thresholds) != network.channels:
        raise ConfigError(
            f"words: expected names of this network's {network.channels} channels, found those of "
            f"{len(words.thresholds)}; name them again with dissect"
        )
    device = next(network.parameters()).device
    pixels = network.preprocess(image).to(device)
    names = [network.attributes[k] for k in network.attribute_indices(attributes)]
    top = min(top, network.channels)
    with torch.no_grad():
        output = network(pixels[None])
        rows = [network.attributes.index(n) for n in names]
        parts = [network.contributions(output.features, [n])[0, 0] for n in names]
        by_channel = torch.stack([part.sum((1, 2)) for part in parts])
        channels = by_channel.abs().argsort(dim=1, descending=True, stable=True)[:, :top]
        masks = [
            network.masks(output.features, [n], ids)[0, 0]
            for n, ids in zip(names, channels.tolist(), strict=True)
        ]
    assert network.subnetworks is not None
    assert output.logits is not None
    contributions = torch.stack([part.sum(0) for part in parts])
    evidence = contributions
    if method != "contribution":
        evidence = explain(network, pixels[None], method, names)[0]
    logits = output.logits[0, rows]
    order = logits.argsort(descending=True, stable=True).cpu()
    added = by_channel.gather(1, channels).cpu()
    spoken = None
    if words is not None:
        scores = dict(zip(network.attributes, output.logits[0].sigmoid().tolist(), strict=True))
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
        biases=_array(network.subnetworks.bias.detach()[rows].cpu()[order]),
        channels=channels.cpu()[order].numpy(),
        channel_contributions=_array(added[order]),
        masks=_array(torch.stack(masks).cpu()[order]),
        contributions=_array(contributions.cpu()[order]),
        method=method,
        evidence=_array(evidence.cpu()[order]),
        words=spoken,
    )


def _array(tensor: Tensor) -> np.ndarray:
    """Return it as NumPy has it, which knows no bfloat16."""
    return (tensor.float() if tensor.dtype == torch.bfloat16 else tensor).cpu().numpy()
