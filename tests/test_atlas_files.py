import csv
import hashlib
import io
import json
import struct
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from atlases import made_up_atlas
from maskatlas.analysis import Atlas
from maskatlas.atlas_files import table_text
from maskatlas.errors import RunError


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    made_up_atlas().save(tmp_path / "atlas")
    return tmp_path / "atlas"


def rewritten(folder: Path, **changes: object) -> None:
    path = folder / "atlas.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


@pytest.mark.parametrize("text", ["=1+1", "+1", "-1", "@SUM(A1)", " =1", "\t=1", "\r=1", "\n@x"])
def test_text_that_a_spreadsheet_would_run_is_neutralised(text):
    cell = next(csv.reader(io.StringIO(table_text([[text]]), newline="")))[0]
    assert cell == "'" + text


@given(st.floats(allow_nan=False, allow_infinity=False))
def test_numbers_come_back_as_they_were(value):
    assert float(next(csv.reader(io.StringIO(table_text([["a", value]]))))[1]) == value
    assert "'" not in table_text([["a", value]])


@given(st.text(alphabet=st.characters(exclude_categories=["Cs"], exclude_characters="\0")))
def test_no_text_begins_like_a_formula_and_none_is_lost(text):
    cell = next(csv.reader(io.StringIO(table_text([["a", text]]), newline="")))[1]
    assert not cell.lstrip().startswith(("=", "+", "-", "@"))
    assert cell.removeprefix("'") == text or cell == text


def test_undefined_numbers_are_empty_cells():
    assert table_text([["a", float("nan"), -0.5]]) == "a,,-0.5\r\n"


def test_an_atlas_whose_names_are_formulas_saves_them_as_text(tmp_path):
    atlas = made_up_atlas(["=cmd|' /C calc'!A0", "+1", "-Beard", "@x", 'quo"te,d', "ok"])
    atlas.save(tmp_path)
    assert Atlas.load(tmp_path).attributes == atlas.attributes
    for path in tmp_path.glob("*.csv"):
        with path.open(newline="", encoding="utf-8") as file:
            cells = [cell for row in csv.reader(file) for cell in row]
        formulas = [cell for cell in cells if cell.startswith(("=", "+", "-", "@"))]
        assert all(isinstance(float(cell), float) for cell in formulas), path.name


def test_nothing_is_left_beside_what_is_named(folder):
    assert {path.name for path in folder.iterdir()} == {
        "agreement.csv",
        "atlas.json",
        "atlas.safetensors",
        "attribute_correlation.csv",
        "attribute_correlation_centred.csv",
        "attribute_pairs.csv",
        "channel_correlation.csv",
        "channel_pairs.csv",
        "groups.csv",
        "importance.csv",
        "mask_mean.csv",
        "top_channels.csv",
    }


def test_a_folder_without_an_atlas_names_the_file_and_the_verb(tmp_path):
    with pytest.raises(RunError, match=r"atlas\.json: cannot be read .* `maskatlas analyze`"):
        Atlas.load(tmp_path)


@pytest.mark.parametrize("name", ["atlas.json", "atlas.safetensors"])
def test_a_truncated_file_is_refused(folder, name):
    path = folder / name
    path.write_bytes(path.read_bytes()[:-20])
    with pytest.raises(RunError, match=name):
        Atlas.load(folder)


def test_arrays_of_another_atlas_are_refused(folder, tmp_path):
    made_up_atlas(seed=1).save(tmp_path / "other")
    (folder / "atlas.safetensors").write_bytes((tmp_path / "other/atlas.safetensors").read_bytes())
    with pytest.raises(RunError, match="not the bytes"):
        Atlas.load(folder)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"format": "other"}, "expected the format"),
        ({"channels": 9}, "channel_correlation: expected"),
        ({"channels": "8"}, "channels: expected int"),
        ({"images": True}, "images: expected int"),
        ({"attributes": ["a"]}, "expected"),
        ({"attributes": ["a"] * 6}, "twice"),
        ({"attributes": [1, 2, 3, 4, 5, 6]}, "expected names"),
        ({"examples": ["one"]}, "examples"),
        ({"examples": None}, "unknown array 'examples"),
    ],
)
def test_a_description_that_does_not_fit_is_refused(folder, changes, message):
    rewritten(folder, **changes)
    with pytest.raises(RunError, match=message):
        Atlas.load(folder)


def test_json_that_is_no_object_is_refused(folder):
    (folder / "atlas.json").write_text("[1, 2]")
    with pytest.raises(RunError, match="expected the format"):
        Atlas.load(folder)


def test_a_header_larger_than_the_file_is_refused_before_anything_is_allocated(folder):
    data = struct.pack("<Q", 2**60) + b"{}"
    (folder / "atlas.safetensors").write_bytes(data)
    rewritten(folder, sha256=hashlib.sha256(data).hexdigest())
    with pytest.raises(RunError, match="no whole safetensors file"):
        Atlas.load(folder)


def test_a_failed_save_leaves_the_older_atlas_whole(folder, monkeypatch):
    before = Atlas.load(folder)

    def full(path, content):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("maskatlas.atlas_files.write_atomically", full)
    with pytest.raises(OSError, match="No space"):
        made_up_atlas(seed=5).save(folder)
    np.testing.assert_array_equal(Atlas.load(folder).mask_mean, before.mask_mean)


def test_an_atlas_from_before_there_was_confidence_still_opens(folder):
    meta = json.loads((folder / "atlas.json").read_text())
    del meta["draws"]
    (folder / "atlas.json").write_text(json.dumps(meta))
    assert Atlas.load(folder).confidence is None


@pytest.mark.parametrize(
    ("draws", "told"),
    [
        ({"replicates": 5, "units": 3}, "draws: expected replicates, units, people"),
        ({"replicates": 5.0, "units": 3, "people": True}, "draws: expected"),
        ([1], "draws: expected"),
        ({"replicates": 5, "units": 3, "people": True}, "lacks confidence.apart_images"),
    ],
)
def test_draws_that_do_not_fit_are_refused(folder, draws, told):
    rewritten(folder, draws=draws)
    with pytest.raises(RunError, match=told):
        Atlas.load(folder)


def test_tables_have_the_intervals(tmp_path):
    atlas = made_up_atlas(4, 5, replicates=10)
    atlas.save(tmp_path)
    rows = {}
    for name in ("attribute_pairs", "channel_pairs", "top_channels", "groups"):
        with (tmp_path / f"{name}.csv").open(newline="") as file:
            rows[name] = list(csv.DictReader(file))
    assert len(rows["attribute_pairs"]) == 2 * 6
    assert len(rows["channel_pairs"]) == 2 * 10
    pair = atlas.attribute_pairs(centred=True)[0]
    row = next(row for row in rows["attribute_pairs"] if row["correlation"] == "centred")
    assert (row["first"], row["second"], row["why"]) == (pair.first, pair.second, pair.why)
    assert float(row["masks_low"]) == pair.masks.low
    assert float(row["following_q"]) == pair.following.q
    assert float(row["masks_apart"]) == pair.apart
    assert float(row["labels_r"]) == pair.labels.value
    assert float(rows["channel_pairs"][0]["q"]) == atlas.channel_pairs()[0].masks.q
    best = atlas.ranked_channels("Attribute_0", 1)[0]
    assert float(rows["top_channels"][0]["worst"]) == best.worst
    assert float(rows["groups"][0]["overlap"]) == atlas.group_recurrence()[0].overlap
