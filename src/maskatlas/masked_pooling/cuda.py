"""Masked pooling on NVIDIA GPUs by Triton kernels: the same results as `reference`, tile by tile.

The kernels are in :mod:`~maskatlas.masked_pooling.triton_kernels`, imported when they are first
needed: Triton comes with PyTorch's builds for CUDA and is not there elsewhere. Each sum has one
owner and one order, so that the same call on the same GPU gives the same bits, asked for or not.
What is held beyond results is the maps in the type of the products, where they have another, and
parts of the weight gradient: about as many tiles as programs, whatever the number of attributes.
"""

import importlib.util
from functools import cache
from types import ModuleType
from typing import Any, NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from maskatlas.masked_pooling.reference import Gradients, Problem, Wanted

_TYPES = (torch.float32, torch.bfloat16, torch.float16)
_CAPABILITY = (8, 0)  # the oldest that Triton supports
_WAVES = 4  # of programs, so that the last ones to run leave few multiprocessors idle
_REGISTERS = 65536  # of a multiprocessor


class Tiling(NamedTuple):
    """How much of the maps a program holds at most, and how it is compiled."""

    positions: int
    channels: int
    guides: int
    num_warps: int
    num_stages: int
    resident: int  # how many programs a multiprocessor is to run at a time


# Chosen by what they compile to for Hopper: no tile lives in memory, and shared memory suffices for
# older GPUs too. With more mask features than 128, a program holds several tiles of them. Float32
# takes its products without tensor cores, from operands in registers, and its tiles are smaller.
TILINGS = {
    "sums": {
        (2, False): Tiling(128, 64, 128, num_warps=4, num_stages=2, resident=3),
        (2, True): Tiling(128, 64, 128, num_warps=4, num_stages=1, resident=2),
        (4, False): Tiling(128, 64, 32, num_warps=8, num_stages=2, resident=1),
        (4, True): Tiling(128, 64, 32, num_warps=8, num_stages=2, resident=1),
    },
    "map_gradients": {
        (2, False): Tiling(128, 128, 128, num_warps=8, num_stages=2, resident=1),
        (2, True): Tiling(64, 128, 128, num_warps=8, num_stages=1, resident=1),
        (4, False): Tiling(32, 128, 128, num_warps=8, num_stages=2, resident=1),
        (4, True): Tiling(32, 64, 64, num_warps=8, num_stages=2, resident=1),
    },
    "weight_gradients": {
        (2, False): Tiling(128, 128, 128, num_warps=8, num_stages=2, resident=1),
        (2, True): Tiling(64, 128, 128, num_warps=8, num_stages=1, resident=1),
        (4, False): Tiling(32, 64, 128, num_warps=8, num_stages=2, resident=1),
        (4, True): Tiling(32, 64, 64, num_warps=8, num_stages=2, resident=1),
    },
}
"""By kernel, bytes of an element, and whether there are more than 128 mask features.

In `map_gradients`, channels and guides are tiled alike.
"""


def suits(problem: Problem) -> bool:
    """Whether Triton can do it: its types, one of its GPUs, and Triton itself at hand."""
    tensors = (problem.features, problem.mask_features, problem.weight, problem.bias)
    device = problem.features.device
    return (
        device.type == "cuda"
        and problem.dtype in _TYPES
        and all(x is None or (x.device == device and x.dtype in _TYPES) for x in tensors)
        and problem.features.numel() > 0
        and problem.weight.numel() > 0
        and not torch.compiler.is_compiling()
        and torch.version.hip is None
        and torch.cuda.get_device_capability(device) >= _CAPABILITY
        and _triton_is_here()
    )


def pool(
    problem: Problem,
) -> tuple[Float[Tensor, "batch attribute channel"], Float[Tensor, "batch attribute channel"]]:
    """Return the pooled features and the means of the masks."""
    features, guides, weight, bias = _operands(problem)
    batch, attributes, channels = len(features), *bias.shape
    pooled = torch.empty(batch, attributes, channels, device=features.device)
    mask_mean = torch.empty_like(pooled)
    sizes = _sizes("sums", problem)
    channel_tiles = _tiles(channels, sizes["CHANNELS"])
    each = _share(attributes, batch * channel_tiles, _programs("sums", problem))
    grid = (batch, channel_tiles, _tiles(attributes, each))
    with torch.cuda.device_of(features):  # where kernels are started
        _kernels().sums[grid](
            *(*_steps(features), *_steps(guides), weight, bias, pooled, mask_mean),
            *(problem.offset, attributes, each),
            **sizes,
        )
    return pooled, mask_mean


def pool_gradients(
    problem: Problem,
    pooled_gradient: Float[Tensor, "batch attribute channel"],
    mask_gradient: Float[Tensor, "batch attribute channel"],
    wanted: Wanted,
) -> Gradients:
    """Carry gradients from the results of :func:`pool` to what went in."""
    operands = _operands(problem)
    arriving = (pooled_gradient.float().contiguous(), mask_gradient.float().contiguous())
    gradients = Gradients(None, None, None, None)
    with torch.cuda.device_of(problem.features):
        if wanted.features or (problem.mask_features is not None and wanted.mask_features):
            of_features, of_guides = _map_gradients(problem, operands, arriving, wanted)
            gradients = gradients._replace(features=of_features, mask_features=of_guides)
        if wanted.weight or wanted.bias:
            weight, bias = _weight_gradients(problem, operands, arriving)
            gradients = gradients._replace(
                weight=weight.to(problem.weight.dtype) if wanted.weight else None,
                bias=bias.to(problem.bias.dtype) if wanted.bias else None,
            )
    return gradients


