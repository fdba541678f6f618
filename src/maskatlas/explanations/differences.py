"""How far an image is from a reference, in what each layer of a network makes of both.

DeepLIFT's Rescale rule (Shrikumar, Greenside and Kundaje 2017): an activation function is replaced
by the line through what it does to the image and to the reference, so that a difference goes
through it as through a linear layer. What the network answers to the two then differs by exactly
the sum, over one layer, of each number's difference times its gradient.
"""

from collections.abc import Callable, Iterator
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.functional import pad, unfold

from maskatlas.extractors import BatchNorm, PadEnd

Numbers = Float[Tensor, "batch *shape"]
Constant = Float[Tensor, "one *shape"]

ELEMENTWISE: tuple[type[nn.Module], ...] = (
    *(nn.ReLU, nn.ReLU6, nn.LeakyReLU, nn.PReLU, nn.RReLU, nn.ELU, nn.CELU, nn.SELU, nn.GELU),
    *(nn.SiLU, nn.Mish, nn.Hardswish, nn.Hardsigmoid, nn.Hardtanh, nn.Hardshrink, nn.Softshrink),
    *(nn.Tanhshrink, nn.Threshold, nn.Sigmoid, nn.LogSigmoid, nn.Tanh, nn.Softplus, nn.Softsign),
)
"""Activation functions: each number for itself."""
LINEAR: tuple[type[nn.Module], ...] = (
    *(nn.Conv2d, nn.ConvTranspose2d, nn.BatchNorm2d, BatchNorm, nn.AvgPool2d, nn.Identity),
    *(nn.Dropout, nn.Dropout2d, nn.ZeroPad2d, nn.ReflectionPad2d, nn.ReplicationPad2d, PadEnd),
)
"""In eval mode linear but for a constant, from maps to maps."""


class Pair(NamedTuple):
    """The same numbers of some images and of one reference."""

    images: Numbers
    """With a graph, in which the gradient of an activation function is the slope of its line."""
    reference: Constant
    """Without one."""

    @property
    def difference(self) -> Numbers:
        """Of images and reference, without a graph."""
        return self.images.detach() - self.reference


def chain(module: nn.Module) -> Iterator[nn.Module]:
    """Yield the modules that a module applies one after the other; itself if it is no chain."""
    if _passes_as(module, (nn.Sequential,)):
        for part in module.children():
            yield from chain(part)
    else:
        yield module


def is_elementwise(module: nn.Module) -> bool:
    """Return whether it is an activation function: each number for itself."""
    return _passes_as(module, ELEMENTWISE)


def keeps_sums(module: nn.Module) -> bool:
    """Return whether :func:`through` gives differences that add up, from maps to maps."""
    return is_elementwise(module) or _is_linear(module) or _is_maximum(module)


def _passes_as(module: nn.Module, kinds: tuple[type[nn.Module], ...]) -> bool:
    """Return whether it computes what one of these does: a subclass may, with a pass unchanged."""
    return type(module).forward in {kind.forward for kind in kinds}


def _is_linear(module: nn.Module) -> bool:
    """Return whether it is one of :data:`LINEAR`, and normalises by nothing that it is given."""
    own = not isinstance(module, nn.BatchNorm2d) or module.running_mean is not None
    return own and _passes_as(module, LINEAR)


def _is_maximum(module: nn.Module) -> bool:
    return (
        isinstance(module, nn.MaxPool2d)
        and _passes_as(module, (nn.MaxPool2d,))
        and module.dilation in (1, (1, 1))
        and not (module.ceil_mode or module.return_indices)
    )


def through(module: nn.Module, pair: Pair) -> Pair:
    """Return what one module of a chain makes of both.

    Lines stand in for activation functions and maxima; a linear module is itself. Any other keeps
    the gradient that it has at the images, and differences do not add up through it; one whose
    result has no graph begins a new one.
    """
    if is_elementwise(module):
        return elementwise(lambda numbers: module(numbers.clone()), pair)  # it may be in place
    if _is_maximum(module):
        assert isinstance(module, nn.MaxPool2d)
        return _largest(module, pair)
    with torch.no_grad():
        reference = module(pair.reference)
    images = module(pair.images)
    return Pair(images if images.requires_grad else images.detach().requires_grad_(), reference)


def elementwise(function: Callable[[Tensor], Tensor], pair: Pair) -> Pair:
    """Return what a function of each number makes of both, in its graph the line through them.

    Where the two are too close to tell a slope, beside their size, it is the function's own at the
    images.
    """
    with torch.no_grad():
        reference = function(pair.reference)
    with torch.enable_grad():
        numbers = pair.images.detach().requires_grad_()
        values = function(numbers)
        (tangent,) = torch.autograd.grad(values.sum(), numbers)
    numbers, values, apart = numbers.detach(), values.detach(), pair.difference
    size = torch.maximum(numbers.abs(), pair.reference.abs())
    clear = apart.abs() > torch.finfo(apart.dtype).eps ** 0.5 * size
    slope = torch.where(clear, (values - reference) / torch.where(clear, apart, 1), tangent)
    return Pair(values + slope * (pair.images - numbers), reference)


def _largest(pool: nn.MaxPool2d, pair: Pair) -> Pair:
    """Return the maxima of both, found two by two, row by row: max(a, b) = b + ReLU(a - b)."""
    lowest = min(float(numbers.detach().min()) for numbers in pair)
    images, reference = (_windows(pool, numbers, lowest) for numbers in pair)
    best = Pair(images[:, :, 0], reference[:, :, 0])
    for place in range(1, images.shape[2]):
        other = Pair(images[:, :, place], reference[:, :, place])
        ahead = Pair(other.images - best.images, other.reference - best.reference)
        graph = best.images + elementwise(torch.relu, ahead).images
        values, reference_values = (
            torch.maximum(ours.detach(), theirs.detach())  # a sum would lose digits
            for ours, theirs in zip(best, other, strict=True)
        )
        best = Pair(values + (graph - graph.detach()), reference_values)
    return best


def _windows(
    pool: nn.MaxPool2d, numbers: Float[Tensor, "batch channel rows columns"], lowest: float
) -> Float[Tensor, "batch channel place height width"]:
    """Return what a pooling looks at, for each place in its window."""
    size, stride, padding = (
        value if isinstance(value, tuple) else (value, value)
        for value in (pool.kernel_size, pool.stride, pool.padding)
    )
    border = (padding[1], padding[1], padding[0], padding[0])
    filled = pad(numbers, border, value=lowest)
    height, width = ((filled.shape[2 + axis] - size[axis]) // stride[axis] + 1 for axis in range(2))
    windows: Tensor = unfold(filled, size, stride=stride)
    return windows.view(len(numbers), numbers.shape[1], -1, height, width)
