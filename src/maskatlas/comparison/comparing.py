"""Train every system on the same data, score all on the same images, and say how they compare."""

import hashlib
import json
import logging
import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from maskatlas.cache import PackedImages
from maskatlas.comparison.backbone import BackboneSystem
from maskatlas.comparison.catalogue import find_systems, systems
from maskatlas.comparison.measuring import measured
from maskatlas.comparison.system import Job, NetworkSystem, System
from maskatlas.comparison.table import Costs, Entry, table
from maskatlas.config import Config, from_mapping, to_mapping
from maskatlas.data import AttributeDataset
from maskatlas.devices import choose_device
from maskatlas.errors import CheckpointError, ConfigError, DataError
from maskatlas.files import write_atomically
from maskatlas.images import Preprocessing
from maskatlas.run_claim import differences
from maskatlas.sources import open_dataset
from maskatlas.sources.listing import split_of
from maskatlas.tensorfile import load_tensors, save_tensors

_LOG = logging.getLogger(__name__)

RESULT, SCORES, TABLE = "result.json", "scores.safetensors", "comparison.json"
"""In a system's folder: whose it is, its costs; its answers. And where the table of all lies."""


def compare(
    config: Config,
    out: Path,
    *,
    names: Sequence[str] = (),
    minutes: float | None = None,
    split: str = "test",
    weights: Path | None = None,
) -> dict[str, Any]:
    """Train systems, each in its own folder of `out`, and compare them on the same images.

    A system that is done is not trained again, one that was stopped goes on. All are asked for the
    same: one configuration, of which each changes what it must.

    Args:
        config: What to train on, and how.
        out: Gets a folder for each system, and ``comparison.json``.
        names: Of the systems; none means all that this data allows.
        minutes: Training time for each; None: the configured epochs.
        split: What to compare on; the validation images where the data has no such split. They then
            choose no best epoch: a tenth of the training images does.
        weights: Of backbones, in safetensors.

    Returns:
        What ``comparison.json`` holds; see :func:`maskatlas.comparison.table.table`.

    Raises:
        ConfigError: No such system, or a folder that was made with another configuration.
        DataError: The data cannot be read, or a system that was named cannot learn from it.
        Interrupted: SIGTERM or SIGINT came; what is trained so far stays.
    """
    chosen = find_systems(names, weights) if names else tuple(systems().values())
    if minutes is not None and not minutes > 0:
        raise ConfigError(f"minutes: expected a number above 0, found {minutes:g}")
    config, data = judged_on(config, split)
    skipped = _obstacles(chosen, config, data, named=bool(names))
    images = PackedImages(data, Preprocessing(config.model.image_size))
    plain = json.loads(json.dumps(to_mapping(config)))
    asked = {**plain, "minutes": minutes, "images": _fingerprint(images.data)}
    entries = []
    for system in chosen:
        if system.name in skipped:
            continue
        job = Job(config, out / re.sub(r"[^A-Za-z0-9.-]+", "-", system.name), minutes)
        entries.append(_entry(system, job, images, asked))
    result = table(entries, images.data, skipped=skipped, seed=config.seed)
    text = json.dumps(result, indent=2, allow_nan=False)
    write_atomically(out / TABLE, f"{text}\n".encode())
    return result


def judged_on(config: Config, split: str) -> tuple[Config, AttributeDataset]:
    """Return the images that systems are compared on, and a configuration that learns from others.

    Where the data lacks the split, its validation images judge. What judges must not choose each
    run's best epoch, nor train anything, as a support vector machine on the validation images
    would: another split then does that, or a tenth of the training images if there is none. Nor is
    it learned from where ``train.splits`` has it.

    Raises:
        ConfigError: There is no such split anywhere, or none is left to learn from.
        DataError: The data cannot be read, or has training images only.
    """
    if split_of(split) is None:
        raise ConfigError(f"split: expected train, val or test, found {split!r}")
    data = open_dataset(
        config.data.path,
        exclude=config.data.exclude,
        ignore=config.data.ignore,
        limit=config.limit,
        faces=config.data.faces,
    )
    judge = next((name for name in (split_of(split), "val", "test") if name in data.splits), None)
    if judge is None:
        raise DataError(
            f"{data.path or data.source}: expected images in a split {split!r} or 'val' that no "
            "system learns from, found training images only; add a column `split`"
        )
    if judge != split_of(split):
        _LOG.warning("no split %r: compared on %r", split, judge)
    if judge == split_of(config.train.validation):
        other = "val" if judge == "test" else "test"
        config = replace(config, train=replace(config.train, validation=other))
    learned = tuple(name for name in config.train.splits if split_of(name) != judge)
    if not learned:
        raise ConfigError(
            f"train.splits: expected a split beside {judge!r}, which judges, found "
            f"{', '.join(config.train.splits)}; compare on another --split, or train on others"
        )
    if learned != config.train.splits:
        _LOG.warning("%r judges: learned from %s alone", judge, ", ".join(learned))
        config = replace(config, train=replace(config.train, splits=learned))
    places = [place for place, name in enumerate(data.splits) if name == judge]
    return config, replace(data.subset(places), split=judge)


