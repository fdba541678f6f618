import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn
from torch.nn.utils.parametrizations import weight_norm

from maskatlas.explanations.differences import (
    ELEMENTWISE,
    LINEAR,
    Pair,
    chain,
    elementwise,
    is_elementwise,
    keeps_sums,
    through,
)
from maskatlas.extractors import BatchNorm
from networks import draw_images


def numbers(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def pair_of(*shape: int) -> Pair:
    return Pair(numbers(*shape).requires_grad_(), numbers(1, *shape[1:], seed=1))


def shares(before: Pair, after: Pair) -> torch.Tensor:
    """What each number before adds to the difference of the sum after, of each image."""
    (slope,) = torch.autograd.grad(after.images.sum(), before.images)
    return slope * before.difference


@pytest.mark.parametrize("kind", ELEMENTWISE)
def test_an_activation_functions_differences_add_up(kind: type[nn.Module]) -> None:
    function = (kind(0.1, -0.3) if kind is nn.Threshold else kind()).double().eval()
    assert is_elementwise(function)
    before = pair_of(3, 4, 5)
    after = through(function, before)
    torch.testing.assert_close(after.images, function(before.images.clone()))
    torch.testing.assert_close(after.reference, function(before.reference.clone()))
    torch.testing.assert_close(shares(before, after), after.difference)


LAYERS = {
    nn.Conv2d: lambda: nn.Conv2d(2, 3, 3, stride=2, padding=1),
    nn.ConvTranspose2d: lambda: nn.ConvTranspose2d(2, 3, 3, stride=2),
    nn.BatchNorm2d: lambda: nn.BatchNorm2d(2),
    BatchNorm: lambda: BatchNorm(2),
    nn.AvgPool2d: lambda: nn.AvgPool2d(2),
    nn.ZeroPad2d: lambda: nn.ZeroPad2d(2),
    nn.ReflectionPad2d: lambda: nn.ReflectionPad2d(2),
    nn.ReplicationPad2d: lambda: nn.ReplicationPad2d(2),
}


@pytest.mark.parametrize(
    "module",
    [
        *(LAYERS.get(kind, kind)() for kind in LINEAR),
        nn.PReLU(2),
        nn.MaxPool2d(2),
        nn.MaxPool2d(3, stride=2, padding=1),
        nn.MaxPool2d((2, 3), stride=(1, 2), padding=(1, 0)),
    ],
)
def test_what_goes_through_adds_up_to_what_comes_out(module: nn.Module) -> None:
    module = module.double().eval()
    assert keeps_sums(module)
    before = pair_of(2, 2, 9, 7)
    after = through(module, before)
    torch.testing.assert_close(after.images, module(before.images))
    torch.testing.assert_close(after.reference, module(before.reference))
    torch.testing.assert_close(
        shares(before, after).sum((1, 2, 3)), after.difference.sum((1, 2, 3))
    )


def test_a_maximum_is_shared_out_between_the_two_that_are_largest() -> None:
    """3 for the image and 5 for the reference at different places: neither has all of -2."""
    images = torch.tensor([[[[3.0, 0.0], [0.0, 0.0]]]], dtype=torch.float64)
    reference = torch.tensor([[[[0.0, 5.0], [0.0, 0.0]]]], dtype=torch.float64)
    before = Pair(images.requires_grad_(), reference)
    found = shares(before, through(nn.MaxPool2d(2), before))
    torch.testing.assert_close(found.sum(), torch.tensor(-2.0, dtype=torch.float64))
    # ReLU(b - a) goes from 5 to 0 as b - a goes from 5 to -3: a slope of 5/8
    expected = torch.tensor([[3 * 3 / 8, -5 * 5 / 8], [0, 0]], dtype=torch.float64)
    torch.testing.assert_close(found[0, 0], expected)


@pytest.mark.parametrize(
    "pool",
    [
        nn.MaxPool2d(2, ceil_mode=True),
        nn.MaxPool2d(2, dilation=2),
        nn.LayerNorm(7),
        nn.GroupNorm(1, 2),
        nn.BatchNorm2d(2, track_running_stats=False),
        nn.Sequential(nn.Conv2d(2, 2, 1), nn.ReLU()),
    ],
)
def test_another_module_keeps_its_own_gradient(pool: nn.Module) -> None:
    pool = pool.double()
    assert not keeps_sums(pool)
    before = pair_of(2, 2, 9, 7)
    (found,) = torch.autograd.grad(through(pool, before).images.square().sum(), before.images)
    numbers = before.images.detach().requires_grad_()
    (expected,) = torch.autograd.grad(pool(numbers).square().sum(), numbers)
    torch.testing.assert_close(found, expected)


@given(st.floats(-3, 3), st.floats(-1e-9, 1e-9))
def test_numbers_too_close_to_tell_a_slope_have_the_functions_own(at: float, apart: float) -> None:
    before = Pair(
        torch.tensor([[at]], dtype=torch.float64, requires_grad=True),
        torch.tensor([[at + apart]], dtype=torch.float64),
    )
    (slope,) = torch.autograd.grad(elementwise(torch.tanh, before).images.sum(), before.images)
    assert abs(float(slope) - (1 - torch.tanh(torch.tensor(at)).item() ** 2)) < 1e-5


@pytest.mark.parametrize("scale", [1e-6, 1.0, 1e4])
def test_how_large_numbers_are_changes_no_share(scale: float) -> None:
    numbers = torch.tensor([[0.5, -0.2, 2.0]]), torch.tensor([[0.499, 0.3, -1.0]])
    before = Pair((scale * numbers[0]).requires_grad_(), scale * numbers[1])
    (slope,) = torch.autograd.grad(elementwise(torch.relu, before).images.sum(), before.images)
    torch.testing.assert_close(slope, torch.tensor([[1.0, 0.6, 2 / 3]]), rtol=1e-4, atol=0)


def test_a_border_far_below_costs_a_maximum_no_digits() -> None:
    images = torch.full((1, 1, 4, 4), 1e-3)
    images[0, 0, 0, 0] = -1e5
    pool = nn.MaxPool2d(3, stride=2, padding=1)
    after = through(pool, Pair(images.requires_grad_(), torch.zeros(1, 1, 4, 4)))
    assert torch.equal(after.images, pool(images))


class Halved(nn.ReLU):
    """A subclass with a pass of its own."""

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return super().forward(images) / images.shape[1]


def test_a_subclass_counts_as_its_kind_only_with_its_kinds_pass() -> None:
    class Named(nn.ReLU):
        pass

    assert keeps_sums(Named())
    assert keeps_sums(weight_norm(nn.Conv2d(2, 2, 1)))
    assert not keeps_sums(Halved())


def test_what_loses_the_graph_begins_a_new_one() -> None:
    class Frozen(nn.Module):
        @torch.no_grad()
        def forward(self, images: torch.Tensor) -> torch.Tensor:
            return 2 * images

    after = through(Frozen(), pair_of(2, 2, 3, 3))
    assert after.images.is_leaf
    assert after.images.requires_grad


def test_an_activation_in_place_changes_nothing_before_it() -> None:
    before = pair_of(2, 3)
    kept = before.images.detach().clone(), before.reference.clone()
    through(nn.ReLU(inplace=True), before)
    assert torch.equal(before.images, kept[0])
    assert torch.equal(before.reference, kept[1])


class Doubled(nn.Sequential):
    """A chain that does more than its parts."""

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return 2 * super().forward(images)


def test_a_chain_of_chains_is_taken_apart_but_none_with_a_pass_of_its_own() -> None:
    first, second, third = nn.ReLU(), nn.Tanh(), nn.Conv2d(3, 3, 1)
    own = Doubled(third)
    found = list(chain(nn.Sequential(nn.Sequential(first, second), own)))
    assert found == [first, second, own]
    assert list(chain(third)) == [third]
    assert through(own, Pair(draw_images(1, 4).float(), draw_images(1, 4).float())).images.ndim == 4
