"""Regions of attributes, composed of the parts that a mask distinguishes."""

import tomllib
from collections.abc import Mapping, Sequence
from pathlib import Path, PurePath
from typing import Any, NamedTuple, Protocol, runtime_checkable

import numpy as np
from jaxtyping import UInt8
from PIL import Image

from maskatlas.data import UNKNOWN, EncodedImages
from maskatlas.errors import DataError
from maskatlas.images import open_parts
from maskatlas.sources.listing import nearest
from maskatlas.sources.stores import list_images

PARTS = (
    *("skin", "nose", "eye_g", "l_eye", "r_eye", "l_brow", "r_brow", "l_ear", "r_ear", "mouth"),
    *("u_lip", "l_lip", "hair", "hat", "ear_r", "neck_l", "neck", "cloth"),
)
"""The parts of CelebAMask-HQ in the official order of merging, later over earlier; ids from 1."""

CELEBAMASK_PARTS: Mapping[int, str] = dict(enumerate(PARTS, 1))
"""Their names by id."""

_EYES, _BROWS, _EARS = ("l_eye", "r_eye"), ("l_brow", "r_brow"), ("l_ear", "r_ear", "ear_r")
_LIPS, _HAIR = ("u_lip", "l_lip"), ("hair",)

# Left and right are exchanged in some masks, so that no attribute looks at one of them alone.
# Necklaces mostly lie outside of the aligned frame and have no region.
_LOOKS_AT = {
    "Eyeglasses": ("eye_g", *_EYES),
    "Narrow_Eyes": _EYES,
    "Bushy_Eyebrows": _BROWS,
    "Arched_Eyebrows": _BROWS,
    "Big_Nose": ("nose",),
    "Pointy_Nose": ("nose",),
    "Smiling": ("mouth", *_LIPS),
    "Mouth_Slightly_Open": ("mouth", *_LIPS),
    "Wearing_Lipstick": _LIPS,
    "Big_Lips": _LIPS,
    "Wearing_Earrings": _EARS,
    "Wearing_Hat": ("hat",),
    "Bangs": _HAIR,
    "Black_Hair": _HAIR,
    "Blond_Hair": _HAIR,
    "Brown_Hair": _HAIR,
    "Gray_Hair": _HAIR,
    "Straight_Hair": _HAIR,
    "Wavy_Hair": _HAIR,
}

CELEBAMASK_ATTRIBUTES: Mapping[str, tuple[int, ...]] = {
    attribute: tuple(PARTS.index(part) + 1 for part in parts)
    for attribute, parts in _LOOKS_AT.items()
}
"""The parts, by their ids, at which an attribute of CelebA is seen."""


class PartTable(NamedTuple):
    """What the values of a mask mean."""

    attributes: Mapping[str, tuple[int, ...]]
    """The parts, by their ids, that each attribute looks at."""
    names: Mapping[int, str]
    """What parts are called, those that have a name."""


@runtime_checkable
class MaskStore(Protocol):
    """Where masks of parts lie."""

    def name(self, index: int) -> str:
        """What an error calls the mask."""

    def parts(self, index: int) -> UInt8[np.ndarray, "height width"] | None:
        """The part of each pixel of one image, 0 for none; None without a mask; ImageError."""


class MaskFiles:
    """One file for each image, ``<stem of the image>.png``, whose values are parts."""

    def __init__(self, folder: Path, images: Sequence[PurePath]) -> None:
        """Look the masks of these images up in a folder.

        Raises:
            DataError: One mask would belong to two images, or a link leaves the folder.
        """
        self.folder = folder
        found = list_images(folder)
        stems: dict[str, PurePath] = {}
        names: list[str | None] = []
        for image in images:
            mask = f"{image.stem}.png"
            if mask in found and stems.setdefault(mask, image) != image:
                raise DataError(
                    f"{folder / mask}: belongs to both {stems[mask]} and {image}. Give the images "
                    "different names."
                )
            names.append(mask if mask in found else None)
        self.names = tuple(names)

    def name(self, index: int) -> str:
        """The path of a mask."""
        return str(self.folder / (self.names[index] or ""))

    def parts(self, index: int) -> UInt8[np.ndarray, "height width"] | None:
        """The mask of one image, if it has one; raises ImageError."""
        name = self.names[index]
        return None if name is None else open_parts(self.folder / name)


