import os
from collections.abc import Iterator
from contextlib import suppress

import pytest
import torch

from maskatlas.devices import autocast, choose_device, deterministic, has_bfloat16
from maskatlas.errors import ConfigError

CPU = torch.device("cpu")


@pytest.fixture
def gpus(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)


@pytest.mark.parametrize("name", ["auto", "cpu"])
def test_without_a_gpu_the_processor_is_chosen(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 0)
    assert choose_device(name) == CPU


@pytest.mark.parametrize("name", ["cuda", "cuda:0", "cuda:3"])
def test_a_gpu_that_is_not_there_is_an_error(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 0)
    with pytest.raises(ConfigError, match=f"device '{name}': this machine shows 0 CUDA GPUs") as e:
        choose_device(name)
    assert "use --device cpu" in str(e.value)


@pytest.mark.parametrize("name", ["gpu", "cuda:x", "cuda:-1", "cuda:0:1", "", "CPU", "mps"])
def test_another_name_is_an_error(name: str, gpus: None) -> None:
    with pytest.raises(ConfigError, match="expected auto, cpu, cuda or cuda:N, found"):
        choose_device(name)


@pytest.mark.parametrize(
    ("name", "local_rank", "index"),
    [("auto", "0", 0), ("cuda", "1", 1), ("auto", "1", 1), ("cuda:0", "1", 0), ("cuda:1", "0", 1)],
)
def test_each_process_of_a_machine_has_a_gpu_of_its_own(
    name: str, local_rank: str, index: int, gpus: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LOCAL_RANK", local_rank)
    assert choose_device(name) == torch.device("cuda", index)


def test_more_processes_than_gpus_is_an_error(gpus: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LOCAL_RANK", "2")
    with pytest.raises(ConfigError, match="2 CUDA GPUs, number 2 is not one of them"):
        choose_device("auto")


@pytest.mark.parametrize(
    ("precision", "has", "narrow"),
    [
        ("auto", True, True),
        ("auto", False, False),
        ("bfloat16", False, True),
        ("float32", True, False),
        ("float64", True, False),
    ],
)
def test_products_are_narrow_where_asked_for_or_fast(
    precision: str, has: bool, narrow: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("maskatlas.devices.has_bfloat16", lambda device: has)
    matrix = torch.ones(2, 2)
    with autocast(CPU, precision):
        assert (matrix @ matrix).dtype == (torch.bfloat16 if narrow else torch.float32)
    assert (matrix @ matrix).dtype == torch.float32


@pytest.mark.parametrize(
    ("capabilities", "expected"),
    [
        ({}, False),
        ({"avx512_bf16": True}, True),
        ({"amx_bf16": True}, True),
        ({"avx2": True}, False),
    ],
)
def test_whether_the_processor_is_made_for_bfloat16(
    capabilities: dict[str, bool], expected: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: capabilities)
    assert has_bfloat16(CPU) is expected


@pytest.fixture
def _algorithms() -> Iterator[None]:
    yield
    torch.use_deterministic_algorithms(False)


@pytest.mark.usefixtures("_algorithms")
@pytest.mark.parametrize("warn_only", [False, True])
@pytest.mark.parametrize("before", [False, True])
@pytest.mark.parametrize("wanted", [False, True])
def test_deterministic_algorithms_are_asked_for_inside_alone(
    wanted: bool, before: bool, warn_only: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CUBLAS_WORKSPACE_CONFIG", ":16:8")
    torch.use_deterministic_algorithms(before, warn_only=warn_only)
    state = (
        torch.are_deterministic_algorithms_enabled(),
        torch.is_deterministic_algorithms_warn_only_enabled(),
    )
    with suppress(KeyError), deterministic(wanted):
        assert torch.are_deterministic_algorithms_enabled() == (wanted or before)
        if wanted:
            assert not torch.is_deterministic_algorithms_warn_only_enabled()
        raise KeyError  # what goes wrong inside changes nothing
    assert state == (
        torch.are_deterministic_algorithms_enabled(),
        torch.is_deterministic_algorithms_warn_only_enabled(),
    )
    assert os.environ["CUBLAS_WORKSPACE_CONFIG"] == ":16:8"
