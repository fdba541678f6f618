import logging
import os
import random
import shutil
import signal
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from disks import small_disk
from layouts import truth, write_table
from maskatlas import optimization, training
from maskatlas.averages import average_image
from maskatlas.cache import PackedImages
from maskatlas.checkpoint import TrainingState, save_state
from maskatlas.cli import main
from maskatlas.comparison import no_masks
from maskatlas.config import Config, load_toml
from maskatlas.errors import (
    CheckpointError,
    ConfigError,
    DataError,
    MisfitError,
    RunError,
    TrainingError,
)
from maskatlas.interruption import Interrupted
from maskatlas.losses import LossTerms, loss_terms
from maskatlas.metrics import Metrics, attribute_metrics
from maskatlas.model import AttributeNetwork, build_network
from maskatlas.optimization import Optimization
from maskatlas.statistics import OUT
from maskatlas.training import Build, train
from maskatlas.training_data import open_data
from small_runs import (
    SECONDS,
    arguments,
    assert_same,
    assert_same_run,
    at_step,
    latest,
    metric_lines,
    small_config,
    start,
    train_for,
    wait,
)

STEPS = 5  # of an epoch of the small run: 80 images by 16
TOTAL = 3 * STEPS


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(autouse=True)
def _own_logging() -> Iterator[None]:
    """Undo what the command line does to the package's logger."""
    logger = logging.getLogger("maskatlas")
    before = logger.handlers[:], logger.propagate, logger.level
    logger.propagate = True
    logger.setLevel(logging.INFO)
    yield
    logger.handlers[:], logger.propagate, logger.level = before


