"""What a system costs: peak memory of what is done inside a block, and the time it takes."""

import ctypes
import gc
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import torch

_STATUS, _CLEAR = Path("/proc/self/status"), Path("/proc/self/clear_refs")


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
    cost, started, held = Cost(), time.perf_counter(), _held_from_now(device)
    try:
        yield cost
    finally:
        cost.seconds = time.perf_counter() - started
        peak = None if held is None else _peak(device)
        cost.peak_bytes = None if held is None or peak is None else max(0, peak - held)


def _held_from_now(device: torch.device) -> int | None:
    """Let the peak begin anew; return what is held, None where the system does not tell."""
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
        return torch.cuda.memory_allocated(device)
    try:
        ctypes.CDLL(None).malloc_trim(0)  # what was freed does not stand ready
        _CLEAR.write_text("5")  # Linux: sets the peak to what is held now
    except (AttributeError, OSError):
        return None
    return _peak(device)


def _peak(device: torch.device) -> int | None:
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    lines = dict(line.partition(":")[::2] for line in _STATUS.read_text().splitlines())
    return 1024 * int(lines["VmHWM"].split()[0]) if "VmHWM" in lines else None
