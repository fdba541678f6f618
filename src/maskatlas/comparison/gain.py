"""Guided attention inference networks (Li, Wu, Peng, Ernst and Fu 2018), on the plain network.

The attention map of attribute k is Grad-CAM's: A_k = relu(sum_c w_kc f_c) with w_kc the mean over
positions of d s_k / d f_c. It is part of the training: the image without what the map covers,
I* = I - T(A_k) I with T(A) = sigmoid(omega (A - sigma)), goes through the same network, which shall
not find the attribute there. L = L_cl + alpha L_am, where L_am is the mean over an image's present
attributes of the score s_k(I*). With regions H (``gain-regions``), 10 mean (A - H)^2 is added.

With a linear layer on the features' mean, d s_k / d f is the same at every position, w_k / (h w),
so the map is exact without differentiating; the loss still reaches extractor and weights through
it.

Choices where the paper is silent, and departures: A is divided by its maximum before T and before
it is compared with H, as public implementations do, since omega and sigma say nothing otherwise;
s_k(I*) is the probability, which is bounded; I is the image as the network takes it, so that what
is masked becomes the mean colour; normalisation statistics are those of whole images; the extractor
and the schedule are ours.
"""

from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType

import torch
from jaxtyping import Float, UInt8
from torch import Tensor
from torch.func import functional_call
from torch.nn.functional import interpolate

from maskatlas.comparison.networks import ClassifierNetwork
from maskatlas.config import ModelConfig
from maskatlas.data import UNKNOWN
from maskatlas.model import Supervised
from maskatlas.subnetworks import Supervision

MINING = 1.0
"""alpha, the weight of L_am."""
GUIDANCE = 10.0
"""The weight of the error against regions."""
SIGMA, OMEGA = 0.5, 10.0
"""Threshold and steepness of T."""


class GuidedAttentionNetwork(ClassifierNetwork):
    """The plain network, trained so that its maps cover what it looks for."""

    @property
    def explanation_methods(self) -> Mapping[str, Callable[[Tensor, Sequence[str]], Tensor]]:
        """``gain``: the attention maps, before they are scaled."""
        return MappingProxyType({"gain": self.attention_maps})

    def supervised(
        self,
        images: Float[Tensor, "batch 3 rows columns"],
        supervision: Supervision | None = None,
    ) -> Supervised:
        """Recognise; with labels, what is added to the classifier's loss comes with it."""
        pixels = self.normalised(images)
        features = self.extractor(pixels)
        logits = self.classified(features.mean((2, 3)))
        if supervision is None:
            return self.answer(features, logits)
        present = supervision.labels == 1
        maps = scaled(self._attention(features))
        loss = MINING * self._mining(pixels, maps, present)
        if supervision.regions is not None:
            loss = loss + GUIDANCE * region_error(maps, supervision.regions, present)
        return self.answer(features, logits, loss)

    def _attention(
        self, features: Float[Tensor, "batch channel height width"]
    ) -> Float[Tensor, "batch attribute height width"]:
        assert self.classifier is not None
        weight = self.classifier.weight / (features.shape[2] * features.shape[3])
        return torch.einsum("kc,bchw->bkhw", weight, features.to(weight.dtype)).relu()

    def _mining(
        self,
        pixels: Float[Tensor, "batch 3 rows columns"],
        maps: Float[Tensor, "batch attribute height width"],
        present: Tensor,
    ) -> Float[Tensor, ""]:
        """Return L_am: how much of its present attributes is found in each image without them."""
        image, attribute = torch.nonzero(present, as_tuple=True)
        if not len(image):
            return maps.sum() * 0
        chosen = maps[image, attribute][:, None]
        cover = interpolate(chosen, pixels.shape[2:], mode="bilinear", align_corners=False)
        masked = pixels[image] * (1 - (OMEGA * (cover - SIGMA)).sigmoid())
        # in training the extractor normalises by the batch; what it remembers stays that of images
        remembered = {name: value.clone() for name, value in self.extractor.named_buffers()}
        features = functional_call(self.extractor, remembered, (masked.to(pixels.dtype),))
        logits = self.classified(features.mean((2, 3)))
        scores = logits[torch.arange(len(image)), attribute].sigmoid()
        return (scores / present.sum(1)[image]).sum() / len(pixels)

    def attention_maps(
        self, images: Float[Tensor, "batch 3 rows columns"], attributes: Sequence[str]
    ) -> Float[Tensor, "batch attribute height width"]:
        """Return A of the named attributes, not scaled, without gradients.

        Raises:
            ConfigError: A name that the network does not know.
        """
        chosen = self.attribute_indices(attributes)
        with torch.no_grad():
            return self._attention(self.extractor(self.normalised(images)))[:, chosen]


def scaled(
    maps: Float[Tensor, "batch attribute height width"],
) -> Float[Tensor, "batch attribute height width"]:
    """Return maps of 0 and more divided by their maximum; a map of zeros stays one."""
    return maps / maps.amax((2, 3), keepdim=True).clamp_min(torch.finfo(maps.dtype).tiny)


def region_error(
    maps: Float[Tensor, "batch attribute height width"],
    regions: UInt8[Tensor, "batch attribute rows columns"],
    present: Tensor,
) -> Float[Tensor, ""]:
    """Return the mean of (A - H)^2 over known pixels of present attributes; 0 if there are none.

    Args:
        maps: Scaled; resized to the regions bilinearly.
        regions: 1 inside, 0 outside, 255 unknown.
        present: Which attributes each image is known to have, [batch attribute].
    """
    image, attribute = torch.nonzero(present, as_tuple=True)
    chosen, truth = maps[image, attribute][:, None], regions[image, attribute]
    if not (truth != UNKNOWN).any():
        return maps.sum() * 0
    cover = interpolate(chosen, truth.shape[1:], mode="bilinear", align_corners=False)[:, 0]
    return (cover - truth).square()[truth != UNKNOWN].mean()


def build(config: ModelConfig, attributes: Sequence[str]) -> GuidedAttentionNetwork:
    """Build ``gain``; it becomes ``gain-regions`` by images that come with regions."""
    return GuidedAttentionNetwork(config, attributes)
