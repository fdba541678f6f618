"""Tensors in a file: safetensors, checked whole before anything is allocated.

The format is eight bytes with the length of a JSON header, the header, then the tensors' bytes.
Nothing in it can be run. The header is read here rather than by a library so that a file that is
foreign, cut short or does not fit is refused with its reason, by name, while it costs nothing, and
so that a damaged disk is noticed: the bytes carry a checksum, which other readers ignore.
"""

import json
import math
import os
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from io import BufferedReader
from pathlib import Path
from reprlib import repr as brief
from typing import Any

import torch
from torch import Tensor

from maskatlas.errors import CheckpointError, MisfitError
from maskatlas.files import write_atomically

MAX_HEADER = 4 * 2**20
"""Longest header that is read, in bytes."""
_ALIGNMENT = 8
_MAX_DIMENSIONS = 8
_CHECKSUM = "crc32"
_DTYPES = {
    "F64": torch.float64,
    "F32": torch.float32,
    "F16": torch.float16,
    "BF16": torch.bfloat16,
    "I64": torch.int64,
    "I32": torch.int32,
    "U8": torch.uint8,
}
_NAMES = {dtype: name for name, dtype in _DTYPES.items()}
_FOREIGN = {
    b"\x80": "a pickle, which can run code when it is read",
    b"PK\x03\x04": "a zip archive, as torch.save makes of a pickle, which can run code",
    b"<": "a web page",
    b"\x89HDF": "an HDF5 file",
    b"\x1f\x8b": "a gzip archive",
    b"version https://git-lfs": "a Git LFS pointer instead of the file itself",
}


@dataclass(frozen=True, slots=True)
class Entry:
    """Where one tensor stands, and as what."""

    dtype: torch.dtype
    shape: tuple[int, ...]
    begin: int
    """First byte, counted from the end of the header."""
    end: int
    """One past the last byte."""


@dataclass(frozen=True, slots=True)
class Header:
    """What a file says about itself: consistent, and as long as the file is."""

    entries: dict[str, Entry]
    """By name, in the order of their bytes."""
    metadata: dict[str, str]

    @property
    def shapes(self) -> dict[str, tuple[int, ...]]:
        """The shape of each tensor."""
        return {name: entry.shape for name, entry in self.entries.items()}


def save_tensors(path: Path, tensors: Mapping[str, Tensor], metadata: Mapping[str, str]) -> None:
    """Writes tensors so that the file is there whole or not at all.

    They may be on any device, not contiguous, or share their memory; each is stored on its own.

    Args:
        path: The file.
        tensors: By name.
        metadata: Texts to keep beside them.

    Raises:
        CheckpointError: The file cannot be written, for example on a full disk. What stood there
            before still does.
    """
    ordered = sorted(tensors.items(), key=lambda item: -item[1].itemsize)  # so that all are aligned
    entries: dict[str, Any] = {}
    checksum, end = 0, 0
    for name, tensor in ordered:
        assert tensor.dtype in _NAMES, f"{name}: {tensor.dtype} is not stored"
        data = _bytes(tensor)
        checksum = zlib.crc32(data, checksum)
        entries[name] = {
            "dtype": _NAMES[tensor.dtype],
            "shape": list(tensor.shape),
            "data_offsets": [end, end := end + data.nbytes],
        }
    notes = {**metadata, _CHECKSUM: f"{checksum:08x}"}
    header = json.dumps({"__metadata__": notes, **entries}, allow_nan=False).encode()
    header += b" " * (-len(header) % _ALIGNMENT)
    assert len(header) <= MAX_HEADER, f"{path}: a header of {len(header)} bytes is never read"

    def parts() -> Iterator[bytes | memoryview]:
        yield len(header).to_bytes(8, "little")
        yield header
        for _, tensor in ordered:
            yield _bytes(tensor)

    try:
        write_atomically(path, parts())
    except OSError as error:
        raise CheckpointError(
            f"{path}: {end / 2**20:.1f} MiB could not be written ({error.strerror}); what stood "
            "there before is intact. Make room or choose another folder, and go on from there"
        ) from error


