import inspect
from collections.abc import Iterator
from itertools import product

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from maskatlas.masked_pooling import MaskedPool, cpu, masked_loss, masked_pool
from reference.masked_pooling import masked_pool as slow_masked_pool

TOLERANCE = {torch.float64: 1e-12, torch.float32: 1e-5, torch.bfloat16: 1e-2}


@pytest.fixture(autouse=True, scope="module", params=["plain", "compiled"])
def form(request: pytest.FixtureRequest) -> Iterator[str]:
    """Every test here runs on the plain form, and on the compiled one where it suits."""
    with pytest.MonkeyPatch.context() as patch:
        if request.param == "plain":
            patch.setattr(cpu, "suits", lambda _: False)
        yield request.param


def draw(
    batch: int,
    attributes: int,
    channels: int,
    size: tuple[int, int],
    guides: int | None = None,
    dtype: torch.dtype = torch.float32,
) -> list[Tensor]:
    """Features, weight, bias and, with `guides`, mask features; leaves that ask for gradients."""
    features = torch.randn(batch, channels, *size).relu()
    weight = torch.randn(attributes, channels, guides or channels) * (guides or channels) ** -0.5
    tensors = [features.to(dtype), weight, 0.5 * torch.randn(attributes, channels)]
    if guides is not None:
        tensors.append(torch.randn(batch, guides, *size).to(dtype))
    if dtype == torch.float64:
        tensors = [tensor.double() for tensor in tensors]
    return [tensor.requires_grad_() for tensor in tensors]


def distance(found: Tensor, expected: Tensor) -> float:
    """The norm of the difference, relative to the expected norm."""
    found, expected = found.detach().double(), expected.detach().double()
    return float((found - expected).norm() / expected.norm().clamp_min(1e-30))


def assert_like_the_slow_twin(inputs: list[Tensor], offset: float, tolerance: float) -> None:
    exact = [tensor.detach().double().requires_grad_() for tensor in inputs]
    found = masked_pool(*inputs, offset=offset)
    expected = slow_masked_pool(*exact, offset=offset)
    arriving = [torch.randn_like(result) for result in expected]
    torch.autograd.backward(found, [a.to(r.dtype) for a, r in zip(arriving, found, strict=True)])
    torch.autograd.backward(expected, arriving)
    for name, a, b in zip(("pooled", "mask_mean"), found, expected, strict=True):
        assert distance(a, b) < tolerance, name
    names = ("features", "weight", "bias", "mask_features")
    for name, a, b in zip(names, inputs, exact, strict=False):
        assert a.grad is not None
        assert a.grad.dtype == a.dtype
        assert distance(a.grad, b.grad) < tolerance, f"gradient of {name}"


SIZES = [
    (2, 4, 8, (3, 5), None),
    (3, 5, 16, (8, 8), None),
    (1, 3, 33, (7, 1), None),
    (5, 2, 17, (1, 1), 6),
    (2, 3, 6, (4, 4), 21),
    (2, 9, 64, (13, 11), 40),
]


@pytest.mark.parametrize("dtype", TOLERANCE)
@pytest.mark.parametrize("size", SIZES)
def test_results_and_gradients_equal_the_slow_twin(size: tuple, dtype: torch.dtype) -> None:
    assert_like_the_slow_twin(draw(*size, dtype=dtype), 1.0, TOLERANCE[dtype])


@settings(max_examples=30, deadline=None)
@given(
    st.integers(1, 5),
    st.integers(1, 12),
    st.integers(8, 70),  # of one number alone, rounding can be all that is left
    st.tuples(st.integers(1, 9), st.integers(1, 9)),
    st.none() | st.integers(8, 70),
    st.floats(0, 2),
    st.sampled_from(list(TOLERANCE)),
)
def test_any_size_and_offset(
    batch: int,
    attributes: int,
    channels: int,
    size: tuple[int, int],
    guides: int | None,
    offset: float,
    dtype: torch.dtype,
) -> None:
    inputs = draw(batch, attributes, channels, size, guides, dtype)
    assert_like_the_slow_twin(inputs, offset, TOLERANCE[dtype])


def test_axes_of_length_one() -> None:
    assert_like_the_slow_twin(draw(1, 1, 1, (1, 1), 1, torch.float64), -0.5, 1e-9)


