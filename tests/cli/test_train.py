import json
from pathlib import Path

from command_line import KEPT, TINY, call
from maskatlas.config import PRESETS, load_toml
from maskatlas.model import AttributeNetwork


def test_a_run_is_trained_and_stdout_names_its_model(tmp_path: Path) -> None:
    run = tmp_path / "runs" / "a"
    words = ("--train.splits", "train,val", "--train.validation", "test", "--limit", "20")
    answer = call("train", "--out", run, *TINY, *words, terminal=True)
    assert (answer.code, answer.out) == (0, f"{run / 'model'}\n")
    assert "training: 100%" in answer.err
    assert sorted(path.name for path in run.iterdir() if path.name != "tensorboard") == [
        "checkpoints",
        "config.toml",
        "metrics.jsonl",
        "model",
    ]
    settings = load_toml(run / "config.toml", PRESETS["celeba-64"])
    assert settings.train.splits == ("train", "val")
    assert settings.limit == 20
    assert len(settings.data.ignore) > 2
    assert not set(settings.data.ignore) & set(KEPT)
    assert AttributeNetwork.from_pretrained(run / "model").attributes == KEPT
    events = [
        json.loads(line)["event"] for line in (run / "metrics.jsonl").read_text().splitlines()
    ]
    assert "epoch" in events


def test_a_run_is_not_written_over_but_gone_on_with(own_run: Path) -> None:
    before = (own_run / "config.toml").read_bytes()
    answer = call("train", "--preset", "demo", "--out", own_run, *TINY)
    assert (answer.code, answer.out) == (1, "")
    assert "holds a run already; go on with --resume" in answer.err
    answer = call("train", "--preset", "demo", "--out", own_run, "--resume", *TINY)
    assert (answer.code, answer.out) == (0, f"{own_run / 'model'}\n")
    answer = call("train", "--preset", "demo", "--out", own_run, "--resume", *TINY, "--seed", "1")
    assert answer.code == 2
    assert "seed: it has 0, asked for is 1" in answer.err
    assert (own_run / "config.toml").read_bytes() == before


def test_quiet_is_silent_even_on_a_terminal(tmp_path: Path) -> None:
    answer = call("train", "--out", tmp_path / "a", *TINY, "-q", terminal=True)
    assert (answer.code, answer.err) == (0, "")


def test_without_a_terminal_there_is_no_progress_bar(tmp_path: Path) -> None:
    answer = call("train", "--out", tmp_path / "a", *TINY)
    assert answer.code == 0
    assert "epoch 1 of 1" in answer.err
    assert "%" not in answer.err
    assert "\r" not in answer.err


def test_data_that_is_not_there_leaves_no_run_behind(tmp_path: Path) -> None:
    run = tmp_path / "run"
    answer = call("train", "--out", run, "--data", tmp_path / "nowhere")
    assert answer.code == 1
    assert "nowhere: expected a folder" in answer.err
    assert not run.exists()


def test_a_folder_that_cannot_be_made_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    answer = call("train", "--out", tmp_path / "file" / "run", *TINY)
    assert answer.code == 1
    assert str(tmp_path / "file") in answer.err
    assert "Traceback" not in answer.err
