import contextlib
from pathlib import Path

import pytest

from command_line import KEPT, call
from disks import small_disk
from maskatlas import figures
from maskatlas.analysis import Atlas
from maskatlas.resampling import Draws


@pytest.fixture
def _no_figures(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(figures, "save_figures", lambda *_: [])


def test_the_demo_has_written_an_atlas_with_its_figures(run: Path) -> None:
    atlas = Atlas.load(run / "atlas")
    assert atlas.attributes == KEPT
    assert (atlas.images, atlas.channels, atlas.source) == (8, 10, "faces, val")
    assert atlas.importance_drop is not None
    names = {path.name for path in (run / "atlas").iterdir()}
    assert {"mask_mean.csv", "mask-grids.png", "dendrogram.png"} <= names
    assert not any(name.startswith(".") for name in names)


@pytest.mark.usefixtures("_no_figures")
def test_flags_of_analyze(own_run: Path) -> None:
    words = ("--split", "all", "--limit", "5", "--top", "2", "--drop-images", "0")
    words += ("--replicates", "7", "--seed", "3")
    answer = call("analyze", own_run, *words)
    assert answer == (0, f"{own_run / 'atlas'}\n", "")
    atlas = Atlas.load(own_run / "atlas")
    assert (atlas.images, atlas.source) == (15, "faces, all splits")
    assert atlas.importance_drop is None
    assert atlas.confidence is not None
    assert atlas.confidence.draws == Draws(7, 15, people=False)
    assert atlas.examples is not None
    assert atlas.examples.channels.shape == (4, 2)


@pytest.mark.usefixtures("_no_figures")
def test_progress_is_shown_on_a_terminal_unless_quiet(own_run: Path) -> None:
    loud = call("analyze", own_run, terminal=True)
    assert "masks: " in loud.err
    assert "channels: " in loud.err
    assert call("analyze", own_run).err == ""
    assert call("analyze", own_run, "-q", terminal=True).err == ""


def test_numbers_that_cannot_be_are_told(own_run: Path) -> None:
    for words in (("--top", "0"), ("--drop-images", "-1")):
        answer = call("analyze", own_run, *words)
        assert answer.code == 2
        assert "expected top of at least 1 and drop_images of at least 0" in answer.err
    answer = call("analyze", own_run, "--replicates", "1")
    assert (answer.code, "at least 2, or 0" in answer.err) == (2, True)
    assert not (own_run / "atlas").exists()


def test_a_place_that_cannot_be_written_is_told(own_run: Path) -> None:
    (own_run / "atlas").write_text("a file")
    answer = call("analyze", own_run, "--drop-images", "0")
    assert (answer.code, answer.out) == (1, "")
    assert answer.err == f"maskatlas analyze: {own_run / 'atlas'}: File exists\n"


@pytest.mark.usefixtures("_no_figures")
def test_a_full_disk_leaves_the_atlas_that_was_there(own_run: Path, tmp_path: Path) -> None:
    with small_disk(tmp_path) as disk:
        (own_run / "atlas").symlink_to(disk)
        assert call("analyze", own_run, "--drop-images", "0", "--limit", "4").code == 0
        before = {path.name: path.read_bytes() for path in disk.iterdir()}
        with (disk / "filler").open("wb", buffering=0) as filler, contextlib.suppress(OSError):
            while True:
                filler.write(bytes(4096))
        answer = call("analyze", own_run, "--drop-images", "0", "--limit", "5")
        assert (answer.code, answer.out) == (1, "")
        assert answer.err.startswith(f"maskatlas analyze: {own_run / 'atlas'}/")
        assert answer.err.endswith("No space left on device; make room, then try again\n")
        assert answer.err.count("\n") == 1
        (disk / "filler").unlink()
        assert {path.name: path.read_bytes() for path in disk.iterdir()} == before
