"""LNets+ANet (Liu, Luo, Wang and Tang 2015): features that know people, then linear machines.

ANet is trained to tell the training images' people apart (softmax, and a contraction that draws
features of one person together), then to recognise the attributes; a linear support vector machine
for each attribute is then trained on its last features of the validation images, and its scores are
averaged over crops of an image.

Departures. The faces here are aligned, so that LNet, which finds them, has nothing to do. Filter
sizes were not found: the layers are those of DeepID, which ANet follows, with 20, 40, 60 and 80
channels and 160 features, the last two convolutions shared within the cells of a grid only. The
last layer is normalised over the batch, without a scale or shift of its own: where thousands of
people are to be told apart from a few images each, nothing pays at first but to answer the same for
all, and features that could fall silent do, all of them, within 150 steps of our schedule. Crops
are seven eighths of the side: four corners and the centre, each mirrored too. Where nobody's
identity is known, the first stage is left out, and the table says so. Of ``--minutes`` and of the
epochs each stage has half, so that no image is seen more often than by the other systems.
"""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from jaxtyping import Float, Int64
from torch import Tensor, nn
from torch.nn.functional import adaptive_avg_pool2d, conv2d, cross_entropy, max_pool2d, pad

from maskatlas.cache import PackedImages
from maskatlas.comparison import plain
from maskatlas.comparison.images import ImagesWithIdentities
from maskatlas.comparison.linear_svm import LinearSVMs, fit_svms
from maskatlas.comparison.networks import ClassifierNetwork
from maskatlas.comparison.system import Fitted, Job, NetworkSystem, parameters, seconds
from maskatlas.config import Config, ModelConfig
from maskatlas.data import AttributeDataset
from maskatlas.devices import choose_device
from maskatlas.extractors import BatchNorm
from maskatlas.inference import passes
from maskatlas.model import AttributeNetwork, Supervised
from maskatlas.subnetworks import Supervision
from maskatlas.tensorfile import load_tensors, save_tensors
from maskatlas.training_data import open_data

CHANNELS = (20, 40, 60, 80)
FEATURES = 160
SIDES, GRIDS = (12, 6), (4, 3)
"""Rows of what the locally shared layers are given, and cells of each on a side."""
CROP = 7 / 8
"""Side of a crop, in sides of the image."""
CONTRACTION = 0.01
"""Weight of the squared distance between features of one person."""


class LocallySharedConvolution(nn.Module):
    """A 3x3 convolution whose weights are shared within each cell of a grid, not beyond it."""

    def __init__(self, inputs: int, outputs: int, grid: int) -> None:
        super().__init__()
        self.grid, self.outputs = grid, outputs
        self.weight = nn.Parameter(torch.empty(grid * grid * outputs, inputs, 3, 3))
        self.bias = nn.Parameter(torch.zeros(grid * grid * outputs))
        nn.init.kaiming_normal_(self.weight, nonlinearity="relu")

    def forward(
        self, features: Float[Tensor, "batch channel side side"]
    ) -> Float[Tensor, "batch output side side"]:
        """Return the map; its side is a multiple of the grid's."""
        grid, cell = self.grid, features.shape[2] // self.grid
        padded = pad(features, (1, 1, 1, 1))
        cells = padded.unfold(2, cell + 2, cell).unfold(3, cell + 2, cell)
        side_by_side = cells.permute(0, 2, 3, 1, 4, 5).flatten(1, 3)
        found = conv2d(side_by_side, self.weight, self.bias, groups=grid * grid)
        apart = found.unflatten(1, (grid, grid, self.outputs))
        together: Tensor = apart.permute(0, 3, 1, 4, 2, 5).flatten(4, 5).flatten(2, 3)
        return together

    if TYPE_CHECKING:

        def __call__(self, features: Tensor) -> Tensor: ...  # noqa: D102


