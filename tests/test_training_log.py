import json
import sys
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
import torch

from disks import small_disk
from maskatlas.errors import RunError
from maskatlas.training_log import TrainingLog, mask_health

EventAccumulator = pytest.importorskip(
    "tensorboard.backend.event_processing.event_accumulator"
).EventAccumulator


def write(run: Path, *events: tuple[str, dict[str, Any]], step: int = 0, epochs: int = 0) -> None:
    with closing(TrainingLog(run, step=step, epochs=epochs)) as log:
        for event, values in events:
            log.write(event, values)


def step_line(number: int, loss: float = 1.0) -> tuple[str, dict[str, Any]]:
    return "step", {"step": number, "epoch": number / 10, "loss_total": loss}


def epoch_line(number: int, accuracy: float = 0.5) -> tuple[str, dict[str, Any]]:
    return "epoch", {"step": 10 * number, "epoch": number, "val_accuracy": accuracy}


def lines(run: Path) -> list[tuple[str, dict[str, Any]]]:
    text = (run / "metrics.jsonl").read_text()
    assert text == "" or text.endswith("\n")
    records = [json.loads(line) for line in text.splitlines()]
    return [(record.pop("event"), record) for record in records]


def shown(run: Path, tag: str) -> list[tuple[int, float]]:
    """What TensorBoard shows."""
    events = EventAccumulator(str(run / "tensorboard"))
    events.Reload()
    return [(event.step, event.value) for event in events.Scalars(tag)]


@pytest.fixture
def whole(tmp_path: Path) -> list[tuple[str, dict[str, Any]]]:
    """Two epochs of ten steps."""
    numbers = [[step_line(n) for n in range(e * 10 + 2, e * 10 + 11, 2)] for e in range(2)]
    return [*numbers[0], epoch_line(1), *numbers[1], epoch_line(2)]


def test_what_is_written_is_there_at_once(tmp_path: Path) -> None:
    log = TrainingLog(tmp_path, step=0, epochs=0)
    with closing(log):
        log.write(*step_line(2, 0.25))
        assert lines(tmp_path) == [step_line(2, 0.25)]
        assert shown(tmp_path, "step/loss_total") == [(2, 0.25)]
    log.close()


@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf"), None])
def test_what_is_no_finite_number_is_null(tmp_path: Path, value: float | None) -> None:
    write(tmp_path, ("epoch", {"step": 10, "epoch": 1, "val_auroc": value, "val_f1": 0.5}))
    assert lines(tmp_path) == [
        ("epoch", {"step": 10, "epoch": 1, "val_auroc": None, "val_f1": 0.5})
    ]
    assert shown(tmp_path, "epoch/val_f1") == [(10, 0.5)]


@pytest.mark.parametrize(
    ("step", "epochs"),
    [(0, 0), (1, 0), (2, 0), (9, 0), (10, 0), (10, 1), (11, 1), (20, 1), (20, 2)],
)
def test_lines_are_neither_doubled_nor_lost(
    tmp_path: Path, whole: list[tuple[str, dict[str, Any]]], step: int, epochs: int
) -> None:
    write(tmp_path, *whole)
    rest = [
        (event, values)
        for event, values in whole
        if (values["step"] > step if event == "step" else values["epoch"] > epochs)
    ]
    write(tmp_path, *rest, step=step, epochs=epochs)
    assert sorted(lines(tmp_path), key=str) == sorted(whole, key=str)
    write(tmp_path, step=20, epochs=2)
    assert sorted(lines(tmp_path), key=str) == sorted(whole, key=str)


def test_tensorboard_forgets_what_came_after_the_state_that_is_resumed_from(tmp_path: Path) -> None:
    write(tmp_path, *(step_line(n, 1.0) for n in (2, 4, 6, 8)))
    write(tmp_path, *(step_line(n, 2.0) for n in (6, 8, 10)), step=5)
    expected = [(2, 1.0), (4, 1.0), (6, 2.0), (8, 2.0), (10, 2.0)]
    assert shown(tmp_path, "step/loss_total") == expected


