"""The command line: one verb a file, each imported when it is called.

Results go to stdout, logs and progress to stderr. Exit codes: 0, 1 (failed), 2 (usage), 130
(interrupted), 143 (terminated).
"""

import difflib
import errno
import importlib
import io
import logging
import os
import re
import signal
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Protocol, runtime_checkable

import tyro

from maskatlas._version import __version__
from maskatlas.errors import MaskatlasError
from maskatlas.interruption import Interrupted, stop_request

_LOG = logging.getLogger(__name__)

VERBS = {
    "demo": "rendered faces -> trained network -> atlas -> report.html, in minutes",
    "data check": "what is in a dataset, and what is wrong with it",
    "train": "train a network on labelled images, into a run folder",
    "analyze": "draw the atlas of a run: mask statistics, correlations, groups",
    "evaluate": "is the network right, and do its explanations hold",
    "shortcuts": "plant a shortcut in rendered faces, and see whether the explanations find it",
    "predict": "scores of one's own images",
    "explain": "overlays and numbers for one's own images",
    "report": "one self-contained report.html of a run",
    "compare": "train other systems on the same data, and judge all alike",
    "bench": "speed and memory on this machine",
}
"""Each verb, and what it is for."""

EXAMPLES = """\
examples:
  maskatlas demo
  maskatlas train --data celeba/ --out runs/a --train.epochs 12
  maskatlas analyze runs/a && maskatlas evaluate runs/a && maskatlas report runs/a

maskatlas VERB --help tells more."""


@runtime_checkable
class Verb(Protocol):
    """A parsed command line, ready to run."""

    verbose: bool
    quiet: bool

    def run(self) -> int | None:
        """Do it; return the exit code, None for 0."""


@dataclass(frozen=True, kw_only=True)
class Talk:
    """How much is said on stderr."""

    verbose: Annotated[bool, tyro.conf.arg(aliases=["-v"]), tyro.conf.FlagCreatePairsOff] = False
    """Tell more."""
    quiet: Annotated[bool, tyro.conf.arg(aliases=["-q"]), tyro.conf.FlagCreatePairsOff] = False
    """Tell only what goes wrong."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command line; return its exit code.

    Args:
        arguments: Those of the process if not given.
    """
    words = list(sys.argv[1:] if arguments is None else arguments)
    name = next((v for v in VERBS if words[: len(v.split())] == v.split()), None)
    if name is not None:
        return _run(name, words[len(name.split()) :])
    if words[:1] == ["--version"]:
        print(f"maskatlas {__version__}")  # noqa: T201
        return 0
    family = [verb for verb in VERBS if words and verb.split()[0] == words[0]]
    rest = words[1:] if family else words
    asked = rest[:1] in (["-h"], ["--help"], ["help"])
    print(_usage(family or [*VERBS]), file=sys.stdout if asked else sys.stderr)
    if rest and not asked:
        wrong = " ".join(words[: 2 if family else 1])
        near = difflib.get_close_matches(wrong, VERBS, n=1)
        hint = f"; did you mean {near[0]}?" if near else ""
        print(f"\nmaskatlas: no verb {wrong!r}{hint}", file=sys.stderr)  # noqa: T201
    return 0 if asked else 2


def _usage(verbs: Sequence[str]) -> str:
    width = max(map(len, verbs))
    lines = "\n".join(f"  {name:{width}}  {VERBS[name]}" for name in verbs)
    return (
        f"maskatlas {__version__}: which feature looks where, for which attribute?\n\n"
        f"usage: maskatlas VERB [options]\n\nverbs:\n{lines}\n\n{EXAMPLES}"
    )


def _run(name: str, words: list[str]) -> int:
    """Parse and run one verb; what goes wrong outside of us becomes a message and an exit code."""
    if isinstance(sys.stdout, io.TextIOWrapper):  # names of files need not be valid Unicode
        sys.stdout.reconfigure(errors="surrogateescape")
    try:
        with stop_request():
            module = importlib.import_module(f"maskatlas.cli.{name.replace(' ', '_')}")
            verb: Verb = module.parse(words, f"maskatlas {name}")
            _talk(verb)
            code = verb.run() or 0
            if sys.stdout is not None:
                sys.stdout.flush()
            return code
    except MaskatlasError as error:
        return _failed(name, str(error), error.exit_code)
    except (Interrupted, KeyboardInterrupt) as stop:
        number = stop.number if isinstance(stop, Interrupted) else signal.SIGINT
        return _failed(name, f"stopped by {signal.Signals(number).name}", 128 + number)
    except BrokenPipeError:  # whoever read the output has seen enough
        _drop_output()
        return 0
    except OSError as error:
        _LOG.debug("where it came from:", exc_info=True)
        if error.filename is None:
            _drop_output()
        return _failed(name, _explained(error), 1)
    except (MemoryError, RuntimeError) as error:
        if not (isinstance(error, MemoryError) or _MEMORY.search(str(error))):
            raise
        _LOG.debug("where it came from:", exc_info=True)
        return _failed(name, f"not enough memory; {_LESS_MEMORY}", 1)
    except SystemExit as exit_:
        return exit_.code if isinstance(exit_.code, int) else 1


_MEMORY = re.compile("allocate memory|out of memory", re.IGNORECASE)  # PyTorch has no class for it
_LESS_MEMORY = "use smaller or fewer images (--limit), or to train a smaller --train.batch-size"


def _failed(name: str, message: str, code: int) -> int:
    print(f"maskatlas {name}: {message}", file=sys.stderr)  # noqa: T201
    return code


def _explained(error: OSError) -> str:
    """Return what the system could not do, with what, and the remedy if there is one."""
    where = "standard output" if error.filename is None else error.filename
    full = error.errno in (errno.ENOSPC, errno.EDQUOT)
    return f"{where}: {error.strerror or error}" + ("; make room, then try again" if full else "")


def _drop_output() -> None:
    """Let what is still to be written to stdout go nowhere, so that Python ends without a word."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _talk(verb: Verb) -> None:
    level = logging.DEBUG if verb.verbose else logging.WARNING if verb.quiet else logging.INFO
    logging.basicConfig(level=logging.WARNING, format="%(levelname)s %(name)s: %(message)s")
    package = logging.getLogger("maskatlas")
    package.setLevel(level)
    handler = logging.StreamHandler()
    handler.setFormatter(logging.Formatter("%(message)s"))
    package.handlers[:] = [handler]
    package.propagate = False
