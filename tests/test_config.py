import dataclasses
import json
import types
from pathlib import Path
from typing import Annotated, Any, Literal, get_args, get_origin, get_type_hints

import hypothesis.strategies as st
import pytest
from hypothesis import given, settings

from maskatlas.config import (
    PRESETS,
    Config,
    DataConfig,
    FacesConfig,
    LossConfig,
    ModelConfig,
    Preset,
    TrainConfig,
    dump_toml,
    from_mapping,
    load_toml,
    to_mapping,
)
from maskatlas.errors import ConfigError
from maskatlas.schema import Check, Section

TEXT = st.text(st.characters(codec="utf-8"), min_size=1)
SCALARS: dict[Any, st.SearchStrategy[Any]] = {
    bool: st.booleans(),
    int: st.integers(0, 100) | st.integers(),
    float: st.floats(0, 0.99) | st.floats(allow_nan=False, allow_infinity=False),
    str: TEXT | st.sampled_from(["auto", "cpu", "cuda", "cuda:12"]),
}


def plain(hint: Any) -> st.SearchStrategy[Any]:
    """Whatever the annotation of a field allows, as TOML and JSON spell it."""
    arguments = get_args(hint)
    if get_origin(hint) is Annotated:
        strategy = plain(arguments[0])
        for check in (mark for mark in arguments[1:] if isinstance(mark, Check)):
            strategy = strategy.filter(check.holds)
        return strategy
    if get_origin(hint) is Literal:
        return st.sampled_from(arguments)
    if get_origin(hint) is tuple:
        if arguments[-1] is ...:
            return st.lists(plain(arguments[0]), max_size=3)
        return st.tuples(*map(plain, arguments)).map(list)
    if types.NoneType in arguments:
        return st.none() | plain(arguments[0])
    return SCALARS[hint] if hint in SCALARS else sections(hint)


def sections(cls: type[Section]) -> st.SearchStrategy[dict[str, Any]]:
    fields = {name: plain(hint) for name, hint in get_type_hints(cls, include_extras=True).items()}
    if cls is ModelConfig:
        fields["multilabel"] = st.just(True)  # it and `subnetworks` cannot both be false
    return st.fixed_dictionaries(fields)


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("config") / "config.toml"


@settings(deadline=None)
@given(mapping=sections(Config), base=st.sampled_from(sorted(PRESETS)))
def test_every_configuration_comes_back_equal(
    mapping: dict[str, Any], base: str, file: Path
) -> None:
    config = from_mapping(Config, mapping, "here")
    assert to_mapping(config) == mapping
    assert from_mapping(Config, json.loads(json.dumps(mapping)), "here") == config
    file.write_text(dump_toml(config), encoding="utf-8", newline="")
    assert load_toml(file, PRESETS[base]) == config


@pytest.mark.parametrize("preset", PRESETS)
def test_a_preset_knows_its_name_and_comes_back_from_toml_over_any_other(
    preset: str, file: Path
) -> None:
    assert PRESETS[preset].preset == preset
    file.write_text(dump_toml(PRESETS[preset]))
    for base in PRESETS.values():
        assert load_toml(file, base) == PRESETS[preset]


def test_the_presets_are_those_that_the_schema_allows() -> None:
    assert set(PRESETS) == set(get_args(Preset))


def test_a_file_overrides_the_base(file: Path) -> None:
    file.write_text("[train]\nepochs = 2\nsplits = ['train', 'val']\n[data.faces]\nseed = 9\n")
    base = Config(seed=4, train=TrainConfig(batch_size=7))
    assert load_toml(file, base) == Config(
        seed=4,
        train=TrainConfig(batch_size=7, epochs=2.0, splits=("train", "val")),
        data=DataConfig(faces=FacesConfig(seed=9)),
    )


def test_a_file_that_names_a_preset_starts_from_it(file: Path) -> None:
    file.write_text("preset = 'paper'\nseed = 3\n")
    config = load_toml(file, PRESETS["demo"])
    assert config == dataclasses.replace(PRESETS["paper"], seed=3)


