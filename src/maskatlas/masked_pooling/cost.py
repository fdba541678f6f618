"""What masked pooling must cost at least: products, exponentials, bytes; and how long that takes.

No form that holds no masks can do with less. The forward pass takes one product of matrices and one
exponential for each element of a mask. The backward pass takes both again, and two products more:
to the mask features and to the weights. Loss and gradient at once take three products and one
exponential. Maps, weights and results are read or written once in every pass.

>>> sizes = Sizes(batch=256, attributes=40, channels=128, guides=128, positions=16 * 16)
>>> for name, gpu in GPUS.items():
...     for work in (forward(sizes), backward(sizes), at_once(sizes)):
...         print(name, *(f"{1e6 * seconds:.0f}" for seconds in gpu.seconds(work, 2)), "us")
H100 87 87 9 us
H100 260 87 14 us
H100 260 87 11 us
H200 87 87 6 us
H200 260 87 10 us
H200 260 87 8 us
"""

from dataclasses import dataclass
from typing import NamedTuple


class Sizes(NamedTuple):
    """Of masked pooling's axes; `guides` are the channels of what masks are computed from."""

    batch: int
    attributes: int
    channels: int
    guides: int
    positions: int
    separate: bool = False
    """Whether masks are computed from other features than those they act on."""
    map_bytes: int = 2
    """Of an element of maps and weights; results have 4."""


class Work(NamedTuple):
    """What is to be done at least."""

    operations: int
    """Multiplications and additions of the products of matrices."""
    exponentials: int
    bytes: int
    """Between the GPU and its memory."""


@dataclass(frozen=True, slots=True)
class Gpu:
    """How much a GPU does: for each multiprocessor and clock, and with its memory."""

    multiprocessors: int
    clock: float
    """In hertz."""
    bytes_per_second: float
    tensor_operations: int = 4096
    """Of tensor cores in 16 bits."""
    plain_operations: int = 256
    """Of everything else, in float32."""
    exponentials: int = 16

    def seconds(self, work: Work, element_bytes: int) -> tuple[float, float, float]:
        """Return how long the products, the exponentials and the memory take, in seconds."""
        operations = self.tensor_operations if element_bytes == 2 else self.plain_operations
        clocks = self.multiprocessors * self.clock
        return (
            work.operations / (operations * clocks),
            work.exponentials / (self.exponentials * clocks),
            work.bytes / self.bytes_per_second,
        )


GPUS = {"H100": Gpu(132, 1.83e9, 3.35e12), "H200": Gpu(132, 1.83e9, 4.8e12)}
"""By a part of the name that they have for PyTorch: the modules, not the cards.

At this clock, tensor cores have the 989 TFLOP/s of NVIDIA's data sheet; the rates by clock are
those of the CUDA programming guide's table for compute capability 9.0.
"""


def forward(sizes: Sizes) -> Work:
    """Count what the forward pass takes."""
    return Work(_product(sizes), _masks(sizes), _maps(sizes) + _weights(sizes) + _results(sizes))


def backward(sizes: Sizes) -> Work:
    """Count what the backward pass takes: all gradients, from features, weights and gradients."""
    moved = 2 * (_maps(sizes) + _weights(sizes)) + _results(sizes)
    return Work(3 * _product(sizes), _masks(sizes), moved)


def at_once(sizes: Sizes) -> Work:
    """Count what the loss and all gradients take, both results not written."""
    return Work(3 * _product(sizes), _masks(sizes), 2 * (_maps(sizes) + _weights(sizes)))


def floor_seconds(passes: tuple[Work, ...], gpu: Gpu, element_bytes: int) -> float:
    """Return the least time of passes one after the other, in seconds.

    Within a pass, products, exponentials and memory may be at work at the same time.

    Args:
        passes: Those of `forward` and `backward`, say.
        gpu: Where.
        element_bytes: Of what is multiplied: 2 for tensor cores, 4 for float32 without them.
    """
    return sum(max(gpu.seconds(work, element_bytes)) for work in passes)


def _product(sizes: Sizes) -> int:
    return 2 * _masks(sizes) * sizes.guides


def _masks(sizes: Sizes) -> int:
    return sizes.batch * sizes.attributes * sizes.channels * sizes.positions


def _maps(sizes: Sizes) -> int:
    maps = sizes.channels + (sizes.guides if sizes.separate else 0)
    return sizes.batch * sizes.positions * maps * sizes.map_bytes


def _weights(sizes: Sizes) -> int:
    return sizes.attributes * sizes.channels * sizes.guides * sizes.map_bytes


def _results(sizes: Sizes) -> int:
    return 2 * 4 * sizes.batch * sizes.attributes * sizes.channels
