"""Forward and backward of masked pooling on the CPU, beside what one would write by hand.

    python benchmarks/masked_pooling.py [--batch 16] [--attributes 40] [--sizes 8 16] [--threads 1]

All forms run in turn, so that another program on the machine slows each alike. Printed are the
median and the fastest of the repeats, and the memory that a call needs at its peak, which holds its
results and gradients. Time is the clock's, or with one thread the processor's, which other programs
disturb less. Bfloat16 means autocast for the forms written by hand.
"""

import argparse
import ctypes
import statistics
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import torch
from torch import Tensor
from torch.nn.functional import conv2d

from maskatlas.masked_pooling import cpu, masked_pool

Form = Callable[[Tensor, Tensor, Tensor], tuple[Tensor, Tensor]]


def loop(features: Tensor, weight: Tensor, bias: Tensor) -> tuple[Tensor, Tensor]:
    """One convolution for each attribute, all masks kept for the gradient."""
    pooled, means = [], []
    for w, b in zip(weight, bias, strict=True):
        mask = conv2d(features, w[:, :, None, None], b).sigmoid()
        pooled.append(((1 + mask) * features).mean((2, 3)))
        means.append(mask.mean((2, 3)))
    return torch.stack(pooled, 1), torch.stack(means, 1)


def one_convolution(features: Tensor, weight: Tensor, bias: Tensor) -> tuple[Tensor, Tensor]:
    """One convolution for all attributes."""
    z = conv2d(features, weight.flatten(0, 1)[:, :, None, None], bias.flatten())
    masks = z.sigmoid().unflatten(1, bias.shape)
    return ((1 + masks) * features[:, None]).mean((3, 4)), masks.mean((3, 4))


@contextmanager
def only_plain() -> Iterator[None]:
    """Have masked_pool take its plain form."""
    suits, cpu.suits = cpu.suits, lambda _: False
    try:
        yield
    finally:
        cpu.suits = suits


def plain(features: Tensor, weight: Tensor, bias: Tensor) -> tuple[Tensor, Tensor]:
    """masked_pool in plain torch, forward; see `run` for its gradient."""
    return masked_pool(features, weight, bias)


def compiled(features: Tensor, weight: Tensor, bias: Tensor) -> tuple[Tensor, Tensor]:
    """masked_pool compiled for this processor."""
    return masked_pool(features, weight, bias)


FORMS: dict[str, Form] = {
    "loop over attributes": loop,
    "one convolution": one_convolution,
    "masked_pool, plain": plain,
    "masked_pool, compiled": compiled,
}


def run(form: Form, inputs: list[Tensor], dtype: torch.dtype) -> None:
    """Once forward and backward."""
    for tensor in inputs:
        tensor.grad = None
    with torch.autocast("cpu", torch.bfloat16, enabled=dtype == torch.bfloat16):
        pooled, means = form(*inputs)
    torch.autograd.backward([pooled, means], [torch.ones_like(pooled), torch.ones_like(means)])


def peak_bytes(call: Callable[[], None]) -> int | None:
    """How far the memory of the process rises above where it stands; None without Linux."""
    try:
        ctypes.CDLL(None).malloc_trim(0)  # what was freed does not stand ready
        Path("/proc/self/clear_refs").write_text("5")
    except (AttributeError, OSError):
        return None
    before = _status("VmRSS")
    call()
    return _status("VmHWM") - before


def _status(field: str) -> int:
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) << 10 for line in lines if line.startswith(field))


def measure(inputs: list[Tensor], dtype: torch.dtype, repeats: int) -> None:
    """Print one line for each form."""
    clock = time.thread_time if torch.get_num_threads() == 1 else time.perf_counter
    seconds: dict[str, list[float]] = {name: [] for name in FORMS}
    peaks: dict[str, int | None] = {}
    for turn in range(repeats + 1):
        for name, form in FORMS.items():
            with only_plain() if form is plain else _as_it_is():
                if turn == 0:
                    peaks[name] = peak_bytes(lambda form=form: run(form, inputs, dtype))
                    continue
                start = clock()
                run(form, inputs, dtype)
                seconds[name].append(clock() - start)
    images = len(inputs[0])
    for name, taken in seconds.items():
        median, fastest, peak = statistics.median(taken), min(taken), peaks[name]
        memory = "" if peak is None else f"{peak / 2**20:8.0f} MiB"
        print(
            f"  {name:24} {1e3 * median:8.1f} ms  fastest {1e3 * fastest:8.1f}"
            f"  per image {1e3 * fastest / images:6.2f} {memory}"
        )


@contextmanager
def _as_it_is() -> Iterator[None]:
    yield


def main() -> None:
    """Measure every size in both types."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--attributes", type=int, default=40)
    parser.add_argument("--channels", type=int, default=128)
    parser.add_argument("--sizes", type=int, nargs="+", default=[8, 16])
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    chosen = parser.parse_args()
    torch.set_num_threads(chosen.threads)
    print(f"{torch.get_num_threads()} threads, torch {torch.__version__}")
    for size in chosen.sizes:
        for dtype in (torch.bfloat16, torch.float32):
            features = torch.randn(chosen.batch, chosen.channels, size, size).relu().to(dtype)
            features = features.contiguous(memory_format=torch.channels_last)
            weight = torch.randn(chosen.attributes, chosen.channels, chosen.channels)
            weight *= chosen.channels**-0.5
            bias = torch.zeros(chosen.attributes, chosen.channels)
            inputs = [tensor.requires_grad_() for tensor in (features, weight, bias)]
            print(f"batch {chosen.batch}, K {chosen.attributes}, C {chosen.channels}, ", end="")
            print(f"{size} x {size}, {str(dtype).removeprefix('torch.')}")
            measure(inputs, dtype, chosen.repeats)


if __name__ == "__main__":
    main()