def load_tensors(
    path: Path, shapes: Mapping[str, tuple[int, ...]] | None = None
) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Reads the tensors and the metadata of a file.

    Args:
        path: The file.
        shapes: What must be in it, no more and no less; None takes whatever is there.

    Raises:
        CheckpointError: The file is not there, foreign or damaged.
        MisfitError: It has other tensors.
    """
    with _opened(path) as file:
        header = _read_header(path, file)
        if shapes is not None:
            check_shapes(header.shapes, shapes, str(path))
        tensors, checksum = {}, 0
        for name, entry in header.entries.items():
            tensors[name] = torch.empty(entry.shape, dtype=entry.dtype)
            data = _bytes(tensors[name])
            if file.readinto(data) != data.nbytes:
                raise CheckpointError(f"{path}: became shorter while it was read")
            checksum = zlib.crc32(data, checksum)
    expected = header.metadata.get(_CHECKSUM)
    if expected is not None and expected != f"{checksum:08x}":
        raise CheckpointError(
            f"{path}: damaged; expected the checksum {expected}, found {checksum:08x}"
        )
    return tensors, {key: text for key, text in header.metadata.items() if key != _CHECKSUM}


def read_header(path: Path) -> Header:
    """Reads what a file says about its tensors, and none of them.

    Raises:
        CheckpointError: The file is not there, foreign or damaged.
    """
    with _opened(path) as file:
        return _read_header(path, file)


def check_shapes(
    found: Mapping[str, tuple[int, ...]], expected: Mapping[str, tuple[int, ...]], where: str
) -> None:
    """Compares the tensors of a file with those that its configuration asks for.

    Raises:
        MisfitError: Some are missing, too many, or of another shape; up to five are named.
    """
    wrong = [
        f"{brief(name)}: expected {_shape(expected.get(name))}, found {_shape(found.get(name))}"
        for name in sorted(found.keys() | expected.keys())
        if found.get(name) != expected.get(name)
    ]
    if wrong:
        more = f"; and {len(wrong) - 5} more" if len(wrong) > 5 else ""
        raise MisfitError(f"{where}: does not fit its configuration: {'; '.join(wrong[:5])}{more}")


def _shape(shape: tuple[int, ...] | None) -> str:
    return "nothing" if shape is None else f"shape {list(shape)}"


def _bytes(tensor: Tensor) -> memoryview:
    """The tensor's values, row-major; of a contiguous tensor on the CPU the very memory."""
    plain = tensor.detach().cpu().contiguous()
    return plain.reshape(-1).view(torch.uint8).numpy().data


def _opened(path: Path) -> BufferedReader:
    try:
        if path.is_file():  # opening a pipe would wait for ever
            return path.open("rb")
        found = "something else" if path.exists() else "nothing"
        raise CheckpointError(f"{path}: expected a safetensors file, found {found}")
    except OSError as error:
        raise CheckpointError(f"{path}: cannot be read ({error.strerror})") from error


def _read_header(path: Path, file: BufferedReader) -> Header:
    size = os.fstat(file.fileno()).st_size
    prefix = file.read(32)
    length = int.from_bytes(prefix[:8], "little")
    if size < 8 or not 2 <= length <= min(size - 8, MAX_HEADER):
        foreign = (what for magic, what in _FOREIGN.items() if prefix.startswith(magic))
        raise CheckpointError(
            f"{path}: expected a safetensors file, found "
            + next(foreign, f"{size} bytes that are foreign, damaged or cut short")
        )
    file.seek(8)
    try:
        fields = json.loads(file.read(length).decode(), object_pairs_hook=_without_duplicates)
        header = _checked(fields)
    except (ValueError, RecursionError) as error:
        raise CheckpointError(f"{path}: the header is damaged: {error}") from error
    needed = max((entry.end for entry in header.entries.values()), default=0)
    if needed != size - 8 - length:
        raise CheckpointError(
            f"{path}: expected {needed} bytes of tensors, found {size - 8 - length}; "
            "the file is cut short or has foreign bytes at its end"
        )
    return header


def _checked(fields: Any) -> Header:
    """The header in its own types; ValueError says what is wrong with it."""
    metadata = fields.pop("__metadata__", {}) if isinstance(fields, dict) else None
    if not isinstance(metadata, dict) or not all(isinstance(v, str) for v in metadata.values()):
        raise ValueError("expected an object with the tensors, and metadata of texts")
    entries = [(name, _entry(name, field)) for name, field in fields.items()]
    entries.sort(key=lambda item: (item[1].begin, item[1].end))
    end = 0
    for name, entry in entries:
        if entry.begin != end:
            kind = "a gap before" if entry.begin > end else "an overlap with"
            raise ValueError(f"{kind} {brief(name)}")
        end = entry.end
    return Header(dict(entries), metadata)


def _entry(name: str, field: Any) -> Entry:
    match field:
        case {"dtype": str(kind), "shape": list(shape), "data_offsets": [begin, end], **rest}:
            numbers = [*shape, begin, end]
        case _:
            raise ValueError(f"{brief(name)} lacks its type, shape or place")
    if kind not in _DTYPES:
        raise ValueError(f"{brief(name)} is of type {brief(kind)}; known are {', '.join(_DTYPES)}")
    if rest or len(shape) > _MAX_DIMENSIONS or any(type(n) is not int or n < 0 for n in numbers):
        raise ValueError(f"{brief(name)} has a shape or a place that is none")
    dtype = _DTYPES[kind]
    filled = math.prod(shape) * dtype.itemsize == end - begin
    if not filled or math.prod(max(n, 1) for n in shape) >= 2**60:
        raise ValueError(f"{brief(name)} of shape {brief(shape)} does not fill its bytes")
    return Entry(dtype, tuple(shape), begin, end)


def _without_duplicates(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    fields = dict(pairs)
    if len(fields) != len(pairs):
        raise ValueError("a name stands in it twice")
    return fields