@pytest.mark.parametrize("guides", [None, 3])
def test_gradcheck(guides: int | None) -> None:
    inputs = draw(2, 3, 4, (2, 3), guides, torch.float64)
    assert torch.autograd.gradcheck(lambda *a: tuple(masked_pool(*a, offset=0.3)), inputs)


def test_mask_features_may_be_the_features_themselves() -> None:
    features, weight, bias = draw(2, 3, 4, (5, 5), dtype=torch.float64)
    for one, other in zip(
        masked_pool(features, weight, bias),
        masked_pool(features, weight, bias, features),
        strict=True,
    ):
        torch.testing.assert_close(one, other)
        gradients = [
            torch.autograd.grad(result.square().sum(), features, retain_graph=True)[0]
            for result in (one, other)
        ]
        torch.testing.assert_close(*gradients)


@pytest.mark.parametrize("dtype", TOLERANCE)
def test_any_memory_layout(dtype: torch.dtype) -> None:
    features, weight, bias, guides = (t.detach() for t in draw(3, 4, 20, (6, 8), 12, dtype))
    expected = masked_pool(features, weight, bias, guides)
    layouts = (
        lambda maps: maps.contiguous(memory_format=torch.channels_last),
        lambda maps: maps.transpose(2, 3).contiguous().transpose(2, 3),
        lambda maps: torch.stack([maps, maps], 1)[:, 1],
        lambda maps: torch.stack([maps, maps], 4)[..., 1],
    )
    for of_features, of_guides in product(layouts, layouts):
        found = masked_pool(
            of_features(features).requires_grad_(),
            weight.mT.contiguous().mT.requires_grad_(),
            bias.T.contiguous().T.requires_grad_(),
            of_guides(guides).requires_grad_(),
        )
        for a, b in zip(found, expected, strict=True):
            assert distance(a, b) < TOLERANCE[dtype]
        inputs = [of_features(features), weight.mT.contiguous().mT, bias, of_guides(guides)]
        inputs = [tensor.detach().requires_grad_() for tensor in inputs]
        assert_like_the_slow_twin(inputs, 1.0, TOLERANCE[dtype])


@pytest.mark.parametrize("size", [(6, 1), (1, 6), (1, 1)])
def test_the_step_of_an_axis_of_length_one_means_nothing(size: tuple[int, int]) -> None:
    features, weight, bias = (tensor.detach() for tensor in draw(3, 2, 5, size))
    height, width = size
    steps = (5 * height * width, 1, 5 * width if height > 1 else 3, 5 if width > 1 else 7)
    strange = torch.empty_strided(features.shape, steps).copy_(features).requires_grad_()
    inputs = [strange, weight.requires_grad_(), bias.requires_grad_()]
    assert_like_the_slow_twin(inputs, 1.0, 1e-5)


def test_one_map_expanded_over_a_batch() -> None:
    features, weight, bias = (tensor.detach() for tensor in draw(1, 2, 5, (3, 4)))
    expanded = features.expand(6, -1, -1, -1).requires_grad_()
    assert_like_the_slow_twin([expanded, weight.requires_grad_(), bias.requires_grad_()], 1.0, 1e-5)


@pytest.mark.parametrize("guides", [None, 7])
def test_only_the_gradients_asked_for(guides: int | None) -> None:
    whole = draw(2, 3, 5, (4, 3), guides)
    sum(result.square().sum() for result in masked_pool(*whole)).backward()
    for asked in product((False, True), repeat=len(whole)):
        if not any(asked):
            continue
        some = [t.detach().requires_grad_(a) for t, a in zip(whole, asked, strict=True)]
        sum(result.square().sum() for result in masked_pool(*some)).backward()
        for part, tensor, is_asked in zip(some, whole, asked, strict=True):
            assert (part.grad is not None) == is_asked
            if is_asked:
                torch.testing.assert_close(part.grad, tensor.grad)


def test_one_result_alone_may_have_a_gradient() -> None:
    inputs = draw(2, 3, 5, (4, 3))
    exact = [tensor.detach().requires_grad_() for tensor in inputs]
    masked_pool(*inputs).mask_mean.square().sum().backward()
    slow_masked_pool(*exact)[1].square().sum().backward()
    for a, b in zip(inputs, exact, strict=True):
        assert distance(a.grad, b.grad) < 1e-5


