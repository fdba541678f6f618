import dataclasses
import json
import logging
import os
import pickle
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from disks import small_disk
from maskatlas.checkpoint import (
    TrainingState,
    load_latest,
    load_model,
    save_model,
    save_state,
)
from maskatlas.config import Config, ModelConfig, to_mapping
from maskatlas.errors import CheckpointError, MisfitError
from maskatlas.tensorfile import save_tensors

CONFIG = ModelConfig(channels=8, depth=1)
ATTRIBUTES = ("Smiling", "../../etc/passwd", "<script>", "=1+1", "\u202eEyeglasses")
WEIGHTS = {"layer.weight": (5, 8), "layer.bias": (5,)}


def weights(seed: int = 0, dtype: torch.dtype = torch.float32) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return {
        name: torch.randn(shape, generator=generator, dtype=torch.float64).to(dtype)
        for name, shape in WEIGHTS.items()
    }


def state_at(step: int, dtype: torch.dtype = torch.float32) -> TrainingState:
    tensors = {}
    for kind in ("model", "ema"):
        tensors |= {f"{kind}.{name}": t for name, t in weights(step, dtype).items()}
    for name, tensor in weights(step + 1, dtype).items():
        tensors[f"optimizer.{name}.exp_avg"] = tensor
        tensors[f"optimizer.{name}.exp_avg_sq"] = tensor.square()
        tensors[f"optimizer.{name}.step"] = torch.tensor(float(step))
    tensors["model.count"] = tensors["ema.count"] = torch.tensor(2**53 + step)
    return TrainingState(
        step=step,
        epoch=step // 10,
        config=to_mapping(Config(seed=step)),
        attributes=ATTRIBUTES,
        tensors=tensors,
        best_score=0.1 + 0.2 * step,
        meta={"history": [0.1, None, "text"]},
    )


def assert_equal(a: TrainingState | None, b: TrainingState) -> None:
    assert a is not None
    assert dataclasses.replace(a, tensors={}) == dataclasses.replace(b, tensors={})
    assert a.tensors.keys() == b.tensors.keys()
    for name, tensor in a.tensors.items():
        assert tensor.dtype == b.tensors[name].dtype
        assert tensor.shape == b.tensors[name].shape
        assert torch.equal(tensor, b.tensors[name])


def names(directory: Path) -> list[str]:
    return sorted(path.name for path in directory.iterdir())


# The model folder


def shapes_of(config: ModelConfig, attributes: tuple[str, ...]) -> dict[str, tuple[int, ...]]:
    return {"layer.weight": (len(attributes), config.channels), "layer.bias": (len(attributes),)}


@pytest.mark.parametrize(
    "dtype", [torch.float32, torch.float64, torch.bfloat16, torch.int64], ids=str
)
def test_a_model_folder_comes_back_bit_for_bit(tmp_path: Path, dtype: torch.dtype) -> None:
    folder = tmp_path / "run" / "model"
    state = weights(dtype=dtype)
    save_model(state, CONFIG, ATTRIBUTES, folder, card="# A card\n")
    assert names(folder) == ["README.md", "config.json", "model.safetensors"]
    assert (folder / "README.md").read_text() == "# A card\n"
    config, attributes, loaded = load_model(folder, shapes_of)
    assert (config, attributes) == (CONFIG, ATTRIBUTES)
    assert loaded.keys() == state.keys()
    for name, tensor in loaded.items():
        assert tensor.dtype == dtype
        assert torch.equal(tensor, state[name])


def test_a_model_folder_is_replaced(tmp_path: Path) -> None:
    save_model(weights(1), CONFIG, ATTRIBUTES, tmp_path, card="old")
    (tmp_path / ".model.safetensors.0a1b2c3d.partial").write_bytes(b"left by a killed process")
    save_model(weights(2), CONFIG, ATTRIBUTES, tmp_path, card="new")
    assert names(tmp_path) == ["README.md", "config.json", "model.safetensors"]
    assert torch.equal(load_model(tmp_path)[2]["layer.bias"], weights(2)["layer.bias"])
    assert (tmp_path / "README.md").read_text() == "new"