def _obstacles(
    chosen: Sequence[System], config: Config, data: AttributeDataset, *, named: bool
) -> dict[str, str]:
    """Return why some systems are left out, by their names; those that were asked for must not be.

    Raises:
        ConfigError: One that was named cannot be built so.
        DataError: It cannot learn from this data.
    """
    skipped = {}
    for system in chosen:
        reason = system.obstacle(data)
        if reason is not None and named:
            raise DataError(f"{system.name}: {reason}")
        if reason is None and isinstance(system, NetworkSystem | BackboneSystem):
            try:
                system.check(config, data.attributes)
            except ConfigError as error:
                if named:
                    raise
                reason = str(error)
        if reason is not None:
            _LOG.warning("%s is left out: %s", system.name, reason)
            skipped[system.name] = reason
    return skipped


def _entry(system: System, job: Job, images: PackedImages, asked: dict[str, Any]) -> Entry:
    """Return a system's scores and costs: those that its folder holds, or new ones."""
    path = job.folder / RESULT
    if path.exists() and (done := _read(system, job.folder, asked)):
        _LOG.info("%s: done before", system.name)
        return done
    _LOG.info("%s: training", system.name)
    record = {"system": system.name, "asked": asked}
    _write(path, record)  # so that the folder can be read before the system is done
    device = choose_device(job.config.device)
    with measured(device) as training:
        fitted = system.fit(job)
    with measured(device) as inference:
        scores = fitted.score(images)
    costs = Costs(
        training_seconds=training.seconds if fitted.seconds is None else fitted.seconds,
        milliseconds_per_image=1000 * inference.seconds / len(images),
        parameters=fitted.parameters,
        peak_bytes=training.peak_bytes,
    )
    entry = Entry(system.name, system.title, scores.float().cpu().contiguous(), costs, fitted.note)
    save_tensors(job.folder / SCORES, {"scores": entry.scores}, {})
    _write(path, {**record, "costs": costs.to_json(), "note": entry.note})
    return entry


def _write(path: Path, record: dict[str, Any]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(path, (json.dumps(record, indent=2, allow_nan=False) + "\n").encode())


def _read(system: System, folder: Path, asked: dict[str, Any]) -> Entry | None:
    """Read what a system's folder holds; None if the system is not done yet.

    Raises:
        ConfigError: It was asked for something else.
        CheckpointError: It is damaged.
    """
    path = folder / RESULT
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
        before, done = record["asked"], "costs" in record
        costs, note = (Costs(**record["costs"]), str(record["note"])) if done else (None, "")
        known = {key: before[key] for key in before if key not in ("minutes", "images")}
        known = json.loads(json.dumps(to_mapping(from_mapping(Config, known, str(path)))))
        changed = differences({**before, **known}, asked)
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise CheckpointError(
            f"{path}: damaged ({error!r}); remove the folder, and the system is trained again"
        ) from error
    if changed:
        raise ConfigError(
            f"{path}: the system was asked for something else ({'; '.join(changed)}); compare with "
            "the same, or choose another --out"
        )
    if costs is None:
        return None
    scores: Float[Tensor, "image attribute"] = load_tensors(folder / SCORES)[0]["scores"]
    return Entry(system.name, system.title, scores, costs, note)


def system_of(folder: Path) -> str | None:
    """Return the name of the system that a folder of a comparison holds; None if it holds none.

    Where its record does not say so, as those of earlier versions, the folder's name does.

    Raises:
        CheckpointError: What it holds is damaged.
    """
    path = folder / RESULT
    if not path.exists():
        return None
    try:
        name = json.loads(path.read_text(encoding="utf-8")).get("system", folder.resolve().name)
        find_systems([str(name or "")])
    except (OSError, ValueError, AttributeError, ConfigError) as error:
        raise CheckpointError(
            f"{path}: it does not say which system's it is ({error}); open the network with "
            "`maskatlas.comparison.open_network(system, folder)`"
        ) from error
    return str(name)


def _fingerprint(data: AttributeDataset) -> str:
    """Return what changes with the images' names, the attributes and the labels."""
    digest = hashlib.blake2b(digest_size=16)
    digest.update(repr((data.attributes, data.names)).encode("utf-8", "surrogateescape"))
    digest.update(torch.nan_to_num(data.labels, nan=2.0).numpy().tobytes())
    return digest.hexdigest()
