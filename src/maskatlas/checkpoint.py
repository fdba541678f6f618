"""Networks and interrupted runs on disk: safetensors and JSON, nothing that could run code.

A model folder is what one hands on: ``config.json``, ``model.safetensors``, and the card in
``README.md``. A training state is what a run goes on from, bit for bit; the newest two are kept.
"""

import json
import logging
import re
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from reprlib import repr as brief
from typing import Any

from torch import Tensor

from maskatlas._version import __version__
from maskatlas.config import ModelConfig
from maskatlas.errors import CheckpointError, ConfigError, MisfitError
from maskatlas.files import remove_leftovers, write_atomically
from maskatlas.schema import from_mapping, to_mapping
from maskatlas.tensorfile import load_tensors, read_header, save_tensors

logger = logging.getLogger(__name__)

MODEL_FORMAT = {"format": "maskatlas-model", "version": 1}
STATE_FORMAT = {"format": "maskatlas-training-state", "version": 1}
_MAX_JSON = 4 * 2**20
_STATE_NAME = re.compile(r"step-([0-9]{10})\.safetensors")
_STATE_KEY = "maskatlas"  # of the metadata

Shapes = Mapping[str, tuple[int, ...]]


def save_model(
    state: Mapping[str, Tensor],
    config: ModelConfig,
    attributes: Sequence[str],
    directory: Path,
    *,
    card: str,
) -> None:
    """Writes a model folder, each of its files whole or not at all.

    Args:
        state: The network's weights by name.
        config: What the network is made of.
        attributes: Names of the attributes, in the order of the network's outputs.
        directory: The folder; it is made if need be.
        card: The model card, in Markdown.

    Raises:
        CheckpointError: A file cannot be written, for example on a full disk.
    """
    description = {
        **MODEL_FORMAT,
        "maskatlas": __version__,
        "attributes": list(attributes),
        "model": to_mapping(config),
    }
    try:
        directory.mkdir(parents=True, exist_ok=True)
        remove_leftovers(directory)
        save_tensors(directory / "model.safetensors", state, {})
        config_json = json.dumps(description, indent=2, allow_nan=False) + "\n"
        write_atomically(directory / "config.json", config_json.encode())
        write_atomically(directory / "README.md", card.encode())
    except OSError as error:
        raise CheckpointError(f"{directory}: cannot be written ({error.strerror})") from error


def load_model(
    directory: Path,
    shapes: Callable[[ModelConfig, tuple[str, ...]], Shapes] | None = None,
    *,
    optional: Collection[str] = (),
) -> tuple[ModelConfig, tuple[str, ...], dict[str, Tensor]]:
    """Reads a model folder.

    Args:
        directory: A folder that :func:`save_model` wrote.
        shapes: The weights that such a network has; compared with those of the file before any is
            read.
        optional: Those of them that a file may lack.

    Returns:
        What the network is made of, the names of its attributes, its weights.

    Raises:
        CheckpointError: The folder is no model, or damaged.
        MisfitError: The weights do not fit the configuration.
    """
    config, attributes = _read_description(directory)
    path = directory / "model.safetensors"
    expected = None
    if shapes is not None:
        found = read_header(path).entries
        expected = {
            name: shape
            for name, shape in shapes(config, attributes).items()
            if name in found or name not in optional
        }
    state, _ = load_tensors(path, expected)
    return config, attributes, state


@dataclass(frozen=True, slots=True)
class TrainingState:
    """A run between two steps: with the same data it goes on to the same weights, bit for bit."""

    step: int
    """Number of the next step, from 0."""
    epoch: int
    """Number of its epoch, from 0."""
    config: dict[str, Any]
    """The run's configuration in plain values."""
    attributes: tuple[str, ...]
    """Their names, in the order of the network's outputs."""
    tensors: dict[str, Tensor]
    """Weights as ``model.NAME``, their moving average as ``ema.NAME``, AdamW's state as
    ``optimizer.NAME.KEY``."""
    best_score: float | None = None
    """The best validation score so far; finite, or None."""
    meta: dict[str, Any] = field(default_factory=dict)
    """Whatever else JSON can hold."""


def save_state(directory: Path, state: TrainingState, *, keep: int = 2) -> Path:
    """Writes a training state, then removes all but the newest ones up to it.

    Args:
        directory: The folder of the run's training states; it is made if need be.
        state: What to write.
        keep: How many states stay, this one included. None is removed before this one is safe.

    Returns:
        The file.

    Raises:
        CheckpointError: It cannot be written, for example on a full disk; the older ones stay.
    """
    assert keep >= 1, "the state that has just been written stays"
    path = directory / f"step-{state.step:010d}.safetensors"
    description = {
        **STATE_FORMAT,
        "maskatlas": __version__,
        "step": state.step,
        "epoch": state.epoch,
        "best_score": state.best_score,
        "config": state.config,
        "attributes": list(state.attributes),
        "meta": state.meta,
    }
    metadata = {_STATE_KEY: json.dumps(description, allow_nan=False)}
    try:
        directory.mkdir(parents=True, exist_ok=True)
        remove_leftovers(directory)
        save_tensors(path, state.tensors, metadata)
        found = _states(directory)
        # What is newer was given up when the run went on from an older state.
        stay = [other for other in found if other.name <= path.name][:keep]
        for other in found:
            if other not in stay:
                other.unlink()
    except OSError as error:
        raise CheckpointError(f"{directory}: cannot be written ({error.strerror})") from error
    return path


