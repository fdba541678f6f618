import sys
from pathlib import Path

import pytest
import torch

from maskatlas import memory
from maskatlas.memory import available_bytes, held_from_now, peak

CPU = torch.device("cpu")
LINUX = pytest.mark.skipif(sys.platform != "linux", reason="other systems do not tell")
MIB = 2**20


@LINUX
def test_the_peak_above_what_was_held() -> None:
    freed = [torch.ones(200_000) for _ in range(300)]
    del freed  # and stands ready no more
    held = held_from_now(CPU)
    assert held is not None
    block = torch.ones(40 * MIB, dtype=torch.uint8)
    del block
    most = peak(CPU)
    assert most is not None
    assert 36 * MIB < most - held < 80 * MIB
    again = held_from_now(CPU)
    assert again is not None
    assert peak(CPU) - again < 4 * MIB


@LINUX
def test_the_memory_that_is_free_is_known() -> None:
    assert MIB < available_bytes(CPU) < 2**50


def test_without_proc_nothing_is_known(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("_STATUS", "_CLEAR", "_MACHINE"):
        monkeypatch.setattr(memory, name, tmp_path / "missing" / name)
    assert held_from_now(CPU) is None
    assert peak(CPU) is None
    assert available_bytes(CPU) is None


def test_a_system_without_this_allocator_does_not_tell(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory.ctypes, "CDLL", lambda _: object())
    assert held_from_now(CPU) is None