def test_a_byte_order_mark_and_windows_line_ends_are_read(file: Path) -> None:
    file.write_bytes(b"\xef\xbb\xbfseed = 5\r\n[train]\r\nepochs = 6\r\n")
    config = load_toml(file, Config())
    assert (config.seed, config.train.epochs) == (5, 6)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"epochs = 3\n", "unknown key 'epochs'; the nearest valid key is train.epochs"),
        (b"[training]\nepochs = 3\n", "unknown key 'training'; the nearest valid key is train"),
        (b"[train]\nepoch = 3\n", "train: unknown key 'epoch'; the nearest valid key is epochs"),
        (b"[train]\nepochs = 0\n", "train.epochs: expected a finite number above 0, found 0"),
        (b"preset = 'dmeo'\n", "'dmeo'; the nearest is demo"),
        (b"seed = 1\nseed = 2\n", "expected a configuration in TOML; "),
        (b"seed = \n", "(at line 1, column 8)"),
        (b"\x80\x04\x95cos\nsystem\n", "expected a configuration in TOML; "),
        (b"\xff\xfes\x00", "expected a configuration in TOML; "),
        (b"<!DOCTYPE html><html>", "expected a configuration in TOML; "),
        (b"seed = " + b"[" * 100_000, "expected a configuration in TOML; "),
        (b"seed = " + b"9" * 5000, "expected a configuration in TOML; "),
        (b"_target_ = 'os.system'\n", "unknown key '_target_'; valid keys are preset, seed"),
        (b"[model]\n_target_ = 'os.system'\n", "model: unknown key '_target_'; valid keys are"),
        (
            b"[model]\nsubnetworks = false\nmultilabel = false\n",
            "model: expected subnetworks or multilabel to be true",
        ),
    ],
)
def test_a_file_that_does_not_fit_is_refused_by_name(
    content: bytes, message: str, file: Path
) -> None:
    file.write_bytes(content)
    with pytest.raises(ConfigError) as caught:
        load_toml(file, Config())
    assert str(caught.value).startswith(f"{file}: ")
    assert message in str(caught.value)
    assert len(str(caught.value)) < 500


def test_a_file_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"nowhere\.toml: cannot read .*No such file"):
        load_toml(tmp_path / "nowhere.toml", Config())
    with pytest.raises(ConfigError, match=r"cannot read .*directory"):
        load_toml(tmp_path, Config())


@pytest.mark.parametrize(
    ("cls", "field", "value"),
    [
        (FacesConfig, "count", 0),
        (FacesConfig, "size", 0),
        (FacesConfig, "seed", -1),
        (FacesConfig, "plant", ("Smiling", "Male", 1.01)),
        (DataConfig, "path", ""),
        (DataConfig, "path", "not\udcffunicode"),
        (DataConfig, "ignore", ("",)),
        (ModelConfig, "extractor", "resnet"),
        (ModelConfig, "image_size", 0),
        (ModelConfig, "channels", 0),
        (ModelConfig, "channels", 10**9),
        (ModelConfig, "mask_rank", -1),
        (ModelConfig, "mask_offset", -0.5),
        (ModelConfig, "depth", -1),
        (ModelConfig, "depth", 10**9),
        (LossConfig, "binary", -1.0),
        (LossConfig, "mask_l1", float("nan")),
        (TrainConfig, "epochs", 0.0),
        (TrainConfig, "batch_size", 0),
        (TrainConfig, "learning_rate", 0.0),
        (TrainConfig, "weight_decay", -0.1),
        (TrainConfig, "warmup", 1.5),
        (TrainConfig, "clip", 0.0),
        (TrainConfig, "ema", 1.0),
        (TrainConfig, "ema", -0.1),
        (TrainConfig, "shift", -1),
        (TrainConfig, "splits", ()),
        (TrainConfig, "splits", ("train", "train")),
        (TrainConfig, "splits", ("",)),
        (TrainConfig, "validation", ""),
        (TrainConfig, "precision", "int8"),
        (TrainConfig, "checkpoint_minutes", -1.0),
        (Config, "seed", 2**63),
        (Config, "device", "gpu"),
        (Config, "device", "cuda:"),
        (Config, "limit", 0),
    ],
)
def test_a_value_out_of_its_range_is_refused(cls: type[Section], field: str, value: object) -> None:
    with pytest.raises(ConfigError, match=f"^flags: {field}.*: expected .*, found "):
        from_mapping(cls, {field: value}, "flags")
