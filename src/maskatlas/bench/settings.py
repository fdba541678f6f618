"""What is measured, and at which sizes: the only place where these defaults stand."""

from dataclasses import dataclass
from typing import Annotated, Literal

from maskatlas.config import Channels, Device, Pixels, Positive, Preset, Rank, Seed
from maskatlas.schema import Check, Section

PositiveList = Annotated[
    tuple[Positive, ...], Check("one number or more, each once", lambda n: 0 < len(n) == len({*n}))
]
Threads = Annotated[int, Check("a whole number from 1 to 1024", lambda n: 1 <= n <= 1024)]
Workers = Annotated[
    tuple[Annotated[int, Check("a whole number from 0 to 64", lambda n: 0 <= n <= 64)], ...],
    Check("one number or more, each once", lambda n: 0 < len(n) == len({*n})),
]


@dataclass(frozen=True, slots=True, kw_only=True)
class Measuring(Section):
    """What every subject has."""

    repeats: Positive = 7
    """How often each is timed; medians are reported."""
    threads: Threads | None = None
    """Threads of PyTorch; by default as many as it takes itself."""
    seed: Seed = 0
    """Of everything that is drawn at random."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Computing(Measuring):
    """What every subject has that computes something with images."""

    device: Device = "auto"
    """`auto`, `cpu`, `cuda` or `cuda:N`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Heads(Computing):
    """Masked pooling, forward and backward."""

    batch: Positive = 16
    """Images of a batch."""
    attributes: PositiveList = (10, 40, 160, 640)
    """K."""
    channels: Channels = 128
    """C."""
    sizes: PositiveList = (8, 16)
    """Sides of the feature maps."""
    mask_rank: Rank = 0
    """Masks are computed from so many features; 0: from the C features themselves."""
    precision: Literal["bfloat16", "float32"] | None = None
    """By default float32, and bfloat16 too where the processor multiplies it faster."""
    compile: bool = True
    """Measure the convolution under torch.compile too, which takes a while to compile."""
    growth: bool = True
    """Measure how time grows with K, with the batch and with the positions."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Train(Computing):
    """Whole training steps."""

    preset: Preset = "celeba-64"
    """Extractor, channels, loss and optimiser."""
    sizes: Annotated[tuple[Pixels, ...], Check("one size or more", len)] = (32, 64)
    """Sides of the images; the features have a quarter of that."""
    attributes: Positive = 40
    """K."""
    batch: Positive = 64
    """Images of a step."""
    mask_rank: Annotated[Rank, Check("a rank of 1 or more", lambda n: n >= 1)] = 32
    """Rank of the masks of the network that has one."""
    precision: Literal["auto", "bfloat16", "float32"] = "auto"
    """`auto`: bfloat16 products where the processor has them, else float32."""
    steps: Positive = 2
    """Steps that are timed together."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Explain(Computing):
    """All masks and all contributions of an image."""

    preset: Preset = "celeba-64"
    """The network."""
    attributes: Positive = 40
    """K."""
    batch: Positive = 1
    """Images at a time."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Analyze(Computing):
    """The pass over a dataset that draws an atlas."""

    repeats: Positive = 3
    """How often each is timed; medians are reported."""
    preset: Preset = "demo"
    """The network."""
    faces: Positive = 100
    """Rendered faces, which are repeated to the number of images asked for."""
    images: Positive = 4000
    """Images over which analyze is set against predict."""
    memory: PositiveList = (1000, 40000)
    """Numbers of images at which the peak memory is measured, once each."""
    drop_images: Positive = 200
    """Images on which channels are set to their mean, measured once."""
    limit: Positive | None = None
    """Use at most so many images anywhere."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Data(Measuring):
    """Loading of images in a random order."""

    batch: Positive = 64
    """Images of a batch."""
    faces: Positive = 32
    """Rendered faces, which are repeated to the number of files asked for."""
    limit: Positive = 512
    """Image files."""
    side: Pixels = 178
    """Side of the images in their files, in pixels."""
    size: Pixels = 64
    """Side of what the network sees, in pixels."""
    workers: Workers = (0, 2)
    """Processes of the DataLoaders."""
