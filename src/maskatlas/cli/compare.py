"""``maskatlas compare``."""

import json
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any

import tyro

from maskatlas.cli import Talk
from maskatlas.cli.settings import parse_with_settings, split_commas, with_split_commas
from maskatlas.config import PRESETS, Config
from maskatlas.files import write_atomically


@dataclass(frozen=True, kw_only=True)
class Compare(Talk):
    """Train other systems on the same data, and judge all by the same measures.

    Each has its own folder in --out. Typed again, what is done is kept, what was stopped goes on.
    """

    out: Path = Path("runs/cmp")
    """Folder of the comparison."""
    systems: tuple[str, ...] = ()
    """Which, as A,B or A B; by default all that the data allows."""
    list: Annotated[bool, tyro.conf.FlagCreatePairsOff] = False
    """Name the systems, one a line, and do nothing else."""
    minutes: float | None = None
    """Training time for each system; else each takes the epochs that are configured."""
    split: str = "test"
    """What they are compared on; the validation images where the data has no such split."""
    weights: Path | None = None
    """Weights of a backbone, in safetensors."""
    json: Annotated[bool, tyro.conf.FlagCreatePairsOff] = False
    """Print the table as one JSON object."""
    config: Path | None = None
    """A TOML file with settings, such as the config.toml of a run."""
    settings: Annotated[Config, tyro.conf.arg(name="")] = field(
        default_factory=lambda: PRESETS["celeba-64"]
    )

    def run(self) -> int:
        """Compare, and print what came out."""
        from maskatlas.comparison import compare, systems
        from maskatlas.comparison.catalogue import VARIANTS
        from maskatlas.comparison.table import csv_text
        from maskatlas.interruption import Interrupted
        from maskatlas.report.comparison import write_comparison

        if self.list:
            print("\n".join(systems()))  # noqa: T201
            print(f"\nBeside these:\n{VARIANTS}", file=sys.stderr)  # noqa: T201
            return 0
        try:
            result = compare(
                with_split_commas(self.settings),
                self.out,
                names=split_commas(self.systems),
                minutes=self.minutes,
                split=self.split,
                weights=self.weights,
            )
        except Interrupted as interrupted:
            print(f"maskatlas compare: {interrupted}", file=sys.stderr)  # noqa: T201
            return interrupted.exit_code
        write_atomically(self.out / "comparison.csv", csv_text(result).encode())
        page = write_comparison(self.out)
        print(json.dumps(result, indent=2, allow_nan=False) if self.json else summary(result, page))  # noqa: T201
        return 0


def summary(result: dict[str, Any], page: Path) -> str:
    """Return a comparison in a few lines."""
    lines = [f"{result['data']}, split {result['split']}: {result['images']} images"]
    width = max((len(system["name"]) for system in result["systems"]), default=0)
    for system in result["systems"]:
        means = ", ".join(
            f"{metric.replace('_', ' ')} {_shown(figure)}"
            for metric, figure in system["mean"].items()
        )
        lines.append(f"{system['name']:{width}}  {means}")
    return "\n".join([*lines, str(page)])


def _shown(figure: dict[str, float | None]) -> str:
    if figure["value"] is None:
        return "-"
    if figure["low"] is None:
        return f"{figure['value']:.4f}"
    return f"{figure['value']:.4f} ({figure['low']:.4f} to {figure['high']:.4f})"


def parse(words: Sequence[str], prog: str) -> Compare:
    """Parse the command line after the verb."""
    return parse_with_settings(Compare, words, prog, "celeba-64")
