"""Safe decoding of an image to 8-bit RGB, and the preprocessing of every network here.

Only the formats in :data:`FORMATS` are opened, each by its own Pillow plugin chosen by the first
bytes, and the size is checked before a pixel is decoded. What comes out is defined for everything
that these formats can hold:

- 16-bit samples are scaled to 8 bits, not clipped;
- CMYK, grey and palette images become RGB;
- transparency is composited on white;
- the first frame of an animation is taken;
- the EXIF orientation is applied.

Colour profiles are not applied. Zeroed bytes inside a JPEG decode silently, here as everywhere;
archives and the cache carry checksums that notice them.
"""

import contextlib
import io
import struct
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Integer, UInt8
from PIL import ExifTags, Image, ImageFile, ImageOps
from PIL.BmpImagePlugin import BmpImageFile
from PIL.JpegImagePlugin import JpegImageFile
from PIL.PngImagePlugin import PngImageFile
from PIL.WebPImagePlugin import WebPImageFile

from maskatlas.errors import ImageError

MAX_PIXELS = 64_000_000
"""Largest image that is decoded, in pixels."""

BACKGROUND = (255, 255, 255)
"""What shows through transparent pixels."""

_SIGNATURES: dict[str, tuple[Callable[[bytes], bool], type[ImageFile.ImageFile]]] = {
    "JPEG": (lambda head: head.startswith(b"\xff\xd8\xff"), JpegImageFile),
    "PNG": (lambda head: head.startswith(b"\x89PNG\r\n\x1a\n"), PngImageFile),
    "WebP": (lambda head: head.startswith(b"RIFF") and head[8:12] == b"WEBP", WebPImageFile),
    "BMP": (lambda head: head.startswith(b"BM"), BmpImageFile),
}

FORMATS = tuple(_SIGNATURES)
"""The formats that are opened."""

SUFFIXES = (".jpg", ".jpeg", ".png", ".webp", ".bmp")
"""The endings by which an image file is recognised in a folder, in lower case."""

_TURNED = (5, 6, 7, 8)  # EXIF orientations that exchange width and height

_OTHER_KINDS = {  # in lower case, as describe_content compares them
    b"pk\x03\x04": "a ZIP archive",
    b"7z\xbc\xaf": "a 7z archive",
    b"\x1f\x8b": "a gzip archive",
    b"par1": "a Parquet file",
    b"\x89hdf": "an HDF5 file",
    b"gif8": "a GIF image",
    b"ii*\x00": "a TIFF image",
    b"mm\x00*": "a TIFF image",
    b"8bps": "a PSD image",
    b"%pdf": "a PDF",
    b"version https://git-lfs": "a Git LFS pointer instead of the file",
}

# What Pillow's plugins raise on damaged data; Image.open treats the same ones as "not this format".
_DAMAGE = (OSError, SyntaxError, ValueError, IndexError, TypeError, EOFError, struct.error)


def describe_content(head: bytes) -> str:
    """What a file that starts with these bytes is, in words for an error message."""
    start = head[:512].lstrip(b"\xef\xbb\xbf \t\r\n").lower()
    if not head:
        return "an empty file"
    if start.startswith((b"<!doctype html", b"<html")) or b"<html" in start or b"<head" in start:
        return "an HTML page (a download that met a quota or a login page?)"
    if start.startswith((b"<?xml", b"<svg")):
        return "XML text"
    for signature, kind in _OTHER_KINDS.items():
        if start.startswith(signature):
            return kind
    for kind, (matches, _) in _SIGNATURES.items():
        if matches(head):
            return f"a {kind} image"
    if not any(head[:64]):
        return "zero bytes"
    if b"\x00" in head[:512]:
        return "binary data"
    return f"text that begins {head[:40].decode('utf-8', 'replace')!r}"


def open_image(source: Path | bytes, *, name: str | None = None) -> Image.Image:
    """Decode an image to 8-bit RGB, upright.

    Args:
        source: A file, or the bytes of one.
        name: What an error calls it; the path by default.

    Raises:
        ImageError: The file cannot be read, is no JPEG, PNG, WebP or BMP, is damaged, or has more
            than :data:`MAX_PIXELS` pixels.
    """
    with _opened(source, name) as image:
        image.load()
        return to_rgb(image)


def image_size(source: Path | bytes, *, name: str | None = None) -> tuple[int, int]:
    """Width and height of what :func:`open_image` returns, without decoding; raises ImageError."""
    with _opened(source, name) as image:
        width, height = image.size
        return (height, width) if _orientation(image) in _TURNED else (width, height)


def open_parts(
    source: Path | bytes, *, name: str | None = None
) -> UInt8[np.ndarray, "height width"]:
    """The palette indices, or grey values, of a mask; raises ImageError as :func:`open_image`."""
    with _opened(source, name) as image:
        if image.mode not in ("P", "L", "1"):
            raise ImageError(
                f"{_called(source, name)}: expected a mask with a palette index or a grey value "
                f"for each pixel, found an image of mode {image.mode}. Save it with a palette."
            )
        return np.array(image).astype(np.uint8)


