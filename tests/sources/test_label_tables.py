from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from layouts import attribute_text, truth
from maskatlas.errors import DataError
from maskatlas.sources.label_tables import read_pairs, read_spaced_labels, read_text
from reference import label_tables as slow


def written(tmp_path: Path, text: str | bytes, name: str = "list_attr_celeba.txt") -> Path:
    path = tmp_path / name
    path.write_bytes(text.encode() if isinstance(text, str) else text)
    return path


def errors_of(path: Path) -> list[str]:
    with pytest.raises(DataError) as error:
        read_spaced_labels(path)
    first, *lines, _ = str(error.value).split("\n")
    assert first.startswith(f"{path}: {len(lines)} error")
    return [line.strip() for line in lines]


@settings(deadline=None)
@given(
    count=st.integers(0, 20),
    width=st.integers(1, 6),
    seed=st.integers(0, 2**32 - 1),
    absent=st.sampled_from(["-1", "0"]),
)
def test_against_the_plain_reader(
    count: int, width: int, seed: int, absent: str, tmp_path_factory: pytest.TempPathFactory
) -> None:
    known = truth(0, tuple(f"A{column}" for column in range(width)))
    known.names = [f"{place}-1.jpg" for place in range(count)]  # holds what stands for absent
    known.labels = np.random.default_rng(seed).integers(0, 2, (count, width))
    text = attribute_text(known, absent=absent)
    table = read_spaced_labels(written(tmp_path_factory.mktemp("table"), text))
    attributes, names, labels = slow.read(text)
    assert list(table.attributes) == attributes
    assert list(table.names) == names
    assert np.array_equal(table.labels, labels)
    assert table.labels.dtype == np.float32


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
@pytest.mark.parametrize("mark", [b"", b"\xef\xbb\xbf"])
@pytest.mark.parametrize("tail", ["", "\n\n", "  \n"])
def test_line_ends_and_byte_order_marks(tmp_path: Path, end: str, mark: bytes, tail: str) -> None:
    text = attribute_text(truth(), end) + tail
    table = read_spaced_labels(written(tmp_path, mark + text.encode()))
    assert np.array_equal(table.labels, truth().labels)
    assert list(table.names) == truth().names


def test_no_count_line(tmp_path: Path) -> None:
    text = attribute_text(truth()).split("\n", 1)[1]
    assert list(read_spaced_labels(written(tmp_path, text)).names) == truth().names


def test_all_errors_at_once(tmp_path: Path) -> None:
    lines = [
        "9",
        "Smiling Male Smiling",
        "a.jpg 1 -1 1",
        "b.jpg 1 2 1",
        "c.jpg 1 1",
        "a.jpg 1 1 1",
        "d.jpg 1 11 nan",
        "../e.jpg 1 1 1",
        "/f.jpg 1 1 1",
        "C:\\g.jpg 1 1 1",
        "h.jpg 1 -1-1 1",
        "i.jpg 1 ½ 1",
    ]
    assert errors_of(written(tmp_path, "\n".join(lines))) == [
        "line 1: says that 9 images follow, but 10 do: is the file cut short?",
        "line 2: 2 columns are named 'Smiling'",
        "line 4: b.jpg, Male: expected -1, 0 or 1, found '2'",
        "line 5: c.jpg: expected 3 values, found 2",
        "line 6: 'a.jpg' was already in line 3",
        "line 7: d.jpg, Male: expected -1, 0 or 1, found '11'",
        "line 7: d.jpg, Smiling: expected -1, 0 or 1, found 'nan'",
        "line 8: '../e.jpg' leaves the folder: expected a path below it",
        "line 9: '/f.jpg' leaves the folder: expected a path below it",
        "line 10: 'C:\\\\g.jpg' leaves the folder: expected a path below it",
        "line 11: h.jpg, Male: expected -1, 0 or 1, found '-1-1'",
        "line 12: i.jpg, Male: expected -1, 0 or 1, found '½'",
    ]


