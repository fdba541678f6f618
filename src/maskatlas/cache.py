"""Images decoded once into a packed, memory-mapped file of bytes.

For each place that images come from and each preprocessing there is a folder in the cache with two
files: ``pixels`` holds the images one after another, ``index`` says of each whose it is and what
its checksum is. Both only grow. An image is known by its content key, so a subset decodes no more
than its own images, and an image that changed is decoded again. Pixels are written before the entry
that vouches for them, by ordinary writes and never through the map: a full disk is an error and no
signal, a killed process leaves at worst pixels without an entry, and who finds all images there
needs no lock. An image whose checksum fails is decoded again.
"""

import contextlib
import errno
import fcntl
import hashlib
import logging
import mmap
import os
import shutil
import sys
import time
import zlib
from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from jaxtyping import Int64, UInt8
from torch import Tensor
from tqdm import tqdm

from maskatlas.data import AttributeDataset, Batch
from maskatlas.errors import DataError, ImageError
from maskatlas.files import cache_directory
from maskatlas.images import Preprocessing

_LOG = logging.getLogger(__name__)
_VERSION = 2  # changes with the layout of the files and with what the preprocessing computes
_KEY_BYTES, _ENTRY_BYTES = 16, 20  # of an entry: the content key, then a CRC-32
_CHUNK = 256  # images decoded between two writes
_MOST_TOLD = 20  # unreadable images that an error names
_LOG_SECONDS = 10.0


class PackedImages:
    """The preprocessed images of a dataset, ready to be gathered into batches.

    Several processes may open the same images at once: one decodes, the others wait for it.
    """

    def __init__(
        self,
        data: AttributeDataset,
        preprocessing: Preprocessing,
        *,
        directory: Path | None = None,
        progress: bool = False,
        on_error: Literal["fail", "skip"] = "fail",
    ) -> None:
        """Decode what the cache does not hold yet, and map it.

        Args:
            data: The images.
            preprocessing: What is done to each.
            directory: Where the cache lies; :func:`maskatlas.files.cache_directory` by default.
            progress: Show a progress bar on a terminal; else a line is logged now and then.
            on_error: With ``skip``, images that cannot be decoded are left out with a warning.

        Raises:
            DataError: Images cannot be decoded, or the cache cannot be written.
        """
        self.preprocessing = preprocessing
        keys, failures = _content_keys(data)
        wanted = {key: index for index, key in keys.items()}
        file = _PackedFile(_folder(data, preprocessing, directory), preprocessing.size)
        with _explaining_os_errors(file.folder):
            slots = file.find(wanted)
            if len(slots) < len(wanted):
                with file.lock():
                    slots = file.find(wanted)
                    missing = {key: index for key, index in wanted.items() if key not in slots}
                    bar = progress and sys.stderr.isatty()
                    failures |= _decode_into(file, data, preprocessing, missing, bar=bar)
                    slots = file.find(wanted)
            self._pixels = file.map()
        if failures:
            _report(failures, data, on_error)
        kept = [index for index, key in keys.items() if key in slots]
        self.data = data if len(kept) == len(data) else data.subset(kept)
        """The dataset of the packed images: what was asked for, less what was skipped."""
        self._slots = np.array([slots[keys[index]] for index in kept], np.int64)

    def __len__(self) -> int:
        return len(self.data)

    def batch(self, indices: Int64[Tensor, " batch"]) -> Batch:
        """Gather images [batch 3 size size], channels last in memory, and labels."""
        images = torch.from_numpy(self._pixels[self._slots[indices.numpy()]])
        return Batch(images.permute(0, 3, 1, 2), self.data.labels[indices], indices)


