import os
import struct
import zipfile
from pathlib import Path

import numpy as np
import pytest

from layouts import (
    SPLITS,
    Truth,
    encoded,
    identity_text,
    partition_text,
    picture,
    truth,
    write_archive,
    write_celeba,
    write_images,
)
from maskatlas.data import AttributeDataset
from maskatlas.errors import DataError, ImageError
from maskatlas.images import open_image
from maskatlas.sources import open_dataset


def check(data: AttributeDataset, known: Truth) -> None:
    """Everything that was written is read, wherever it lay."""
    assert data.attributes == known.attributes
    assert list(data.names) == known.names
    assert np.array_equal(data.labels.numpy(), known.labels)
    assert list(data.splits) == known.splits
    for place, name in enumerate(known.names):
        pixels = np.asarray(open_image(known.files[name]))
        assert np.array_equal(np.asarray(data.read(place)), pixels)


@pytest.mark.parametrize("archive", [True, False])
@pytest.mark.parametrize("published", [True, False])
@pytest.mark.parametrize("inside", ["", "celeba"])
def test_published_and_flat(tmp_path: Path, archive: bool, published: bool, inside: str) -> None:
    known = truth()
    write_celeba(tmp_path / inside, known, archive=archive, published=published)
    data = open_dataset(tmp_path)
    check(data, known)
    assert data.identities is not None
    assert data.identities.tolist() == known.identities
    assert data.source == "celeba"
    assert not data.has_regions


def test_folder_nested_once_more(tmp_path: Path) -> None:
    known = truth()
    write_celeba(tmp_path, known, archive=False)
    (tmp_path / "img_align_celeba").rename(tmp_path / "inner")
    (tmp_path / "img_align_celeba").mkdir()
    (tmp_path / "inner").rename(tmp_path / "img_align_celeba" / "img_align_celeba")
    check(open_dataset(tmp_path), known)


def test_packed_archive(tmp_path: Path) -> None:
    known = truth()
    write_celeba(tmp_path, known)
    write_archive(tmp_path / "img_align_celeba.zip", known.files, zipfile.ZIP_DEFLATED)
    check(open_dataset(tmp_path), known)


@pytest.mark.parametrize("archive", [True, False])
def test_kaggle(tmp_path: Path, archive: bool) -> None:
    known = truth()
    rows = [",".join([name, *(str(2 * v - 1) for v in row)]) for name, row in labelled(known)]
    header = ",".join(["image_id", *known.attributes])
    (tmp_path / "list_attr_celeba.csv").write_text("\n".join([header, *rows]) + "\n")
    pairs = partition_text(known).replace(" ", ",")
    (tmp_path / "list_eval_partition.csv").write_text(f"image_id,partition\n{pairs}")
    (tmp_path / "list_bbox_celeba.csv").write_text("image_id,x_1,y_1,width,height\n")
    if archive:
        write_archive(tmp_path / "img_align_celeba.zip", known.files)
    else:
        write_images(tmp_path / "img_align_celeba" / "img_align_celeba", known.files)
    data = open_dataset(tmp_path)
    check(data, known)
    assert data.identities is None
    assert data[0].identity is None


def labelled(known: Truth) -> list[tuple[str, list[int]]]:
    return list(zip(known.names, known.labels.tolist(), strict=True))


def test_kaggle_errors_have_lines(tmp_path: Path) -> None:
    write_archive(tmp_path / "img_align_celeba.zip", {})
    text = "image_id,A,B\na.jpg,1,-1\nb.jpg,,1\nc.jpg,1,x\nd.jpg,1\na.jpg,1,1\n"
    (tmp_path / "list_attr_celeba.csv").write_text(text)
    with pytest.raises(DataError) as error:
        open_dataset(tmp_path)
    assert [line.strip() for line in str(error.value).split("\n")[1:-1]] == [
        "line 3: b.jpg, A: expected 0, 1, -1, true or false, found nothing",
        "line 4: c.jpg, B: expected 0, 1, -1, true or false, found 'x'",
        "line 5: expected 3 cells, found 2",
        "line 6: 'a.jpg' was already in line 2",
    ]


