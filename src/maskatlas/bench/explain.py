"""All masks summed up and all contributions of an image, beside the maps of other libraries.

Each is asked for a map of every attribute. torchcam takes one forward pass and a gradient for each
attribute, Captum a forward pass and a gradient for each, as their documentation shows it.
"""

import copy
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from maskatlas.bench.measuring import processor_clock
from maskatlas.bench.results import Case, Form, compare
from maskatlas.bench.settings import Explain
from maskatlas.config import PRESETS, ModelConfig
from maskatlas.devices import choose_device
from maskatlas.explanations import contribution_map
from maskatlas.explanations.traced import traced_contribution_map
from maskatlas.model import AttributeNetwork, build_network

TOLERANCE = 1e-5
"""Relative norm by which contributions may miss the logits, less the biases."""


class Scores(nn.Module):
    """A network as other libraries expect one: from images to the scores that answer."""

    def __init__(self, network: AttributeNetwork) -> None:
        super().__init__()
        self.network = network

    def forward(
        self, images: Float[Tensor, "batch 3 height width"]
    ) -> Float[Tensor, "batch attribute"]:
        """Return the scores."""
        return self.network(images).scores


def cases(settings: Explain) -> Iterator[Case]:
    """Measure one network of the preset, and a plain one of the same extractor."""
    device = choose_device(settings.device)
    model = replace(PRESETS[settings.preset].model, subnetworks=True)
    generator = torch.Generator().manual_seed(settings.seed)
    images = torch.rand(
        settings.batch, 3, model.image_size, model.image_size, generator=generator
    ).to(device)
    network = _network(model, settings, device)
    plain = _network(
        replace(model, subnetworks=False, multilabel=True, reconstructor=False), settings, device
    )
    names = network.attributes
    yield compare(
        f"{settings.preset}, K {settings.attributes}, {model.image_size} x {model.image_size} "
        f"images, {settings.batch} at a time",
        {
            "preset": settings.preset,
            "attributes": settings.attributes,
            "channels": model.channels,
            "image_size": model.image_size,
            "batch": settings.batch,
        },
        [
            _own(network, images),
            Form("maskatlas, traced", partial(traced_contribution_map, network, images, names)),
            *_torchcam({"plain": plain, "same": network}, images),
            *_captum({"plain": plain, "same": network}, images),
        ],
        images=settings.batch,
        rounds=settings.repeats,
        device=device,
        clock=processor_clock(device),
    )


def _network(model: ModelConfig, settings: Explain, device: torch.device) -> AttributeNetwork:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(settings.seed)
        names = [f"attribute_{number}" for number in range(settings.attributes)]
        network = build_network(model, names).to(device).eval()
    network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    return network


def sums_and_contributions(
    network: AttributeNetwork, images: Float[Tensor, "batch 3 height width"]
) -> tuple[Float[Tensor, "batch attribute channel"], Float[Tensor, "batch attribute rows columns"]]:
    """Return the K x C means of the masks and the K maps of contributions, of every image."""
    with torch.no_grad():
        output = network(images)
        assert output.mask_mean is not None
        return output.mask_mean, contribution_map(network, output.features, network.attributes)


def _own(network: AttributeNetwork, images: Tensor) -> Form:
    with torch.no_grad():
        logits = network(images).scores
    assert network.subnetworks is not None
    expected = logits - network.subnetworks.bias.detach()
    found = sums_and_contributions(network, images)[1].sum((2, 3))
    error = ((found - expected).norm() / expected.norm()).item()
    return Form(
        "maskatlas",
        partial(sums_and_contributions, network, images),
        errors={"sum of contributions": error},
        tolerance=TOLERANCE,
    )


def torchcam_maps(method: Any, model: Scores, images: Tensor) -> list[Tensor]:
    """Return torchcam's maps of every attribute, normalised as it does by default."""
    scores = model(images)
    return [method(k, scores, retain_graph=True)[0] for k in range(scores.shape[1])]


def captum_maps(method: Any, images: Tensor, attributes: int) -> list[Tensor]:
    """Return Captum's maps of every attribute."""
    return [method.attribute(images, target=k) for k in range(attributes)]


def _torchcam(networks: dict[str, AttributeNetwork], images: Tensor) -> list[Form]:
    try:
        from torchcam.methods import GradCAM
    except ImportError as error:
        return _absent(networks, "torchcam", error)
    found = []
    for name, network in networks.items():
        model = Scores(copy.deepcopy(network))  # of its own: its hooks stay
        method = GradCAM(model, target_layer="network.extractor")
        found.append(_theirs(name, "torchcam", partial(torchcam_maps, method, model, images)))
    return found


def _captum(networks: dict[str, AttributeNetwork], images: Tensor) -> list[Form]:
    try:
        from captum.attr import LayerGradCam
    except ImportError as error:
        return _absent(networks, "captum", error)
    found = []
    for name, network in networks.items():
        method = LayerGradCam(Scores(network), network.extractor)
        attributes = len(network.attributes)
        found.append(_theirs(name, "captum", partial(captum_maps, method, images, attributes)))
    return found


def _theirs(network: str, library: str, call: Callable[[], Sequence[Tensor]]) -> Form:
    return Form(_title(network, library), call, baseline=True)


def _absent(networks: dict[str, AttributeNetwork], library: str, error: ImportError) -> list[Form]:
    note = f"not installed ({error}): pip install 'maskatlas[{library}]'"
    return [Form(_title(name, library), None, baseline=True, note=note) for name in networks]


def _title(network: str, library: str) -> str:
    return f"{library}, {network}"
