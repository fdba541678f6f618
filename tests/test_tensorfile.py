import io
import json
import os
import pickle
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import hypothesis.strategies as st
import pytest
import safetensors.torch
import torch
from hypothesis import given, settings
from torch import Tensor

from maskatlas.errors import CheckpointError, MisfitError
from maskatlas.tensorfile import MAX_HEADER, check_shapes, load_tensors, read_header, save_tensors

DTYPES = [
    torch.float64,
    torch.float32,
    torch.float16,
    torch.bfloat16,
    torch.int64,
    torch.int32,
    torch.uint8,
]


def same_bits(a: Tensor, b: Tensor) -> bool:
    if a.dtype != b.dtype or a.shape != b.shape:
        return False
    return torch.equal(
        a.contiguous().reshape(-1).view(torch.uint8), b.contiguous().reshape(-1).view(torch.uint8)
    )


@st.composite
def tensors(draw: st.DrawFn) -> Tensor:
    """Any bits, NaNs among them, of any type and shape, empty and scalar ones too."""
    dtype = draw(st.sampled_from(DTYPES))
    shape = draw(st.lists(st.integers(0, 4), max_size=4))
    size = torch.Size(shape).numel() * dtype.itemsize
    content = bytearray(draw(st.binary(min_size=size, max_size=size)))
    if not size:
        return torch.empty(shape, dtype=dtype)
    return torch.frombuffer(content, dtype=dtype).reshape(shape)


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("tensors") / "file.safetensors"


def crafted(header: Any, data: bytes = b"", length: int | None = None) -> bytes:
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(text) if length is None else length) + text + data


def entry(begin: int, end: int, shape: list[int], dtype: str = "F32") -> dict[str, Any]:
    return {"dtype": dtype, "shape": shape, "data_offsets": [begin, end]}


@pytest.fixture
def nothing_allocated(monkeypatch: pytest.MonkeyPatch) -> None:
    def allocate(*_: object, **__: object) -> None:
        raise AssertionError("a tensor was allocated for a file that is refused")

    monkeypatch.setattr(torch, "empty", allocate)


@settings(deadline=None)
@given(
    state=st.dictionaries(st.text(), tensors(), max_size=6),
    metadata=st.dictionaries(st.text(), st.text(), max_size=3),
)
def test_every_bit_comes_back(
    state: dict[str, Tensor], metadata: dict[str, str], file: Path
) -> None:
    state.pop("__metadata__", None)
    metadata.pop("crc32", None)
    save_tensors(file, state, metadata)
    loaded, notes = load_tensors(file, {name: tuple(t.shape) for name, t in state.items()})
    assert loaded.keys() == state.keys()
    assert all(same_bits(loaded[name], state[name]) for name in state)
    assert notes == metadata


@settings(deadline=None)
@given(state=st.dictionaries(st.text(), tensors(), max_size=6))
def test_the_safetensors_library_reads_what_is_written_and_writes_what_is_read(
    state: dict[str, Tensor], file: Path
) -> None:
    state.pop("__metadata__", None)
    save_tensors(file, state, {"note": "x"})
    theirs = safetensors.torch.load(file.read_bytes())
    assert theirs.keys() == state.keys()
    assert all(same_bits(theirs[name], state[name]) for name in state)
    file.write_bytes(safetensors.torch.save(state, {"note": "y"}))
    ours, notes = load_tensors(file)
    assert ours.keys() == state.keys()
    assert all(same_bits(ours[name], state[name]) for name in state)
    assert notes == {"note": "y"}


def test_shared_and_scattered_memory_is_stored_tensor_by_tensor(file: Path) -> None:
    base = torch.randn(6, 5)
    images = torch.randn(2, 3, 4, 5)
    state = {
        "whole": base,
        "same": base,
        "row": base[2],
        "column": base[:, 1],
        "transposed": base.T,
        "expanded": base[:1].expand(4, 5),
        "conjugate-free": base[::2],
        "parameter": torch.nn.Parameter(base),
        "channels_last": images.contiguous(memory_format=torch.channels_last),
    }
    save_tensors(file, state, {})
    loaded, _ = load_tensors(file)
    assert all(same_bits(loaded[name], tensor.detach()) for name, tensor in state.items())
    loaded["whole"].zero_()
    assert torch.equal(loaded["same"], base)


def test_the_header_tells_the_shapes_without_reading_a_tensor(
    file: Path, nothing_allocated: None
) -> None:
    save_tensors(file, {"a": torch.ones(2, 3), "b": torch.tensor(1.0)}, {"note": "x"})
    header = read_header(file)
    assert header.shapes == {"a": (2, 3), "b": ()}
    assert header.metadata["note"] == "x"


