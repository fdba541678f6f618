"""Networks trained on faces with a planted shortcut, and whether their explanations find it."""

import json
import logging
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

from maskatlas import distributed
from maskatlas.atlas_making import analyze
from maskatlas.cache import PackedImages
from maskatlas.config import Config
from maskatlas.devices import choose_device
from maskatlas.errors import ConfigError
from maskatlas.evaluation.examination import Examination
from maskatlas.evaluation.explanations import ALL, chosen_methods
from maskatlas.evaluation.shortcuts import (
    ShortcutCurve,
    ShortcutPoint,
    shortcut_curve,
    shortcut_point,
)
from maskatlas.explanations import METHODS
from maskatlas.files import write_atomically
from maskatlas.inference import labels_for
from maskatlas.model import AttributeNetwork
from maskatlas.sources import open_dataset
from maskatlas.training import train

_LOG = logging.getLogger(__name__)

PAIR = ("Smiling", "Wearing_Hat")
"""A small attribute that a network learns by itself, and a source that is easy to see elsewhere."""
PROBABILITIES = (0.0, 0.5, 0.8, 0.95)
FILE = "shortcuts.json"


def shortcut_trial(
    settings: Config,
    out: Path,
    *,
    pair: tuple[str, str] = PAIR,
    probabilities: Sequence[float] = PROBABILITIES,
    seeds: Sequence[int] = (0,),
    methods: Sequence[str] | None = None,
    progress: bool = False,
) -> ShortcutCurve:
    """Train a network for each probability and seed, judge it, and write ``shortcuts.json``.

    Each atlas is drawn on the validation images of its own training data; accuracy and maps are
    judged on test images in which nothing is planted. A trial that was stopped goes on.

    Args:
        settings: Of every training; its data are rendered faces.
        out: Folder for a run folder for each network, and for the result.
        pair: The attribute that copies, and the source.
        probabilities: At least two.
        seeds: Of the trainings.
        methods: Names of the maps; None means all but the slow ones.
        progress: Show progress bars on a terminal.

    Raises:
        ConfigError: Other data than rendered faces, a pair that they do not have, no two
            probabilities, no seed, an unknown method, or a network without sub-networks.
    """
    _check(settings, pair, probabilities, seeds, methods or ())
    points = []
    for probability in sorted(set(probabilities)):
        for seed in dict.fromkeys(seeds):
            _LOG.info("%s copies %s with probability %g, seed %d", *pair, probability, seed)
            planted = (*pair, probability)
            faces = replace(settings.data.faces, plant=planted)
            config = replace(settings, seed=seed, data=replace(settings.data, faces=faces))
            run = out / f"planted-{probability:g}-seed-{seed}"
            model = train(config, run, resume=True)
            points.append(_judged(model, config, planted, methods, progress=progress))
    curve = shortcut_curve(points)
    if distributed.rank() == 0:
        text = json.dumps(curve.to_json(), indent=2, allow_nan=False)
        write_atomically(out / FILE, f"{text}\n".encode())
    return curve


def _check(
    settings: Config,
    pair: tuple[str, str],
    probabilities: Sequence[float],
    seeds: Sequence[int],
    methods: Sequence[str],
) -> None:
    if settings.data.path != "faces":
        raise ConfigError(
            f"data.path: expected faces, in which a shortcut can be planted, found "
            f"{settings.data.path!r}; leave --data out"
        )
    if len(set(probabilities)) < 2 or not all(0 <= p <= 1 for p in probabilities):
        raise ConfigError(
            f"probabilities: expected two or more from 0 to 1, found "
            f"{', '.join(map(str, probabilities)) or 'none'}; give for example 0,0.95"
        )
    if left := [name for name in pair if name in settings.data.ignore]:
        raise ConfigError(
            f"data.ignore: expected neither {pair[0]} nor {pair[1]}, found {left[0]}; take it out, "
            "or plant another pair"
        )
    if not seeds:
        raise ConfigError("seeds: expected at least one, found none; give for example 0")
    if unknown := [name for name in methods if name not in (*METHODS, ALL)]:
        raise ConfigError(
            f"methods: expected some of {', '.join(METHODS)}, or {ALL}; found {unknown[0]!r}"
        )
    if not settings.model.subnetworks:
        raise ConfigError("model.subnetworks: expected true, as an atlas needs masks; found false")


def _judged(
    model: Path,
    config: Config,
    planted: tuple[str, str, float],
    methods: Sequence[str] | None,
    *,
    progress: bool,
) -> ShortcutPoint:
    network = AttributeNetwork.from_pretrained(model).to(choose_device(config.device))
    opened = partial(open_dataset, "faces", ignore=config.data.ignore, limit=config.limit)
    learned = opened(split="val", faces=config.data.faces)
    atlas = analyze(network, learned, drop_images=0, progress=progress)
    faces = replace(config.data.faces, plant=None)
    data = opened(split="test", faces=faces)
    images = PackedImages(data, network.preprocessing, progress=progress)
    given = Examination(
        network,
        images,
        labels_for(network, data),
        chosen_methods(network, methods),
        seed=config.seed,
        progress=progress,
    )
    return shortcut_point(given, planted, atlas=atlas)