@pytest.mark.parametrize(
    ("batch", "attributes", "channels", "guides"), [(0, 3, 4, 4), (2, 0, 4, 5), (2, 3, 4, 0)]
)
def test_empty_axes(batch: int, attributes: int, channels: int, guides: int) -> None:
    tensors = draw(max(batch, 1), max(attributes, 1), channels, (3, 3), max(guides, 1))
    features, weight, bias, mask_features = (tensor.detach() for tensor in tensors)
    inputs = [
        features[:batch],
        weight[:attributes, :, :guides],
        bias[:attributes],
        mask_features[:batch, :guides],
    ]
    inputs = [tensor.clone().requires_grad_() for tensor in inputs]
    found = masked_pool(*inputs)
    assert found.pooled.shape == found.mask_mean.shape == (batch, attributes, channels)
    if found.pooled.numel():
        torch.testing.assert_close(found, MaskedPool(*slow_masked_pool(*inputs)))
    (found.pooled.sum() + found.mask_mean.sum()).backward()
    assert all(tensor.grad.shape == tensor.shape for tensor in inputs)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_autocast_takes_products_in_bfloat16_and_keeps_the_types_of_gradients(
    dtype: torch.dtype,
) -> None:
    inputs = draw(3, 4, 32, (6, 6), dtype=dtype)
    exact = [tensor.detach().double().requires_grad_() for tensor in inputs]
    with torch.autocast("cpu", torch.bfloat16):
        found = masked_pool(*inputs)
    assert {result.dtype for result in found} == {torch.float32}
    expected = slow_masked_pool(*exact)
    sum(result.square().sum() for result in found).backward()
    sum(result.square().sum() for result in expected).backward()
    for a, b in zip(inputs, exact, strict=True):
        assert a.grad.dtype == a.dtype
        assert distance(a.grad, b.grad) < TOLERANCE[torch.bfloat16]


def test_saturated_masks_and_values_that_are_not_finite() -> None:
    features = torch.tensor([200.0, -200.0, 1e4, -1e4]).view(1, 1, 2, 2).requires_grad_()
    weight, bias = torch.ones(1, 1, 1), torch.zeros(1, 1)
    found = masked_pool(features, weight, bias)
    assert found.mask_mean.item() == pytest.approx(0.5)
    found.pooled.sum().backward()
    torch.testing.assert_close(
        features.grad.flatten(), torch.tensor([0.5, 0.25, 0.5, 0.25]), rtol=1e-6, atol=0
    )
    for dtype in (torch.float32, torch.bfloat16):
        broken = torch.tensor([1.0, float("nan"), 2.0, 3.0]).view(1, 1, 2, 2).to(dtype)
        assert masked_pool(broken, weight, bias).pooled.isnan().all()
        assert masked_pool(broken, weight, bias).mask_mean.isnan().all()


def test_shapes_that_do_not_fit_are_refused() -> None:
    plain = inspect.unwrap(masked_pool)  # without the checks that only the tests have
    features, weight, bias, guides = draw(2, 3, 4, (5, 6), 7)
    with pytest.raises(ValueError, match=r"weight must have shape \(3, 4, 4\) to fit features"):
        plain(features, weight, bias)
    with pytest.raises(ValueError, match=r"bias must have shape \(3, 4\)"):
        plain(features, weight, bias[:, :3], guides)
    with pytest.raises(ValueError, match=r"mask_features must have shape \(2, 7, 5, 6\)"):
        plain(features, weight, bias, guides[:, :, :4])
    with pytest.raises(ValueError, match=r"features must have the axes \[batch channel height"):
        plain(features[0], weight, bias, guides)
    with pytest.raises(ValueError, match="no position to average over"):
        plain(features[:, :, :0], weight, bias, guides[:, :, :0])


@pytest.mark.parametrize("name", ["weight", "bias", "mask_features", "labels", "head_weight"])
def test_what_lies_on_another_device_is_told(name: str) -> None:
    features, weight, bias, guides = draw(2, 3, 4, (5, 5), 6, torch.float32)
    given = {"weight": weight, "bias": bias, "mask_features": guides}
    head = {
        "head_weight": torch.zeros(3, 4),
        "head_bias": torch.zeros(3),
        "labels": torch.zeros(2, 3),
    }
    elsewhere = {
        key: tensor.to("meta") if key == name else tensor for key, tensor in (given | head).items()
    }
    with pytest.raises(ValueError, match=f"{name} must be on cpu, .* found meta; move it"):
        masked_loss(features, **elsewhere)
