"""Streaming sums of masks, contributions and labels: update, merge, compute.

Memory does not grow with the number of images. Every spread is kept around the running mean and
merged after Chan, Golub and LeVeque (1979), so that no large sums cancel; two parts merged give
what one pass gives, whatever the order of the images.

**Over what each correlation runs.** Let m_nkc be the mean over positions of attribute k's mask of
channel c on image n.

- ``channel_correlation[c, d]``: Pearson of m_nkc and m_nkd over all pairs (n, k).
- ``attribute_correlation[k, l]``: Pearson of m_nkc and m_nlc over all pairs (n, c).
- ``channel_correlation_centred``: the same of m_nkc - mean over channels of m_nk.
- ``attribute_correlation_centred``: the same of m_nkc - mean over attributes of m_n.c.
- ``label_correlation[k, l]``: Pearson of two labels over the images where both are known.

The plain ones are mostly about what all share: a channel whose masks are wide open for every
attribute makes every two attributes alike, and an attribute whose masks are all open makes every
two channels alike. The centred ones take that away, in each image, and compare what sets an
attribute (a channel) apart from the average one. What is left sums to nothing, so unrelated
attributes then correlate by -1 / (K - 1) and two alone always by -1.
"""

from collections.abc import Mapping
from dataclasses import dataclass, fields

import numpy as np
from jaxtyping import Float

from maskatlas.errors import MaskatlasError

ACTIVE = 0.1
"""A channel is used for an attribute where the mean of its mask is above this."""
OUT = 0.02
"""The masks of an attribute are out where their mean is below this: they explain nothing."""

_CONSTANT = 1e-13
"""What deviates by a smaller share of its mean is constant, up to rounding."""
_RESIDUAL = 1e-12
"""A variance that is a smaller share of what it was computed from is rounding."""


@dataclass(frozen=True, eq=False)
class MaskSummary:
    """What the sums come to; the module says over what each correlation runs. NaN: undefined."""

    images: int
    mask_mean: Float[np.ndarray, "attribute channel"]
    mask_deviation: Float[np.ndarray, "attribute channel"]
    """Standard deviation over images of each mask's mean over positions."""
    contribution_mean: Float[np.ndarray, "attribute channel"]
    contribution_magnitude: Float[np.ndarray, "attribute channel"]
    """Mean over images of the contribution's absolute value."""
    contribution_deviation: Float[np.ndarray, "attribute channel"]
    channel_correlation: Float[np.ndarray, "channel channel"]
    channel_correlation_centred: Float[np.ndarray, "channel channel"]
    attribute_correlation: Float[np.ndarray, "attribute attribute"]
    attribute_correlation_centred: Float[np.ndarray, "attribute attribute"]
    label_correlation: Float[np.ndarray, "attribute attribute"]


@dataclass(frozen=True, eq=False)
class _Sums:
    """Means, sums of squared deviations from them (spreads), and counts of labels."""

    images: int
    mask_mean: Float[np.ndarray, "attribute channel"]
    mask_spread: Float[np.ndarray, "attribute channel"]
    contribution_mean: Float[np.ndarray, "attribute channel"]
    contribution_magnitude: Float[np.ndarray, "attribute channel"]
    contribution_spread: Float[np.ndarray, "attribute channel"]
    attribute_spread: Float[np.ndarray, "attribute attribute"]
    """sum over n, c of (m_nkc - mean_kc)(m_nlc - mean_lc)."""
    channel_spread: Float[np.ndarray, "channel channel"]
    """sum over n, k of (m_nkc - mean_kc)(m_nkd - mean_kd)."""
    known: Float[np.ndarray, "attribute attribute"]
    """Images where both labels are known."""
    first: Float[np.ndarray, "attribute attribute"]
    """Of those, where the first is 1."""
    both: Float[np.ndarray, "attribute attribute"]
    """Of those, where both are 1."""


