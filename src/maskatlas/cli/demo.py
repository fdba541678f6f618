"""``maskatlas demo``."""

import logging
import shlex
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated

import tyro

from maskatlas.cli import Talk
from maskatlas.cli.analyze import Analyze
from maskatlas.cli.evaluate import Evaluate
from maskatlas.cli.settings import parse_with_settings, with_split_commas
from maskatlas.config import PRESETS, Config

_LOG = logging.getLogger(__name__)

_METHODS = (
    "contribution",
    "contribution-traced",
    "contribution-centred",
    "mask",
    "grad-cam",
    "random",
    "centre",
)  # the others take their time
_NEXT = """
The report is {report}: open it in a browser.

What to try next:
  maskatlas explain {run} photo.jpg --attributes Smiling    # your own image
  maskatlas evaluate {run} --explanations --json            # the numbers, for machines
  maskatlas data check DIR                                  # is your own dataset in order
  maskatlas train --data DIR --out runs/mine                # train on it"""


@dataclass(frozen=True, kw_only=True)
class Demo(Talk):
    """Render faces, train a network on them, draw its atlas, measure it, and write the report.

    The faces' regions are known, so that the report can say whether the explanations are true.
    Typed again, it goes on where it stopped.
    """

    out: Path = Path("runs/demo")
    """The run folder."""
    config: Path | None = None
    """A TOML file with settings."""
    settings: Annotated[Config, tyro.conf.arg(name="")] = field(
        default_factory=lambda: PRESETS["demo"]
    )

    def run(self) -> int:
        """Do it all, and say where the report is."""
        from maskatlas.interruption import Interrupted
        from maskatlas.report import write_report
        from maskatlas.training import train

        try:
            _LOG.info("1/4  rendering faces and training a network on them")
            train(with_split_commas(self.settings), self.out, resume=True)
        except Interrupted as interrupted:
            print(f"maskatlas demo: {interrupted}", file=sys.stderr)  # noqa: T201
            return interrupted.exit_code
        _LOG.info("2/4  drawing its atlas")
        device = self.settings.device
        Analyze(run_folder=self.out, device=device, quiet=self.quiet).run()
        _LOG.info("3/4  measuring it on faces that it has not seen")
        Evaluate(
            run_folder=self.out,
            device=device,
            quiet=self.quiet,
            split="test",
            explanations=True,
            subjects=("localization",),
            methods=_METHODS,
        ).run()
        _LOG.info("4/4  writing the report")
        report = write_report(self.out)
        print(_NEXT.format(report=report, run=shlex.quote(str(self.out))))  # noqa: T201
        return 0


def parse(words: Sequence[str], prog: str) -> Demo:
    """Parse the command line after the verb."""
    return parse_with_settings(Demo, words, prog, "demo")
