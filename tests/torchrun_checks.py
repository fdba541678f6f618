"""What each of several processes does in test_distributed.py: started by torchrun with a folder.

Results are left in the folder, a file for each process.
"""

import contextlib
import io
import json
import os
import signal
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from maskatlas import distributed, optimization
from maskatlas.cache import PackedImages
from maskatlas.cli import main
from maskatlas.extractors import BatchNorm
from maskatlas.losses import LossTerms, loss_terms
from maskatlas.model import build_network
from maskatlas.optimization import Optimization
from maskatlas.training_data import open_data
from small_runs import WHERE, at_step, small_config


def collectives(rank: int) -> dict[str, Any]:
    mine = torch.tensor([float(rank + 1), 10.0])
    arrays = {"a": torch.full((2, 3), float(rank)).numpy(), "count": torch.tensor(rank).numpy()}
    parts = distributed.gather(arrays)
    return {
        "rank": rank,
        "world": distributed.world_size(),
        "sum": distributed.sum_(mine.clone()).tolist(),
        "mean": distributed.mean(mine).tolist(),
        "mine": mine.tolist(),
        "any": [distributed.any_of(flag) for flag in (False, rank == 1, True)],
        "gathered": [[part["a"].tolist(), part["count"].tolist()] for part in parts],
    }


def normalisation(folder: Path, rank: int) -> dict[str, Tensor]:
    """Half of a batch through BatchNorm, there and back."""
    given = load_file(folder / "normalisation.safetensors")
    half = slice(rank * 4, rank * 4 + 4)
    norm = BatchNorm(3).double()
    norm.load_state_dict({k[5:]: v for k, v in given.items() if k.startswith("norm.")})
    features = given["features"][half].clone().requires_grad_()
    found = norm(features)
    (found * given["arriving"][half]).sum().backward()
    assert features.grad is not None
    return {
        "found": found.detach(),
        "gradient": features.grad,
        "weight": distributed.sum_(norm.weight.grad),
        "bias": distributed.sum_(norm.bias.grad),
        "mean": norm.running_mean,
        "variance": norm.running_var,
        "later": norm.eval()(features).detach(),
    }


def gradients(steps: int = 1, **train: Any) -> dict[str, Tensor]:
    """Of the last of so many steps."""
    config = small_config(**train)
    data = open_data(config).training
    torch.manual_seed(0)
    network = build_network(config.model, data.attributes)
    images = PackedImages(data, network.preprocessing)
    step = Optimization(config, network, images, torch.device("cpu"))
    for _ in range(steps):
        step.step()
    return {
        name: p.grad.contiguous() for name, p in network.named_parameters() if p.grad is not None
    }


def said(*words: str) -> tuple[int, str, str]:
    """Run a command line; its exit code, stdout and stderr."""
    with (
        contextlib.redirect_stdout(io.StringIO()) as out,
        contextlib.redirect_stderr(io.StringIO()) as err,
    ):
        code = main(words)
    return code, out.getvalue(), err.getvalue()


class Writes:
    """Which files a process writes, makes, renames or removes below a folder."""

    _EVENTS = ("os.mkdir", "os.rename", "os.remove", "os.rmdir", "os.truncate", "os.symlink")

    def __init__(self, folder: Path) -> None:
        self.folder, self.found, self.on = str(folder), [], True
        sys.addaudithook(self.look)

    def look(self, event: str, args: tuple[Any, ...]) -> None:
        if not self.on:
            return
        writes = os.O_WRONLY | os.O_RDWR | os.O_CREAT
        if event in self._EVENTS or (event == "open" and args[2] & writes):
            paths = [str(arg) for arg in args[:2] if isinstance(arg, str | Path)]
            self.found += [f"{event} {p}" for p in paths if p.startswith(self.folder)]


def broken_on_one(*args: Any, **loss: Any) -> LossTerms:
    terms = loss_terms(*args, **loss)
    return terms._replace(total=terms.total * (torch.nan if distributed.rank() else 1))


def check(folder: Path) -> None:
    rank = distributed.rank()
    results: dict[str, Any] = {"collectives": collectives(rank)}
    save_file(normalisation(folder, rank), folder / f"normalisation-{rank}.safetensors")
    save_file(gradients(), folder / f"gradients-{rank}.safetensors")
    save_file(gradients(pretraining=0.5), folder / f"pretraining-{rank}.safetensors")
    joined = gradients(3, pretraining=0.15, precision="float64")
    save_file(joined, folder / f"joined-{rank}.safetensors")

    writes = Writes(folder / "runs")
    trained, whole = str(folder / "runs" / "trained"), str(folder / "runs" / "whole")
    results["train"] = said("train", "--config", str(folder / "short.toml"), "--out", trained)
    some = "--split", "train", "--limit", "31"
    results["evaluate"] = said("evaluate", whole, *some, *WHERE, "--json")
    results["analyze"] = said("analyze", whole, *some)
    results["one"] = said("evaluate", whole, "--split", "val", "--limit", "1", "--json")
    for name, loss in (("uneven", loss_terms), ("broken", broken_on_one)):
        optimization.loss_terms = loss
        words = "--config", str(folder / f"{name}.toml"), "--out", str(folder / "runs" / name)
        results[name] = said("train", *words)
    optimization.loss_terms = loss_terms
    with pytest.MonkeyPatch.context() as patch:
        if rank == 1:
            at_step(patch, 3, lambda: os.kill(os.getpid(), signal.SIGTERM))
        words = "--config", str(folder / "stopped.toml"), "--out", str(folder / "runs" / "stopped")
        results["stopped"] = said("train", *words)
    writes.on = False
    results["writes"] = writes.found
    (folder / f"results-{rank}.json").write_text(json.dumps(results))


if __name__ == "__main__":
    torch.set_num_threads(1)
    with distributed.process_group(torch.device("cpu")):
        check(Path(sys.argv[1]))
