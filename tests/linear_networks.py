"""Networks whose logits are linear in the pixels, so that the true effect of each is known."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from maskatlas.cache import PackedImages
from maskatlas.config import ModelConfig
from maskatlas.data import AttributeDataset
from maskatlas.evaluation.examination import Examination
from maskatlas.inference import labels_for
from maskatlas.model import AttributeNetwork, Output, Supervised


class LinearNetwork(AttributeNetwork):
    """logit_k = sum over colours and pixels of w^k x + b_k; its maps are given to it.

    The methods: ``exact`` is what each pixel adds over the image's mean colour, ``against`` its
    negative, ``doubled`` twice it, ``ones`` and ``zeros`` are constant.
    """

    def __init__(self, names: Sequence[str], size: int, seed: int = 0) -> None:
        config = ModelConfig(channels=1, image_size=size, subnetworks=False, reconstructor=False)
        super().__init__(
            config,
            names,
            extractor=nn.Identity(),
            subnetworks=None,
            classifier=nn.Linear(3 * size * size, len(names), dtype=torch.float64),
            reconstructor=None,
        )
        generator = torch.Generator().manual_seed(seed)
        with torch.no_grad():
            self.weight.normal_(std=1 / size, generator=generator)
            self.bias.normal_(generator=generator)
        self.eval()

    @property
    def weight(self) -> Tensor:
        """w, [attribute 3 rows columns]."""
        size = self.config.image_size
        return self.classifier.weight.view(-1, 3, size, size)

    @property
    def bias(self) -> Tensor:
        return self.classifier.bias

    def supervised(self, images: Tensor, supervision: object = None) -> Supervised:
        logits = self.classifier(images.double().flatten(1))
        return Supervised(Output(None, logits, images, None, None, None), None)

    @property
    def explanation_methods(self) -> Mapping[str, Callable[[Tensor, Sequence[str]], Tensor]]:
        def exact(images: Tensor, names: Sequence[str]) -> Tensor:
            weight = self.weight[[self.attributes.index(name) for name in names]]
            above = images - images.mean((2, 3), keepdim=True)
            return torch.einsum("bchw,kchw->bkhw", above, weight)

        def constant(value: float) -> Callable[[Tensor, Sequence[str]], Tensor]:
            return lambda images, names: images.new_full(
                (len(images), len(names), *images.shape[2:]), value
            )

        return {
            "exact": exact,
            "against": lambda images, names: -exact(images, names),
            "doubled": lambda images, names: 2 * exact(images, names),
            "ones": constant(1.0),
            "zeros": constant(0.0),
        }


def examine(
    network: AttributeNetwork, data: AttributeDataset, methods: Sequence[str] = (), **more: Any
) -> Examination:
    """What the judges are given."""
    images = PackedImages(data, network.preprocessing)
    return Examination(network, images, labels_for(network, data), tuple(methods), **more)


def seen(network: AttributeNetwork, data: AttributeDataset) -> list[Tensor]:
    """The images as the judges give them to a network in float64."""
    images = [network.preprocess(data.read(index)).double() for index in range(len(data))]
    return [(image * 255).round() / 255 for image in images]
