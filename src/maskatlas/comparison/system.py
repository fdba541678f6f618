"""What a system of the comparison is, and those that are trained as our network is."""

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Protocol, runtime_checkable

import torch
from jaxtyping import Float
from torch import Tensor, nn

from maskatlas.cache import PackedImages
from maskatlas.comparison.budget import within_minutes
from maskatlas.config import Config, load_run
from maskatlas.data import AttributeDataset
from maskatlas.devices import choose_device
from maskatlas.inference import predict
from maskatlas.model import AttributeNetwork, build_network, open_network
from maskatlas.training import Build, Pack, train


@dataclass(frozen=True)
class Job:
    """What one system is asked for."""

    config: Config
    """As asked for; a system changes what it must."""
    folder: Path
    """Its own; made, and holding what an earlier attempt left."""
    minutes: float | None = None
    """Training time that must do; None: as many epochs as configured."""


@dataclass(frozen=True)
class Fitted:
    """A system that has learned."""

    score: Callable[[PackedImages], Float[Tensor, "image attribute"]]
    """Scores of images, in the attributes' order; above 0 is yes."""
    parameters: int
    """Numbers that it learned."""
    seconds: float | None = None
    """Training time over all attempts; None: what the last attempt took."""
    note: str = ""
    """What a reader of the table must know."""


@runtime_checkable
class System(Protocol):
    """One system of the comparison."""

    @property
    def name(self) -> str:
        """What it is called on the command line."""

    @property
    def title(self) -> str:
        """What a reader calls it."""

    def obstacle(self, data: AttributeDataset) -> str | None:
        """Say why it cannot learn from this data, or None if it can."""

    def fit(self, job: Job) -> Fitted:
        """Learn, or go on where an earlier attempt was stopped."""


def _unchanged(config: Config) -> Config:
    return config


@dataclass(frozen=True)
class NetworkSystem:
    """A system that is a network and is trained by the same loop as ours."""

    name: str
    title: str
    build: Build = build_network
    configure: Callable[[Config], Config] = _unchanged
    """Changes what the system needs changed."""
    pack: Pack = PackedImages
    """Prepares its images."""
    prepare: Callable[[AttributeNetwork, PackedImages], None] | None = None
    """Sets what is computed from the training images at once, such as principal components."""
    needs_regions: bool = False

    def obstacle(self, data: AttributeDataset) -> str | None:
        """Say what the data lacks."""
        if self.needs_regions and not data.has_regions:
            return "it learns from regions, and this data has none"
        return None

    def check(self, config: Config, attributes: Sequence[str]) -> None:
        """Build the network without numbers, so that what cannot be built is told before training.

        Raises:
            ConfigError: The configuration does not suit it, or a library is not there.
        """
        with torch.device("meta"):
            self.build(self.configure(config).model, attributes)

    def fit(self, job: Job) -> Fitted:
        """Train the network within the job's time; a run that was stopped goes on."""
        build = self._prepared(job.config)
        config = self._bounded(job, build)
        model = train(config, job.folder, resume=True, build=build, pack=self.pack)
        network = self.open(model).to(choose_device(config.device))

        def score(images: PackedImages) -> Tensor:
            return predict(network, images).scores

        return Fitted(
            score,
            parameters=parameters(network),
            seconds=seconds(job.folder),
            note=f"{config.train.epochs:.3g} epochs",
        )

    def open(self, folder: Path) -> AttributeNetwork:
        """Read a model folder that the system's training wrote, in eval mode.

        Raises:
            CheckpointError: It is no model, damaged, or of another system.
        """
        return open_network(folder, self.build)

    def _prepared(self, config: Config) -> Build:
        """Return what builds the network and computes what comes from the training images."""
        if self.prepare is None:
            return self.build
        prepare, build = self.prepare, self.build

        def prepared(model: object, attributes: object) -> AttributeNetwork:
            from maskatlas.training_data import open_data

            network = build(model, attributes)  # type: ignore[arg-type]
            training = open_data(self.configure(config)).training
            prepare(network, PackedImages(training, network.preprocessing))
            return network

        return prepared

    def _bounded(self, job: Job, build: Build) -> Config:
        """Return the system's configuration, with the epochs that fit into the job's time.

        What an earlier attempt found to fit stays.
        """
        config, earlier = self.configure(job.config), job.folder / "config.toml"
        if job.minutes is None:
            return config
        if earlier.exists():
            before = load_run(earlier)
            return replace(config, train=replace(config.train, epochs=before.train.epochs))
        return within_minutes(config, job.minutes, build, self.pack)


def parameters(network: nn.Module) -> int:
    """Return how many numbers a network learns."""
    return sum(p.numel() for p in network.parameters() if p.requires_grad)


def seconds(run: Path) -> float:
    """Return how long a run has trained, over all its attempts, by its last validation."""
    lines = (run / "metrics.jsonl").read_text(encoding="utf-8").splitlines()
    return float(next(e["seconds"] for e in map(json.loads, reversed(lines)) if "seconds" in e))
