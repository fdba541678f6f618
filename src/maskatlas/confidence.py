"""How sure the statistics of an atlas are: intervals over people or images, and p-values.

Made of the sums of :mod:`maskatlas.replicates` and the tests of :mod:`maskatlas.association`.
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int

from maskatlas.association import interval_p, label_p, row_p
from maskatlas.replicates import ReplicateSums
from maskatlas.resampling import Draws, percentile_interval

ByChannel = Float[np.ndarray, "2 attribute channel"]
Attributes = Float[np.ndarray, "attribute attribute"]
AttributeBounds = Float[np.ndarray, "2 attribute attribute"]
Channels = Float[np.ndarray, "channel channel"]
ChannelBounds = Float[np.ndarray, "2 channel channel"]
Halves = Float[np.ndarray, "half attribute attribute"]


@dataclass(frozen=True, eq=False)
class Confidence:
    """Bounds [low, high] that hold 95 % of the bootstrap replicates, and p-values; NaN: undefined.

    ``docs/statistics.md`` says what is drawn, what is shuffled, and what each number answers.
    """

    draws: Draws
    mask_mean_interval: ByChannel
    mask_rank_interval: ByChannel
    """Of the channel's place among those of the attribute by mean mask; the widest open is 1."""
    contribution_magnitude_interval: ByChannel
    contribution_rank_interval: ByChannel
    channel_correlation_interval: ChannelBounds
    channel_correlation_p: Channels
    channel_correlation_centred_interval: ChannelBounds
    channel_correlation_centred_p: Channels
    attribute_correlation_interval: AttributeBounds
    attribute_correlation_p: Attributes
    attribute_correlation_centred_interval: AttributeBounds
    attribute_correlation_centred_p: Attributes
    attribute_correlation_apart: Attributes
    """Correlation over the images that have one of the two attributes but not the other."""
    attribute_correlation_centred_apart: Attributes
    apart_images: Attributes
    """How many those are."""
    label_correlation_interval: AttributeBounds
    label_correlation_p: Attributes
    following: Attributes
    """How far the score of the row follows that of the column, label of the row taken out."""
    following_interval: AttributeBounds
    following_p: Attributes
    attribute_correlation_halves: Halves
    """Correlation of the attributes in each half of the images, halves of a split side by side."""
    attribute_correlation_centred_halves: Halves


def confidence(
    sums: ReplicateSums,
    labels: Float[np.ndarray, "image attribute"],
    units: Int[np.ndarray, " image"],
) -> Confidence:
    """Return the confidence of an atlas.

    Args:
        sums: Over all images, of all processes.
        labels: Of all images: 0, 1, or NaN where unknown.
        units: What was drawn as one, as :func:`maskatlas.resampling.resampling_units` has it.
    """
    boot = sums.bootstrap
    masks, magnitudes = sums.mask_mean(), sums.contribution_magnitude()
    by_labels, following = sums.label_correlation(), sums.following()
    apart, apart_centred, apart_images = sums.apart()
    attribute, attribute_centred = sums.attribute_correlation()
    channel, channel_centred = sums.channel_correlation()
    return Confidence(
        draws=Draws(sums.replicates, len(np.unique(units)), people=bool((units >= 0).any())),
        mask_mean_interval=_bounds(masks[boot]),
        mask_rank_interval=_rank_bounds(masks[boot]),
        contribution_magnitude_interval=_bounds(magnitudes[boot]),
        contribution_rank_interval=_rank_bounds(magnitudes[boot]),
        channel_correlation_interval=_bounds(channel[boot]),
        channel_correlation_p=row_p(masks[0].T, centred=False),
        channel_correlation_centred_interval=_bounds(channel_centred[boot]),
        channel_correlation_centred_p=row_p(masks[0].T, centred=True),
        attribute_correlation_interval=_bounds(attribute[boot]),
        attribute_correlation_p=row_p(masks[0], centred=False),
        attribute_correlation_centred_interval=_bounds(attribute_centred[boot]),
        attribute_correlation_centred_p=row_p(masks[0], centred=True),
        attribute_correlation_apart=apart,
        attribute_correlation_centred_apart=apart_centred,
        apart_images=apart_images,
        label_correlation_interval=_bounds(by_labels[boot]),
        label_correlation_p=label_p(labels, units),
        following=following[0],
        following_interval=_bounds(following[boot]),
        following_p=interval_p(following[0], following[boot]),
        attribute_correlation_halves=attribute[sums.halves].astype(np.float32),
        attribute_correlation_centred_halves=attribute_centred[sums.halves].astype(np.float32),
    )


def _bounds(values: Float[np.ndarray, "replicate ..."]) -> Float[np.ndarray, "2 ..."]:
    return np.stack(percentile_interval(values))


def _rank_bounds(values: Float[np.ndarray, "replicate attribute channel"]) -> ByChannel:
    """Return the bounds of each channel's place, whole and outwards; equals by the lower id."""
    order = np.argsort(-values, axis=2, kind="stable")
    places = np.argsort(order, axis=2) + 1.0
    low, high = _bounds(np.where(np.isnan(values), np.nan, places))
    return np.stack([np.floor(low), np.ceil(high)])
