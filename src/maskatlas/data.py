"""A dataset of images with binary attributes, a batch of it, and the order in which it is seen."""

import hashlib
import operator
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import NamedTuple, Protocol, SupportsIndex, runtime_checkable

import numpy as np
import torch
from jaxtyping import Float, Int64, UInt8
from PIL import Image
from torch import Tensor

from maskatlas.images import image_size, open_image

UNKNOWN = 255
"""Value of a pixel of a region, or of a part mask, of which nothing is known."""


class Example(NamedTuple):
    """One image as it lies in the dataset, in its own frame."""

    image: Float[Tensor, "3 height width"]
    """RGB, 0 to 1."""
    labels: Float[Tensor, " attribute"]
    """1 present, 0 absent, NaN unknown."""
    name: str
    """What the dataset calls the image."""
    identity: int | None
    """Who or what it shows, where that is known."""
    regions: UInt8[Tensor, "attribute height width"] | None
    """Where each attribute is: 1 inside, 0 outside, 255 unknown."""


class Batch(NamedTuple):
    """Preprocessed images, as they are stored."""

    images: UInt8[Tensor, "batch 3 size size"]
    """RGB, channels last in memory."""
    labels: Float[Tensor, "batch attribute"]
    """1 present, 0 absent, NaN unknown."""
    indices: Int64[Tensor, " batch"]
    """Which images these are."""
    regions: UInt8[Tensor, "batch attribute size size"] | None = None
    """Where each attribute is, for those who asked: 1 inside, 0 outside, 255 unknown."""
    identities: Int64[Tensor, " batch"] | None = None
    """Who or what each image shows, for those who asked; -1 unknown."""


@runtime_checkable
class ImageStore(Protocol):
    """Where images lie: a folder, an unopened archive, a table, or a renderer.

    All methods may be called from several threads at once.
    """

    def image(self, index: int) -> Image.Image:
        """Decode one image to 8-bit RGB; raises ImageError."""

    def content(self, index: int) -> bytes:
        """What tells whether two images are the same; raises ImageError."""

    def key(self, index: int) -> bytes:
        """Changes when the content does; found without reading it; raises ImageError."""


class EncodedImages:
    """The part of an image store that is the same wherever the encoded bytes come from."""

    def content(self, index: int) -> bytes:
        """The encoded bytes of one image."""
        raise NotImplementedError

    def name(self, index: int) -> str:
        """What an error calls the image."""
        raise NotImplementedError

    def image(self, index: int) -> Image.Image:
        """Decode one image; raises ImageError."""
        return open_image(self.content(index), name=self.name(index))

    def size(self, index: int) -> tuple[int, int]:
        """Width and height of one image, without decoding it; raises ImageError."""
        return image_size(self.content(index), name=self.name(index))


@runtime_checkable
class RegionStore(Protocol):
    """Where the regions of attributes are known from."""

    def regions(self, index: int) -> UInt8[np.ndarray, "attribute height width"] | None:
        """Regions of one image in its frame: 1 inside, 0 outside, 255 unknown; raises DataError."""

    def select(self, attributes: Sequence[int]) -> "RegionStore":
        """The same for some of the attributes."""


@runtime_checkable
class PartStore(Protocol):
    """A store of regions that knows the parts by name that they are composed of."""

    def parts(self, index: int) -> Mapping[str, UInt8[np.ndarray, "height width"]] | None:
        """Parts of one image in its frame: 1 inside, 0 outside, 255 unknown; raises DataError."""


