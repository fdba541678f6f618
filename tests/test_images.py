import io
import struct
import warnings
import zlib
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, PngImagePlugin

from layouts import encoded, picture
from maskatlas.errors import ImageError
from maskatlas.images import (
    BACKGROUND,
    MAX_PIXELS,
    Preprocessing,
    describe_content,
    image_size,
    open_image,
    open_parts,
    to_rgb,
)
from reference import images as slow


def png(width: int, height: int, bits: int, colour: int, rows: bytes) -> bytes:
    """A PNG made by hand, for what Pillow does not write."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return (
            struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        )

    header = struct.pack(">2I5B", width, height, bits, colour, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", header)
        + chunk(b"IDAT", zlib.compress(rows, 9))
        + chunk(b"IEND", b"")
    )


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WebP", "BMP"])
def test_formats(kind: str) -> None:
    original = picture(1)
    image = open_image(encoded(original, kind))
    assert image.mode == "RGB"
    assert image.size == original.size == image_size(encoded(original, kind))
    assert np.abs(np.asarray(image, int) - np.asarray(original, int)).mean() < 12


@pytest.mark.parametrize("kind", ["GIF", "TIFF", "PPM", "ICO"])
def test_other_formats_are_refused(kind: str, tmp_path: Path) -> None:
    path = tmp_path / "a.jpg"
    path.write_bytes(encoded(picture(1), kind))
    with pytest.raises(
        ImageError, match=r"a\.jpg: expected an image .JPEG, PNG, WebP, BMP., found"
    ):
        open_image(path)


@pytest.mark.parametrize(
    ("data", "found"),
    [
        (b"", "an empty file"),
        (b"\n<!DOCTYPE html><html><head>Quota exceeded", "an HTML page"),
        (b"\xef\xbb\xbf <html lang='en'>", "an HTML page"),
        (b"PK\x03\x04" + bytes(40), "a ZIP archive"),
        (bytes(100), "zero bytes"),
        (b"version https://git-lfs.github.com/spec/v1\n", "a Git LFS pointer"),
        (b"hello", "text that begins 'hello'"),
    ],
)
def test_what_is_no_image_is_named(data: bytes, found: str, tmp_path: Path) -> None:
    assert found in describe_content(data)
    (tmp_path / "photo.jpg").write_bytes(data)
    with pytest.raises(ImageError) as error:
        open_image(tmp_path / "photo.jpg")
    assert str(tmp_path / "photo.jpg") in str(error.value)
    assert found in str(error.value)


def test_missing_file(tmp_path: Path) -> None:
    with pytest.raises(ImageError, match=r"gone\.jpg: cannot be read: No such file"):
        open_image(tmp_path / "gone.jpg")


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WebP", "BMP"])
@settings(deadline=None)
@given(share=st.floats(0.05, 0.9))
def test_truncated(kind: str, share: float) -> None:
    noise = np.random.default_rng(3).integers(0, 256, (40, 30, 3), dtype=np.uint8)
    data = encoded(Image.fromarray(noise), kind)
    with pytest.raises(ImageError, match=r"face 7: .*(damaged|expected an image)"):
        open_image(data[: int(share * len(data))], name="face 7")


def test_damaged_png_header() -> None:
    data = bytearray(encoded(picture(1), "PNG"))
    data[18] ^= 255  # in the width
    with pytest.raises(ImageError, match="damaged"):
        open_image(bytes(data))


def test_zeroed_bytes_in_a_jpeg_decode_silently() -> None:
    """Documented, not wished for: only a checksum notices."""
    noise = np.random.default_rng(3).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    data = bytearray(encoded(Image.fromarray(noise), quality=95))
    data[len(data) // 2 : len(data) // 2 + 200] = bytes(200)
    assert open_image(bytes(data)).size == (64, 64)


def test_bomb_is_refused_before_decoding(monkeypatch: pytest.MonkeyPatch) -> None:
    """100 megapixels in a hundred kilobytes: no pixel is decoded, and no warning is shown."""
    side = 10_000
    data = png(side, side, 1, 0, bytes((side // 8 + 1) * side))
    assert len(data) < 200_000
    assert side * side > MAX_PIXELS

    def load(image: PngImagePlugin.PngImageFile) -> None:
        raise AssertionError("decoded")

    monkeypatch.setattr(PngImagePlugin.PngImageFile, "load", load)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with pytest.raises(ImageError, match=r"bomb: 10000 x 10000 pixels are 100 megapixels"):
            open_image(data, name="bomb")


def test_largest_image_is_in_bounds(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("maskatlas.images.MAX_PIXELS", 18 * 22)
    assert open_image(encoded(picture(1))).size == (18, 22)
    monkeypatch.setattr("maskatlas.images.MAX_PIXELS", 18 * 22 - 1)
    with pytest.raises(ImageError, match="18 x 22"):
        open_image(encoded(picture(1)))
    with pytest.raises(ImageError, match="18 x 22"):
        to_rgb(picture(1))


def test_16_bit_grey_is_scaled() -> None:
    samples = np.array([[0, 257, 32768, 65535, 300, 65534]], np.uint16)
    data = png(6, 1, 16, 0, b"\x00" + samples.astype(">u2").tobytes())
    expected = np.round(samples / 257).astype(np.uint8)
    assert np.array_equal(np.asarray(open_image(data))[:, :, 1], expected)


def test_16_bit_colour_is_scaled() -> None:
    samples = np.array([[[65535, 32896, 514]]], np.uint16)
    data = png(1, 1, 16, 2, b"\x00" + samples.astype(">u2").tobytes())
    assert np.abs(np.asarray(open_image(data), int) - samples / 257).max() <= 1


def test_cmyk() -> None:
    colours = Image.new("CMYK", (8, 8), (0, 255, 255, 0))  # no cyan: red
    red, green, blue = open_image(encoded(colours, quality=95)).getpixel((4, 4))
    assert red > 240
    assert max(green, blue) < 15


def test_palette() -> None:
    image = Image.new("P", (2, 1))
    image.putpalette([10, 20, 30, 200, 100, 50])
    image.putpixel((1, 0), 1)
    assert np.asarray(open_image(encoded(image, "PNG"))).tolist() == [
        [[10, 20, 30], [200, 100, 50]]
    ]


def test_grey_and_bilevel() -> None:
    assert np.asarray(open_image(encoded(Image.new("L", (1, 1), 77), "PNG"))).tolist() == [
        [[77] * 3]
    ]
    assert np.asarray(open_image(encoded(Image.new("1", (1, 1), 1), "PNG"))).tolist() == [
        [[255] * 3]
    ]


@pytest.mark.parametrize("kind", ["PNG", "WebP"])
def test_alpha_is_composited_on_white(kind: str) -> None:
    image = Image.new("RGBA", (3, 1), (200, 0, 0, 255))
    image.putpixel((1, 0), (200, 0, 0, 0))
    image.putpixel((2, 0), (200, 0, 0, 51))
    pixels = np.asarray(open_image(encoded(image, kind, lossless=True))).tolist()[0]
    assert pixels[:2] == [[200, 0, 0], list(BACKGROUND)]
    assert pixels[2] == pytest.approx([244, 204, 204], abs=1)


def test_transparent_palette_entry() -> None:
    image = Image.new("P", (2, 1))
    image.putpalette([10, 20, 30, 200, 100, 50])
    image.putpixel((1, 0), 1)
    data = encoded(image, "PNG", transparency=0)
    assert np.asarray(open_image(data)).tolist() == [[list(BACKGROUND), [200, 100, 50]]]


@pytest.mark.parametrize("kind", ["PNG", "WebP"])
def test_first_frame_of_an_animation(kind: str) -> None:
    frames = [Image.new("RGB", (4, 4), colour) for colour in ((250, 0, 0), (0, 250, 0))]
    options = {"save_all": True, "append_images": frames[1:], "lossless": True}
    image = open_image(encoded(frames[0], kind, **options))
    assert image.getpixel((2, 2)) == (250, 0, 0)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation(orientation: int) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    upright = picture(5, 30, 20)
    undo = {  # how a camera that notes this orientation stores the upright picture
        2: Image.Transpose.FLIP_LEFT_RIGHT,
        3: Image.Transpose.ROTATE_180,
        4: Image.Transpose.FLIP_TOP_BOTTOM,
        5: Image.Transpose.TRANSPOSE,
        6: Image.Transpose.ROTATE_90,
        7: Image.Transpose.TRANSVERSE,
        8: Image.Transpose.ROTATE_270,
    }
    stored = upright.transpose(undo[orientation]) if orientation in undo else upright
    data = encoded(stored, "PNG", exif=exif)
    assert np.array_equal(np.asarray(open_image(data)), np.asarray(upright))
    assert image_size(data) == upright.size
    lazily = Image.open(io.BytesIO(data))
    assert np.array_equal(np.asarray(to_rgb(lazily)), np.asarray(upright))
    assert np.array_equal(np.asarray(to_rgb(open_image(data))), np.asarray(upright))


def test_damaged_exif_counts_as_none() -> None:
    data = encoded(picture(5), "JPEG", exif=b"Exif\x00\x00MM\x00*\x00\x00\xff\xff")
    with pytest.warns(UserWarning, match="EXIF"):
        assert open_image(data).size == (18, 22)


def test_32_bit_samples_have_no_range() -> None:
    with pytest.raises(ImageError, match="mode F"):
        to_rgb(Image.new("F", (2, 2), 0.5))
    with pytest.raises(ImageError, match="no defined range"):
        to_rgb(Image.new("I", (2, 2), 70000))


def test_damage_found_late_is_an_image_error(tmp_path: Path) -> None:
    noise = np.random.default_rng(3).integers(0, 256, (40, 30, 3), dtype=np.uint8)
    data = encoded(Image.fromarray(noise), quality=95)
    (tmp_path / "a.jpg").write_bytes(data[: len(data) // 2])
    with Image.open(tmp_path / "a.jpg") as opened, pytest.raises(ImageError, match=r"a\.jpg"):
        Preprocessing(8).image(opened)


@settings(deadline=None)
@given(
    width=st.integers(1, 40),
    height=st.integers(1, 40),
    size=st.integers(1, 24),
    seed=st.integers(0),
)
def test_preprocessing_against_its_twin(width: int, height: int, size: int, seed: int) -> None:
    rng = np.random.default_rng(seed % 2**32)
    pixels = Image.fromarray(rng.integers(0, 256, (height, width, 3), dtype=np.uint8))
    assert np.array_equal(Preprocessing(size).image(pixels), slow.preprocess(pixels, size))
    for dtype in (np.uint8, np.int32):
        values = rng.integers(0, 200, (height, width)).astype(dtype)
        result = Preprocessing(size).region(values)
        assert result.dtype == dtype
        assert np.array_equal(result, slow.nearest(values, size))


def test_region_of_an_image_keeps_its_values() -> None:
    image = Image.new("P", (3, 3), 255)
    image.putpixel((1, 1), 7)
    assert Preprocessing(3).region(image).tolist() == np.asarray(image).tolist()
    assert Preprocessing(1).region(image).tolist() == [[7]]
    assert Preprocessing(2).region(Image.new("1", (2, 2), 1)).tolist() == [[1, 1], [1, 1]]
    with pytest.raises(ImageError, match="one integer for each pixel"):
        Preprocessing(2).region(Image.new("RGB", (2, 2)))


def test_image_and_region_share_their_geometry() -> None:
    """A square that fills a block of pixels stays over its region at every size."""
    image = np.zeros((60, 90, 3), np.uint8)
    image[20:40, 30:60] = 255
    for size in (15, 30, 60):
        pixels = Preprocessing(size).image(Image.fromarray(image))[:, :, 0] > 127
        region = Preprocessing(size).region((image[:, :, 0] > 0).astype(np.uint8)) > 0
        assert (pixels == region).mean() > 0.98


def test_parts_need_one_value_for_each_pixel(tmp_path: Path) -> None:
    image = Image.new("P", (4, 3), 12)
    image.putpalette(list(range(256)) * 3)
    image.save(tmp_path / "mask.png")
    assert open_parts(tmp_path / "mask.png").tolist() == [[12] * 4] * 3
    Image.new("RGB", (4, 3)).save(tmp_path / "mask.png")
    with pytest.raises(
        ImageError, match=r"mask\.png: expected a mask .* found an image of mode RGB"
    ):
        open_parts(tmp_path / "mask.png")


def test_1_by_1() -> None:
    image = open_image(encoded(Image.new("RGB", (1, 1), (9, 8, 7)), "PNG"))
    assert Preprocessing(5).image(image).reshape(-1, 3).tolist() == [[9, 8, 7]] * 25
