"""What the verbs that take one's own images share."""

import logging
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from maskatlas.errors import ImageError

if TYPE_CHECKING:
    from PIL import Image

_LOG = logging.getLogger(__name__)


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