_Operands = tuple[Tensor, Tensor, Tensor, Tensor]


def _map_gradients(
    problem: Problem, operands: _Operands, arriving: tuple[Tensor, Tensor], wanted: Wanted
) -> tuple[Tensor | None, Tensor | None]:
    features, guides, weight, bias = operands
    shared = problem.mask_features is None
    of_features = torch.empty_like(features, dtype=problem.features.dtype)
    of_guides = of_features
    if problem.mask_features is not None:
        of_guides = torch.empty_like(guides, dtype=problem.mask_features.dtype)
    sizes = _sizes("map_gradients", problem)
    tiles = max(
        _tiles(features.shape[1], sizes["CHANNELS"]), _tiles(guides.shape[1], sizes["GUIDES"])
    )
    grid = (len(features), _tiles(features.shape[2], sizes["POSITIONS"]), tiles)
    _kernels().map_gradients[grid](
        *(*_steps(features), *_steps(guides), weight, bias, *arriving),
        *(*_steps(of_features), *_steps(of_guides), problem.offset, len(weight)),
        OF_FEATURES=wanted.features,
        OF_GUIDES=shared or wanted.mask_features,
        **sizes,
    )
    size = problem.features.shape[2:]
    return (
        of_features.unflatten(2, size) if wanted.features else None,
        of_guides.unflatten(2, size) if wanted.mask_features and not shared else None,
    )


def _weight_gradients(
    problem: Problem, operands: _Operands, arriving: tuple[Tensor, Tensor]
) -> tuple[Tensor, Tensor]:
    features, guides, weight, bias = operands
    sizes = _sizes("weight_gradients", problem)
    tiles = _tiles(bias.shape[1], sizes["CHANNELS"]) * _tiles(guides.shape[1], sizes["GUIDES"])
    each = _share(len(features), len(weight) * tiles, _programs("weight_gradients", problem))
    parts = _tiles(len(features), each)
    of_weight = torch.empty(parts, *weight.shape, device=weight.device)
    of_bias = torch.empty(parts, *bias.shape, device=bias.device)
    _kernels().weight_gradients[(len(weight), tiles, parts)](
        *(*_steps(features), *_steps(guides), weight, bias, *arriving, of_weight, of_bias),
        *(len(features), each, len(weight)),
        **sizes,
    )
    return (of_weight[0], of_bias[0]) if parts == 1 else (of_weight.sum(0), of_bias.sum(0))


def _operands(problem: Problem) -> _Operands:
    """Maps as [batch, channel, position] and weights in the type of the products; the bias."""
    features = problem.features.to(problem.dtype).flatten(2)
    guides = problem.mask_features
    return (
        features,
        features if guides is None else guides.to(problem.dtype).flatten(2),
        problem.weight.to(problem.dtype).contiguous(),
        problem.bias.float().contiguous(),
    )


def _sizes(kernel: str, problem: Problem) -> dict[str, Any]:
    """What a kernel is compiled for: the sizes of the problem, and of its tiles."""
    tiling = _tiling(kernel, problem)
    positions = problem.features.shape[2:].numel()
    channels, guides = problem.weight.shape[1:]
    position_tile = _fit(tiling.positions, positions)
    channel_tile = _fit(tiling.channels, channels)
    filled = position_tile * channel_tile / (tiling.positions * tiling.channels)
    return {
        "HW": positions,
        "C": channels,
        "G": guides,
        "SHARED": problem.mask_features is None,
        "POSITIONS": position_tile,
        "CHANNELS": channel_tile,
        "GUIDES": _fit(tiling.guides, guides),
        "num_warps": max(4, int(tiling.num_warps * filled)),
        "num_stages": tiling.num_stages,
        "maxnreg": min(255, _REGISTERS // (32 * tiling.num_warps * tiling.resident) // 8 * 8),
    }


def _tiling(kernel: str, problem: Problem) -> Tiling:
    return TILINGS[kernel][problem.dtype.itemsize, problem.weight.shape[2] > 128]


def _fit(tile: int, length: int) -> int:
    """The smallest power of two that holds the axis, between 16 and the tile."""
    return max(16, min(tile, 1 << (length - 1).bit_length()))


def _tiles(length: int, tile: int) -> int:
    return -(-length // tile)


def _share(length: int, programs: int, wanted: int) -> int:
    """How much of an axis each program takes, if without splitting it there were `programs`."""
    return _tiles(length, min(length, max(1, wanted // programs)))


def _programs(kernel: str, problem: Problem) -> int:
    """How many programs keep all multiprocessors at work."""
    return _WAVES * _tiling(kernel, problem).resident * _processors(problem.features.device)


def _steps(maps: Tensor) -> tuple[Tensor | int, ...]:
    """The maps, and how far apart their images, channels and positions lie."""
    return maps, *maps.stride()


@cache
def _processors(device: torch.device) -> int:
    if device.type != "cuda":  # Triton's interpreter
        return 1
    return torch.cuda.get_device_properties(device).multi_processor_count


@cache
def _triton_is_here() -> bool:
    return importlib.util.find_spec("triton") is not None


def _kernels() -> ModuleType:
    from maskatlas.masked_pooling import triton_kernels

    return triton_kernels
