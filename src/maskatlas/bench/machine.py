"""What a measurement ran on: without it, a number says nothing."""

import os
import platform
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch

from maskatlas.devices import has_bfloat16


@dataclass(frozen=True, slots=True)
class Machine:
    """Processor, threads and versions."""

    processor: str
    cores: int
    """That this process may use."""
    threads: int
    """On which PyTorch computes."""
    gpu: str | None
    """Where the measurement runs on one."""
    bfloat16: bool
    """Whether where it runs multiplies bfloat16 faster than float32."""
    torch: str
    python: str
    system: str

    @classmethod
    def at_hand(cls, device: torch.device) -> "Machine":
        """Describe this one, as it is set up now."""
        affinity = getattr(os, "sched_getaffinity", None)
        return cls(
            processor=_processor(),
            cores=len(affinity(0)) if affinity else os.cpu_count() or 1,
            threads=torch.get_num_threads(),
            gpu=torch.cuda.get_device_name(device) if device.type == "cuda" else None,
            bfloat16=has_bfloat16(device),
            torch=str(torch.__version__),
            python=platform.python_version(),
            system=f"{platform.system()} {platform.machine()}",
        )

    def to_json(self) -> dict[str, Any]:
        """Return the fields by name."""
        return asdict(self)

    def text(self) -> str:
        """Return it in a line."""
        parts = [
            self.gpu,
            self.processor,
            f"{self.cores} cores",
            f"{self.threads} threads",
            f"bfloat16 products: {'yes' if self.bfloat16 else 'no'}",
            f"torch {self.torch}",
            f"Python {self.python}",
            self.system,
        ]
        return ", ".join(part for part in parts if part)


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(errors="replace").splitlines()
    except OSError:
        lines = []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or "unknown processor"
