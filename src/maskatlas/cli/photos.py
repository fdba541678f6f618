"""What the verbs that take one's own images share."""

import logging
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from maskatlas.errors import ConfigError, ImageError

if TYPE_CHECKING:
    from PIL import Image

_LOG = logging.getLogger(__name__)


def check_photos(paths: Sequence[Path]) -> None:
    """Make sure that there is something to look at.

    Raises:
        ConfigError: No image is named.
    """
    if not paths:
        raise ConfigError("expected at least one image after the run folder, found none")


def open_photos(paths: Sequence[Path], failed: list[Path]) -> Iterator[tuple[Path, "Image.Image"]]:
    """Open one image after another; one that cannot be read is told and noted, not the end.

    Args:
        paths: Of the images.
        failed: Gets the paths of those that could not be opened.
    """
    from maskatlas.images import open_image

    for path in paths:
        try:
            image = open_image(path)
        except ImageError as error:
            _LOG.error("%s", error)
            failed.append(path)
            continue
        yield path, image
