"""A tiny run, made once by ``maskatlas demo``; whoever changes it takes a copy."""

import shutil
from pathlib import Path

import pytest
from PIL import Image

from command_line import TINY, Answer, call
from maskatlas.config import FacesConfig
from maskatlas.sources import open_dataset


@pytest.fixture(scope="session")
def made(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Answer]:
    """The run folder of a tiny demo, and what the demo said."""
    run = tmp_path_factory.mktemp("made") / "run"
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MASKATLAS_CACHE", str(tmp_path_factory.getbasetemp() / "cache"))
        answer = call("demo", "--out", run, *TINY)
    assert answer.code == 0, answer.err
    return run, answer


@pytest.fixture
def run(made: tuple[Path, Answer]) -> Path:
    """The tiny run, only to be read."""
    return made[0]


@pytest.fixture
def own_run(run: Path, tmp_path: Path) -> Path:
    """A copy of it, without what analyze, evaluate and report wrote."""
    copy = tmp_path / "run"
    shutil.copytree(run, copy, ignore=shutil.ignore_patterns("atlas", "figures", "*.html"))
    (copy / "evaluation.json").unlink()
    return copy


@pytest.fixture
def photos(tmp_path: Path) -> list[Path]:
    """Three rendered faces as files of other sizes."""
    data = open_dataset("faces", faces=FacesConfig(count=10, size=40, seed=9))
    folder = tmp_path / "photos"
    folder.mkdir()
    files = {"a.png": (50, 40), "b.jpg": (40, 61), "c.webp": (33, 33)}
    for index, (name, size) in enumerate(files.items()):
        data.read(index).resize(size, Image.Resampling.BICUBIC).save(folder / name)
    return [folder / name for name in files]