class ANetFeatures(nn.Module):
    """Images of any size to 160 features, [B 160 1 1]."""

    def __init__(self) -> None:
        super().__init__()
        first, second, third, fourth = CHANNELS
        self.shared = nn.Sequential(
            nn.Conv2d(3, first, 3, padding=1),
            nn.ReLU(),
            nn.MaxPool2d(2),
            nn.Conv2d(first, second, 3, padding=1),
            nn.ReLU(),
        )
        self.third = LocallySharedConvolution(second, third, GRIDS[0])
        self.fourth = LocallySharedConvolution(third, fourth, GRIDS[1])
        self.last = nn.Linear(fourth * SIDES[1] ** 2, FEATURES, bias=False)
        self.norm = BatchNorm(FEATURES).requires_grad_(False)  # a scale of 1, a shift of 0

    def forward(
        self, images: Float[Tensor, "batch 3 rows columns"]
    ) -> Float[Tensor, "batch channel 1 1"]:
        """Return the features, none below 0."""
        maps = adaptive_avg_pool2d(self.shared(images), SIDES[0])
        maps = max_pool2d(self.third(maps).relu(), 2)
        flat = self.fourth(maps).relu().flatten(1)
        features: Tensor = self.last(flat)
        return self.norm(features[:, :, None, None]).relu()


class ANet(ClassifierNetwork):
    """ANet on the centre crop, with a linear layer for the attributes."""

    def __init__(self, config: ModelConfig, attributes: Sequence[str]) -> None:
        super().__init__(config, attributes, ANetFeatures())
        self.classifier = nn.Linear(FEATURES, len(attributes))

    def supervised(
        self,
        images: Float[Tensor, "batch 3 rows columns"],
        supervision: Supervision | None = None,  # noqa: ARG002, the classifier's loss is all
    ) -> Supervised:
        """Recognise the attributes."""
        features = self.crop_features(images)
        return self.answer(features, self.classified(features.flatten(1)))

    def crop_features(
        self, images: Float[Tensor, "batch 3 rows columns"], rows: float = 0.5, columns: float = 0.5
    ) -> Float[Tensor, "batch channel 1 1"]:
        """Return the features of a crop; 0 is the upper or left border, 1 the other."""
        high, wide = (max(1, round(CROP * side)) for side in images.shape[2:])
        top = round(rows * (images.shape[2] - high))
        left = round(columns * (images.shape[3] - wide))
        crop = images[:, :, top : top + high, left : left + wide]
        features: Tensor = self.extractor(self.normalised(crop))
        return features


class IdentityNetwork(ANet):
    """ANet in its first stage: it learns who is shown.

    The attributes' linear layer is trained as well, so that one can see how much of them such
    features tell, but the features learn nothing from it.
    """

    def __init__(
        self,
        config: ModelConfig,
        attributes: Sequence[str],
        people: Int64[Tensor, " person"],
    ) -> None:
        """Set up at random.

        Args:
            config: Sizes.
            attributes: Names.
            people: The identities that occur, ascending.
        """
        super().__init__(config, attributes)
        self.register_buffer("people", people)
        self.recogniser = nn.Linear(FEATURES, len(people))

    def supervised(
        self,
        images: Float[Tensor, "batch 3 rows columns"],
        supervision: Supervision | None = None,
    ) -> Supervised:
        """Recognise attributes; with identities, the loss of telling people apart comes along."""
        features = self.crop_features(images)
        flat = features.flatten(1)
        logits = self.classified(flat.detach())
        if supervision is None or supervision.identities is None:
            return self.answer(features, logits)
        known = supervision.identities >= 0
        if not known.any():
            return self.answer(features, logits, flat.sum() * 0)
        identities, flat = supervision.identities[known], flat[known]
        assert isinstance(self.people, Tensor)
        person = torch.searchsorted(self.people, identities)
        loss = cross_entropy(self.recogniser(flat).float(), person)
        return self.answer(features, logits, loss + CONTRACTION * contraction(flat, identities))


def contraction(
    features: Float[Tensor, "image channel"], identities: Int64[Tensor, " image"]
) -> Float[Tensor, ""]:
    """Return half the squared distance between images of one person, a mean over their pairs."""
    same = torch.triu(identities[:, None] == identities, diagonal=1)
    one, other = torch.nonzero(same, as_tuple=True)
    if not len(one):
        return features.sum() * 0
    return (features[one] - features[other]).square().sum(1).mean() / 2