class _PackedFile:
    """The two files of one place and one preprocessing."""

    def __init__(self, folder: Path, size: int) -> None:
        self.folder = folder
        self.shape = (size, size, 3)
        self.bytes_each = size * size * 3

    def entries(self) -> bytes:
        """The entries whose pixels are there, one after another."""
        try:
            index = (self.folder / "index").read_bytes()
            slots = (self.folder / "pixels").stat().st_size // self.bytes_each
        except FileNotFoundError:
            return b""
        return index[: min(len(index) // _ENTRY_BYTES, slots) * _ENTRY_BYTES]

    def map(self) -> UInt8[np.ndarray, "slot size size 3"]:
        """All slots, mapped for reading."""
        path = self.folder / "pixels"
        count = path.stat().st_size // self.bytes_each if path.exists() else 0
        if not count:
            return np.empty((0, *self.shape), np.uint8)
        with path.open("rb") as file:
            mapped = mmap.mmap(file.fileno(), count * self.bytes_each, access=mmap.ACCESS_READ)
        pixels = np.frombuffer(mapped, np.uint8, count * self.bytes_each)
        return pixels.reshape(count, *self.shape)

    def find(self, keys: Iterable[bytes]) -> dict[bytes, int]:
        """The slot of each of these images that is there and whole."""
        entries = self.entries()
        starts = range(0, len(entries), _ENTRY_BYTES)
        # of two entries with one key the later one stands: it replaced a damaged one
        places = {entries[start : start + _KEY_BYTES]: slot for slot, start in enumerate(starts)}
        pixels = self.map()
        found: dict[bytes, int] = {}
        damaged = 0
        for key in keys:
            if (slot := places.get(key)) is None:
                continue
            start = slot * _ENTRY_BYTES + _KEY_BYTES
            stated = int.from_bytes(entries[start : start + 4], "little")
            if zlib.crc32(pixels[slot].data) == stated:
                found[key] = slot
            else:
                damaged += 1
        if damaged:
            _LOG.warning(
                "%s: %d cached images are damaged; they are decoded again.", self.folder, damaged
            )
        return found

    @contextlib.contextmanager
    def lock(self) -> Iterator[None]:
        """Let one process write at a time."""
        self.folder.mkdir(parents=True, exist_ok=True)
        with (self.folder / "lock").open("a") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                _LOG.info("%s: another process decodes these images; waiting.", self.folder)
                fcntl.flock(file, fcntl.LOCK_EX)
            yield

    def append(self, keys: list[bytes], pixels: list[bytes]) -> None:
        """Add images; under the lock."""
        index = bytearray()
        for key, image in zip(keys, pixels, strict=True):
            index += key + zlib.crc32(image).to_bytes(4, "little")
        entries = self.entries()
        slots = len(entries) // _ENTRY_BYTES
        # what a killed process left behind the last whole entry is written over
        _write_at(self.folder / "pixels", slots * self.bytes_each, b"".join(pixels))
        _write_at(self.folder / "index", len(entries), bytes(index))


def _write_at(path: Path, start: int, data: bytes) -> None:
    with open(path, "r+b" if path.exists() else "xb", buffering=0) as file:
        file.truncate(start)
        file.seek(start)
        rest = memoryview(data)
        while rest:
            rest = rest[file.write(rest) :]


def _folder(data: AttributeDataset, preprocessing: Preprocessing, directory: Path | None) -> Path:
    """The folder of the cache for the place of these images and this preprocessing."""
    place = f"{_VERSION} {data.source} {data.path and data.path.resolve()} {preprocessing}"
    digest = hashlib.blake2b(place.encode("utf-8", "surrogateescape"), digest_size=10).hexdigest()
    return (directory or cache_directory()) / f"{data.source}-{preprocessing.size}-{digest}"


def _content_keys(data: AttributeDataset) -> tuple[dict[int, bytes], dict[int, str]]:
    """The content key of each image, and why some have none."""
    keys: dict[int, bytes] = {}
    failures: dict[int, str] = {}
    for index in range(len(data)):
        try:
            keys[index] = data.content_key(index)
        except ImageError as error:
            failures[index] = str(error)
    return keys, failures


def _decode_into(
    file: _PackedFile,
    data: AttributeDataset,
    preprocessing: Preprocessing,
    missing: Mapping[bytes, int],
    *,
    bar: bool,
) -> dict[int, str]:
    """Decode and write these images; returns why some could not be."""
    images = list(missing.items())
    _check_space(file, len(images))
    failures: dict[int, str] = {}

    def decode(index: int) -> bytes | str:
        try:
            return preprocessing.image(data.read(index)).tobytes()
        except ImageError as error:
            return str(error)

    started = told = time.monotonic()
    done = 0
    with (
        ThreadPoolExecutor(_threads()) as threads,
        tqdm(total=len(images), desc="decoding", unit=" images", disable=not bar) as shown,
    ):
        for start in range(0, len(images), _CHUNK):
            chunk = images[start : start + _CHUNK]
            keys: list[bytes] = []
            pixels: list[bytes] = []
            decoded = threads.map(decode, [index for _, index in chunk])
            for (key, index), result in zip(chunk, decoded, strict=True):
                if isinstance(result, str):
                    failures[index] = result
                else:
                    keys.append(key)
                    pixels.append(result)
            file.append(keys, pixels)
            done += len(chunk)
            shown.update(len(chunk))
            if not bar and time.monotonic() - told > _LOG_SECONDS:
                told = time.monotonic()
                rate = done / (told - started)
                _LOG.info("decoded %d of %d images (%.0f a second)", done, len(images), rate)
    return failures


def _threads() -> int:
    """As many as this process may use processors; Pillow decodes outside of the interpreter."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _check_space(file: _PackedFile, images: int) -> None:
    needed = images * (file.bytes_each + _ENTRY_BYTES)
    free = shutil.disk_usage(file.folder).free
    if needed > free:
        raise DataError(
            f"{file.folder}: the cache of {images} images needs {needed / 2**20:.0f} MiB, and "
            f"{free / 2**20:.0f} MiB are free. Make room, or set MASKATLAS_CACHE to a folder on "
            "another disk."
        )


@contextlib.contextmanager
def _explaining_os_errors(folder: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        full = error.errno in (errno.ENOSPC, errno.EDQUOT)
        raise DataError(
            f"{folder}: the cache cannot be used: "
            f"{'the disk is full' if full else error.strerror or error}. What is in it stays "
            "valid. Make room, or set MASKATLAS_CACHE to a folder on another disk."
        ) from error


def _report(failures: Mapping[int, str], data: AttributeDataset, on_error: str) -> None:
    """Raise or warn about images that cannot be decoded."""
    told = [f"  {failures[index]}" for index in sorted(failures)[:_MOST_TOLD]]
    if len(failures) > _MOST_TOLD:
        told.append(f"  ... and {len(failures) - _MOST_TOLD} more")
    count = f"{len(failures)} of {len(data)} images cannot be read"
    where = data.path or data.source
    if on_error == "fail" or len(failures) == len(data):
        remedy = "Mend or remove them, or list them in a file for --data.exclude."
        raise DataError("\n".join([f"{where}: {count}:", *told, remedy]))
    _LOG.warning("%s", "\n".join([f"{where}: {count}; they are left out:", *told]))
