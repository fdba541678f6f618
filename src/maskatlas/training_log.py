"""What a training run writes down about itself: its metrics, and whether its masks are alight."""

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from maskatlas import distributed
from maskatlas.files import write_atomically
from maskatlas.statistics import ACTIVE

if TYPE_CHECKING:
    from torch.utils.tensorboard import SummaryWriter


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
        self._file: IO[str] | None = None
        self._events: SummaryWriter | None = None
        if distributed.rank():
            return
        path = run / "metrics.jsonl"
        lines = path.read_bytes().splitlines() if path.exists() else []
        kept = [line for line in lines if _precedes(line, step, epochs)]
        write_atomically(path, b"".join(line + b"\n" for line in kept))
        self._file = path.open("a", encoding="utf-8")
        self._events = _event_writer(run / "tensorboard", step)

    def write(self, event: str, values: Mapping[str, float | int | None]) -> None:
        """Append a line; what is not a finite number becomes null.

        Args:
            event: ``step`` or ``epoch``.
            values: Numbers by name; ``step`` among them.
        """
        if self._file is None:
            return
        finite = {k: v if v is not None and math.isfinite(v) else None for k, v in values.items()}
        self._file.write(json.dumps({"event": event} | finite) + "\n")
        self._file.flush()
        if self._events is not None:
            for name, value in finite.items():
                if value is not None and name != "step":
                    self._events.add_scalar(f"{event}/{name}", value, finite["step"])
            self._events.flush()

    def close(self) -> None:
        """Close the files."""
        if self._file is not None:
            self._file.close()
        if self._events is not None:
            self._events.close()


def _precedes(line: bytes, step: int, epochs: int) -> bool:
    """Return whether a line was written before a state; half a line of a killed run was not."""
    try:
        record: Any = json.loads(line)
    except ValueError:
        return False
    match record:
        case {"event": "step", "step": int(number)}:
            return number <= step
        case {"event": "epoch", "epoch": int(number)}:
            return number <= epochs
    return False


def _event_writer(folder: Path, step: int) -> "SummaryWriter | None":
    """Return what writes TensorBoard's files, or None where TensorBoard is not installed."""
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError:
        return None
    # TensorBoard forgets what killed processes wrote from that step on.
    return SummaryWriter(str(folder), purge_step=step + 1)
