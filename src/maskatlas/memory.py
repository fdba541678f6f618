"""How much memory is held, and was held at most: of a GPU where there is one, else of this process.

Of a process it is resident memory, to a few pages, with the files that it maps.
"""

import ctypes
from pathlib import Path

import torch

_STATUS, _CLEAR = Path("/proc/self/status"), Path("/proc/self/clear_refs")
_MACHINE = Path("/proc/meminfo")


def held_from_now(device: torch.device) -> int | None:
    """Forget earlier peaks; return how many bytes are held, None where the system does not tell."""
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
        return torch.cuda.memory_allocated(device)
    try:
        ctypes.CDLL(None).malloc_trim(0)  # what was freed does not stand ready
        _CLEAR.write_text("5")  # Linux: sets the peak to what is held now
    except (AttributeError, OSError):
        return None
    return _bytes_in(_STATUS, "VmRSS")


def peak(device: torch.device) -> int | None:
    """Return the most bytes held since :func:`held_from_now`; None where it returned None."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    return _bytes_in(_STATUS, "VmHWM")


def available_bytes(device: torch.device) -> int | None:
    """Return how much memory could be had; None where the system does not tell."""
    if device.type == "cuda":
        return torch.cuda.mem_get_info(device)[0]
    return _bytes_in(_MACHINE, "MemAvailable")


def _bytes_in(file: Path, field: str) -> int | None:
    try:
        lines = file.read_text().splitlines()
    except OSError:
        return None
    found = [int(line.split()[1]) << 10 for line in lines if line.startswith(f"{field}:")]
    return found[0] if found else None