@pytest.mark.parametrize("spelling", ["val", "valid", "validation", "Val"])
def test_splits(tmp_path: Path, spelling: str) -> None:
    known = truth()
    write_celeba(tmp_path, known)
    parts = {split: open_dataset(tmp_path, split=split) for split in SPLITS}
    assert sum(map(len, parts.values())) == len(known.names)
    for split, data in parts.items():
        assert set(data.splits) == {split}
        assert data.split == split
        expected = [known.splits[known.names.index(name)] for name in data.names]
        assert set(expected) == {split}
        place = known.names.index(data.names[0])
        assert data.labels[0].tolist() == known.labels[place].tolist()
        assert np.array_equal(
            np.asarray(data.read(0)), np.asarray(open_image(known.files[data.names[0]]))
        )
    assert open_dataset(tmp_path, split=spelling).names == parts["val"].names


def test_unknown_split(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"found 'tset'\. Did you mean test\?"):
        open_dataset(tmp_path, split="tset")


def test_no_partition(tmp_path: Path) -> None:
    known = truth()
    write_celeba(tmp_path, known)
    (tmp_path / "list_eval_partition.txt").unlink()
    known.splits = ["train"] * len(known.names)
    data = open_dataset(tmp_path)
    check(data, known)
    assert any("Nothing says which image is in which split" in note for note in data.notes)
    with pytest.raises(DataError, match=r"has no split val.*train \(12\)"):
        open_dataset(tmp_path, split="val")


def test_no_identities(tmp_path: Path) -> None:
    write_celeba(tmp_path, truth())
    (tmp_path / "identity_CelebA.txt").unlink()
    assert open_dataset(tmp_path).identities is None


def test_identities_of_some(tmp_path: Path) -> None:
    known = truth()
    write_celeba(tmp_path, known)
    (tmp_path / "identity_CelebA.txt").write_text(identity_text(known).split("\n", 1)[1])
    data = open_dataset(tmp_path)
    assert data.identities is not None
    assert data.identities.tolist() == [-1, *known.identities[1:]]


def test_labels_without_images_are_a_note(tmp_path: Path) -> None:
    known = truth()
    known.files = {name: known.files[name] for name in known.names if name != "000002.jpg"}
    write_celeba(tmp_path, known)
    data = open_dataset(tmp_path)
    assert len(data) == 11
    assert data.absent == {"train": ("000002.jpg",)}
    assert any("1 in train, such as 000002.jpg" in note for note in data.notes)


def test_a_split_left_empty_is_an_error(tmp_path: Path) -> None:
    known = truth()
    known.files = dict(list(known.files.items())[:8])  # those of train and val
    write_celeba(tmp_path, known)
    for split in ("test", None):
        with pytest.raises(DataError, match=r"split test is empty: 4 images .* 000009\.jpg"):
            open_dataset(tmp_path, split=split)
    assert len(open_dataset(tmp_path, split="train")) == 4


@pytest.mark.parametrize("archive", [True, False])
def test_image_without_label_is_an_error(tmp_path: Path, archive: bool) -> None:
    known = truth()
    known.files["extra.jpg"] = encoded(picture(7))
    write_celeba(tmp_path, known, archive=archive)
    with pytest.raises(DataError, match=r"1 images have no label: extra\.jpg"):
        open_dataset(tmp_path)
    (tmp_path / "exclude").write_text("extra.jpg\n")
    assert len(open_dataset(tmp_path, exclude=tmp_path / "exclude")) == 12


