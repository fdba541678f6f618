"""Every system that is a network learns a few rendered faces by the one training loop."""

from dataclasses import replace
from functools import partial

import pytest
import torch

from maskatlas.cache import PackedImages
from maskatlas.comparison import dilation, systems
from maskatlas.comparison.backbone import backbone_network
from maskatlas.comparison.lnets_anet import ANet
from maskatlas.comparison.system import NetworkSystem
from maskatlas.config import LossConfig, ModelConfig
from maskatlas.images import Preprocessing
from maskatlas.inference import predict
from maskatlas.optimization import Optimization
from maskatlas.sources import open_dataset
from small_runs import small_config

NAMES = ("Eyeglasses", "Wearing_Hat", "Smiling")
EPOCHS = {"dilation": 2, "gain-regions": 80}
"""Where they differ: the one is slow, the other has its maps to learn as well."""


def tiny_backbone(config, attributes):
    return backbone_network(config, attributes, torch.nn.Conv2d(3, 12, 5, 4, 2))


def learners() -> dict[str, NetworkSystem]:
    found = {n: s for n, s in systems().items() if isinstance(s, NetworkSystem)}
    found["dilation"] = replace(found["dilation"], build=partial(dilation.build, width=1))
    found["anet"] = NetworkSystem("anet", "ANet", ANet)
    found["backbone"] = NetworkSystem("backbone", "Backbone", tiny_backbone)
    return found


@pytest.mark.parametrize("name", list(learners()))
def test_it_learns(name: str) -> None:
    system = learners()[name]
    slow = name == "dilation"
    config = small_config(images=30, batch=6 if slow else 24, epochs=EPOCHS.get(name, 50))
    config = replace(
        config,
        model=ModelConfig(image_size=32, channels=12, depth=1),
        loss=LossConfig(reconstruction=0.1),
        train=replace(config.train, ema=0.0, flip=False, shift=0, learning_rate=1e-2, warmup=0.1),
    )
    config = system.configure(config)
    data = open_dataset("faces", split="train", faces=config.data.faces)
    columns = [data.attributes.index(attribute) for attribute in NAMES]
    data = replace(
        data,
        attributes=NAMES,
        labels=data.labels[:, columns],
        regions_of=data.regions_of.select(columns),
    )
    images = system.pack(data, Preprocessing(32), progress=False)
    torch.manual_seed(0)
    network = system.build(config.model, NAMES)
    if system.prepare is not None:
        system.prepare(network, images)
    optimization = Optimization(config, network, images, torch.device("cpu"))
    losses = []
    while optimization.number < optimization.total:
        losses.append(optimization.step()[0].total.item())
    answers = predict(network.eval(), PackedImages(data, Preprocessing(32))).scores > 0
    right = (answers == (data.labels == 1)).float().mean().item()
    if slow:  # eight steps at 404 x 404 pixels are what a test can wait for
        assert min(losses[-3:]) < losses[0]
    else:
        assert losses[-1] < losses[0]
        shares = data.labels.mean(0)
        majority = torch.maximum(shares, 1 - shares).mean().item()
        assert 1 - right < (1 - majority) * 2 / 3
