import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from maskatlas.config import ModelConfig
from maskatlas.subnetworks import (
    ContextGuide,
    LowRankGuide,
    SubNetworks,
    Supervision,
    build_subnetworks,
)
from networks import draw_images, make_network
from reference import model as slow

VARIANTS = [
    {},
    {"mask_rank": 3},
    {"mask_context": True},
    {"mask_rank": 3, "mask_context": True, "mask_offset": 0.0},
]


@settings(max_examples=30, deadline=None)
@given(
    batch=st.integers(1, 3),
    attributes=st.integers(1, 6),
    channels=st.integers(1, 40),
    size=st.tuples(st.integers(1, 9), st.integers(1, 9)),
    seed=st.integers(0, 2**31),
    dtype=st.sampled_from([torch.float64, torch.float32]),
    offset=st.sampled_from([0.0, 1.0]),
)
def test_contributions_sum_to_the_logit_less_the_bias(
    batch: int,
    attributes: int,
    channels: int,
    size: tuple[int, int],
    seed: int,
    dtype: torch.dtype,
    offset: float,
) -> None:
    torch.manual_seed(seed)
    subnetworks = SubNetworks(attributes, channels, offset=offset).to(dtype)
    torch.nn.init.normal_(subnetworks.mask_bias)
    torch.nn.init.normal_(subnetworks.bias)
    features = torch.randn(batch, channels, *size, dtype=dtype).relu()
    logits = subnetworks(features).logits
    shares = subnetworks.contributions(features, range(attributes), range(channels))
    tolerance = 1e-10 if dtype == torch.float64 else 1e-5
    scale = 1 + shares.abs().sum((2, 3, 4)).max().item()
    torch.testing.assert_close(
        shares.sum((2, 3, 4)), logits - subnetworks.bias, rtol=0, atol=tolerance * scale
    )


@pytest.mark.parametrize("parts", VARIANTS)
def test_every_variant_equals_its_slow_twin_gradients_included(parts: dict) -> None:
    network, images = make_network(**parts), draw_images(2, 16)
    features = network(images).features.detach().requires_grad_()
    subnetworks = network.subnetworks
    inputs = [features, *subnetworks.parameters()]
    found = subnetworks(features)
    masks = [slow.masks(subnetworks, features, k) for k in range(3)]
    logits = torch.stack([slow.logit(subnetworks, features, k) for k in range(3)], dim=1)
    means = torch.stack([mask.mean((2, 3)) for mask in masks], dim=1)
    torch.testing.assert_close(found.logits, logits, rtol=1e-10, atol=1e-12)
    torch.testing.assert_close(found.mask_mean, means, rtol=1e-10, atol=1e-12)
    torch.testing.assert_close(network.masks(features), torch.stack(masks, dim=1))
    shares = network.contributions(features)
    assert (logits - subnetworks.bias).abs().min() > 1e-6
    torch.testing.assert_close(shares.sum((2, 3, 4)), logits - subnetworks.bias)
    for k in range(3):
        torch.testing.assert_close(shares[:, k], slow.contributions(subnetworks, features, k))
    torch.testing.assert_close(
        subnetworks.contribution_maps(features, [2, 0]), shares[:, [2, 0]].sum(2)
    )
    torch.testing.assert_close(
        subnetworks.mask_maps(features, [1, 2]), torch.stack(masks[1:], dim=1).mean(2)
    )
    arriving = torch.randn_like(logits), torch.randn_like(means)
    for one, other in zip(
        torch.autograd.grad([found.logits, found.mask_mean], inputs, arriving),
        torch.autograd.grad([logits, means], inputs, arriving),
        strict=True,
    ):
        assert other.abs().max() > 0
        torch.testing.assert_close(one, other, rtol=1e-8, atol=1e-11)


