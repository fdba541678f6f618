"""The pass that draws an atlas beside prediction alone, its memory, and what channels cause.

The images are rendered faces, a few of them, repeated: what is measured is the work on an image.
Both `analyze` and `predict` open the cache of decoded images themselves, as the verbs do.
"""

from collections.abc import Iterator
from dataclasses import replace

import torch

from maskatlas.atlas_making import analyze
from maskatlas.bench.measuring import processor_clock
from maskatlas.bench.results import Case, Form, compare, measure_once
from maskatlas.bench.settings import Analyze
from maskatlas.bench.synthetic import repeated
from maskatlas.cache import PackedImages
from maskatlas.config import PRESETS, FacesConfig
from maskatlas.data import AttributeDataset
from maskatlas.devices import choose_device
from maskatlas.inference import predict
from maskatlas.model import AttributeNetwork, build_network
from maskatlas.replicates import REPLICATES
from maskatlas.sources import open_dataset


class Subject:
    """A network, and faces for it to look at."""

    def __init__(self, settings: Analyze) -> None:
        """Build the network, and render the faces into the cache."""
        model = replace(PRESETS[settings.preset].model, subnetworks=True)
        self.settings = settings
        self.device = choose_device(settings.device)
        config = FacesConfig(count=settings.faces, size=model.image_size, seed=settings.seed)
        self.faces = open_dataset("faces", faces=config)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(settings.seed)
            network = build_network(model, self.faces.attributes).to(self.device).eval()
        network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.network: AttributeNetwork = network
        PackedImages(self.faces, network.preprocessing)

    def images(self, count: int) -> AttributeDataset:
        """Return so many images, or the limit."""
        return repeated(self.faces, min(count, self.settings.limit or count))

    def atlas(
        self, data: AttributeDataset, name: str, *, drop_images: int = 0, replicates: int = 0
    ) -> Form:
        """Return `analyze`; by default neither with its causal reading nor with intervals."""
        return Form(
            name,
            lambda: analyze(self.network, data, drop_images=drop_images, replicates=replicates),
            images=len(data),
        )

    def prediction(self, data: AttributeDataset) -> Form:
        """Return `predict`: the logits alone."""
        network = self.network
        return Form(
            "predict",
            lambda: predict(network, PackedImages(data, network.preprocessing)),
            baseline=True,
            images=len(data),
        )


def cases(settings: Analyze) -> Iterator[Case]:
    """Measure the speed of the pass, its memory, and then the causal reading."""
    subject = Subject(settings)
    yield from (speed(subject), memory(subject), causal(subject))


def speed(subject: Subject) -> Case:
    """Set the pass against prediction, without and with the bootstrap replicates."""
    data = subject.images(subject.settings.images)
    return compare(
        f"{subject.settings.preset}, without the causal reading, {len(data)} images",
        _facts(subject, images=len(data)),
        [
            subject.atlas(data, "analyze"),
            subject.atlas(data, "analyze with intervals", replicates=REPLICATES),
            subject.prediction(data),
        ],
        images=len(data),
        rounds=subject.settings.repeats,
        device=subject.device,
        clock=processor_clock(subject.device),
    )


def memory(subject: Subject) -> Case:
    """Run the pass over few and over many images; the labels themselves are its input."""
    counts = dict.fromkeys(len(subject.images(count)) for count in subject.settings.memory)
    forms = [
        subject.atlas(subject.images(count), f"{count} images", replicates=REPLICATES)
        for count in counts
    ]
    forms[0].call()  # type: ignore[misc]  # warm: what is loaded once is not the pass's
    return measure_once(
        f"{subject.settings.preset}, peak memory of analyze with intervals, each once",
        _facts(subject, faces=len(subject.faces)),
        forms,
        device=subject.device,
        clock=processor_clock(subject.device),
    )


def causal(subject: Subject) -> Case:
    """Run analyze with and without the causal reading: channels x images more passes of heads."""
    data = subject.images(subject.settings.drop_images)
    return measure_once(
        f"{subject.settings.preset}, the causal reading, {len(data)} images, each once",
        _facts(subject, drop_images=len(data)),
        [
            subject.atlas(data, "without"),
            subject.atlas(data, "with channels at their mean", drop_images=len(data)),
        ],
        device=subject.device,
        clock=processor_clock(subject.device),
    )


def _facts(subject: Subject, **sizes: int) -> dict[str, int | str]:
    network = subject.network
    return {
        "preset": subject.settings.preset,
        "attributes": len(network.attributes),
        "channels": network.channels,
        "image_size": network.preprocessing.size,
        **sizes,
    }
