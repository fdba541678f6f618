import json
import logging
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from layouts import Truth, encoded, picture, truth, write_celeba, write_table
from maskatlas import checking
from maskatlas.checking import check_dataset
from maskatlas.config import FacesConfig
from maskatlas.data_report import Balance, DataReport, Duplicate


def sound() -> Truth:
    """Every attribute both ways in every split, nobody in two of them."""
    known = truth()
    known.labels = np.array([[(place + column) % 2 for column in range(4)] for place in range(12)])
    known.identities = [place // 2 for place in range(12)]
    return known


def report(tmp_path: Path, known: Truth, **options: object) -> DataReport:
    return check_dataset(write_celeba(tmp_path / "celeba", known), **options)


def test_a_sound_dataset(tmp_path: Path) -> None:
    found = report(tmp_path, sound(), strict=True)
    assert not found.failed
    assert found.errors == found.warnings == ()
    assert found.images == 12
    assert found.identities == 6
    assert dict(found.splits) == {"train": 4, "val": 4, "test": 4}
    assert found.balance["val"]["Male"] == Balance(positive=2, negative=2, unknown=0)
    text = found.text()
    assert "celeba, 12 images, 4 attributes, 6 identities" in text
    assert text.endswith("Nothing must be mended.")
    assert text.count("50.0") == 12


def test_json(tmp_path: Path) -> None:
    known = sound()
    known.files["000001.jpg"] = b"<html>"
    mapping = json.loads(json.dumps(report(tmp_path, known).to_mapping(), allow_nan=False))
    assert mapping["failed"] is True
    assert mapping["images"] == 12
    assert mapping["balance"]["train"]["Male"] == {"positive": 2, "negative": 2, "unknown": 0}
    assert mapping["unreadable"][0]["name"] == "000001.jpg"


def test_unreadable_images(tmp_path: Path) -> None:
    known = sound()
    known.files["000001.jpg"] = b"<html>"
    known.files["000005.jpg"] = known.files["000005.jpg"][:200]
    found = report(tmp_path, known)
    assert found.failed
    assert [item.name for item in found.unreadable] == ["000001.jpg", "000005.jpg"]
    (error,) = found.errors
    assert error.startswith("2 images cannot be read:")
    assert "found an HTML page" in error
    assert "damaged" in error


def test_duplicates_and_people_in_two_splits(tmp_path: Path) -> None:
    known = sound()
    known.files["000006.jpg"] = known.files["000002.jpg"]  # train and val
    known.files["000010.jpg"] = known.files["000009.jpg"]  # both test
    known.identities[11] = 0  # train and test
    found = report(tmp_path, known)
    assert not found.failed
    assert found.duplicates == (
        Duplicate(("000002.jpg", "000006.jpg"), ("train", "val")),
        Duplicate(("000009.jpg", "000010.jpg"), ("test", "test")),
    )
    (shared,) = found.shared_identities
    assert shared.identity == 0
    assert dict(shared.images) == {"train": 2, "test": 1}
    assert [warning.split("\n")[0] for warning in found.warnings] == [
        "1 groups of images with the same content stand in several splits:",
        "1 identities stand in several splits:",
        "1 groups of images with the same content stand twice in a split:",
    ]
    assert "000002.jpg (train) = 000006.jpg (val)" in found.text()
    strict = report(tmp_path, known, strict=True)
    assert strict.failed
    assert strict.errors == found.warnings[:2]
    assert strict.warnings == found.warnings[2:]


def test_unknown_identities_are_nobody(tmp_path: Path) -> None:
    known = sound()
    write_table(tmp_path, known)
    path = tmp_path / "labels.csv"
    rows = [row.split(",") for row in path.read_text().split("\n")]
    path.write_text("\n".join(",".join([*row[:2], "", *row[3:]]) for row in rows[1:] if row[1:]))
    path.write_text(",".join(rows[0]) + "\n" + path.read_text())
    found = check_dataset(tmp_path)
    assert found.identities == 0
    assert found.shared_identities == ()


def test_missing_and_unlabelled_images(tmp_path: Path) -> None:
    known = sound()
    del known.files["000003.jpg"]
    known.files["more.jpg"] = encoded(picture(77))
    found = report(tmp_path, known)
    assert dict(found.missing) == {"train": 1}
    assert found.unlabelled == ("more.jpg",)
    assert found.errors == ("1 images have no label: more.jpg.",)
    assert found.images == 11
    assert any("1 in train, such as 000003.jpg" in note for note in found.notes)


def test_split_left_empty(tmp_path: Path) -> None:
    known = sound()
    known.files = dict(list(known.files.items())[:8])
    found = report(tmp_path, known)
    assert found.errors == ("Split test is empty: none of its 4 labelled images is there.",)
    assert found.images == 8


def test_attribute_without_positives(tmp_path: Path) -> None:
    known = sound()
    known.labels[:4, 1] = 0
    found = report(tmp_path, known)
    assert not found.failed
    (warning,) = found.warnings
    assert warning.split("\n")[1:] == ["  Male in train: 0 positive, 4 negative"]


def test_unknown_labels(tmp_path: Path) -> None:
    known = sound()
    write_table(tmp_path, known)
    path = tmp_path / "labels.csv"
    path.write_text(path.read_text().replace(",0,1,0,1\n", ",,1,0,1\n"))
    found = check_dataset(tmp_path)
    assert found.balance["train"]["Smiling"] == Balance(positive=2, negative=0, unknown=2)
    assert "100.0 (2 ?)" in found.text()


def test_errors_of_the_table(tmp_path: Path) -> None:
    write_celeba(tmp_path / "celeba", sound())
    path = tmp_path / "celeba" / "list_attr_celeba.txt"
    path.write_text(path.read_text().replace("000002.jpg", "000001.jpg"))
    found = check_dataset(tmp_path / "celeba")
    assert found.failed
    assert found.source == ""
    assert "line 4: '000001.jpg' was already in line 3" in found.text()
    json.dumps(found.to_mapping(), allow_nan=False)


def test_no_dataset(tmp_path: Path) -> None:
    found = check_dataset(tmp_path / "none")
    assert found.failed
    assert "cannot be opened" in found.text()


def test_damaged_masks(tmp_path: Path) -> None:
    write_table(tmp_path, sound())
    (tmp_path / "masks").mkdir()
    Image.new("L", (18, 22)).save(tmp_path / "masks" / "000001.png")
    Image.new("L", (9, 9)).save(tmp_path / "masks" / "000002.png")
    found = check_dataset(tmp_path)
    assert found.regions == 1
    assert [item.name for item in found.unreadable] == ["000002.jpg"]
    assert "9 x 9" in found.unreadable[0].reason


def test_exclusion_limit_and_ignored_attributes(tmp_path: Path) -> None:
    known = sound()
    known.files["more.jpg"] = encoded(picture(77))
    del known.files["000012.jpg"]
    (tmp_path / "exclude").write_text("more.jpg\n000001.jpg\n000012.jpg\n")
    found = report(tmp_path, known, exclude=tmp_path / "exclude", ignore=["Male"])
    assert not found.failed
    assert found.images == 10
    assert "Male" not in found.attributes
    limited = report(tmp_path, known, exclude=tmp_path / "exclude", limit=2)
    assert dict(limited.splits) == {"train": 2, "val": 2, "test": 2}


def test_rendered_faces() -> None:
    found = check_dataset("faces", faces=FacesConfig(count=40, size=32))
    assert not found.failed
    assert found.images == 40
    assert found.regions == 40
    assert found.duplicates == ()


def test_text_does_not_steer_the_terminal(tmp_path: Path) -> None:
    known = sound()
    write_table(tmp_path, known)
    path = tmp_path / "labels.csv"
    path.write_text(path.read_text().replace("Male", "\x1b[31mMale\u202e"), encoding="utf-8")
    text = check_dataset(tmp_path).text()
    assert "\\x1b[31mMale\\u202e" in text
    assert all(mark.isprintable() or mark == "\n" for mark in text)


def test_progress(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(checking, "_LOG_SECONDS", -1.0)
    caplog.set_level(logging.INFO)
    report(tmp_path, sound(), progress=True)
    assert "read 12 of 12 images" in caplog.text
    captured = capsys.readouterr()
    assert captured.out == captured.err == ""


@pytest.mark.real_data
def test_real_masks(real_data: Path) -> None:
    found = check_dataset(real_data / "celebamask")
    assert not found.failed
    assert found.images == found.regions == 161
