import pytest
import torch
from torch import Tensor, nn

from maskatlas.errors import ConfigError
from maskatlas.explanations import activation, explain, explainers
from maskatlas.model import AttributeNetwork, Output
from maskatlas.subnetworks import SubNetworks
from networks import draw_images, make_network
from reference import explanations as slow

KINDS = {
    "plain": {"subnetworks": False},
    "paper": {},
    "low rank": {"mask_rank": 2},
    "context": {"mask_rank": 3, "mask_context": True, "mask_offset": 0.0},
}


def network_of(kind: str) -> AttributeNetwork:
    return make_network(3, channels=4, image_size=16, **KINDS[kind])


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("at_once", [1, 2, 3])
def test_gradients_are_those_of_autograd_however_many_are_held(
    kind: str, at_once: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    network = network_of(kind)
    images = draw_images(2, (16, 12))
    features = network(images).features.detach()
    monkeypatch.setattr(activation, "MOST_NUMBERS", at_once * features.numel())
    found_features, slopes = activation.feature_gradients(network, images, network.attributes)
    torch.testing.assert_close(found_features, features)
    parts = list(slopes)
    assert [part.shape[1] for part in parts] == [at_once] * (3 // at_once) + [1] * (3 % at_once)
    found = torch.cat(parts, dim=1)
    for place, image in enumerate(images):
        for k in range(3):
            _, expected = slow.feature_gradient(network, image, k)
            torch.testing.assert_close(found[place, k], torch.from_numpy(expected))


@pytest.mark.parametrize("kind", KINDS)
def test_the_contribution_and_the_bias_add_up_to_the_logit(kind: str) -> None:
    network = network_of(kind)
    output = network(draw_images(3, 16))
    head = network.classifier if network.subnetworks is None else network.subnetworks
    maps = activation.contribution_map(network, output.features, network.attributes)
    torch.testing.assert_close(maps.sum((2, 3)) + head.bias, output.scores)


def test_where_the_logit_is_linear_in_the_features_hires_cam_is_the_contribution() -> None:
    images = draw_images(2, 16)
    network = network_of("plain")
    hires = explain(network, images, "hires-cam")
    torch.testing.assert_close(hires, explain(network, images, "contribution"))
    torch.testing.assert_close(explain(network, images, "grad-cam").sign().min(), torch.tensor(0.0))
    masked = network_of("paper")
    assert not torch.allclose(
        explain(masked, images, "hires-cam"), explain(masked, images, "contribution"), atol=1e-4
    )


class Doubled(AttributeNetwork):
    """A network that answers in a way of its own."""

    def forward(self, images: Tensor) -> Output:
        output = super().forward(images)
        pooled = (2 * output.features).amax((2, 3))
        assert self.classifier is not None
        return output._replace(logits=None, multilabel_logits=self.classifier(pooled))


def test_what_answers_in_a_way_of_its_own_is_explained_by_autograd() -> None:
    network = network_of("plain")
    network.__class__ = Doubled
    images = draw_images(2, 16)
    assert "contribution" not in explainers(network)
    for method in ("contribution", "contribution-centred", "contribution-traced", "mask"):
        with pytest.raises(ConfigError, match=r"a way of its own.*choose one of grad-cam,"):
            explain(network, images, method)
    features, slopes = activation.feature_gradients(network, images, ["Male", "Smiling"])
    slope = torch.cat(list(slopes), dim=1)
    weight = network.classifier.weight[[1, 0]].detach()
    torch.testing.assert_close(slope.sum((3, 4)), (2 * weight).expand(2, -1, -1))
    assert torch.equal(
        slope != 0, (features == features.amax((2, 3), True))[:, None].expand_as(slope)
    )
    pixels = images.clone().requires_grad_()
    (expected,) = torch.autograd.grad(network(pixels).scores[:, 1].sum(), pixels)
    found = explain(network, images, "gradient-x-input", ["Male"])
    torch.testing.assert_close(found[:, 0], ((images - 0.5) * expected).sum(1).float())


class Answering(nn.Module):
    """Only the logits that answer, for libraries that know nothing of an output with names."""

    def __init__(self, network: AttributeNetwork) -> None:
        super().__init__()
        self.network = network

    def forward(self, images: Tensor) -> Tensor:
        return self.network(images).scores


@pytest.mark.parametrize("kind", KINDS)
def test_grad_cam_is_that_of_captum(kind: str) -> None:
    captum = pytest.importorskip("captum.attr")
    network = network_of(kind)
    model, images = Answering(network), draw_images(2, 16)
    theirs = captum.LayerGradCam(model, network.extractor)
    found = activation.grad_cam_map(network, images, network.attributes)
    for k in range(3):
        expected = theirs.attribute(images, target=k, relu_attributions=True)
        torch.testing.assert_close(found[:, k], expected[:, 0])


@pytest.mark.parametrize("kind", KINDS)
def test_grad_cam_is_that_of_torchcam(kind: str) -> None:
    methods = pytest.importorskip("torchcam.methods")
    network = network_of(kind)
    model, image = Answering(network), draw_images(1, 16)
    found = activation.grad_cam_map(network, image, network.attributes)
    with methods.GradCAM(model, target_layer=network.extractor) as theirs:
        for k in range(3):
            scores = model(image)
            (expected,) = theirs(k, scores, normalized=False, retain_graph=True)
            torch.testing.assert_close(found[:, k], expected.double(), rtol=1e-5, atol=1e-7)


class OtherSubNetworks(SubNetworks):
    """Sub-networks that may compute masks in a way of their own; these do not."""


@pytest.mark.parametrize("method", ["contribution", "mask", "contribution-flat-masks", "hires-cam"])
def test_replaced_sub_networks_are_asked_for_their_masks_and_gradients(method: str) -> None:
    images, network = draw_images(2, 16), network_of("context")
    expected = explain(network, images, method)
    network.subnetworks.__class__ = OtherSubNetworks
    assert not activation.logits_are_known(network)
    torch.testing.assert_close(explain(network, images, method), expected)
