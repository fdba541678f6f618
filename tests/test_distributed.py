import json
import shutil
import signal
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from maskatlas import Atlas, distributed
from maskatlas.cache import PackedImages
from maskatlas.cli import main
from maskatlas.config import Config, dump_toml
from maskatlas.model import build_network
from maskatlas.optimization import Optimization
from maskatlas.training import train
from maskatlas.training_data import open_data
from small_runs import (
    WHERE,
    arguments,
    latest,
    metric_lines,
    small_config,
    start,
    train_for,
    until,
    wait,
)

CPU = torch.device("cpu")


@pytest.fixture(autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)


def test_alone_every_collective_is_the_identity() -> None:
    tensor = torch.tensor([1.0, 2.0], requires_grad=True)
    assert (distributed.rank(), distributed.world_size()) == (0, 1)
    distributed.barrier()
    assert torch.equal(distributed.sum_(tensor), tensor)
    mean = distributed.mean(tensor)
    assert torch.equal(mean, tensor)
    assert not mean.requires_grad
    summed = distributed.differentiable_sum(tensor)
    (3 * summed).sum().backward()
    assert tensor.grad is not None
    assert tensor.grad.tolist() == [3.0, 3.0]
    assert [distributed.any_of(flag) for flag in (False, True)] == [False, True]


def test_alone_what_is_gathered_is_a_copy() -> None:
    mine = {"a": np.arange(4.0), "count": np.array(3)}
    (found,) = distributed.gather(mine)
    assert found.keys() == mine.keys()
    np.testing.assert_array_equal(found["a"], mine["a"])
    assert found["count"] == 3
    found["a"][0] = 7
    assert mine["a"][0] == 0


def test_without_torchrun_there_is_no_group(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("WORLD_SIZE", raising=False)
    with distributed.process_group(CPU):
        assert not torch.distributed.is_initialized()


@pytest.mark.parametrize(("value", "expected"), [(None, 0), ("3", 3)])
def test_the_number_on_the_machine_is_torchruns(
    value: str | None, expected: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    if value is None:
        monkeypatch.delenv("LOCAL_RANK", raising=False)
    else:
        monkeypatch.setenv("LOCAL_RANK", value)
    assert distributed.local_rank() == expected


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.getbasetemp() / "cache"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory, cache: Path) -> Path:
    """What two processes left behind."""
    folder = tmp_path_factory.mktemp("two")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MASKATLAS_CACHE", str(cache))
        train(small_config(epochs=1), folder / "whole")
        shutil.copytree(folder / "whole", folder / "runs" / "whole")
        settings = {
            "short": small_config(epochs=1, pretraining=0.5),
            "uneven": small_config(batch=7),
            "broken": small_config(),
            "stopped": small_config(pretraining=0.3),
        }
        for name, config in settings.items():
            (folder / f"{name}.toml").write_text(dump_toml(config))
        torch.manual_seed(1)
        norm = nn.BatchNorm2d(3).double()
        for parameter in norm.parameters():
            nn.init.normal_(parameter)
        tensors = {
            "features": 3 + 2 * torch.randn(8, 3, 5, 4, dtype=torch.float64),
            "arriving": torch.randn(8, 3, 5, 4, dtype=torch.float64),
            **{f"norm.{name}": tensor for name, tensor in norm.state_dict().items()},
        }
        save_file(tensors, folder / "normalisation.safetensors")
        script = Path(__file__).with_name("torchrun_checks.py")
        wait(start(str(script), str(folder), processes=2))
    return folder


def results(folder: Path) -> list[dict[str, Any]]:
    return [json.loads((folder / f"results-{rank}.json").read_text()) for rank in range(2)]


@pytest.mark.slow
def test_two_processes_sum_mean_ask_and_gather(folder: Path) -> None:
    for rank, found in enumerate(results(folder)):
        assert found["collectives"] == {
            "rank": rank,
            "world": 2,
            "sum": [3.0, 20.0],
            "mean": [1.5, 10.0],
            "mine": [rank + 1.0, 10.0],
            "any": [False, True, True],
            "gathered": [[[[r] * 3] * 2, r] for r in range(2)],
        }


@pytest.mark.slow
def test_two_processes_normalise_as_one_does_the_whole_batch(folder: Path) -> None:
    given = load_file(folder / "normalisation.safetensors")
    norm = nn.BatchNorm2d(3).double()
    norm.load_state_dict({k[5:]: v for k, v in given.items() if k.startswith("norm.")})
    features = given["features"].requires_grad_()
    expected = norm(features)
    (expected * given["arriving"]).sum().backward()
    assert features.grad is not None
    parts = [load_file(folder / f"normalisation-{rank}.safetensors") for rank in range(2)]

    def close(found: Tensor, wanted: Tensor | None) -> None:
        torch.testing.assert_close(found, wanted, rtol=1e-12, atol=1e-12)

    close(torch.cat([part["found"] for part in parts]), expected)
    close(torch.cat([part["gradient"] for part in parts]), features.grad)
    later = norm.eval()(features)
    close(torch.cat([part["later"] for part in parts]), later)
    for part in parts:
        close(part["weight"], norm.weight.grad)
        close(part["bias"], norm.bias.grad)
        close(part["mean"], norm.running_mean)
        close(part["variance"], norm.running_var)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("phase", "steps", "train"),
    [
        ("gradients", 1, {}),
        ("pretraining", 1, {"pretraining": 0.5}),
        ("joined", 3, {"pretraining": 0.15, "precision": "float64"}),  # in the third step
    ],
)
def test_the_gradients_of_two_processes_are_those_of_one(
    folder: Path, phase: str, steps: int, train: dict[str, Any]
) -> None:
    config = small_config(**train)
    data = open_data(config).training
    torch.manual_seed(0)
    network = build_network(config.model, data.attributes)
    step = Optimization(config, network, PackedImages(data, network.preprocessing), CPU)
    for _ in range(steps):
        step.step()
    parts = [load_file(folder / f"{phase}-{rank}.safetensors") for rank in range(2)]
    learning = {
        name: parameter
        for name, parameter in network.named_parameters()
        if phase != "pretraining" or name.startswith(("extractor.", "classifier."))
    }
    assert parts[0].keys() == learning.keys()
    for name, parameter in learning.items():
        expected = parameter.grad
        assert expected is not None
        assert torch.equal(parts[0][name], parts[1][name])
        off = (parts[0][name] - expected).norm() / expected.norm()
        assert off < 1e-5, name


