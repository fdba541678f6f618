"""The network of the paper's figure 2: extractor, sub-networks, classifier, reconstructor."""

import copy
import difflib
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple, TypeVar

import PIL.Image
import PIL.ImageOps
import torch
from jaxtyping import Float, Integer
from torch import Tensor, nn

from maskatlas.checkpoint import load_model, save_model
from maskatlas.config import ModelConfig
from maskatlas.errors import ConfigError
from maskatlas.extractors import STRIDE, build_extractor
from maskatlas.images import Preprocessing, to_rgb
from maskatlas.subnetworks import SubNetworks, Supervision, build_subnetworks

PIXEL_MEAN = 0.5
PIXEL_DEVIATION = 0.25
"""Images come as RGB 0..1; the network itself takes the mean away and divides by the deviation."""

AVERAGES = ("average_contribution", "average_image")
"""The tensors that a model folder may lack: nothing but maps are computed from them."""


class Output(NamedTuple):
    """All that one forward pass knows; None for a part that the network does not have."""

    logits: Float[Tensor, "batch attribute"] | None
    """Of the sub-networks, w^k . p^k + c^k."""
    multilabel_logits: Float[Tensor, "batch attribute"] | None
    """Of the multi-label classifier, equation (4)."""
    features: Float[Tensor, "batch channel height width"]
    """f, shared by all."""
    pooled: Float[Tensor, "batch attribute channel"] | None
    """p^k, the attended features' mean over positions."""
    mask_mean: Float[Tensor, "batch attribute channel"] | None
    """Mean of each mask over positions."""
    reconstruction: Float[Tensor, "batch 3 rows columns"] | None
    """r, RGB around 0..1, equation (5)."""

    @property
    def scores(self) -> Float[Tensor, "batch attribute"]:
        """The logits that answer: the sub-networks', or the classifier's where there are none."""
        scores = self.multilabel_logits if self.logits is None else self.logits
        assert scores is not None, "a network answers through at least one of its heads"
        return scores


class Supervised(NamedTuple):
    """What a forward pass of training knows."""

    output: Output
    loss: Float[Tensor, ""] | None
    """What the network has made of the labels itself: of the sub-networks alpha L_b + lambda |M|_1
    of equation (6), whose gradient their other results then do not have; of a network of another
    system what it adds to the loss. None if nothing."""