@pytest.mark.parametrize("parts", VARIANTS)
def test_labels_bring_the_loss_and_change_no_result(parts: dict) -> None:
    network, images = make_network(dtype=torch.float32, **parts), draw_images(2, 16).float()
    labels = torch.tensor([[1.0, 0.0, float("nan")], [0.0, 1.0, 1.0]])
    (told, loss), alone = (
        network.supervised(images, Supervision(labels, 0.5, 0.01)),
        network(images),
    )
    for name in ("logits", "pooled", "mask_mean"):
        torch.testing.assert_close(getattr(told, name), getattr(alone, name))
        assert not getattr(told, name).requires_grad
    known = ~labels.isnan()
    entropies = torch.nn.functional.binary_cross_entropy_with_logits(
        alone.logits[known], labels[known], reduction="sum"
    )
    expected = (0.5 * entropies + 0.01 * alone.mask_mean.sum()) / 2
    torch.testing.assert_close(loss, expected)


@pytest.mark.parametrize("parts", VARIANTS)
def test_sub_networks_that_follow_a_classifier_answer_what_it_does(parts: dict) -> None:
    network, images = make_network(**parts), draw_images(2, 16)
    before = network(images)
    network.subnetworks.follow(network.classifier)
    after = network(images)
    assert not torch.allclose(before.logits, after.logits)
    torch.testing.assert_close(after.logits, before.multilabel_logits, rtol=1e-10, atol=1e-12)
    assert (after.mask_mean == 0.5).all()
    shares = network.contributions(after.features).sum((2, 3, 4))
    torch.testing.assert_close(shares, after.logits - network.classifier.bias)


def test_what_masks_are_computed_from_follows_the_configuration() -> None:
    def built(**parts: object) -> SubNetworks:
        return build_subnetworks(ModelConfig(channels=8, **parts), 2)

    assert built().guide is None
    assert built().mask_weight.shape == (2, 8, 8)
    low, context = built(mask_rank=3), built(mask_rank=4, mask_context=True)
    assert isinstance(low.guide, LowRankGuide)
    assert low.mask_weight.shape == (2, 8, 3)
    assert isinstance(context.guide, ContextGuide)
    assert context.mask_weight.shape == (2, 8, 4)
    assert built(mask_context=True).mask_weight.shape == (2, 8, 8)
    assert built(mask_offset=0.0).offset == 0


def test_a_low_rank_is_one() -> None:
    network = make_network(channels=6, mask_rank=2)
    features = network(draw_images(2)).features
    masks = network.masks(features)[:, 0]
    z = masks.logit() - network.subnetworks.mask_bias[0][:, None, None]
    assert torch.linalg.matrix_rank(z.transpose(0, 1).flatten(1), atol=1e-8) == 2


def test_context_sees_6_positions_further_and_evidence_stays_where_it_is() -> None:
    network = make_network(1, channels=4, mask_context=True)
    features = torch.rand(1, 4, 31, 31, dtype=torch.float64).requires_grad_()
    mask = network.masks(features)[0, 0, :, 15, 15].sum()
    seen = torch.autograd.grad(mask, features)[0].abs().sum((0, 1))
    places = seen.nonzero()
    assert places.min(0).values.tolist() == [9, 9]  # 2 + 4 = 6 positions each way
    assert places.max(0).values.tolist() == [21, 21]
    share = network.contributions(features)[0, 0, :, 15, 15].sum()
    other = features.detach().clone()
    other[..., 15, 15] = 0
    assert share.abs() > 0
    assert not network.contributions(other)[0, 0, :, 15, 15].any()


def test_weights_begin_in_proportion_to_the_number_of_channels() -> None:
    torch.manual_seed(0)
    subnetworks = SubNetworks(20, 64)
    assert math.isclose(subnetworks.mask_weight.std().item(), 64**-0.5, rel_tol=0.02)
    assert subnetworks.weight.abs().max() <= 64**-0.5
    assert not subnetworks.bias.any()
    assert not subnetworks.mask_bias.any()
