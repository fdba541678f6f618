"""The configuration of a run: frozen dataclasses, and the only place where a default stands.

A preset is overridden by a file and that by flags. The schema is closed: a key that is not a field
is an error, and nothing is ever imported by a name that a file gives.
"""

import re
import tomllib
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Literal

import tyro

from maskatlas.errors import ConfigError
from maskatlas.schema import Check, Section
from maskatlas.schema import from_mapping as from_mapping
from maskatlas.schema import to_mapping as to_mapping

Positive = Annotated[int, Check("a whole number of 1 or more", lambda n: n >= 1)]
Natural = Annotated[int, Check("a whole number of 0 or more", lambda n: n >= 0)]
Seed = Annotated[int, Check("a whole number from 0 to 2^63 - 1", lambda n: 0 <= n < 2**63)]
Layers = Annotated[int, Check("a whole number from 0 to 256", lambda n: 0 <= n <= 256)]
Channels = Annotated[int, Check("a whole number from 1 to 65536", lambda n: 1 <= n <= 65536)]
Rank = Annotated[int, Check("a whole number from 0 to 65536", lambda n: 0 <= n <= 65536)]
Pixels = Annotated[int, Check("a whole number of pixels from 1 to 8192", lambda n: 1 <= n <= 8192)]
Weight = Annotated[float, Check("a finite number of 0 or more", lambda x: x >= 0)]
Rate = Annotated[float, Check("a finite number above 0", lambda x: x > 0)]
Share = Annotated[float, Check("a number from 0 to 1", lambda x: 0 <= x <= 1)]
BelowOne = Annotated[float, Check("a number of at least 0 and below 1", lambda x: 0 <= x < 1)]
Text = Annotated[
    str,
    # A file name that is not valid Unicode could not be written to the run's configuration.
    Check(
        "a text that is not empty, in valid Unicode",
        lambda s: s.encode(errors="ignore").decode() == s != "",
    ),
]
Splits = Annotated[
    tuple[Text, ...],
    Check("one split or more, each named once", lambda s: 0 < len(s) == len(set(s))),
]
Device = Annotated[
    str, Check("auto, cpu, cuda or cuda:N", re.compile(r"auto|cpu|cuda(:\d{1,3})?").fullmatch)
]


@dataclass(frozen=True, slots=True)
class FacesConfig(Section):
    """The rendered faces, used where ``data.path`` is ``faces``."""

    count: Positive = 4000
    """Number of faces over all splits."""
    size: Pixels = 64
    """Side of the rendered square, in pixels."""
    seed: Seed = 0
    """Seed of the faces, apart from the seed of the training."""
    plant: tuple[Text, Text, Share] | None = None
    """(attribute, source, probability): the attribute copies the source with that probability."""


@dataclass(frozen=True, slots=True)
class DataConfig(Section):
    """Which images and labels."""

    path: Annotated[Text, tyro.conf.arg(aliases=["--data"])] = "faces"
    """Folder of the dataset, or ``faces`` for the rendered ones."""
    exclude: Text | None = None
    """File that lists images to leave out, one a line."""
    ignore: tuple[Text, ...] = ()
    """Columns of a table that are no attributes."""
    faces: FacesConfig = field(default_factory=FacesConfig)


@dataclass(frozen=True, slots=True)
class ModelConfig(Section):
    """What the network is made of; saved beside its weights."""

    extractor: Literal["compact", "dilated"] = "compact"
    """`compact`: local features for CPUs. `dilated`: small VGG stem and context module."""
    image_size: Pixels = 64
    """Side of the square that the network sees, in pixels."""
    channels: Channels = 128
    """C, the number of feature channels and of masks of each attribute."""
    depth: Layers = 3
    """Number of 3x3 layers at the features' resolution (`compact` only)."""
    subnetworks: bool = True
    """One sub-network for each attribute: masks and a binary classifier."""
    multilabel: bool = True
    """The multi-label classifier, equation (4)."""
    reconstructor: bool = True
    """The reconstructor, equation (5)."""
    mask_rank: Rank = 0
    """Masks are computed from so many features, shared by all attributes; 0: from C of them."""
    mask_context: bool = False
    """These features see context: dilated layers on top of f. Else f itself, or linear in f."""
    mask_offset: Weight = 1.0
    """Added to the masks: 1, as in the paper, or 0, so that a mask can switch a feature off."""

    def __post_init__(self) -> None:
        Section.__post_init__(self)
        if not (self.subnetworks or self.multilabel):
            raise ConfigError("expected subnetworks or multilabel to be true, found both false")


@dataclass(frozen=True, slots=True)
class LossConfig(Section):
    """The weights of equation (6)."""

    binary: Weight = 1.0
    """alpha, of the sub-networks' binary cross-entropies, summed over attributes."""
    multilabel: Weight = 1.0
    """beta, of the multi-label classifier's, summed over attributes."""
    reconstruction: Weight = 4.0
    """gamma, of the squared error of the reconstruction, a mean over channels and pixels."""
    mask_l1: Weight = 1e-5
    """lambda, of the masks: summed over attributes and channels, a mean over positions."""


