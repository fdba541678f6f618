"""``maskatlas bench``."""

import json
import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import tyro

from maskatlas.bench import settings as bench
from maskatlas.cli import Talk
from maskatlas.files import write_atomically
from maskatlas.schema import to_mapping

if TYPE_CHECKING:
    from maskatlas.bench.growth import Growth
    from maskatlas.bench.results import Case

_LOG = logging.getLogger(__name__)

_DESCRIPTION = """\
Measure speed and memory on this machine, beside what one would write by hand.

All that is compared runs in turn. `maskatlas bench heads --help` lists the options of a subject;
every subject has --repeats, --threads, --out, --json and --verbose."""


@dataclass(frozen=True, kw_only=True)
class Subject(Talk):
    """One thing to measure."""

    out: Path | None = None
    """Folder that gets the numbers as JSON, and figures beside them."""
    json: Annotated[bool, tyro.conf.FlagCreatePairsOff] = False
    """Print one JSON object instead of tables."""
    settings: Any = None

    @property
    def name(self) -> str:
        """As on the command line."""
        return type(self).__name__.lower()

    def cases(self) -> Iterator["Case"]:
        """Measure, one case after another."""
        raise NotImplementedError

    def growth(self) -> list["Growth"]:
        """Measure how time grows, where the subject does."""
        return []

    def run(self) -> int:
        """Measure, print what came out as it comes; exit 1 if results of ours are wrong."""
        from maskatlas.bench.machine import Machine
        from maskatlas.bench.measuring import threads
        from maskatlas.devices import choose_device

        if self.out is not None:  # that it can be written is seen before anything is measured
            self.out.mkdir(parents=True, exist_ok=True)
        with threads(self.settings.threads):
            machine = Machine.at_hand(choose_device(getattr(self.settings, "device", "cpu")))
            self._print(machine.text())
            cases = []
            for case in self.cases():
                self._print(f"\n{case.text()}")
                cases.append(case)
            growths = self.growth()
        if growths:
            self._print("\n" + "\n".join(growth.text() for growth in growths))
        result = {
            "subject": self.name,
            "machine": machine.to_json(),
            "settings": to_mapping(self.settings),
            "cases": [case.to_json() for case in cases],
            "growth": [growth.to_json() for growth in growths],
        }
        wrong = [row for case in cases for row in case.rows if row.agrees is False]
        for row in wrong:
            _LOG.error(
                "%s: its results differ from the truth by %.1e, expected at most %.0e; please "
                "report this with the output above",
                *(row.form.name, row.form.largest_error, row.form.tolerance),
            )
        self._save(result, growths)
        return int(bool(wrong))

    def _print(self, text: str) -> None:
        if not self.json:
            print(text, flush=True)  # noqa: T201

    def _save(self, result: dict[str, Any], growths: list["Growth"]) -> None:
        text = json.dumps(result, indent=2, allow_nan=False)
        if self.json:
            print(text)  # noqa: T201
        if self.out is None:
            return
        write_atomically(self.out / f"{self.name}.json", f"{text}\n".encode())
        if growths:
            from maskatlas.figures import encoded, growth_chart

            figure = growth_chart({growth.axis: growth.points() for growth in growths})
            write_atomically(self.out / f"{self.name}.png", encoded(figure, "png"))
        _LOG.info("%s", self.out / f"{self.name}.json")


@dataclass(frozen=True, kw_only=True)
class Heads(Subject):
    """Masked pooling, forward and backward, beside a loop, one convolution, and that compiled."""

    settings: Annotated[bench.Heads, tyro.conf.arg(name="")] = field(default_factory=bench.Heads)

    def cases(self) -> Iterator["Case"]:
        """Measure every number of attributes at every size."""
        from maskatlas.bench.heads import cases

        return cases(self.settings)

    def growth(self) -> list["Growth"]:
        """Measure how time grows with attributes, images and positions."""
        from maskatlas.bench.growth import growth

        return [*growth(self.settings)] if self.settings.growth else []


@dataclass(frozen=True, kw_only=True)
class Train(Subject):
    """Whole training steps, beside a plain multi-label network and a loop over attributes."""

    settings: Annotated[bench.Train, tyro.conf.arg(name="")] = field(default_factory=bench.Train)

    def cases(self) -> Iterator["Case"]:
        """Measure every size of images."""
        from maskatlas.bench.train import cases

        return cases(self.settings)


@dataclass(frozen=True, kw_only=True)
class Explain(Subject):
    """All masks and contributions of an image, beside torchcam and Captum where installed."""

    settings: Annotated[bench.Explain, tyro.conf.arg(name="")] = field(
        default_factory=bench.Explain
    )

    def cases(self) -> Iterator["Case"]:
        """Measure one network."""
        from maskatlas.bench.explain import cases

        return cases(self.settings)


@dataclass(frozen=True, kw_only=True)
class Analyze(Subject):
    """The pass that draws an atlas, beside prediction alone; its memory; what channels cause."""

    settings: Annotated[bench.Analyze, tyro.conf.arg(name="")] = field(
        default_factory=bench.Analyze
    )

    def cases(self) -> Iterator["Case"]:
        """Measure speed, memory, and the causal reading."""
        from maskatlas.bench.analyze import cases

        return cases(self.settings)


@dataclass(frozen=True, kw_only=True)
class Data(Subject):
    """Loading of images from the cache, beside Pillow in a DataLoader."""

    settings: Annotated[bench.Data, tyro.conf.arg(name="")] = field(default_factory=bench.Data)

    def cases(self) -> Iterator["Case"]:
        """Measure the filling of the cache, then epochs."""
        from maskatlas.bench.data import cases

        return cases(self.settings)


_Subjects = (
    Annotated[Heads, tyro.conf.subcommand("heads")]
    | Annotated[Train, tyro.conf.subcommand("train")]
    | Annotated[Explain, tyro.conf.subcommand("explain")]
    | Annotated[Analyze, tyro.conf.subcommand("analyze")]
    | Annotated[Data, tyro.conf.subcommand("data")]
)


def parse(words: Sequence[str], prog: str) -> Subject:
    """Parse the command line after the verb."""
    return tyro.cli(_Subjects, args=words, prog=prog, description=_DESCRIPTION)