class MaskStatistics:
    """Sums over images, in float64, from which the atlas is computed.

    Args:
        attributes: K.
        channels: C.
    """

    def __init__(self, attributes: int, channels: int) -> None:
        K, C = attributes, channels
        shapes = {"channel_spread": (C, C), "attribute_spread": (K, K)}
        shapes |= {"known": (K, K), "first": (K, K), "both": (K, K)}
        names = [field.name for field in fields(_Sums) if field.name != "images"]
        self._sums = _Sums(0, **{name: np.zeros(shapes.get(name, (K, C))) for name in names})

    @property
    def images(self) -> int:
        """Number of images seen."""
        return self._sums.images

    def update(
        self,
        mask_mean: Float[np.ndarray, "batch attribute channel"],
        contribution: Float[np.ndarray, "batch attribute channel"],
        labels: Float[np.ndarray, "batch attribute"],
    ) -> None:
        """Add a batch of images.

        Args:
            mask_mean: Mean of each mask over positions, 0 to 1.
            contribution: Contribution of each channel to each logit, signed.
            labels: 0, 1, or NaN where unknown.

        Raises:
            MaskatlasError: A mask or a contribution is not finite.
        """
        if len(mask_mean):
            self._sums = _merged(self._sums, _batch(mask_mean, contribution, labels))

    def merge(self, other: "MaskStatistics") -> None:
        """Add what another has seen, such as another process's share of the images."""
        self._sums = _merged(self._sums, other._sums)

    def to_arrays(self) -> dict[str, Float[np.ndarray, "..."]]:
        """Return copies of the sums as float64 arrays, whose shapes depend on K and C only."""
        return {
            field.name: np.array(getattr(self._sums, field.name), dtype=np.float64)
            for field in fields(_Sums)
        }

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, Float[np.ndarray, "..."]]) -> "MaskStatistics":
        """Make statistics of what :meth:`to_arrays` gave."""
        statistics = cls(*arrays["mask_mean"].shape)
        held = {name: np.array(array) for name, array in arrays.items() if name != "images"}
        statistics._sums = _Sums(int(arrays["images"]), **held)
        return statistics

    def compute(self) -> MaskSummary:
        """Return means, deviations and correlations; NaN where undefined, without a warning."""
        sums, images = self._sums, self.images
        blank = 1.0 if images else np.nan
        divisor = max(images, 1)
        attribute, attribute_centred = _correlations(
            sums.attribute_spread, sums.mask_mean, images=images
        )
        channel, channel_centred = _correlations(
            sums.channel_spread, sums.mask_mean.T, images=images
        )
        return MaskSummary(
            images=images,
            mask_mean=sums.mask_mean * blank,
            mask_deviation=np.sqrt(sums.mask_spread / divisor) * blank,
            contribution_mean=sums.contribution_mean * blank,
            contribution_magnitude=sums.contribution_magnitude * blank,
            contribution_deviation=np.sqrt(sums.contribution_spread / divisor) * blank,
            channel_correlation=channel,
            channel_correlation_centred=channel_centred,
            attribute_correlation=attribute,
            attribute_correlation_centred=attribute_centred,
            label_correlation=_label_correlation(sums),
        )


