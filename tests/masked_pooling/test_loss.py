import inspect

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from maskatlas.masked_pooling import MaskedLoss, cpu, masked_loss
from maskatlas.masked_pooling.compilation import compiled
from reference.masked_pooling import masked_loss as slow_masked_loss

TOLERANCE = {torch.float64: 1e-10, torch.float32: 1e-5, torch.bfloat16: 1e-2}
WEIGHTS = {"binary": 0.7, "mask_l1": 0.05, "contribution_l1": 0.02}


@pytest.fixture(autouse=True, params=["two passes", "fused"])
def form(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Every test here runs with loss and gradient apart, and at once where compiled code can."""
    if request.param == "two passes":
        monkeypatch.setattr(cpu, "fuses", lambda _: False)
    elif compiled(cpu._SOURCE) is None:
        pytest.skip("there is no compiler here, and so no fused form")
    return request.param


def draw(
    batch: int,
    attributes: int,
    channels: int,
    size: tuple[int, int],
    guides: int | None = None,
    dtype: torch.dtype = torch.float32,
) -> tuple[list[Tensor], Tensor]:
    """Features, weight, bias, classifiers and, with `guides`, mask features; then labels."""
    wide = torch.float64 if dtype == torch.float64 else torch.float32
    deviation = (guides or channels) ** -0.5
    tensors = [
        torch.randn(batch, channels, *size).relu().to(dtype),
        (torch.randn(attributes, channels, guides or channels) * deviation).to(wide),
        0.5 * torch.randn(attributes, channels, dtype=wide),
        torch.randn(attributes, channels, dtype=wide) * channels**-0.5,  # none is quite sure:
        0.5 * torch.randn(attributes, dtype=wide),  # there, float32 has few digits of the gradient
    ]
    if guides is not None:
        tensors.append(torch.randn(batch, guides, *size).to(dtype))
    labels = torch.randint(0, 2, (batch, attributes)).to(wide)
    labels[torch.rand(batch, attributes) < 0.2] = float("nan")
    return [tensor.requires_grad_() for tensor in tensors], labels


def call(form: type, inputs: list[Tensor], labels: Tensor, offset: float = 1.0) -> MaskedLoss:
    return form(*inputs[:5], labels, *inputs[5:], offset=offset, **WEIGHTS)


def assert_like_the_slow_twin(
    inputs: list[Tensor], labels: Tensor, offset: float, tolerance: float
) -> None:
    exact = [tensor.detach().double().requires_grad_() for tensor in inputs]
    found = call(masked_loss, inputs, labels, offset)
    expected = call(slow_masked_loss, exact, labels, offset)
    for name, one, other in zip(found._fields, found, expected, strict=True):
        assert torch.dist(one.double(), other) <= tolerance * other.norm() + 1e-9, name
    assert not any(result.requires_grad for result in found[1:])
    (3 * found.loss).backward()
    (3 * expected[0]).backward()
    gradients = [0 * tensor if tensor.grad is None else tensor.grad for tensor in exact]
    largest = max(gradient.abs().max() for gradient in gradients)
    for one, other in zip(inputs, gradients, strict=True):
        assert one.grad.dtype == one.dtype
        distance = torch.dist(one.grad.double(), other)
        assert distance <= tolerance * (other.norm() + 1e-3 * largest)


SIZES = [
    (2, 4, 8, (3, 5), None),
    (3, 10, 16, (8, 8), None),
    (9, 3, 33, (7, 1), None),
    (5, 2, 17, (1, 1), 6),
    (2, 3, 6, (4, 4), 21),
    (11, 9, 64, (13, 11), 40),  # more groups of images than segments, more attributes than a chunk
    (1, 35, 48, (20, 19), None),
    (40, 9, 130, (5, 5), 24),
]


@pytest.mark.parametrize("dtype", TOLERANCE)
@pytest.mark.parametrize("size", SIZES)
def test_results_and_gradients_equal_the_slow_twin(size: tuple, dtype: torch.dtype) -> None:
    assert_like_the_slow_twin(*draw(*size, dtype=dtype), 1.0, TOLERANCE[dtype])


@settings(max_examples=30, deadline=None)
@given(
    st.integers(1, 20),
    st.integers(1, 12),
    st.integers(8, 70),
    st.tuples(st.integers(1, 9), st.integers(1, 9)),
    st.none() | st.integers(8, 70),
    st.floats(0, 2),
    st.sampled_from(list(TOLERANCE)),
    st.integers(0, 2**31),
)
def test_any_size_and_offset(
    batch: int,
    attributes: int,
    channels: int,
    size: tuple[int, int],
    guides: int | None,
    offset: float,
    dtype: torch.dtype,
    seed: int,
) -> None:
    torch.manual_seed(seed)
    inputs, labels = draw(batch, attributes, channels, size, guides, dtype)
    if attributes == 1:  # the one bias has one number for a gradient: images must not cancel in it
        labels = torch.where(labels.isnan(), labels, seed % 2)
    assert_like_the_slow_twin(inputs, labels, offset, TOLERANCE[dtype])


def test_any_memory_layout() -> None:
    inputs, labels = draw(3, 4, 12, (6, 5), 9)
    last = [tensor.contiguous(memory_format=torch.channels_last) for tensor in inputs[::5]]
    turned = [tensor.mT.contiguous().mT for tensor in inputs[1:4]]
    inputs = [last[0], *turned, inputs[4], last[1]]
    inputs = [tensor.detach().requires_grad_() for tensor in inputs]
    assert_like_the_slow_twin(inputs, labels, 1.0, 1e-5)


def test_autocast_takes_products_in_bfloat16_and_keeps_the_types_of_gradients() -> None:
    inputs, labels = draw(3, 4, 32, (6, 6))
    exact = [tensor.detach().double().requires_grad_() for tensor in inputs]
    with torch.autocast("cpu", torch.bfloat16):
        found = call(masked_loss, inputs, labels)
    assert {result.dtype for result in found} == {torch.float32}
    found.loss.backward()
    call(slow_masked_loss, exact, labels)[0].backward()
    for one, other in zip(inputs, exact, strict=True):
        assert one.grad.dtype == one.dtype
        assert torch.dist(one.grad.double(), other.grad) < 1e-2 * other.grad.norm()


def test_unknown_labels_count_nowhere() -> None:
    inputs, labels = draw(2, 3, 8, (4, 4))
    found = masked_loss(*inputs, torch.full_like(labels, float("nan")), mask_l1=0.05)
    torch.testing.assert_close(found.loss, 0.05 * found.mask_mean.sum() / 2)
    found.loss.backward()
    assert not inputs[3].grad.any()
    assert not inputs[4].grad.any()
    assert inputs[1].grad.any()


def test_a_loss_that_is_scaled_or_taken_twice_scales_its_gradient() -> None:
    inputs, labels = draw(2, 3, 8, (4, 4))
    loss = call(masked_loss, inputs, labels).loss
    once = torch.autograd.grad(loss, inputs, retain_graph=True)
    twice = torch.autograd.grad(2 * loss, inputs, retain_graph=True)
    again = torch.autograd.grad(loss, inputs)
    for one, two, three in zip(once, twice, again, strict=True):
        assert torch.equal(2 * one, two)
        assert torch.equal(one, three)


class Nothing(torch.autograd.Function):
    """What passes a loss on, and no gradient back."""

    @staticmethod
    def forward(_: object, loss: Tensor) -> Tensor:
        return loss.clone()

    @staticmethod
    def backward(_: object, arriving: Tensor) -> None:
        return None


def test_where_no_gradient_arrives_none_goes_on() -> None:
    inputs, labels = draw(2, 3, 8, (4, 4))
    loss = Nothing.apply(call(masked_loss, inputs, labels).loss)
    found = torch.autograd.grad(loss, inputs, allow_unused=True)
    assert all(gradient is None or not gradient.any() for gradient in found)


def test_without_gradients_there_are_the_same_results() -> None:
    inputs, labels = draw(2, 3, 8, (4, 4))
    with torch.no_grad():
        alone = call(masked_loss, inputs, labels)
    torch.testing.assert_close(alone, call(masked_loss, inputs, labels))
    assert not alone.loss.requires_grad


def test_only_some_inputs_may_ask_for_a_gradient() -> None:
    inputs, labels = draw(2, 3, 8, (4, 4), 5)
    for chosen in range(len(inputs)):
        some = [tensor.detach().requires_grad_(i == chosen) for i, tensor in enumerate(inputs)]
        call(masked_loss, some, labels).loss.backward()
        assert [tensor.grad is not None for tensor in some] == [i == chosen for i in range(6)]


def test_what_is_not_finite_stays_so() -> None:
    inputs, labels = draw(2, 3, 8, (4, 4))
    inputs[0].data[1, 2, 3, 3] = float("nan")
    found = call(masked_loss, inputs, labels.nan_to_num(1))
    assert found.loss.isnan()
    assert found.logits[1].isnan().all()
    assert found.logits[0].isfinite().all()


def test_shapes_that_do_not_fit_are_refused() -> None:
    plain = inspect.unwrap(masked_loss)  # without the checks that only the tests have
    inputs, labels = draw(2, 3, 4, (5, 6))
    with pytest.raises(ValueError, match=r"head_weight must have shape \(3, 4\) to fit bias"):
        plain(*inputs[:3], inputs[3][:, :3], inputs[4], labels)
    with pytest.raises(ValueError, match=r"head_bias must have shape \(3,\) to fit bias"):
        plain(*inputs[:4], inputs[4][:2], labels)
    with pytest.raises(ValueError, match=r"labels must have shape \(2, 3\) to fit features"):
        plain(*inputs, labels[:1])
    with pytest.raises(ValueError, match=r"bias must have shape \(2, 4\) to fit weight"):
        plain(inputs[0], inputs[1][:2], *inputs[2:], labels)


@pytest.mark.parametrize("own", [False, True])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_the_number_of_threads_changes_no_bit(
    dtype: torch.dtype, own: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    if own:  # threads, where torch has none that could be had
        monkeypatch.setattr(cpu, "_address", lambda _: None)

    def everything(threads: int) -> list[Tensor]:
        torch.manual_seed(0)
        inputs, labels = draw(7, 11, 40, (20, 17), None, dtype)
        before = torch.get_num_threads()
        torch.set_num_threads(threads)
        try:
            found = call(masked_loss, inputs, labels)
            found.loss.backward()
        finally:
            torch.set_num_threads(before)
        return [*found, *(tensor.grad for tensor in inputs)]

    alone = everything(1)
    for threads in (2, 3):
        for one, other in zip(alone, everything(threads), strict=True):
            assert torch.equal(one, other)


def test_a_label_counts_as_there_where_it_is_1_in_loss_and_gradient_alike() -> None:
    tensors, labels = draw(3, 2, 4, (4, 4))
    labels = torch.tensor([[0.3, 1.0], [-1.0, 2.0], [0.0, torch.nan]])
    tensors = [tensor.detach().requires_grad_() for tensor in tensors]
    found = masked_loss(*tensors, labels)
    clean = torch.tensor([[0.0, 1.0], [0.0, 0.0], [0.0, torch.nan]])
    expected = masked_loss(*tensors, clean)
    torch.testing.assert_close(found.loss, expected.loss)
    for mine, theirs in zip(
        torch.autograd.grad(found.loss, tensors),
        torch.autograd.grad(expected.loss, tensors),
        strict=True,
    ):
        torch.testing.assert_close(mine, theirs)