@contextlib.contextmanager
def _opened(source: Path | bytes, name: str | None) -> Iterator[Image.Image]:
    """An image whose header was read and whose size was checked, but not a pixel decoded."""
    called = _called(source, name)
    if isinstance(source, Path):
        try:
            source = source.read_bytes()
        except OSError as error:
            raise ImageError(f"{called}: cannot be read: {error.strerror}.") from error
    plugin = next((cls for matches, cls in _SIGNATURES.values() if matches(source[:16])), None)
    found = describe_content(source)
    if plugin is None:
        raise ImageError(
            f"{called}: expected an image ({', '.join(FORMATS)}), found {found}. "
            "Fetch or convert it again, or leave it out."
        )
    try:
        image = plugin(io.BytesIO(source))
        _check_size(image, called)
        yield image
    except ImageError as error:
        raise error if str(error).startswith(called) else ImageError(f"{called}: {error}") from None
    except _DAMAGE as error:
        raise ImageError(
            f"{called}: is {found} of {len(source)} bytes, but damaged: {error}. "
            "Fetch it again, or leave it out."
        ) from error


def _called(source: Path | bytes, name: str | None) -> str:
    return name if name is not None else str(source) if isinstance(source, Path) else "image"


def _check_size(image: Image.Image, called: str) -> None:
    width, height = image.size
    if not width * height:
        raise ImageError(f"{called}: has no pixels: it is {width} x {height}.")
    if width * height > MAX_PIXELS:
        raise ImageError(
            f"{called}: {width} x {height} pixels are {width * height / 1e6:.0f} megapixels, more "
            f"than the {MAX_PIXELS / 1e6:.0f} that are decoded. Make it smaller, or leave it out."
        )


def to_rgb(image: Image.Image) -> Image.Image:
    """Turn an opened image into 8-bit RGB, upright, by the rules of this module.

    Raises:
        ImageError: It is damaged or too large, or its samples have no defined range (32-bit).
    """
    called = getattr(image, "filename", "") or "image"
    _check_size(image, called)
    try:
        return _convert(_upright(image))
    except ImageError as error:
        raise ImageError(f"{called}: {error}") from None
    except _DAMAGE as error:
        raise ImageError(f"{called}: cannot be decoded: {error}. Fetch it again.") from error


def _convert(image: Image.Image) -> Image.Image:
    if image.mode.startswith("I"):
        image = _scale_16_bit(image)
    if image.mode == "F":
        raise ImageError("samples of mode F have no defined range. Convert it to 8 bits.")
    if image.has_transparency_data:
        coloured = image.convert("RGBA")
        ground = Image.new("RGBA", coloured.size, (*BACKGROUND, 255))
        return Image.alpha_composite(ground, coloured).convert("RGB")
    if image.mode == "RGB":
        image.load()
        return image
    return image.convert("RGB")


def _upright(image: Image.Image) -> Image.Image:
    """Apply the EXIF orientation."""
    return image if _orientation(image) == 1 else ImageOps.exif_transpose(image)


def _orientation(image: Image.Image) -> int:
    """The EXIF orientation; 1, upright, where there is none, also in damaged EXIF data."""
    try:
        orientation = image.getexif().get(ExifTags.Base.Orientation, 1)
    except _DAMAGE:
        return 1
    return orientation if orientation in range(1, 9) else 1


def _scale_16_bit(image: Image.Image) -> Image.Image:
    samples = np.asarray(image).astype(np.int64)
    if samples.min() < 0 or samples.max() > 65535:
        raise ImageError(
            f"samples of mode {image.mode} from {samples.min()} to {samples.max()} have no defined "
            "range. Convert it to 8 or 16 bits."
        )
    return Image.fromarray(((samples + 128) // 257).astype(np.uint8))


@dataclass(frozen=True, slots=True)
class Preprocessing:
    """The centre square of an image, resized: what the network sees.

    The same geometry holds for regions, so that a region stays over what it marks.
    """

    size: int
    """Side of the result, in pixels."""

    def image(self, image: Image.Image) -> UInt8[np.ndarray, "size size 3"]:
        """Centre square, resized bicubically (antialiased), as 8-bit RGB.

        Raises:
            ImageError: as :func:`to_rgb`.
        """
        image = to_rgb(image)
        left, top, side = _centre_square(*image.size)
        square = image.crop((left, top, left + side, top + side))
        return np.array(square.resize((self.size, self.size), Image.Resampling.BICUBIC))

    def region(
        self, image: Image.Image | Integer[np.ndarray, "height width"]
    ) -> Integer[np.ndarray, "size size"]:
        """The same square of an integer map: nearest neighbour, values untouched.

        Raises:
            ImageError: The image has several channels, so its values are no integers.
        """
        if isinstance(image, Image.Image):
            image = np.asarray(image)
            if image.dtype == np.bool_:
                image = image.astype(np.uint8)
        if image.ndim != 2 or image.dtype.kind not in "iu":
            raise ImageError(
                "region: expected one integer for each pixel (a palette, grey or 1-bit image), "
                f"found {image.dtype} of shape {image.shape}."
            )
        height, width = image.shape
        left, top, side = _centre_square(width, height)
        nearest = ((2 * np.arange(self.size) + 1) * side) // (2 * self.size)
        return image[np.ix_(top + nearest, left + nearest)]


def _centre_square(width: int, height: int) -> tuple[int, int, int]:
    """Left, top and side of the centre square."""
    side = min(width, height)
    return (width - side) // 2, (height - side) // 2, side