def _batch(
    mask_mean: Float[np.ndarray, "batch attribute channel"],
    contribution: Float[np.ndarray, "batch attribute channel"],
    labels: Float[np.ndarray, "batch attribute"],
) -> _Sums:
    """Return the sums of one batch; two matrix products do nearly all the work."""
    images, attributes, channels = mask_mean.shape
    # [K B C], so that both products see one contiguous block and numpy takes BLAS's syrk
    masks = np.array(mask_mean.swapaxes(0, 1), dtype=np.float64, order="C")
    mean = masks.mean(1)
    masks -= mean[:, None]
    rows, columns = masks.reshape(attributes, -1), masks.reshape(-1, channels)
    added = contribution.mean(0, dtype=np.float64)
    away = contribution - added
    if not (np.isfinite(mean).all() and np.isfinite(added).all()):
        raise MaskatlasError(
            "masks: expected finite numbers, found NaN or infinity; the network's weights are "
            "damaged, so go back to an earlier checkpoint"
        )
    known = (~np.isnan(labels)).astype(np.float64)
    positive = (labels == 1).astype(np.float64)
    return _Sums(
        images=images,
        mask_mean=mean,
        mask_spread=np.einsum("kbc,kbc->kc", masks, masks),
        contribution_mean=added,
        contribution_magnitude=np.abs(contribution).mean(0, dtype=np.float64),
        contribution_spread=np.einsum("bkc,bkc->kc", away, away),
        attribute_spread=rows @ rows.T,
        channel_spread=columns.T @ columns,
        known=known.T @ known,
        first=positive.T @ known,
        both=positive.T @ positive,
    )


def _merged(a: _Sums, b: _Sums) -> _Sums:
    """Return the sums of both; a spread grows by what lies between the two means."""
    images = a.images + b.images
    share = b.images / max(images, 1)
    weight = a.images * share
    apart = b.mask_mean - a.mask_mean
    added = b.contribution_mean - a.contribution_mean
    magnitude = b.contribution_magnitude - a.contribution_magnitude
    return _Sums(
        images=images,
        mask_mean=a.mask_mean + share * apart,
        mask_spread=a.mask_spread + b.mask_spread + weight * apart**2,
        contribution_mean=a.contribution_mean + share * added,
        contribution_magnitude=a.contribution_magnitude + share * magnitude,
        contribution_spread=a.contribution_spread + b.contribution_spread + weight * added**2,
        attribute_spread=a.attribute_spread + b.attribute_spread + weight * (apart @ apart.T),
        channel_spread=a.channel_spread + b.channel_spread + weight * (apart.T @ apart),
        known=a.known + b.known,
        first=a.first + b.first,
        both=a.both + b.both,
    )


def _correlations(
    spread: Float[np.ndarray, "row row"], mean: Float[np.ndarray, "row column"], *, images: int
) -> tuple[Float[np.ndarray, "row row"], Float[np.ndarray, "row row"]]:
    """Return the plain and the centred correlation of the rows, over images and columns.

    Total covariance is that within columns (spread) and that between them. To take each column's
    mean over the rows away is linear, so it can be done to the covariance afterwards.
    """
    between = mean - mean.mean(1, keepdims=True)
    covariance = spread + images * (between @ between.T)
    variance = np.diag(covariance)
    samples = max(images, 1) * mean.shape[1]
    plain = _pearson(covariance, floor=samples * (_CONSTANT * np.abs(mean).max(1)) ** 2)
    centred = covariance - covariance.mean(0) - covariance.mean(1)[:, None] + covariance.mean()
    return plain, _pearson(centred, floor=np.full_like(variance, _RESIDUAL * variance.max()))


def _pearson(
    covariance: Float[np.ndarray, "row row"], *, floor: Float[np.ndarray, " row"]
) -> Float[np.ndarray, "row row"]:
    """Return correlations; NaN in the rows and columns whose variance is not above the floor."""
    variance = np.diag(covariance)
    scale = np.full(len(covariance), np.nan)
    np.sqrt(variance, out=scale, where=variance > floor)
    correlation = np.clip(covariance / np.outer(scale, scale), -1, 1)
    np.fill_diagonal(correlation, np.where(np.isnan(scale), np.nan, 1.0))
    return correlation


def _label_correlation(sums: _Sums) -> Float[np.ndarray, "attribute attribute"]:
    """Return the correlation of labels; all sums are whole numbers, so nothing is rounded."""
    known, first, both = sums.known, sums.first, sums.both
    spread = known * first - first**2
    product = spread * spread.T
    correlation = np.full_like(known, np.nan)
    covariance = known * both - first * first.T
    np.divide(covariance, np.sqrt(product), out=correlation, where=product > 0)
    return correlation