def test_weights_that_do_not_fit_the_configuration_are_refused_before_they_are_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    save_model(weights(), dataclasses.replace(CONFIG, channels=9), ATTRIBUTES, tmp_path, card="")
    monkeypatch.setattr(torch, "empty", None)
    with pytest.raises(
        MisfitError, match=r"'layer.weight': expected shape \[5, 9\], found shape \[5, 8\]"
    ):
        load_model(tmp_path, shapes_of)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"format": "other"}, "expected maskatlas-model of version 1, found {'format': 'other'"),
        ({"version": 2}, "if a newer maskatlas wrote it, update this one"),
        ({"attributes": []}, "attributes: expected different names in a list, found []"),
        ({"attributes": "Smiling"}, "attributes: expected different names in a list"),
        ({"attributes": ["a", "a"]}, "attributes: expected different names in a list"),
        ({"attributes": ["a", 3]}, "attributes: expected different names in a list"),
        ({"attributes": ["a", ""]}, "attributes: expected different names in a list"),
        ({"model": None}, "model: expected a table of settings, found None"),
        ({"model": {"_target_": "os.system"}}, "model: unknown key '_target_'"),
        ({"model": {"channels": 8}}, "model: expected depth, extractor, "),
        ({"model": {"channels": 10**9}}, "model.channels: expected a whole number from 1 to"),
        ({"model": {"extractor": "os.system"}}, "model.extractor: expected one of compact"),
    ],
)
def test_a_wrong_description_is_refused(
    change: dict[str, Any], reason: str, tmp_path: Path
) -> None:
    save_model(weights(), CONFIG, ATTRIBUTES, tmp_path, card="")
    path = tmp_path / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | change))
    with pytest.raises(CheckpointError) as caught:
        load_model(tmp_path, shapes_of)
    assert reason in str(caught.value)
    assert str(caught.value).startswith(f"{path}: ")


@pytest.mark.parametrize("content", [b"", b"{", b"\xff", b"[" * 100_000, b"<html>", b"\x80\x04N."])
def test_a_description_that_is_no_json_is_refused(content: bytes, tmp_path: Path) -> None:
    save_model(weights(), CONFIG, ATTRIBUTES, tmp_path, card="")
    (tmp_path / "config.json").write_bytes(content)
    with pytest.raises(CheckpointError, match=r"config\.json: expected JSON: "):
        load_model(tmp_path)


@pytest.mark.parametrize("content", [b"[]", b"3", b"null", b'"text"'])
def test_a_description_that_is_no_object_is_refused(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "config.json").write_bytes(content)
    with pytest.raises(CheckpointError, match=r"config\.json: expected maskatlas-model"):
        load_model(tmp_path)


def test_a_folder_without_a_model_says_what_it_holds_instead(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="found an empty folder; files of pickled weights"):
        load_model(tmp_path)
    with pytest.raises(CheckpointError, match="found nothing; files of pickled weights"):
        load_model(tmp_path / "nowhere")
    (tmp_path / "model.pt").touch()
    with pytest.raises(CheckpointError, match=r"found 'model\.pt'; files of pickled weights"):
        load_model(tmp_path)
    with pytest.raises(CheckpointError, match="found a file; files of pickled weights"):
        load_model(tmp_path / "model.pt")


def test_a_model_folder_whose_weights_are_missing_or_a_pickle_is_refused(tmp_path: Path) -> None:
    save_model(weights(), CONFIG, ATTRIBUTES, tmp_path, card="")
    path = tmp_path / "model.safetensors"
    path.unlink()
    with pytest.raises(CheckpointError, match=r"model\.safetensors: .* found nothing"):
        load_model(tmp_path, shapes_of)
    torch.save(weights(), path)
    with pytest.raises(CheckpointError, match=r"found a zip archive, as torch\.save makes"):
        load_model(tmp_path, shapes_of)


