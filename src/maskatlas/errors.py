"""What goes wrong by the user's side, each as an exception of its own.

A message names the thing, what was expected, what was found, and the remedy. The command line
prints it without a traceback and exits with :attr:`MaskatlasError.exit_code`.
"""


class MaskatlasError(ValueError):
    """Base of every error that the user can mend."""

    exit_code = 1


class ConfigError(MaskatlasError):
    """A configuration file, preset or flag that cannot be used."""

    exit_code = 2


class DataError(MaskatlasError):
    """A dataset that cannot be read: its files, its labels, its splits."""


class ImageError(DataError):
    """One image that cannot be decoded safely."""


class CheckpointError(MaskatlasError):
    """A checkpoint or model folder that is damaged, foreign, or does not fit."""


class MisfitError(CheckpointError):
    """A checkpoint that is whole, but of another network than the configuration says."""


class TrainingError(MaskatlasError):
    """A training run that cannot go on, such as one whose loss is no longer finite."""


class RunError(MaskatlasError):
    """A run folder that lacks what a verb needs, or already holds what it would write."""
