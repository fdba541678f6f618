"""Ours with a part taken away: against ours with that part made ineffective."""

from dataclasses import replace
from types import ModuleType

import pytest
import torch

from maskatlas.comparison import no_masks, plain, shared_mask, subnets
from maskatlas.config import PRESETS, Config, LossConfig, ModelConfig
from maskatlas.errors import ConfigError
from maskatlas.losses import loss_terms
from maskatlas.subnetworks import Supervision
from networks import draw_images, make_network

NAMES = ("Smiling", "Male", "Young")


def twin_of(network, ours):
    """Ours with the other network's parts, all but the masks."""
    state = {n: t for n, t in network.state_dict().items() if ".mask_" not in n}
    ours.average_contribution = ours.average_image = None
    missing = ours.load_state_dict(state, strict=False)
    assert not missing.unexpected_keys
    assert {name.split(".")[1].split("_")[0] for name in missing.missing_keys} <= {"mask"}
    return ours.double().eval()


def assert_same_answers(network, ours, images) -> None:
    labels = torch.tensor([[1, 0, torch.nan], [0, 1, 1]], dtype=torch.float64)
    (found, loss), expected = (
        network.supervised(images, Supervision(labels, 1.0, 0.5)),
        ours(images),
    )
    told = ours.supervised(images, Supervision(labels, 1.0, 0.5))
    for mine, theirs in zip(found, expected, strict=True):
        torch.testing.assert_close(mine, theirs)
    weights = LossConfig(mask_l1=0.5)
    torch.testing.assert_close(
        loss_terms(found, images, labels, weights, loss=loss).total,
        loss_terms(told.output, images, labels, weights, loss=told.loss).total,
    )


@pytest.mark.parametrize("offset", [1.0, 0.7])
def test_no_masks_is_ours_with_masks_of_0(offset: float) -> None:
    torch.manual_seed(0)
    config = ModelConfig(channels=5, depth=0, image_size=16, mask_offset=offset)
    network = no_masks.build(config, NAMES).double().eval()
    ours = twin_of(
        network, make_network(NAMES, channels=5, image_size=16, depth=0, mask_offset=offset)
    )
    with torch.no_grad():
        ours.subnetworks.mask_bias.fill_(-1e4)
    images = draw_images(2, 16)
    assert_same_answers(network, ours, images)
    features = network(images).features
    assert not network.masks(features).any()
    torch.testing.assert_close(network.contributions(features), ours.contributions(features))
    rows = [0, 2]
    torch.testing.assert_close(
        network.subnetworks.contribution_maps(features, rows),
        ours.subnetworks.contribution_maps(features, rows),
    )
    names = [name for name, _ in network.named_parameters()]
    assert not [name for name in names if "mask" in name]


@pytest.mark.parametrize("system", [no_masks, shared_mask])
@pytest.mark.parametrize("offset", [1.0, 0.7])
def test_sub_networks_follow_a_classifier_as_ours_do(system: ModuleType, offset: float) -> None:
    torch.manual_seed(0)
    config = ModelConfig(channels=5, depth=0, image_size=16, mask_offset=offset)
    network, images = system.build(config, NAMES).double().eval(), draw_images(2, 16)
    network.subnetworks.follow(network.classifier)
    told = network(images)
    torch.testing.assert_close(told.logits, told.multilabel_logits)


def test_no_masks_and_no_offset_would_leave_nothing() -> None:
    with pytest.raises(ConfigError, match=r"mask-offset.*above 0, found 0"):
        no_masks.build(ModelConfig(channels=4, mask_offset=0.0), NAMES)


@pytest.mark.parametrize("settings", [{}, {"mask_rank": 2}, {"mask_context": True, "mask_rank": 3}])
def test_a_shared_mask_is_ours_with_equal_masks_for_all_channels(settings: dict) -> None:
    torch.manual_seed(0)
    config = ModelConfig(channels=5, depth=0, image_size=16, **settings)
    network = shared_mask.build(config, NAMES).double().eval()
    with torch.no_grad():
        network.subnetworks.mask_bias.normal_()
    ours = twin_of(network, make_network(NAMES, channels=5, image_size=16, depth=0, **settings))
    with torch.no_grad():
        ours.subnetworks.mask_weight.copy_(
            network.subnetworks.mask_weight[:, None].expand_as(ours.subnetworks.mask_weight)
        )
        ours.subnetworks.mask_bias.copy_(network.subnetworks.mask_bias[:, None].expand(-1, 5))
    images = draw_images(2, 16)
    assert_same_answers(network, ours, images)
    features = network(images).features
    chosen = (["Young", "Smiling"], [4, 0, 1])
    torch.testing.assert_close(network.masks(features, *chosen), ours.masks(features, *chosen))
    shares = network.contributions(features)
    torch.testing.assert_close(shares, ours.contributions(features))
    logits = network(images).logits
    torch.testing.assert_close(shares.sum((2, 3, 4)), logits - network.subnetworks.bias)
    for name in ("mask_maps", "contribution_maps"):
        found, expected = (getattr(n.subnetworks, name)(features, [1, 0]) for n in (network, ours))
        torch.testing.assert_close(found, expected)


def test_a_shared_mask_passes_the_gradient_that_ours_would() -> None:
    torch.manual_seed(0)
    network = shared_mask.build(ModelConfig(channels=4, depth=0, image_size=16), NAMES).double()
    features = torch.rand(2, 4, 3, 3, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda f: network.subnetworks(f)[:3], features)


def test_each_configuration_takes_one_thing_away() -> None:
    base = PRESETS["celeba-64"]
    changed = {
        subnets.configure: {},
        subnets.without_offset: {"mask_offset": 0.0},
        subnets.without_reconstructor: {"reconstructor": False},
        subnets.without_multilabel: {"multilabel": False},
        plain.configure: {"subnetworks": False, "reconstructor": False},
    }
    for configure, parts in changed.items():
        found = configure(base)
        for name in base.model.__dataclass_fields__:
            assert getattr(found.model, name) == parts.get(name, getattr(base.model, name))
        alone = configure is plain.configure
        weight = 1.0 if alone else base.loss.multilabel
        assert found.loss == replace(base.loss, multilabel=weight)
        assert found.train == base.train
    without = subnets.without_l1(base)
    assert (without.loss.mask_l1, without.model) == (0.0, base.model)


def test_what_is_compared_has_sub_networks_even_if_they_were_turned_off() -> None:
    off = Config(model=ModelConfig(subnetworks=False))
    assert subnets.configure(off).model.subnetworks