@pytest.fixture(autouse=True)
def _often(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(training, "LINE_STEPS", 2)


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run that nobody disturbed."""
    run = tmp_path_factory.mktemp("runs") / "whole"
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MASKATLAS_CACHE", str(tmp_path_factory.getbasetemp() / "cache"))
        patch.setattr(training, "LINE_STEPS", 2)
        torch.set_num_threads(1)
        train(small_config(), run)
    return run


class Killed(BaseException):
    """Stands for SIGKILL: nobody catches it, and the disk stays as it is."""


def kill() -> None:
    raise Killed


def train_until(number: int, config: Config, run: Path) -> None:
    """Train, and be killed before the step of this number."""
    with pytest.MonkeyPatch.context() as patch:
        at_step(patch, number, kill)
        with pytest.raises(Killed):
            train(config, run)


def kill_in_step(patch: pytest.MonkeyPatch, number: int) -> None:
    """Kill once the step has changed the weights, and before it has changed their average."""
    average = Optimization._average

    def wrapped(self: Optimization) -> None:
        if self.number == number:
            kill()
        average(self)

    patch.setattr(Optimization, "_average", wrapped)


def kill_before_save(patch: pytest.MonkeyPatch, number: int) -> None:
    """Kill instead of the save after so many steps; at the end of an epoch, of the second one."""
    saved = training.save_state

    def wrapped(directory: Path, state: TrainingState) -> None:
        if state.step == number and state.meta["validated"] == number // STEPS:
            kill()
        saved(directory, state)

    patch.setattr(training, "save_state", wrapped)


def save_after(patch: pytest.MonkeyPatch, *steps: int) -> None:
    """Of the saves that time calls for, keep those after so many steps, and those of epochs."""

    def wrapped(directory: Path, state: TrainingState) -> None:
        if state.step in steps or state.meta["validated"] * STEPS == state.step:
            save_state(directory, state)

    patch.setattr(training, "save_state", wrapped)


PLACES: dict[str, Callable[[pytest.MonkeyPatch, int], None]] = {
    "before step": lambda patch, number: at_step(patch, number, kill),
    "in step": kill_in_step,
    "before save": kill_before_save,
}


def test_the_same_seed_gives_the_same_weights_and_another_seed_others(
    tmp_path: Path, whole: Path
) -> None:
    train(small_config(), tmp_path / "again")
    assert_same_run(tmp_path / "again", whole)
    train(replace(small_config(), seed=1), tmp_path / "other")
    ours, others = latest(whole).tensors, latest(tmp_path / "other").tensors
    assert not torch.equal(ours["model.classifier.weight"], others["model.classifier.weight"])


@pytest.mark.parametrize("seed", [0, 2**40, 2**63 - 1])
def test_every_seed_that_the_schema_allows_can_be_trained_with(tmp_path: Path, seed: int) -> None:
    train(replace(small_config(epochs=1), seed=seed), tmp_path / "run")
    assert latest(tmp_path / "run").step == STEPS


@pytest.mark.parametrize(
    ("saves", "kills"),
    [
        ((), [("before step", 3)]),
        ((), [("in step", 7), ("in step", 9)]),
        ((2,), [("before step", 4)]),
        ((6, 8), [("in step", 7), ("before step", 9)]),
        ((1, 3), [("before save", 3), ("in step", 4), ("before save", STEPS)]),
        ((STEPS,), [("before save", STEPS)]),
        ((), [("before save", TOTAL), ("before save", TOTAL)]),
        ((TOTAL,), [("before save", TOTAL)]),
        (tuple(range(TOTAL)), [("in step", number) for number in (0, 1, 6, 6, 11)]),
    ],
)
def test_a_killed_run_goes_on_to_the_very_same_weights_and_lines(
    tmp_path: Path,
    whole: Path,
    saves: tuple[int, ...],
    kills: list[tuple[str, int]],
) -> None:
    config, run = small_config(checkpoint_minutes=0.0), tmp_path / "run"
    for place, number in kills:
        with pytest.MonkeyPatch.context() as patch:
            save_after(patch, *saves)
            PLACES[place](patch, number)
            with pytest.raises(Killed):
                train(config, run, resume=True)
    with pytest.MonkeyPatch.context() as patch:
        save_after(patch, *saves)
        train(config, run, resume=True)
    assert_same_run(run, whole)


@pytest.mark.parametrize(
    "changes", [{"ema": 0.0}, {"precision": "bfloat16"}, {"precision": "float64"}]
)
def test_a_killed_run_of_another_kind_goes_on_to_the_very_same_weights(
    tmp_path: Path, changes: dict[str, Any]
) -> None:
    config = small_config(epochs=2, checkpoint_minutes=0.0, **changes)
    train(config, tmp_path / "whole")
    train_until(7, config, tmp_path / "run")
    train(config, tmp_path / "run", resume=True)
    assert_same_run(tmp_path / "run", tmp_path / "whole")


def test_a_finished_run_is_left_as_it_is(tmp_path: Path, whole: Path) -> None:
    before = {path: path.read_bytes() for path in sorted(whole.rglob("*.*"))}
    assert train(small_config(), whole, resume=True) == whole / "model"
    assert {path: path.read_bytes() for path in before} == before


_DIES_IN_A_SAVE = """
import os, signal, sys
from maskatlas.cli import main

sync = os.fsync

def dies(file):
    if "step-0000000007" in os.readlink(f"/proc/self/fd/{file}"):
        os.kill(os.getpid(), signal.SIGKILL)
    sync(file)

os.fsync = dies
main(sys.argv[1:])
"""
_DIES_ANYWHERE = """
import signal, sys
from maskatlas.cli import main
from maskatlas.optimization import Optimization

step, seconds = Optimization.step, float(sys.argv[1])

def timed(self):
    if self.number == 8:  # the kernel ends the process after so many seconds of work
        signal.setitimer(signal.ITIMER_PROF, seconds)
    return step(self)

Optimization.step = timed
main(sys.argv[2:])
"""
_WAITS = """
import signal, sys, time
from maskatlas.cli import main
from maskatlas.optimization import Optimization

step, number = Optimization.step, int(sys.argv[1])

def waits(self):
    if self.number == number:
        told = []
        handle = signal.getsignal(signal.SIGTERM)
        signal.signal(signal.SIGTERM, lambda *what: (handle(*what), told.append(what)))
        print("here", flush=True)
        while not told:  # a pause would miss a signal that comes before it
            time.sleep(0.01)
    return step(self)

Optimization.step = waits
sys.exit(main(sys.argv[2:]))
"""


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/fd").is_dir(), reason="finds the file by /proc")
def test_killed_in_a_save_and_anywhere_and_terminated_all_in_one_epoch(tmp_path: Path) -> None:
    config = small_config(images=500, batch=8, epochs=2, checkpoint_minutes=0.0)  # 50 an epoch
    run = tmp_path / "run"
    words = ["train", *arguments(config, run, "--resume")]

    wait(start("-c", _DIES_IN_A_SAVE, *words), expected=-signal.SIGKILL)
    assert len(list((run / "checkpoints").glob(".step-*"))) == 1  # half of a file
    assert latest(run).step == 6

    seconds = random.uniform(0.01, 0.2)
    wait(start("-c", _DIES_ANYWHERE, str(seconds), *words), expected=-signal.SIGPROF)
    between = latest(run).step
    assert 7 <= between < 50, seconds

    stopped = start("-c", _WAITS, str(between + 3), *words)
    assert stopped.stdout is not None
    assert stopped.stdout.readline() == "here\n"
    stopped.send_signal(signal.SIGTERM)
    _, err = wait(stopped, expected=143)
    assert "stopped by SIGTERM; go on with --resume" in err
    assert "Traceback" not in err
    assert latest(run).step == between + 4

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(training, "LINE_STEPS", 20)
        train(config, run, resume=True)
        train(
            replace(config, train=replace(config.train, checkpoint_minutes=5.0)), tmp_path / "whole"
        )
    assert_same_run(run, tmp_path / "whole")


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_a_signal_saves_after_the_step_and_exits(
    tmp_path: Path,
    whole: Path,
    number: signal.Signals,
    code: int,
    capsys: pytest.CaptureFixture[str],
) -> None:
    run = tmp_path / "run"
    with pytest.MonkeyPatch.context() as patch:
        at_step(patch, 7, lambda: os.kill(os.getpid(), number))
        assert main(["train", *arguments(small_config(), run)]) == code
    assert latest(run).step == 8
    assert f"stopped by {number.name}; go on with --resume" in capsys.readouterr().err
    assert main(["train", *arguments(small_config(), run, "--resume")]) == 0
    assert capsys.readouterr().out == f"{run / 'model'}\n"
    assert_same_run(run, whole)


def test_the_second_ctrl_c_does_not_wait_for_the_step(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def twice() -> None:
        os.kill(os.getpid(), signal.SIGINT)
        os.kill(os.getpid(), signal.SIGINT)

    with pytest.MonkeyPatch.context() as patch:
        at_step(patch, 7, twice)
        assert main(["train", *arguments(small_config(), tmp_path / "run")]) == 130
    assert latest(tmp_path / "run").step == STEPS
    assert "stopped by SIGINT\n" in capsys.readouterr().err


def test_a_signal_before_the_first_step_ends_the_run_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    decoded = training.PackedImages

    def slow(*args: Any, **options: Any) -> object:
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(0)  # the handler runs here at the latest
        pytest.fail("went on after the signal")
        return decoded(*args, **options)

    with pytest.raises(Interrupted) as caught:
        train(small_config(), tmp_path / "run", pack=slow)
    assert caught.value.exit_code == 143
    assert not (tmp_path / "run").exists()


def test_the_caller_keeps_its_signal_handlers_random_state_and_choice_of_algorithms(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    inside = []
    at_step(monkeypatch, 1, lambda: inside.append(torch.are_deterministic_algorithms_enabled()))
    handlers = [signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)]
    random = torch.get_rng_state()
    for wanted in (True, False):
        train(small_config(epochs=1, deterministic=wanted), tmp_path / str(wanted))
        assert not torch.are_deterministic_algorithms_enabled()
    assert inside == [True, False]
    assert torch.equal(torch.get_rng_state(), random)
    assert [signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)] == handlers
    assert_same(latest(tmp_path / "True").tensors, latest(tmp_path / "False").tensors)


def test_training_runs_outside_of_the_main_thread(tmp_path: Path, whole: Path) -> None:
    failures: list[BaseException] = []

    def body() -> None:
        try:
            torch.set_num_threads(1)
            train(small_config(), tmp_path / "run")
        except BaseException as failure:  # noqa: BLE001
            failures.append(failure)

    thread = threading.Thread(target=body)
    thread.start()
    thread.join(SECONDS)
    assert failures == []
    assert_same_run(tmp_path / "run", whole)


@pytest.mark.parametrize(
    ("change", "named"),
    [
        (lambda c: replace(c, seed=1), "seed: it has 0, asked for is 1"),
        (lambda c: replace(c, limit=50), "limit: it has None, asked for is 50"),
        (
            lambda c: replace(c, train=replace(c.train, epochs=4.0)),
            "train.epochs: it has 3, asked for is 4",
        ),
        (
            lambda c: replace(c, data=replace(c.data, faces=replace(c.data.faces, seed=7))),
            "data.faces.seed: it has 0, asked for is 7",
        ),
    ],
)
def test_a_run_is_not_gone_on_with_in_another_configuration(
    whole: Path, change: Callable[[Config], Config], named: str
) -> None:
    before = (whole / "config.toml").read_bytes()
    with pytest.raises(ConfigError, match="another configuration") as caught:
        train(change(small_config()), whole, resume=True)
    assert named in str(caught.value)
    assert "choose another --out" in str(caught.value)
    assert (whole / "config.toml").read_bytes() == before


def test_what_changes_no_weight_may_differ_when_going_on(tmp_path: Path, whole: Path) -> None:
    train_until(7, small_config(), tmp_path / "run")
    other = replace(small_config(checkpoint_minutes=0.0), device="auto")
    train(other, tmp_path / "run", resume=True)
    assert load_toml(tmp_path / "run" / "config.toml", Config()).train.checkpoint_minutes == 5
    assert_same_run(tmp_path / "run", whole)


def test_a_run_is_not_gone_on_with_on_other_data(tmp_path: Path) -> None:
    known = truth(40)
    root = write_table(tmp_path / "own", known)
    config = small_config(batch=4)
    config = replace(config, data=replace(config.data, path=str(root)))
    run = tmp_path / "run"
    train_until(5, config, run)
    known.labels[3, 1] ^= 1
    write_table(root, known)
    with pytest.raises(DataError, match=r"have changed since .*run was started; bring the old"):
        train(config, run, resume=True)
    known.labels[3, 1] ^= 1
    write_table(root, known)
    train(config, run, resume=True)
    assert latest(run).step == 3 * (14 // 4)


def test_a_folder_that_holds_a_run_is_refused(
    whole: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = {path: path.read_bytes() for path in sorted(whole.rglob("*.*"))}
    with pytest.raises(RunError, match="holds a run already; go on with --resume"):
        train(small_config(), whole)
    assert main(["train", *arguments(small_config(), whole)]) == 1
    assert "choose another --out" in capsys.readouterr().err
    assert {path: path.read_bytes() for path in sorted(whole.rglob("*.*"))} == before


def break_image(root: Path) -> None:
    (root / "images" / "000003.jpg").write_bytes(b"<html>no such image</html>")


def break_label(root: Path) -> None:
    table = root / "labels.csv"
    table.write_text(table.read_text().replace("000002.jpg,train", "../000002.jpg,train"))


@pytest.mark.parametrize("broken", [break_image, break_label])
def test_nothing_is_written_before_the_data_has_been_read(
    tmp_path: Path, broken: Callable[[Path], None], capsys: pytest.CaptureFixture[str]
) -> None:
    root = write_table(tmp_path / "own", truth(40))
    broken(root)
    config = small_config(batch=4)
    config = replace(config, data=replace(config.data, path=str(root)))
    assert main(["train", *arguments(config, tmp_path / "run")]) == 1
    assert "Traceback" not in capsys.readouterr().err
    assert not (tmp_path / "run").exists()


def test_nothing_is_written_where_there_is_no_data(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = small_config()
    config = replace(config, data=replace(config.data, path=str(tmp_path / "nowhere")))
    assert main(["train", *arguments(config, tmp_path / "run")]) == 1
    assert "nowhere" in capsys.readouterr().err
    assert not (tmp_path / "run").exists()


def break_loss(patch: pytest.MonkeyPatch, step: int, value: float) -> None:
    """Make the loss of a step this number, by a factor, so that its gradient is none either."""
    calls = []

    def broken(*args: Any, **loss: Any) -> LossTerms:
        calls.append(None)
        terms = loss_terms(*args, **loss)
        return terms._replace(total=terms.total * value) if len(calls) == step + 1 else terms

    patch.setattr(optimization, "loss_terms", broken)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), 3e38])
def test_a_loss_that_is_not_finite_stops_the_run_and_keeps_the_last_good_checkpoint(
    tmp_path: Path, whole: Path, value: float, capsys: pytest.CaptureFixture[str]
) -> None:
    run = tmp_path / "run"
    with pytest.MonkeyPatch.context() as patch:
        break_loss(patch, 7, value)
        assert main(["train", *arguments(small_config(), run)]) == 1
    err = capsys.readouterr().err
    assert "step 7: the loss is " in err
    images = err.split("the batch was ")[1].split(". ")[0].split(", ")
    assert len(set(images)) == 16
    assert all(name.startswith("face") for name in images), images
    assert "Traceback" not in err
    assert latest(run).step == STEPS
    assert all(tensor.isfinite().all() for tensor in latest(run).tensors.values())
    assert (run / "model" / "model.safetensors").is_file()
    assert main(["train", *arguments(small_config(), run, "--resume")]) == 0
    assert_same_run(run, whole)


def test_a_gradient_that_is_not_finite_stops_the_run_before_it_changes_a_weight(
    tmp_path: Path,
) -> None:
    class Spoil(torch.autograd.Function):
        @staticmethod
        def forward(ctx: Any, loss: torch.Tensor) -> torch.Tensor:
            return loss.clone()

        @staticmethod
        def backward(ctx: Any, gradient: torch.Tensor) -> torch.Tensor:  # type: ignore[override]
            return gradient * torch.inf

    def spoilt(*args: Any, **loss: Any) -> LossTerms:
        terms = loss_terms(*args, **loss)
        return terms._replace(total=Spoil.apply(terms.total))

    with pytest.MonkeyPatch.context() as patch:
        at_step(patch, 7, lambda: patch.setattr(optimization, "loss_terms", spoilt))
        with pytest.raises(TrainingError, match="step 7: the norm of the gradient is nan"):
            train(small_config(checkpoint_minutes=0.0), tmp_path / "run")
    assert latest(tmp_path / "run").step == 7


@pytest.mark.parametrize("rate", [1e6, 1e19, 1e38, 1e300])
def test_a_huge_learning_rate_leaves_nothing_behind_that_is_not_finite(
    tmp_path: Path, rate: float, capsys: pytest.CaptureFixture[str]
) -> None:
    run = tmp_path / "run"
    config = small_config(learning_rate=rate, warmup=0.0, checkpoint_minutes=0.0)
    assert main(["train", *arguments(config, run)]) == 1
    err = capsys.readouterr().err
    assert "not finite" in err or "expected a finite number" in err
    assert "last good checkpoint is kept" in err
    assert "Traceback" not in err
    for state in (run / "checkpoints").glob("*.safetensors"):
        assert all(tensor.isfinite().all() for tensor in load_file(state).values())
    if (run / "model").exists():
        weights = load_file(run / "model" / "model.safetensors")
        assert all(tensor.isfinite().all() for tensor in weights.values())


def test_weights_that_are_not_finite_are_not_saved(tmp_path: Path) -> None:
    average = Optimization._average

    def spoilt(self: Optimization) -> None:
        average(self)
        if self.number == 7:
            self.network.classifier.bias.data.fill_(torch.inf)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Optimization, "_average", spoilt)
        with pytest.raises(TrainingError, match="step 8: the weights are not finite"):
            train(small_config(checkpoint_minutes=0.0), tmp_path / "run")
    assert latest(tmp_path / "run").step == 7


def test_a_network_whose_scores_are_not_finite_is_not_saved(tmp_path: Path, whole: Path) -> None:
    average = Optimization._average

    def spoilt(self: Optimization) -> None:
        average(self)
        if self.number == 2 * STEPS - 1:
            self.averaged.subnetworks.bias.data.fill_(torch.nan)

    run = tmp_path / "run"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Optimization, "_average", spoilt)
        with pytest.raises(TrainingError, match="step 10: the network's scores of the validation"):
            train(small_config(), run)
    assert saved_epoch(run) == 1
    train(small_config(), run, resume=True)
    assert_same_run(run, whole)


def fill(disk: Path) -> None:
    """Write until nothing more fits."""
    with (disk / "filler").open("ab", buffering=0) as file:
        block = b"\0" * 4096
        try:
            while file.write(block) == len(block):
                pass
        except OSError:
            pass


@pytest.mark.parametrize("what", ["settings", "log", "checkpoint", "model"])
def test_a_full_disk_is_a_message_and_the_older_checkpoint_stays(
    tmp_path: Path,
    whole: Path,
    what: str,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(training, "LINE_STEPS", 2 if what == "log" else 1000)
    with small_disk(tmp_path) as disk:
        run = disk / "run"
        words = ["train", *arguments(small_config(checkpoint_minutes=0.0), tmp_path / "run")]
        words[-1] = str(run)
        with pytest.MonkeyPatch.context() as patch:
            if what == "settings":
                fill(disk)
            elif what == "model":
                patch.setattr(training.TrainingLog, "write", lambda *_: None)
                save_after(patch)
                at_step(patch, STEPS - 1, lambda: fill(disk))
            else:
                if what == "log":
                    save_after(patch)
                at_step(patch, 7, lambda: fill(disk))
            assert main(words) == 1
        err = capsys.readouterr().err
        assert "No space left on device" in err
        assert "Traceback" not in err
        if what in ("log", "checkpoint"):
            assert latest(run).step == {"log": STEPS, "checkpoint": 7}[what]
        else:
            assert not (run / "model" / "config.json").exists()
        (disk / "filler").unlink()
        assert main([*words, "--resume"]) == 0
        assert_same(latest(run).tensors, latest(whole).tensors)


def test_a_run_folder_that_cannot_be_made_is_a_message(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").write_text("not a folder")
    words = ["train", *arguments(small_config(), tmp_path / "run")]
    words[-1] = str(tmp_path / "file" / "run")
    assert main(words) == 1
    err = capsys.readouterr().err
    assert str(tmp_path / "file") in err
    assert "Traceback" not in err


def test_a_damaged_newest_checkpoint_falls_back_to_the_one_before(
    tmp_path: Path, whole: Path, caplog: pytest.LogCaptureFixture
) -> None:
    run = tmp_path / "run"
    train_until(8, small_config(checkpoint_minutes=0.0), run)
    newest = run / "checkpoints" / "step-0000000008.safetensors"
    newest.write_bytes(newest.read_bytes()[:-100])
    train(small_config(), run, resume=True)
    assert "trying the checkpoint before it" in caplog.text
    assert_same_run(run, whole)


def test_checkpoints_that_are_all_damaged_or_of_another_network_are_an_error(
    tmp_path: Path, whole: Path
) -> None:
    run = tmp_path / "run"
    train_until(7, small_config(), run)
    (state,) = (run / "checkpoints").iterdir()
    good = state.read_bytes()
    state.write_bytes(good[:1000])
    with pytest.raises(CheckpointError, match="none of the 1 checkpoints can be read"):
        train(small_config(), run, resume=True)
    foreign = latest(whole)
    tensors = {k: v for k, v in foreign.tensors.items() if "classifier" not in k}
    state.unlink()
    save_state(run / "checkpoints", replace(foreign, tensors=tensors))
    with pytest.raises(MisfitError):
        train(small_config(), run, resume=True)


def accuracies(patch: pytest.MonkeyPatch, *values: float) -> None:
    """Let each validation find this accuracy."""
    found = list(values)

    def replaced(scores: np.ndarray, labels: np.ndarray) -> Metrics:
        metrics = attribute_metrics(scores, labels)
        return replace(metrics, accuracy=np.full_like(metrics.accuracy, found.pop(0)))

    patch.setattr(training, "attribute_metrics", replaced)


def saved_epoch(run: Path) -> int:
    """The epoch whose weights the model has, as its card says."""
    card = (run / "model" / "README.md").read_text(encoding="utf-8")
    return int(card.split("the weights are those after epoch ")[1].split()[0])


@pytest.mark.parametrize(
    ("found", "kept"),
    [
        ((0.5, 0.7, 0.6), 2),
        ((0.7, 0.7, 0.7), 1),
        ((0.5, 0.6, 0.7), 3),
        ((np.nan, 0.7, 0.6), 2),
        ((0.7, np.nan, 0.6), 1),
        ((np.nan, np.nan, np.nan), 3),
    ],
)
def test_the_model_is_the_best_on_the_validation_images(
    tmp_path: Path, found: tuple[float, ...], kept: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    accuracies(monkeypatch, *found)
    train(small_config(), tmp_path / "run")
    assert saved_epoch(tmp_path / "run") == kept


@pytest.mark.parametrize(("pretraining", "kept"), [(0.0, 1), (0.3, 1), (0.34, 2), (0.7, 3)])
def test_what_was_best_before_the_sub_networks_joined_is_so_no_longer(
    tmp_path: Path, pretraining: float, kept: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    accuracies(monkeypatch, 0.7, 0.6, 0.5)
    train(small_config(pretraining=pretraining), tmp_path / "run")
    assert saved_epoch(tmp_path / "run") == kept


@pytest.mark.parametrize("splits", [("train", "val"), ("training", "validation")])
def test_trained_on_the_validation_images_the_model_is_the_last(
    tmp_path: Path, splits: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    run = tmp_path / "run"
    accuracies(monkeypatch, 0.5, 0.7, 0.6)
    train(small_config(splits=splits), run)
    assert saved_epoch(run) == 3
    average = {
        name.removeprefix("ema."): tensor
        for name, tensor in latest(run).tensors.items()
        if name.startswith("ema.")
    }
    model = load_file(run / "model" / "model.safetensors")
    assert model.pop("average_contribution").isfinite().all()
    assert 0 < model.pop("average_image").mean() < 1
    assert_same(model, average)
    assert "images it was trained on" in (run / "model" / "README.md").read_text()


def test_the_average_image_is_kept_with_the_model_unless_it_is_of_few(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = small_config(epochs=1)
    train(config, tmp_path / "run")
    network = AttributeNetwork.from_pretrained(tmp_path / "run" / "model")
    expected = average_image(PackedImages(open_data(config).training, network.preprocessing))
    torch.testing.assert_close(network.average_image, expected)
    monkeypatch.setattr(training, "FEWEST_IMAGES", STEPS * 16 + 1)
    train(config, tmp_path / "few")
    assert AttributeNetwork.from_pretrained(tmp_path / "few" / "model").average_image is None


def test_masks_that_go_out_are_told(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    config = small_config(epochs=6, learning_rate=0.5, clip=1e6)
    config = replace(config, loss=replace(config.loss, mask_l1=1000.0))
    train(config, tmp_path / "run")
    assert "the masks have gone out" in caplog.text
    assert "lower loss.mask-l1" in caplog.text
    lines = metric_lines(tmp_path / "run")
    assert lines[-1]["mask_mean"] < OUT
    steps = [line for line in lines if line["event"] == "step"]
    assert steps[0]["unused_channels"] == 0
    assert steps[-1]["unused_channels"] == 8
    assert steps[-1]["mask_active"] < 0.05


@pytest.mark.parametrize("build", [build_network, no_masks.build])
def test_masks_that_are_alight_or_were_never_there_are_not_told(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, build: Build
) -> None:
    train(small_config(epochs=1), tmp_path / "run", build=build)
    assert "gone out" not in caplog.text


def test_lines_come_every_few_steps_and_after_every_epoch(whole: Path) -> None:
    lines = metric_lines(whole)
    steps = [line["step"] for line in lines if line["event"] == "step"]
    epochs = [(line["step"], line["epoch"]) for line in lines if line["event"] == "epoch"]
    assert steps == list(range(2, TOTAL + 1, 2))
    assert epochs == [(STEPS, 1), (2 * STEPS, 2), (3 * STEPS, 3)]


def test_the_last_epoch_may_be_a_part_of_one_and_is_validated(tmp_path: Path) -> None:
    config, whole, again = small_config(epochs=2.4), tmp_path / "whole", tmp_path / "again"
    train(config, whole)
    epochs = [(line["step"], line["epoch"]) for line in metric_lines(whole) if "val_auroc" in line]
    assert epochs == [(STEPS, 1), (2 * STEPS, 2), (12, 2.4)]
    assert " of\n2.4." in (whole / "model" / "README.md").read_text()
    shutil.copytree(whole, again)
    max((again / "checkpoints").iterdir()).unlink()
    train(config, again, resume=True)
    assert_same_run(again, whole)


def test_a_run_is_told_what_learns_and_its_model_answers_before_the_sub_networks_join(
    tmp_path: Path,
) -> None:
    config, run = small_config(pretraining=0.5), tmp_path / "run"
    train_for(STEPS + 1, config, run)
    network = AttributeNetwork.from_pretrained(run / "model")
    output = network(torch.rand(3, 3, 16, 16))
    torch.testing.assert_close(output.logits, output.multilabel_logits)
    train(config, run, resume=True)
    train(config, whole := tmp_path / "whole")
    assert_same_run(run, whole)
    lines = [line for line in metric_lines(run) if line["event"] == "step"]
    joined = [line["step"] > 0.5 * TOTAL for line in lines]
    assert set(joined) == {True, False}
    for key in ("loss_binary", "loss_reconstruction", "loss_mask_l1", "mask_mean"):
        assert [line.get(key) is not None for line in lines] == joined
    assert all(line["loss_multilabel"] > 0 for line in lines)


def test_a_model_of_float64_takes_the_images_that_it_preprocesses(tmp_path: Path) -> None:
    from PIL import Image

    model = train(small_config(epochs=1, precision="float64"), tmp_path / "run")
    network = AttributeNetwork.from_pretrained(model)
    image = network.preprocess(Image.new("RGB", (20, 20), "grey"))
    assert network(image[None]).scores.dtype == torch.float32
    tensors = latest(tmp_path / "run").tensors
    assert tensors["model.classifier.weight"].dtype == torch.float64
