"""How long training takes to an accuracy: ours, and the sub-networks as a loop over attributes.

    python benchmarks/time_to_accuracy.py celeba/ --target 0.89 --epochs 4

Each network is trained from the same seed on the same images in the same order, one after the
other, and is scored on the validation images every so many steps. What counts is the time of the
steps, not that of scoring; on one thread it is the processor's. With --whole, each is trained to
the end of its schedule, so that one sees what masks of full rank are worth. The loop holds all
masks and leaves gradients to autograd, as one would write it by hand; in exact arithmetic it learns
what `full` learns, which is masks of full rank by this package.
"""

import argparse
import math
from dataclasses import replace

import torch

from maskatlas.bench.baselines import LoopedSubNetworks
from maskatlas.bench.measuring import processor_clock
from maskatlas.cache import PackedImages
from maskatlas.config import PRESETS, Config
from maskatlas.inference import predict
from maskatlas.metrics import attribute_metrics
from maskatlas.model import build_network
from maskatlas.optimization import Optimization
from maskatlas.training_data import open_data


def configured(network: str, path: str, epochs: int) -> Config:
    """Return the preset as it is, or with masks of full rank from the first step."""
    preset = PRESETS["celeba-64"]
    full = replace(preset.model, mask_rank=0, mask_context=False)
    return replace(
        preset,
        data=replace(preset.data, path=path),
        model=preset.model if network == "preset" else full,
        train=replace(
            preset.train,
            epochs=epochs,
            pretraining=preset.train.pretraining if network == "preset" else 0.0,
        ),
    )


def minutes_to(network: str, config: Config, target: float, every: int, whole: bool) -> float:
    """Train until the validation images are answered well enough; NaN if they never are."""
    reached = math.nan
    data = open_data(config)
    torch.manual_seed(config.seed)
    built = build_network(config.model, data.training.attributes)
    if network == "loop":
        weights = built.subnetworks.state_dict()
        built.subnetworks = LoopedSubNetworks(*built.subnetworks.weight.shape)
        built.subnetworks.load_state_dict(weights)
    training, validation = (PackedImages(part, built.preprocessing) for part in data)
    running = Optimization(config, built, training, torch.device("cpu"))
    seconds, clock = 0.0, processor_clock(torch.device("cpu"))
    while running.number < running.total:
        started = clock.read()
        for _ in range(min(every, running.total - running.number)):
            running.step()
        seconds += clock.read() - started
        scores = predict(running.averaged.eval(), validation, precision="auto").scores
        accuracy = attribute_metrics(scores.numpy(), validation.data.labels.numpy()).mean()
        print(
            f"{network:6}  step {running.number:5}  {seconds / 60:6.2f} minutes  "
            f"accuracy {accuracy['accuracy']:.4f}",
            flush=True,
        )
        if accuracy["accuracy"] >= target and math.isnan(reached):
            reached = seconds / 60
            if not whole:
                break
    return reached


def main() -> None:
    """Train each in turn, and print how long it took."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("data")
    parser.add_argument("--target", type=float, default=0.89)
    parser.add_argument("--epochs", type=int, default=4, help="length of the schedule")
    parser.add_argument("--every", type=int, default=50, help="steps between two scorings")
    known = ["preset", "full", "loop"]
    parser.add_argument("--networks", nargs="+", choices=known, default=known)
    parser.add_argument("--whole", action="store_true", help="train on after the target")
    given = parser.parse_args()
    if given.every < 1:
        parser.error(f"--every: expected at least 1 step, found {given.every}")
    taken = {}
    for network in given.networks:
        config = configured(network, given.data, given.epochs)
        taken[network] = minutes_to(network, config, given.target, given.every, given.whole)
    for network, minutes in taken.items():
        print(f"{network:6}  {minutes:6.2f} minutes to {given.target:.1%}")


if __name__ == "__main__":
    main()
