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

Numbers = Float[Tensor, "batch *shape"]
Constant = Float[Tensor, "one *shape"]

ELEMENTWISE = (
    *(nn.ReLU, nn.ReLU6, nn.LeakyReLU, nn.PReLU, nn.ELU, nn.CELU, nn.SELU, nn.GELU, nn.SiLU),
    *(nn.Mish, nn.Hardswish, nn.Hardsigmoid, nn.Hardtanh, nn.Sigmoid, nn.Tanh, nn.Softplus),
)
"""Activation functions: each number for itself."""


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
    if type(module).forward is nn.Sequential.forward:
        assert isinstance(module, nn.Sequential)
        for part in module:
            yield from chain(part)
    else:
        yield module


def through(module: nn.Module, pair: Pair) -> Pair:
    """Return what one module of a chain makes of both.

    Lines stand in for activation functions and maxima; a linear module is itself. Any other keeps
    the gradient that it has at the images: no sum over the layers before it is exact then.
    """
    if isinstance(module, ELEMENTWISE):
        return elementwise(lambda numbers: module(numbers.clone()), pair)  # it may be in place
    if type(module) is nn.MaxPool2d and not module.ceil_mode and module.dilation in (1, (1, 1)):
        return _largest(module, pair)
    with torch.no_grad():
        reference = module(pair.reference)
    return Pair(module(pair.images), reference)


def elementwise(function: Callable[[Tensor], Tensor], pair: Pair) -> Pair:
    """Return what a function of each number makes of both, in its graph the line through them.

    Where they are too close to tell a slope, it is the function's own at the images.
    """
    with torch.no_grad():
        reference = function(pair.reference)
    with torch.enable_grad():
        numbers = pair.images.detach().requires_grad_()
        values = function(numbers)
        (tangent,) = torch.autograd.grad(values.sum(), numbers)
    values, apart = values.detach(), pair.difference
    clear = apart.abs() > torch.finfo(apart.dtype).eps ** 0.5
    slope = torch.where(clear, (values - reference) / torch.where(clear, apart, 1), tangent)
    return Pair(values + slope * (pair.images - pair.images.detach()), reference)


def _largest(pool: nn.MaxPool2d, pair: Pair) -> Pair:
    """Return the maxima of both, found two by two: max(a, b) = b + ReLU(a - b)."""
    lowest = min(float(numbers.detach().min()) for numbers in pair)
    images, reference = (_windows(pool, numbers, lowest) for numbers in pair)
    best = Pair(images[:, :, 0], reference[:, :, 0])
    for place in range(1, images.shape[2]):
        other = Pair(images[:, :, place], reference[:, :, place])
        ahead = Pair(other.images - best.images, other.reference - best.reference)
        gain = elementwise(torch.relu, ahead)
        best = Pair(best.images + gain.images, best.reference + gain.reference)
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