class Reconstructor(nn.Module):
    """Two 3x3 layers and a pixel shuffle from f back to the image, equation (5).

    Where the image's sides are no multiples of the stride, it is resized to them bilinearly.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        hidden = max(channels // 4, 16)
        self.layers = nn.Sequential(
            nn.Conv2d(channels, hidden, 3, padding=1),
            nn.ReLU(),
            nn.Conv2d(hidden, 3 * STRIDE**2, 3, padding=1),
            nn.PixelShuffle(STRIDE),
        )

    def forward(
        self, features: Float[Tensor, "batch channel height width"], size: Sequence[int]
    ) -> Float[Tensor, "batch 3 rows columns"]:
        """Return r, RGB around 0..1, with so many rows and columns."""
        image: Tensor = self.layers(features)
        if image.shape[2:] != tuple(size):
            image = nn.functional.interpolate(image, tuple(size), mode="bilinear")
        return image

    if TYPE_CHECKING:

        def __call__(self, features: Tensor, size: Sequence[int]) -> Tensor: ...  # noqa: D102


class AttributeNetwork(nn.Module):
    """A recogniser of K binary attributes with one mask for each attribute and channel.

    The parts are handed in; :func:`build_network` knows their sizes.
    """

    average_contribution: Float[Tensor, "attribute height width"] | None
    """Mean over training images of each attribute's contribution at each position, where it was
    measured (:func:`maskatlas.averages.average_contribution`)."""

    average_image: Float[Tensor, "3 rows columns"] | None
    """Mean training image, RGB 0..1, where it was measured
    (:func:`maskatlas.averages.average_image`)."""

    anew: Callable[[], "AttributeNetwork"] | None = None
    """Builds such a network with random weights; known of one that was read from a folder."""

    def __init__(
        self,
        config: ModelConfig,
        attributes: Sequence[str],
        *,
        extractor: nn.Module,
        subnetworks: SubNetworks | None,
        classifier: nn.Linear | None,
        reconstructor: Reconstructor | None,
    ) -> None:
        super().__init__()
        self.config = config
        self.attributes = tuple(attributes)
        self.channels = config.channels
        self.preprocessing = Preprocessing(config.image_size)
        self.extractor = extractor
        self.subnetworks = subnetworks
        self.classifier = classifier
        self.reconstructor = reconstructor
        for name in AVERAGES:
            self.register_buffer(name, None)

    def forward(self, images: Float[Tensor, "batch 3 rows columns"]) -> Output:
        """Recognise.

        Args:
            images: RGB 0..1, as :meth:`preprocess` gives them; computed on in the weights' type.
        """
        return self.supervised(images).output

    def normalised(
        self, images: Float[Tensor, "batch 3 rows columns"]
    ) -> Float[Tensor, "batch 3 rows columns"]:
        """Return the images as the extractor takes them, in the weights' type, channels last."""
        images = images.to(next(self.parameters()).dtype)
        normalised = (images - PIXEL_MEAN) / PIXEL_DEVIATION
        return normalised.contiguous(memory_format=torch.channels_last)

    def supervised(
        self,
        images: Float[Tensor, "batch 3 rows columns"],
        supervision: Supervision | None = None,
    ) -> Supervised:
        """Recognise; with labels, the sub-networks' loss comes too, its gradient at less cost.

        Args:
            images: As for :meth:`forward`.
            supervision: In training, the labels; None gives no loss. In pretraining, neither
                sub-networks nor reconstructor compute anything.
        """
        features = self.extractor(self.normalised(images))
        answers = multilabel = reconstruction = None
        alone = supervision is not None and supervision.pretraining
        if self.subnetworks is not None and not alone:
            answers = self.subnetworks(features, supervision)
        if self.classifier is not None:
            mean = features.mean((2, 3), dtype=self.classifier.weight.dtype)
            multilabel = nn.functional.linear(mean, self.classifier.weight, self.classifier.bias)
        if self.reconstructor is not None and not alone:
            reconstruction = self.reconstructor(features, images.shape[2:])
        output = Output(
            logits=None if answers is None else answers.logits,
            multilabel_logits=multilabel,
            features=features,
            pooled=None if answers is None else answers.pooled,
            mask_mean=None if answers is None else answers.mask_mean,
            reconstruction=reconstruction,
        )
        return Supervised(output, None if answers is None else answers.loss)

    if TYPE_CHECKING:

        def __call__(self, images: Tensor) -> Output: ...  # noqa: D102

    def without_reconstructor(self) -> "AttributeNetwork":
        """Return this network, its parts shared, but for the reconstructor.

        Nothing else that a pass gives depends on it, and it takes a tenth of the time.
        """
        network = copy.copy(self)
        network._modules = {**self._modules, "reconstructor": None}
        return network

    def masks(
        self,
        features: Float[Tensor, "batch channel height width"],
        attributes: Sequence[str] | None = None,
        channels: Sequence[int] | None = None,
    ) -> Float[Tensor, "batch attribute chosen height width"]:
        """Return the masks of the attributes and channels that are asked for, 0 to 1.

        Args:
            features: ``output.features``.
            attributes: Names; None means all, in the network's order.
            channels: Ids; None means all.

        Raises:
            ConfigError: A name or an id that the network does not have, or no sub-networks.
        """
        heads, rows, columns = self._chosen(attributes, channels)
        return heads.masks(features, rows, columns)

    def contributions(
        self,
        features: Float[Tensor, "batch channel height width"],
        attributes: Sequence[str] | None = None,
        channels: Sequence[int] | None = None,
    ) -> Float[Tensor, "batch attribute chosen height width"]:
        """Return what each channel and position adds to the logit; exact, no gradient involved.

        Summed over all channels and positions it is the logit less the classifier's bias.

        Args:
            features: ``output.features``.
            attributes: Names; None means all, in the network's order.
            channels: Ids; None means all.

        Raises:
            ConfigError: A name or an id that the network does not have, or no sub-networks.
        """
        heads, rows, columns = self._chosen(attributes, channels)
        return heads.contributions(features, rows, columns)

    def _chosen(
        self, attributes: Sequence[str] | None, channels: Sequence[int] | None
    ) -> tuple[SubNetworks, list[int], list[int]]:
        if self.subnetworks is None:
            raise ConfigError(
                "masks and contributions: this network was trained without sub-networks; train one "
                "with model.subnetworks = true"
            )
        columns = list(range(self.channels) if channels is None else channels)
        if not columns:
            raise ConfigError("channels: expected at least one id, found none; None means all")
        for channel in columns:
            if not 0 <= channel < self.channels:
                raise ConfigError(
                    f"channel {channel}: expected an id from 0 to {self.channels - 1}"
                )
        return self.subnetworks, self.attribute_indices(attributes), columns

    def attribute_indices(self, attributes: Sequence[str] | None) -> list[int]:
        """Return the places of the named attributes; None means all.

        Raises:
            ConfigError: No name, or one that the network does not know; the message has the
                nearest ones.
        """
        if attributes is None:
            return list(range(len(self.attributes)))
        if isinstance(attributes, str):
            raise ConfigError(
                f"attributes: expected a list of names, found the text {attributes!r}"
            )
        if not attributes:
            raise ConfigError("attributes: expected at least one name, found none; None means all")
        for name in attributes:
            if name not in self.attributes:
                near = difflib.get_close_matches(name, self.attributes, n=3, cutoff=0.4)
                hint = f"did you mean {', '.join(near)}?" if near else "it has "
                known = "" if near else ", ".join(self.attributes)
                raise ConfigError(
                    f"attribute {name!r}: the network does not know it; {hint}{known}"
                )
        return [self.attributes.index(name) for name in attributes]

    def preprocess(self, image: PIL.Image.Image) -> Float[Tensor, "3 rows columns"]:
        """Return the image as the network takes it: the centre square, resized, RGB 0..1."""
        pixels = torch.from_numpy(self.preprocessing.image(to_rgb(image)))
        return pixels.permute(2, 0, 1).to(torch.float32) / 255

    def preprocess_region(self, region: PIL.Image.Image) -> Integer[Tensor, "rows columns"]:
        """Return a region or part map in the same geometry, nearest, its values untouched.

        Raises:
            ImageError: It has several channels, so its values are no integers.
        """
        values = self.preprocessing.region(PIL.ImageOps.exif_transpose(region))
        return torch.from_numpy(values.astype(values.dtype.newbyteorder("=")))

    def average_shapes(self) -> tuple[tuple[int, int, int], tuple[int, int, int]]:
        """Return the shapes of :attr:`average_contribution` and :attr:`average_image`."""
        training, side = self.extractor.training, self.preprocessing.size
        parameter = next(self.parameters())
        images = torch.zeros(1, 3, side, side, device=parameter.device, dtype=parameter.dtype)
        with torch.no_grad():
            features = self.extractor.eval()(images)
        self.extractor.train(training)
        return (len(self.attributes), *features.shape[2:]), (3, side, side)

    def save_pretrained(self, directory: Path | str, *, card: str = "") -> None:
        """Write ``config.json``, ``model.safetensors`` and ``README.md``; nothing is pickled.

        Args:
            directory: Folder to write into; made if it is not there.
            card: The model card; a short one is written if it is empty.
        """
        card = card or _short_card(self.attributes)
        save_model(self.state_dict(), self.config, self.attributes, Path(directory), card=card)

    @classmethod
    def from_pretrained(cls, directory: Path | str) -> "AttributeNetwork":
        """Read what :meth:`save_pretrained` wrote, in eval mode.

        Raises:
            CheckpointError: The folder is not there, damaged, or its weights do not fit its config.
        """
        return open_network(Path(directory), build_network)