def test_partition_without_an_image(tmp_path: Path) -> None:
    known = truth()
    write_celeba(tmp_path, known)
    text = partition_text(known)
    path = tmp_path / "list_eval_partition.txt"
    path.write_text(text.split("\n", 1)[1])
    with pytest.raises(DataError, match=r"1 images have labels but no partition: 000001\.jpg"):
        open_dataset(tmp_path)
    path.write_text(text.replace("000002.jpg 0", "000002.jpg 3"))
    with pytest.raises(DataError, match=r"line 2: 000002\.jpg: expected partition 0 .* found '3'"):
        open_dataset(tmp_path)


@pytest.mark.parametrize("trace", ["list_eval_partition.txt", "img_align_celeba.zip"])
def test_attributes_are_missing(tmp_path: Path, trace: str) -> None:
    write_celeba(tmp_path, truth())
    for path in tmp_path.iterdir():
        if path.name != trace:
            path.unlink()
    with pytest.raises(DataError, match=rf"holds {trace} of CelebA, but not its attributes"):
        open_dataset(tmp_path)


def test_images_are_missing(tmp_path: Path) -> None:
    write_celeba(tmp_path, truth())
    (tmp_path / "img_align_celeba.zip").unlink()
    with pytest.raises(DataError, match="has labels of CelebA but no images: expected the folder"):
        open_dataset(tmp_path)


@pytest.mark.parametrize(
    ("data", "found"),
    [
        (b"<!DOCTYPE html><html>Quota exceeded</html>", "an HTML page"),
        (b"", "an empty file"),
    ],
)
def test_archive_in_disguise(tmp_path: Path, data: bytes, found: str) -> None:
    write_celeba(tmp_path, truth())
    (tmp_path / "img_align_celeba.zip").write_bytes(data)
    with pytest.raises(DataError, match=f"expected a ZIP archive of images, found {found}"):
        open_dataset(tmp_path)


@pytest.mark.parametrize("share", [0.1, 0.5, 0.97])
def test_truncated_archive(tmp_path: Path, share: float) -> None:
    write_celeba(tmp_path, truth())
    path = tmp_path / "img_align_celeba.zip"
    os.truncate(path, int(share * path.stat().st_size))
    with pytest.raises(DataError, match=r"found a ZIP archive of .* cut short"):
        open_dataset(tmp_path)


def test_zeroed_bytes_in_an_archive_are_noticed(tmp_path: Path) -> None:
    """A JPEG with zeroed bytes decodes silently; the archive's checksum does not."""
    known = truth()
    write_celeba(tmp_path, known)
    path = tmp_path / "img_align_celeba.zip"
    data = bytearray(path.read_bytes())
    start = data.index(known.files["000003.jpg"])
    end = start + len(known.files["000003.jpg"])
    data[end - 12 : end - 4] = bytes(8)
    path.write_bytes(data)
    dataset = open_dataset(tmp_path)
    open_image(bytes(data[start:end]))  # silently
    with pytest.raises(ImageError, match=r"000003\.jpg: its checksum does not fit"):
        dataset[2]
    assert dataset[1].name == "000002.jpg"


def test_archive_whose_directory_lies(tmp_path: Path) -> None:
    write_celeba(tmp_path, truth())
    path = tmp_path / "img_align_celeba.zip"
    data = bytearray(path.read_bytes())
    entry = data.index(b"PK\x01\x02")
    data[entry + 42 : entry + 46] = struct.pack("<L", 5)  # where the first member begins
    path.write_bytes(data)
    with pytest.raises(ImageError, match=r"000001\.jpg: cannot be read"):
        open_dataset(tmp_path)[0]


def test_archive_that_unpacks_to_more_than_it_says(tmp_path: Path) -> None:
    known = truth()
    known.files["000001.jpg"] = bytes(10_000_000)
    write_celeba(tmp_path, known)
    path = tmp_path / "img_align_celeba.zip"
    write_archive(path, known.files, zipfile.ZIP_DEFLATED)
    data = bytearray(path.read_bytes())
    entry = data.index(b"PK\x01\x02")
    data[entry + 24 : entry + 28] = struct.pack("<L", 100)  # its size
    path.write_bytes(data)
    with pytest.raises(ImageError, match="checksum does not fit"):
        open_dataset(tmp_path)[0]