def load_latest(directory: Path, shapes: Shapes | None = None) -> TrainingState | None:
    """Reads the newest training state; one that is damaged is skipped with a warning.

    Args:
        directory: The folder that :func:`save_state` wrote to.
        shapes: The weights that the network has; compared with those of the file before any is
            read.

    Returns:
        The state, or None if there is none.

    Raises:
        CheckpointError: There are states, but all are damaged.
        MisfitError: The newest whole one is of another network.
    """
    if not directory.is_dir():
        return None
    remove_leftovers(directory)
    damaged = []
    for path in _states(directory):
        try:
            return _load_state(path, shapes)
        except MisfitError:
            raise
        except CheckpointError as error:
            damaged.append(error)
            logger.warning("%s; trying the checkpoint before it", error)
    if damaged:
        raise CheckpointError(
            f"{directory}: none of the {len(damaged)} checkpoints can be read; start anew in "
            f"another folder. The newest is {damaged[0]}"
        )
    return None


def _states(directory: Path) -> list[Path]:
    """The training states in a folder, newest first."""
    states = [path for path in directory.iterdir() if _STATE_NAME.fullmatch(path.name)]
    return sorted(states, reverse=True)


def _load_state(path: Path, shapes: Shapes | None) -> TrainingState:
    expected = None if shapes is None else _state_shapes(shapes, read_header(path).entries)
    tensors, metadata = load_tensors(path, expected)
    try:
        fields = json.loads(metadata.get(_STATE_KEY, "null"))
    except (ValueError, RecursionError) as error:
        raise CheckpointError(f"{path}: the description is damaged: {error}") from error
    _check_format(fields, STATE_FORMAT, path)
    match fields:
        case {
            "step": int(step),
            "epoch": int(epoch),
            "config": dict(config),
            "attributes": names,
            "best_score": float() | int() | None as best_score,
            "meta": dict(meta),
        }:
            attributes = _attributes(names, path)
        case _:
            raise CheckpointError(f"{path}: the description is damaged: {brief(fields)}")
    return TrainingState(step, epoch, config, attributes, tensors, best_score, meta)


def _state_shapes(weights: Shapes, names: Iterable[str]) -> dict[str, tuple[int, ...]]:
    """The tensors of a training state; of AdamW's, which its first step makes, those named."""
    expected = {
        f"{kind}.{name}": shape for kind in ("model", "ema") for name, shape in weights.items()
    }
    for name in names:
        kind, _, rest = name.partition(".")
        parameter, _, key = rest.rpartition(".")
        if kind == "optimizer" and parameter in weights:
            expected[name] = () if key == "step" else weights[parameter]
    return expected


def _read_description(directory: Path) -> tuple[ModelConfig, tuple[str, ...]]:
    path = directory / "config.json"
    if not path.is_file():
        raise CheckpointError(
            f"{directory}: expected a folder with config.json and model.safetensors, found "
            f"{_contents(directory)}; files of pickled weights (.pt, .pth, .ckpt, .bin) are not "
            "read, because they can run code"
        )
    try:
        with path.open("rb") as file:
            description = json.loads(file.read(_MAX_JSON).decode())
    except OSError as error:
        raise CheckpointError(f"{path}: cannot be read ({error.strerror})") from error
    except (ValueError, RecursionError) as error:
        raise CheckpointError(f"{path}: expected JSON: {error}") from error
    _check_format(description, MODEL_FORMAT, path)
    attributes = _attributes(description.get("attributes"), path)
    model = description.get("model")
    try:
        config = from_mapping(ModelConfig, model, f"{path}: model")
    except ConfigError as error:
        raise CheckpointError(str(error)) from error
    missing = to_mapping(config).keys() - model.keys()
    if missing:  # a default may have changed since
        raise CheckpointError(
            f"{path}: model: expected {', '.join(sorted(missing))}, found nothing"
        )
    return config, attributes


def _contents(directory: Path) -> str:
    if not directory.is_dir():
        return "a file" if directory.exists() else "nothing"
    names = sorted(entry.name for entry in directory.iterdir())
    shown = ", ".join(repr(name) for name in names[:5]) or "an empty folder"
    return shown + (f" and {len(names) - 5} more" if len(names) > 5 else "")


def _check_format(fields: Any, expected: Mapping[str, Any], where: Path) -> None:
    found = {key: fields.get(key) for key in expected} if isinstance(fields, dict) else fields
    if found != expected:
        raise CheckpointError(
            f"{where}: expected {expected['format']} of version {expected['version']}, found "
            f"{brief(found)}; if a newer maskatlas wrote it, update this one"
        )


def _attributes(names: Any, where: Path) -> tuple[str, ...]:
    texts = isinstance(names, list) and all(isinstance(name, str) and name for name in names)
    if not texts or not names or len(set(names)) != len(names):
        raise CheckpointError(
            f"{where}: attributes: expected different names in a list, found {brief(names)}"
        )
    return tuple(names)
