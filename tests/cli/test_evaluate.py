import json
import re
from pathlib import Path
from typing import Any

import pytest

from command_line import KEPT, call
from layouts import truth, write_table
from maskatlas.cases import FILE, load_cases
from maskatlas.explanations import METHODS, SLOW

NUMBER = r"(-|\d+\.\d{3})"
WITH_BOUNDS = rf"{NUMBER} \({NUMBER} to {NUMBER}\)"
MEASURED = ", ".join(
    f"{name} {WITH_BOUNDS}" for name in ("pointing", "energy ratio", "iou", "attention iou")
)
KEYS = ["mean_accuracy", "data", "split", "images", "subnetworks", "multilabel", "explanations"]


def strict(text: str) -> dict[str, Any]:
    """The only object in a text, of JSON proper."""

    def refuse(name: str) -> None:
        raise AssertionError(name)

    return json.loads(text, parse_constant=refuse)


def test_the_demo_has_written_an_evaluation_of_its_test_split(run: Path) -> None:
    result = strict((run / "evaluation.json").read_text())
    assert list(result) == KEYS
    assert (result["data"], result["split"], result["images"]) == ("faces", "test", 8)
    pointing = result["explanations"]["pointing"]
    assert set(pointing["attributes"]) <= set(KEPT)
    assert pointing["method"] == "contribution"


def test_json_is_all_of_stdout_and_what_the_file_holds(own_run: Path) -> None:
    answer = call("evaluate", own_run, "--json", terminal=True)
    assert answer.code == 0
    result = strict(answer.out)
    assert list(result) == KEYS
    assert result == strict((own_run / "evaluation.json").read_text())
    assert (result["split"], result["images"], result["explanations"]) == ("val", 8, None)
    assert list(result["subnetworks"]["attributes"]) == list(KEPT)
    assert 0 <= result["mean_accuracy"] <= 1


def test_in_words(own_run: Path) -> None:
    answer = call("evaluate", own_run, "--explanations", "--limit", "4", "--split", "test")
    assert answer.code == 0
    lines = answer.out.splitlines()
    titles = [line.split(": ")[0] for line in lines if line.startswith(("f", "s"))][2:]
    assert list(dict.fromkeys(titles)) == [
        *("faithful", "faithful, channels", "specific", "specific, masks"),
        *("sane", "stable", "simple", "simple, channels"),
    ]
    lines = lines[: 4 + len(METHODS) - len(SLOW)]
    assert lines[0] == "faces, split test: 4 images"
    assert lines[1].startswith("sub-networks: accuracy 0.")
    assert lines[2].startswith("multi-label classifier: accuracy 0.")
    assert lines[3].startswith("pointing game, contribution maps: ")
    judged = [name for name in METHODS if name not in SLOW]
    assert [line.split(":")[0] for line in lines[4:]] == [f"  {name}" for name in judged]
    for line in lines[4:]:
        assert re.fullmatch(rf"  \S+: {MEASURED}", line), line
    assert strict((own_run / "evaluation.json").read_text())["images"] == 4


def test_subjects_are_those_asked_for(own_run: Path) -> None:
    words = ("evaluate", own_run, "--explanations", "--json", "--split", "test", "--limit", "2")
    chosen = ("--subjects", "channel_simplicity,sensitivity", "--subjects", "specificity")
    answer = call(*words, *chosen, "--methods", "mask")
    assert answer.code == 0, answer.err
    told = ["specificity", "sensitivity", "channel_simplicity"]
    assert list(strict(answer.out)["explanations"]) == told
    assert not (own_run / FILE).exists()
    answer = call(*words, "--subjects", "beauty")
    assert (answer.code, answer.out) == (2, "")
    assert "expected some of localization, faithfulness" in answer.err


def test_methods_and_attributes_are_those_asked_for(own_run: Path) -> None:
    words = ("evaluate", own_run, "--explanations", "--json", "--split", "test")
    words = (*words, "--subjects", "localization")
    chosen = ("--methods", "centre,mask", "--methods", "grad-cam", "--attributes", "Bangs,Smiling")
    answer = call(*words, *chosen)
    assert answer.code == 0, answer.err
    found = strict(answer.out)["explanations"]
    assert list(found["localization"]["methods"]) == ["centre", "mask", "grad-cam"]
    assert found["pointing"]["method"] == "centre"
    assert set(found["pointing"]["attributes"]) <= {"Bangs", "Smiling"}
    everything = strict(call(*words, "--limit", "2", "--methods", "all").out)["explanations"]
    assert list(everything["localization"]["methods"]) == list(METHODS)


