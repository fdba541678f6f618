"""The atlas: what the masks of a network say about its channels and attributes, as pure functions.

An :class:`Atlas` is a frozen record. It is made by one pass over a dataset, and from then on it can
be saved, loaded, compared and drawn without the network that it describes.
"""

import difflib
from collections.abc import Sequence
from dataclasses import dataclass, fields
from pathlib import Path

import numpy as np
from jaxtyping import Float, Int, UInt8

from maskatlas import atlas_files, atlas_tables, clustering, pairs
from maskatlas.confidence import Confidence
from maskatlas.errors import MaskatlasError
from maskatlas.importance import (
    Finding,
    RankedChannel,
    Reading,
    Readings,
    SharedChannels,
    agreement,
    findings,
    shared,
    top,
)
from maskatlas.pairs import AttributePair, ChannelPair
from maskatlas.published import TABLE_2, Table2Row, plain_name
from maskatlas.statistics import MaskSummary


@dataclass(frozen=True, eq=False)
class Examples:
    """A few images with their scores, masks and contributions, for the pictures of the atlas."""

    names: tuple[str, ...]
    """Names of the images."""
    images: UInt8[np.ndarray, "example size size 3"]
    """The images as the network saw them, RGB."""
    scores: Float[np.ndarray, "example attribute"]
    """Probability of each attribute."""
    labels: Float[np.ndarray, "example attribute"]
    """Labels: 0, 1, or NaN where unknown."""
    channels: Int[np.ndarray, "attribute top"]
    """Ids of each attribute's most important channels, best first."""
    masks: Float[np.ndarray, "example attribute top height width"]
    """Masks of those channels, 0 to 1."""
    contributions: Float[np.ndarray, "example attribute height width"]
    """Contributions to the logit, signed, summed over all channels; in logits per position."""


@dataclass(frozen=True, slots=True)
class GroupRecurrence:
    """A group of attributes, and how often it comes again elsewhere; NaN where nothing is known."""

    attributes: tuple[str, ...]
    again: float
    """Share of the others (halves, seeds) that have the very same group."""
    overlap: float
    """Mean over the others of the best Jaccard index of one of their groups with this one."""