def test_tensorboard_starts_anew_with_the_run(tmp_path: Path) -> None:
    write(tmp_path, *(step_line(n, 1.0) for n in (2, 4, 6, 8)))
    write(tmp_path, step_line(2, 3.0))
    assert shown(tmp_path, "step/loss_total") == [(2, 3.0)]


@pytest.mark.parametrize(
    "rest",
    [
        b'{"event": "step", "ste',
        b'{"event": "step", "step": 4, "epoch": 0.4, "loss_total": 1.',
        b"{",
        b"\0\0\0\0",
        b"\xff\xfe",
        b"null\n[]\n3\n{}\n",
        b'{"event": "step", "step": "4"}\n{"event": "other", "step": 1}\n',
    ],
)
def test_what_a_killed_process_left_half_written_is_dropped(tmp_path: Path, rest: bytes) -> None:
    write(tmp_path, step_line(2))
    with (tmp_path / "metrics.jsonl").open("ab") as file:
        file.write(rest)
    write(tmp_path, step_line(4), step=3)
    assert lines(tmp_path) == [step_line(2), step_line(4)]


def test_half_an_event_of_a_killed_process_hides_no_other(tmp_path: Path) -> None:
    write(tmp_path, step_line(2))
    (events,) = (tmp_path / "tensorboard").iterdir()
    with events.open("ab") as file:
        file.write(events.read_bytes()[-20:])
    write(tmp_path, step_line(4), step=3)
    assert shown(tmp_path, "step/loss_total") == [(2, 1.0), (4, 1.0)]


def test_the_first_process_alone_writes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("maskatlas.distributed.rank", lambda: 1)
    write(tmp_path, step_line(2))
    assert list(tmp_path.iterdir()) == []


@pytest.fixture
def _no_tensorboard(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "maskatlas.tensorboard_events", raising=False)
    monkeypatch.delattr("maskatlas.tensorboard_events", raising=False)
    for name in [name for name in sys.modules if name.split(".")[0] == "tensorboard"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "tensorboard", None)


@pytest.mark.usefixtures("_no_tensorboard")
def test_without_tensorboard_there_are_lines_alone(tmp_path: Path) -> None:
    write(tmp_path, step_line(2))
    assert lines(tmp_path) == [step_line(2)]
    assert not (tmp_path / "tensorboard").exists()


def write_on(log: TrainingLog) -> None:
    for number in range(100_000):
        log.write("step", {"step": number} | {str(key): 0.5 for key in range(200)})


def test_a_full_disk_is_an_error_that_names_the_file(tmp_path: Path) -> None:
    with small_disk(tmp_path, megabytes=1) as disk:
        log = TrainingLog(disk, step=0, epochs=0)
        with closing(log), pytest.raises(RunError, match=r"/disk/.*\(No space left on device\)"):
            write_on(log)


@pytest.fixture
def _two(monkeypatch: pytest.MonkeyPatch) -> None:
    """As if another process had masks that are all out."""
    monkeypatch.setattr("maskatlas.distributed.mean", lambda tensor: tensor / 2)


def test_the_health_of_masks() -> None:
    # image, attribute, channel: channel 0 is used by one attribute, channel 1 by none
    means = torch.tensor([[[0.5, 0.02], [0.0, 0.11]], [[0.3, 0.04], [0.06, 0.05]]])
    health = mask_health(means)
    assert health.mask_mean == pytest.approx((0.5 + 0.02 + 0.11 + 0.3 + 0.04 + 0.06 + 0.05) / 8)
    assert health.mask_active == pytest.approx(3 / 8)
    assert health.unused_channels == 1


@pytest.mark.usefixtures("_two")
def test_the_health_of_masks_is_that_of_all_processes() -> None:
    health = mask_health(torch.full((3, 2, 4), 0.16))
    assert health.mask_mean == pytest.approx(0.08)
    assert health.mask_active == pytest.approx(0.5)
    assert health.unused_channels == 4
