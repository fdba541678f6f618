import pytest
from hypothesis import given
from hypothesis import strategies as st

from atlases import made_up_atlas
from drawing import HOSTILE
from maskatlas.figures import dendrogram
from maskatlas.figures.saving import encoded, indexed, save_figures, slug


@given(st.text(max_size=80), st.integers(0, 999))
def test_file_names_hold_letters_digits_and_hyphens_only(name, index):
    assert set(slug(name)) <= set("abcdefghijklmnopqrstuvwxyz0123456789-")
    assert len(slug(name)) <= 40
    assert indexed(index, name).startswith(f"{index:03d}")
    assert not indexed(index, name).endswith("-")


def test_attributes_whose_slugs_are_the_same_have_files_of_their_own():
    assert indexed(1, "../a") != indexed(2, "a")


@pytest.mark.parametrize("kind", ["png", "svg"])
def test_all_figures_are_written_into_the_folder_and_nowhere_else(tmp_path, kind):
    names = [HOSTILE[3], HOSTILE[2]]
    paths = save_figures(made_up_atlas(names, 3), tmp_path / "run" / "figures", kind)
    assert sorted(paths) == sorted((tmp_path / "run" / "figures").iterdir())
    assert [p.name for p in tmp_path.rglob("*") if p.is_file()] == [
        p.name for p in (tmp_path / "run" / "figures").iterdir()
    ]
    stems = {path.stem for path in paths}
    assert {"mask-grids", "overlays-000", "dendrogram", "attribute-correlation"} <= stems
    assert {"importance-000-etc-passwd", "importance-001-script-alert-1-script"} <= stems
    begin = b"\x89PNG" if kind == "png" else b"<?xml"
    assert all(path.read_bytes().startswith(begin) for path in paths)


def test_names_are_no_markup_in_svg():
    figure = dendrogram(made_up_atlas(["<script>alert(1)</script>", "--><script>x"], 3))
    text = encoded(figure, "svg").decode()
    assert "<script" not in text


def test_the_same_atlas_gives_the_same_bytes():
    one, other = (encoded(dendrogram(made_up_atlas(3, 3)), "svg") for _ in range(2))
    assert one == other


def test_an_atlas_without_examples_has_no_overlays(tmp_path):
    paths = save_figures(made_up_atlas(2, 2, examples=None, drop=False), tmp_path, "svg")
    assert not [path for path in paths if "overlays" in path.name]