class Trap:
    """What a pickle can do when it is read."""

    def __init__(self, trace: Path) -> None:
        self.trace = trace

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[Any, ...]]:
        return os.mkdir, (str(self.trace),)


def torch_zip(trap: Trap) -> bytes:
    buffer = io.BytesIO()
    torch.save({"model": trap}, buffer)
    return buffer.getvalue()


@pytest.mark.parametrize(
    ("content", "found"),
    [
        (lambda trap: pickle.dumps(trap), "a pickle, which can run code"),
        (lambda trap: pickle.dumps(trap, protocol=2), "a pickle, which can run code"),
        (lambda trap: pickle.dumps(trap, protocol=0), "foreign, damaged or cut short"),
        (torch_zip, "a zip archive, as torch.save makes"),
        (lambda _: b"<!DOCTYPE html><html>Quota exceeded</html>", "a web page"),
        (lambda _: b"version https://git-lfs.github.com/spec/v1\noid", "a Git LFS pointer"),
        (lambda _: b"\x1f\x8b\x08\x00\x00\x00\x00\x00\x00\x03", "a gzip archive"),
        (lambda _: b"", "0 bytes that are foreign"),
        (lambda _: b"1234567", "7 bytes that are foreign"),
    ],
)
def test_a_foreign_file_is_refused_and_nothing_in_it_runs(
    content: Callable[[Trap], bytes], found: str, tmp_path: Path
) -> None:
    trace = tmp_path / "trace"
    path = tmp_path / "model.safetensors"
    path.write_bytes(content(Trap(trace)))
    with pytest.raises(CheckpointError, match=f"expected a safetensors file, found .*{found}"):
        load_tensors(path)
    assert not trace.exists()


FOUR = bytes(4)


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (crafted({}, length=2**64 - 1), "foreign, damaged or cut short"),
        (crafted({}, length=3), "foreign, damaged or cut short"),
        (crafted({}, length=0), "foreign, damaged or cut short"),
        (crafted(b"{" + b" " * MAX_HEADER + b"}"), "foreign, damaged or cut short"),
        (crafted(b"{}}"), "the header is damaged: Extra data"),
        (crafted(b'{"a": '), "the header is damaged: Expecting value"),
        (crafted(b'{"a": "\xff\xfe"}'), "the header is damaged: 'utf-8' codec"),
        (crafted(b"[" * 100_000), "the header is damaged: "),
        (crafted(b'{"a": ' + b"9" * 5000 + b"}"), "the header is damaged: Exceeds the limit"),
        (crafted([]), "expected an object with the tensors"),
        (crafted({"__metadata__": 3}), "metadata of texts"),
        (crafted({"__metadata__": {"a": 3}}), "metadata of texts"),
        (crafted({"a": 3}), "'a' lacks its type, shape or place"),
        (crafted({"a": {"dtype": "F32", "shape": []}}), "'a' lacks its type, shape or place"),
        (crafted({"a": entry(0, 4, [1]) | {"x": 1}}, FOUR), "'a' has a shape or a place"),
        (crafted({"a": entry(0, 4, [1], "F8_E5M2")}, FOUR), "is of type 'F8_E5M2'; known are"),
        (crafted({"a": entry(0, 4, [1], "object")}, FOUR), "is of type 'object'; known are"),
        (crafted({"a": entry(0, 4, [1], [])}, FOUR), "'a' lacks its type, shape or place"),
        (crafted({"a": entry(0, 4, {})}, FOUR), "'a' lacks its type, shape or place"),
        (crafted({"a": entry(0, 4, [1.0])}, FOUR), "'a' has a shape or a place that is none"),
        (crafted({"a": entry(0, 4, [True])}, FOUR), "'a' has a shape or a place that is none"),
        (crafted({"a": entry(0, 4, [-1, -1])}, FOUR), "'a' has a shape or a place that is none"),
        (crafted({"a": entry(-4, 0, [1])}, FOUR), "'a' has a shape or a place that is none"),
        (crafted({"a": entry(0, 4, [1] * 9)}, FOUR), "'a' has a shape or a place that is none"),
        (crafted({"a": entry(0, 4, [2])}, FOUR), "'a' of shape [2] does not fill its bytes"),
        (crafted({"a": entry(4, 0, [1])}, FOUR), "'a' of shape [1] does not fill its bytes"),
        (crafted({"a": entry(0, 0, [0, 2**62])}), "does not fill its bytes"),
        (crafted({"a": entry(0, 2**40, [2**38])}, FOUR), "expected 1099511627776 bytes"),
        (crafted({"a": entry(4, 8, [1])}, FOUR * 2), "a gap before 'a'"),
        (
            crafted({"a": entry(0, 4, [1]), "b": entry(8, 12, [1])}, FOUR * 3),
            "a gap before 'b'",
        ),
        (
            crafted({"a": entry(0, 8, [2]), "b": entry(4, 12, [2])}, FOUR * 3),
            "an overlap with 'b'",
        ),
        (
            crafted({"a": entry(0, 4, [1]), "b": entry(0, 4, [1])}, FOUR),
            "an overlap with 'b'",
        ),
        (crafted({"a": entry(0, 4, [1])}, FOUR + b"x"), "foreign bytes at its end"),
        (crafted({"a": entry(0, 4, [1])}, FOUR[:3]), "the file is cut short"),
        (
            crafted(b'{"a": %s, "a": %s}' % ((json.dumps(entry(0, 4, [1])).encode(),) * 2), FOUR),
            "a name stands in it twice",
        ),
    ],
)
def test_a_wrong_header_is_refused_before_anything_is_allocated(
    content: bytes, reason: str, file: Path, nothing_allocated: None
) -> None:
    file.write_bytes(content)
    with pytest.raises(CheckpointError) as caught:
        load_tensors(file)
    assert str(caught.value).startswith(f"{file}: ")
    assert reason in str(caught.value)
    assert len(str(caught.value)) < 500


