"""How much training fits into a given time, measured before it begins.

The schedule of a run (warm-up, cosine) must know its length beforehand, and
what a step does must not depend on the clock, or a run that goes on would not become what it would
have become. So a few steps are timed, and the number of epochs follows.
"""

import logging
import statistics
import time
from dataclasses import replace

from maskatlas.config import Config
from maskatlas.devices import choose_device
from maskatlas.errors import ConfigError
from maskatlas.inference import predict
from maskatlas.optimization import Optimization
from maskatlas.training import Build, Pack
from maskatlas.training_data import open_data

_LOG = logging.getLogger(__name__)

STEPS, SECONDS = 8, 6.0
"""So many steps of each kind are timed at least, and for so long, after one that is not; their
lower quartile counts, since what else the machine does can only make a step longer."""
VALIDATED = 128
"""Images on which validation is timed."""


def within_minutes(config: Config, minutes: float, build: Build, pack: Pack) -> Config:
    """Return the configuration with as many epochs as fit, or parts of one; no more than it had.

    A validation follows each epoch, and the part of one at the end.

    Args:
        config: Of the run.
        minutes: For training and validation.
        build: Makes the network; this one is thrown away.
        pack: Prepares the images.

    Raises:
        ConfigError: The minutes are not a number above 0.
    """
    if not minutes > 0:
        raise ConfigError(f"minutes: expected a number above 0, found {minutes:g}")
    data = open_data(config)
    network = build(config.model, data.training.attributes)
    training, validation = (pack(part, network.preprocessing, progress=False) for part in data)
    optimization = Optimization(config, network, training, choose_device(config.device))
    step = _seconds_of_a_step(optimization)
    few = validation.data.subset(range(min(VALIDATED, len(validation))))
    started = time.perf_counter()
    predict(optimization.averaged.eval(), pack(few, network.preprocessing, progress=False))
    validate = (time.perf_counter() - started) * len(validation) / len(few)
    learn = step * optimization.steps_per_epoch
    whole, left = divmod(60 * minutes, learn + validate)
    epochs = whole + max(0.0, left - validate) / learn
    fitting = min(max(epochs, 1 / optimization.steps_per_epoch), config.train.epochs)
    _LOG.info(
        "an epoch takes about %.0f s: %.3g fit into %g minutes", learn + validate, fitting, minutes
    )
    return replace(config, train=replace(config.train, epochs=fitting))


def _seconds_of_a_step(optimization: Optimization) -> float:
    """Return how long a step takes, of pretraining and after it, by how many there are of each."""
    alone = optimization.pretraining / optimization.total
    kinds = ((0, alone), (optimization.pretraining, 1 - alone))
    return sum(share * _seconds_at(optimization, number) for number, share in kinds if share)


def _seconds_at(optimization: Optimization, number: int) -> float:
    """Return how long the step of this number takes."""
    seconds: list[float] = []
    while len(seconds) <= STEPS or sum(seconds) < SECONDS:
        optimization.number = number
        started = time.perf_counter()
        optimization.step()
        seconds.append(time.perf_counter() - started)
    return statistics.quantiles(seconds[1:], n=4)[0]
