"""``maskatlas train``."""

import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated

import tyro

from maskatlas.cli import Talk
from maskatlas.cli.runs import is_first_process
from maskatlas.cli.settings import parse_with_settings, with_split_commas
from maskatlas.config import PRESETS, Config


@dataclass(frozen=True, kw_only=True)
class Train(Talk):
    """Train a network on labelled images, into a run folder.

    A preset is overridden by --config and that by flags. SIGTERM and Ctrl-C save a checkpoint at
    the next step; --resume goes on from it, bit by bit as if never stopped.
    """

    out: Path = tyro.MISSING
    """The run folder."""
    resume: Annotated[bool, tyro.conf.FlagCreatePairsOff] = False
    """Go on with the run in the folder, if there is one."""
    config: Path | None = None
    """A TOML file with settings, such as the config.toml of another run."""
    settings: Annotated[Config, tyro.conf.arg(name="")] = field(
        default_factory=lambda: PRESETS["celeba-64"]
    )

    def run(self) -> int:
        """Train, and say where the model is."""
        from maskatlas.interruption import Interrupted
        from maskatlas.training import train

        try:
            model = train(with_split_commas(self.settings), self.out, resume=self.resume)
        except Interrupted as interrupted:
            print(f"maskatlas train: {interrupted}", file=sys.stderr)  # noqa: T201
            return interrupted.exit_code
        if is_first_process():
            print(model)  # noqa: T201
        return 0


def parse(words: Sequence[str], prog: str) -> Train:
    """Parse the command line after the verb."""
    return parse_with_settings(Train, words, prog, "celeba-64")
