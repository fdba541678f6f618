"""Maps that hit and maps that missed, kept to be shown: ``cases.safetensors`` in a run folder.

One file, written whole or not at all; its header holds the texts. Nothing is unpickled, and kinds
and shapes are compared before anything is read.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float, UInt8
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save

from maskatlas.errors import RunError
from maskatlas.files import write_atomically

FILE = "cases.safetensors"
"""Where in the run folder they lie."""
_FORMAT = "maskatlas cases 1"
_ARRAYS = {"images": ("U8", 4), "regions": ("U8", 3), "maps": ("F32", 3)}


@dataclass(frozen=True, eq=False)
class Case:
    """A map that hit or missed, with what it should have pointed at."""

    method: str
    attribute: str
    image_name: str
    hit: bool
    energy_ratio: float
    """How much of the map lies in the region, over what a uniform map has there."""
    image: UInt8[np.ndarray, "size size 3"]
    """RGB, as the network saw it."""
    region: UInt8[np.ndarray, "size size"]
    """1 inside, 0 outside, 255 unknown."""
    map: Float[np.ndarray, "size size"]

    def to_json(self) -> dict[str, Any]:
        """Return all but the arrays."""
        return {
            "method": self.method,
            "attribute": self.attribute,
            "image": self.image_name,
            "hit": self.hit,
            "energy_ratio": self.energy_ratio,
        }


@dataclass(frozen=True, eq=False)
class Sight:
    """What a map looks at where two regions are known, its attribute's own and another's."""

    image_name: str
    image: UInt8[np.ndarray, "size size 3"]
    """RGB, as the network saw it."""
    own: UInt8[np.ndarray, "size size"]
    """1 inside, 0 outside, 255 unknown."""
    other: UInt8[np.ndarray, "size size"]
    map: Float[np.ndarray, "size size"]


def save_cases(path: Path, cases: Sequence[Case]) -> None:
    """Write cases, at least one, all of one size.

    Raises:
        OSError: The file cannot be written, for example on a full disk; what stood there stays.
    """
    arrays = {
        "images": np.stack([case.image for case in cases]),
        "regions": np.stack([case.region for case in cases]),
        "maps": np.stack([case.map for case in cases]).astype(np.float32),
    }
    texts = json.dumps([case.to_json() for case in cases], allow_nan=False)
    write_atomically(path, save(arrays, {"format": _FORMAT, "cases": texts}))


def load_cases(path: Path) -> tuple[Case, ...]:
    """Read what :func:`save_cases` wrote.

    Raises:
        RunError: The file is damaged or another.
    """
    try:
        with safe_open(path, framework="np") as file:
            kinds = {
                name: (part.get_dtype(), len(part.get_shape()))
                for name, part in ((name, file.get_slice(name)) for name in file.keys())  # noqa: SIM118
            }
            metadata = file.metadata() or {}
            if kinds != _ARRAYS or metadata.get("format") != _FORMAT:
                raise _damaged(path, f"expected the format {_FORMAT!r}")
            arrays = {name: file.get_tensor(name) for name in _ARRAYS}
        texts = json.loads(metadata["cases"])
        return tuple(
            Case(
                method=str(text["method"]),
                attribute=str(text["attribute"]),
                image_name=str(text["image"]),
                hit=bool(text["hit"]),
                energy_ratio=float(text["energy_ratio"]),
                image=image,
                region=region,
                map=values,
            )
            for text, image, region, values in zip(texts, *_fitting(path, arrays), strict=True)
        )
    except (SafetensorError, OSError, ValueError, KeyError, TypeError) as error:
        raise _damaged(path, str(error)) from error


def _fitting(path: Path, arrays: dict[str, np.ndarray]) -> tuple[np.ndarray, ...]:
    """Return images, regions and maps, if they are of one size."""
    shape = arrays["regions"].shape
    if arrays["images"].shape != (*shape, 3) or arrays["maps"].shape != shape:
        raise _damaged(path, "images, regions and maps are not of one size")
    return arrays["images"], arrays["regions"], arrays["maps"]


def _damaged(path: Path, found: str) -> RunError:
    return RunError(
        f"{path}: {found}; run `maskatlas evaluate --explanations` to write it anew, or remove it"
    )