def test_name_twice_in_an_archive(tmp_path: Path) -> None:
    known = truth()
    write_celeba(tmp_path, known)
    with zipfile.ZipFile(tmp_path / "img_align_celeba.zip", "a") as archive:
        archive.writestr("other/000001.jpg", known.files["000001.jpg"])
    with pytest.raises(DataError, match=r"holds 000001\.jpg twice"):
        open_dataset(tmp_path)


def test_what_macs_add_to_archives(tmp_path: Path) -> None:
    known = truth()
    write_celeba(tmp_path, known)
    with zipfile.ZipFile(tmp_path / "img_align_celeba.zip", "a") as archive:
        archive.writestr("__MACOSX/img_align_celeba/._000001.jpg", b"")
        archive.writestr("img_align_celeba/.DS_Store", b"")
    check(open_dataset(tmp_path), known)


def test_member_names_that_leave_are_only_names(tmp_path: Path) -> None:
    """Nothing is unpacked: a member is found by its file name and read in place."""
    known = truth()
    write_celeba(tmp_path, known)
    with zipfile.ZipFile(tmp_path / "img_align_celeba.zip", "w") as archive:
        for name, data in known.files.items():
            archive.writestr(f"../../{name}", data)
    check(open_dataset(tmp_path), known)
    assert not list(tmp_path.parent.parent.glob("0000*.jpg"))


def test_image_folder_may_be_a_link(tmp_path: Path) -> None:
    known = truth()
    write_celeba(tmp_path / "data", known, archive=False)
    (tmp_path / "data" / "img_align_celeba").rename(tmp_path / "elsewhere")
    (tmp_path / "data" / "img_align_celeba").symlink_to(tmp_path / "elsewhere")
    check(open_dataset(tmp_path / "data"), known)


def test_image_that_is_a_link_out_is_refused(tmp_path: Path) -> None:
    known = truth()
    write_celeba(tmp_path / "data", known, archive=False)
    inside = tmp_path / "data" / "img_align_celeba"
    (inside / "000001.jpg").unlink()
    (inside / "000001.jpg").symlink_to(inside / "000002.jpg")  # stays inside
    assert len(open_dataset(tmp_path / "data")) == 12
    (inside / "000001.jpg").unlink()
    (tmp_path / "secret.jpg").write_bytes(known.files["000001.jpg"])
    (inside / "000001.jpg").symlink_to(tmp_path / "secret.jpg")
    with pytest.raises(DataError, match=r"000001\.jpg: is a link to .*secret\.jpg, which lies out"):
        open_dataset(tmp_path / "data")


def test_folder_is_preferred_to_the_archive(tmp_path: Path) -> None:
    known = truth()
    write_celeba(tmp_path, known, archive=False)
    write_archive(tmp_path / "img_align_celeba.zip", {})
    data = open_dataset(tmp_path)
    check(data, known)
    assert any("not from img_align_celeba.zip" in note for note in data.notes)


@pytest.mark.real_data
def test_real_faces(real_data: Path) -> None:
    data = open_dataset(real_data / "celeba")
    assert len(data) == 42_075
    assert len(data.attributes) == 40
    assert data.identities is not None
    assert len(set(data.identities.tolist())) == 8_415
    assert data[0].image.shape == (3, 109, 89)
    assert data.splits.count("train") == 37_540
    assert data.splits.count("val") == 4_535
    with pytest.raises(DataError, match="has no split test"):
        open_dataset(real_data / "celeba", split="test")
    listed = real_data / "celebamask" / "index.csv"
    assert len(open_dataset(real_data / "celeba", exclude=listed)) == 42_075 - 129
