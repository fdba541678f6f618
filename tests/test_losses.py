from dataclasses import replace

import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st

from maskatlas.config import LossConfig
from maskatlas.losses import attribute_loss, loss_terms
from maskatlas.model import Output
from maskatlas.subnetworks import Supervision
from networks import draw_images, make_network
from reference import losses as slow
from reference import model as slow_model

WEIGHTS = LossConfig(binary=0.7, multilabel=1.3, reconstruction=4.0, mask_l1=0.01)
NAN = float("nan")


def draw_labels(batch: int, attributes: int, seed: int = 0) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    labels = torch.randint(0, 3, (batch, attributes), generator=generator).double()
    return torch.where(labels == 2, NAN, labels)


def test_each_term_equals_its_slow_twin() -> None:
    network, images = make_network(), draw_images(4, 16)
    labels = draw_labels(4, 3)
    assert 0 < labels.isnan().sum() < 10
    output = network(images)
    terms = loss_terms(output, images, labels, WEIGHTS)
    masks = [slow_model.masks(network.subnetworks, output.features, k) for k in range(3)]
    expected = {
        "binary": slow.cross_entropy(output.logits, labels),
        "multilabel": slow.cross_entropy(output.multilabel_logits, labels),
        "reconstruction": slow.squared_error(output.reconstruction, images),
        "mask_l1": slow.mask_l1(torch.stack(masks, dim=1)),
    }
    for name, value in expected.items():
        assert value > 0
        torch.testing.assert_close(getattr(terms, name), value, rtol=1e-10, atol=1e-12)
    total = sum(getattr(WEIGHTS, name) * value for name, value in expected.items())
    torch.testing.assert_close(terms.total, total, rtol=1e-10, atol=1e-12)


def test_the_gradient_equals_that_of_the_slow_twin() -> None:
    network, images, labels = make_network(), draw_images(3, 16), draw_labels(3, 3, seed=1)
    parameters = dict(network.named_parameters())

    def gradients(total: torch.Tensor) -> tuple[torch.Tensor, ...]:
        return torch.autograd.grad(total, list(parameters.values()))

    found = gradients(loss_terms(network(images), images, labels, WEIGHTS).total)
    output = network(images)
    masks = [slow_model.masks(network.subnetworks, output.features, k) for k in range(3)]
    logits = [slow_model.logit(network.subnetworks, output.features, k) for k in range(3)]
    expected = gradients(
        WEIGHTS.binary * slow.cross_entropy(torch.stack(logits, dim=1), labels)
        + WEIGHTS.multilabel * slow.cross_entropy(output.multilabel_logits, labels)
        + WEIGHTS.reconstruction * slow.squared_error(output.reconstruction, images)
        + WEIGHTS.mask_l1 * slow.mask_l1(torch.stack(masks, dim=1))
    )
    for name, one, other in zip(parameters, found, expected, strict=True):
        assert other.abs().max() > 0, name
        torch.testing.assert_close(one, other, rtol=1e-7, atol=1e-10)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_sub_networks_that_know_the_labels_bring_the_same_loss_and_gradient(
    dtype: torch.dtype,
) -> None:
    network, images = make_network(dtype=dtype), draw_images(3, 16, dtype=dtype)
    labels = draw_labels(3, 3, seed=1).to(dtype)
    told, loss = network.supervised(images, Supervision(labels, WEIGHTS.binary, WEIGHTS.mask_l1))
    assert network.supervised(images).loss is None
    assert loss is not None
    found = loss_terms(told, images, labels, WEIGHTS, loss=loss)
    expected = loss_terms(network(images), images, labels, WEIGHTS)
    close = (
        {"rtol": 1e-5, "atol": 1e-6} if dtype == torch.float32 else {"rtol": 1e-9, "atol": 1e-12}
    )
    for one, other in zip(found, expected, strict=True):
        torch.testing.assert_close(one, other, **close)
    parameters = list(network.parameters())
    for one, other in zip(
        torch.autograd.grad(found.total, parameters),
        torch.autograd.grad(expected.total, parameters),
        strict=True,
    ):
        assert other.abs().max() > 0
        torch.testing.assert_close(one, other, **close)