class PartRegions:
    """Regions of attributes in the frame of each image, from its mask of parts."""

    def __init__(
        self,
        masks: MaskStore,
        images: EncodedImages,
        parts: Sequence[Sequence[int]],
        names: Mapping[int, str] | None = None,
    ) -> None:
        """Combine masks, the images that they belong to, and the parts of each attribute.

        Args:
            masks: The part of each pixel.
            images: In whose frame regions are given.
            parts: Ids of each attribute's parts.
            names: What parts are called, by id, those that have a name.
        """
        self.masks = masks
        self.images = images
        self.parts_of = tuple(tuple(ids) for ids in parts)
        self.names = dict(names or {})

    def regions(self, index: int) -> UInt8[np.ndarray, "attribute height width"] | None:
        """1 inside, 0 outside, 255 unknown, also for attributes that look at no part.

        Raises:
            DataError: The mask cannot be read, or has another shape than the image.
        """
        parts = self.masks.parts(index)
        if parts is None:
            return None
        parts = self._in_frame(parts, index)
        meaning = np.zeros((len(self.parts_of), 256), np.uint8)
        meaning[:, UNKNOWN] = UNKNOWN
        for attribute, ids in enumerate(self.parts_of):
            if ids:
                meaning[attribute, list(ids)] = 1
            else:
                meaning[attribute] = UNKNOWN
        regions: UInt8[np.ndarray, "attribute height width"] = meaning[:, parts]
        return regions

    def parts(self, index: int) -> dict[str, UInt8[np.ndarray, "height width"]] | None:
        """The parts that have a name: 1 inside, 0 outside, 255 unknown.

        Raises:
            DataError: As :meth:`regions`.
        """
        parts = self.masks.parts(index)
        if parts is None:
            return None
        parts = self._in_frame(parts, index)
        unknown = parts == UNKNOWN
        return {
            name: np.where(unknown, UNKNOWN, parts == part).astype(np.uint8)
            for part, name in self.names.items()
        }

    def select(self, attributes: Sequence[int]) -> "PartRegions":
        """The same for some of the attributes."""
        chosen = [self.parts_of[place] for place in attributes]
        return PartRegions(self.masks, self.images, chosen, self.names)

    def _in_frame(
        self, parts: UInt8[np.ndarray, "height width"], index: int
    ) -> UInt8[np.ndarray, "rows columns"]:
        """The mask as large as its image: a mask may be smaller or larger, but not stretched."""
        width, height = self.images.size(index)
        rows, columns = parts.shape
        if (rows, columns) == (height, width):
            return parts
        if abs(rows * width - columns * height) > max(width, height):
            raise DataError(
                f"{self.masks.name(index)}: is {columns} x {rows} pixels, but its image "
                f"{self.images.name(index)} is {width} x {height}. A mask must show the same frame."
            )
        return np.array(Image.fromarray(parts).resize((width, height), Image.Resampling.NEAREST))


def read_part_table(
    path: Path, attributes: Sequence[str], ignored: Sequence[str] = ()
) -> PartTable:
    """Read which attribute looks at which parts; an attribute that is not named looks at none.

    The file has a table ``[attributes]`` with lists of part ids (1 to 254) or of names of parts,
    and, for these, a table ``[parts]`` with the id of each name.

    Raises:
        DataError: It is no such file, or names what does not exist.
    """
    try:
        content = tomllib.loads(path.read_text("utf-8-sig"))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise DataError(f"{path}: cannot be read as TOML: {error}.") from error
    unknown = set(content) - {"attributes", "parts"}
    if unknown or not isinstance(content.get("attributes"), dict):
        raise DataError(
            f"{path}: expected the table [attributes], and perhaps [parts]; found "
            f"{', '.join(sorted(content)) or 'nothing'}. Write for example "
            "`[attributes]` and below it `Smiling = [10, 11, 12]`."
        )
    ids = content.get("parts", {})
    if not isinstance(ids, dict) or not all(_is_part(value) for value in ids.values()):
        raise DataError(f"{path}: [parts]: expected a number from 1 to 254 for each name.")
    parts: dict[str, tuple[int, ...]] = dict.fromkeys(attributes, ())
    for attribute, wanted in content["attributes"].items():
        if attribute in parts:
            parts[attribute] = _part_ids(path, attribute, wanted, ids)
        elif attribute not in ignored:
            hint = nearest(attribute, attributes)
            raise DataError(f"{path}: {attribute!r} is no attribute of the table.{hint}")
    return PartTable(parts, {part: name for name, part in ids.items()})


def _is_part(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 1 <= value < UNKNOWN


def _part_ids(path: Path, attribute: str, wanted: Any, ids: Mapping[str, int]) -> tuple[int, ...]:
    found: list[int] = []
    for part in wanted if isinstance(wanted, list) else [wanted]:
        value: Any = ids.get(part) if isinstance(part, str) else part
        if not _is_part(value):
            raise DataError(
                f"{path}: {attribute}: expected parts as numbers from 1 to 254 or as names in "
                f"[parts], found {part!r}."
            )
        found.append(value)
    return tuple(found)
