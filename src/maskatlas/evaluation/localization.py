"""Where a map points, against regions that are known."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, UInt8
from torch import Tensor
from tqdm import tqdm

from maskatlas.cache import PackedImages
from maskatlas.data import UNKNOWN
from maskatlas.explanations import explain
from maskatlas.images import Preprocessing
from maskatlas.metrics import mean_defined
from maskatlas.model import AttributeNetwork

TOLERANCE = 15 / 178
"""Of the image's side: 15 pixels in an image of CelebA, 178 pixels wide."""


@dataclass(frozen=True)
class PointingGame:
    """How often the highest point of a map lies in the region that it should point at."""

    method: str
    tolerance_pixels: float
    """A point so far from the region, at the network's resolution, still hits."""
    attributes: tuple[str, ...]
    hits: tuple[int, ...]
    images: tuple[int, ...]
    """Images that have the attribute, and a known region for it."""

    @property
    def accuracy(self) -> Float[np.ndarray, " attribute"]:
        """Hits over images, NaN for an attribute without any."""
        pairs = zip(self.hits, self.images, strict=True)
        return np.array([hits / images if images else np.nan for hits, images in pairs])

    @property
    def mean(self) -> float:
        """Mean over the attributes that were played, NaN if none was."""
        return mean_defined(self.accuracy)

    def to_json(self) -> dict[str, Any]:
        """Return the game as ``evaluation.json`` has it."""
        rows = zip(self.attributes, self.hits, self.images, self.accuracy.tolist(), strict=True)
        return {
            "method": self.method,
            "tolerance_pixels": self.tolerance_pixels,
            "mean": self.mean if any(self.images) else None,
            "attributes": {
                name: {"hits": hits, "images": images, "accuracy": accuracy}
                for name, hits, images, accuracy in rows
                if images
            },
        }


def pointing_game(
    network: AttributeNetwork,
    images: PackedImages,
    labels: Float[Tensor, "image attribute"],
    *,
    method: str = "contribution",
    progress: bool = False,
) -> PointingGame:
    """Play the pointing game (Zhang et al. 2018) on all images that have an attribute.

    The highest point of the map hits if it lies within the tolerance of the attribute's region. A
    map without a highest point, constant as it is, misses. A miss on a pixel of which nothing is
    known does not count, and neither does an image whose region is unknown or empty.

    Args:
        network: In eval mode.
        images: The dataset, preprocessed; its data has regions.
        labels: 0, 1, or NaN where unknown; in the network's order.
        method: One of :data:`maskatlas.explanations.METHODS`.
        progress: Show a progress bar on a terminal.
    """
    tolerance = TOLERANCE * network.config.image_size
    played = np.zeros((2, len(network.attributes)), int)
    device = next(network.parameters()).device
    bar = tqdm(range(len(images)), desc="pointing", disable=None if progress else True, leave=False)
    for index in bar:
        present = torch.nonzero(labels[index] == 1).flatten().tolist()
        regions = _regions(images, index, [network.attributes[k] for k in present])
        if regions is None or not present:
            continue
        pixels = images.batch(torch.tensor([index])).images.to(device, torch.float32) / 255
        names = [network.attributes[k] for k in present]
        maps = explain(network, pixels, method, names)[0].cpu().numpy()
        for k, values, region in zip(present, maps, regions, strict=True):
            outcome = points_into(values, region, tolerance)
            if outcome is not None:
                played[:, k] += outcome, 1
    return PointingGame(
        method=method,
        tolerance_pixels=tolerance,
        attributes=network.attributes,
        hits=tuple(played[0].tolist()),
        images=tuple(played[1].tolist()),
    )


def points_into(
    values: Float[np.ndarray, "height width"],
    region: UInt8[np.ndarray, "height width"],
    tolerance: float,
) -> bool | None:
    """Return whether the highest point lies within the tolerance of the region.

    Args:
        values: The map.
        region: 1 inside, 0 outside, 255 unknown.
        tolerance: In pixels, between centres.

    Returns:
        None if that cannot be said: no pixel is known to be inside, or the point misses on a pixel
        of which nothing is known.
    """
    inside = np.argwhere(region == 1)
    if not len(inside):
        return None
    if values.max() == values.min():
        return False
    point = np.array(np.unravel_index(values.argmax(), values.shape))
    if (np.square(inside - point).sum(axis=1) <= tolerance**2).any():
        return True
    return None if region[tuple(point)] == UNKNOWN else False


def _regions(
    images: PackedImages, index: int, names: Sequence[str]
) -> UInt8[np.ndarray, "attribute size size"] | None:
    """Return the regions of the named attributes as the network would see them, 255 unknown."""
    regions = images.data.regions(index)
    if regions is None:
        return None
    known = images.data.attributes
    preprocessing: Preprocessing = images.preprocessing
    size = preprocessing.size
    found = [
        preprocessing.region(regions[known.index(name)].numpy())
        if name in known
        else np.full((size, size), UNKNOWN, np.uint8)
        for name in names
    ]
    return np.stack(found) if found else None
