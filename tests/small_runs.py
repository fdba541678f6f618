"""Runs that take a second, and what two of them must have in common."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from maskatlas.checkpoint import TrainingState, load_latest
from maskatlas.config import Config, DataConfig, FacesConfig, ModelConfig, TrainConfig, dump_toml
from maskatlas.interruption import Interrupted
from maskatlas.optimization import Optimization
from maskatlas.training import train

WHERE = ("--explanations", "--subjects", "localization")
"""What `maskatlas evaluate` is told where it shall judge explanations quickly."""

SECONDS = 300
"""After so long a process that a test started is given up."""

_ONE_THREAD = {
    "OMP_NUM_THREADS": "1",
    # Otherwise the process that is killed first can take the store of the others with it.
    "TORCH_DISABLE_SHARE_RDZV_TCP_STORE": "1",
}


def small_config(*, images: int = 100, batch: int = 16, epochs: float = 3, **train: Any) -> Config:
    """A run of a few steps on rendered faces: 8 in 10 of the images are for training.

    Args:
        images: Over all splits.
        batch: Images of a step.
        epochs: Passes over the training images.
        train: Fields of the training's configuration.
    """
    return Config(
        preset="demo",
        device="cpu",
        data=DataConfig(faces=FacesConfig(count=images, size=32)),
        model=ModelConfig(image_size=16, channels=8, depth=1),
        train=replace(
            TrainConfig(batch_size=batch, ema=0.9, shift=1, precision="float32"),
            epochs=float(epochs),
            **train,
        ),
    )


def arguments(config: Config, run: Path, *more: str) -> list[str]:
    """The words after ``maskatlas train`` for a run; its settings are left beside the folder."""
    file = run.with_name(f"{run.name}.toml")
    file.write_text(dump_toml(config), encoding="utf-8")
    return ["--config", str(file), "--out", str(run), *more]


def start(*words: str, processes: int | None = None) -> "subprocess.Popen[str]":
    """Start Python with these words, under torchrun if a number of processes is given."""
    launcher = ["torch.distributed.run", "--standalone", f"--nproc-per-node={processes}"]
    before = [] if processes is None else ["-m", *launcher]
    return subprocess.Popen(
        [sys.executable, *before, *words],
        env=os.environ | _ONE_THREAD,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def wait(process: "subprocess.Popen[str]", expected: int | None = 0) -> tuple[str, str]:
    """What a process said, once it has ended with the exit code that is expected; None is any."""
    try:
        out, err = process.communicate(timeout=SECONDS)
    finally:
        process.kill()
    assert expected in (None, process.returncode), err
    return out, err


def until(happened: Callable[[], bool], process: "subprocess.Popen[str]") -> None:
    """Wait until something has happened, while the process lives."""
    deadline = time.monotonic() + SECONDS
    while not happened():
        if process.poll() is not None or time.monotonic() > deadline:
            process.kill()
            pytest.fail(f"it did not happen before the end: {process.communicate()}")
        time.sleep(0.05)


def at_step(patch: pytest.MonkeyPatch, number: int, do: Callable[[], None]) -> None:
    """Do something before the step of this number is taken."""
    step = Optimization.step

    def wrapped(self: Optimization) -> object:
        if self.number == number:
            do()
        return step(self)

    patch.setattr(Optimization, "step", wrapped)


def train_for(steps: int, config: Config, run: Path, *, resume: bool = False) -> None:
    """Train until so many steps are taken, and be terminated."""
    with pytest.MonkeyPatch.context() as patch:
        at_step(patch, steps - 1, lambda: os.kill(os.getpid(), signal.SIGTERM))
        with pytest.raises(Interrupted):
            train(config, run, resume=resume)


def latest(run: Path) -> TrainingState:
    """The newest checkpoint of a run."""
    state = load_latest(run / "checkpoints")
    assert state is not None
    return state


def metric_lines(run: Path) -> list[dict[str, Any]]:
    """The lines of metrics, but for how long things took."""
    lines = (run / "metrics.jsonl").read_text(encoding="utf-8").splitlines()
    timed = "seconds", "images_per_second"
    return [{k: v for k, v in json.loads(line).items() if k not in timed} for line in lines]


def assert_same(tensors: Mapping[str, Tensor], others: Mapping[str, Tensor]) -> None:
    """The same names, and bit by bit the same numbers."""
    assert tensors.keys() == others.keys()
    different = [name for name, tensor in tensors.items() if not torch.equal(tensor, others[name])]
    assert not different


def assert_same_run(run: Path, other: Path) -> None:
    """Bit by bit the same model, the same last state, the same lines of metrics."""
    assert_same(latest(run).tensors, latest(other).tensors)
    assert latest(run).best_score == latest(other).best_score
    for name in ("model.safetensors", "config.json", "README.md"):
        assert (run / "model" / name).read_bytes() == (other / "model" / name).read_bytes()
    assert metric_lines(run) == metric_lines(other)
