"""Any backbone through one adapter: masks on a network that one already has, or trains.

The sub-networks are ours; the extractor is another network up to one of its feature maps. Names are
``backbone:timm/NAME`` (whatever timm builds with ``features_only``) and
``backbone:torchvision/NAME`` (AlexNet, VGG, ResNet and the like); from Python any module that maps
[B 3 H W] to [B C h w] or to a list of such maps. Of several maps the deepest is taken that still
has eight rows and columns, since a mask on fewer shows nothing.

Nothing is downloaded: weights come from a file (``--weights``) or are drawn at random. A frozen
backbone keeps its weights and its normalisation statistics; the reconstructor is then left out,
because there is nothing that it could teach.
"""

import importlib
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from maskatlas.comparison import subnets
from maskatlas.comparison.networks import RefittedNetwork, refit
from maskatlas.comparison.system import Fitted, Job, NetworkSystem
from maskatlas.config import Config, ModelConfig
from maskatlas.data import AttributeDataset
from maskatlas.errors import CheckpointError, ConfigError
from maskatlas.model import PIXEL_DEVIATION, PIXEL_MEAN, AttributeNetwork, build_network
from maskatlas.tensorfile import load_tensors

LEAST_SIDE = 8
"""Rows and columns that a feature map should have."""
IMAGENET_MEAN, IMAGENET_DEVIATION = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
"""What the networks of timm and torchvision expect to be taken away and divided by."""

_NAME = re.compile(r"backbone:(timm|torchvision)/([A-Za-z0-9_.\-]+)(:frozen)?")


class BackboneExtractor(nn.Module):
    """Another network as our extractor: images as it expects them, and the map that suits masks."""

    def __init__(
        self,
        module: nn.Module,
        image_size: int,
        *,
        frozen: bool = False,
        mean: Sequence[float] = IMAGENET_MEAN,
        deviation: Sequence[float] = IMAGENET_DEVIATION,
    ) -> None:
        """Try it on one image, to see what it gives.

        Args:
            module: [B 3 H W] to [B C h w], or to a list of such maps, the deepest last.
            image_size: Side of the images, in pixels.
            frozen: Its weights and statistics stay as they are.
            mean: Taken away from RGB 0..1, by colour.
            deviation: Divided by then.

        Raises:
            ConfigError: The module gives no map, or only one that is smaller than 2 x 2.
        """
        super().__init__()
        self.module = module
        self.frozen = frozen
        self.register_buffer("mean", torch.tensor(mean)[:, None, None])
        self.register_buffer("deviation", torch.tensor(deviation)[:, None, None])
        self.place, self.channels = _suitable(module, image_size)
        if frozen:
            module.requires_grad_(False)
            module.eval()

    def train(self, mode: bool = True) -> "BackboneExtractor":
        """Set the mode; a frozen backbone stays in eval mode."""
        super().train(mode)
        if self.frozen:
            self.module.eval()
        return self

    def forward(
        self, normalised: Float[Tensor, "batch 3 rows columns"]
    ) -> Float[Tensor, "batch channel height width"]:
        """Return the chosen map of images that are normalised as ours are."""
        assert isinstance(self.mean, Tensor)
        assert isinstance(self.deviation, Tensor)
        images = normalised * PIXEL_DEVIATION + PIXEL_MEAN
        return _maps(self.module, (images - self.mean) / self.deviation)[self.place]


def _maps(module: nn.Module, images: Tensor) -> list[Float[Tensor, "batch channel height width"]]:
    """Return the maps that a module gives; what says that channels come last is turned round."""
    found = module(images)
    maps = list(found) if isinstance(found, list | tuple) else [found]
    for one in maps:
        if not isinstance(one, Tensor) or one.ndim != 4:
            shape = tuple(one.shape) if isinstance(one, Tensor) else type(one).__name__
            raise ConfigError(
                "backbone: expected feature maps [batch channel height width], found "
                f"{shape}; hand over the network without its pooling and classifier"
            )
    layout = getattr(module, "output_fmt", "NCHW")  # timm's name, of a text or an enumeration
    last = getattr(layout, "value", layout) == "NHWC"
    return [one.permute(0, 3, 1, 2) if last else one for one in maps]


