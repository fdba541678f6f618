"""``maskatlas report``."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro

from maskatlas.cli import Talk


@dataclass(frozen=True, kw_only=True)
class Report(Talk):
    """Write one self-contained report.html of a run, from what its folder holds."""

    run_folder: Annotated[Path, tyro.conf.Positional, tyro.conf.arg(name="run", metavar="RUN")]
    """The run folder."""

    def run(self) -> None:
        """Write it, and say where it is."""
        from maskatlas.report import write_report

        print(write_report(self.run_folder))  # noqa: T201


def parse(words: Sequence[str], prog: str) -> Report:
    """Parse the command line after the verb."""
    return tyro.cli(Report, args=words, prog=prog)
