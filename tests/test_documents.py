"""What the documents say of the code is held against the code."""

import importlib
import re
from dataclasses import fields, is_dataclass
from pathlib import Path

import pytest

from maskatlas.cli import VERBS
from maskatlas.config import PRESETS, Config
from maskatlas.model import build_network
from maskatlas.sources.faces import ATTRIBUTES

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = ROOT / "src" / "maskatlas"
PAGES = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/*.md")])
PARTS = {path.stem for path in PACKAGE.iterdir() if path.suffix == ".py" or path.is_dir()} - {
    "__pycache__"
}
FILES = {".c", ".csv", ".html", ".json", ".jsonl", ".md", ".py", ".safetensors", ".toml", ".txt"}


def text(name: str) -> str:
    return (ROOT / name).read_text(encoding="utf-8")


def names_of(page: str) -> list[str]:
    """Dotted names in backticks that begin with a module, a folder or a section of settings."""
    found = re.findall(r"`([a-z_]+(?:\.\w+)+)`", page)
    sections = {field.name for field in fields(Config)}
    return [
        name
        for name in found
        if name.split(".")[0] in PARTS | sections and Path(name).suffix not in FILES
    ]


def is_setting(name: str) -> bool:
    value: object = Config()
    for part in name.split("."):
        if not is_dataclass(value) or part not in {field.name for field in fields(value)}:
            return False
        value = getattr(value, part)
    return True


def is_name(name: str) -> bool:
    """Whether a module, and then what stands in it, is there; a record's fields count."""
    parts = name.split(".")
    if parts[0] not in PARTS:
        return False
    found: object = importlib.import_module(f"maskatlas.{parts[0]}")
    for depth, part in enumerate(parts[1:], 2):
        if part in getattr(found, "__annotations__", {}):
            return depth == len(parts)
        try:
            found = getattr(found, part)
        except AttributeError:
            try:
                found = importlib.import_module(f"maskatlas.{'.'.join(parts[:depth])}")
            except ModuleNotFoundError:
                return False
    return True


@pytest.mark.parametrize("page", PAGES, ids=lambda path: path.name)
def test_every_name_that_a_page_mentions_is_there(page: Path):
    names = names_of(page.read_text(encoding="utf-8"))
    assert [name for name in names if not is_setting(name) and not is_name(name)] == []


def test_a_name_that_is_not_there_is_noticed():
    names = names_of("`losses.loss_terms` `losses.gone` `loss.mask_l1` `loss.gone` `model.json`")
    wrong = [name for name in names if not is_setting(name) and not is_name(name)]
    assert wrong == ["losses.gone", "loss.gone"]


@pytest.mark.parametrize("page", PAGES, ids=lambda path: path.name)
def test_every_link_within_the_project_leads_somewhere(page: Path):
    content = page.read_text(encoding="utf-8")
    links = re.findall(r"\]\(([^)#\s]+)", content) + re.findall(r'src="([^"]+)"', content)
    inner = [link for link in links if not re.match(r"[a-z]+:", link)]
    assert [link for link in inner if not (page.parent / link).exists()] == []


def test_every_part_of_the_package_has_its_line_in_the_architecture():
    table = text("docs/architecture.md").split("## What each part is for")[1].split("\n## ")[0]
    told = {Path(name).stem for row in table.splitlines() for name in re.findall(r"`(\S+)`", row)}
    assert sorted(PARTS - told) == []
    for row in table.splitlines():
        for name in re.findall(r"`([\w/]+(?:\.py|/))`", row.split("|")[1] if "|" in row else ""):
            assert (PACKAGE / name).exists(), name


def test_the_readme_names_every_verb_and_no_other():
    table = text("README.md").split("## The verbs")[1].split("\n## ")[0]
    rows = re.findall(r"^\| `([a-z ]+?)(?: [A-Z-].*?)?` \|", table, flags=re.MULTILINE)
    assert sorted(rows) == sorted(VERBS)


def test_the_python_of_the_readme_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    (code,) = re.findall(r"```python\n(.*?)```", text("README.md"), flags=re.DOTALL)
    network = build_network(PRESETS["demo"].model, ATTRIBUTES)
    network.save_pretrained(tmp_path / "runs" / "demo" / "model")
    monkeypatch.chdir(tmp_path)
    names: dict[str, object] = {}
    exec(compile(code, "README.md", "exec"), names)
    assert tuple(names["images"].shape) == (8, 3, 64, 64)
    assert tuple(names["masks"].shape)[:3] == (8, 1, 2)
    assert tuple(names["shares"].shape)[:3] == (8, 1, network.channels)
    assert tuple(names["maps"].shape) == (8, 1, 64, 64)
