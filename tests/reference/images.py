"""Plain twins of the preprocessing."""

import numpy as np
from PIL import Image


def centre_square(width: int, height: int) -> tuple[int, int, int, int]:
    if width > height:
        left = (width - height) // 2
        return left, 0, left + height, height
    top = (height - width) // 2
    return 0, top, width, top + width


def nearest(values: np.ndarray, size: int) -> np.ndarray:
    """Each pixel of the result takes the value under its centre."""
    height, width = values.shape
    left, top, right, _ = centre_square(width, height)
    side = right - left
    result = np.empty((size, size), values.dtype)
    for row in range(size):
        for column in range(size):
            y = top + int((row + 0.5) * side / size)
            x = left + int((column + 0.5) * side / size)
            result[row, column] = values[y, x]
    return result


def preprocess(image: Image.Image, size: int) -> np.ndarray:
    square = image.convert("RGB").crop(centre_square(*image.size))
    return np.asarray(square.resize((size, size), Image.Resampling.BICUBIC))
