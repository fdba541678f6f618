"""The loop: steps, a look at the masks, validation, checkpoints, and the best model kept."""

import logging
import signal
import time
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from types import FrameType
from typing import NamedTuple

import torch
from tqdm import tqdm

from maskatlas import distributed
from maskatlas.cache import PackedImages
from maskatlas.checkpoint import TrainingState, load_latest, save_state
from maskatlas.config import Config, dump_toml, load_toml, to_mapping
from maskatlas.data import AttributeDataset
from maskatlas.devices import choose_device
from maskatlas.errors import ConfigError, DataError, RunError
from maskatlas.files import write_atomically
from maskatlas.inference import predict
from maskatlas.losses import LossTerms
from maskatlas.metrics import attribute_metrics
from maskatlas.model import Output, build_network, parameter_shapes
from maskatlas.model_card import model_card
from maskatlas.optimization import Optimization, learning_rate
from maskatlas.sources import open_dataset
from maskatlas.sources.listing import split_of
from maskatlas.statistics import OUT
from maskatlas.training_log import MaskHealth, MetricsFile, mask_health

_LOG = logging.getLogger(__name__)

LINE_STEPS = 20
"""Steps between two lines of metrics."""
LOG_SECONDS = 15.0
"""Seconds between two lines of progress where there is no terminal."""


class Interrupted(BaseException):
    """Training was asked to stop, and has saved a checkpoint."""

    def __init__(self, number: int) -> None:
        super().__init__(f"stopped by {signal.Signals(number).name}; go on with --resume")
        self.exit_code = 128 + number


class Data(NamedTuple):
    """The images that a run learns from, and those that choose its best checkpoint."""

    training: AttributeDataset
    validation: AttributeDataset


def train(config: Config, run: Path, *, resume: bool = False) -> Path:
    """Train a network and write its run folder.

    Args:
        config: What to train, and on what.
        run: Folder for ``config.toml``, ``metrics.jsonl``, ``checkpoints/`` and ``model/``.
        resume: Go on from the newest checkpoint in it, bit by bit as if never stopped; from the
            start if there is none.

    Returns:
        The model folder: the best network by mean validation accuracy; the last one where the
        validation images are among the training ones.

    Raises:
        RunError: The folder holds a run and ``resume`` is off.
        ConfigError: The run in it has another configuration.
        TrainingError: The loss is no longer finite.
        Interrupted: SIGTERM or SIGINT came; a checkpoint of the last whole step is saved.
    """
    device = choose_device(config.device)
    torch.use_deterministic_algorithms(config.train.deterministic)
    with distributed.process_group(device), _signals() as received:
        _check_claim(config, run, resume=resume)
        data = open_data(config)
        _claim(config, run)
        torch.manual_seed(config.seed)
        network = build_network(config.model, data.training.attributes)
        training, validation = (
            PackedImages(part, network.preprocessing, progress=True) for part in data
        )
        optimization = Optimization(config, network, training, device)
        _Run(optimization, validation, run, resume=resume).finish(received)
        distributed.barrier()
    return run / "model"


def open_data(config: Config) -> Data:
    """Open what the configuration names: the training images, and those to validate on.

    Where the data has no validation split, a tenth of the training images is held out, people kept
    together where they are known.

    Raises:
        DataError: There are no training images, or the data cannot be read.
    """
    data = open_dataset(
        config.data.path,
        exclude=config.data.exclude,
        ignore=config.data.ignore,
        limit=config.limit,
        faces=config.data.faces,
    )
    splits = [split_of(name) for name in config.train.splits]
    apart = split_of(config.train.validation)
    training = [i for i, split in enumerate(data.splits) if split in splits]
    validation = [i for i, split in enumerate(data.splits) if split == apart]
    if not training:
        found = ", ".join(sorted(set(data.splits))) or "no images"
        raise DataError(
            f"{config.data.path}: train.splits = {', '.join(config.train.splits)} leaves no image "
            f"to train on; the data has {found}"
        )
    if not validation:
        training, validation = hold_out(data, training)
        _LOG.info("no split %r: %d images held out", config.train.validation, len(validation))
    return Data(
        replace(data.subset(training), split=",".join(config.train.splits)),
        replace(data.subset(validation), split=config.train.validation),
    )


