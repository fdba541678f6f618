"""The one door: which layout is chosen, and what holds in every layout."""

from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from layouts import encoded, picture, truth, write_celeba, write_images, write_table
from maskatlas.config import FacesConfig
from maskatlas.errors import DataError
from maskatlas.sources import open_dataset
from maskatlas.sources.listing import split_of


def test_faces_are_rendered() -> None:
    data = open_dataset("faces", split="val", limit=4, faces=FacesConfig(count=100, size=32))
    assert data.source == "faces"
    assert len(data) == 4
    assert data.has_regions
    assert data[0].image.shape == (3, 32, 32)
    assert set(data.splits) == {"val"}


def test_a_folder_named_faces(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_table(tmp_path / "faces", truth())
    monkeypatch.chdir(tmp_path)
    assert open_dataset("./faces/../faces").source == "table"


def test_ignored_attributes_in_every_layout(tmp_path: Path) -> None:
    known = truth()
    write_celeba(tmp_path / "celeba", known)
    write_table(tmp_path / "own", known)
    for folder in ("celeba", "own"):
        whole = open_dataset(tmp_path / folder)
        data = open_dataset(tmp_path / folder, ignore=["Male", "Smiling"])
        assert data.attributes == ("Wearing_Hat", "Eyeglasses")
        assert torch.equal(data.labels, whole.labels[:, 2:])
        with pytest.raises(DataError, match=r"'Malle'.*Did you mean Male\?"):
            open_dataset(tmp_path / folder, ignore=["Malle"])
        with pytest.raises(DataError, match=r"no attribute|no column is an attribute"):
            open_dataset(tmp_path / folder, ignore=list(known.attributes))


@pytest.mark.parametrize(
    "text",
    [
        "000002.jpg\n000007.jpg\nnot-here.jpg\n",
        "\ufeff# scored elsewhere\r\n000002.jpg\r\n\r\n  000007.jpg \r\nnot-here.jpg",
        "image_id,Smiling\n000002.jpg,1\n000007.jpg,0\nnot-here.jpg,1\n",
        "Smiling;file\n1;000002.jpg\n0;000007.jpg\n1;not-here.jpg\n",
    ],
)
def test_exclusion(tmp_path: Path, text: str) -> None:
    known = truth()
    write_celeba(tmp_path / "celeba", known)
    (tmp_path / "exclude.txt").write_bytes(text.encode())
    data = open_dataset(tmp_path / "celeba", exclude=tmp_path / "exclude.txt")
    left = [name for name in known.names if name not in ("000002.jpg", "000007.jpg")]
    assert list(data.names) == left
    assert any("2 of the 3 images to exclude are here" in note for note in data.notes)
    place = known.names.index("000008.jpg")
    assert data.labels[left.index("000008.jpg")].tolist() == known.labels[place].tolist()


def test_excluding_everything(tmp_path: Path) -> None:
    known = truth()
    write_celeba(tmp_path / "celeba", known)
    (tmp_path / "exclude").write_text("\n".join(known.names))
    with pytest.raises(DataError, match="no image is left"):
        open_dataset(tmp_path / "celeba", exclude=tmp_path / "exclude")


@pytest.mark.parametrize("data", [b"", b"# nothing\n", b"<html>", b"\x00\x01\x02"])
def test_files_that_exclude_nothing(tmp_path: Path, data: bytes) -> None:
    (tmp_path / "exclude").write_bytes(data)
    with pytest.raises(DataError, match="exclude: "):
        open_dataset("faces", exclude=tmp_path / "exclude")


@settings(deadline=None, max_examples=30)
@given(limit=st.integers(1, 20))
def test_limit(limit: int) -> None:
    faces = FacesConfig(count=100, size=32)
    whole = open_dataset("faces", faces=faces)
    data = open_dataset("faces", faces=faces, limit=limit)
    assert len(set(data.names)) == len(data)
    places = [whole.names.index(name) for name in data.names]
    assert places == sorted(places)
    for split in ("train", "val", "test"):
        of_split = [place for place, name in enumerate(whole.splits) if name == split]
        chosen = [place for place in places if whole.splits[place] == split]
        assert len(chosen) == min(limit, len(of_split))
        gaps = np.diff([of_split.index(place) for place in chosen])
        assert len(gaps) == 0 or gaps.max() - gaps.min() <= 1  # spread evenly
        alone = open_dataset("faces", faces=faces, limit=limit, split=split)
        assert [whole.names.index(name) for name in alone.names] == chosen


@pytest.mark.parametrize("limit", [0, -3])
def test_limits_below_one(limit: int) -> None:
    with pytest.raises(DataError, match="expected at least 1 image"):
        open_dataset("faces", limit=limit)


def test_split_names() -> None:
    for names, split in (
        (("train", "Training", "0", " TRAIN "), "train"),
        (("val", "valid", "validation", "1"), "val"),
        (("test", "testing", "2"), "test"),
        (("", "3", "dev", "-1"), None),
    ):
        assert {split_of(name) for name in names} == {split}


def test_nothing_known(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="found nothing"):
        open_dataset(tmp_path)
    (tmp_path / "archive.zip").write_bytes(b"")
    with pytest.raises(DataError, match=r"expected CelebA .* found archive\.zip.*unpack"):
        open_dataset(tmp_path)


def test_no_folder(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"expected a folder of labelled images.* found nothing"):
        open_dataset(tmp_path / "none")
    (tmp_path / "labels.csv").write_text("image,A\n")
    with pytest.raises(DataError, match=r"found a file\. Name the folder that holds it"):
        open_dataset(tmp_path / "labels.csv")


def test_several_datasets(tmp_path: Path) -> None:
    write_table(tmp_path / "one", truth())
    write_celeba(tmp_path / "two", truth())
    with pytest.raises(DataError, match="holds several datasets: one, two"):
        open_dataset(tmp_path)


def test_inner_folder_is_noted(tmp_path: Path) -> None:
    write_table(tmp_path / "one", truth())
    write_images(tmp_path / "pictures", {"a.jpg": encoded(picture(1))})
    data = open_dataset(tmp_path)
    assert data.path == tmp_path / "one"
    assert data.notes[0] == f"The dataset is in {tmp_path / 'one'}."


def test_what_names_may_hold(tmp_path: Path) -> None:
    """Names are data: markup, right-to-left text and the like come through as they are."""
    names = ["<script>alert(1)<_script>.jpg", "\u202eabc.jpg", "ß ж 字.jpg", "'\"&.jpg"]
    attributes = ["<b>Smiling</b>", "\u202egnilimS", "=1+1"]
    write_images(tmp_path / "images", {name: encoded(picture(1)) for name in names})
    rows = ["image," + ",".join(attributes)]
    rows += ['"' + name.replace('"', '""') + '",1,0,1' for name in names]
    (tmp_path / "labels.csv").write_text("\n".join(rows), encoding="utf-8")
    data = open_dataset(tmp_path)
    assert list(data.names) == names
    assert list(data.attributes) == attributes
    assert data[1].name == names[1]
