"""Images that come with what some systems learn from beside labels: regions, identities."""

import zlib

import numpy as np
import torch
from jaxtyping import Int64, UInt8
from torch import Tensor

from maskatlas.cache import PackedImages
from maskatlas.data import UNKNOWN, AttributeDataset, Batch
from maskatlas.images import Preprocessing


class ImagesWithRegions(PackedImages):
    """Packed images whose batches hold the region of each attribute, in the images' geometry.

    A region is read, or rendered, when it is first asked for, and kept compressed.
    """

    def __init__(
        self, data: AttributeDataset, preprocessing: Preprocessing, *, progress: bool = False
    ) -> None:
        super().__init__(data, preprocessing, progress=progress)
        self._regions: dict[int, bytes] = {}

    def batch(self, indices: Int64[Tensor, " batch"]) -> Batch:
        """Gather images, labels and regions."""
        regions = np.stack([self._of(index) for index in indices.tolist()])
        return super().batch(indices)._replace(regions=torch.from_numpy(regions))

    def _of(self, index: int) -> UInt8[np.ndarray, "attribute size size"]:
        size = self.preprocessing.size
        shape = len(self.data.attributes), size, size
        if index not in self._regions:
            found = self.data.regions(index)
            regions = (
                np.full(shape, UNKNOWN, np.uint8)
                if found is None
                else np.stack([self.preprocessing.region(layer) for layer in found.numpy()])
            )
            self._regions[index] = zlib.compress(regions.tobytes(), 1)
        return np.frombuffer(zlib.decompress(self._regions[index]), np.uint8).reshape(shape)


class ImagesWithIdentities(PackedImages):
    """Packed images whose batches hold who each shows."""

    def batch(self, indices: Int64[Tensor, " batch"]) -> Batch:
        """Gather images, labels and identities."""
        identities = self.data.identities
        assert identities is not None, "asked for where they are known"
        return super().batch(indices)._replace(identities=identities[indices])
