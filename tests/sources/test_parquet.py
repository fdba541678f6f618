import builtins
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow
import pyarrow.parquet
import pytest
import torch

from layouts import SPLITS, Truth, truth
from maskatlas.cache import PackedImages
from maskatlas.data import AttributeDataset
from maskatlas.errors import DataError, ImageError
from maskatlas.images import Preprocessing, open_image
from maskatlas.sources import open_dataset
from maskatlas.sources.parquet import CELEBA_ATTRIBUTES

FILES = {"train": "train", "val": "validation", "test": "test"}


def rows_of(known: Truth, split: str) -> list[int]:
    return [row for row, of in enumerate(known.splits) if of == split]


def images_of(known: Truth, rows: list[int], named: bool = True) -> list[dict[str, Any]]:
    names = [known.names[row] for row in rows]
    return [{"bytes": known.files[name], "path": name if named else None} for name in names]


def write(path: Path, **columns: object) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    pyarrow.parquet.write_table(pyarrow.table(columns), path, row_group_size=3)


def write_bools(root: Path, known: Truth, valid: str = "valid") -> None:
    """As flwrlabs/celeba: bool attributes, celeb_id, in a folder of its configuration."""
    for split in SPLITS:
        rows = rows_of(known, split)
        labels = {
            name: known.labels[rows, column].astype(bool)
            for column, name in enumerate(known.attributes)
        }
        people = [known.identities[row] for row in rows]
        path = root / "img_align" / f"{valid if split == 'val' else split}-00000-of-00001.parquet"
        write(path, image=images_of(known, rows), celeb_id=people, **labels)


def write_integers(root: Path, known: Truth) -> None:
    """As tpremoli/CelebA-attrs: integers, and a column of text."""
    for split in SPLITS:
        rows = rows_of(known, split)
        labels = {
            name: 2 * known.labels[rows, column].astype(np.int64) - 1
            for column, name in enumerate(known.attributes)
        }
        path = root / "data" / f"{FILES[split]}-00000-of-00001.parquet"
        write(path, image=images_of(known, rows, named=False), prompt=["x"] * len(rows), **labels)


def write_packed(root: Path, known: Truth) -> None:
    """As eurecom-ds/celeba: all attributes in one list, and identity."""
    for split in SPLITS:
        rows = rows_of(known, split)
        lists = pyarrow.array(known.labels[rows].tolist(), pyarrow.list_(pyarrow.int8(), 40))
        people = [known.identities[row] for row in rows]
        path = root / f"{FILES[split]}-00000-of-00001.parquet"
        write(path, image=images_of(known, rows), attr=lists, identity=people)


def check(data: AttributeDataset, known: Truth) -> None:
    assert data.source == "parquet"
    assert data.attributes == known.attributes
    order = [row for split in ("test", "train", "val") for row in rows_of(known, split)]
    assert list(data.splits) == [known.splits[row] for row in order]
    assert np.array_equal(data.labels.numpy(), known.labels[order])
    for place, row in enumerate(order):
        pixels = np.asarray(open_image(known.files[known.names[row]]))
        assert np.array_equal(np.asarray(data.read(place)), pixels)
    if data.identities is not None:
        assert data.identities.tolist() == [known.identities[row] for row in order]


@pytest.mark.parametrize("valid", ["valid", "validation", "val"])
def test_bools(tmp_path: Path, valid: str) -> None:
    known = truth(15)
    write_bools(tmp_path, known, valid)
    data = open_dataset(tmp_path)
    check(data, known)
    assert data.identities is not None
    assert set(data.names) == set(known.names)
    assert len(open_dataset(tmp_path, split="val")) == 5


def test_integers_and_text(tmp_path: Path) -> None:
    known = truth(15, CELEBA_ATTRIBUTES)
    write_integers(tmp_path, known)
    data = open_dataset(tmp_path)
    check(data, known)
    assert data.identities is None
    assert any("no attributes: prompt" in note for note in data.notes)
    assert len(set(data.names)) == 15  # made up, as the files hold none


def test_packed(tmp_path: Path) -> None:
    known = truth(15, CELEBA_ATTRIBUTES)
    write_packed(tmp_path, known)
    check(open_dataset(tmp_path), known)


def test_nested_once_more(tmp_path: Path) -> None:
    known = truth(15)
    write_bools(tmp_path / "celeba", known)
    check(open_dataset(tmp_path), known)


def test_other_integers_are_ignored(tmp_path: Path) -> None:
    """Where all of CelebA's attributes are there, another integer is none of them."""
    known = truth(15, CELEBA_ATTRIBUTES)
    for split in SPLITS:
        rows = rows_of(known, split)
        labels = {name: known.labels[rows, c] for c, name in enumerate(known.attributes)}
        path = tmp_path / f"{split}.parquet"
        write(path, image=images_of(known, rows), width=[178] * len(rows), **labels)
    check(open_dataset(tmp_path), known)


def test_ignore(tmp_path: Path) -> None:
    known = truth(15)
    write_bools(tmp_path, known)
    data = open_dataset(tmp_path, ignore=["Male"])
    assert data.attributes == ("Smiling", "Wearing_Hat", "Eyeglasses")
    with pytest.raises(DataError, match="names 'Mal'"):
        open_dataset(tmp_path, ignore=["Mal"])