def build_network(config: ModelConfig, attributes: Sequence[str]) -> AttributeNetwork:
    """Build the parts that the configuration asks for, and the network of them.

    Raises:
        ConfigError: Neither sub-networks nor a multi-label classifier, no attributes, or one twice.
    """
    if not (config.subnetworks or config.multilabel):
        raise ConfigError(
            "model.subnetworks, model.multilabel: both are off, so nothing would answer; "
            "turn one of them on"
        )
    if not attributes or len(set(attributes)) != len(attributes):
        raise ConfigError(
            f"attributes: expected different names, at least one; found {', '.join(attributes)!r}"
        )
    count, channels = len(attributes), config.channels
    return AttributeNetwork(
        config,
        attributes,
        extractor=build_extractor(config),
        subnetworks=build_subnetworks(config, count) if config.subnetworks else None,
        classifier=nn.Linear(channels, count) if config.multilabel else None,
        reconstructor=Reconstructor(channels) if config.reconstructor else None,
    )


def _short_card(attributes: Sequence[str]) -> str:
    return (
        f"# A network of maskatlas\n\nIt recognises {len(attributes)} attributes and maps where "
        "each of its feature channels looks for them. Open it with "
        "`maskatlas.AttributeNetwork.from_pretrained(folder)`.\n"
    )


_Network = TypeVar("_Network", bound=AttributeNetwork)


def open_network(
    directory: Path, build: Callable[[ModelConfig, Sequence[str]], _Network]
) -> _Network:
    """Read a model folder into a network that such a function builds, in eval mode.

    Raises:
        CheckpointError: The folder is not there, damaged, or its weights do not fit its config.
    """

    def shapes(config: ModelConfig, attributes: Sequence[str]) -> dict[str, tuple[int, ...]]:
        with torch.device("meta"):
            network = build(config, attributes)
            weights = {name: tuple(tensor.shape) for name, tensor in network.state_dict().items()}
            return weights | dict(zip(AVERAGES, network.average_shapes(), strict=True))

    config, attributes, state = load_model(directory, shapes, optional=AVERAGES)
    averages = {name: state.pop(name, None) for name in AVERAGES}
    with torch.device("meta"):
        network = build(config, attributes)
    network.load_state_dict(state, assign=True)
    for name, average in averages.items():
        setattr(network, name, average)
    network.anew = partial(build, config, attributes)
    network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    return network.eval()