@dataclass(frozen=True, eq=False)
class Atlas:
    """Which channel serves which attribute, where it looks, and what belongs together."""

    attributes: tuple[str, ...]
    """Names of the K attributes: data, never to be trusted as file names or markup."""
    images: int
    """Number of images that the means run over."""
    mask_mean: Float[np.ndarray, "attribute channel"]
    """Mean of each mask over images and positions (figure 1)."""
    mask_deviation: Float[np.ndarray, "attribute channel"]
    """Standard deviation over images of each mask's mean over positions."""
    contribution_mean: Float[np.ndarray, "attribute channel"]
    """Mean contribution to the logit, signed."""
    contribution_magnitude: Float[np.ndarray, "attribute channel"]
    """Mean absolute contribution to the logit."""
    contribution_deviation: Float[np.ndarray, "attribute channel"]
    """Standard deviation over images of the contribution to the logit."""
    channel_correlation: Float[np.ndarray, "channel channel"]
    """Correlation of channels, over all pairs of an image and an attribute (figure 4)."""
    channel_correlation_centred: Float[np.ndarray, "channel channel"]
    """The same after each pair's mean over channels is taken away."""
    attribute_correlation: Float[np.ndarray, "attribute attribute"]
    """Correlation of attributes, over all pairs of an image and a channel (table 2)."""
    attribute_correlation_centred: Float[np.ndarray, "attribute attribute"]
    """The same after each pair's mean over attributes is taken away."""
    label_correlation: Float[np.ndarray, "attribute attribute"]
    """Correlation of the labels, over the images where both are known."""
    confidence: Confidence | None = None
    """Intervals and p-values; None where they were not measured."""
    importance_drop: Float[np.ndarray, "attribute channel"] | None = None
    """Drop in AUROC when the channel is set to its mean; None where it was not measured."""
    examples: Examples | None = None
    """A few images to draw, or None."""
    source: str = ""
    """In words, which images these are, such as ``celeba, val``."""

    @classmethod
    def from_summary(
        cls,
        attributes: Sequence[str],
        summary: MaskSummary,
        *,
        confidence: Confidence | None = None,
        importance_drop: Float[np.ndarray, "attribute channel"] | None = None,
        examples: Examples | None = None,
        source: str = "",
    ) -> "Atlas":
        """Make an atlas of what the statistics came to."""
        return cls(
            attributes=tuple(attributes),
            confidence=confidence,
            importance_drop=importance_drop,
            examples=examples,
            source=source,
            **vars(summary),
        )

    @property
    def channels(self) -> int:
        """C, the number of channels."""
        return int(self.mask_mean.shape[1])

    @property
    def readings(self) -> Readings:
        """The readings of a channel's importance, by name; ``drop`` only where it was measured."""
        readings: dict[Reading, np.ndarray] = {
            "mask": self.mask_mean,
            "contribution": self.contribution_magnitude,
        }
        if self.importance_drop is not None:
            readings["drop"] = self.importance_drop
        return readings

    def index(self, attribute: str) -> int:
        """Return the row of an attribute.

        Raises:
            MaskatlasError: The atlas does not know it; the message has the nearest names.
        """
        if attribute not in self.attributes:
            near = difflib.get_close_matches(attribute, self.attributes, n=3, cutoff=0.4)
            raise MaskatlasError(
                f"attribute {attribute!r}: the atlas does not know it; "
                f"it has {', '.join(near or self.attributes)}"
            )
        return self.attributes.index(attribute)

    def importance(self, by: Reading) -> Float[np.ndarray, "attribute channel"]:
        """Return one reading of the importance of each channel for each attribute.

        Raises:
            MaskatlasError: There is no such reading, or it was not measured.
        """
        if by not in self.readings:
            raise MaskatlasError(
                f"importance by {by!r}: expected one of {', '.join(self.readings)}"
                + ("; the atlas was made without `drop`" if by == "drop" else "")
            )
        return self.readings[by]

    def top_channels(self, attribute: str, n: int = 3, by: Reading = "mask") -> tuple[int, ...]:
        """Return the ids of the most important channels, best first; the lower id of equals."""
        return top(self.importance(by)[self.index(attribute)], n)

    def ranked_channels(
        self, attribute: str, n: int = 3, by: Reading = "mask"
    ) -> tuple[RankedChannel, ...]:
        """Return the most important channels with the intervals of their importance and place.

        Without confidence, and by the drop, the intervals are NaN.
        """
        row = self.index(attribute)
        values = self.importance(by)[row]
        bounds = np.full((4, self.channels), np.nan)
        if self.confidence is not None and by != "drop":
            value, rank = (
                (self.confidence.mask_mean_interval, self.confidence.mask_rank_interval)
                if by == "mask"
                else (
                    self.confidence.contribution_magnitude_interval,
                    self.confidence.contribution_rank_interval,
                )
            )
            bounds = np.concatenate([value[:, row], rank[:, row]])
        return tuple(
            RankedChannel(channel, *map(float, (values[channel], *bounds[:, channel])))
            for channel in top(values, n)
        )

    def shared_channels(self, a: str, b: str, n: int = 10, by: Reading = "mask") -> SharedChannels:
        """Return which of the n most important channels of two attributes both use, or only one."""
        return shared(self.top_channels(a, n, by), self.top_channels(b, n, by))

    def correlated_channels(
        self, channel: int, n: int = 5, *, centred: bool = False
    ) -> tuple[tuple[int, float], ...]:
        """Return the ids and correlations of the channels most correlated with one (table 1).

        Raises:
            MaskatlasError: There is no such channel.
        """
        if not 0 <= channel < self.channels:
            raise MaskatlasError(f"channel {channel}: expected an id from 0 to {self.channels - 1}")
        table = self.channel_correlation_centred if centred else self.channel_correlation
        return _others(table[channel], channel, n)

    def correlated_attributes(
        self, attribute: str, n: int = 5, *, centred: bool = False
    ) -> tuple[tuple[str, float], ...]:
        """Return names and correlations of the attributes most correlated with one (table 2)."""
        row = self.index(attribute)
        others = _others(self._between_attributes(centred)[row], row, n)
        return tuple((self.attributes[other], value) for other, value in others)

    def _between_attributes(self, centred: bool) -> Float[np.ndarray, "attribute attribute"]:
        return self.attribute_correlation_centred if centred else self.attribute_correlation

    def attribute_pairs(self, *, centred: bool = False) -> tuple[AttributePair, ...]:
        """Return all pairs of attributes, the most alike by their masks first, and why they are.

        Without confidence only the correlations by masks and by labels are known.
        """
        return pairs.attribute_pairs(
            self.attributes,
            self._between_attributes(centred),
            self.label_correlation,
            self.confidence,
            centred=centred,
        )

    def suspected_shortcuts(self) -> tuple[AttributePair, ...]:
        """Return the pairs whose labels go together and whose scores do beyond them, worst first.

        Empty without confidence.
        """
        found = [pair for pair in self.attribute_pairs() if pair.why == "both"]
        return tuple(sorted(found, key=lambda pair: -abs(pair.following.value)))

    def channel_pairs(self, *, centred: bool = False) -> tuple[ChannelPair, ...]:
        """Return all pairs of channels, the most alike by their masks first."""
        table = self.channel_correlation_centred if centred else self.channel_correlation
        return pairs.channel_pairs(table, self.confidence, centred=centred)

    def paper_table2(self, n: int = 5) -> tuple[Table2Row, ...]:
        """Return the paper's rows of table 2 beside ours, for the attributes that are here."""
        ours = {plain_name(name): name for name in self.attributes}
        return tuple(
            Table2Row(
                attribute=ours[plain_name(name)],
                paper=printed,
                known=sum(plain_name(other) in ours for other in printed),
                plain=self.correlated_attributes(ours[plain_name(name)], n),
                centred=self.correlated_attributes(ours[plain_name(name)], n, centred=True),
            )
            for name, printed in TABLE_2.items()
            if plain_name(name) in ours
        )

    def linkage(self, *, centred: bool = False) -> clustering.Linkage:
        """Return the merges of attributes, as scipy's dendrograms take them."""
        return clustering.linkage(self._between_attributes(centred))

    def groups(
        self,
        count: int | None = None,
        threshold: float | None = None,
        *,
        centred: bool = False,
    ) -> tuple[tuple[str, ...], ...]:
        """Return groups of attributes whose masks are alike, in the order of the dendrogram.

        Args:
            count: Number of groups.
            threshold: Merge as long as two groups correlate by at least this on average. With
                neither, the cut is the one of :func:`maskatlas.clustering.natural_count`.
            centred: Take the centred correlation.

        Raises:
            MaskatlasError: Both are given, or there cannot be so many groups.
        """
        table = self._between_attributes(centred)
        groups = clustering.cut(clustering.linkage(table), table, count=count, threshold=threshold)
        return tuple(tuple(self.attributes[item] for item in group) for group in groups)

    def group_recurrence(
        self, count: int | None = None, threshold: float | None = None, *, centred: bool = False
    ) -> tuple[GroupRecurrence, ...]:
        """Return the groups, and how often they come again across halves of the images.

        Each half is cut into as many groups as there are. NaN where halves were not measured.

        Args:
            count: As for :meth:`groups`.
            threshold: As for :meth:`groups`.
            centred: Take the centred correlation.
        """
        groups = self.groups(count, threshold, centred=centred)
        halves: Sequence[np.ndarray] = ()
        if self.confidence is not None:
            kind = "_centred" if centred else ""
            halves = [*getattr(self.confidence, f"attribute_correlation{kind}_halves")]
        return _recurrence(self.attributes, groups, halves)

    def group_recurrence_in(
        self, others: Sequence["Atlas"], count: int | None = None, *, centred: bool = False
    ) -> tuple[GroupRecurrence, ...]:
        """Return the groups, and how often they come again in other atlases, say of other seeds.

        Args:
            others: Atlases of the same attributes, in any order.
            count: Number of groups in all; None takes this atlas's own.
            centred: Take the centred correlation.

        Raises:
            MaskatlasError: Another has other attributes.
        """
        tables = []
        for other in others:
            if {*other.attributes} != {*self.attributes}:
                different = sorted({*other.attributes} ^ {*self.attributes})
                raise MaskatlasError(
                    f"groups: expected atlases of the same attributes, found {different[0]!r} in "
                    "only one of them; analyze runs that were trained on the same"
                )
            place = [other.index(name) for name in self.attributes]
            tables.append(other._between_attributes(centred)[np.ix_(place, place)])
        return _recurrence(self.attributes, self.groups(count, centred=centred), tables)

    def importance_agreement(self) -> dict[str, Float[np.ndarray, " attribute"]]:
        """Return Spearman's correlation of every two readings, by names such as ``mask-drop``."""
        return agreement(self.readings)

    def findings(self, n: int = 3) -> tuple[Finding, ...]:
        """Return where masks are out, or disagree with what the network does; in words, too."""
        return findings(self.attributes, self.readings, n=n)

    def save(self, directory: Path | str) -> None:
        """Write ``atlas.safetensors``, ``atlas.json`` and the CSV tables, each in one move.

        Args:
            directory: Folder to write into; made if it is not there.
        """
        atlas_files.write(Path(directory), self._description(), self._tensors(), _tables(self))

    def _description(self) -> atlas_files.Description:
        return atlas_files.Description(
            attributes=self.attributes,
            draws=None if self.confidence is None else self.confidence.draws,
            channels=self.channels,
            images=self.images,
            source=self.source,
            examples=None if self.examples is None else self.examples.names,
        )

    def _tensors(self) -> dict[str, np.ndarray]:
        tensors = _arrays(self)
        if self.confidence is not None:
            tensors |= {f"confidence.{name}": a for name, a in _arrays(self.confidence).items()}
        if self.examples is not None:
            tensors |= {f"examples.{name}": a for name, a in _arrays(self.examples).items()}
        return tensors

    @classmethod
    def load(cls, directory: Path | str) -> "Atlas":
        """Read what :meth:`save` wrote.

        Raises:
            RunError: The folder holds no atlas, or one that is damaged or does not fit together.
        """
        description, tensors = atlas_files.read(Path(directory))
        inner = {
            part: {
                name.removeprefix(part): tensor
                for name, tensor in tensors.items()
                if name.startswith(part)
            }
            for part in ("examples.", "confidence.")
        }
        names, draws = description.examples, description.draws
        return cls(
            attributes=description.attributes,
            images=description.images,
            source=description.source,
            examples=None if names is None else Examples(names=names, **inner["examples."]),
            confidence=None if draws is None else Confidence(draws, **inner["confidence."]),
            **{name: tensor for name, tensor in tensors.items() if "." not in name},
        )


