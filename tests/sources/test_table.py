from pathlib import Path

import numpy as np
import pyarrow
import pyarrow.parquet
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from layouts import Truth, encoded, picture, truth, write_images, write_table
from maskatlas.data import AttributeDataset
from maskatlas.errors import DataError
from maskatlas.images import open_image
from maskatlas.sources import open_dataset
from maskatlas.sources.columns import IMAGE_COLUMNS, read_csv


def check(data: AttributeDataset, known: Truth) -> None:
    assert data.attributes == known.attributes
    assert list(data.names) == known.names
    assert np.array_equal(data.labels.numpy(), known.labels)
    assert list(data.splits) == known.splits
    assert data.identities is not None
    assert data.identities.tolist() == known.identities
    for place, name in enumerate(known.names):
        pixels = np.asarray(open_image(known.files[name]))
        assert np.array_equal(np.asarray(data.read(place)), pixels)


def errors_of(folder: Path, text: str, **options: object) -> list[str]:
    (folder / "labels.csv").write_text(text)
    with pytest.raises(DataError) as error:
        open_dataset(folder, **options)
    return [line.strip() for line in str(error.value).split("\n")[1:-1]]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    write_images(tmp_path / "images", {f"{name}.jpg": encoded(picture(1)) for name in "abc"})
    return tmp_path


@pytest.mark.parametrize("place", ["images", "."])
def test_csv(tmp_path: Path, place: str) -> None:
    check(open_dataset(write_table(tmp_path, truth(), folder=place)), truth())


@pytest.mark.parametrize("column", IMAGE_COLUMNS)
def test_image_columns(folder: Path, column: str) -> None:
    (folder / "labels.csv").write_text(f"A,{column}\n1,a.jpg\n0,b.jpg\n1,c.jpg\n")
    data = open_dataset(folder)
    assert data.names == ("a.jpg", "b.jpg", "c.jpg")
    assert data.attributes == ("A",)


def test_the_first_image_column_counts(folder: Path) -> None:
    (folder / "labels.csv").write_text(
        "path,image,A\n/old/1,a.jpg,1\n/old/2,b.jpg,0\n/old/3,c.jpg,1\n"
    )
    data = open_dataset(folder)
    assert data.names == ("a.jpg", "b.jpg", "c.jpg")
    assert data.attributes == ("A",)


@pytest.mark.parametrize("separator", [",", ";", "\t"])
@pytest.mark.parametrize("end", ["\n", "\r\n"])
@pytest.mark.parametrize("mark", ["", "\ufeff"])
def test_forms_of_csv(tmp_path: Path, separator: str, end: str, mark: str) -> None:
    write_table(tmp_path, truth())
    path = tmp_path / "labels.csv"
    text = path.read_text().replace(",", separator).replace("\n", end)
    path.write_bytes((mark + text).encode())
    check(open_dataset(tmp_path), truth())


def test_quoted_cells(folder: Path) -> None:
    write_images(folder / "images", {"d, e.jpg": encoded(picture(2))})
    (folder / "labels.csv").write_text(
        'image,"A, B"\n"a.jpg",1\n"d, e.jpg",0\nb.jpg," 1 "\nc.jpg,"0"\n'
    )
    data = open_dataset(folder)
    assert data.attributes == ("A, B",)
    assert dict(zip(data.names, data.labels[:, 0].tolist(), strict=True)) == {
        "a.jpg": 1,
        "d, e.jpg": 0,
        "b.jpg": 1,
        "c.jpg": 0,
    }


CELLS = {
    1: ["1", "1.0", "true", "True", "TRUE", " 1 "],
    0: ["0", "0.0", "false", "False"],
    -1: ["-1", "-1.0"],
    None: ["", "nan", "NaN", "NA", "n/a", "null", "None", "  "],
}