def test_a_header_of_half_a_terabyte_is_not_read(file: Path, nothing_allocated: None) -> None:
    with file.open("wb") as sparse:
        sparse.write(struct.pack("<Q", 2**39))
        sparse.truncate(2**40)
    with pytest.raises(CheckpointError, match="foreign, damaged or cut short"):
        load_tensors(file)
    file.unlink()


def test_a_file_cut_short_anywhere_is_refused(file: Path) -> None:
    save_tensors(file, {"a": torch.randn(3), "b": torch.ones(2, dtype=torch.uint8)}, {"c": "d"})
    content = file.read_bytes()
    for length in range(len(content)):
        file.write_bytes(content[:length])
        with pytest.raises(CheckpointError):
            load_tensors(file)


@settings(deadline=None, max_examples=300)
@given(data=st.data())
def test_a_changed_byte_is_refused_or_harmless(data: st.DataObject, file: Path) -> None:
    state = {"a": torch.arange(3.0), "b": torch.ones(2, dtype=torch.uint8)}
    save_tensors(file, state, {"c": "d"})
    content = bytearray(file.read_bytes())
    place = data.draw(st.integers(0, len(content) - 1))
    content[place] ^= data.draw(st.integers(1, 255))
    file.write_bytes(content)
    try:
        loaded, _ = load_tensors(file, {"a": (3,), "b": (2,)})
    except CheckpointError:
        return
    start = 8 + struct.unpack("<Q", content[:8])[0]
    assert place < start, "a changed value must be noticed"
    assert {name: tuple(t.shape) for name, t in loaded.items()} == {"a": (3,), "b": (2,)}


@settings(deadline=None)
@given(content=st.binary(max_size=200))
def test_any_bytes_are_refused_cleanly(content: bytes, file: Path) -> None:
    for prefix in (b"", struct.pack("<Q", len(content)), struct.pack("<Q", len(content) // 2)):
        file.write_bytes(prefix + content)
        with pytest.raises(CheckpointError):
            load_tensors(file)


@pytest.mark.parametrize(
    ("expected", "reason"),
    [
        ({"a": (2, 3)}, "'b': expected nothing, found shape [4]"),
        ({"a": (2, 3), "b": (4,), "c": ()}, "'c': expected shape [], found nothing"),
        ({"a": (3, 2), "b": (4,)}, "'a': expected shape [3, 2], found shape [2, 3]"),
        ({"a": (6,), "b": (4,)}, "'a': expected shape [6], found shape [2, 3]"),
        ({f"n{i}": () for i in range(9)}, "; and 6 more"),
    ],
)
def test_other_tensors_than_expected_are_refused_before_anything_is_allocated(
    expected: dict[str, tuple[int, ...]],
    reason: str,
    file: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    save_tensors(file, {"a": torch.ones(2, 3), "b": torch.ones(4)}, {})
    monkeypatch.setattr(torch, "empty", None)
    with pytest.raises(MisfitError) as caught:
        load_tensors(file, expected)
    assert reason in str(caught.value)


def test_shapes_that_agree_pass_in_any_order() -> None:
    check_shapes({"a": (1,), "b": ()}, {"b": (), "a": (1,)}, "here")


def test_what_is_no_file_is_refused_without_waiting_for_it(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    for name, found in {"pipe": "something else", ".": "something else", "none": "nothing"}.items():
        with pytest.raises(CheckpointError, match=f"expected a safetensors file, found {found}"):
            load_tensors(tmp_path / name)
