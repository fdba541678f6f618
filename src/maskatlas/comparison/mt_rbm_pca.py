"""MT-RBM PCA (Ehrlich, Shields, Almaev and Amer 2016), reconstructed: no sizes were found.

The pixels' principal components v, whitened, are the visible units of a restricted Boltzmann
machine whose hidden units are shared by all attributes. With attribute k its energy is

    E_k(v, y, h) = |v - a|^2 / 2 - b'h - v'Wh - c_k y - y U_k'h,

where a, b and W are the same for every k. Then p(y | v) is closed: its log-odds are c_k plus the
sum over hidden units of softplus(b + W'v + U_k) - softplus(b + W'v). Read so, each task sees the
others through the shared weights only; with all labels in one energy there would be no closed form.
Trained by one step of contrastive divergence: hidden units are drawn, visible ones and labels take
their means, and the loss is the difference of free energies, whose gradient is that of contrastive
divergence.

Choices: C principal components of the image reduced to 32 x 32, 4 C hidden units, no landmarks.
Shifts are off, since components know no neighbourhoods, and the learning rate is five times what is
asked for. Draws are a function of a step count that is saved with the weights, so that a run that
goes on draws what it would have drawn.
"""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.functional import adaptive_avg_pool2d, softplus

from maskatlas.cache import PackedImages
from maskatlas.comparison import plain
from maskatlas.comparison.networks import ClassifierNetwork
from maskatlas.comparison.system import NetworkSystem
from maskatlas.config import Config, ModelConfig
from maskatlas.model import AttributeNetwork, Supervised
from maskatlas.subnetworks import Supervision

SIDE = 32
"""Rows and columns of the image that principal components are taken of."""
WIDENING = 4
"""Hidden units for each component."""
FASTER = 5.0
"""Learning rate, in those asked for: its gradients are noisy, and there are no layers to upset."""
MOST_IMAGES = 5000
"""Images that the components are computed from."""
_DEVIATION = 0.01  # of the first weights


