"""Masked pooling by compiled code on the CPU: the same results as `reference`, tile by tile.

The code is in the folder kernel. It runs on the threads of torch's own OpenMP where those can
be had, so that no second team of threads gets in their way, and on threads of its own otherwise.
"""

import ctypes
import functools
from pathlib import Path
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from maskatlas.masked_pooling.compilation import compiled
from maskatlas.masked_pooling.reference import Gradients, Head, Problem, Wanted

_SOURCE = Path(__file__).with_name("kernel") / "kernel.c"
_TYPES = {torch.float32: 0, torch.bfloat16: 1}
_FUSED_POSITIONS = 4096  # of an image, all of whose masks for one attribute are kept for a moment


def suits(problem: Problem) -> bool:
    """Whether compiled code can do it: float32 or bfloat16, on a CPU, a compiler at hand."""
    maps = (problem.features, problem.mask_features)
    return (
        problem.dtype in _TYPES
        and all(x is None or (x.device.type == "cpu" and x.dtype in _TYPES) for x in maps)
        and problem.features.numel() > 0
        and problem.weight.numel() > 0
        and not torch.compiler.is_compiling()
        and compiled(_SOURCE) is not None
    )


def pool(
    problem: Problem,
) -> tuple[Float[Tensor, "batch attribute channel"], Float[Tensor, "batch attribute channel"]]:
    """Return the pooled features and the means of the masks."""
    batch, attributes, channels = len(problem.features), *problem.bias.shape
    pooled = torch.empty(batch, attributes, channels)
    mask_mean = torch.empty_like(pooled)
    _call("masked_pooling_forward", problem, pooled, mask_mean)
    return pooled, mask_mean


def pool_gradients(
    problem: Problem,
    pooled_gradient: Float[Tensor, "batch attribute channel"],
    mask_gradient: Float[Tensor, "batch attribute channel"],
    wanted: Wanted,
) -> Gradients:
    """Carry gradients from the results of :func:`pool` to what went in."""
    of_features = _empty_like(problem.features) if wanted.features else None
    of_guides = None
    if problem.mask_features is not None and wanted.mask_features:
        of_guides = _empty_like(problem.mask_features)
    weight = torch.empty(problem.weight.shape) if wanted.weight else None
    bias = torch.empty(problem.bias.shape) if wanted.bias else None
    gradients = Gradients(of_features, of_guides, weight, bias)
    _call(
        "masked_pooling_backward",
        problem,
        pooled_gradient.float().contiguous(),
        mask_gradient.float().contiguous(),
        gradients,
    )
    return gradients._replace(
        weight=None if weight is None else weight.to(problem.weight.dtype),
        bias=None if bias is None else bias.to(problem.bias.dtype),
    )


def fuses(problem: Problem) -> bool:
    """Whether compiled code can do forward and backward at once."""
    return suits(problem) and problem.features.shape[2:].numel() <= _FUSED_POSITIONS


class Fused(NamedTuple):
    """What one pass finds: the loss, what it is made of, and its gradients."""

    loss: Float[Tensor, ""]
    logits: Float[Tensor, "batch attribute"]
    pooled: Float[Tensor, "batch attribute channel"]
    mask_mean: Float[Tensor, "batch attribute channel"]
    gradients: Gradients
    of_head_weight: Float[Tensor, "attribute channel"]
    of_head_bias: Float[Tensor, " attribute"]


def loss_and_gradients(problem: Problem, head: Head) -> Fused:
    """Return the loss and its gradients, and what it was computed from.

    The loss is ``head.binary`` times the sum of the binary cross-entropies of known labels plus
    ``head.mask_l1`` times the sum of the means of masks plus ``head.contribution_l1`` times the sum
    of the absolute contributions of channels.
    """
    batch, attributes, channels = len(problem.features), *problem.bias.shape
    guides = problem.mask_features
    found = Fused(
        loss=torch.empty(()),
        logits=torch.empty(batch, attributes),
        pooled=torch.empty(batch, attributes, channels),
        mask_mean=torch.empty(batch, attributes, channels),
        gradients=Gradients(
            _empty_like(problem.features),
            None if guides is None else _empty_like(guides),
            torch.empty(problem.weight.shape),
            torch.empty(problem.bias.shape),
        ),
        of_head_weight=torch.empty(attributes, channels),
        of_head_bias=torch.empty(attributes),
    )
    _call(
        "masked_pooling_fused",
        problem,
        found.pooled,
        found.mask_mean,
        found.gradients,
        head,
        found,
    )
    return found


class _Maps(ctypes.Structure):
    _fields_ = (
        ("data", ctypes.c_void_p),
        ("image_step", ctypes.c_int64),
        ("channel_step", ctypes.c_int64),
        ("position_step", ctypes.c_int64),
        ("channels", ctypes.c_int64),
        ("type", ctypes.c_int64),
    )