def hold_out(data: AttributeDataset, indices: Sequence[int]) -> tuple[list[int], list[int]]:
    """Split images into about nine and one tenth by a hash of their identity, or of their name.

    Raises:
        DataError: One of the parts would be empty.
    """
    parts: tuple[list[int], list[int]] = [], []
    for index in indices:
        identity = -1 if data.identities is None else int(data.identities[index])
        key = data.names[index] if identity < 0 else f"identity {identity}"
        parts[zlib.crc32(key.encode()) % 10 == 0].append(index)
    if not all(parts):
        raise DataError(
            f"{data.path or data.source}: it has no validation split, and {len(indices)} images "
            "are too few to hold some out; add a column `split`"
        )
    return parts


@contextmanager
def _signals() -> Iterator[list[int]]:
    """Collect SIGTERM and SIGINT instead of dying of them; a second Ctrl-C interrupts at once."""
    received: list[int] = []

    def remember(number: int, _frame: FrameType | None) -> None:
        if number == signal.SIGINT and number in received:
            raise KeyboardInterrupt
        received.append(number)

    before = {number: signal.signal(number, remember) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield received
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _check_claim(config: Config, run: Path, *, resume: bool) -> None:
    """Make sure that the run folder is free, or holds this very run and is to be gone on with."""
    path = run / "config.toml"
    if not path.exists():
        return
    if not resume:
        raise RunError(f"{run}: holds a run already; go on with --resume, or choose another --out")
    if changed := _differences(to_mapping(load_toml(path, config)), to_mapping(config)):
        raise ConfigError(
            f"{path}: the run was started with another configuration ({'; '.join(changed)}); "
            "resume it with the same, or choose another --out"
        )


def _claim(config: Config, run: Path) -> None:
    """Write the configuration into the run folder, once every process has checked it."""
    distributed.barrier()
    path = run / "config.toml"
    if distributed.rank() == 0 and not path.exists():
        write_atomically(path, dump_toml(config).encode())


def _differences(before: object, now: object, where: str = "") -> list[str]:
    """Name the keys whose values differ, but for those that change no weight."""
    if isinstance(before, dict) and isinstance(now, dict):
        return [
            line
            for key in before
            if key not in ("device", "checkpoint_minutes")
            for line in _differences(before[key], now[key], f"{where}.{key}".lstrip("."))
        ]
    return [] if before == now else [f"{where}: it has {before!r}, asked for is {now!r}"]


class _Run:
    """The run folder as training goes on: how far it is, how good, and what it has written."""

    def __init__(
        self, optimization: Optimization, validation: PackedImages, folder: Path, *, resume: bool
    ) -> None:
        self.optimization = optimization
        self.validation = validation
        self.folder = folder
        self.validated = 0
        self.best: float | None = None
        self.seconds = 0.0
        shapes = parameter_shapes(optimization.config.model, optimization.network.attributes)
        state = load_latest(folder / "checkpoints", shapes) if resume else None
        if state is not None:
            optimization.restore(state.tensors, state.step)
            self.validated = int(state.meta["validated"])
            self.best = state.best_score
            self.seconds = float(state.meta["seconds"])
            _LOG.info("resumed at step %d of %d", state.step, optimization.total)
        self.saved_at = self.told_at = self.ticked_at = time.monotonic()
        self.metrics = MetricsFile(folder / "metrics.jsonl", step=optimization.number)

    def finish(self, received: list[int]) -> None:
        """Take all steps that are left; between any two of them the run can be stopped."""
        optimization = self.optimization
        hidden = None if distributed.rank() == 0 else True
        with tqdm(total=optimization.total, desc="training", disable=hidden) as bar:
            bar.update(optimization.number)
            while True:
                if distributed.any_of(bool(received)):
                    self._save()
                    raise Interrupted(received[0] if received else signal.SIGTERM)
                if self.validated < optimization.number // optimization.steps_per_epoch:
                    self._validate()
                    self._save()
                elif optimization.number < optimization.total:
                    terms, output = optimization.step()
                    bar.update()
                    self._watch(terms, output, quiet=not bar.disable)
                else:
                    return

    def _watch(self, terms: LossTerms, output: Output, *, quiet: bool) -> None:
        """Write metrics every few steps, a line of progress and a checkpoint now and then."""
        number = self.optimization.number
        if number % LINE_STEPS == 0:
            speed = LINE_STEPS * self.optimization.batch_size / self._tick()
            health = None if output.mask_mean is None else mask_health(output.mask_mean)
            self._write_step(terms, health, speed)
            if not quiet and time.monotonic() - self.told_at > LOG_SECONDS:
                self.told_at = time.monotonic()
                _LOG.info(
                    "step %d of %d, loss %.3f, %.0f images/s",
                    *(number, self.optimization.total, terms.total.item(), speed),
                )
        minutes = self.optimization.config.train.checkpoint_minutes
        if time.monotonic() - self.saved_at > 60 * minutes and distributed.rank() == 0:
            self._save()

    def _tick(self) -> float:
        """Return the seconds since the last call, and count them."""
        now = time.monotonic()
        passed, self.ticked_at = now - self.ticked_at, now
        self.seconds += passed
        return passed

    def _write_step(self, terms: LossTerms, health: MaskHealth | None, speed: float) -> None:
        number, config = self.optimization.number, self.optimization.config.train
        losses = {f"loss_{name}": term.item() for name, term in terms._asdict().items()}
        self.metrics.write(
            "step",
            {
                "step": number,
                "epoch": number / self.optimization.steps_per_epoch,
                **losses,
                "learning_rate": learning_rate(number - 1, self.optimization.total, config),
                "images_per_second": speed,
                **({} if health is None else health._asdict()),
            },
        )

    def _validate(self) -> None:
        """Score the averaged network; if none was better before, it becomes the model."""
        optimization, images = self.optimization, self.validation
        network, config = optimization.averaged.eval(), optimization.config
        predictions = predict(network, images, precision=config.train.precision)
        labels = images.data.labels.numpy()
        metrics = attribute_metrics(predictions.scores.numpy(), labels)
        mean = metrics.mean()
        self.validated = optimization.number // optimization.steps_per_epoch
        self._tick()
        self.metrics.write(
            "epoch",
            {
                "step": optimization.number,
                "epoch": self.validated,
                **{f"val_{name}": value for name, value in mean.items()},
                "mask_mean": predictions.mask_mean,
                "seconds": self.seconds,
            },
        )
        _LOG.info(
            "epoch %d of %d: validation accuracy %.4f, AUROC %.4f",
            *(self.validated, config.train.epochs, mean["accuracy"], mean["auroc"]),
        )
        if predictions.mask_mean is not None and predictions.mask_mean < OUT:
            _LOG.warning(
                "the masks have gone out (mean %.4f): such a network scores well and explains "
                "nothing; lower loss.mask-l1",
                predictions.mask_mean,
            )
        selects = config.train.validation not in config.train.splits
        if self.best is None or mean["accuracy"] > self.best or not selects:
            self.best = mean["accuracy"]
            if distributed.rank() == 0:
                card = model_card(config, network.attributes, metrics, epoch=self.validated)
                network.save_pretrained(self.folder / "model", card=card)

    def _save(self) -> None:
        """Write a checkpoint of the state between two steps."""
        self.saved_at = time.monotonic()
        if distributed.rank():
            return
        self._tick()
        state = TrainingState(
            step=self.optimization.number,
            epoch=self.optimization.epoch,
            config=to_mapping(self.optimization.config),
            attributes=self.optimization.network.attributes,
            tensors=self.optimization.tensors(),
            best_score=self.best,
            meta={"validated": self.validated, "seconds": self.seconds},
        )
        save_state(self.folder / "checkpoints", state)
