"""ABN and GAIN: their equations against slow twins, and what they offer."""

import copy
from pathlib import Path

import pytest
import torch

import maskatlas as ma
from maskatlas.comparison import abn, gain, open_network
from maskatlas.config import LossConfig, ModelConfig
from maskatlas.errors import ConfigError
from maskatlas.explanations.methods import UNSIGNED
from maskatlas.losses import attribute_loss, loss_terms
from maskatlas.subnetworks import Supervision
from networks import draw_images, make_dataset
from reference import comparison as reference

CONFIG = ModelConfig(
    channels=5, depth=0, image_size=16, subnetworks=False, multilabel=True, reconstructor=False
)
NAMES = ("Smiling", "Male", "Young")
LABELS = torch.tensor([[1, 0, torch.nan], [0, 1, 1], [1, 1, 1], [0, 0, 0]], dtype=torch.float64)


def randomised(network):
    torch.manual_seed(1)
    with torch.no_grad():
        for name, tensor in network.double().state_dict().items():
            if name.endswith("running_var"):
                tensor.uniform_(0.5, 1.5)
            elif tensor.is_floating_point():
                tensor.add_(0.3 * torch.randn_like(tensor))
    return network.eval()


def assert_same_gradients(network, one: torch.Tensor, other: torch.Tensor) -> None:
    found = torch.autograd.grad(one, list(network.parameters()), allow_unused=True)
    expected = torch.autograd.grad(other, list(network.parameters()), allow_unused=True)
    for mine, theirs in zip(found, expected, strict=True):
        assert (mine is None) == (theirs is None)
        if mine is not None:
            torch.testing.assert_close(mine, theirs)


@pytest.mark.parametrize("build", [abn.build, abn.build_residual])
def test_abn_against_its_twin(build) -> None:
    network = randomised(build(CONFIG, NAMES))
    images = draw_images(4, 16)
    maps, branch, logits = reference.abn(network, images)
    output, loss = network.supervised(images, Supervision(LABELS, 1.0, 0.0))
    torch.testing.assert_close(output.scores, logits)
    torch.testing.assert_close(
        ma.explain(network, images, "abn").shape, images.new_ones(4, 3, 16, 16).shape
    )
    torch.testing.assert_close(
        network.attention_maps(images, ["Young", "Smiling"]), maps[:, [2, 0]]
    )
    terms = loss_terms(output, images, LABELS, LossConfig(), loss=loss)
    expected = attribute_loss(logits, LABELS) + attribute_loss(branch, LABELS)
    torch.testing.assert_close(terms.total, expected)
    assert_same_gradients(network, terms.total, expected)


def test_the_two_forms_of_abn_differ_and_need_no_labels_to_answer() -> None:
    plain, residual = (
        randomised(abn.build(CONFIG, NAMES)),
        randomised(abn.build_residual(CONFIG, NAMES)),
    )
    residual.load_state_dict(plain.state_dict())
    images = draw_images(2, 16)
    assert plain.supervised(images).loss is None
    assert (plain(images).scores - residual(images).scores).abs().max() > 1e-3


@pytest.mark.parametrize("with_regions", [False, True])
def test_gain_against_its_twin_second_derivatives_included(with_regions: bool) -> None:
    network = randomised(gain.build(CONFIG, NAMES))
    images = draw_images(4, 16, seed=3)
    regions = torch.randint(0, 2, (4, 3, 16, 16), dtype=torch.uint8) if with_regions else None
    if regions is not None:
        regions[:, :, :3] = 255
    output, loss = network.supervised(images, Supervision(LABELS, 1.0, 0.0, regions))
    logits, maps = reference.grad_cam(network, (images - 0.5) / 0.25)
    torch.testing.assert_close(output.scores, logits)
    assert maps.max() > 0
    torch.testing.assert_close(network.attention_maps(images, NAMES[1:]), maps[:, 1:].detach())
    expected = reference.gain_loss(network, images, LABELS, regions)
    torch.testing.assert_close(loss, expected)
    assert_same_gradients(network, loss, expected)
    total = loss_terms(output, images, LABELS, LossConfig(), loss=loss).total
    torch.testing.assert_close(total, expected + attribute_loss(logits, LABELS))


@pytest.mark.parametrize(("name", "build"), [("abn", abn.build), ("gain", gain.build)])
def test_maps_are_told_to_have_a_sign_where_they_have_one(name: str, build) -> None:
    network = randomised(build(CONFIG, NAMES))
    maps = ma.explain(network, draw_images(4, 16), name)
    assert maps.max() > 0
    assert (maps.min() < 0) == (name not in UNSIGNED)


def test_masked_images_leave_no_trace_in_what_gain_remembers_of_images() -> None:
    one = randomised(gain.build(CONFIG, NAMES)).train()
    other = copy.deepcopy(one)
    images = draw_images(4, 16)
    one.supervised(images, Supervision(LABELS, 1.0, 0.0))
    other(images)
    torch.testing.assert_close(dict(one.named_buffers()), dict(other.named_buffers()))


def test_without_present_attributes_and_known_regions_gain_adds_nothing() -> None:
    network = randomised(gain.build(CONFIG, NAMES))
    images = draw_images(2, 16)
    nothing = network.supervised(images, Supervision(torch.zeros(2, 3).double(), 1.0, 0.0)).loss
    assert nothing.item() == 0
    unknown = torch.full((2, 3, 16, 16), 255, dtype=torch.uint8)
    maps = torch.rand(2, 3, 4, 4)
    assert gain.region_error(maps, unknown, torch.ones(2, 3) == 1).item() == 0
    assert not gain.scaled(torch.zeros(1, 1, 2, 2)).any()


@pytest.mark.parametrize(("build", "method"), [(abn.build, "abn"), (gain.build, "gain")])
def test_their_maps_are_explanations_by_name(build, method: str) -> None:
    network = randomised(build(CONFIG, NAMES)).float()
    images = draw_images(2, 16, dtype=torch.float32)
    maps = ma.explain(network, images, method, ["Male"])
    assert maps.shape == (2, 1, 16, 16)
    assert not maps.requires_grad
    assert maps.max() > maps.min()
    with pytest.raises(ConfigError, match=r"attribute 'Mael'.*Male"):
        ma.explain(network, images, method, ["Mael"])


def test_a_network_that_was_read_can_be_begun_anew(tmp_path: Path) -> None:
    network = randomised(abn.build(CONFIG, NAMES)).float()
    network.save_pretrained(tmp_path)
    read = open_network("abn", tmp_path)
    torch.manual_seed(7)
    expected = abn.build(CONFIG, NAMES).state_dict()
    torch.manual_seed(7)
    found = read.anew().state_dict()
    assert expected.keys() == found.keys()
    assert all(torch.equal(found[name], expected[name]) for name in found)
    data = make_dataset(LABELS.tolist(), NAMES)
    judged = ma.evaluate_explanations(
        read, data, methods=["abn", "hires-cam"], subjects=["randomization"]
    ).to_json()["randomization"]
    assert judged["expected"].keys() == {"abn", "hires-cam"}
    assert judged["expected"]["hires-cam"]["mean"] < 0.9
    with pytest.raises(ConfigError, match="read from a model folder"):
        ma.evaluate_explanations(network, data, methods=["abn"], subjects=["randomization"])