def _others(
    correlations: Float[np.ndarray, " item"], item: int, n: int
) -> tuple[tuple[int, float], ...]:
    others = correlations.copy()
    others[item] = np.nan
    return tuple((other, float(others[other])) for other in top(others, n))


def _recurrence(
    attributes: Sequence[str],
    groups: Sequence[tuple[str, ...]],
    tables: Sequence[Float[np.ndarray, "attribute attribute"]],
) -> tuple[GroupRecurrence, ...]:
    """Return how often groups come again when others are cut into as many."""
    items = [tuple(attributes.index(name) for name in group) for group in groups]
    cuts = [clustering.cut(clustering.linkage(t), t, count=len(groups)) for t in tables]
    rows = []
    for group, ids in zip(groups, items, strict=True):
        matches = np.array([clustering.best_match(ids, cut) for cut in cuts])
        again = float((matches == 1).mean()) if cuts else np.nan
        rows.append(GroupRecurrence(group, again, float(matches.mean()) if cuts else np.nan))
    return tuple(rows)


def _tables(atlas: Atlas) -> dict[str, atlas_files.Table]:
    """Return the rows of the CSV files."""
    names, ids = atlas.attributes, range(atlas.channels)
    agreements = atlas.importance_agreement()
    square = atlas_tables.square
    ranked = {
        name: {by: atlas.ranked_channels(name, 10, by) for by in atlas.readings} for name in names
    }
    kinds = {"plain": False, "centred": True}
    return {
        "mask_mean.csv": square("attribute", names, ids, atlas.mask_mean),
        "channel_correlation.csv": square("channel", ids, ids, atlas.channel_correlation),
        "attribute_correlation.csv": square("attribute", names, names, atlas.attribute_correlation),
        "attribute_correlation_centred.csv": square(
            "attribute", names, names, atlas.attribute_correlation_centred
        ),
        "agreement.csv": square(
            "attribute", names, tuple(agreements), np.stack([*agreements.values()], axis=1)
        ),
        "top_channels.csv": atlas_tables.top_channels(ranked),
        "importance.csv": atlas_tables.importance(names, atlas.readings),
        "groups.csv": atlas_tables.groups(
            (row.attributes, row.again, row.overlap) for row in atlas.group_recurrence()
        ),
        "attribute_pairs.csv": atlas_tables.attribute_pairs(
            {kind: atlas.attribute_pairs(centred=flag) for kind, flag in kinds.items()}
        ),
        "channel_pairs.csv": atlas_tables.channel_pairs(
            {kind: atlas.channel_pairs(centred=flag) for kind, flag in kinds.items()}
        ),
    }


def _arrays(record: Atlas | Examples | Confidence) -> dict[str, np.ndarray]:
    """Return the fields of a record that are arrays."""
    values = {field.name: getattr(record, field.name) for field in fields(record)}
    return {name: value for name, value in values.items() if isinstance(value, np.ndarray)}
