from dataclasses import dataclass, field
from pathlib import Path

import pytest

from maskatlas.cli.settings import parse_with_settings, split_commas, with_split_commas
from maskatlas.config import PRESETS, Config, DataConfig, TrainConfig
from maskatlas.errors import ConfigError


@dataclass(frozen=True, kw_only=True)
class Verb:
    config: Path | None = None
    settings: Config = field(default_factory=lambda: PRESETS["celeba-64"])


def parse(*words: str, preset: str = "celeba-64") -> Config:
    prefixed = (f"--settings.{w[2:]}" if w.startswith("--train") else w for w in words)
    return parse_with_settings(Verb, [*prefixed], "verb", preset).settings


def test_lists_are_split_at_commas() -> None:
    assert split_commas(["a,b", "c"]) == ("a", "b", "c")
    assert split_commas([",a,,b,"]) == ("a", "b")
    assert split_commas([]) == ()


def test_the_lists_of_the_settings_are_split() -> None:
    settings = Config(data=DataConfig(ignore=("a,b",)), train=TrainConfig(splits=("train,val",)))
    split = with_split_commas(settings)
    assert split.data.ignore == ("a", "b")
    assert split.train.splits == ("train", "val")
    for wrong in (",", "train,train"):
        with pytest.raises(ConfigError, match="one split or more, each named once"):
            with_split_commas(Config(train=TrainConfig(splits=(wrong,))))


def test_a_preset_is_overridden_by_a_file_and_that_by_flags(tmp_path: Path) -> None:
    file = tmp_path / "my.toml"
    file.write_text("[train]\nepochs = 7\nbatch_size = 3\n")
    demo = PRESETS["demo"]
    assert parse(preset="demo") == demo
    settings = parse("--config", str(file), "--train.batch-size", "5", preset="demo")
    assert (settings.train.epochs, settings.train.batch_size) == (7, 5)
    assert settings.train.learning_rate == demo.train.learning_rate
    assert settings.model == demo.model
    assert parse(f"--config={file}").train.epochs == 7


def test_a_file_may_name_its_preset(tmp_path: Path) -> None:
    file = tmp_path / "my.toml"
    file.write_text('preset = "paper"\n[train]\nepochs = 7\n')
    settings = parse("--config", str(file))
    assert settings.model == PRESETS["paper"].model
    assert settings.train.epochs == 7


def test_a_preset_that_is_not_there_is_told() -> None:
    with pytest.raises(ConfigError, match=r"--preset: expected one of celeba-64.*found 'nope'"):
        parse_with_settings(Verb, ["--preset", "nope"], "verb", "demo")
    with pytest.raises(ConfigError, match="found 'nope'"):
        parse_with_settings(Verb, ["--preset=nope"], "verb", "demo")
