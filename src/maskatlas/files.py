"""Where the cache lies, and writing a file so that it is there whole or not at all."""

import errno
import fcntl
import os
import secrets
from collections.abc import Iterable
from pathlib import Path

_SUFFIX = ".partial"


def write_atomically(path: Path, content: bytes | Iterable[bytes | memoryview]) -> None:
    """Writes a file; until all of it is on the disk, the file that stood there before stays.

    A process that is killed leaves a hidden temporary file, for :func:`remove_leftovers`.

    Args:
        path: The file; its folder is made if need be.
        content: What to write, whole or in parts.

    Raises:
        OSError: The file, which the error names, cannot be written, for example on a full disk.
            Nothing has changed then.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}{_SUFFIX}")
    try:
        with temporary.open("xb") as file:
            fcntl.flock(file, fcntl.LOCK_EX)  # says that this process still writes it
            for part in [content] if isinstance(content, bytes) else content:
                file.write(part)
            file.flush()
            os.fsync(file.fileno())
            temporary.replace(path)
    except BaseException as error:
        temporary.unlink(missing_ok=True)
        if isinstance(error, OSError):
            error.filename = str(path)
        raise
    sync_folder(path.parent)


def remove_leftovers(directory: Path) -> list[Path]:
    """Removes what writers that are no longer alive left half-written in a folder.

    Returns:
        The temporary files that were removed.
    """
    removed = []
    for leftover in sorted(directory.glob(f".*{_SUFFIX}")):
        try:
            with leftover.open("rb") as file:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                leftover.unlink()
        except (BlockingIOError, FileNotFoundError):
            continue  # another process still writes it, or has just finished
        removed.append(leftover)
    return removed


def sync_folder(directory: Path) -> None:
    """Makes what was renamed or removed in a folder last, where its file system can promise that.

    Raises:
        OSError: The disk reports an error.
    """
    descriptor = os.open(directory, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.ENOTSUP):
            raise
    finally:
        os.close(descriptor)


def cache_directory() -> Path:
    """``$MASKATLAS_CACHE``, or ``maskatlas`` in ``$XDG_CACHE_HOME`` (``~/.cache``)."""
    if chosen := os.environ.get("MASKATLAS_CACHE"):
        return Path(chosen)
    base = os.environ.get("XDG_CACHE_HOME")
    return (Path(base) if base else Path.home() / ".cache") / "maskatlas"
