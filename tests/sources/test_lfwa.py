from collections.abc import Sequence
from pathlib import Path

import h5py
import numpy as np
import pytest
import scipy.io

from layouts import encoded, picture, write_images
from maskatlas.errors import DataError
from maskatlas.images import open_image
from maskatlas.sources import open_dataset

PEOPLE = {"Ada_Love": 2, "Bo": 1, "Zoe_Ann": 2}
NAMES = [
    f"{person}/{person}_{number:04d}.jpg"
    for person, count in PEOPLE.items()
    for number in range(1, count + 1)
]
ATTRIBUTES = ["Smiling", "Wearing Hat", "Male"]
LABELS = np.array([[1, 0, 0], [0, 1, 1], [1, 1, 0], [0, 0, 0], [1, 1, 1]])


def write_cells(file: h5py.File, name: str, texts: Sequence[str]) -> None:
    """A cell of texts as MATLAB writes it: references to columns of 16-bit characters."""
    cells = file.create_dataset(name, (1, len(texts)), h5py.ref_dtype)
    for place, text in enumerate(texts):
        letters = np.array([[ord(letter)] for letter in text], np.uint16)
        cells[0, place] = file.create_dataset(f"#refs#/{name}{place}", data=letters).ref


def write_table(path: Path, labels: np.ndarray = LABELS, names: Sequence[str] = NAMES) -> None:
    with h5py.File(path, "w", userblock_size=512) as file:
        write_cells(file, "AttrName", ATTRIBUTES)
        write_cells(file, "name", [name.replace("/", "\\") for name in names])
        file["label"] = labels.T.astype(float)
    with path.open("r+b") as opened:
        opened.write(b"MATLAB 7.3 MAT-file, Platform: GLNXA64".ljust(512))


def write_indices(path: Path, train: Sequence[int], test: Sequence[int]) -> None:
    with h5py.File(path, "w") as file:
        file["indices_img_train"] = np.array([train], float)
        file["indices_img_test"] = np.array([test], float)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for place, name in enumerate(NAMES):
        person, file = name.split("/")
        write_images(tmp_path / "lfw" / person, {file: encoded(picture(place))})
    write_table(tmp_path / "lfw_att_40.mat")
    write_indices(tmp_path / "indices_train_test.mat", [1, 2, 5], [3, 4])
    return tmp_path


def test_everything(folder: Path) -> None:
    data = open_dataset(folder)
    assert data.source == "lfwa"
    assert data.attributes == ("Smiling", "Wearing_Hat", "Male")
    assert list(data.names) == NAMES
    assert np.array_equal(data.labels.numpy(), LABELS)
    assert data.splits == ("train", "train", "test", "test", "train")
    assert data.identities is not None
    assert data.identities.tolist() == [0, 0, 1, 2, 2]
    for place in range(5):
        pixels = np.asarray(open_image(encoded(picture(place))))
        assert np.array_equal(np.asarray(data.read(place)), pixels)


def test_as_many_images_as_attributes(folder: Path) -> None:
    """Where the table is square, MATLAB's order of dimensions still holds."""
    for name in NAMES[3:]:
        (folder / "lfw" / name).unlink()
    write_table(folder / "lfw_att_40.mat", LABELS[:3], NAMES[:3])
    write_indices(folder / "indices_train_test.mat", [1, 2], [3])
    assert np.array_equal(open_dataset(folder).labels.numpy(), LABELS[:3])


def test_nested_once_more_and_an_older_format(folder: Path) -> None:
    (folder / "lfw").rename(folder / "inner")
    (folder / "lfw").mkdir()
    (folder / "inner").rename(folder / "lfw" / "lfw")
    scipy.io.savemat(
        folder / "indices_train_test.mat",
        {"indices_img_train": [[1], [2]], "indices_img_test": [[3], [4], [5]]},
    )
    data = open_dataset(folder)
    assert data.splits == ("train", "train", "test", "test", "test")
    scipy.io.savemat(
        folder / "lfw_att_40.mat",
        {
            "AttrName": np.array([[name] for name in ATTRIBUTES], object),
            "name": np.array([[name.replace("/", "\\")] for name in NAMES], object),
            "label": LABELS,
        },
    )
    older = open_dataset(folder)
    assert older.names == data.names
    assert older.attributes == data.attributes
    assert np.array_equal(older.labels, data.labels)


def test_no_partition(folder: Path) -> None:
    (folder / "indices_train_test.mat").unlink()
    assert open_dataset(folder).splits == ("train",) * 5


def test_image_in_no_split(folder: Path) -> None:
    write_indices(folder / "indices_train_test.mat", [1, 2], [3])
    data = open_dataset(folder)
    assert list(data.names) == NAMES[:3]
    assert any("2 labelled images are in no split" in note for note in data.notes)


def test_no_val(folder: Path) -> None:
    with pytest.raises(DataError, match=r"has no split val\. .*train \(3\), test \(2\)"):
        open_dataset(folder, split="val")


def test_unlabelled_images_are_a_note_here(folder: Path) -> None:
    """The published folder holds 90 images that the published table leaves out."""
    write_images(folder / "lfw" / "Cy", {"Cy_0001.jpg": encoded(picture(9))})
    data = open_dataset(folder)
    assert len(data) == 5
    assert any("1 images in" in note and "no label" in note for note in data.notes)


def test_wrong_indices(folder: Path) -> None:
    write_indices(folder / "indices_train_test.mat", [0, 1, 2], [2, 3, 6])
    with pytest.raises(DataError) as error:
        open_dataset(folder)
    assert [line.strip() for line in str(error.value).split("\n")[1:-1]] == [
        "index 0: indices_img_train: expected 1 to 5",
        "index 2: indices_img_test: the image is in train too",
        "index 6: indices_img_test: expected 1 to 5",
    ]


def test_wrong_labels(folder: Path) -> None:
    labels = LABELS.astype(float)
    labels[1, 2], labels[4, 0] = 3, np.nan
    write_table(folder / "lfw_att_40.mat", labels)
    with pytest.raises(DataError) as error:
        open_dataset(folder)
    assert [line.strip() for line in str(error.value).split("\n")[1:-1]] == [
        "row 2: Ada_Love/Ada_Love_0002.jpg, Male: expected -1, 0 or 1, found 3",
        "row 5: Zoe_Ann/Zoe_Ann_0002.jpg, Smiling: expected -1, 0 or 1, found nan",
    ]


def test_names_that_leave_the_folder(folder: Path) -> None:
    write_table(folder / "lfw_att_40.mat", names=["../x.jpg", *NAMES[1:]])
    with pytest.raises(DataError, match=r"row 1: '\.\./x\.jpg' leaves the folder"):
        open_dataset(folder)


def test_labels_of_another_shape(folder: Path) -> None:
    write_table(folder / "lfw_att_40.mat", LABELS[:4])
    with pytest.raises(DataError, match="of 5 images and 3 attributes, found 4 x 3"):
        open_dataset(folder)


@pytest.mark.parametrize(
    "data", [b"", b"<html>Quota</html>", b"\x89HDF\r\n\x1a\n" + bytes(100), b"MATLAB 5.0"]
)
def test_files_in_disguise(folder: Path, data: bytes) -> None:
    (folder / "lfw_att_40.mat").write_bytes(data)
    with pytest.raises(DataError, match=r"lfw_att_40\.mat: expected a MATLAB file with AttrName"):
        open_dataset(folder)


def test_no_images(folder: Path) -> None:
    (folder / "lfw").rename(folder / "faces")
    with pytest.raises(DataError, match="no folder lfw"):
        open_dataset(folder)
