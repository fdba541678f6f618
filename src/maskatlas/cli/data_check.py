"""``maskatlas data check``."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro

from maskatlas.cli import Talk
from maskatlas.cli.settings import split_commas


@dataclass(frozen=True, kw_only=True)
class DataCheck(Talk):
    """Say what is in a dataset and what is wrong with it; exit 1 if something must be mended."""

    folder: Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="DIR")]
    """The dataset: a folder, or ``faces``."""
    exclude: Annotated[Path | None, tyro.conf.arg(aliases=["--data.exclude"])] = None
    """File that lists images to leave out."""
    ignore: Annotated[tuple[str, ...], tyro.conf.arg(aliases=["--data.ignore"])] = ()
    """Columns of a table that are no attributes, as A,B or A B."""
    limit: int | None = None
    """Look at most at so many images of each split."""
    strict: Annotated[bool, tyro.conf.FlagCreatePairsOff] = False
    """What stands in two splits is an error, not a warning."""
    json: Annotated[bool, tyro.conf.FlagCreatePairsOff] = False
    """Print one JSON object."""

    def run(self) -> int:
        """Check, print, and say by the exit code whether the data can be used."""
        from maskatlas.checking import check_dataset

        report = check_dataset(
            self.folder,
            exclude=self.exclude,
            ignore=split_commas(self.ignore),
            limit=self.limit,
            strict=self.strict,
            progress=not self.quiet,
        )
        print(json.dumps(report.to_mapping(), indent=2) if self.json else report.text())  # noqa: T201
        return int(report.failed)


def parse(words: Sequence[str], prog: str) -> DataCheck:
    """Parse the command line after the verb."""
    return tyro.cli(DataCheck, args=words, prog=prog)
