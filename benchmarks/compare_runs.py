"""Compare two runs on their validation images: which is right more often, and how surely.

    python benchmarks/compare_runs.py runs/celeba runs/celeba-plain

Prints the mean accuracy of every head, and the difference between the heads that answer with its
95 % interval by bootstrap over people (over images where people are unknown).
"""

import argparse
from pathlib import Path

import numpy as np

from maskatlas import AttributeNetwork
from maskatlas.cache import PackedImages
from maskatlas.config import load_run
from maskatlas.inference import labels_for, predict
from maskatlas.metrics import attribute_metrics, paired_interval
from maskatlas.training import open_data


def main() -> None:
    """Read the two runs, score them, and print what came out."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("runs", nargs=2, type=Path, metavar="RUN")
    correct = []
    for run in parser.parse_args().runs:
        data = open_data(load_run(run / "config.toml")).validation
        network = AttributeNetwork.from_pretrained(run / "model")
        labels = labels_for(network, data).numpy()
        predictions = predict(network, PackedImages(data, network.preprocessing))
        for head, logits in zip(("sub-networks", "multi-label"), predictions[:2], strict=True):
            if logits is not None:
                means = attribute_metrics(logits.numpy(), labels).mean()
                figures = "  ".join(f"{name} {value:.4f}" for name, value in means.items())
                print(f"{run}  {head:12}  {figures}")
        right = (predictions.scores.numpy() > 0) == (labels == 1)
        correct.append(np.where(np.isnan(labels), np.nan, right))
    people = None if data.identities is None else data.identities.numpy()
    interval = paired_interval(correct[0], correct[1], people)
    print(
        f"difference in accuracy {interval.difference:+.4f}, 95 % interval "
        f"{interval.low:+.4f} to {interval.high:+.4f}, {len(labels)} images"
    )


if __name__ == "__main__":
    main()
