"""Mirroring and shifting one image, one pixel after another."""

import torch
from torch import Tensor


def shifted(image: Tensor, rows: int, columns: int, *, mirrored: bool) -> Tensor:
    """The image [3 H W] moved up and left by so many pixels, its border repeated, then mirrored."""
    _, height, width = image.shape
    result = torch.empty_like(image)
    for y in range(height):
        for x in range(width):
            from_y = min(max(y + rows, 0), height - 1)
            from_x = min(max(x + columns, 0), width - 1)
            result[:, y, width - 1 - x if mirrored else x] = image[:, from_y, from_x]
    return result