def test_a_model_that_a_full_disk_cannot_take_leaves_the_old_one(tmp_path: Path) -> None:
    with small_disk(tmp_path) as disk:
        save_model(weights(), CONFIG, ATTRIBUTES, disk / "model", card="old")
        large = {name: torch.zeros(2**20) for name in WEIGHTS}
        with pytest.raises(CheckpointError, match=r"8\.0 MiB could not be written \(No space"):
            save_model(large, CONFIG, ATTRIBUTES, disk / "model", card="new")
        assert torch.equal(load_model(disk / "model")[2]["layer.bias"], weights()["layer.bias"])
        assert names(disk / "model") == ["README.md", "config.json", "model.safetensors"]


# Training states


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16], ids=str)
def test_a_training_state_comes_back_bit_for_bit(tmp_path: Path, dtype: torch.dtype) -> None:
    state = state_at(123, dtype)
    save_state(tmp_path, state)
    assert_equal(load_latest(tmp_path), state)
    assert_equal(load_latest(tmp_path, WEIGHTS | {"count": ()}), state)


def test_a_run_that_has_no_score_yet_comes_back_without_one(tmp_path: Path) -> None:
    state = dataclasses.replace(state_at(0), best_score=None, meta={})
    save_state(tmp_path, state)
    assert_equal(load_latest(tmp_path), state)


def test_there_may_be_no_state(tmp_path: Path) -> None:
    assert load_latest(tmp_path / "nowhere") is None
    assert load_latest(tmp_path) is None
    for name in ("step-3.safetensors", "step-0000000003.pt", "notes.txt"):
        (tmp_path / name).write_bytes(pickle.dumps({}))
    assert load_latest(tmp_path) is None


def test_the_newest_states_are_kept(tmp_path: Path) -> None:
    for step in (8, 9, 10, 11):
        assert save_state(tmp_path, state_at(step)).name == f"step-{step:010d}.safetensors"
    assert names(tmp_path) == ["step-0000000010.safetensors", "step-0000000011.safetensors"]
    assert_equal(load_latest(tmp_path), state_at(11))
    save_state(tmp_path, state_at(12), keep=1)
    assert names(tmp_path) == ["step-0000000012.safetensors"]


def test_a_state_is_replaced_by_one_of_the_same_step(tmp_path: Path) -> None:
    save_state(tmp_path, state_at(5))
    changed = dataclasses.replace(state_at(5), best_score=7.0)
    save_state(tmp_path, changed)
    assert_equal(load_latest(tmp_path), changed)


def test_an_older_state_is_removed_only_when_the_new_one_is_safe(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    events: list[str] = []
    real_fsync, real_unlink = os.fsync, Path.unlink

    def fsync(descriptor: int) -> None:
        events.append("fsync")
        real_fsync(descriptor)

    def unlink(path: Path, missing_ok: bool = False) -> None:
        events.append(f"unlink {path.name}")
        real_unlink(path, missing_ok)

    for step in (1, 2):
        save_state(tmp_path, state_at(step))
    monkeypatch.setattr(os, "fsync", fsync)
    monkeypatch.setattr(Path, "unlink", unlink)
    save_state(tmp_path, state_at(3))
    assert events == ["fsync", "fsync", "unlink step-0000000001.safetensors"]


def damage_by_cutting(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-1])


def damage_by_zeros(path: Path) -> None:
    content = path.read_bytes()
    path.write_bytes(content[:-64] + bytes(64))


def damage_by_pickling(path: Path) -> None:
    path.write_bytes(pickle.dumps({"step": 3}))


def damage_by_torch(path: Path) -> None:
    torch.save({"step": 3}, path)


def damage_by_emptying(path: Path) -> None:
    path.write_bytes(b"")


def damage_by_another_format(path: Path) -> None:
    save_tensors(path, state_at(3).tensors, {"maskatlas": '{"format": "x"}'})


