"""How time and memory are measured: in turn, warm, and beyond what is handed over."""

import statistics
import time
from collections.abc import Callable, Hashable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import NamedTuple, TypeVar

import torch
from threadpoolctl import threadpool_limits
from torch import Tensor

from maskatlas.memory import held_from_now, peak

Call = Callable[[], object]
_Name = TypeVar("_Name", bound=Hashable)


LEAST_SECONDS = 0.05
"""That a call is repeated for in a round, so that a short one finds caches as it left them and not
as what ran before did."""


class Clock(NamedTuple):
    """What time is taken by."""

    name: str
    """`processor` or `wall`."""
    read: Callable[[], float]
    """Seconds since some moment."""


@dataclass(frozen=True, slots=True)
class Timing:
    """Seconds that a call took, a mean for each round; others ran in the same rounds."""

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
    """Time each call in every round, so that another program slows all alike.

    A call that takes less than `LEAST_SECONDS` is repeated for so long, and its mean counts.

    Args:
        calls: By name; warm already.
        rounds: How often.
        clock: What time is taken by.
    """
    seconds: dict[_Name, list[float]] = {name: [] for name in calls}
    for _ in range(rounds):
        for name, call in calls.items():
            start, taken, times = clock.read(), 0.0, 0
            while not times or taken < LEAST_SECONDS:
                call()
                times += 1
                taken = clock.read() - start
            seconds[name].append(taken / times)
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
    """Let PyTorch and NumPy compute on so many threads inside; None leaves it as it is."""
    before = torch.get_num_threads()
    torch.set_num_threads(count or before)
    try:
        with threadpool_limits(count, "blas"):
            yield
    finally:
        torch.set_num_threads(before)


def once(call: Call, device: torch.device, clock: Clock) -> tuple[Timing, int | None]:
    """Run a call a single time; return how long it took, and how much memory it needed.

    The memory, in bytes, is that at its peak beyond what was there before and what it returns. On
    a CPU it is the resident memory of the process, to a few pages; None where the system does not
    tell it (other than Linux).
    """
    before = held_from_now(device)
    start = clock.read()
    result = call()
    timing = Timing((clock.read() - start,))
    most = None if before is None else peak(device)
    if before is None or most is None:
        return timing, None
    return timing, max(0, most - before - _bytes_of(result))


def _bytes_of(result: object) -> int:
    if isinstance(result, Tensor):
        return result.numel() * result.element_size()
    return sum(map(_bytes_of, result)) if isinstance(result, tuple | list) else 0