@settings(max_examples=50, deadline=None)
@given(
    st.integers(1, 5), st.integers(1, 6), st.integers(0, 2**31), st.floats(1e-3, 8), st.booleans()
)
@example(3, 6, 5, 7.0, True)
def test_binary_cross_entropy_at_any_size(
    batch: int, attributes: int, seed: int, scale: float, wide: bool
) -> None:
    torch.manual_seed(seed)
    dtype = torch.float64 if wide else torch.float32
    logits = (scale * torch.randn(batch, attributes)).to(dtype)
    labels = draw_labels(batch, attributes, seed).float()  # as a dataset has them
    found = attribute_loss(logits, labels)
    assert found.dtype == dtype
    expected = slow.cross_entropy(logits.double(), labels)
    torch.testing.assert_close(found.double(), expected, rtol=1e-10 if wide else 1e-5, atol=1e-10)


def test_unknown_labels_count_nowhere() -> None:
    """What is not known changes neither the loss nor a gradient, whatever the network says."""
    logits = torch.randn(3, 4, dtype=torch.float64)
    labels = draw_labels(3, 4, seed=2)
    unknown = labels.isnan()
    assert unknown.any()
    before = attribute_loss(logits, labels)
    wild = torch.where(unknown, 1e6 * torch.randn(3, 4).double(), logits).requires_grad_()
    after = attribute_loss(wild, labels)
    assert torch.equal(before, after)
    after.backward()
    assert not wild.grad[unknown].any()
    assert wild.grad[~unknown].all()


def test_a_batch_of_which_nothing_is_known_has_a_loss_of_0() -> None:
    network, images = make_network(), draw_images(2, 16)
    only_labels = replace(WEIGHTS, reconstruction=0.0, mask_l1=0.0)
    labels = torch.full((2, 3), NAN, dtype=torch.float64)
    terms = loss_terms(network(images), images, labels, only_labels)
    assert terms.total == terms.binary == terms.multilabel == 0
    terms.total.backward()
    for name, parameter in network.named_parameters():
        if parameter.grad is not None:
            assert not parameter.grad.any(), name


def test_the_loss_is_a_mean_over_images_and_a_sum_over_attributes() -> None:
    logits, labels = torch.randn(2, 3).double(), draw_labels(2, 3, seed=5).nan_to_num(1)
    once = attribute_loss(logits, labels)
    torch.testing.assert_close(attribute_loss(logits.repeat(3, 1), labels.repeat(3, 1)), once)
    torch.testing.assert_close(attribute_loss(logits.repeat(1, 3), labels.repeat(1, 3)), 3 * once)


def test_the_weight_of_masks_means_the_same_at_every_size() -> None:
    network = make_network()
    small = network(draw_images(2, 16)).features
    large = small.repeat_interleave(2, 2).repeat_interleave(3, 3)
    terms = []
    for features in (small, large):
        logits, pooled, mask_mean, _ = network.subnetworks(features)
        output = Output(logits, None, features, pooled, mask_mean, None)
        terms.append(loss_terms(output, draw_images(2, 16), draw_labels(2, 3), WEIGHTS).mask_l1)
    torch.testing.assert_close(*terms)


@pytest.mark.parametrize(
    ("parts", "absent"),
    [
        ({"subnetworks": False}, ("binary", "mask_l1")),
        ({"multilabel": False}, ("multilabel",)),
        ({"reconstructor": False}, ("reconstruction",)),
    ],
)
def test_a_part_that_is_not_there_adds_nothing(
    parts: dict[str, bool], absent: tuple[str, ...]
) -> None:
    images, labels = draw_images(2, 16), draw_labels(2, 3)
    terms = loss_terms(make_network(**parts)(images), images, labels, WEIGHTS)
    names = ("binary", "multilabel", "reconstruction", "mask_l1")
    assert {name for name in names if getattr(terms, name) == 0} == set(absent)
    weighted = sum(getattr(WEIGHTS, name) * getattr(terms, name) for name in names)
    torch.testing.assert_close(terms.total, weighted)


def test_logits_of_16_bits_give_a_loss_of_32() -> None:
    logits = torch.tensor([[5.0, -3.0]])
    labels = torch.tensor([[1.0, NAN]])
    found = attribute_loss(logits.bfloat16(), labels)
    assert found.dtype == torch.float32
    torch.testing.assert_close(found, attribute_loss(logits, labels))
