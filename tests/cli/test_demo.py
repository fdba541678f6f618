from pathlib import Path

from command_line import TINY, Answer, call


def test_the_demo_says_where_the_report_is_and_what_to_try(made: tuple[Path, Answer]) -> None:
    run, answer = made
    assert f"The report is {run / 'report.html'}" in answer.out
    assert "mean balanced accuracy" in answer.out or "balanced accuracy" in answer.out
    assert "pointing game, contribution maps: " in answer.out
    for verb in ("explain", "evaluate", "data check", "train"):
        assert f"maskatlas {verb} " in answer.out
    for step in ("1/4", "2/4", "3/4", "4/4"):
        assert step in answer.err
    assert "%" not in answer.err
    for name in ("config.toml", "metrics.jsonl", "model", "atlas", "evaluation.json"):
        assert (run / name).exists()


def test_typed_again_it_goes_on(own_run: Path) -> None:
    weights = (own_run / "model" / "model.safetensors").read_bytes()
    answer = call("demo", "--out", own_run, *TINY, "-q", terminal=True)
    assert (answer.code, answer.err) == (0, "")
    assert (own_run / "report.html").exists()
    assert (own_run / "evaluation.json").exists()
    assert (own_run / "model" / "model.safetensors").read_bytes() == weights


def test_typed_again_otherwise_it_says_what_differs(own_run: Path) -> None:
    answer = call("demo", "--out", own_run, *TINY, "--train.epochs", "2")
    assert answer.code == 2
    assert "train.epochs: it has 1, asked for is 2" in answer.err
