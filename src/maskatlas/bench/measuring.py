"""How time and memory are measured: in turn, warm, and beyond what is handed over."""

import ctypes
import statistics
import time
from collections.abc import Callable, Hashable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple, TypeVar

import torch
from torch import Tensor

Call = Callable[[], object]
_Name = TypeVar("_Name", bound=Hashable)


class Clock(NamedTuple):
    """What time is taken by."""

    name: str
    """`processor` or `wall`."""
    read: Callable[[], float]
    """Seconds since some moment."""


@dataclass(frozen=True, slots=True)
class Timing:
    """Seconds that a call took, one for each round; what ran beside it ran in the same rounds."""

    seconds: tuple[float, ...]

    @property
    def median(self) -> float:
        """The median, in seconds."""
        return statistics.median(self.seconds)

    @property
    def spread(self) -> float:
        """The distance between the quartiles, in seconds; 0 for a single round."""
        if len(self.seconds) == 1:
            return 0.0
        low, _, high = statistics.quantiles(self.seconds, n=4, method="inclusive")
        return high - low

    def times_as_fast_as(self, baseline: "Timing") -> float:
        """Return the median over rounds of the baseline's time by this one."""
        pairs = zip(self.seconds, baseline.seconds, strict=True)
        return statistics.median(theirs / ours for ours, theirs in pairs)


def interleaved(calls: Mapping[_Name, Call], rounds: int, clock: Clock) -> dict[_Name, Timing]:
    """Time each call once in every round, so that another program slows all alike.

    Args:
        calls: By name; warm already.
        rounds: How often.
        clock: What time is taken by.
    """
    seconds: dict[_Name, list[float]] = {name: [] for name in calls}
    for _ in range(rounds):
        for name, call in calls.items():
            start = clock.read()
            call()
            seconds[name].append(clock.read() - start)
    return {name: Timing(tuple(taken)) for name, taken in seconds.items()}


def processor_clock(device: torch.device) -> Clock:
    """Return the processor's clock where one thread does all, which other programs disturb less.

    Otherwise it is :func:`wall_clock`.
    """
    if device.type == "cpu" and torch.get_num_threads() == 1:
        return Clock("processor", time.process_time)
    return wall_clock(device)


def wall_clock(device: torch.device) -> Clock:
    """Return the clock on the wall; on a GPU, it waits for what was started."""

    def read() -> float:
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        return time.perf_counter()

    return Clock("wall", read)


@contextmanager
def threads(count: int | None) -> Iterator[None]:
    """Let PyTorch compute on so many threads inside; None leaves it as it is."""
    before = torch.get_num_threads()
    torch.set_num_threads(count or before)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def once(call: Call, device: torch.device, clock: Clock) -> tuple[Timing, int | None]:
    """Run a call a single time; return how long it took, and how much memory it needed.

    The memory, in bytes, is that at its peak beyond what was there before and what it returns. On
    a CPU it is the resident memory of the process, to a few pages; None where the system does not
    tell it (other than Linux).
    """
    before = _memory_before(device)
    start = clock.read()
    result = call()
    timing = Timing((clock.read() - start,))
    if before is None:
        return timing, None
    cuda = device.type == "cuda"
    peak = torch.cuda.max_memory_allocated(device) if cuda else _status("VmHWM")
    return timing, max(0, peak - before - _bytes_of(result))


def _memory_before(device: torch.device) -> int | None:
    """Forget earlier peaks, and return how much memory is in use."""
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
        return torch.cuda.memory_allocated(device)
    try:
        ctypes.CDLL(None).malloc_trim(0)  # what was freed does not stand ready
        Path("/proc/self/clear_refs").write_text("5")
    except (AttributeError, OSError):
        return None
    return _status("VmRSS")


def _status(field: str) -> int:
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) << 10 for line in lines if line.startswith(field))


def _bytes_of(result: object) -> int:
    if isinstance(result, Tensor):
        return result.numel() * result.element_size()
    return sum(map(_bytes_of, result)) if isinstance(result, tuple | list) else 0


def available_bytes(device: torch.device) -> int | None:
    """Return how much memory could be had; None where the system does not tell."""
    if device.type == "cuda":
        return torch.cuda.mem_get_info(device)[0]
    try:
        lines = Path("/proc/meminfo").read_text().splitlines()
    except OSError:
        return None
    found = [int(line.split()[1]) << 10 for line in lines if line.startswith("MemAvailable")]
    return found[0] if found else None
