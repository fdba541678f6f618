"""What a training run writes down about itself: its metrics, and whether its masks are alight."""

import json
import math
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import IO, NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from maskatlas import distributed
from maskatlas.files import write_atomically
from maskatlas.statistics import ACTIVE


class MaskHealth(NamedTuple):
    """Whether the masks of a batch are alight."""

    mask_mean: float
    """Mean over images, attributes, channels and positions."""
    mask_active: float
    """Share of (image, attribute, channel) whose mask is active: its mean is above ``ACTIVE``."""
    unused_channels: int
    """Channels whose mask, averaged over the batch, is above it for no attribute."""


def mask_health(mask_mean: Float[Tensor, "batch attribute channel"]) -> MaskHealth:
    """Look at the masks of a batch."""
    means = mask_mean.detach()
    used = (means.mean(0) > ACTIVE).any(0)
    return MaskHealth(
        mask_mean=means.mean().item(),
        mask_active=(means > ACTIVE).to(torch.float32).mean().item(),
        unused_channels=int((~used).sum()),
    )


class MetricsFile:
    """``metrics.jsonl``: a line for every few steps and for every epoch, by the first process."""

    def __init__(self, path: Path, *, step: int) -> None:
        """Open it, and drop what an earlier run wrote after the step that is resumed from."""
        self._file: IO[str] | None = None
        if distributed.rank():
            return
        kept = []
        for line in path.read_text(encoding="utf-8").splitlines() if path.exists() else ():
            with suppress(json.JSONDecodeError):  # a killed run can leave half a line
                if json.loads(line)["step"] <= step:
                    kept.append(line)
        write_atomically(path, "".join(f"{line}\n" for line in kept).encode())
        self._file = path.open("a", encoding="utf-8")

    def write(self, event: str, values: Mapping[str, float | None]) -> None:
        """Append a line; what is not a finite number becomes null."""
        if self._file is None:
            return
        finite = {k: v if v is not None and math.isfinite(v) else None for k, v in values.items()}
        self._file.write(json.dumps({"event": event} | finite) + "\n")
        self._file.flush()

    def close(self) -> None:
        """Close the file."""
        if self._file is not None:
            self._file.close()
