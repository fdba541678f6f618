import json
from pathlib import Path

import PIL.Image

from command_line import TINY, call

PAIR = ("--attribute", "Smiling", "--source", "Wearing_Hat")


def test_a_trial_from_end_to_end(tmp_path: Path) -> None:
    words = ("--probabilities", "0,0.9", "--methods", "mask,random")
    answer = call("shortcuts", "--out", tmp_path, *TINY, *PAIR, *words)
    assert answer.code == 0
    lines = answer.out.splitlines()
    assert lines[0].startswith("Smiling copies Wearing_Hat")
    assert lines[1].split()[-2:] == ["mask", "random"]
    assert [line.split()[0] for line in lines[2:-1]] == ["0", "0.9", "area"]
    assert lines[-1] == str(tmp_path / "shortcuts.html")
    told = json.loads((tmp_path / "shortcuts.json").read_text())
    assert [point["probability"] for point in told["points"]] == [0, 0.9]
    assert f"{told['moved']['mask']:+.3f}" in lines[-2]
    with PIL.Image.open(tmp_path / "shortcuts.png") as picture:
        assert picture.format == "PNG"
        assert picture.width == 1400


def test_what_cannot_be_done_is_an_error_of_one_line(tmp_path: Path) -> None:
    for words, message in (
        (("--probabilities", "half"), "--probabilities: expected numbers, as 1,2, found 'half'"),
        (("--seeds", "0.5"), "--seeds: expected numbers"),
        (("--probabilities", "0.5"), "expected two or more"),
        (("--source", "Smiling"), "cannot copy itself"),
    ):
        answer = call("shortcuts", "--out", tmp_path / "out", *TINY, *PAIR, *words)
        assert (answer.code, answer.out) == (2, "")
        assert message in answer.err
        assert answer.err.splitlines()[-1].startswith("maskatlas shortcuts: ")