class LNetsANet:
    """The system, for :mod:`maskatlas.comparison`."""

    name = "lnets-anet"
    title = "LNets+ANet"

    def obstacle(self, data: AttributeDataset) -> str | None:
        """Return None: without identities their stage is left out."""

    def fit(self, job: Job) -> Fitted:
        """Train on people, then on attributes, then fit the machines on validation images."""
        config, minutes = plain.configure(job.config), job.minutes
        people = _people(open_data(config).training)
        if len(people):
            config = replace(config, train=replace(config.train, epochs=config.train.epochs / 2))
            minutes = None if minutes is None else minutes / 2
        first = job.folder / "identities"
        note = "no identities: not pre-trained"
        if len(people):
            note = f"{_identity_stage(people).fit(Job(config, first, minutes)).note} of people"
        second = NetworkSystem(
            self.name,
            self.title,
            ANet,
            prepare=(lambda network, _: _carry_over(network, first, people))
            if len(people)
            else None,
        )
        folder = job.folder / "attributes"
        note += f", {second.fit(Job(config, folder, minutes)).note} of attributes"
        network = second.open(folder / "model").to(choose_device(config.device))
        assert isinstance(network, ANet)
        machines = _machines(network, config, job.folder / "machines.safetensors")

        def score(images: PackedImages) -> Tensor:
            return averaged_scores(network, machines, images)

        trained = seconds(folder) + (seconds(first) if len(people) else 0.0)
        size = parameters(network.extractor) + machines.weight.size + machines.bias.size
        return Fitted(score, size, trained, note)


def _people(data: AttributeDataset) -> Int64[Tensor, " person"]:
    """Return who is shown, ascending, each once; nobody where that is not known."""
    if data.identities is None:
        return torch.zeros(0, dtype=torch.int64)
    people: Tensor = data.identities[data.identities >= 0].unique()
    return people


def _identity_stage(people: Int64[Tensor, " person"]) -> NetworkSystem:
    def build(config: ModelConfig, attributes: Sequence[str]) -> IdentityNetwork:
        return IdentityNetwork(config, attributes, people)

    return NetworkSystem("identities", "ANet on identities", build, pack=ImagesWithIdentities)


def _carry_over(network: AttributeNetwork, first: Path, people: Int64[Tensor, " person"]) -> None:
    """Give the extractor the weights that the first stage ended with."""
    earlier = _identity_stage(people).open(first / "model")
    network.extractor.load_state_dict(earlier.extractor.state_dict())


def _machines(network: ANet, config: Config, path: Path) -> LinearSVMs:
    """Fit the machines on the centre crops of the validation images, or read them."""
    if not path.exists():
        images = PackedImages(open_data(config).validation, network.preprocessing)
        rows = [o.features.flatten(1).cpu() for _, o in passes(network, images)]
        labels = images.data.labels.numpy().astype(np.float64)
        fitted = fit_svms(torch.cat(rows).double().numpy(), labels)
        tensors = {name: torch.from_numpy(array) for name, array in fitted._asdict().items()}
        save_tensors(path, tensors, {})
    tensors, _ = load_tensors(path)
    return LinearSVMs(tensors["weight"].numpy(), tensors["bias"].numpy())


def averaged_scores(
    network: ANet, machines: LinearSVMs, images: PackedImages
) -> Float[Tensor, "image attribute"]:
    """Return the machines' scores, the mean over ten crops of each image."""
    device = next(network.parameters()).device
    found = []
    for part in torch.arange(len(images)).split(64):
        pixels = images.batch(part).images.to(device).float() / 255
        with torch.no_grad():
            crops = [features.cpu().double().numpy() for features in _crops(network, pixels)]
        found.append(np.mean([machines.scores(features) for features in crops], axis=0))
    return torch.from_numpy(np.concatenate(found)).float()


def _crops(network: ANet, pixels: Tensor) -> Iterator[Tensor]:
    for image in (pixels, pixels.flip(3)):
        for rows, columns in ((0.5, 0.5), (0.0, 0.0), (0.0, 1.0), (1.0, 0.0), (1.0, 1.0)):
            yield network.crop_features(image, rows, columns).flatten(1)