def test_ignore_of_packed_labels(tmp_path: Path) -> None:
    known = truth(15, CELEBA_ATTRIBUTES)
    write_packed(tmp_path, known)
    data = open_dataset(tmp_path, ignore=["Male"])
    kept = [place for place, name in enumerate(CELEBA_ATTRIBUTES) if name != "Male"]
    whole = open_dataset(tmp_path)
    assert data.attributes == tuple(CELEBA_ATTRIBUTES[place] for place in kept)
    assert torch.equal(data.labels, whole.labels[:, kept])


def test_packed_images_and_copies(tmp_path: Path) -> None:
    known = truth(15)
    write_bools(tmp_path, known)
    data = open_dataset(tmp_path)
    packed = PackedImages(data, Preprocessing(8))
    copy = pickle.loads(pickle.dumps(data.images))
    for place in (14, 0, 7, 3):
        expected = Preprocessing(8).image(copy.image(place))
        pixels = packed.batch(torch.tensor([place])).images[0].permute(1, 2, 0)
        assert np.array_equal(pixels.numpy(), expected)


def test_keys_follow_the_file(tmp_path: Path) -> None:
    known = truth(15)
    write_bools(tmp_path, known)
    before = [open_dataset(tmp_path).content_key(place) for place in range(15)]
    assert len(set(before)) == 15
    known.files = truth(15, seed=5).files
    write_bools(tmp_path, known)
    after = [open_dataset(tmp_path).content_key(place) for place in range(15)]
    assert not set(before) & set(after)


def test_errors_have_rows(tmp_path: Path) -> None:
    known = truth(4)
    images = images_of(known, [0, 1, 2, 3])
    path = tmp_path / "train.parquet"
    write(path, image=images, A=[1, 7, None, 0], B=[True, False, None, True])
    with pytest.raises(DataError) as error:
        open_dataset(tmp_path)
    assert [line.strip() for line in str(error.value).split("\n")[1:-1]] == [
        "row 2: A: expected -1, 0 or 1, found 7",
        "row 3: A: expected -1, 0 or 1, found nothing",
        "row 3: B: expected -1, 0 or 1, found nothing",
    ]
    lists = [[1] * 40, [1] * 39, None, [2] + [0] * 39]
    write(path, image=images, attr=pyarrow.array(lists, pyarrow.list_(pyarrow.int8())))
    with pytest.raises(DataError) as error:
        open_dataset(tmp_path)
    assert [line.strip() for line in str(error.value).split("\n")[1:-1]] == [
        "row 2: attr: expected 40 values, found 39",
        "row 3: attr: expected 40 values, found 0",
        "row 4: 5_o_Clock_Shadow: expected -1, 0 or 1, found 2",
    ]


def test_image_without_bytes(tmp_path: Path) -> None:
    known = truth(4)
    images = images_of(known, [0, 1, 2, 3])
    images[2]["bytes"] = None
    images[3]["bytes"] = b"<html>"
    write(tmp_path / "train.parquet", image=images, A=[1, 0, 1, 0])
    data = open_dataset(tmp_path)
    with pytest.raises(ImageError, match=r"train\.parquet: 000003\.jpg .* holds no bytes"):
        data[2]
    with pytest.raises(ImageError, match=r"train\.parquet: 000004\.jpg .* found an HTML page"):
        data[3]


def test_truncated_and_disguised(tmp_path: Path) -> None:
    known = truth(15)
    write_bools(tmp_path, known)
    path = next(tmp_path.glob("*/test*.parquet"))
    data = path.read_bytes()
    for wrong, found in ((data[: len(data) // 2], "a Parquet file"), (b"<html>", "an HTML page")):
        path.write_bytes(wrong)
        with pytest.raises(DataError, match=f"expected a Parquet file, found {found} .*cut short"):
            open_dataset(tmp_path)


def test_damaged_in_the_middle(tmp_path: Path) -> None:
    write_bools(tmp_path, truth(15))
    path = next(tmp_path.glob("*/test*.parquet"))
    data = bytearray(path.read_bytes())
    data[4:60] = bytes(56)
    path.write_bytes(data)
    dataset = open_dataset(tmp_path)
    with pytest.raises(ImageError, match=r"cannot be read|damaged|expected an image"):
        dataset[0]


def test_unknown_split(tmp_path: Path) -> None:
    write_bools(tmp_path, truth(15))
    path = next(tmp_path.glob("*/test*.parquet"))
    path.rename(path.with_name("holdout-00000-of-00001.parquet"))
    with pytest.raises(DataError, match="expected a file name that begins with its split"):
        open_dataset(tmp_path)


def test_files_of_two_datasets(tmp_path: Path) -> None:
    write_bools(tmp_path, truth(15))
    images = images_of(truth(4), [0, 1, 2, 3])
    write(tmp_path / "img_align" / "train-2.parquet", image=images, A=[1, 0, 1, 0])
    with pytest.raises(DataError, match="has other attributes than"):
        open_dataset(tmp_path)
    write(tmp_path / "more" / "train.parquet", image=images, A=[1, 0, 1, 0])
    with pytest.raises(DataError, match="several folders hold images in Parquet: img_align, more"):
        open_dataset(tmp_path)


def test_without_pyarrow(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_bools(tmp_path, truth(15))
    original = builtins.__import__

    def refuse(name: str, *more: Any, **options: Any) -> Any:
        if name.startswith("pyarrow"):
            raise ImportError(name)
        return original(name, *more, **options)

    monkeypatch.setattr(builtins, "__import__", refuse)
    with pytest.raises(DataError, match=r"needs pyarrow: pip install 'maskatlas\[parquet\]'"):
        open_dataset(tmp_path)
