import json
from pathlib import Path

from command_line import call
from layouts import truth, write_table


def test_faces_are_in_order() -> None:
    answer = call("data", "check", "faces", "--limit", "30", "--json", terminal=True)
    assert answer.code == 0
    assert json.loads(answer.out)
    answer = call("data", "check", "faces", "--limit", "5", "-q", terminal=True)
    assert (answer.code, answer.err) == (0, "")
    assert answer.out.startswith("faces: ")


def test_what_must_be_mended_exits_with_1(tmp_path: Path) -> None:
    folder = write_table(tmp_path / "mine", truth(12))
    assert call("data", "check", folder).code == 0
    (folder / "images" / "000003.jpg").write_bytes(b"")
    answer = call("data", "check", folder)
    assert answer.code == 1
    assert "000003.jpg" in answer.out
    assert json.loads(call("data", "check", folder, "--json").out)


def test_columns_can_be_ignored_and_images_left_out(tmp_path: Path) -> None:
    known = truth(12)
    folder = write_table(tmp_path / "mine", known)
    listed = tmp_path / "exclude.txt"
    listed.write_text("000003.jpg\n")
    for ignore, exclude in (("--ignore", "--exclude"), ("--data.ignore", "--data.exclude")):
        answer = call("data", "check", folder, ignore, "Male,Smiling", exclude, listed)
        assert answer.code == 0
        assert "11 images, 2 attributes" in answer.out


def test_a_folder_that_is_not_there_is_told(tmp_path: Path) -> None:
    answer = call("data", "check", tmp_path / "nowhere")
    assert (answer.code, answer.err) == (1, "")
    assert "nowhere: expected a folder of labelled images" in answer.out
