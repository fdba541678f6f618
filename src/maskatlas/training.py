"""The loop: steps, a look at the masks, validation, checkpoints, and the best model kept."""

import copy
import logging
import math
import signal
import time
from collections.abc import Mapping, Sequence
from contextlib import closing
from pathlib import Path
from typing import Protocol, runtime_checkable

import torch
from tqdm import tqdm

from maskatlas import distributed
from maskatlas.averages import FEWEST_IMAGES, average_contribution, average_image
from maskatlas.cache import PackedImages
from maskatlas.checkpoint import TrainingState, load_latest, save_state
from maskatlas.config import Config, ModelConfig, to_mapping
from maskatlas.data import AttributeDataset
from maskatlas.devices import choose_device, deterministic
from maskatlas.errors import DataError, TrainingError
from maskatlas.explanations import explainers
from maskatlas.images import Preprocessing
from maskatlas.inference import predict
from maskatlas.interruption import Interrupted, StopRequest, stop_request
from maskatlas.losses import LossTerms
from maskatlas.metrics import Metrics, attribute_metrics
from maskatlas.model import AttributeNetwork, Output, build_network
from maskatlas.model_card import model_card
from maskatlas.optimization import Optimization, learning_rate
from maskatlas.run_claim import check_claim, claim
from maskatlas.sources.listing import split_of
from maskatlas.statistics import OUT
from maskatlas.training_data import Data, open_data
from maskatlas.training_log import TrainingLog, mask_health

_LOG = logging.getLogger(__name__)

LINE_STEPS = 20
"""Steps between two lines of metrics."""
LOG_SECONDS = 15.0
"""Seconds between two lines of progress where there is no terminal."""


@runtime_checkable
class Build(Protocol):
    """Makes the network of a run: :func:`maskatlas.model.build_network`, or a comparison's."""

    def __call__(self, config: ModelConfig, attributes: Sequence[str], /) -> AttributeNetwork:
        """Return it, with its initial weights."""


@runtime_checkable
class Pack(Protocol):
    """Prepares the images of a run: :class:`maskatlas.cache.PackedImages`, or one that adds."""

    def __call__(
        self, data: AttributeDataset, preprocessing: Preprocessing, /, *, progress: bool
    ) -> PackedImages:
        """Return them, decoded."""


def train(
    config: Config,
    run: Path,
    *,
    resume: bool = False,
    build: Build = build_network,
    pack: Pack = PackedImages,
) -> Path:
    """Train a network and write its run folder.

    Args:
        config: What to train, and on what.
        run: Folder for ``config.toml``, ``metrics.jsonl``, ``checkpoints/`` and ``model/``.
        resume: Go on from the newest checkpoint in it, bit by bit as if never stopped; from the
            start if there is none.
        build: Makes the network; must make the same one when the run goes on.
        pack: Prepares the images.

    Returns:
        The model folder: the best network by mean validation accuracy; the last one where the
        validation images are among the training ones.

    Raises:
        DataError: The data cannot be read, or has changed since the run was started.
        RunError: The folder holds a run and ``resume`` is off.
        ConfigError: The run in it has another configuration.
        CheckpointError: A checkpoint cannot be written; those before it stay.
        TrainingError: The loss is no longer finite.
        Interrupted: SIGTERM or SIGINT came; a checkpoint of the last whole step is saved.
    """
    device = choose_device(config.device)
    with (
        deterministic(config.train.deterministic),
        distributed.process_group(device),
        stop_request() as stop,
    ):
        check_claim(config, run, resume=resume)
        data = open_data(config)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(config.seed)
            network = build(config.model, data.training.attributes)
        told = _LOG.isEnabledFor(logging.INFO)
        training, validation = (pack(part, network.preprocessing, progress=told) for part in data)
        optimization = Optimization(config, network, training, device)
        claim(config, run)
        state = _earlier_state(optimization, data, run) if resume else None
        with closing(_Run(optimization, validation, run, data.fingerprint, state)) as running:
            running.finish(stop)
        distributed.barrier()
    return run / "model"


