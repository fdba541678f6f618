"""``maskatlas evaluate``."""

import json
import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import tyro

from maskatlas.cli.explain import named_attributes
from maskatlas.cli.judged import judged_in_words, number, with_bounds
from maskatlas.cli.runs import OnData, is_first_process, network_of, progress_wanted
from maskatlas.cli.settings import split_commas
from maskatlas.errors import ConfigError
from maskatlas.files import write_atomically

if TYPE_CHECKING:
    from maskatlas.evaluation import ExplanationEvaluation

_LOG = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class Evaluate(OnData):
    """Is the network right, and do its explanations hold.

    Without --data it writes RUN/evaluation.json; with --data the run stays as it is.
    """

    explanations: Annotated[bool, tyro.conf.FlagCreatePairsOff] = False
    """Judge the maps too: do they point at what they speak of (where regions are known), are they
    faithful, specific, sane, stable, simple. Takes minutes; --subjects chooses."""
    subjects: Annotated[tuple[str, ...], tyro.conf.UseAppendAction] = ()
    """Judge the maps on these subjects only, as A,B (localization, faithfulness, ...)."""
    methods: Annotated[tuple[str, ...], tyro.conf.UseAppendAction] = ()
    """Only the maps of these methods, as A,B, compared with the first; `all` for every one. By
    default all but those that take long (integrated-gradients)."""
    attributes: Annotated[tuple[str, ...], tyro.conf.UseAppendAction] = ()
    """Judge the maps of these attributes only, as A,B."""
    other: Annotated[tuple[Path, ...], tyro.conf.UseAppendAction] = ()
    """A run of another seed, and again for more: are channels, their importance and maps the same?
    Subject seed_agreement."""
    json: Annotated[bool, tyro.conf.FlagCreatePairsOff] = False
    """Print one JSON object."""

    def __post_init__(self) -> None:
        super().__post_init__()
        about_maps = self.methods or self.attributes or self.subjects or self.other
        if about_maps and not self.explanations:
            raise ConfigError(
                "--methods, --attributes, --subjects, --other: expected --explanations with them, "
                "as they say which maps are judged, and on what"
            )

    def run(self) -> None:
        """Evaluate, and print what came out."""
        from maskatlas import distributed
        from maskatlas.evaluation import evaluate, evaluate_explanations

        network, progress = self.network(), progress_wanted(self)
        others = {str(run): network_of(run, self.device) for run in self.other}
        with distributed.process_group(next(network.parameters()).device):
            data, judged = self.dataset(), None
            if self.explanations:
                judged = evaluate_explanations(
                    network,
                    data,
                    methods=split_commas(self.methods) or None,
                    attributes=named_attributes(self.attributes, network.attributes) or None,
                    subjects=split_commas(self.subjects) or None,
                    others=others,
                    seed=self.seed,
                    progress=progress,
                )
            result = evaluate(network, data, explanations=judged, progress=progress)
        if not is_first_process():
            return
        text = json.dumps(result, indent=2, allow_nan=False)
        if self.data is None:
            self._write(text, judged)
        print(text if self.json else summary(result))  # noqa: T201

    def _write(self, text: str, judged: "ExplanationEvaluation | None") -> None:
        from maskatlas.cases import FILE, save_cases

        file = self.run_folder / "evaluation.json"
        if judged is None and _judges_maps(file):
            _LOG.warning(
                "%s: what it said of explanations is replaced by nothing, as they were not judged "
                "this time; --explanations judges them",
                file,
            )
        if judged is not None and judged.cases:
            save_cases(self.run_folder / FILE, judged.cases)
        else:  # what is there was of an earlier evaluation
            (self.run_folder / FILE).unlink(missing_ok=True)
        write_atomically(file, f"{text}\n".encode())


def _judges_maps(file: Path) -> bool:
    """Return whether an evaluation that was written earlier says something of explanations."""
    try:
        return json.loads(file.read_text(encoding="utf-8"))["explanations"] is not None
    except (OSError, ValueError, KeyError, TypeError):
        return False  # not there, or something else


def summary(result: dict[str, Any]) -> str:
    """Return an evaluation in a few lines."""
    lines = [f"{result['data']}, split {result['split'] or 'all'}: {result['images']} images"]
    for name, title in (("subnetworks", "sub-networks"), ("multilabel", "multi-label classifier")):
        if result[name] is not None:
            means = ", ".join(
                f"{metric.replace('_', ' ')} {number(value, 4)}"
                for metric, value in result[name]["mean"].items()
            )
            lines.append(f"{title}: {means}")
    if result["explanations"] is not None:
        lines += _where_maps_point(result["explanations"])
        lines += judged_in_words(result["explanations"])
    return "\n".join(lines)


def _where_maps_point(explanations: dict[str, Any]) -> list[str]:
    """Return the pointing game in a line, then every measure of every method, where judged."""
    game, where = explanations.get("pointing"), explanations.get("localization")
    if game is None or where is None:
        return []
    lines = [
        f"pointing game, {game['method']} maps: {number(game['mean'])} over "
        f"{len(game['attributes'])} attributes (tolerance {game['tolerance_pixels']:.1f} pixels)"
    ]
    for method, measures in where["methods"].items():
        told = ", ".join(
            f"{name.replace('_', ' ')} {with_bounds(found)}" for name, found in measures.items()
        )
        lines.append(f"  {method}: {told}")
    return lines


def parse(words: Sequence[str], prog: str) -> Evaluate:
    """Parse the command line after the verb."""
    return tyro.cli(Evaluate, args=words, prog=prog)
