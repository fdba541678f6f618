"""Masked pooling on an NVIDIA GPU, beside what one would write by hand and what it costs at least.

    python benchmarks/gpu_masked_pooling.py [--batch 256] [--attributes 40] [--sizes 16 32]

Every form is first held against a loop in float64; the script ends with 1 if one of ours is too far
from it. All forms run in turn. Printed are the median of the repeats, how many times the floor of
`maskatlas.masked_pooling.cost` that is, the memory beyond inputs and results, and the largest
relative error. Convolutions written by hand may take float32 products in TF32, as is PyTorch's
default; ours do not.
"""

import argparse
import sys

import torch

from maskatlas.bench.heads import draw, forms, in_float64
from maskatlas.bench.measuring import wall_clock
from maskatlas.bench.results import Row, compare
from maskatlas.bench.settings import Heads
from maskatlas.masked_pooling.cost import GPUS, Sizes, backward, floor_seconds, forward

ELEMENT_BYTES = {"bfloat16": 2, "float32": 4}


def floor(sizes: Sizes, device: torch.device) -> float | None:
    """Seconds that forward and backward take at least; None for a GPU without a count."""
    name = torch.cuda.get_device_name(device)
    gpu = next((gpu for known, gpu in GPUS.items() if known in name), None)
    if gpu is None:
        return None
    return floor_seconds((forward(sizes), backward(sizes)), gpu, sizes.map_bytes)


def line(row: Row, least: float | None) -> str:
    """One form in a line."""
    if row.timing is None:
        return f"  {row.form.name:28} {row.form.note}"
    over = "" if least is None else f"{row.timing.median / least:8.1f} x floor"
    peak = "" if row.peak is None else f"{row.peak / 2**20:10.0f} MiB"
    ratios = "".join(f"  {ratio:6.2f} x {name}" for name, ratio in row.ratios.items())
    error = f"  {row.form.largest_error:.1e}" if row.form.errors else ""
    return f"  {row.form.name:28}{1e3 * row.timing.median:9.3f} ms{over}{peak}{error}{ratios}"


def main() -> int:
    """Measure every size in both types."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--batch", type=int, default=256)
    parser.add_argument("--attributes", type=int, default=40)
    parser.add_argument("--channels", type=int, default=128)
    parser.add_argument("--sizes", type=int, nargs="+", default=[16, 32])
    parser.add_argument("--repeats", type=int, default=20)
    chosen = parser.parse_args()
    if not torch.cuda.is_available():
        print("there is no GPU here that PyTorch can use", file=sys.stderr)
        return 1
    device = torch.device("cuda", torch.cuda.current_device())
    print(f"{torch.cuda.get_device_name(device)}, torch {torch.__version__}")
    settings = Heads(channels=chosen.channels)
    right = True
    for size in chosen.sizes:
        inputs = draw(settings, chosen.attributes, chosen.batch, size, device)
        truth = in_float64(inputs)
        for precision, element_bytes in ELEMENT_BYTES.items():
            case = compare(
                f"{precision}, batch {chosen.batch}, K {chosen.attributes}, "
                f"C {chosen.channels}, {size} x {size}",
                {},
                forms(inputs, truth, precision, compiled=True),
                images=chosen.batch,
                rounds=chosen.repeats,
                device=device,
                clock=wall_clock(device),
            )
            sizes = Sizes(
                *(chosen.batch, chosen.attributes, chosen.channels, chosen.channels, size * size),
                map_bytes=element_bytes,
            )
            least = floor(sizes, device)
            told = "" if least is None else f"; floor {1e3 * least:.3f} ms"
            print(case.title + told, *(line(row, least) for row in case.rows), sep="\n", flush=True)
            right = right and all(row.agrees is not False for row in case.rows)
    return 0 if right else 1


if __name__ == "__main__":
    sys.exit(main())