@settings(deadline=None)
@given(
    labels=st.lists(st.sampled_from([1, 0, None]), min_size=1, max_size=20),
    minus=st.booleans(),
    data=st.data(),
)
def test_every_spelling_of_a_label(
    labels: list[int | None],
    minus: bool,
    data: st.DataObject,
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    cells = [
        data.draw(st.sampled_from(CELLS[-1 if minus and label == 0 else label])) for label in labels
    ]
    path = tmp_path_factory.mktemp("table") / "labels.csv"
    rows = [f"{place}.jpg,{cell}" for place, cell in enumerate(cells)]
    path.write_text("\n".join(["image,A", *rows]))
    expected = [np.nan if label is None else label for label in labels]
    assert np.array_equal(read_csv(path).table.labels[:, 0], expected, equal_nan=True)


def test_all_errors_at_once(folder: Path) -> None:
    text = (
        "image,split,A,B,caption\n"
        "a.jpg,train,1,0,hello\n"
        "b.jpg,tset,2,yes,world\n"
        "c.jpg,,1\n"
        "\n"
        "a.jpg,val,1,0,again\n"
        "../c.jpg,val,,0,again\n"
        ",val,,0,again\n"
    )
    assert errors_of(folder, text) == [
        "line 2: column caption: expected 0, 1, -1, true or false, or nothing, found 'hello' and "
        "no label in any row; if it is no attribute, use --data.ignore caption",
        "line 3: b.jpg, A: expected 0, 1, -1, true or false, or nothing, found '2'",
        "line 3: b.jpg, B: expected 0, 1, -1, true or false, or nothing, found 'yes'",
        "line 3: b.jpg: expected train, val or test as its split, found 'tset'",
        "line 4: expected 5 cells, found 3",
        "line 6: 'a.jpg' was already in line 2",
        "line 7: '../c.jpg' leaves the folder: expected a path below it",
        "line 8: the image has no name",
    ]
    assert len(errors_of(folder, text, ignore=["caption"])) == 7


@pytest.mark.parametrize(
    "name", ["../a.jpg", "/etc/a.jpg", "x/../../a.jpg", "C:\\a.jpg", "..\\a.jpg"]
)
def test_paths_that_leave_are_refused(folder: Path, name: str) -> None:
    (error,) = errors_of(folder, f"image,A\n{name},1\n")
    assert "leaves the folder" in error


def test_header_errors(folder: Path) -> None:
    (error,) = errors_of(folder, "picture,A\na.jpg,1\n")
    assert error == (
        "line 1: expected a column that names the image (image, image_id, file, filename, path), "
        "found picture, A"
    )
    assert errors_of(folder, "image,A,A,\na.jpg,1,0,1\n") == [
        "line 1: 2 columns are named 'A'",
        "line 1: column 4 has no name",
    ]
    assert "no column is an attribute" in errors_of(folder, "image,split\na.jpg,train\n")[0]
    assert errors_of(folder, "image,A\n") == ["line 1: there is no row below the header"]


def test_minus_one_and_zero_in_one_column(folder: Path) -> None:
    (error,) = errors_of(folder, "image,A,B\na.jpg,-1,1\nb.jpg,0,0\nc.jpg,1,1\n")
    assert "A holds both -1 and 0, and -1 may mean absent or unknown" in error


def test_broken_quotes(folder: Path) -> None:
    (folder / "labels.csv").write_text('image,A\na.jpg,1\n"b.jpg,1\nc.jpg,0\n')
    with pytest.raises(DataError, match="line 4: breaks the rules of CSV"):
        open_dataset(folder)


def test_ignored_columns(folder: Path) -> None:
    text = "image,part_hair,age,A,B\na.jpg,7,31,1,0\nb.jpg,8,40,0,1\nc.jpg,9,55,1,1\n"
    (folder / "labels.csv").write_text(text)
    data = open_dataset(folder, ignore=["age", "B"])
    assert data.attributes == ("A",)
    assert data.labels.tolist() == [[1], [0], [1]]
    with pytest.raises(DataError, match=r"names 'agee', which is no column.*Did you mean age"):
        open_dataset(folder, ignore=["agee"])


def test_partition_and_split_columns(folder: Path) -> None:
    (folder / "labels.csv").write_text("image,A,partition\na.jpg,1,0\nb.jpg,0,2\nc.jpg,0,valid\n")
    assert open_dataset(folder).splits == ("train", "test", "val")
    (folder / "labels.csv").write_text("image,A\na.jpg,1\nb.jpg,0\nc.jpg,0\n")
    data = open_dataset(folder)
    assert data.splits == ("train",) * 3
    assert any("Nothing says" in note for note in data.notes)


def test_identities_may_be_names(folder: Path) -> None:
    (folder / "labels.csv").write_text("image,A,identity\na.jpg,1,Zoe\nb.jpg,0,\nc.jpg,0,Ada\n")
    data = open_dataset(folder)
    assert data.identities is not None
    assert data.identities.tolist() == [1, -1, 0]
    (folder / "labels.csv").write_text("image,A,identity\na.jpg,1,17\nb.jpg,0,\nc.jpg,0,4\n")
    data = open_dataset(folder)
    assert data.identities is not None
    assert data.identities.tolist() == [17, -1, 4]


def test_images_in_folders(tmp_path: Path) -> None:
    write_images(tmp_path / "images" / "x", {"a.jpg": encoded(picture(1))})
    write_images(tmp_path / "y", {"a.jpg": encoded(picture(2))})
    (tmp_path / "labels.csv").write_text("image,A\nx/a.jpg,1\ny/a.jpg,0\n")
    data = open_dataset(tmp_path)
    for place, seed in ((0, 1), (1, 2)):
        pixels = np.asarray(open_image(encoded(picture(seed))))
        assert np.array_equal(np.asarray(data.read(place)), pixels)


def test_one_file_under_two_names(folder: Path) -> None:
    (folder / "labels.csv").write_text("image,A\na.jpg,1\nimages/a.jpg,0\nb.jpg,1\nc.jpg,1\n")
    with pytest.raises(DataError, match=r"a\.jpg and images/a\.jpg are the same file"):
        open_dataset(folder)


def test_missing_images(folder: Path) -> None:
    (folder / "labels.csv").write_text("image,A\na.jpg,1\nb.jpg,0\nc.jpg,0\nd.jpg,1\n")
    data = open_dataset(folder)
    assert data.absent == {"train": ("d.jpg",)}
    (folder / "labels.csv").write_text("image,A\nx.jpg,1\n")
    with pytest.raises(DataError, match=r"none of its 1 images is in .*the first is x\.jpg"):
        open_dataset(folder)


def test_image_without_label(folder: Path) -> None:
    (folder / "labels.csv").write_text("image,A\na.jpg,1\nb.jpg,0\n")
    with pytest.raises(DataError, match=r"1 images have no label: c\.jpg"):
        open_dataset(folder)
    (folder / "overview.png").write_bytes(encoded(picture(1), "PNG"))
    (folder / "labels.csv").write_text("image,A\na.jpg,1\nb.jpg,0\nc.jpg,\n")
    assert len(open_dataset(folder)) == 3


def test_links(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    outside = tmp_path_factory.mktemp("outside")
    (folder / "images").rename(outside / "images")
    (folder / "images").symlink_to(outside / "images")  # the folder itself may be a link
    (folder / "labels.csv").write_text("image,A\na.jpg,1\nb.jpg,0\nc.jpg,0\n")
    assert len(open_dataset(folder)) == 3
    (outside / "secret.jpg").write_bytes(encoded(picture(9)))
    (outside / "images" / "a.jpg").unlink()
    (outside / "images" / "a.jpg").symlink_to(outside / "secret.jpg")
    with pytest.raises(DataError, match=r"a\.jpg: is a link to .*secret\.jpg, which lies outside"):
        open_dataset(folder)


def test_folder_in_a_name_that_is_a_link_out(
    folder: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    outside = tmp_path_factory.mktemp("outside")
    (outside / "secret.jpg").write_bytes(encoded(picture(9)))
    (folder / "images" / "x").symlink_to(outside)
    (folder / "labels.csv").write_text("image,A\na.jpg,1\nb.jpg,0\nc.jpg,0\nx/secret.jpg,1\n")
    with pytest.raises(DataError, match="x: is a link that leaves"):
        open_dataset(folder)


def test_links_that_nobody_asked_for(
    folder: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    (folder / "README.jpg").symlink_to(tmp_path_factory.mktemp("outside"))
    (folder / "labels.csv").write_text("image,A\na.jpg,1\nb.jpg,0\nc.jpg,0\n")
    assert len(open_dataset(folder)) == 3


def test_two_tables(folder: Path) -> None:
    for name in ("one.csv", "two.csv"):
        (folder / name).write_text("image,A\na.jpg,1\n")
    with pytest.raises(DataError, match=r"expected one table, found 2: one\.csv, two\.csv"):
        open_dataset(folder)


def write_parquet(folder: Path, **columns: object) -> Path:
    path = folder / "labels.parquet"
    pyarrow.parquet.write_table(pyarrow.table(columns), path)
    return path


def test_parquet(tmp_path: Path) -> None:
    known = truth()
    write_images(tmp_path / "images", known.files)
    columns = {name: known.labels[:, place] for place, name in enumerate(known.attributes)}
    columns["Male"] = columns["Male"].astype(bool)
    columns["Wearing_Hat"] = columns["Wearing_Hat"].astype(float)
    columns["Eyeglasses"] = [str(2 * value - 1) for value in columns["Eyeglasses"]]
    write_parquet(
        tmp_path,
        image=known.names,
        split=known.splits,
        identity=known.identities,
        **columns,
    )
    check(open_dataset(tmp_path), known)


def test_parquet_unknowns_and_errors(folder: Path) -> None:
    names = ["a.jpg", "b.jpg", "c.jpg"]
    write_parquet(folder, image=names, A=[1.0, None, float("nan")], B=[True, None, False])
    data = open_dataset(folder)
    assert data.labels.isnan().tolist() == [[False, False], [True, True], [True, False]]
    write_parquet(folder, image=["a.jpg", "a.jpg", "../c"], A=[1, 5, 0], note=["x", "y", "z"])
    with pytest.raises(DataError) as error:
        open_dataset(folder)
    assert [line.strip()[:38] for line in str(error.value).split("\n")[1:-1]] == [
        "row 1: column note: expected 0, 1, -1,",
        "row 2: 'a.jpg' was already in row 1",
        "row 2: a.jpg, A: expected 0, 1, -1, tr",
        "row 3: '../c' leaves the folder: expec",
    ]


def test_parquet_in_disguise(folder: Path) -> None:
    (folder / "labels.parquet").write_text("<html>Sign in</html>")
    with pytest.raises(DataError, match=r"labels\.parquet: expected a Parquet file, found an HTML"):
        open_dataset(folder)
