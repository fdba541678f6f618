from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save_file

from maskatlas.cases import Case, load_cases, save_cases
from maskatlas.errors import RunError


def some_cases(count: int = 3, size: int = 5) -> list[Case]:
    random = np.random.default_rng(1)
    return [
        Case(
            method="contribution",
            attribute=f"A{number}</script>",
            image_name=f"{number}.jpg",
            hit=number % 2 == 0,
            energy_ratio=random.random(),
            image=random.integers(0, 256, (size, size, 3), dtype=np.uint8),
            region=random.choice([0, 1, 255], (size, size)).astype(np.uint8),
            map=random.normal(size=(size, size)).astype(np.float32),
        )
        for number in range(count)
    ]


def test_what_is_read_is_what_was_written(tmp_path: Path) -> None:
    cases = some_cases()
    save_cases(tmp_path / "run" / "cases", cases)
    found = load_cases(tmp_path / "run" / "cases")
    assert [case.to_json() for case in found] == [case.to_json() for case in cases]
    for one, other in zip(found, cases, strict=True):
        for field in ("image", "region", "map"):
            np.testing.assert_array_equal(getattr(one, field), getattr(other, field))


def test_what_is_damaged_or_another_file_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "cases"
    save_cases(path, some_cases())
    whole = path.read_bytes()
    for content in (b"", whole[:-1], whole[:200], b"\x80" + whole[1:], b"{}"):
        path.write_bytes(content)
        with pytest.raises(RunError, match=r"cases: .*evaluate --explanations"):
            load_cases(path)
    save_file({"images": np.zeros((1, 2, 2, 3), np.uint8)}, path, {"format": "maskatlas cases 1"})
    with pytest.raises(RunError, match="expected the format"):
        load_cases(path)


@pytest.mark.parametrize("texts", ["[]", "[{}, {}, {}]", "{", "[1, 2, 3]", "null"])
def test_texts_that_do_not_fit_are_refused(tmp_path: Path, texts: str) -> None:
    arrays = {
        "images": np.zeros((3, 2, 2, 3), np.uint8),
        "regions": np.zeros((3, 2, 2), np.uint8),
        "maps": np.zeros((3, 2, 2), np.float32),
    }
    path = tmp_path / "cases"
    save_file(arrays, path, {"format": "maskatlas cases 1", "cases": texts})
    with pytest.raises(RunError, match="evaluate --explanations"):
        load_cases(path)
    arrays["maps"] = np.zeros((3, 2, 1), np.float32)
    save_file(arrays, path, {"format": "maskatlas cases 1", "cases": "[]"})
    with pytest.raises(RunError, match="not of one size"):
        load_cases(path)
