"""``maskatlas evaluate``."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Any

import tyro

from maskatlas.cli.runs import OnData, is_first_process, progress_wanted
from maskatlas.files import write_atomically


@dataclass(frozen=True, kw_only=True)
class Evaluate(OnData):
    """Is the network right, and do its explanations hold.

    Without --data it writes RUN/evaluation.json; with --data the run stays as it is.
    """

    explanations: Annotated[bool, tyro.conf.FlagCreatePairsOff] = False
    """Play the pointing game: do the maps point at what they speak of. Needs regions."""
    json: Annotated[bool, tyro.conf.FlagCreatePairsOff] = False
    """Print one JSON object."""

    def run(self) -> None:
        """Evaluate, and print what came out."""
        from maskatlas import distributed
        from maskatlas.evaluation import evaluate

        network = self.network()
        with distributed.process_group(next(network.parameters()).device):
            result = evaluate(
                network,
                self.dataset(),
                explanations=self.explanations,
                progress=progress_wanted(self),
            )
        if not is_first_process():
            return
        text = json.dumps(result, indent=2, allow_nan=False)
        if self.data is None:
            write_atomically(self.run_folder / "evaluation.json", f"{text}\n".encode())
        print(text if self.json else summary(result))  # noqa: T201


def summary(result: dict[str, Any]) -> str:
    """Return an evaluation in a few lines."""
    lines = [f"{result['data']}, split {result['split'] or 'all'}: {result['images']} images"]
    for name, title in (("subnetworks", "sub-networks"), ("multilabel", "multi-label classifier")):
        if result[name] is not None:
            means = ", ".join(
                f"{metric.replace('_', ' ')} {'-' if value is None else f'{value:.4f}'}"
                for metric, value in result[name]["mean"].items()
            )
            lines.append(f"{title}: {means}")
    if result["explanations"] is not None:
        game = result["explanations"]["pointing"]
        mean = "-" if game["mean"] is None else f"{game['mean']:.3f}"
        lines.append(
            f"pointing game, {game['method']} maps: {mean} over {len(game['attributes'])} "
            f"attributes (tolerance {game['tolerance_pixels']:.1f} pixels)"
        )
    return "\n".join(lines)


def parse(words: Sequence[str], prog: str) -> Evaluate:
    """Parse the command line after the verb."""
    return tyro.cli(Evaluate, args=words, prog=prog)
