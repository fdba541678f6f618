"""The images that a run learns from, and those that choose its best checkpoint."""

import hashlib
import logging
import zlib
from collections.abc import Sequence
from dataclasses import replace
from typing import NamedTuple

from maskatlas.config import Config
from maskatlas.data import AttributeDataset
from maskatlas.errors import ConfigError, DataError
from maskatlas.sources import open_dataset
from maskatlas.sources.listing import SPLITS, split_of

_LOG = logging.getLogger(__name__)

HELD_OUT = "held out"
"""The name of a validation split that was made of training images."""


class Data(NamedTuple):
    """The images that a run learns from, and those that choose its best checkpoint."""

    training: AttributeDataset
    validation: AttributeDataset

    @property
    def fingerprint(self) -> str:
        """Changes with the names of images and attributes, their order, and the labels."""
        digest = hashlib.blake2b(digest_size=16)
        for part in self:
            digest.update(repr((part.attributes, part.names)).encode("utf-8", "surrogateescape"))
            digest.update(part.labels.numpy().tobytes())
        return digest.hexdigest()


def open_data(config: Config) -> Data:
    """Open what the configuration names: the training images, and those to validate on.

    Where the data has no validation split, a tenth of the training images is held out, people kept
    together where they are known.

    Raises:
        ConfigError: A split is none of those that data is sorted into.
        DataError: There are no training images, or the data cannot be read.
    """
    splits = [_split(name, "train.splits") for name in config.train.splits]
    apart = _split(config.train.validation, "train.validation")
    data = open_dataset(
        config.data.path,
        exclude=config.data.exclude,
        ignore=config.data.ignore,
        limit=config.limit,
        faces=config.data.faces,
    )
    training = [i for i, split in enumerate(data.splits) if split in splits]
    validation = [i for i, split in enumerate(data.splits) if split == apart]
    if not training:
        found = ", ".join(sorted(set(data.splits))) or "no images"
        raise DataError(
            f"{config.data.path}: train.splits = {', '.join(config.train.splits)} leaves no image "
            f"to train on; the data has {found}"
        )
    judged_on = config.train.validation
    if not validation:
        training, validation = hold_out(data, training)
        _LOG.info("no split %r: %d images held out", judged_on, len(validation))
        judged_on = HELD_OUT
    return Data(
        replace(data.subset(training), split=",".join(config.train.splits)),
        replace(data.subset(validation), split=judged_on),
    )


def _split(name: str, key: str) -> str:
    split = split_of(name)
    if split is None:
        raise ConfigError(f"{key}: expected {', '.join(SPLITS)}, found {name!r}")
    return split


def hold_out(data: AttributeDataset, indices: Sequence[int]) -> tuple[list[int], list[int]]:
    """Split images into about nine and one tenth by a hash of their identity, or of their name.

    Raises:
        DataError: One of the parts would be empty.
    """
    parts: tuple[list[int], list[int]] = [], []
    for index in indices:
        identity = -1 if data.identities is None else int(data.identities[index])
        key = data.names[index] if identity < 0 else f"identity {identity}"
        parts[zlib.crc32(key.encode("utf-8", "surrogateescape")) % 10 == 0].append(index)
    if not all(parts):
        raise DataError(
            f"{data.path or data.source}: it has no validation split, and {len(indices)} images "
            "are too few to hold some out; add a column `split`"
        )
    return parts
