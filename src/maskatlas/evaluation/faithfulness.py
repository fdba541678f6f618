"""Does a map say what the network does: pixels go, or come, and the logit follows or does not."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from maskatlas.evaluation.examination import Examination
from maskatlas.evaluation.perturbations import (
    blurred,
    image_seed,
    mean_colour,
    pixel_ranks,
    random_squares,
)
from maskatlas.evaluation.positives import (
    MapMeasures,
    Positive,
    Positives,
    Scorer,
    Tally,
    maps_of,
    scorer,
    to_json,
)

IMAGES = 100
"""Judged are at most so many images, unless told otherwise."""
STEPS = 8
"""Pixels go, and come, in so many equal parts."""
SQUARES = 64
"""Infidelity is a mean over so many squares of each image."""
MEASURES = ("insertion", "deletion", "gain", "infidelity", "relative_infidelity")
"""Area under the probability as pixels come, and as they go; the difference; how far the map is
from what the network does when a square goes, in logits squared, and as a share (0 to 1)."""


@dataclass(frozen=True, eq=False)
class Faithfulness:
    """How well the maps of several methods say what the network does; of positives."""

    images: int
    steps: int
    squares: int
    methods: MapMeasures
    insertion: Mapping[str, Float[np.ndarray, " step"]]
    """Mean probability over all pairs, by method: from the blurred image to the whole one."""
    deletion: Mapping[str, Float[np.ndarray, " step"]]
    """The same, from the whole image to its mean colour."""

    def to_json(self) -> dict[str, Any]:
        """Return it as ``evaluation.json`` has it."""
        curves = {"insertion": self.insertion, "deletion": self.deletion}
        return {
            "images": self.images,
            "steps": self.steps,
            "squares": self.squares,
            "methods": to_json(self.methods),
            "curves": {
                method: {kind: curve[method].tolist() for kind, curve in curves.items()}
                for method in self.methods
                if self.images
            },
        }


def faithfulness(
    given: Examination, *, limit: int = IMAGES, steps: int = STEPS, squares: int = SQUARES
) -> Faithfulness:
    """Measure insertion, deletion and infidelity; docs/evaluation.md defines them.

    All methods see the same replacements, squares and order of equals, a function of the seed and
    the image's index alone.

    Args:
        given: The network, the images, and the methods.
        limit: Most images, spread evenly over those with an attribute.
        steps: Parts in which pixels go and come.
        squares: Number of squares of each image.

    Raises:
        ConfigError: A method that the network does not have.
    """
    network = given.network
    chosen = Positives(given, limit=limit)
    scorers = [  # a thousand images for each pair: a probability needs no more than bfloat16
        scorer(network, [row], precision="auto") for row in range(len(network.attributes))
    ]
    tally = Tally(chosen, given.methods, MEASURES)
    total, judged = np.zeros((len(given.methods), 2, steps + 1)), 0
    for positive in chosen.passing("faithfulness"):
        maps = torch.stack([maps_of(given, positive, method) for method in given.methods])
        seed = image_seed(given.seed, positive.place)
        curves = _curves(scorers, positive, maps, steps, seed)
        areas = area_under(curves)
        found = _infidelities(scorer(network, positive.rows), positive, maps, squares, seed)
        for m, method in enumerate(given.methods):
            insertion, deletion = areas[m].T
            values = (insertion, deletion, insertion - deletion, *found[m])
            for name, value in zip(MEASURES, values, strict=True):
                tally.add(method, name, value)
        total += curves.sum(1)
        judged += len(positive.rows)
    means = total / max(judged, 1)
    return Faithfulness(
        images=len(chosen),
        steps=steps,
        squares=squares,
        methods=tally.measured(),
        insertion={method: means[m, 0] for m, method in enumerate(given.methods)},
        deletion={method: means[m, 1] for m, method in enumerate(given.methods)},
    )


def area_under(curve: Float[np.ndarray, "*curve step"]) -> Float[np.ndarray, "*curve"]:
    """Return the area under a curve over 0 to 1, its points at equal distances, by trapezoids."""
    return np.asarray((curve[..., 1:] + curve[..., :-1]).mean(-1) / 2)


def _curves(
    scorers: list[Scorer],
    positive: Positive,
    maps: Float[Tensor, "method attribute rows columns"],
    steps: int,
    seed: int,
) -> Float[np.ndarray, "method attribute 2 step"]:
    """Return probabilities as pixels come to the blurred image, and as they leave the whole."""
    image = positive.image
    first = torch.stack([blurred(image), image])  # where the highest pixels are still to move
    last = torch.stack([image, mean_colour(image)])
    ends = torch.cat([first, last[1:]])
    shares = torch.arange(1, steps, dtype=torch.float64, device=image.device) / steps
    counts = (shares * image[0].numel()).round()
    curves = np.empty((*maps.shape[:2], 2, steps + 1))
    for place, row in enumerate(positive.rows):
        moved = pixel_ranks(maps[:, place], seed)[:, None] < counts[:, None, None]
        series = torch.where(moved[:, None, :, None], last[:, None], first[:, None])
        inner = _probabilities(scorers[row](series.flatten(0, 2)))
        curves[:, place, :, 1:-1] = inner.reshape(series.shape[:3])
        bare, whole, flat = _probabilities(scorers[row](ends)).tolist()
        curves[:, place, :, 0] = bare, whole
        curves[:, place, :, -1] = whole, flat
    return curves


def _probabilities(logits: Float[Tensor, "batch 1"]) -> Float[np.ndarray, " batch"]:
    return logits[:, 0].double().sigmoid().cpu().numpy()


def _infidelities(
    score: Scorer,
    positive: Positive,
    maps: Float[Tensor, "method attribute rows columns"],
    squares: int,
    seed: int,
) -> list[tuple[Float[np.ndarray, " attribute"], Float[np.ndarray, " attribute"]]]:
    """Return each method's infidelity; every map is asked about the same squares."""
    image = positive.image
    inside = random_squares(squares, (int(image.shape[1]), int(image.shape[2])), seed)
    gone = torch.from_numpy(inside).to(image.device)
    replaced = torch.where(gone[:, None], mean_colour(image), image)
    logits = score(torch.cat([image[None], replaced])).double()
    change = (logits[0] - logits[1:]).T.cpu().numpy()
    weights = inside.reshape(squares, -1).T.astype(np.float64)
    promised = maps.flatten(2).double().cpu().numpy() @ weights
    return [infidelity(values, change) for values in promised]


def infidelity(
    promised: Float[np.ndarray, "*pair square"], change: Float[np.ndarray, "*pair square"]
) -> tuple[Float[np.ndarray, "*pair"], Float[np.ndarray, "*pair"]]:
    """Return the mean squared error of what a map promises, and its share of the mean square.

    The map is first scaled by the factor of 0 or more that makes the error least: maps in other
    units than logits can be judged, none is worse than zeros, and the sign counts.

    Args:
        promised: Sum of the map over what is taken away.
        change: Logit before, less after.

    Returns:
        In logits squared; and from 0 to 1, NaN where nothing changes.
    """
    power = np.square(promised).sum(-1)
    product = np.maximum((promised * change).sum(-1), 0)
    scale = np.divide(product, power, out=np.zeros_like(power), where=power > 0)
    error = np.square(scale[..., None] * promised - change).mean(-1)
    size = np.square(change).mean(-1)
    return error, np.divide(error, size, out=np.full_like(size, np.nan), where=size > 0)