def _earlier_state(optimization: Optimization, data: Data, run: Path) -> TrainingState | None:
    """Read the newest checkpoint of this very run; None if it was stopped before the first."""
    weights = optimization.network.state_dict()
    shapes = {name: tuple(tensor.shape) for name, tensor in weights.items()}
    state = load_latest(run / "checkpoints", shapes)
    if state is not None and state.meta["data"] != data.fingerprint:
        raise DataError(
            f"{data.training.path or data.training.source}: images, attributes or labels have "
            f"changed since {run} was started; bring the old data back, or choose another --out"
        )
    return state


class _Run:
    """The run folder as training goes on: how far it is, how good, and what it has written."""

    def __init__(
        self,
        optimization: Optimization,
        validation: PackedImages,
        folder: Path,
        fingerprint: str,
        state: TrainingState | None,
    ) -> None:
        self.optimization = optimization
        self.validation = validation
        self.folder = folder
        self.fingerprint = fingerprint
        self.validated = 0
        self.best: float | None = None
        self.seconds = 0.0
        if state is not None:
            optimization.restore(state.tensors, state.step)
            self.validated = int(state.meta["validated"])
            self.best = state.best_score
            self.seconds = float(state.meta["seconds"])
            _LOG.info("resumed at step %d of %d", state.step, optimization.total)
        self.saved_at = self.told_at = self.counted_at = time.monotonic()
        self.line = optimization.number, self.saved_at
        self.log = TrainingLog(folder, step=optimization.number, epochs=self.validated)

    def close(self) -> None:
        """Close the files that are open."""
        self.log.close()

    def finish(self, stop: StopRequest) -> None:
        """Take all steps that are left; between any two of them the run can be stopped."""
        optimization = self.optimization
        told = _LOG.isEnabledFor(logging.INFO) and distributed.rank() == 0
        hidden = None if told else True  # None: hidden unless it is on a terminal
        stop.between_steps = True
        with tqdm(total=optimization.total, desc="training", disable=hidden) as bar:
            bar.update(optimization.number)
            while True:
                if distributed.any_of(stop.number is not None):
                    self._save()
                    raise Interrupted(stop.number or signal.SIGTERM)
                if self.validated < optimization.epochs_due:
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
        if self.optimization.number % LINE_STEPS == 0:
            self._write_step(terms, output, quiet=quiet)
        minutes = self.optimization.config.train.checkpoint_minutes
        if time.monotonic() - self.saved_at > 60 * minutes and distributed.rank() == 0:
            self._save()

    def _write_step(self, terms: LossTerms, output: Output, *, quiet: bool) -> None:
        number, config = self.optimization.number, self.optimization.config.train
        means = distributed.mean(torch.tensor([term.item() for term in terms])).tolist()
        losses = dict(zip(terms._fields, means, strict=True))
        told = {
            "binary": output.logits,
            "multilabel": output.multilabel_logits,
            "reconstruction": output.reconstruction,
            "mask_l1": output.mask_mean,
        }
        absent = {f"loss_{name}": None for name, part in told.items() if part is None}
        health = None if output.mask_mean is None else mask_health(output.mask_mean.detach())
        before, since = self.line
        self.line = number, time.monotonic()
        speed = (number - before) * self.optimization.batch_size / (self.line[1] - since)
        self.log.write(
            "step",
            {
                "step": number,
                "epoch": number / self.optimization.steps_per_epoch,
                **{f"loss_{name}": value for name, value in losses.items()},
                **absent,
                "learning_rate": learning_rate(number - 1, self.optimization.total, config),
                "images_per_second": speed,
                **({} if health is None else health._asdict()),
            },
        )
        if not quiet and distributed.rank() == 0 and self.line[1] - self.told_at > LOG_SECONDS:
            self.told_at = self.line[1]
            _LOG.info(
                "step %d of %d, loss %.3f, %.0f images/s",
                *(number, self.optimization.total, losses["total"], speed),
            )

    def _validate(self) -> None:
        """Score the averaged network; if none was better before, it becomes the model."""
        optimization, images = self.optimization, self.validation
        network, precision = optimization.averaged.eval(), optimization.config.train.precision
        predictions = predict(network, images, precision=precision)
        if not predictions.scores.isfinite().all():
            raise TrainingError(
                f"step {optimization.number}: the network's scores of the validation images are "
                "not finite. The last good checkpoint is kept. Start another run with a lower "
                "train.learning-rate"
            )
        metrics = attribute_metrics(predictions.scores.numpy(), images.data.labels.numpy())
        self.validated = optimization.epochs_due
        self._report(metrics.mean(), predictions.mask_mean)
        if self._is_best(metrics.mean()["accuracy"]):
            self._keep(network, metrics)
        self.line = optimization.number, time.monotonic()

    def _keep(self, network: AttributeNetwork, metrics: Metrics) -> None:
        """Make the network the run's model."""
        config, images = self.optimization.config, self.optimization.images
        known = "contribution" in explainers(network)
        average = (
            average_contribution(network, images, precision=config.train.precision)
            if known
            else None
        )
        shown = "contribution-traced" in explainers(network) and len(images) >= FEWEST_IMAGES
        picture = average_image(images) if shown else None
        if distributed.rank():
            return
        card = model_card(
            *(config, network.attributes, metrics),
            epoch=self._passes(),
            split=self._validation_split(),
        )
        # A model of float64 would take no image that its own `preprocess` gives.
        best = copy.deepcopy(network).float()
        best.average_contribution = None if average is None else average.float()
        best.average_image = picture
        best.save_pretrained(self.folder / "model", card=card)

    def _passes(self) -> float:
        """Return how often the network has seen the training images."""
        return self.optimization.number / self.optimization.steps_per_epoch

    def _validation_split(self) -> str:
        """Return what the validation images are called."""
        return self.validation.data.split or self.optimization.config.train.validation

    def _report(self, mean: Mapping[str, float], mask_mean: float | None) -> None:
        """Write down and tell how the validation went."""
        epochs = self.optimization.config.train.epochs
        self.log.write(
            "epoch",
            {
                "step": self.optimization.number,
                "epoch": self._passes(),
                **{f"val_{name}": value for name, value in mean.items()},
                "mask_mean": mask_mean,
                "seconds": self._count_seconds(),
            },
        )
        if distributed.rank():
            return
        _LOG.info(
            "epoch %.4g of %.4g: validation accuracy %.4f, AUROC %.4f",
            *(self._passes(), epochs, mean["accuracy"], mean["auroc"]),
        )
        subnetworks = self.optimization.network.subnetworks
        learned = subnetworks is not None and subnetworks.mask_weight is not None
        if learned and mask_mean is not None and mask_mean < OUT:
            _LOG.warning(
                "the masks have gone out (mean %.4f): such a network scores well and explains "
                "nothing; lower loss.mask-l1",
                mask_mean,
            )

    def _is_best(self, accuracy: float) -> bool:
        """Return whether these weights become the model: the best, or the latest.

        The latest where a score tells nothing: on images that the network learned from, or none
        of whose labels is known. What was best before the sub-networks joined is so no longer.
        """
        optimization = self.optimization
        epochs_alone = optimization.pretraining / optimization.steps_per_epoch
        if self.validated - 1 <= epochs_alone < self.validated:
            self.best = None
        learned = map(split_of, self.optimization.config.train.splits)
        seen = split_of(self._validation_split()) in learned
        if self.best is None or seen or accuracy > self.best:
            self.best = accuracy if math.isfinite(accuracy) else None
            return True
        return False

    def _count_seconds(self) -> float:
        """Return the seconds that the run has taken so far, over all its processes."""
        now = time.monotonic()
        self.seconds += now - self.counted_at
        self.counted_at = now
        return self.seconds

    def _save(self) -> None:
        """Write a checkpoint of the state between two steps."""
        self.saved_at = time.monotonic()
        if distributed.rank():
            return
        tensors = self.optimization.tensors()
        if not all(tensor.isfinite().all() for tensor in tensors.values()):
            raise TrainingError(
                f"step {self.optimization.number}: the weights are not finite. The last good "
                "checkpoint is kept. Start another run with a lower train.learning-rate"
            )
        state = TrainingState(
            step=self.optimization.number,
            epoch=self.optimization.epoch,
            config=to_mapping(self.optimization.config),
            attributes=self.optimization.network.attributes,
            tensors=tensors,
            best_score=self.best,
            meta={
                "validated": self.validated,
                "seconds": self._count_seconds(),
                "data": self.fingerprint,
            },
        )
        save_state(self.folder / "checkpoints", state)