def _suitable(module: nn.Module, image_size: int) -> tuple[int, int]:
    """Return which map suits masks, and its channels."""
    mode = module.training
    module.eval()
    parameter = next(module.parameters(), torch.zeros(()))
    images = torch.zeros(1, 3, image_size, image_size, device=parameter.device)
    try:
        with torch.no_grad():
            maps = _maps(module, images.to(parameter.dtype))
    except RuntimeError as error:
        raise ConfigError(
            f"backbone: it does not take images of {image_size} x {image_size} pixels ({error}); "
            "choose another model.image-size"
        ) from error
    finally:
        module.train(mode)
    sides = [min(one.shape[2:]) for one in maps]
    enough = [place for place, side in enumerate(sides) if side >= LEAST_SIDE]
    place = enough[-1] if enough else sides.index(max(sides))
    if sides[place] < 2:
        raise ConfigError(
            f"backbone: images of {image_size} pixels become a map of {sides[place]} rows or "
            "columns, and masks need at least 2; choose a larger model.image-size"
        )
    return place, maps[place].shape[1]


def backbone_network(
    config: ModelConfig, attributes: Sequence[str], module: nn.Module, *, frozen: bool = False
) -> RefittedNetwork:
    """Put our sub-networks on a network's features.

    Args:
        config: Of our network; C becomes the backbone's.
        attributes: Names.
        module: As :class:`BackboneExtractor` takes it.
        frozen: Train the masks alone.

    Raises:
        ConfigError: The module is no backbone for images of this size.
    """
    extractor = BackboneExtractor(module, config.image_size, frozen=frozen)
    reconstructor = config.reconstructor and not frozen
    ours = replace(config, channels=extractor.channels, reconstructor=reconstructor)
    return refit(build_network(ours, attributes), extractor=extractor)


def open_backbone(source: str, name: str, image_size: int) -> nn.Module:
    """Build a network of a library up to the map that suits masks, with weights at random.

    Args:
        source: ``timm`` or ``torchvision``.
        name: What the library calls it.
        image_size: Side of the images, in pixels.

    Raises:
        ConfigError: The library is not installed, has no such network, or one that gives no map.
    """
    try:
        library: Any = importlib.import_module("timm" if source == "timm" else "torchvision.models")
    except (ImportError, RuntimeError, OSError) as error:
        raise ConfigError(
            f"backbone:{source}/{name}: {source} cannot be imported ({error}); install it, for "
            "timm with `pip install maskatlas[timm]`"
        ) from error
    try:
        if source == "torchvision":
            stages = Stages(library.get_model(name, weights=None))
            stages.cut(_suitable(stages, image_size)[0])
            return stages
        settings = {"pretrained": False, "features_only": True}
        place, _ = _suitable(library.create_model(name, **settings), image_size)
        chosen: nn.Module = library.create_model(name, **settings, out_indices=(place,))
    except ConfigError:
        raise
    except (RuntimeError, ValueError, KeyError, AttributeError) as error:
        raise ConfigError(f"backbone:{source}/{name}: {source} says: {error}") from error
    return chosen


