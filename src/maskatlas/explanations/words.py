"""Channels in words: what each is called, and what that says of one image and its answers.

The analyses of Kuwajima et al. (2019), as far as they are known: which features contribute to one
inference (:class:`~maskatlas.explanations.photo.ImageExplanation`), what they are called
(:class:`ChannelWords`), and whether that agrees with input and answer (:func:`read_words`).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from jaxtyping import Float

from maskatlas.metrics import or_none

Kind = Literal["attribute", "part"]

SHARED = 0.5
"""Two concepts are about the same place if so much of the smaller region lies in the other."""


@dataclass(frozen=True, eq=False)
class ChannelWords:
    """What each channel of a network is called, measured over a dataset with regions."""

    concepts: tuple[str, ...]
    """Attributes and parts that have a region."""
    kinds: tuple[Kind, ...]
    """What each concept is; an attribute and a part may have one name."""
    iou: Float[np.ndarray, "channel concept"]
    """Intersection over union of where a channel is active and where the concept is."""
    thresholds: Float[np.ndarray, " channel"]
    """A channel is active where its feature is above this."""
    shared: Float[np.ndarray, "concept concept"]
    """Intersection of two concepts' regions over the smaller of them."""
    least_iou: float
    """A channel that covers no concept better than this has no name."""
    images: int
    """How many images it was measured on."""

    def best(self, channel: int) -> int | None:
        """Return the place of the concept that a channel is named after; None without a name."""
        if not self.concepts:
            return None
        place = int(self.iou[channel].argmax())
        return place if self.iou[channel, place] > self.least_iou else None

    def word(self, channel: int) -> str | None:
        """Return what a channel is called; None if it covers nothing that has a name."""
        place = self.best(channel)
        return None if place is None else self.concepts[place]

    def looks_where(self, place: int, attribute: str) -> bool | None:
        """Return whether a concept is about the place of an attribute; None if that has no region.

        Args:
            place: Of the concept.
            attribute: A name.
        """
        named = zip(self.concepts, self.kinds, strict=True)
        rows = [row for row, found in enumerate(named) if found == (attribute, "attribute")]
        return bool(self.shared[place, rows[0]] >= SHARED) if rows else None

    def to_json(self) -> dict[str, Any]:
        """Return it as :meth:`from_json` reads it."""
        return {
            "concepts": list(self.concepts),
            "kinds": list(self.kinds),
            "iou": self.iou.tolist(),
            "thresholds": self.thresholds.tolist(),
            "shared": self.shared.tolist(),
            "least_iou": self.least_iou,
            "images": self.images,
        }

    @classmethod
    def from_json(cls, found: Mapping[str, Any]) -> "ChannelWords":
        """Read what :meth:`to_json` returned.

        Raises:
            KeyError, TypeError, ValueError: It is something else.
        """
        concepts = tuple(str(name) for name in found["concepts"])
        thresholds = np.asarray(found["thresholds"], np.float64)
        words = cls(
            concepts=concepts,
            kinds=tuple(found["kinds"]),
            iou=np.asarray(found["iou"], np.float64),
            thresholds=thresholds,
            shared=np.asarray(found["shared"], np.float64),
            least_iou=float(found["least_iou"]),
            images=int(found["images"]),
        )
        count = len(concepts)
        shapes = words.iou.shape, words.shared.shape, len(words.kinds)
        if shapes != ((len(thresholds), count), (count, count), count):
            raise ValueError(f"words of {count} concepts do not fit arrays of {shapes}")
        return words


@dataclass(frozen=True)
class SpokenChannel:
    """A channel that contributes to one answer, in words."""

    channel: int
    contribution: float
    """What it adds to the logit."""
    word: str | None
    """What it is called; None if it covers nothing that has a name."""
    iou: float | None
    """How well it covers that, over the dataset."""
    active: bool
    """Whether it is above its threshold anywhere in this image."""
    agrees_with_input: bool | None
    """Active where the network sees what it is called after, silent where not; None for parts,
    of which the network says nothing."""
    agrees_with_answer: bool | None
    """Whether what it is called after lies where the attribute lies; None without regions."""

    def to_json(self) -> dict[str, Any]:
        """Return it as ``explain --words`` writes it."""
        return {
            "channel": self.channel,
            "contribution": self.contribution,
            "word": self.word,
            "iou": self.iou,
            "active": self.active,
            "agrees_with_input": self.agrees_with_input,
            "agrees_with_answer": self.agrees_with_answer,
        }


@dataclass(frozen=True)
class SpokenAnswer:
    """Why an attribute was answered as it was, in words."""

    channels: tuple[SpokenChannel, ...]
    """The strongest first."""

    @property
    def names(self) -> tuple[str | None, ...]:
        """What the channels are called."""
        return tuple(channel.word for channel in self.channels)

    @property
    def with_input(self) -> float:
        """Share of what the channels contribute that agrees with the input; NaN if none can."""
        return self._share([channel.agrees_with_input for channel in self.channels])

    @property
    def with_answer(self) -> float:
        """Share of what the channels contribute that agrees with the answer; NaN if none can."""
        return self._share([channel.agrees_with_answer for channel in self.channels])

    def _share(self, agreement: Sequence[bool | None]) -> float:
        weights = np.abs([channel.contribution for channel in self.channels])
        said = np.array([found is not None for found in agreement])
        total = float(weights[said].sum())
        return (
            float(weights[[bool(found) for found in agreement]].sum()) / total if total else np.nan
        )

    def to_json(self) -> dict[str, Any]:
        """Return it as ``explain --words`` writes it."""
        return {
            "channels": [channel.to_json() for channel in self.channels],
            "with_input": or_none(self.with_input),
            "with_answer": or_none(self.with_answer),
        }


def read_words(
    words: ChannelWords,
    attribute: str,
    contributions: Mapping[int, float],
    highest: Float[np.ndarray, " channel"],
    scores: Mapping[str, float],
) -> SpokenAnswer:
    """Put the channels that contribute to one answer in words.

    Args:
        words: What channels are called.
        attribute: The one that was answered.
        contributions: What channels add to its logit, the strongest first.
        highest: Each channel's highest feature in this image.
        scores: Probability of each attribute that the network knows.
    """
    spoken = []
    for channel, contribution in contributions.items():
        place = words.best(channel)
        active = bool(highest[channel] > words.thresholds[channel])
        with_input = with_answer = None
        if place is not None:
            with_answer = words.looks_where(place, attribute)
            if words.kinds[place] == "attribute" and words.concepts[place] in scores:
                with_input = active == (scores[words.concepts[place]] >= 0.5)
        spoken.append(
            SpokenChannel(
                channel=channel,
                contribution=contribution,
                word=None if place is None else words.concepts[place],
                iou=None if place is None else float(words.iou[channel, place]),
                active=active,
                agrees_with_input=with_input,
                agrees_with_answer=with_answer,
            )
        )
    return SpokenAnswer(tuple(spoken))