@pytest.mark.parametrize(
    "values", ["1 1 11", "-1 --1 1", "1 -1 -", "1 0x1 1", "1 1.0 1", "+1 1 1", "1 １ 1", "1 -11 1"]
)
def test_no_wrong_value_slips_through(tmp_path: Path, values: str) -> None:
    (error,) = errors_of(written(tmp_path, f"1\nA B C\na.jpg {values}\n"))
    assert "expected -1, 0 or 1" in error


def test_minus_one_and_zero_in_one_attribute(tmp_path: Path) -> None:
    (error,) = errors_of(written(tmp_path, "3\nA B\na 1 -1\nb 0 1\nc -1 -1\n"))
    assert error.startswith("line 2: A holds both -1 and 0")


def test_many_errors_are_counted(tmp_path: Path) -> None:
    rows = "".join(f"{place}.jpg 7\n" for place in range(80))
    path = written(tmp_path, f"80\nA\n{rows}")
    with pytest.raises(DataError, match="80 errors") as error:
        read_spaced_labels(path)
    assert "... and 30 more" in str(error.value)


def test_header_is_missing(tmp_path: Path) -> None:
    (error,) = errors_of(written(tmp_path, "1\na.jpg 1 -1\n"))
    assert error.startswith("line 2: expected a count, a line of attribute names")
    (error,) = errors_of(written(tmp_path, "202599\n"))
    assert error.startswith("line 2: expected a count, a line of attribute names")


@pytest.mark.parametrize(
    ("data", "found"),
    [
        (b"", "an empty file"),
        (b"<!DOCTYPE html><html><title>Google Drive - Quota exceeded</title>", "an HTML page"),
        (b"PK\x03\x04" + bytes(30), "a ZIP archive"),
        (b"1\nA\nb\x00.jpg 1", "binary data"),
        (b"1\nA\n" + b"b.jpg 1\n" * 1000 + b"\x00", "binary data"),
        (b"1\nA\nb\xff.jpg 1", "line 3 holds the byte 0xff"),
    ],
)
def test_what_is_no_table_is_named(tmp_path: Path, data: bytes, found: str) -> None:
    path = written(tmp_path, data)
    with pytest.raises(DataError) as error:
        read_text(path, "a table")
    assert str(error.value).startswith(f"{path}: expected a table")
    assert found in str(error.value)


def test_missing_file(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="cannot be read: No such file"):
        read_text(tmp_path / "none.txt", "a table")


def test_pairs(tmp_path: Path) -> None:
    path = written(tmp_path, b"\xef\xbb\xbfa.jpg 3\r\n  b.jpg   4 \r\n\r\n")
    assert read_pairs(path, "a number") == {"a.jpg": 3, "b.jpg": 4}
    path = written(tmp_path, "image_id,partition\na.jpg,0\nb.jpg, 2\n", "list.csv")
    assert read_pairs(path, "a number") == {"a.jpg": 0, "b.jpg": 2}


def test_errors_in_pairs(tmp_path: Path) -> None:
    path = written(tmp_path, "a.jpg 1\nb.jpg\nc.jpg x\n\na.jpg 2\nd.jpg 1 1\ne.jpg 5\nf.jpg -1\n")
    with pytest.raises(DataError) as error:
        read_pairs(path, "0 or 1", (0, 1))
    assert [line.strip() for line in str(error.value).split("\n")[1:-1]] == [
        "line 2: expected a file name and 0 or 1, found 'b.jpg'",
        "line 3: c.jpg: expected 0 or 1, found 'x'",
        "line 5: 'a.jpg' was already in line 1",
        "line 5: a.jpg: expected 0 or 1, found '2'",
        "line 6: expected a file name and 0 or 1, found 'd.jpg 1 1'",
        "line 7: e.jpg: expected 0 or 1, found '5'",
        "line 8: f.jpg: expected 0 or 1, found '-1'",
    ]
