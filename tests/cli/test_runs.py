import shutil
from pathlib import Path

import pytest

from command_line import TINY, call
from layouts import truth, write_table
from maskatlas.cli.runs import OnData
from maskatlas.files import write_atomically


@pytest.mark.parametrize("verb", ["analyze", "evaluate", "predict", "explain", "report"])
def test_a_folder_that_holds_no_run_is_told(verb: str, tmp_path: Path) -> None:
    more = ["photo.jpg"] if verb in ("predict", "explain") else []
    answer = call(verb, tmp_path / "nowhere", *more)
    assert (answer.code, answer.out) == (1, "")
    assert answer.err.startswith(f"maskatlas {verb}: {tmp_path / 'nowhere'}: ")
    assert not (tmp_path / "nowhere").exists()


@pytest.mark.parametrize("verb", ["analyze", "evaluate", "predict", "explain"])
def test_a_run_without_a_model_is_told(verb: str, own_run: Path) -> None:
    shutil.rmtree(own_run / "model")
    more = ["photo.jpg"] if verb in ("predict", "explain") else []
    answer = call(verb, own_run, *more)
    assert (answer.code, answer.out) == (1, "")
    assert "no model in it; `maskatlas train` writes one" in answer.err


def test_a_damaged_model_is_told(own_run: Path) -> None:
    weights = own_run / "model" / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1])
    answer = call("evaluate", own_run)
    assert answer.code == 1
    assert str(weights) in answer.err


def test_a_device_that_is_not_there_is_told(run: Path) -> None:
    for device in ("cuda:77", "tpu"):
        answer = call("evaluate", run, "--device", device)
        assert answer.code == 2
        assert f"device{':' if device == 'tpu' else ''} " in answer.err


def images(run: Path, **flags: object) -> list[str]:
    return [*OnData(run_folder=run, **flags).dataset().names]  # type: ignore[arg-type]


def test_by_default_it_is_the_runs_validation_split(run: Path) -> None:
    faces = [f"face-{number:06d}" for number in range(80)]
    assert images(run) == images(run, split="val") == faces[8::10]
    assert images(run, split="test") == faces[9::10]
    assert images(run, split="all") == faces
    assert images(run, data="faces") == faces
    assert images(run, data="faces", split="valid") == faces[8::10]
    assert OnData(run_folder=run).dataset().attributes == (
        "Bangs", "Eyeglasses", "Smiling", "Wearing_Hat",
    )  # fmt: skip


def test_a_limit_holds_for_each_split_and_is_spread(run: Path) -> None:
    faces = [f"face-{number:06d}" for number in range(80)]
    assert images(run, limit=4) == images(run, split="val", limit=4) == faces[8::20]
    assert len(images(run, limit=100)) == 8
    assert len(images(run, split="all", limit=4)) == 12
    assert len(images(run, data="faces", limit=1)) == 3


def test_the_flags_that_every_verb_has(run: Path, photos: list[Path]) -> None:
    flags = ("--device", "cpu", "--seed", "3", "--limit", "1", "-v")
    assert call("evaluate", run, "--data", "faces", *flags).code == 0
    assert call("predict", run, *photos, *flags).out.count("\n") == 2


@pytest.mark.parametrize("verb", ["analyze", "evaluate"])
def test_wrong_flags_are_told(verb: str, run: Path) -> None:
    answer = call(verb, run, "--limit", "0")
    assert answer.code == 2
    assert "--limit: expected at least 1 image, found 0" in answer.err
    answer = call(verb, run, "--split", "tets")
    assert answer.code == 1
    assert "Did you mean test?" in answer.err
    answer = call(verb, run, "--data", run.parent / "nowhere")
    assert answer.code == 1
    assert "nowhere: expected a folder" in answer.err


def test_images_can_be_left_out_and_columns_ignored(run: Path, tmp_path: Path) -> None:
    known = truth(6, ("Smiling", "Note"))
    other = write_table(tmp_path / "other", known)
    listed = tmp_path / "exclude.txt"
    listed.write_text(f"{known.names[1]}\n")
    data = OnData(run_folder=run, data=str(other), exclude=listed, ignore=("Note",)).dataset()
    assert data.attributes == ("Smiling",)
    assert [*data.names] == [known.names[0], *known.names[2:]]
    words = ("--data", other, "--data.exclude", listed, "--data.ignore", "Note", "--json")
    assert '"images": 5' in call("evaluate", run, *words).out


def test_held_out_images_are_found_again_whatever_the_limit(tmp_path: Path) -> None:
    known = truth(60, ("Smiling", "Male"))
    known.splits = ["train"] * 60
    known.identities = list(range(60))
    table = write_table(tmp_path / "table", known)
    run = tmp_path / "run"
    tiny = [*TINY[8:], "--data", str(table)]
    assert call("train", "--out", run, *tiny).code == 0
    held_out = images(run)
    assert 1 < len(held_out) < 30
    assert set(images(run, limit=2)) < set(held_out)
    assert len(images(run, limit=2)) == 2
    assert images(run, limit=60) == held_out


def test_a_configuration_of_another_kind_is_told(own_run: Path) -> None:
    write_atomically(own_run / "config.toml", b"epochs = 3\n")
    answer = call("evaluate", own_run)
    assert answer.code == 2
    assert f"{own_run / 'config.toml'}: unknown key 'epochs'" in answer.err