def damage_by_no_description(path: Path) -> None:
    save_tensors(path, state_at(3).tensors, {})


def damage_by_a_wrong_description(path: Path) -> None:
    fields = {"format": "maskatlas-training-state", "version": 1, "step": "3"}
    save_tensors(path, state_at(3).tensors, {"maskatlas": json.dumps(fields)})


@pytest.mark.parametrize(
    "damage",
    [
        damage_by_cutting,
        damage_by_zeros,
        damage_by_pickling,
        damage_by_torch,
        damage_by_emptying,
        damage_by_another_format,
        damage_by_no_description,
        damage_by_a_wrong_description,
    ],
)
def test_a_damaged_state_is_skipped_with_a_warning(
    damage: Any, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    old, new = save_state(tmp_path, state_at(2)), save_state(tmp_path, state_at(3))
    damage(new)
    with caplog.at_level(logging.WARNING):
        assert_equal(load_latest(tmp_path), state_at(2))
    assert [record.levelname for record in caplog.records] == ["WARNING"]
    assert str(new) in caplog.text
    damage(old)
    with pytest.raises(CheckpointError, match="none of the 2 checkpoints can be read"):
        load_latest(tmp_path)


def test_a_damaged_newer_state_goes_when_the_run_goes_on(tmp_path: Path) -> None:
    save_state(tmp_path, state_at(2))
    damage_by_cutting(save_state(tmp_path, state_at(9)))
    save_state(tmp_path, state_at(4))
    assert names(tmp_path) == ["step-0000000002.safetensors", "step-0000000004.safetensors"]
    assert_equal(load_latest(tmp_path), state_at(4))


def without(state: TrainingState, name: str) -> TrainingState:
    tensors = {key: tensor for key, tensor in state.tensors.items() if key != name}
    return dataclasses.replace(state, tensors=tensors)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"model.layer.bias": torch.zeros(6)}, "'model.layer.bias': expected shape [5], found"),
        (
            {"ema.layer.bias": torch.zeros(6)},
            "'ema.layer.bias': expected shape [5], found shape [6]",
        ),
        (
            {"optimizer.layer.bias.exp_avg": torch.zeros(6)},
            "'optimizer.layer.bias.exp_avg': expected shape [5], found shape [6]",
        ),
        (
            {"optimizer.layer.bias.step": torch.zeros(6)},
            "'optimizer.layer.bias.step': expected shape [], found shape [6]",
        ),
        ({"optimizer.no.exp_avg": torch.zeros(1)}, "'optimizer.no.exp_avg': expected nothing"),
        ({"model.no": torch.zeros(1)}, "'model.no': expected nothing, found shape [1]"),
        ({"other": torch.zeros(1)}, "'other': expected nothing, found shape [1]"),
    ],
)
def test_a_state_of_another_network_is_an_error_and_not_skipped(
    change: dict[str, torch.Tensor],
    reason: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    state = state_at(3)
    save_state(tmp_path, state_at(2))
    save_state(tmp_path, dataclasses.replace(state, tensors=state.tensors | change))
    monkeypatch.setattr(torch, "empty", None)
    with pytest.raises(MisfitError) as caught:
        load_latest(tmp_path, WEIGHTS | {"count": ()})
    assert reason in str(caught.value)


def test_a_state_that_lacks_a_weight_is_an_error(tmp_path: Path) -> None:
    save_state(tmp_path, without(state_at(3), "model.layer.bias"))
    with pytest.raises(
        MisfitError, match=r"'model\.layer\.bias': expected shape .*, found nothing"
    ):
        load_latest(tmp_path, WEIGHTS | {"count": ()})


def test_a_state_before_the_first_step_has_no_moments(tmp_path: Path) -> None:
    state = state_at(0)
    tensors = {name: t for name, t in state.tensors.items() if not name.startswith("optimizer.")}
    save_state(tmp_path, dataclasses.replace(state, tensors=tensors))
    loaded = load_latest(tmp_path, WEIGHTS | {"count": ()})
    assert loaded is not None
    assert loaded.tensors.keys() == tensors.keys()


# Dying in the middle

SAVES_UNTIL_KILLED = """
import os, signal, sys
from pathlib import Path
import torch
from maskatlas.checkpoint import TrainingState, save_state

def state(step):
    tensors = {"model.w": torch.full((1000,), float(step))}
    return TrainingState(step, 0, {}, ("Smiling",), tensors)

def die(*_):
    os.kill(os.getpid(), signal.SIGKILL)

def die_in_the_second(function):
    calls = []
    def wrapped(*arguments, **keywords):
        calls.append(None)
        return die() if len(calls) == 2 else function(*arguments, **keywords)
    return wrapped

import maskatlas.files, maskatlas.tensorfile

moments = {
    "made": lambda: setattr(maskatlas.files.fcntl, "flock", die),
    "half-written": lambda: setattr(
        maskatlas.tensorfile, "_bytes", die_in_the_second(maskatlas.tensorfile._bytes)),
    "written": lambda: setattr(os, "fsync", die),
    "synchronised": lambda: setattr(Path, "replace", die),
    "renamed": lambda: setattr(maskatlas.files, "sync_folder", die),
    "safe": lambda: setattr(Path, "unlink", die),
}

for moment, arrange in moments.items():
    folder = Path(sys.argv[1]) / moment
    save_state(folder, state(1))
    save_state(folder, state(2))
    child = os.fork()
    if child == 0:
        arrange()
        save_state(folder, state(3))
        os._exit(0)
    _, status = os.waitpid(child, 0)
    assert os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGKILL, (moment, status)
"""


def test_a_kill_at_any_moment_of_a_save_leaves_a_state_that_loads(tmp_path: Path) -> None:
    arguments = [sys.executable, "-W", "ignore", "-c", SAVES_UNTIL_KILLED, str(tmp_path)]
    ran = subprocess.run(arguments, check=False, capture_output=True, text=True)
    assert ran.returncode == 0, ran.stderr
    safe = {"renamed", "safe"}
    assert set(names(tmp_path)) == safe | {"made", "half-written", "written", "synchronised"}
    for folder in tmp_path.iterdir():
        partial = [name for name in names(folder) if name.endswith(".partial")]
        assert bool(partial) == (folder.name not in safe), folder.name
        step = 3 if folder.name in safe else 2
        state = load_latest(folder)
        assert state is not None
        assert state.step == step, folder.name
        assert torch.equal(state.tensors["model.w"], torch.full((1000,), float(step)))
        assert not any(name.endswith(".partial") for name in names(folder)), folder.name
        save_state(folder, dataclasses.replace(state, step=4))
        assert names(folder) == [f"step-{n:010d}.safetensors" for n in (step, 4)]


def test_a_state_that_a_full_disk_cannot_take_leaves_the_older_ones(tmp_path: Path) -> None:
    with small_disk(tmp_path) as disk:
        folder = disk / "checkpoints"
        for step in (1, 2):
            save_state(folder, state_at(step))
        large = dataclasses.replace(state_at(3), tensors={"model.w": torch.zeros(2**20)})
        with pytest.raises(
            CheckpointError,
            match=r"step-0000000003\.safetensors: 4\.0 MiB could not be written \(No space left",
        ):
            save_state(folder, large)
        assert names(folder) == [f"step-{n:010d}.safetensors" for n in (1, 2)]
        assert_equal(load_latest(folder), state_at(2))
        save_state(folder, state_at(4))
        assert_equal(load_latest(folder), state_at(4))


def test_a_folder_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    for folder in (tmp_path / "file", tmp_path / "file" / "below"):
        with pytest.raises(CheckpointError, match=f"^{folder}: cannot be written"):
            save_state(folder, state_at(1))
        with pytest.raises(CheckpointError, match=f"^{folder}: cannot be written"):
            save_model(weights(), CONFIG, ATTRIBUTES, folder, card="")
