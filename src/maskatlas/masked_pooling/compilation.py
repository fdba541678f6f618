"""C code of the package, compiled on first use and kept in the cache.

The compiled library is known by the sources, the compiler's version, its flags and the processor,
so that a cache shared between machines serves each what it can run.
"""

import ctypes
import functools
import hashlib
import logging
import os
import platform
import shutil
import stat
import subprocess
import tempfile
from pathlib import Path

from maskatlas.files import cache_directory, write_atomically

_LOG = logging.getLogger(__name__)
_SECONDS = 120.0
_FLAGS = ("-O3", "-std=gnu11", "-ffp-contract=fast", "-shared", "-fPIC", "-pthread")
_TUNED = (("-march=native",), ("-mcpu=native",), ())  # the first that the compiler takes
_OFF = ("0", "false", "no", "off")


class CannotCompileError(Exception):
    """Why there is no compiled library; never leaves this module."""


@functools.cache
def compiled(source: Path) -> ctypes.CDLL | None:
    """Return the library that `source` compiles to; None, with one line logged, if there is none.

    What it includes lies beside it.
    ``MASKATLAS_NATIVE=0`` switches compiled code off.
    """
    if os.environ.get("MASKATLAS_NATIVE", "1").lower() in _OFF:
        _LOG.info("MASKATLAS_NATIVE=0: masked pooling runs in plain torch")
        return None
    try:
        return _load(source)
    except (CannotCompileError, OSError, subprocess.SubprocessError) as error:
        _LOG.info("no compiled masked pooling, it runs in plain torch: %s", error)
        return None


def _load(source: Path) -> ctypes.CDLL:
    compiler = _compiler()
    key = hashlib.sha256()
    sources = [path.read_bytes() for path in sorted(source.parent.glob("*.[ch]"))]
    for part in (*sources, _version(compiler), repr(_FLAGS).encode(), _processor()):
        key.update(hashlib.sha256(part).digest())
    name = f"{source.stem}-{key.hexdigest()[:32]}.so"
    try:
        return _kept(_private_folder() / name, compiler, source)
    except OSError as error:
        _LOG.info("compiled code cannot be kept (%s); compiling for this process alone", error)
    with tempfile.TemporaryDirectory() as passing:
        return ctypes.CDLL(str(_compile(compiler, source, Path(passing))))


def _kept(library: Path, compiler: str, source: Path) -> ctypes.CDLL:
    """Load the library from the cache, after compiling it if it is missing or damaged."""
    try:
        return ctypes.CDLL(str(library))
    except OSError:
        with tempfile.TemporaryDirectory() as passing:
            found = _compile(compiler, source, Path(passing)).read_bytes()
        write_atomically(library, found)
    return ctypes.CDLL(str(library))


def _compiler() -> str:
    if os.name != "posix":
        raise CannotCompileError(f"the source is for POSIX systems, this one is {os.name}")
    for name in (os.environ.get("CC", ""), "cc", "gcc", "clang"):
        if found := name and shutil.which(name):
            return found
    raise CannotCompileError("there is no C compiler (cc, gcc or clang; $CC chooses another)")


def _version(compiler: str) -> bytes:
    return _run([compiler, "--version"]).stdout


def _processor() -> bytes:
    """What decides which instructions may be used."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return " ".join(platform.uname()).encode()
    kinds = {line for line in lines if line.startswith(("model name", "flags", "Features", "CPU "))}
    return "\n".join(sorted(kinds)).encode()


def _private_folder() -> Path:
    """A folder of the cache; refused if somebody else could have put a library there."""
    folder = cache_directory() / "compiled"
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    found = folder.stat()
    if found.st_uid != os.getuid() or found.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
        raise PermissionError(f"{folder} can be written by others; make it your own (chmod 700)")
    return folder


def _compile(compiler: str, source: Path, folder: Path) -> Path:
    library = folder / "library.so"
    for tuned in _TUNED:
        command = [compiler, *_FLAGS, *tuned, str(source), "-lm", "-o", str(library)]
        found = _run(command)
        if found.returncode == 0:
            return library
    said = found.stderr.decode(errors="replace").strip() or "no message"
    raise CannotCompileError(f"{' '.join(command)} failed: {said.splitlines()[0]}")


def _run(command: list[str]) -> subprocess.CompletedProcess[bytes]:
    return subprocess.run(command, capture_output=True, timeout=_SECONDS, check=False)  # noqa: S603