class _Problem(ctypes.Structure):
    """`struct Problem` of kernel/problem.h."""

    _fields_ = (
        ("images", ctypes.c_int64),
        ("positions", ctypes.c_int64),
        ("attributes", ctypes.c_int64),
        ("features", _Maps),
        ("guides", _Maps),
        ("weight", ctypes.c_void_p),
        ("bias", ctypes.c_void_p),
        ("offset", ctypes.c_double),
        ("pairs", ctypes.c_int64),
        ("pooled", ctypes.c_void_p),
        ("mask_mean", ctypes.c_void_p),
        ("feature_gradient", _Maps),
        ("guide_gradient", _Maps),
        ("weight_gradient", ctypes.c_void_p),
        ("bias_gradient", ctypes.c_void_p),
        ("head_weight", ctypes.c_void_p),
        ("head_bias", ctypes.c_void_p),
        ("labels", ctypes.c_void_p),
        ("binary", ctypes.c_double),
        ("mask_l1", ctypes.c_double),
        ("contribution_l1", ctypes.c_double),
        ("logits", ctypes.c_void_p),
        ("loss", ctypes.c_void_p),
        ("head_weight_gradient", ctypes.c_void_p),
        ("head_bias_gradient", ctypes.c_void_p),
        ("threads", ctypes.c_int64),
        ("team", ctypes.c_void_p),
        ("barrier", ctypes.c_void_p),
    )


def _call(
    function: str,
    problem: Problem,
    pooled: Tensor,
    mask_mean: Tensor,
    gradients: Gradients | None = None,
    head: Head | None = None,
    found: Fused | None = None,
) -> None:
    library = compiled(_SOURCE)
    assert library is not None
    features = _flat(problem.features)
    guides = None if problem.mask_features is None else _flat(problem.mask_features)
    weight, bias = _plain(problem.weight), _plain(problem.bias)
    gradients = gradients or Gradients(None, None, None, None)
    given = () if head is None else tuple(_plain(tensor) for tensor in head[:3])
    head_weight, head_bias, labels = given or (None, None, None)
    assert ctypes.sizeof(_Problem) == library.masked_pooling_problem_bytes()
    arguments = _Problem(
        images=len(features),
        positions=features.shape[2] * features.shape[3],
        attributes=len(weight),
        features=_maps(features),
        guides=_maps(guides),
        weight=weight.data_ptr(),
        bias=bias.data_ptr(),
        offset=problem.offset,
        pairs=problem.dtype == torch.bfloat16,
        pooled=pooled.data_ptr(),
        mask_mean=mask_mean.data_ptr(),
        feature_gradient=_maps(gradients.features),
        guide_gradient=_maps(gradients.mask_features),
        weight_gradient=_pointer(gradients.weight),
        bias_gradient=_pointer(gradients.bias),
        head_weight=_pointer(head_weight),
        head_bias=_pointer(head_bias),
        labels=_pointer(labels),
        binary=0.0 if head is None else head.binary,
        mask_l1=0.0 if head is None else head.mask_l1,
        contribution_l1=0.0 if head is None else head.contribution_l1,
        logits=_pointer(found and found.logits),
        loss=_pointer(found and found.loss),
        head_weight_gradient=_pointer(found and found.of_head_weight),
        head_bias_gradient=_pointer(found and found.of_head_bias),
        threads=torch.get_num_threads(),
        team=_address("GOMP_parallel"),
        barrier=_address("GOMP_barrier"),
    )
    if getattr(library, function)(ctypes.byref(arguments)):
        raise MemoryError(f"{function}: no memory for {len(weight)} attributes")


def _plain(tensor: Tensor) -> Tensor:
    return tensor.detach().float().contiguous()


def _position_step(maps: Tensor) -> int | None:
    """How many elements apart neighbours lie, if every position has the same step to the next."""
    height, width = maps.shape[2:]
    if width == 1:  # of an axis of length one, the step says nothing
        return maps.stride(2)
    if height == 1 or maps.stride(2) == width * maps.stride(3):
        return maps.stride(3)
    return None


def _flat(maps: Tensor) -> Tensor:
    """The maps themselves if their positions lie one step apart, else a copy."""
    if _position_step(maps) is not None:
        return maps
    return maps.contiguous(memory_format=torch.channels_last)


def _empty_like(maps: Tensor) -> Tensor:
    by_channel = maps.stride(1) == 1
    layout = torch.channels_last if by_channel else torch.contiguous_format
    return torch.empty_like(maps, memory_format=layout)


def _maps(maps: Tensor | None) -> _Maps:
    if maps is None:
        return _Maps()
    return _Maps(
        data=maps.data_ptr(),
        image_step=maps.stride(0),
        channel_step=maps.stride(1),
        position_step=_position_step(maps),
        channels=maps.shape[1],
        type=_TYPES[maps.dtype],
    )


def _pointer(tensor: Tensor | None) -> int | None:
    return None if tensor is None else tensor.data_ptr()


@functools.cache
def _address(name: str) -> int | None:
    """The address of a function that torch has loaded into this process; to ask takes 0.1 ms."""
    try:
        return ctypes.cast(getattr(ctypes.CDLL(None), name), ctypes.c_void_p).value
    except (AttributeError, OSError, TypeError):
        return None
