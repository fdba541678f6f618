"""``maskatlas predict``."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro

from maskatlas.cli.photos import check_photos, open_photos
from maskatlas.cli.runs import OnRun


@dataclass(frozen=True, kw_only=True)
class Predict(OnRun):
    """Print the scores of one's own images: probabilities, as CSV or JSON."""

    images: Annotated[tuple[Path, ...], tyro.conf.Positional, tyro.conf.arg(metavar="IMAGE ...")]
    """Image files."""
    json: Annotated[bool, tyro.conf.FlagCreatePairsOff] = False
    """Print one JSON object instead: image, attribute, probability."""

    def run(self) -> int:
        """Predict one image after another; exit 1 if one could not be read."""
        import torch

        from maskatlas.atlas_files import table_text

        check_photos(self.images)
        network = self.network().without_reconstructor()
        device = next(network.parameters()).device
        failed: list[Path] = []
        if not self.json:
            print(table_text([["image", *network.attributes]]), end="")  # noqa: T201
        result = {}
        for path, image in open_photos(self.images[: self.limit], failed):
            with torch.no_grad():
                scores = network(network.preprocess(image)[None].to(device)).scores
            probabilities = scores[0].sigmoid().tolist()
            if self.json:
                result[str(path)] = dict(zip(network.attributes, probabilities, strict=True))
            else:
                rounded = [round(value, 6) for value in probabilities]
                print(table_text([[str(path), *rounded]]), end="")  # noqa: T201
        if self.json:
            print(json.dumps(result, indent=2))  # noqa: T201
        return int(bool(failed))


def parse(words: Sequence[str], prog: str) -> Predict:
    """Parse the command line after the verb."""
    return tyro.cli(Predict, args=words, prog=prog)
