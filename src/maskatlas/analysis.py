"""The atlas: what the masks of a network say about its channels and attributes, as pure functions.

An :class:`Atlas` is a frozen record. It is made by one pass over a dataset, and from then on it can
be saved, loaded, compared and drawn without the network that it describes.
"""

from dataclasses import dataclass, fields
from pathlib import Path

import numpy as np
from jaxtyping import Float, Int, UInt8

from maskatlas import atlas_files


@dataclass(frozen=True, eq=False)
class Examples:
    """A few images with their scores, masks and contributions, for the pictures of the atlas."""

    names: tuple[str, ...]
    """Names of the images."""
    images: UInt8[np.ndarray, "example size size 3"]
    """The images as the network saw them, RGB."""
    scores: Float[np.ndarray, "example attribute"]
    """Probability of each attribute."""
    labels: Float[np.ndarray, "example attribute"]
    """Labels: 0, 1, or NaN where unknown."""
    channels: Int[np.ndarray, "attribute top"]
    """Ids of each attribute's most important channels, best first."""
    masks: Float[np.ndarray, "example attribute top height width"]
    """Masks of those channels, 0 to 1."""
    contributions: Float[np.ndarray, "example attribute height width"]
    """Contributions to the logit, signed, summed over all channels; in logits per position."""


@dataclass(frozen=True, eq=False)
class Atlas:
    """Which channel serves which attribute, where it looks, and what belongs together."""

    attributes: tuple[str, ...]
    """Names of the K attributes: data, never to be trusted as file names or markup."""
    images: int
    """Number of images that the means run over."""
    mask_mean: Float[np.ndarray, "attribute channel"]
    """Mean of each mask over images and positions (figure 1)."""
    mask_deviation: Float[np.ndarray, "attribute channel"]
    """Standard deviation over images of each mask's mean over positions."""
    contribution_mean: Float[np.ndarray, "attribute channel"]
    """Mean contribution to the logit, signed."""
    contribution_magnitude: Float[np.ndarray, "attribute channel"]
    """Mean absolute contribution to the logit."""
    contribution_deviation: Float[np.ndarray, "attribute channel"]
    """Standard deviation over images of the contribution to the logit."""
    channel_correlation: Float[np.ndarray, "channel channel"]
    """Correlation of channels, over all pairs of an image and an attribute (figure 4)."""
    channel_correlation_centred: Float[np.ndarray, "channel channel"]
    """The same after each pair's mean over channels is taken away."""
    attribute_correlation: Float[np.ndarray, "attribute attribute"]
    """Correlation of attributes, over all pairs of an image and a channel (table 2)."""
    attribute_correlation_centred: Float[np.ndarray, "attribute attribute"]
    """The same after each pair's mean over attributes is taken away."""
    label_correlation: Float[np.ndarray, "attribute attribute"]
    """Correlation of the labels, over the images where both are known."""
    importance_drop: Float[np.ndarray, "attribute channel"] | None = None
    """Drop in AUROC when the channel is set to its mean; None where it was not measured."""
    examples: Examples | None = None
    """A few images to draw, or None."""
    source: str = ""
    """In words, which images these are, such as ``celeba, val``."""

    @property
    def channels(self) -> int:
        """C, the number of channels."""
        return int(self.mask_mean.shape[1])

    def save(self, directory: Path | str) -> None:
        """Write ``atlas.safetensors``, ``atlas.json`` and the CSV tables, each in one move.

        Args:
            directory: Folder to write into; made if it is not there.
        """
        atlas_files.write(Path(directory), self._description(), self._tensors(), tables={})

    def _description(self) -> atlas_files.Description:
        return atlas_files.Description(
            attributes=self.attributes,
            channels=self.channels,
            images=self.images,
            source=self.source,
            examples=None if self.examples is None else self.examples.names,
        )

    def _tensors(self) -> dict[str, np.ndarray]:
        tensors = _arrays(self)
        if self.examples is not None:
            tensors |= {f"examples.{name}": a for name, a in _arrays(self.examples).items()}
        return tensors

    @classmethod
    def load(cls, directory: Path | str) -> "Atlas":
        """Read what :meth:`save` wrote.

        Raises:
            RunError: The folder holds no atlas, or one that is damaged or does not fit together.
        """
        description, tensors = atlas_files.read(Path(directory))
        inner = {n.removeprefix("examples."): t for n, t in tensors.items() if "." in n}
        names = description.examples
        return cls(
            attributes=description.attributes,
            images=description.images,
            source=description.source,
            examples=None if names is None else Examples(names=names, **inner),
            **{name: tensor for name, tensor in tensors.items() if "." not in name},
        )


def _arrays(record: Atlas | Examples) -> dict[str, np.ndarray]:
    """Return the fields of a record that are arrays."""
    values = {field.name: getattr(record, field.name) for field in fields(record)}
    return {name: value for name, value in values.items() if isinstance(value, np.ndarray)}