@dataclass(frozen=True, slots=True)
class TrainConfig(Section):
    """The training loop."""

    epochs: Rate = 10.0
    """Passes over the training images; the last may be a part of one."""
    batch_size: Positive = 64
    """Images of one step, over all processes together."""
    learning_rate: Rate = 2e-3
    """Peak learning rate of AdamW, reached after the warm-up, then cosine to 0."""
    weight_decay: Weight = 0.05
    """Decoupled weight decay, on weights of two and more dimensions."""
    warmup: Share = 0.05
    """Share of all steps over which the learning rate rises from 0."""
    pretraining: BelowOne = 0.0
    """Share of all steps, below 1, in which extractor and multi-label classifier learn alone; then
    sub-networks, beginning as that classifier, and reconstructor join. Until then its weight is
    alpha + beta. A network that has not both heads, or a beta of 0, has no pretraining."""
    joining_rate: Rate = 1.0
    """Learning rate of what joins after pretraining, as a multiple of `learning_rate`."""
    clip: Rate = 5.0
    """Largest norm of the gradient."""
    ema: BelowOne = 0.999
    """Decay of the exponential moving average of the weights; 0 turns it off."""
    flip: bool = True
    """Mirror images at random."""
    shift: Natural = 3
    """Largest random shift, in pixels of the network's input."""
    splits: Splits = ("train",)
    """Splits to train on; ``train,val`` is the paper's protocol."""
    validation: Text = "val"
    """Split that chooses the best checkpoint."""
    precision: Literal["auto", "bfloat16", "float32", "float64"] = "auto"
    """`auto`: bfloat16 products where the processor has them, else float32."""
    checkpoint_minutes: Weight = 5.0
    """Time between checkpoints within an epoch."""
    deterministic: bool = False
    """Ask PyTorch for deterministic algorithms where it has a choice (GPUs)."""


Preset = Literal["celeba-64", "demo", "paper"]


@dataclass(frozen=True, slots=True)
class Config(Section):
    """Everything that decides what a run computes."""

    preset: Preset = "celeba-64"
    """The preset that this configuration started from."""
    seed: Seed = 0
    """Seed of initial weights, order and augmentation."""
    device: Device = "auto"
    """`auto`, `cpu`, `cuda` or `cuda:N`."""
    limit: Positive | None = None
    """Use at most so many images of each split."""
    data: DataConfig = field(default_factory=DataConfig)
    model: ModelConfig = field(default_factory=ModelConfig)
    loss: LossConfig = field(default_factory=LossConfig)
    train: TrainConfig = field(default_factory=TrainConfig)


_PAPER_POSITIONS = 22 * 22  # positions of the paper preset's feature map: 89 px, pooled twice

PRESETS: dict[str, Config] = {
    "celeba-64": Config(
        preset="celeba-64",
        model=ModelConfig(mask_rank=32, mask_context=True),
        loss=LossConfig(multilabel=0.1),
        train=TrainConfig(epochs=20.0, pretraining=0.25, joining_rate=2.0),
    ),
    "demo": Config(
        preset="demo",
        model=ModelConfig(channels=64, depth=2),
        loss=LossConfig(multilabel=0.1, mask_l1=3e-4),
        train=TrainConfig(
            epochs=20.0,
            batch_size=32,
            learning_rate=4e-3,
            ema=0.99,
            pretraining=0.5,
            joining_rate=2.0,
        ),
    ),
    "paper": Config(
        preset="paper",
        model=ModelConfig(extractor="dilated", image_size=89),
        loss=LossConfig(mask_l1=1e-5 * _PAPER_POSITIONS),
        train=TrainConfig(splits=("train", "val")),
    ),
}
"""The named configurations; `paper` converts lambda, which the paper sums over positions."""


def load_run(path: Path) -> Config:
    """Reads what a run was started with, as :func:`dump_toml` wrote it.

    A setting that is younger than the run has its default, whatever the run's preset is now.

    Raises:
        ConfigError: As for :func:`load_toml`.
    """
    return from_mapping(Config, _mapping(path), str(path))


def load_toml(path: Path, base: Config) -> Config:
    """Reads a configuration file.

    Args:
        path: The file, in TOML.
        base: Gives the values that the file does not; if the file names a `preset`, that does.

    Raises:
        ConfigError: The file cannot be read, is not TOML, or does not fit the schema.
    """
    mapping = _mapping(path)
    named = mapping.get("preset")
    if isinstance(named, str):
        base = PRESETS.get(named, base)
    return from_mapping(Config, mapping, str(path), base)


def _mapping(path: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(path.read_bytes().decode("utf-8-sig"))
    except OSError as error:
        raise ConfigError(f"{path}: cannot read the configuration ({error.strerror})") from error
    except (ValueError, RecursionError) as error:
        raise ConfigError(f"{path}: expected a configuration in TOML; {error}") from error


def dump_toml(config: Config) -> str:
    """The configuration as TOML, every field of it except those that are `None`.

    Reading it with :func:`load_toml` gives an equal configuration.
    """
    import tomlkit  # `--help` has no use for it, and it takes a while to load

    def known(mapping: dict[str, Any]) -> dict[str, Any]:
        return {
            key: known(value) if isinstance(value, dict) else value
            for key, value in mapping.items()
            if value is not None
        }

    return tomlkit.dumps(known(to_mapping(config)))
