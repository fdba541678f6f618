"""Whole training steps: networks with sub-networks beside a plain recogniser and a plain loop."""

import tempfile
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import torch

from maskatlas.bench.baselines import LoopedSubNetworks
from maskatlas.bench.measuring import processor_clock
from maskatlas.bench.results import Case, Form, compare
from maskatlas.bench.settings import Train
from maskatlas.bench.synthetic import noise
from maskatlas.cache import PackedImages
from maskatlas.config import PRESETS, Config, ModelConfig
from maskatlas.devices import choose_device
from maskatlas.images import Preprocessing
from maskatlas.model import AttributeNetwork, build_network
from maskatlas.optimization import Optimization

_EPOCHS = 10_000.0  # of a few batches each; the run gets neither to its end nor past pretraining
_BATCHES = 4


def cases(settings: Train) -> Iterator[Case]:
    """Measure the steps of each network, for each size of images."""
    device = choose_device(settings.device)
    for size in settings.sizes:
        yield compare(
            f"{settings.preset}, {size} x {size} images, K {settings.attributes}, "
            f"batch {settings.batch}",
            {
                "preset": settings.preset,
                "image_size": size,
                "attributes": settings.attributes,
                "batch": settings.batch,
                "precision": settings.precision,
            },
            forms(settings, size, device),
            images=settings.batch * settings.steps,
            rounds=settings.repeats,
            device=device,
            clock=processor_clock(device),
        )


def models(settings: Train, size: int) -> dict[str, ModelConfig]:
    """Return what each of the networks is made of; a preset that is one of them comes once."""
    preset = replace(PRESETS[settings.preset].model, image_size=size)
    full = replace(preset, mask_rank=0, mask_context=False, mask_offset=1.0)
    found = {
        "masks of full rank": full,
        f"masks of rank {settings.mask_rank}": replace(full, mask_rank=settings.mask_rank),
    }
    if preset not in found.values():
        found[f"as preset {settings.preset}"] = preset
    return found


def forms(settings: Train, size: int, device: torch.device) -> list[Form]:
    """Return the steps of the networks, ours first, then the plain network and the loop."""
    config = _config(settings, size)
    data = noise(_BATCHES * settings.batch, settings.attributes, size, settings.seed)
    with tempfile.TemporaryDirectory() as folder:
        images = PackedImages(data, Preprocessing(size), directory=Path(folder))

    def steps(
        model: ModelConfig, *, looped: bool = False, pretraining: float = 0.0
    ) -> Callable[[], None]:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(settings.seed)
            network = build_network(model, data.attributes)
            if looped:
                _loop(network)
        train = replace(config.train, pretraining=pretraining)
        whole = replace(config, model=model, train=train)
        running = Optimization(whole, network, images, device)

        def call() -> None:
            for _ in range(settings.steps):
                running.step()

        return call

    ours = models(settings, size)
    full = ours["masks of full rank"]
    plain = replace(full, subnetworks=False, multilabel=True, reconstructor=False)
    alone = []
    if config.train.pretraining:
        note = "before sub-networks and reconstructor join"
        alone.append(Form("pretraining", steps(full, pretraining=0.99), note=note))
    return [
        *(Form(name, steps(model)) for name, model in ours.items()),
        *alone,
        Form("plain", steps(plain), baseline=True, note="multi-label, no reconstructor"),
        Form("loop", steps(full, looped=True), baseline=True, note="full rank, holds all masks"),
    ]


def _config(settings: Train, size: int) -> Config:
    preset = PRESETS[settings.preset]
    return replace(
        preset,
        seed=settings.seed,
        model=replace(preset.model, image_size=size),
        train=replace(
            preset.train,
            epochs=_EPOCHS,
            batch_size=settings.batch,
            precision=settings.precision,
        ),
    )


def _loop(network: AttributeNetwork) -> None:
    """Have the sub-networks run as a loop over attributes."""
    assert network.subnetworks is not None
    attributes, channels = network.subnetworks.weight.shape
    network.subnetworks = LoopedSubNetworks(attributes, channels)
