"""``maskatlas explain``."""

import json
import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import tyro

from maskatlas.cli.photos import check_photos, open_photos
from maskatlas.cli.runs import OnRun
from maskatlas.cli.settings import split_commas
from maskatlas.cli.words import answer_in_words, channel_words
from maskatlas.errors import ConfigError
from maskatlas.files import write_atomically

if TYPE_CHECKING:
    from maskatlas.explanations import ImageExplanation

_MOST_BYTES = 120
_LOG = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class Explain(OnRun):
    """Explain one's own images: a picture and the numbers of each.

    Writes RUN/explanations/NAME.png and NAME.json: attributes by score, the channels that speak
    for and against them most, their masks, and where in the image the evidence is. Of a network
    without sub-networks there are no channels and no masks to tell of.
    """

    images: Annotated[tuple[Path, ...], tyro.conf.Positional, tyro.conf.arg(metavar="IMAGE ...")]
    """Image files."""
    attributes: Annotated[tuple[str, ...], tyro.conf.UseAppendAction] = ()
    """Only these, as A,B; the picture then shows each of them."""
    top: int = 3
    """Channels of each attribute."""
    method: str = "contribution"
    """Which map shows where the evidence is: `contribution` adds up to the answer,
    `contribution-traced` points best on real faces; docs/evaluation.md has the others."""
    words: Annotated[bool, tyro.conf.FlagCreatePairsOff] = False
    """Say what these channels are called, each after the attribute or part whose region it covers
    best, and whether that agrees with the image and the answer. Needs regions."""
    words_data: str | None = None
    """Dataset with regions that channels are named on; by default the run's validation images."""
    out: Path | None = None
    """Another folder for the pictures and numbers."""
    json: Annotated[bool, tyro.conf.FlagCreatePairsOff] = False
    """Print the numbers of all images as one JSON list."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.top < 1:
            raise ConfigError(
                f"--top: expected at least 1 channel of each attribute, found {self.top}"
            )
        if self.words_data is not None and not self.words:
            raise ConfigError(
                "--words-data: expected --words with it, as it says on what channels are named"
            )

    def run(self) -> int:
        """Explain one image after another; exit 1 if one could not be read."""
        from maskatlas.explanations import caveat, check_speakable, explain_image, explainer_of

        check_photos(self.images)
        network = self.network()
        explainer_of(network, self.method)  # so that nothing is measured for a method that is not
        if (told := caveat(network, self.method)) is not None:
            _LOG.warning(told)
        if self.words:
            check_speakable(network)
        names = named_attributes(self.attributes, network.attributes) or None
        words = channel_words(self, network, self.words_data) if self.words else None
        folder = self.run_folder / "explanations" if self.out is None else self.out
        failed: list[Path] = []
        results = []
        taken: set[str] = set()
        for path, image in open_photos(self.images[: self.limit], failed):
            explanation = explain_image(
                network,
                image,
                str(path),
                attributes=names,
                top=self.top,
                method=self.method,
                words=words,
            )
            stem = free_name(file_name(path.stem), taken)
            results.append(explanation.to_json())
            self._write(explanation, folder / f"{stem}.png", folder / f"{stem}.json")
        if self.json:
            print(json.dumps(results, indent=2))  # noqa: T201
        return int(bool(failed))

    def _write(self, explanation: "ImageExplanation", picture: Path, numbers: Path) -> None:
        from maskatlas.figures import encoded, explain_picture

        figure = explain_picture(
            explanation.image,
            explanation.attributes,
            explanation.scores,
            evidence=explanation.evidence,
            method=explanation.method,
            signed=explanation.signed,
            channels=explanation.channels,
            masks=explanation.masks,
            words=[answer.names for answer in explanation.words or ()],
            details=len(explanation.attributes) if self.attributes else 4,
        )
        write_atomically(picture, encoded(figure, "png"))
        write_atomically(numbers, f"{json.dumps(explanation.to_json(), indent=2)}\n".encode())
        if self.json:
            return
        print(picture)  # noqa: T201
        for row, answer in enumerate(explanation.words or ()):
            attribute, score = explanation.attributes[row], float(explanation.scores[row])
            print(answer_in_words(attribute, score, answer))  # noqa: T201


def named_attributes(words: Sequence[str], known: Sequence[str]) -> tuple[str, ...]:
    """Return the names that were asked for; only what is no name itself is split at its commas."""
    return tuple(
        name for word in words for name in ([word] if word in known else split_commas([word]))
    )


def file_name(stem: str) -> str:
    """Return the stem without control characters, and short enough for an ending behind it."""
    plain = "".join(letter if letter.isprintable() else "_" for letter in stem)
    return plain.encode()[:_MOST_BYTES].decode(errors="ignore")


def free_name(stem: str, taken: set[str]) -> str:
    """Return the stem, with a number behind it if images of two folders share it; note it."""
    name, number = stem, 2
    while name in taken:
        name, number = f"{stem}-{number}", number + 1
    taken.add(name)
    return name


def parse(words: Sequence[str], prog: str) -> Explain:
    """Parse the command line after the verb."""
    return tyro.cli(Explain, args=words, prog=prog)
