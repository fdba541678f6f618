from dataclasses import replace
from pathlib import Path

import pytest

from maskatlas.config import PRESETS
from maskatlas.errors import ConfigError, RunError
from maskatlas.run_claim import check_claim, claim, differences

CONFIG = PRESETS["demo"]


def test_a_free_folder_may_be_claimed_and_is_then_this_configurations(tmp_path: Path) -> None:
    check_claim(CONFIG, tmp_path / "run", resume=False)
    claim(CONFIG, tmp_path / "run")
    with pytest.raises(RunError, match="holds a run already; go on with --resume"):
        check_claim(CONFIG, tmp_path / "run", resume=False)
    check_claim(CONFIG, tmp_path / "run", resume=True)


def test_what_is_claimed_is_not_claimed_anew(tmp_path: Path) -> None:
    claim(CONFIG, tmp_path)
    before = (tmp_path / "config.toml").read_bytes()
    claim(replace(CONFIG, seed=7), tmp_path)
    assert (tmp_path / "config.toml").read_bytes() == before
    with pytest.raises(ConfigError, match="seed: it has 0, asked for is 7"):
        check_claim(replace(CONFIG, seed=7), tmp_path, resume=True)


def test_a_setting_that_is_younger_than_the_run_had_its_default(tmp_path: Path) -> None:
    preset = PRESETS["celeba-64"]
    claim(preset, tmp_path)
    path = tmp_path / "config.toml"
    lines = path.read_text(encoding="utf-8").splitlines(keepends=True)
    older = "".join(line for line in lines if not line.startswith("pretraining"))
    assert len(older.splitlines()) == len(lines) - 1
    path.write_text(older, encoding="utf-8")
    with pytest.raises(ConfigError, match=r"train.pretraining: it has 0, asked for is 0.25"):
        check_claim(preset, tmp_path, resume=True)
    check_claim(
        replace(preset, train=replace(preset.train, pretraining=0.0)), tmp_path, resume=True
    )


def test_differences_are_named_but_for_those_that_change_no_weight() -> None:
    before = {"device": "cpu", "train": {"epochs": 1, "checkpoint_minutes": 1.0, "ema": 0.9}}
    now = {"device": "cuda", "train": {"epochs": 2, "checkpoint_minutes": 2.0, "ema": 0.9}}
    assert differences(before, now) == ["train.epochs: it has 1, asked for is 2"]
    assert differences(before, before) == []
    near = {"epochs": 5.96641}, {"epochs": 5.96641 + 1e-12}
    assert differences(*near) == ["epochs: it has 5.96641, asked for is 5.966410000001"]
    assert differences({"ema": 0.0}, {"ema": 1e-20}) == ["ema: it has 0, asked for is 1e-20"]
