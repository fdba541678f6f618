"""What a training run writes down about itself: its metrics, and whether its masks are alight."""

import json
import math
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import IO, Any, NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from maskatlas import distributed
from maskatlas.errors import RunError
from maskatlas.files import write_atomically
from maskatlas.statistics import ACTIVE

Numbers = Mapping[str, float | int | None]
Encoding = Callable[[str, Numbers], bytes]


class MaskHealth(NamedTuple):
    """Whether the masks of a batch are alight."""

    mask_mean: float
    """Mean over images, attributes, channels and positions."""
    mask_active: float
    """Share of (image, attribute, channel) whose mask is active: its mean is above ``ACTIVE``."""
    unused_channels: int
    """Channels whose mask, averaged over the batch, is above it for no attribute."""


def mask_health(mask_mean: Float[Tensor, "batch attribute channel"]) -> MaskHealth:
    """Look at the masks of a batch, all processes' parts of it together."""
    means = distributed.mean(mask_mean.mean(0))
    active = distributed.mean((mask_mean > ACTIVE).to(torch.float32).mean())
    return MaskHealth(
        mask_mean=means.mean().item(),
        mask_active=active.item(),
        unused_channels=int((~(means > ACTIVE).any(0)).sum()),
    )


class TrainingLog:
    """``metrics.jsonl``: a line for every few steps and for every epoch, by the first process.

    Where TensorBoard is installed, the same numbers go to ``tensorboard/``.
    """

    def __init__(self, run: Path, *, step: int, epochs: int) -> None:
        """Open the log of a run folder.

        What an earlier process wrote after the state that is resumed from is dropped.

        Args:
            run: The run folder.
            step: Steps that were taken before.
            epochs: Epochs that were validated before.
        """
        self._outputs: list[tuple[IO[bytes], Encoding]] = []
        if distributed.rank():
            return
        path = run / "metrics.jsonl"
        lines = path.read_bytes().splitlines() if path.exists() else []
        kept = [line for line in lines if _precedes(line, step, epochs)]
        write_atomically(path, b"".join(line + b"\n" for line in kept))
        self._outputs.append((path.open("ab", buffering=0), _line))
        try:
            from maskatlas import tensorboard_events
        except ImportError:
            return
        path = run / "tensorboard" / f"events.out.tfevents.{time.time_ns()}"
        write_atomically(path, tensorboard_events.beginning(step + 1))
        self._outputs.append((path.open("ab", buffering=0), tensorboard_events.scalars))

    def write(self, event: str, values: Numbers) -> None:
        """Append a line; what is not a finite number becomes null.

        Args:
            event: ``step`` or ``epoch``.
            values: Numbers by name; ``step`` among them.

        Raises:
            RunError: The disk is full, or broken.
        """
        finite = {k: v if v is not None and math.isfinite(v) else None for k, v in values.items()}
        for file, encoding in self._outputs:
            rest = memoryview(encoding(event, finite))
            try:
                while rest:
                    rest = rest[file.write(rest) :]
            except OSError as error:
                raise RunError(
                    f"{file.name}: cannot be written ({error.strerror}); make room, and go on with "
                    "--resume"
                ) from error

    def close(self) -> None:
        """Close the files."""
        for file, _ in self._outputs:
            file.close()


def _line(event: str, values: Numbers) -> bytes:
    return (json.dumps({"event": event} | dict(values), allow_nan=False) + "\n").encode()


def _precedes(line: bytes, step: int, epochs: int) -> bool:
    """Return whether a line was written before a state; half a line of a killed run was not."""
    try:
        record: Any = json.loads(line)
    except ValueError:
        return False
    match record:
        case {"event": "step", "step": int(number)}:
            return number <= step
        case {"event": "epoch", "epoch": int(number) | float(number)}:
            return number <= epochs
    return False
