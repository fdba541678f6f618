"""Where the arithmetic runs, and how wide it is."""

import os
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext

import torch

from maskatlas import distributed
from maskatlas.errors import ConfigError


def choose_device(name: str) -> torch.device:
    """Return the device for `auto`, `cpu`, `cuda` or `cuda:N`.

    Under torchrun, `auto` and `cuda` mean the GPU with this process's number on its machine.

    Raises:
        ConfigError: The name is none of these, or there is no such GPU.
    """
    count = torch.cuda.device_count()
    if name == "cpu" or (name == "auto" and count == 0):
        return torch.device("cpu")
    kind, _, number = name.partition(":")
    if name != "auto" and (kind != "cuda" or (number and not number.isdecimal())):
        raise ConfigError(f"device: expected auto, cpu, cuda or cuda:N, found {name!r}")
    index = int(number) if number else distributed.local_rank()
    if index >= count:
        raise ConfigError(
            f"device {name!r}: this machine shows {count} CUDA GPUs, number {index} is not one of "
            "them; use --device cpu"
        )
    return torch.device("cuda", index)


def has_bfloat16(device: torch.device) -> bool:
    """Return whether the processor multiplies bfloat16 matrices faster than float32 ones."""
    if device.type == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    capabilities = torch.cpu.get_capabilities()
    return bool(capabilities.get("avx512_bf16") or capabilities.get("amx_bf16"))


def autocast(device: torch.device, precision: str) -> AbstractContextManager[object]:
    """Return the context in which matrix products run in bfloat16, or one that changes nothing.

    Args:
        device: Where the network runs.
        precision: `auto`, `bfloat16`, `float32` or `float64`.
    """
    if precision == "bfloat16" or (precision == "auto" and has_bfloat16(device)):
        return torch.autocast(device.type, torch.bfloat16)
    return nullcontext()


@contextmanager
def deterministic(wanted: bool) -> Iterator[None]:
    """Ask PyTorch for deterministic algorithms inside; afterwards all is as before."""
    before = torch.are_deterministic_algorithms_enabled()
    warn_only = torch.is_deterministic_algorithms_warn_only_enabled()
    if not wanted or (before and not warn_only):
        yield
        return
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # without it cuBLAS refuses
    torch.use_deterministic_algorithms(True)
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(before, warn_only=warn_only)
