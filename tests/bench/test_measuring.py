import sys
import time

import pytest
import torch

from maskatlas.bench import measuring
from maskatlas.bench.measuring import (
    Clock,
    Timing,
    interleaved,
    once,
    processor_clock,
    threads,
    wall_clock,
)

CPU = torch.device("cpu")
LINUX = pytest.mark.skipif(sys.platform != "linux", reason="other systems do not tell")


def test_median_and_spread_of_known_times():
    assert Timing((3.0, 1.0, 2.0)).median == 2.0
    assert Timing((4.0, 1.0)).median == 2.5
    assert Timing((5.0, 1.0, 4.0, 2.0, 3.0)).spread == 2.0
    assert Timing((1.0, 2.0)).spread == 0.5
    assert Timing((7.0,)).spread == 0.0


def test_the_ratio_is_a_median_over_rounds_and_not_a_ratio_of_medians():
    ours, theirs = Timing((1.0, 10.0, 2.0)), Timing((3.0, 20.0, 2.0))
    assert ours.times_as_fast_as(theirs) == 2.0
    assert theirs.times_as_fast_as(ours) == 0.5
    assert theirs.median / ours.median == 1.5
    assert ours.times_as_fast_as(ours) == 1.0


def test_forms_run_in_turn_and_each_is_timed_by_itself():
    now, order = [0.0], []

    def taking(name: str, seconds: float):
        def call() -> None:
            order.append(name)
            now[0] += seconds

        return call

    calls = {"a": taking("a", 1.0), "b": taking("b", 5.0)}
    timings = interleaved(calls, 3, Clock("made up", lambda: now[0]))
    assert order == ["a", "b"] * 3
    assert timings == {"a": Timing((1.0,) * 3), "b": Timing((5.0,) * 3)}


def test_short_calls_are_repeated_and_their_mean_counts(monkeypatch):
    monkeypatch.setattr(measuring, "LEAST_SECONDS", 10.0)
    now, lengths = [0.0], iter([1.0, 4.0, 2.0, 4.0, 3.0, 9.0, 50.0])

    def call() -> None:
        now[0] += next(lengths)

    (timing,) = interleaved({"a": call}, 3, Clock("made up", lambda: now[0])).values()
    assert timing == Timing((11 / 4, 12 / 2, 50.0))


def test_one_thread_takes_the_processors_time_and_more_the_walls():
    with threads(1):
        assert processor_clock(CPU).name == "processor"
        assert wall_clock(CPU).name == "wall"
        clock = processor_clock(CPU)
        start = clock.read()
        time.sleep(0.2)
        assert clock.read() - start < 0.15
    with threads(2):
        assert processor_clock(CPU).name == "wall"


def test_the_number_of_threads_is_put_back():
    before = torch.get_num_threads()
    with threads(before + 1):
        assert torch.get_num_threads() == before + 1
    assert torch.get_num_threads() == before
    with threads(None):
        assert torch.get_num_threads() == before


@LINUX
def test_memory_is_counted_beyond_what_was_there_and_what_is_returned():
    mib = 2**20
    there = torch.ones(32 * mib // 4)

    def call() -> tuple[torch.Tensor, list[torch.Tensor]]:
        needed = there.repeat(3)
        return needed[: 8 * mib].clone(), [needed[: 4 * mib].clone()]

    call()
    _, peak = once(call, CPU, wall_clock(CPU))
    assert peak is not None
    assert 94 * mib < peak < 104 * mib
    timing, nothing = once(lambda: None, CPU, wall_clock(CPU))
    assert nothing is not None
    assert nothing < 4 * mib
    assert len(timing.seconds) == 1


def test_where_the_system_does_not_tell_a_call_runs_all_the_same(monkeypatch):
    monkeypatch.setattr("maskatlas.bench.measuring.held_from_now", lambda _: None)
    ran = []
    timing, peak = once(lambda: ran.append(1), CPU, wall_clock(CPU))
    assert (ran, peak, len(timing.seconds)) == ([1], None, 1)
