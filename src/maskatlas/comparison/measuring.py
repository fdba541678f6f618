"""What a system costs: peak memory of what is done inside a block, and the time it takes."""

import gc
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch

from maskatlas.memory import held_from_now, peak


@dataclass
class Cost:
    """Filled when its block has ended."""

    seconds: float = 0.0
    peak_bytes: int | None = None
    """Most memory at once above what was held before: of the GPU where there is one, else of this
    process, with what it maps; None where the system does not tell."""


@contextmanager
def measured(device: torch.device) -> Iterator[Cost]:
    """Measure what is done in this block."""
    gc.collect()
    cost, started, held = Cost(), time.perf_counter(), held_from_now(device)
    try:
        yield cost
    finally:
        cost.seconds = time.perf_counter() - started
        most = None if held is None else peak(device)
        cost.peak_bytes = None if held is None or most is None else max(0, most - held)
