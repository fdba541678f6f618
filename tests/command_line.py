"""The command line, called from within and from without."""

import contextlib
import io
import logging
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from maskatlas.cli import main
from maskatlas.sources.faces import ATTRIBUTES

SECONDS = 300
"""After so long a process that a test started is given up."""

KEPT = ("Bangs", "Eyeglasses", "Smiling", "Wearing_Hat")
"""The attributes of the faces that the tiny run knows."""

TINY = (
    *("--data", "faces", "--data.faces.count", "80", "--data.faces.size", "32"),
    *("--data.ignore", ",".join(name for name in ATTRIBUTES if name not in KEPT)),
    *("--model.image-size", "32", "--model.channels", "10", "--model.depth", "1"),
    *("--train.epochs", "1", "--train.batch-size", "16", "--train.precision", "float32"),
    *("--device", "cpu"),
)
"""The flags of a run that takes a second."""


class Answer(NamedTuple):
    """What a command line came to."""

    code: int
    out: str
    err: str


class Terminal(io.StringIO):
    """What takes itself for a terminal."""

    def isatty(self) -> bool:
        return True


def call(*words: str | Path, terminal: bool = False) -> Answer:
    """Run a command line in this process; what it says is caught.

    Args:
        words: After ``maskatlas``.
        terminal: Whether stderr is one.
    """
    out, err = io.StringIO(), Terminal() if terminal else io.StringIO()
    with own_logging(), contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        code = main([str(word) for word in words])
    return Answer(code, out.getvalue(), err.getvalue())


@contextlib.contextmanager
def own_logging() -> Iterator[None]:
    """Leave the package's logger as it was: what a command line sets up must not outlive it."""
    logger = logging.getLogger("maskatlas")
    before = logger.handlers[:], logger.level, logger.propagate
    try:
        yield
    finally:
        logger.handlers[:], logger.propagate = before[0], before[2]
        logger.setLevel(before[1])


def start(
    *words: str | Path, stdout: int = subprocess.PIPE, errors: str = "strict"
) -> "subprocess.Popen[str]":
    """Start Python with these words.

    Args:
        words: After ``python``.
        stdout: Where its output goes.
        errors: How what is no Unicode is read.
    """
    return subprocess.Popen(
        [sys.executable, *map(str, words)],
        env=os.environ | {"OMP_NUM_THREADS": "1", "PYTHONIOENCODING": "utf-8:strict"},
        text=True,
        errors=errors,
        stdout=stdout,
        stderr=subprocess.PIPE,
    )


def ended(process: "subprocess.Popen[str]") -> Answer:
    """What a process came to, once it has ended."""
    try:
        out, err = process.communicate(timeout=SECONDS)
    finally:
        process.kill()
    return Answer(process.returncode, out, err)