@pytest.mark.slow
def test_the_first_process_alone_writes_and_answers(folder: Path) -> None:
    first, second = results(folder)
    assert first["writes"] != []
    assert second["writes"] == []
    for verb in ("train", "evaluate", "analyze", "one"):
        assert first[verb][0] == second[verb][0] == 0, first[verb][2]
        assert first[verb][1] != ""
        assert second[verb][1] == ""
    assert first["train"][1] == f"{folder / 'runs' / 'trained' / 'model'}\n"


def evaluated(run: Path, capsys: pytest.CaptureFixture[str], *words: str) -> dict[str, Any]:
    capsys.readouterr()
    assert main(["evaluate", str(run), *words, "--json"]) == 0
    found: dict[str, Any] = json.loads(capsys.readouterr().out)
    return found


def numbers(value: object) -> list[float]:
    """All numbers in JSON, in order; -1 where something is undefined."""
    if isinstance(value, dict):
        return [number for part in value.values() for number in numbers(part)]
    if isinstance(value, list):
        return [number for part in value for number in numbers(part)]
    return [-1.0 if value is None else float(value)] if not isinstance(value, str) else []


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "words", "images"),
    [
        ("evaluate", ("--split", "train", "--limit", "31", *WHERE), 31),
        ("one", ("--split", "val", "--limit", "1"), 1),
    ],
)
def test_shards_of_uneven_size_are_evaluated_to_the_same_figures(
    folder: Path,
    name: str,
    words: tuple[str, ...],
    images: int,
    capsys: pytest.CaptureFixture[str],
) -> None:
    found = json.loads(results(folder)[0][name][1])
    expected = evaluated(folder / "whole", capsys, *words)
    assert found["images"] == expected["images"] == images
    assert found.keys() == expected.keys()
    assert numbers(found) == pytest.approx(numbers(expected), abs=1e-9)


