"""The configuration of a run: frozen dataclasses, and the only place where a default stands.

A preset is overridden by a file and that by flags. The schema is closed: a key that is not a field
is an error, and nothing is ever imported by a name that a file gives.
"""

import dataclasses
import os
import tomllib
import types
import typing
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal, get_args, get_origin, get_type_hints

import tomlkit

from maskatlas.errors import ConfigError


@dataclass(frozen=True, slots=True)
class FacesConfig:
    """The rendered faces, used where ``data.path`` is ``faces``."""

    count: int = 4000
    """Number of faces over all splits."""
    size: int = 64
    """Side of the rendered square, in pixels."""
    seed: int = 0
    """Seed of the faces, apart from the seed of the training."""
    plant: tuple[str, str, float] | None = None
    """(attribute, source, probability): the attribute copies the source with that probability."""


@dataclass(frozen=True, slots=True)
class DataConfig:
    """Which images and labels."""

    path: str = "faces"
    """Folder of the dataset, or ``faces`` for the rendered ones."""
    exclude: str | None = None
    """File that lists images to leave out, one a line."""
    ignore: tuple[str, ...] = ()
    """Columns of a table that are no attributes."""
    faces: FacesConfig = field(default_factory=FacesConfig)


@dataclass(frozen=True, slots=True)
class ModelConfig:
    """What the network is made of; saved beside its weights."""

    extractor: Literal["compact", "dilated"] = "compact"
    """`compact`: local features for CPUs. `dilated`: small VGG stem and context module."""
    image_size: int = 64
    """Side of the square that the network sees, in pixels."""
    channels: int = 128
    """C, the number of feature channels and of masks of each attribute."""
    depth: int = 3
    """Number of 3x3 layers at the features' resolution (`compact` only)."""
    subnetworks: bool = True
    """One sub-network for each attribute: masks and a binary classifier."""
    multilabel: bool = True
    """The multi-label classifier, equation (4)."""
    reconstructor: bool = True
    """The reconstructor, equation (5)."""


@dataclass(frozen=True, slots=True)
class LossConfig:
    """The weights of equation (6)."""

    binary: float = 1.0
    """alpha, of the sub-networks' binary cross-entropies, summed over attributes."""
    multilabel: float = 1.0
    """beta, of the multi-label classifier's, summed over attributes."""
    reconstruction: float = 4.0
    """gamma, of the squared error of the reconstruction, a mean over channels and pixels."""
    mask_l1: float = 1e-5
    """lambda, of the masks: summed over attributes and channels, a mean over positions."""


@dataclass(frozen=True, slots=True)
class TrainConfig:
    """The training loop."""

    epochs: int = 12
    """Passes over the training images."""
    batch_size: int = 64
    """Images of one step, over all processes together."""
    learning_rate: float = 2e-3
    """Peak learning rate of AdamW, reached after the warm-up, then cosine to 0."""
    weight_decay: float = 0.05
    """Decoupled weight decay, on weights of two and more dimensions."""
    warmup: float = 0.05
    """Share of all steps over which the learning rate rises from 0."""
    clip: float = 5.0
    """Largest norm of the gradient."""
    ema: float = 0.999
    """Decay of the exponential moving average of the weights; 0 turns it off."""
    flip: bool = True
    """Mirror images at random."""
    shift: int = 3
    """Largest random shift, in pixels of the network's input."""
    splits: tuple[str, ...] = ("train",)
    """Splits to train on; ``train,val`` is the paper's protocol."""
    validation: str = "val"
    """Split that chooses the best checkpoint."""
    precision: Literal["auto", "bfloat16", "float32", "float64"] = "auto"
    """`auto`: bfloat16 products where the processor has them, else float32."""
    checkpoint_minutes: float = 5.0
    """Time between checkpoints within an epoch."""
    deterministic: bool = False
    """Ask PyTorch for deterministic algorithms where it has a choice (GPUs)."""


@dataclass(frozen=True, slots=True)
class Config:
    """Everything that decides what a run computes."""

    preset: str = "celeba-64"
    """The preset that this configuration started from."""
    seed: int = 0
    """Seed of initial weights, order and augmentation."""
    device: str = "auto"
    """`auto`, `cpu`, `cuda` or `cuda:N`."""
    limit: int | None = None
    """Use at most so many images of each split."""
    data: DataConfig = field(default_factory=DataConfig)
    model: ModelConfig = field(default_factory=ModelConfig)
    loss: LossConfig = field(default_factory=LossConfig)
    train: TrainConfig = field(default_factory=TrainConfig)


_PAPER_POSITIONS = 22 * 22  # positions of the paper preset's feature map: 89 px, pooled twice

PRESETS: dict[str, Config] = {
    "celeba-64": Config(preset="celeba-64"),
    "demo": Config(
        preset="demo",
        model=ModelConfig(channels=32),
        train=TrainConfig(epochs=20),
    ),
    "paper": Config(
        preset="paper",
        model=ModelConfig(extractor="dilated", image_size=89),
        loss=LossConfig(mask_l1=1e-5 * _PAPER_POSITIONS),
        train=TrainConfig(splits=("train", "val")),
    ),
}
"""The named configurations; `paper` converts lambda, which the paper sums over positions."""
