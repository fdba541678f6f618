import re
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Literal

import pytest

from maskatlas.errors import ConfigError
from maskatlas.schema import Check, Section, from_mapping, to_mapping


@dataclass(frozen=True, slots=True)
class Oven(Section):
    heat: Annotated[float, Check("a heat from 0 to 300", lambda x: 0 <= x <= 300)] = 180.0
    fan: bool = False
    kind: Literal["gas", "electric"] = "gas"


@dataclass(frozen=True, slots=True)
class Recipe(Section):
    minutes: int = 10
    title: str = "bread"
    steps: tuple[str, ...] = ()
    mix: tuple[str, float] | None = None
    oven: Oven = field(default_factory=Oven)


def error_of(mapping: object) -> str:
    with pytest.raises(ConfigError) as caught:
        from_mapping(Recipe, mapping, "recipe.toml")
    return str(caught.value)


def test_values_are_read_and_the_rest_keeps_its_default() -> None:
    mapping = {"steps": ["mix", "bake"], "mix": ["flour", 2], "oven": {"heat": 200, "fan": True}}
    recipe = from_mapping(Recipe, mapping, "here")
    assert recipe == Recipe(
        steps=("mix", "bake"), mix=("flour", 2.0), oven=Oven(heat=200.0, fan=True)
    )
    assert isinstance(recipe.oven.heat, float)
    assert recipe.mix is not None
    assert isinstance(recipe.mix[1], float)


def test_a_base_gives_what_the_mapping_does_not() -> None:
    base = Recipe(minutes=3, oven=Oven(heat=1.0, fan=True))
    merged = from_mapping(Recipe, {"oven": {"heat": 2.0}}, "here", base)
    assert merged == Recipe(minutes=3, oven=Oven(heat=2.0, fan=True))
    assert base.oven.heat == 1.0


def test_null_unsets_an_optional_value_and_only_that() -> None:
    base = Recipe(mix=("flour", 1.0))
    assert from_mapping(Recipe, {"mix": None}, "here", base).mix is None
    assert "recipe.toml: minutes: expected a whole number" in error_of({"minutes": None})


def test_plain_values_come_back_equal() -> None:
    recipe = Recipe(mix=("salt", 0.1), steps=("a",))
    mapping = to_mapping(recipe)
    assert mapping == {
        "minutes": 10,
        "title": "bread",
        "steps": ["a"],
        "mix": ["salt", 0.1],
        "oven": {"heat": 180.0, "fan": False, "kind": "gas"},
    }
    assert from_mapping(Recipe, mapping, "here") == recipe


@pytest.mark.parametrize(
    ("mapping", "where", "expected", "found"),
    [
        ({"minutes": "ten"}, "minutes", "a whole number", "'ten'"),
        ({"minutes": 1.0}, "minutes", "a whole number", "1.0"),
        ({"minutes": True}, "minutes", "a whole number", "True"),
        ({"title": 3}, "title", "a text", "3"),
        ({"steps": "mix"}, "steps", "a list", "'mix'"),
        ({"steps": ["mix", 4]}, "steps[1]", "a text", "4"),
        ({"mix": ["flour"]}, "mix", "a list of 2", "['flour']"),
        ({"oven": 3}, "oven", "a table of settings", "3"),
        ({"oven": {"fan": 1}}, "oven.fan", "true or false", "1"),
        ({"oven": {"heat": True}}, "oven.heat", "a finite number", "True"),
        ({"oven": {"heat": float("nan")}}, "oven.heat", "a finite number", "nan"),
        ({"oven": {"heat": float("inf")}}, "oven.heat", "a finite number", "inf"),
        ({"oven": {"heat": 10**400}}, "oven.heat", "a finite number", "1000"),
        ({"oven": {"heat": 16**5000}}, "oven.heat", "a finite number", "a int too long to show"),
        ({"oven": {"heat": 301}}, "oven.heat", "a heat from 0 to 300", "301.0"),
        ({"oven": {"kind": "gs"}}, "oven.kind", "one of gas, electric", "'gs'; the nearest is gas"),
        ({"oven": {"kind": ["gas"]}}, "oven.kind", "one of gas, electric", "['gas']"),
    ],
)
def test_a_wrong_value_is_named_with_what_was_expected_and_found(
    mapping: dict[str, Any], where: str, expected: str, found: str
) -> None:
    assert error_of(mapping).startswith(f"recipe.toml: {where}: expected {expected}, found {found}")


@pytest.mark.parametrize(
    ("mapping", "message"),
    [
        ({"minute": 3}, "recipe.toml: unknown key 'minute'; the nearest valid key is minutes"),
        ({"heat": 3}, "recipe.toml: unknown key 'heat'; the nearest valid key is oven.heat"),
        (
            {"oven": {"fna": 1}},
            "recipe.toml: oven: unknown key 'fna'; the nearest valid key is fan",
        ),
        ({"oven": {"q": 1}}, "recipe.toml: oven: unknown key 'q'; valid keys are heat, fan, kind"),
        ({3: 1}, "recipe.toml: unknown key 3; valid keys are minutes, title, steps, mix, oven"),
        ({"\x1b[2J": 1}, r"recipe.toml: unknown key '\x1b[2J'; valid keys are"),
        ([1], "recipe.toml: expected a table of settings, found [1]"),
    ],
)
def test_an_unknown_key_is_named_with_the_nearest_one(mapping: object, message: str) -> None:
    assert error_of(mapping).startswith(message)


def test_nothing_is_imported_because_a_file_names_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    trace = tmp_path / "trace"
    (tmp_path / "planted.py").write_text(f"open({str(trace)!r}, 'w')\ndef call(): pass\n")
    monkeypatch.syspath_prepend(tmp_path)
    for key in ("_target_", "__class__", "class_path", "__init__", "__post_init__", "import"):
        assert f"unknown key '{key}'" in error_of({key: "planted.call"})
        assert f"unknown key '{key}'" in error_of({"oven": {key: "planted.call"}})
    for value in ("planted.call", "!!python/object:planted.call", "${planted.call}"):
        assert from_mapping(Recipe, {"title": value}, "here").title == value
        error_of({"oven": {"kind": value}})
    assert "planted" not in sys.modules
    assert not trace.exists()


def test_a_section_with_a_wrong_value_cannot_be_made() -> None:
    with pytest.raises(ConfigError, match=r"^Oven\.heat: expected a heat from 0 to 300"):
        Oven(heat=-1.0)
    with pytest.raises(ConfigError, match=re.escape("Recipe.oven: expected a Oven, found {}")):
        Recipe(oven={})  # type: ignore[arg-type]
