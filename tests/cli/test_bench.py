import json
from pathlib import Path

import pytest

from command_line import call
from maskatlas.bench import heads

TINY = (
    *("--batch", "2", "--attributes", "2", "3", "--channels", "4", "--sizes", "2"),
    *("--repeats", "2", "--no-compile", "--device", "cpu", "--threads", "1"),
)


def test_tables_are_printed_and_files_written(tmp_path: Path) -> None:
    answer = call("bench", "heads", *TINY, "--out", tmp_path / "speed")
    assert answer.code == 0, answer.err
    assert "1 threads" in answer.out.splitlines()[0]
    assert "K 2, C 4, 2 x 2, batch 2; processor time" in answer.out
    assert "time over positions (1, 4, 16)" in answer.out
    assert sorted(path.name for path in (tmp_path / "speed").iterdir()) == [
        *("heads.json", "heads.png"),
    ]
    result = json.loads((tmp_path / "speed" / "heads.json").read_text())
    assert list(result) == ["subject", "machine", "settings", "cases", "growth"]
    assert result["settings"]["attributes"] == [2, 3]
    assert result["machine"]["threads"] == 1


def test_json_is_all_of_stdout() -> None:
    answer = call("bench", "heads", *TINY, "--no-growth", "--json")
    assert answer.code == 0
    result = json.loads(answer.out)
    assert (result["subject"], result["growth"]) == ("heads", [])
    assert {row["name"] for case in result["cases"] for row in case["rows"]} == {
        *("masked_loss", "masked_pool", "masked_pool in plain torch", "loop", "convolution"),
        "three products alone",
    }


def test_results_of_ours_that_are_wrong_exit_with_1(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(heads.TOLERANCE, "float32", 0.0)
    answer = call("bench", "heads", *TINY, "--no-growth", "--precision", "float32")
    assert answer.code == 1
    assert "masked_pool: its results differ from the truth by" in answer.err


def test_every_subject_has_a_help_with_its_options() -> None:
    flags = {
        "heads": "--mask-rank",
        "train": "--steps",
        "explain": "--preset",
        "analyze": "--memory",
        "data": "--workers",
    }
    for subject, flag in flags.items():
        answer = call("bench", subject, "--help")
        assert answer.code == 0
        assert flag in answer.out
        assert f"usage: maskatlas bench {subject}" in answer.out


@pytest.mark.parametrize(
    "words",
    [
        [],
        ["speed"],
        ["heads", "--batch", "0"],
        ["heads", "--attributes", "3", "3"],
        ["heads", "--precision", "float64"],
        ["train", "--preset", "none"],
        ["analyze", "--memory"],
        ["data", "--workers", "-1"],
    ],
    ids=" ".join,
)
def test_errors_of_usage_exit_with_2(words: list[str]) -> None:
    answer = call("bench", *words)
    assert (answer.code, answer.out) == (2, ""), answer
    assert answer.err