def test_cases_are_kept_until_an_evaluation_without_explanations(own_run: Path) -> None:
    (own_run / FILE).unlink()
    chosen = ("--explanations", "--subjects", "localization")
    call("evaluate", own_run, *chosen, "--split", "test")
    told = strict((own_run / "evaluation.json").read_text())["explanations"]["localization"]
    assert [case.to_json() for case in load_cases(own_run / FILE)] == told["cases"] != []
    answer = call("evaluate", own_run)
    assert "--explanations judges them" in answer.err
    assert not (own_run / FILE).exists()
    assert "--explanations" not in call("evaluate", own_run).err


def test_runs_of_other_seeds_are_compared_with(own_run: Path, tmp_path: Path) -> None:
    words = ("evaluate", own_run, "--explanations", "--json", "--subjects", "seed_agreement")
    answer = call(*words, "--methods", "mask", "--other", own_run)
    assert answer.code == 0, answer.err
    found = strict(answer.out)["explanations"]["seed_agreement"][str(own_run)]
    assert found["channel_correlation"]["low"] > 0.999
    assert found["maps"]["mask"]["agreement"]["mean"] > 0.999
    answer = call(*words)
    assert answer.code == 2
    assert "--other" in answer.err
    answer = call(*words, "--other", tmp_path / "none")
    assert answer.code == 1
    assert "no model in it" in answer.err


def test_methods_without_explanations_are_told(run: Path) -> None:
    answer = call("evaluate", run, "--methods", "mask")
    assert (answer.code, answer.out) == (2, "")
    told = " ".join(answer.err.split())  # it is broken into lines
    assert "--methods, --attributes, --subjects, --other: expected --explanations with" in told
    answer = call("evaluate", run, "--subjects", "sensitivity")
    assert (answer.code, answer.out) == (2, "")
    answer = call("evaluate", run, "--explanations", "--methods", "maks")
    assert (answer.code, answer.out) == (2, "")
    assert "expected some of contribution, mask" in answer.err


def test_what_is_undefined_is_a_dash_in_words_and_null_in_json(own_run: Path) -> None:
    answer = call("evaluate", own_run, "--limit", "1")
    assert "auroc -" in answer.out
    result = strict((own_run / "evaluation.json").read_text())
    assert result["subnetworks"]["mean"]["auroc"] is None


def test_other_data_leaves_the_run_as_it_is(run: Path, tmp_path: Path) -> None:
    known = truth(9, ("Wearing_Hat", "Smiling", "Elsewhere"))
    other = write_table(tmp_path / "other", known)
    file = run / "evaluation.json"
    before = file.read_bytes(), file.stat().st_mtime_ns
    files = sorted(run.rglob("*"))
    answer = call("evaluate", run, "--data", other, "--split", "test", "--json")
    assert answer.code == 0, answer.err
    result = strict(answer.out)
    assert (result["data"], result["split"], result["images"]) == (str(other), "test", 3)
    rows = result["subnetworks"]["attributes"]
    labels = known.labels[6:]
    for column, name in enumerate(("Wearing_Hat", "Smiling")):
        assert rows[name]["positives"] == labels[:, column].sum()
    assert rows["Bangs"]["positives"] == rows["Bangs"]["negatives"] == 0
    assert rows["Bangs"]["accuracy"] is None
    assert (file.read_bytes(), file.stat().st_mtime_ns) == before
    assert sorted(run.rglob("*")) == files
    assert strict(call("evaluate", run, "--data", other, "--json").out)["images"] == 9


def test_what_cannot_be_evaluated_is_told(run: Path, tmp_path: Path) -> None:
    strange = write_table(tmp_path / "strange", truth(3, ("Cat", "Dog")))
    answer = call("evaluate", run, "--data", strange)
    assert answer.code == 1
    assert "none of its attributes (Cat, Dog)" in answer.err
    plain = write_table(tmp_path / "plain", truth(3, ("Smiling",)))
    asked = ("--explanations", "--subjects", "localization")
    answer = call("evaluate", run, "--data", plain, *asked)
    assert (answer.code, answer.out) == (1, "")
    assert "where maps point is judged against regions" in answer.err


@pytest.mark.parametrize("flag", ["-q", "--quiet"])
def test_quiet_and_progress(flag: str, own_run: Path) -> None:
    words = ("evaluate", own_run, "--explanations", "--subjects", "localization,sensitivity")
    loud = call(*words, terminal=True).err
    assert "evaluating: " in loud
    assert "explanations: " in loud
    assert call(*words, flag, terminal=True).err == ""
    assert call(*words).err == ""