class Stages(nn.Module):
    """A network of torchvision as the list of what its stages give, without pooling and classifier.

    Its weights keep their names.
    """

    def __init__(self, network: nn.Module) -> None:
        """Take the network apart.

        Raises:
            ValueError: It is of no kind that is known here.
        """
        super().__init__()
        features = getattr(network, "features", None)
        children = dict(network.named_children())
        self.output_fmt = "NHWC" if "permute" in children else "NCHW"  # Swin has channels last
        if isinstance(features, nn.Sequential):
            self.features = features
        elif "avgpool" in children:
            names = list(children)
            for name in names[: names.index("avgpool")]:
                self.add_module(name, children[name])
        else:
            raise ValueError(f"the stages of a {type(network).__name__} are not known here")

    def cut(self, place: int) -> None:
        """Leave out what comes after this stage."""
        for name in list(self._holder()._modules)[place + 1 :]:
            del self._holder()._modules[name]

    def forward(self, images: Tensor) -> list[Tensor]:
        """Return what each stage gives."""
        found = []
        for stage in self._holder().children():
            images = stage(images)
            found.append(images)
        return found

    def _holder(self) -> nn.Module:
        return self.features if "features" in self._modules else self


def load_weights(module: nn.Module, path: Path) -> None:
    """Read a backbone's weights from safetensors; a file may have more than the backbone needs.

    Raises:
        CheckpointError: The file is damaged, or lacks a weight or has one of another shape.
    """
    tensors, _ = load_tensors(path)
    for name, own in module.state_dict().items():
        found = tensors.get(name)
        if found is None or found.shape != own.shape:
            shape = "nothing" if found is None else f"shape {tuple(found.shape)}"
            raise CheckpointError(
                f"{path}: expected {name} of shape {tuple(own.shape)}, found {shape}; choose the "
                "weights of this very network"
            )
    module.load_state_dict({name: tensors[name] for name in module.state_dict()})


@dataclass(frozen=True)
class BackboneSystem:
    """Our sub-networks on a network of timm or torchvision."""

    name: str
    source: str
    model: str
    frozen: bool
    weights: Path | None

    @property
    def title(self) -> str:
        """What a reader calls it."""
        return f"Sub-networks on {self.model}" + (", frozen" if self.frozen else "")

    @classmethod
    def named(cls, name: str, weights: Path | None = None) -> "BackboneSystem":
        """Return the system that a name such as ``backbone:timm/resnet18:frozen`` means.

        Raises:
            ConfigError: The name is not of this form.
        """
        matched = _NAME.fullmatch(name)
        if matched is None:
            raise ConfigError(
                f"system {name!r}: expected backbone:timm/NAME or backbone:torchvision/NAME, with "
                ":frozen behind it or not"
            )
        source, model, frozen = matched.groups()
        return cls(name, source, model, bool(frozen), weights)

    def obstacle(self, data: AttributeDataset) -> str | None:  # noqa: ARG002, labels suffice
        """Say what a frozen one lacks."""
        if self.frozen and self.weights is None:
            return (
                "a frozen backbone needs weights that mean something; give "
                "--weights FILE.safetensors"
            )
        return None

    def check(self, config: Config, attributes: Sequence[str]) -> None:
        """Build the network without numbers.

        Raises:
            ConfigError: The library is not installed, or has no such network.
        """
        self._trained().check(config, attributes)

    def fit(self, job: Job) -> Fitted:
        """Train masks and classifiers, and the backbone unless it is frozen."""
        return self._trained().fit(job)

    def open(self, folder: Path) -> AttributeNetwork:
        """Read a model folder that the system's training wrote, in eval mode.

        Raises:
            CheckpointError: It is no model, damaged, or of another system.
            ConfigError: The library is not installed.
        """
        return self._trained().open(folder)

    def _trained(self) -> NetworkSystem:
        return NetworkSystem(self.name, self.title, self._build, self._configured)

    def _configured(self, config: Config) -> Config:
        """Return the configuration; features that are frozen need no pretraining."""
        ours = subnets.configure(config)
        return replace(ours, train=replace(ours.train, pretraining=0.0)) if self.frozen else ours

    def _build(self, config: ModelConfig, attributes: Sequence[str]) -> RefittedNetwork:
        module = open_backbone(self.source, self.model, config.image_size)
        on_meta = next(module.parameters()).is_meta
        if self.weights is not None and not on_meta:
            load_weights(module, self.weights)
        return backbone_network(config, attributes, module, frozen=self.frozen)
