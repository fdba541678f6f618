import logging
import os
import shutil
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image

from disks import small_disk
from layouts import encoded, picture, truth, write_celeba, write_table
from maskatlas import cache
from maskatlas.cache import PackedImages
from maskatlas.data import AttributeDataset, ImageStore
from maskatlas.errors import DataError
from maskatlas.files import cache_directory
from maskatlas.images import Preprocessing
from maskatlas.sources import open_dataset
from reference import images as slow

SQUARE = Preprocessing(8)

OPEN = """
import sys
from maskatlas import cache
from maskatlas.images import Preprocessing
from maskatlas.sources import open_dataset

cache._CHUNK = 2
packed = cache.PackedImages(open_dataset(sys.argv[1]), Preprocessing(8))
print(int(packed._pixels[packed._slots].astype(int).sum()))
"""


class Counting:
    """A store that remembers which images were decoded."""

    def __init__(self, images: ImageStore) -> None:
        self.images = images
        self.decoded: list[int] = []

    def image(self, index: int) -> Image.Image:
        self.decoded.append(index)
        return self.images.image(index)

    def content(self, index: int) -> bytes:
        return self.images.content(index)

    def key(self, index: int) -> bytes:
        return self.images.key(index)


def counted(data: AttributeDataset) -> tuple[AttributeDataset, Counting]:
    store = Counting(data.images)
    return replace(data, images=store), store


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A small CelebA, and a cache of its own."""
    monkeypatch.setenv("MASKATLAS_CACHE", str(tmp_path / "cache"))
    return write_celeba(tmp_path / "celeba", truth())


def files_of(folder: Path) -> tuple[Path, Path]:
    """The pixels and the index of the only cache."""
    (at,) = cache_directory().iterdir()
    return at / "pixels", at / "index"


def check(packed: PackedImages) -> None:
    """Every image is what the slow way gives."""
    for place in range(len(packed)):
        batch = packed.batch(torch.tensor([place]))
        pixels = batch.images[0].permute(1, 2, 0).numpy()
        assert np.array_equal(pixels, slow.preprocess(packed.data.read(place), 8))


def test_batch(folder: Path) -> None:
    data = open_dataset(folder)
    packed = PackedImages(data, SQUARE)
    assert len(packed) == 12
    check(packed)
    indices = torch.tensor([5, 0, 5])
    batch = packed.batch(indices)
    assert batch.images.shape == (3, 3, 8, 8)
    assert batch.images.dtype == torch.uint8
    assert batch.images.is_contiguous(memory_format=torch.channels_last)
    assert torch.equal(batch.labels, data.labels[indices])
    assert torch.equal(batch.indices, indices)
    batch.images.zero_()  # a copy, not the cache
    check(packed)


def test_decoded_once(folder: Path) -> None:
    data, store = counted(open_dataset(folder))
    PackedImages(data, SQUARE)
    assert sorted(store.decoded) == list(range(12))
    check(PackedImages(data, SQUARE))
    assert len(store.decoded) == 24  # by check itself, one each


def test_subset_decodes_its_own_images(folder: Path) -> None:
    data, store = counted(open_dataset(folder))
    part = PackedImages(data.subset([7, 2]), SQUARE)
    assert sorted(store.decoded) == [2, 7]
    check(part)
    store.decoded.clear()
    whole = PackedImages(data, SQUARE)
    assert sorted(store.decoded) == [0, 1, 3, 4, 5, 6, 8, 9, 10, 11]
    check(whole)


def test_an_image_twice(folder: Path) -> None:
    packed = PackedImages(open_dataset(folder).subset([3, 1, 3]), SQUARE)
    assert len(packed) == 3
    check(packed)


def test_no_images(folder: Path) -> None:
    assert len(PackedImages(open_dataset(folder).subset([]), SQUARE)) == 0


def test_splits_share_a_cache(folder: Path) -> None:
    for split in ("train", "val", None):
        check(PackedImages(open_dataset(folder, split=split), SQUARE))
    pixels, _ = files_of(folder)
    assert pixels.stat().st_size == 12 * 8 * 8 * 3


def test_preprocessing_is_part_of_the_key(folder: Path) -> None:
    check(PackedImages(open_dataset(folder), SQUARE))
    larger = PackedImages(open_dataset(folder), Preprocessing(9))
    assert larger.batch(torch.tensor([0])).images.shape == (1, 3, 9, 9)
    assert len(list(cache_directory().iterdir())) == 2


def test_changed_archive(folder: Path) -> None:
    PackedImages(open_dataset(folder), SQUARE)
    known = truth()
    known.files["000003.jpg"] = encoded(picture(99))
    write_celeba(folder, known)
    data, store = counted(open_dataset(folder))
    packed = PackedImages(data, SQUARE)
    assert store.decoded == [2]
    check(packed)


def test_changed_file(tmp_path: Path) -> None:
    known = truth()
    folder = write_celeba(tmp_path / "celeba", known, archive=False)
    PackedImages(open_dataset(folder), SQUARE)
    changed = folder / "img_align_celeba" / "000004.jpg"
    changed.write_bytes(encoded(picture(99)))
    stamp = changed.stat().st_mtime_ns + 1
    os.utime(changed, ns=(stamp, stamp))
    data, store = counted(open_dataset(folder))
    packed = PackedImages(data, SQUARE)
    assert store.decoded == [3]
    check(packed)


def flip_pixel(pixels: Path, index: Path) -> None:
    data = bytearray(pixels.read_bytes())
    data[5 * 192 + 17] ^= 1
    pixels.write_bytes(data)


def flip_checksum(pixels: Path, index: Path) -> None:
    data = bytearray(index.read_bytes())
    data[2 * 20 + 17] ^= 1
    index.write_bytes(data)


def cut_pixels(pixels: Path, index: Path) -> None:
    os.truncate(pixels, 4 * 192 + 5)


def cut_index(pixels: Path, index: Path) -> None:
    os.truncate(index, 7 * 20 + 3)


def append_rubbish(pixels: Path, index: Path) -> None:
    with pixels.open("ab") as file:
        file.write(bytes(1000))
    with index.open("ab") as file:
        file.write(b"rubbish")


def zero_all(pixels: Path, index: Path) -> None:
    pixels.write_bytes(bytes(pixels.stat().st_size))


@pytest.mark.parametrize(
    ("damage", "again"),
    [
        (flip_pixel, 1),
        (flip_checksum, 1),
        (cut_pixels, 8),
        (cut_index, 5),
        (append_rubbish, 0),
        (zero_all, 12),
    ],
)
def test_damaged_cache_is_mended(folder: Path, damage, again: int) -> None:
    PackedImages(open_dataset(folder), SQUARE)
    damage(*files_of(folder))
    data, store = counted(open_dataset(folder))
    packed = PackedImages(data, SQUARE)
    assert len(store.decoded) == again
    check(packed)
    store.decoded.clear()
    PackedImages(data, SQUARE)
    assert store.decoded == []


def test_damage_is_said(folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    PackedImages(open_dataset(folder), SQUARE)
    flip_pixel(*files_of(folder))
    PackedImages(open_dataset(folder), SQUARE)
    assert "1 cached images are damaged" in caplog.text


def start(folder: Path) -> subprocess.Popen[str]:
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-c", OPEN, str(folder)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment)


def test_killed_in_the_middle(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MASKATLAS_CACHE", str(tmp_path / "cache"))
    folder = write_table(tmp_path / "own", truth(900))
    process = start(folder)
    deadline = time.monotonic() + 60
    while not any(at.stat().st_size for at in (tmp_path / "cache").glob("*/index")):
        assert time.monotonic() < deadline
        assert process.poll() is None
        time.sleep(0.001)
    process.kill()
    process.communicate()
    data, store = counted(open_dataset(folder))
    PackedImages(data, SQUARE)
    assert 0 < len(store.decoded) < 900
    check(PackedImages(data.subset(range(0, 900, 30)), SQUARE))


def test_two_processes_at_once(folder: Path) -> None:
    processes = [start(folder) for _ in range(2)]
    sums = [process.communicate(timeout=60)[0] for process in processes]
    packed = PackedImages(open_dataset(folder), SQUARE)
    expected = sum(int(packed.batch(torch.tensor([i])).images.sum()) for i in range(12))
    assert sums == [f"{expected}\n"] * 2
    pixels, index = files_of(folder)
    assert pixels.stat().st_size == 12 * 192  # decoded once, by one of them
    assert index.stat().st_size == 12 * 20


def damaged(folder: Path, count: int) -> AttributeDataset:
    known = truth(30)
    for name in known.names[:count]:
        known.files[name] = b"<html>Quota exceeded</html>"
    return open_dataset(write_table(folder, known))


def test_unreadable_images_fail(tmp_path: Path) -> None:
    data = damaged(tmp_path / "own", 23)
    with pytest.raises(DataError) as error:
        PackedImages(data, SQUARE)
    lines = str(error.value).split("\n")
    assert "23 of 30 images cannot be read" in lines[0]
    assert sum("an HTML page" in line for line in lines) == 20
    assert "... and 3 more" in lines[-2]
    assert "--data.exclude" in lines[-1]


def test_unreadable_images_are_skipped(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    data = damaged(tmp_path / "own", 2)
    packed = PackedImages(data, SQUARE, on_error="skip")
    assert packed.data.names == data.names[2:]
    assert "2 of 30 images cannot be read; they are left out" in caplog.text
    check(packed)


def test_nothing_readable_is_an_error_also_when_skipping(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="30 of 30"):
        PackedImages(damaged(tmp_path / "own", 30), SQUARE, on_error="skip")


def test_image_removed_after_opening(tmp_path: Path) -> None:
    data = open_dataset(write_table(tmp_path / "own", truth()))
    (tmp_path / "own" / "images" / "000002.jpg").unlink()
    with pytest.raises(DataError, match=r"000002\.jpg: cannot be read: No such file"):
        PackedImages(data, SQUARE)


def test_disk_is_too_small(tmp_path: Path) -> None:
    data = open_dataset(write_table(tmp_path / "own", truth()))
    with small_disk(tmp_path) as disk, pytest.raises(DataError, match="MASKATLAS_CACHE"):
        PackedImages(data, Preprocessing(512), directory=disk)


def test_disk_fills_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data = open_dataset(write_table(tmp_path / "own", truth(60)))
    plenty = SimpleNamespace(free=2**40)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: plenty)
    monkeypatch.setattr(cache, "_CHUNK", 8)
    with small_disk(tmp_path) as disk:
        with pytest.raises(DataError, match="the disk is full"):
            PackedImages(data, Preprocessing(128), directory=disk)
        part, store = counted(data.subset(range(16)))
        PackedImages(part, Preprocessing(128), directory=disk)
        assert store.decoded == []  # what was written before stays valid


def test_cache_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    data = open_dataset(write_table(tmp_path / "own", truth()))
    with pytest.raises(DataError, match="cannot be used: Not a directory"):
        PackedImages(data, SQUARE, directory=tmp_path / "file")


def test_place_of_the_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MASKATLAS_CACHE", str(tmp_path / "a"))
    assert cache_directory() == tmp_path / "a"
    monkeypatch.delenv("MASKATLAS_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "b"))
    assert cache_directory() == tmp_path / "b" / "maskatlas"
    monkeypatch.delenv("XDG_CACHE_HOME")
    assert cache_directory() == Path.home() / ".cache" / "maskatlas"


def test_nothing_is_written_beside_the_data(folder: Path) -> None:
    before = sorted(folder.rglob("*"))
    PackedImages(open_dataset(folder), SQUARE)
    assert sorted(folder.rglob("*")) == before


def test_progress(
    folder: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setattr(cache, "_LOG_SECONDS", -1.0)
    caplog.set_level(logging.INFO)
    PackedImages(open_dataset(folder), SQUARE, progress=True)  # no terminal
    assert "decoded 12 of 12 images" in caplog.text
    PackedImages(open_dataset(folder), Preprocessing(9))
    captured = capsys.readouterr()
    assert captured.out == captured.err == ""
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True, raising=False)
    PackedImages(open_dataset(folder), Preprocessing(10), progress=True)
    captured = capsys.readouterr()
    assert "decoding" in captured.err
    assert captured.out == ""
