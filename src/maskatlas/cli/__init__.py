"""The command line: one verb a file, each imported when it is called.

Results go to stdout, logs and progress to stderr. Exit codes: 0, 1 (failed), 2 (usage), 130
(interrupted), 143 (terminated).
"""

import importlib
import logging
import os
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Protocol, runtime_checkable

import tyro

from maskatlas._version import __version__
from maskatlas.errors import MaskatlasError

_LOG = logging.getLogger(__name__)

VERBS = {
    "demo": "rendered faces -> trained network -> atlas -> report.html, in minutes",
    "data check": "what is in a dataset, and what is wrong with it",
    "train": "train a network on labelled images, into a run folder",
    "analyze": "draw the atlas of a run: mask statistics, correlations, groups",
    "evaluate": "is the network right, and do its explanations hold",
    "predict": "scores of one's own images",
    "explain": "overlays and numbers for one's own images",
    "report": "one self-contained report.html of a run",
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
    if not words or words[0] in ("-h", "--help", "help"):
        print(_usage())  # noqa: T201
        return 0 if words else 2
    if words[0] == "--version":
        print(f"maskatlas {__version__}")  # noqa: T201
        return 0
    name = next((v for v in VERBS if words[: len(v.split())] == v.split()), None)
    if name is None:
        print(_usage(), file=sys.stderr)  # noqa: T201
        print(f"\nmaskatlas: no verb {words[0]!r}", file=sys.stderr)  # noqa: T201
        return 2
    return _run(name, words[len(name.split()) :])


def _usage() -> str:
    width = max(map(len, VERBS))
    verbs = "\n".join(f"  {name:{width}}  {purpose}" for name, purpose in VERBS.items())
    return (
        f"maskatlas {__version__}: which feature looks where, for which attribute?\n\n"
        f"usage: maskatlas VERB [options]\n\nverbs:\n{verbs}\n\n{EXAMPLES}"
    )


def _run(name: str, words: list[str]) -> int:
    """Parse and run one verb; the user's mistakes become one message and an exit code."""
    module = importlib.import_module(f"maskatlas.cli.{name.replace(' ', '_')}")
    try:
        verb: Verb = module.parse(words, f"maskatlas {name}")
        _talk(verb)
        return verb.run() or 0
    except MaskatlasError as error:
        print(f"maskatlas {name}: {error}", file=sys.stderr)  # noqa: T201
        return error.exit_code
    except KeyboardInterrupt:
        print(f"maskatlas {name}: interrupted", file=sys.stderr)  # noqa: T201
        return 130
    except BrokenPipeError:  # whoever read the output has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except OSError as error:  # a full disk, a folder that may not be written to
        _LOG.debug("where it came from:", exc_info=True)
        where = "" if error.filename is None else f"{error.filename}: "
        print(f"maskatlas {name}: {where}{error.strerror or error}", file=sys.stderr)  # noqa: T201
        return 1
    except SystemExit as exit_:
        return exit_.code if isinstance(exit_.code, int) else 1


def _talk(verb: Verb) -> None:
    level = logging.DEBUG if verb.verbose else logging.WARNING if verb.quiet else logging.INFO
    logging.basicConfig(level=logging.WARNING, format="%(levelname)s %(name)s: %(message)s")
    package = logging.getLogger("maskatlas")
    package.setLevel(level)
    handler = logging.StreamHandler()
    handler.setFormatter(logging.Formatter("%(message)s"))
    package.handlers[:] = [handler]
    package.propagate = False
