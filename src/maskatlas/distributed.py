"""The processes that torchrun started, if any; alone, every function here is the identity.

gloo on CPUs, nccl on GPUs. Which machine does what is torchrun's affair.
"""

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import timedelta
from typing import Any

import numpy as np
import torch
import torch.distributed as dist
from jaxtyping import Shaped
from torch import Tensor

TIMEOUT = timedelta(minutes=10)
"""After so long without an answer from another process, fail rather than hang."""


def rank() -> int:
    """Return this process's number, 0 if it is alone."""
    return dist.get_rank() if dist.is_initialized() else 0


def world_size() -> int:
    """Return the number of processes, 1 if this one is alone."""
    return dist.get_world_size() if dist.is_initialized() else 1


def local_rank() -> int:
    """Return this process's number on its machine, which is also the number of its GPU."""
    return int(os.environ.get("LOCAL_RANK", "0"))


@contextmanager
def process_group(device: torch.device) -> Iterator[None]:
    """Join the group that torchrun describes in the environment, and leave it at the end."""
    if "WORLD_SIZE" not in os.environ or dist.is_initialized():
        yield
        return
    backend = "cpu:gloo,cuda:nccl" if device.type == "cuda" else "gloo"
    dist.init_process_group(backend, timeout=TIMEOUT)
    try:
        yield
    finally:
        dist.destroy_process_group()


def barrier() -> None:
    """Wait for all processes."""
    if dist.is_initialized():
        dist.barrier()


def sum_(tensor: Tensor) -> Tensor:
    """Replace the tensor by its sum over processes, and return it; no gradient."""
    if dist.is_initialized():
        dist.all_reduce(tensor)
    return tensor


def mean(tensor: Tensor) -> Tensor:
    """Return the mean over processes; no gradient."""
    return sum_(tensor.detach().clone()) / world_size()


def gather(
    arrays: Mapping[str, Shaped[np.ndarray, "..."]],
) -> list[dict[str, Shaped[np.ndarray, "..."]]]:
    """Return everybody's arrays, in order of rank; they have the same names, types and shapes.

    PyTorch's own gathering of objects would pickle them.
    """
    records: list[dict[str, Shaped[np.ndarray, ...]]] = [{} for _ in range(world_size())]
    for name, array in arrays.items():
        mine = torch.from_numpy(np.array(array))
        parts = [torch.empty_like(mine) for _ in records] if dist.is_initialized() else [mine]
        if dist.is_initialized():
            dist.all_gather(parts, mine)
        for record, part in zip(records, parts, strict=True):
            record[name] = part.numpy()
    return records


class _Sum(torch.autograd.Function):
    """Sum over processes; the gradient of a sum is the sum of the gradients."""

    @staticmethod
    def forward(_ctx: Any, tensor: Tensor) -> Tensor:
        return sum_(tensor.clone(memory_format=torch.contiguous_format))

    @staticmethod
    def backward(_ctx: Any, *gradients: Tensor) -> Tensor:
        return sum_(gradients[0].clone(memory_format=torch.contiguous_format))


def differentiable_sum(tensor: Tensor) -> Tensor:
    """Return the sum over processes, with its gradient."""
    summed: Tensor = _Sum.apply(tensor)  # type: ignore[no-untyped-call]
    return summed


def any_of(flag: bool) -> bool:
    """Return whether the flag is set on any process."""
    if not dist.is_initialized():
        return flag
    return bool(sum_(torch.tensor(float(flag))).item())