@pytest.mark.slow
def test_shards_of_uneven_size_are_analyzed_to_the_same_atlas(folder: Path) -> None:
    assert main(["analyze", str(folder / "whole"), "--split", "train", "--limit", "31"]) == 0
    found, expected = (
        Atlas.load(run / "atlas") for run in (folder / "runs" / "whole", folder / "whole")
    )
    assert found.images == expected.images == 31
    for name in (
        "mask_mean",
        "mask_deviation",
        "contribution_mean",
        "contribution_magnitude",
        "channel_correlation",
        "attribute_correlation",
        "label_correlation",
        "importance_drop",
    ):
        np.testing.assert_allclose(
            getattr(found, name), getattr(expected, name), rtol=1e-4, atol=1e-5, err_msg=name
        )
    assert found.confidence is not None
    assert expected.confidence is not None
    assert found.confidence.draws == expected.confidence.draws
    for name in ("mask_mean", "attribute_correlation", "channel_correlation", "following"):
        bounds = (getattr(atlas.confidence, f"{name}_interval") for atlas in (found, expected))
        np.testing.assert_allclose(*bounds, rtol=1e-3, atol=1e-3, err_msg=name)


@pytest.mark.slow
def test_a_batch_that_cannot_be_shared_evenly_is_said_so_by_all(folder: Path) -> None:
    for found in results(folder):
        code, out, err = found["uneven"]
        assert (code, out) == (2, "")
        assert "7 images cannot be shared evenly among 2 processes; choose a multiple of 2" in err
    assert not (folder / "runs" / "uneven").exists()


@pytest.mark.slow
def test_a_loss_that_breaks_on_one_process_stops_all(folder: Path) -> None:
    for found in results(folder):
        code, _, err = found["broken"]
        assert code == 1
        assert "step 0: the loss is nan" in err
        assert err.count("face-") == 16


@pytest.mark.slow
def test_a_signal_to_one_process_stops_all_after_the_same_step(folder: Path) -> None:
    for found in results(folder):
        code, out, err = found["stopped"]
        assert (code, out) == (143, "")
        assert "stopped by SIGTERM; go on with --resume" in err
    assert latest(folder / "runs" / "stopped").step == 4


def assert_close(run: Path, other: Path) -> None:
    """The same weights, averages and running statistics, to 1e-5."""
    found, expected = latest(run).tensors, latest(other).tensors
    assert found.keys() == expected.keys()
    for name, tensor in expected.items():
        torch.testing.assert_close(found[name], tensor, rtol=0, atol=1e-5, msg=name)


def double_config(**changes: Any) -> Config:
    return small_config(precision="float64", **changes)


@pytest.mark.slow
def test_two_processes_train_what_one_does(tmp_path: Path) -> None:
    config = double_config(epochs=4)  # 20 steps
    two, one = tmp_path / "two", tmp_path / "one"
    out, err = wait(start("-m", "maskatlas", "train", *arguments(config, two), processes=2))
    assert out == f"{two / 'model'}\n"
    assert err.count("epoch 4 of 4") == 1
    train(config, one)
    assert latest(two).step == 20
    assert_close(two, one)
    lines, expected = metric_lines(two), metric_lines(one)
    assert len(lines) == len(expected) == 5
    for line, other in zip(lines, expected, strict=True):
        assert line == pytest.approx(other, abs=1e-5)


@pytest.mark.slow
def test_torchrun_evaluates_to_the_same_figures(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["--split", "train", "--limit", "31"]
    run = str(folder / "runs" / "whole")
    out, _ = wait(start("-m", "maskatlas", "evaluate", run, *words, "--json", processes=2))
    expected = evaluated(folder / "whole", capsys, *words)
    assert numbers(json.loads(out)) == pytest.approx(numbers(expected), abs=1e-9)


@pytest.mark.slow
def test_torchrun_that_is_terminated_leaves_what_can_be_gone_on_with(tmp_path: Path) -> None:
    config = double_config(batch=8, epochs=500)
    two, one = tmp_path / "two", tmp_path / "one"
    process = start("-m", "maskatlas", "train", *arguments(config, two), processes=2)
    until(lambda: (two / "metrics.jsonl").exists() and len(metric_lines(two)) > 1, process)
    process.send_signal(signal.SIGTERM)
    _, err = wait(process, expected=None)
    assert process.returncode != 0
    assert "stopped by SIGTERM; go on with --resume" in err
    step = latest(two).step
    assert 0 < step < 5000

    train_for(step, config, one)
    assert latest(one).step == step
    assert_close(two, one)

    for run in (one, two):
        train_for(step + 3, config, run, resume=True)
    assert latest(two).step == step + 3
    assert_close(two, one)
