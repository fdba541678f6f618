"""The rendered faces as a dataset."""

import difflib
from collections.abc import Sequence

import numpy as np
import torch
from jaxtyping import UInt8
from PIL import Image

from maskatlas.config import FacesConfig
from maskatlas.data import AttributeDataset
from maskatlas.errors import ConfigError, DataError
from maskatlas.sources.faces.parameters import (
    ATTRIBUTES,
    FaceParameters,
    Plant,
    draw_face,
    draw_labels,
)
from maskatlas.sources.faces.portrait import render_face, render_image
from maskatlas.sources.listing import SPLITS

RENDERER = 1
"""Version of the drawing; raised whenever a pixel changes, so that caches render anew."""

_TENTHS = (SPLITS[0],) * 8 + SPLITS[1:]
_LEAST_SIZE = 32  # below it, the smallest regions have no pixel of their own


def split_of_face(index: int) -> str:
    """The split of a face: of each ten in a row, eight train, one val, one test."""
    return _TENTHS[index % 10]


class RenderedImages:
    """An image store that renders face `index` whenever it is asked for."""

    def __init__(self, seed: int, size: int, plant: Plant | None) -> None:
        self.seed = seed
        self.size = size
        self.plant = plant

    def parameters(self, index: int) -> FaceParameters:
        """What the face is made of."""
        return draw_face(self.seed, index, self.plant)

    def image(self, index: int) -> Image.Image:
        """Render one face."""
        return Image.fromarray(render_image(self.parameters(index), self.size))

    def content(self, index: int) -> bytes:
        """The pixels of one face."""
        return render_image(self.parameters(index), self.size).tobytes()

    def key(self, index: int) -> bytes:
        """What the pixels are a function of."""
        return repr(("face", RENDERER, self.seed, index, self.size, self.plant)).encode()


class RenderedRegions:
    """The exact regions of rendered faces, as they are drawn."""

    def __init__(self, images: RenderedImages, rows: tuple[int, ...]) -> None:
        self.images = images
        self.rows = rows

    def regions(self, index: int) -> UInt8[np.ndarray, "attribute height width"]:
        """1 where the attribute is seen, or would be looked for if the face lacks it; else 0."""
        parameters = self.images.parameters(index)
        return render_face(parameters, self.images.size)[1][list(self.rows)]

    def select(self, attributes: Sequence[int]) -> "RenderedRegions":
        """The same for some of the attributes."""
        return RenderedRegions(self.images, tuple(self.rows[place] for place in attributes))


def open_faces(config: FacesConfig, split: str | None) -> AttributeDataset:
    """The rendered faces, each a function of the seed and its index alone.

    Nothing is rendered before it is asked for.

    Args:
        config: How many, how large, the seed, and a planted correlation.
        split: One of the splits, or None for all.

    Raises:
        ConfigError: The configuration asks for what cannot be drawn.
        DataError: The split has no face because there are too few.
    """
    _check(config)
    chosen = [i for i in range(config.count) if split is None or split_of_face(i) == split]
    if not chosen:
        raise DataError(
            f"faces: split {split} is empty: of {config.count} faces none is in it. Ask for at "
            "least 10."
        )
    labels = np.zeros((len(chosen), len(ATTRIBUTES)), np.float32)
    for row, index in enumerate(chosen):
        present = draw_labels(config.seed, index, config.plant)
        labels[row] = [name in present for name in ATTRIBUTES]
    images = RenderedImages(config.seed, config.size, config.plant)
    return AttributeDataset(
        attributes=ATTRIBUTES,
        labels=torch.from_numpy(labels),
        names=tuple(f"face-{index:06d}" for index in chosen),
        splits=tuple(split_of_face(index) for index in chosen),
        images=images,
        source="faces",
        regions_of=RenderedRegions(images, tuple(range(len(ATTRIBUTES)))),
        positions=torch.tensor(chosen),
        split=split,
        notes=_notes(config.plant),
    )


def _notes(plant: Plant | None) -> tuple[str, ...]:
    if plant is None:
        return ()
    attribute, source, probability = plant
    return (f"Planted: {attribute} copies {source} with probability {probability:g}.",)


def _check(config: FacesConfig) -> None:
    if config.size < _LEAST_SIZE:
        raise ConfigError(
            f"faces.size: expected at least {_LEAST_SIZE} pixels, found {config.size}. "
            "Smaller faces lose some of their attributes."
        )
    if config.plant is None:
        return
    for name in config.plant[:2]:
        if name not in ATTRIBUTES:
            near = [known for known in ATTRIBUTES if name.lower() in known.lower()]
            near = near[:3] or difflib.get_close_matches(name, ATTRIBUTES, n=3, cutoff=0.4)
            hint = f"did you mean {' or '.join(near)}?" if near else "no name is near."
            raise ConfigError(
                f"faces.plant: expected an attribute of the faces, found {name!r}: {hint} "
                f"The attributes are {', '.join(ATTRIBUTES)}."
            )
    if config.plant[0] == config.plant[1]:
        raise ConfigError(
            f"faces.plant: expected two attributes, found {config.plant[0]} twice. "
            "An attribute cannot copy itself."
        )