class PrincipalComponents(nn.Module):
    """Images to whitened components, [B C 1 1]; fixed once they are computed."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.channels = channels
        self.register_buffer("mean", torch.zeros(3 * SIDE * SIDE))
        self.register_buffer("components", torch.zeros(channels, 3 * SIDE * SIDE))

    def forward(
        self, images: Float[Tensor, "batch 3 rows columns"]
    ) -> Float[Tensor, "batch channel 1 1"]:
        """Return components of deviation 1; 0 for those that there were too few images for."""
        flat = adaptive_avg_pool2d(images, SIDE).flatten(1)
        assert isinstance(self.mean, Tensor)
        assert isinstance(self.components, Tensor)
        return ((flat - self.mean) @ self.components.T)[:, :, None, None]

    def compute(self, images: Float[np.ndarray, "image pixel"]) -> None:
        """Take the components of these images, each divided by its deviation over them."""
        from sklearn.decomposition import PCA

        count = min(self.channels, *images.shape, max(len(images) - 1, 1))
        found = PCA(count, svd_solver="randomized", random_state=0).fit(images)
        deviation = np.sqrt(np.maximum(found.explained_variance_, 1e-12))
        assert isinstance(self.mean, Tensor)
        assert isinstance(self.components, Tensor)
        self.mean.copy_(torch.from_numpy(found.mean_))
        self.components.zero_()
        self.components[:count] = torch.from_numpy(found.components_ / deviation[:, None])


class MultiTaskRBM(ClassifierNetwork):
    """The machine; U and c are the classifier's weight and bias, on hidden units."""

    def __init__(self, config: ModelConfig, attributes: Sequence[str]) -> None:
        super().__init__(config, attributes, PrincipalComponents(config.channels))
        hidden = WIDENING * config.channels
        self.classifier = nn.Linear(hidden, len(attributes))
        self.visible_bias = nn.Parameter(torch.zeros(config.channels))
        self.hidden_bias = nn.Parameter(torch.zeros(hidden))
        self.connection = nn.Parameter(torch.empty(config.channels, hidden))
        self.register_buffer("draws", torch.zeros((), dtype=torch.int64))
        nn.init.normal_(self.connection, std=_DEVIATION)
        nn.init.normal_(self.classifier.weight, std=_DEVIATION)
        nn.init.zeros_(self.classifier.bias)

    def supervised(
        self,
        images: Float[Tensor, "batch 3 rows columns"],
        supervision: Supervision | None = None,
    ) -> Supervised:
        """Return the log-odds of p(y | v); with labels the loss, and then they have no gradient."""
        features = self.extractor(self.normalised(images))
        visible = features.flatten(1)
        logits = self._log_odds(visible)
        if supervision is None:
            return self.answer(features, logits)
        loss = self._divergence(visible, supervision.labels)
        return self.answer(features, logits.detach(), loss)

    def _log_odds(
        self, visible: Float[Tensor, "batch channel"]
    ) -> Float[Tensor, "batch attribute"]:
        assert self.classifier is not None
        given = _wide(visible @ self.connection + self.hidden_bias)[:, None]
        gains = softplus(given + self.classifier.weight) - softplus(given)
        return gains.sum(2) + self.classifier.bias

    def free_energy(
        self,
        visible: Float[Tensor, "batch attribute channel"],
        labels: Float[Tensor, "batch attribute"],
    ) -> Float[Tensor, "batch attribute"]:
        """Return -log of the sum over h of exp(-E_k), for each task."""
        assert self.classifier is not None
        moved = (visible - self.visible_bias).square().sum(2) / 2
        hidden = softplus(self._activation(visible, labels)).sum(2)
        return moved - self.classifier.bias * labels - hidden

    def _activation(
        self,
        visible: Float[Tensor, "batch attribute channel"],
        labels: Float[Tensor, "batch attribute"],
    ) -> Float[Tensor, "batch attribute hidden"]:
        assert self.classifier is not None
        given = visible @ self.connection + self.hidden_bias
        return _wide(given + labels[:, :, None] * self.classifier.weight)

    def _divergence(
        self, visible: Float[Tensor, "batch channel"], labels: Float[Tensor, "batch attribute"]
    ) -> Float[Tensor, ""]:
        """Return the difference of free energies after one step, summed over known labels."""
        assert self.classifier is not None
        known = ~labels.isnan()
        truth = _wide(torch.where(known, labels, 0))
        start = _wide(visible)[:, None].expand(-1, labels.shape[1], -1)
        with torch.no_grad():
            chance = self._activation(start, truth).sigmoid()
            hidden = (self._uniform(chance) < chance).to(chance.dtype)
            ended = _wide(hidden @ self.connection.T + self.visible_bias)
            guess = ((hidden * self.classifier.weight).sum(2) + self.classifier.bias).sigmoid()
        difference = self.free_energy(start, truth) - self.free_energy(ended, _wide(guess))
        return (difference * known).sum() / len(labels)

    def _uniform(self, like: Tensor) -> Tensor:
        """Return numbers from 0 to 1 that depend on how often this was called, and nothing else."""
        assert isinstance(self.draws, Tensor)
        generator = torch.Generator().manual_seed(int(self.draws))
        self.draws += 1
        return torch.rand(like.shape, generator=generator).to(like.device)


def prepare(network: AttributeNetwork, images: PackedImages) -> None:
    """Compute the components from training images, spread evenly."""
    assert isinstance(network, MultiTaskRBM)
    assert isinstance(network.extractor, PrincipalComponents)
    places = torch.linspace(0, len(images) - 1, min(MOST_IMAGES, len(images))).round().long()
    rows = []
    for part in places.split(256):
        pixels = network.normalised(images.batch(part).images.float() / 255)
        rows.append(adaptive_avg_pool2d(pixels, SIDE).flatten(1).numpy())
    network.extractor.compute(np.concatenate(rows))


def configure(config: Config) -> Config:
    """Return it for components: no shifts, and a higher rate."""
    plainly = plain.configure(config)
    rate = FASTER * plainly.train.learning_rate
    return replace(plainly, train=replace(plainly.train, shift=0, learning_rate=rate))


def multi_task_rbm() -> NetworkSystem:
    """Return the system, for :mod:`maskatlas.comparison`."""
    return NetworkSystem("mt-rbm-pca", "MT-RBM PCA", MultiTaskRBM, configure, prepare=prepare)


def _wide(values: Tensor) -> Tensor:
    """Return values in float32 or wider: energies are differences of large numbers."""
    return values.to(torch.promote_types(values.dtype, torch.float32))
