import json
from pathlib import Path

from command_line import KEPT, TINY, call
from maskatlas.comparison import systems


def test_the_list_is_one_system_a_line() -> None:
    answer = call("compare", "--list")
    assert answer.code == 0
    assert answer.out.splitlines() == list(systems())
    assert "backbone:timm/NAME" in answer.err


def test_a_comparison_from_end_to_end(tmp_path: Path) -> None:
    words = ("compare", "--out", tmp_path, *TINY, "--systems", "majority,plain", "subnets")
    answer = call(*words)
    assert answer.code == 0
    assert answer.out.endswith(f"{tmp_path / 'comparison.html'}\n")
    names = ["majority", "plain", "subnets"]
    assert [line.split()[0] for line in answer.out.splitlines()[1:4]] == names
    for kind in ("html", "csv", "json"):
        assert (tmp_path / f"comparison.{kind}").stat().st_size > 500
    told = json.loads(call(*words, "--json", "-q").out)
    assert [system["name"] for system in told["systems"]] == names
    assert tuple(told["attributes"]) == KEPT
    assert told == json.loads((tmp_path / "comparison.json").read_text())
    assert (told["split"], told["images"]) == ("test", 8)


def test_other_verbs_read_what_a_comparison_trained(tmp_path: Path) -> None:
    words = ("compare", "--out", tmp_path, *TINY, "--systems", "abn,majority", "-q")
    assert call(*words).code == 0
    asked = ("--explanations", "--subjects", "localization", "--methods", "abn,hires-cam", "--json")
    answer = call("evaluate", tmp_path / "abn", "--split", "test", *asked, "-q")
    assert answer.code == 0, answer.err
    told = json.loads(answer.out)
    assert list(told["explanations"]["localization"]["methods"]) == ["abn", "hires-cam"]
    compared = json.loads((tmp_path / "comparison.json").read_text())["systems"][0]
    assert abs(told["mean_accuracy"] - compared["mean"]["accuracy"]["value"]) < 1e-6
    answer = call("evaluate", tmp_path / "majority")
    assert answer.code == 1
    assert "majority: no model in it" in answer.err


def test_what_cannot_be_done_is_an_error_of_one_line(tmp_path: Path) -> None:
    for words, code, message in (
        (("--systems", "plane"), 2, "did you mean plain"),
        (("--systems", "plain", "--minutes", "-1"), 2, "minutes: expected a number above 0"),
        (("--systems", "plain", "--data", str(tmp_path / "none")), 1, "expected a folder"),
    ):
        answer = call("compare", "--out", tmp_path / "out", *TINY, *words)
        assert (answer.code, answer.out) == (code, "")
        assert message in answer.err
        assert len(answer.err.splitlines()) == 1