@dataclass(frozen=True, eq=False, kw_only=True)
class AttributeDataset:
    """Images, their labels, and what else is known of them, whatever layout they lie in.

    ``positions`` says where in the stores each image of the dataset is: a subset shares the stores
    of the whole.
    """

    attributes: tuple[str, ...]
    labels: Float[Tensor, "image attribute"]
    """1 present, 0 absent, NaN unknown."""
    names: tuple[str, ...]
    splits: tuple[str, ...]
    """The split of each image."""
    images: ImageStore
    source: str
    """The layout it was read from, such as ``celeba``."""
    identities: Int64[Tensor, " image"] | None = None
    """Who or what each image shows; -1 unknown."""
    regions_of: RegionStore | None = None
    positions: Int64[Tensor, " image"] = field(default=None)  # type: ignore[assignment]
    split: str | None = None
    """The split that was asked for; None is everything."""
    path: Path | None = None
    notes: tuple[str, ...] = ()
    """What is worth knowing about how it was read."""
    absent: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    """Names that have labels but no image, for each split."""
    unlabelled: tuple[str, ...] = ()
    """Images that have no label; they are not part of the dataset."""

    def __post_init__(self) -> None:
        if self.positions is None:
            object.__setattr__(self, "positions", torch.arange(len(self.names)))
        count = len(self.names)
        assert self.labels.shape == (count, len(self.attributes)), "labels [image attribute]"
        assert len(self.splits) == count
        assert len(self.positions) == count
        assert self.identities is None or len(self.identities) == count

    def __len__(self) -> int:
        return len(self.names)

    def __getitem__(self, index: SupportsIndex) -> Example:
        """One example; decodes its image and reads its regions.

        Raises:
            ImageError: The image cannot be decoded.
            IndexError: There is no such image.
        """
        index = self._index(index)
        identity = -1 if self.identities is None else int(self.identities[index])
        pixels = torch.from_numpy(np.array(self.read(index)))
        return Example(
            image=pixels.permute(2, 0, 1).float() / 255,
            labels=self.labels[index],
            name=self.names[index],
            identity=None if identity < 0 else identity,
            regions=self.regions(index),
        )

    @property
    def has_regions(self) -> bool:
        """Whether regions of attributes are known for this dataset."""
        return self.regions_of is not None

    def read(self, index: SupportsIndex) -> Image.Image:
        """Decode one image to 8-bit RGB in its own frame; raises ImageError."""
        return self.images.image(self._position(index))

    def content(self, index: SupportsIndex) -> bytes:
        """What tells whether two images are the same; raises ImageError."""
        return self.images.content(self._position(index))

    def content_key(self, index: SupportsIndex) -> bytes:
        """16 bytes that change when the image changes, found without reading it."""
        return hashlib.blake2b(self.images.key(self._position(index)), digest_size=16).digest()

    def regions(self, index: SupportsIndex) -> UInt8[Tensor, "attribute height width"] | None:
        """Regions of each attribute in the image's own frame: 1 inside, 0 outside, 255 unknown."""
        if self.regions_of is None:
            return None
        regions = self.regions_of.regions(self._position(index))
        return None if regions is None else torch.from_numpy(regions)

    def parts(self, index: SupportsIndex) -> Mapping[str, UInt8[Tensor, "height width"]]:
        """Parts of one image by name, as :meth:`regions`; none where the layout names no parts."""
        if not isinstance(self.regions_of, PartStore):
            return {}
        parts = self.regions_of.parts(self._position(index)) or {}
        return {name: torch.from_numpy(part) for name, part in parts.items()}

    def subset(self, indices: Sequence[int] | Int64[Tensor, " chosen"]) -> "AttributeDataset":
        """The images at these places, in this order, over the same files."""
        chosen = torch.as_tensor(indices, dtype=torch.int64)
        places = chosen.tolist()
        return replace(
            self,
            labels=self.labels[chosen],
            names=tuple(self.names[place] for place in places),
            splits=tuple(self.splits[place] for place in places),
            identities=None if self.identities is None else self.identities[chosen],
            positions=self.positions[chosen],
        )

    def _index(self, index: SupportsIndex) -> int:
        place = operator.index(index)
        if not -len(self) <= place < len(self):
            raise IndexError(f"image {place} of a dataset of {len(self)}")
        return place % len(self)

    def _position(self, index: SupportsIndex) -> int:
        return int(self.positions[self._index(index)])


def epoch_order(count: int, seed: int, epoch: int) -> Int64[Tensor, " image"]:
    """The order of `count` images in an epoch: a function of its arguments alone."""
    mixed = hashlib.blake2b(f"order {seed} {epoch}".encode(), digest_size=8).digest()
    generator = torch.Generator().manual_seed(int.from_bytes(mixed, "little", signed=True))
    return torch.randperm(count, generator=generator)
