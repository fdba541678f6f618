import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from command_line import KEPT, call
from maskatlas.cli import explain as cli_explain
from maskatlas.cli.explain import file_name, free_name, named_attributes
from maskatlas.config import PRESETS, dump_toml
from maskatlas.explanations import ImageExplanation, explain_image
from maskatlas.figures import encoded, explain_picture
from maskatlas.model import AttributeNetwork
from networks import make_network


def picture(shown: ImageExplanation, evidence: np.ndarray, method: str, *, signed: bool) -> bytes:
    figure = explain_picture(
        shown.image,
        shown.attributes,
        shown.scores,
        evidence=evidence,
        method=method,
        signed=signed,
        channels=shown.channels,
        masks=shown.masks,
    )
    return encoded(figure, "png")


def test_a_picture_and_the_numbers_of_each_image(
    run: Path, photos: list[Path], tmp_path: Path
) -> None:
    out = tmp_path / "out"
    answer = call("explain", run, *photos[:2], "--out", out)
    assert (answer.code, answer.err) == (0, "")
    assert answer.out == f"{out / 'a.png'}\n{out / 'b.png'}\n"
    assert sorted(path.name for path in out.iterdir()) == ["a.json", "a.png", "b.json", "b.png"]
    network = AttributeNetwork.from_pretrained(run / "model")
    expected = explain_image(network, Image.open(photos[0]), str(photos[0]))
    assert json.loads((out / "a.json").read_text()) == expected.to_json()
    drawn = picture(expected, expected.contributions, "contribution", signed=True)
    assert (out / "a.png").read_bytes() == drawn


@pytest.mark.parametrize(("method", "signed"), [("contribution-traced", True), ("mask", False)])
def test_the_evidence_is_mapped_by_the_method_asked_for(
    run: Path, photos: list[Path], tmp_path: Path, method: str, signed: bool
) -> None:
    words = ("explain", run, photos[0], "--out", tmp_path, "--method")
    assert call(*words, method).code == 0
    network = AttributeNetwork.from_pretrained(run / "model")
    expected = explain_image(network, Image.open(photos[0]), str(photos[0]), method=method)
    assert json.loads((tmp_path / "a.json").read_text()) == expected.to_json()
    drawn = picture(expected, expected.evidence, method, signed=signed)
    assert (tmp_path / "a.png").read_bytes() == drawn
    answer = call(*words, "contribution-trased")
    assert answer.code == 2
    assert "did you mean contribution-traced?" in answer.err


def test_nothing_of_a_picture_is_cut_at_its_border(own_run: Path, photos: list[Path]) -> None:
    assert call("explain", own_run, photos[0], "-q").code == 0
    with Image.open(own_run / "explanations" / "a.png") as image:
        pixels = np.array(image.convert("L"))
    assert pixels.min() < 128
    text = pixels[-60:]  # the scale under the pictures
    assert text.min() < 128
    assert (text[:, :2] == 255).all()
    assert (text[:, -2:] == 255).all()
    assert (pixels[-1] == 255).all()


def test_only_the_attributes_that_are_asked_for(
    run: Path, photos: list[Path], tmp_path: Path
) -> None:
    words = ("explain", run, "--attributes", "Smiling,Bangs", photos[0], "--out", tmp_path)
    answer = call(*words, "--json", "--top", "2", terminal=True)
    assert (answer.code, answer.err) == (0, "")
    (numbers,) = json.loads(answer.out)
    assert set(numbers["attributes"]) == {"Smiling", "Bangs"}
    assert all(len(entry["channels"]) == 2 for entry in numbers["attributes"].values())
    twice = ("--attributes", "Smiling", "--attributes", "Bangs", "--json", "--top", "2")
    assert call("explain", run, photos[0], *twice, "--out", tmp_path).out == answer.out


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (("--attributes", "Smilling"), "did you mean Smiling"),
        (("--top", "0"), "top: expected at least 1"),
        (("--limit", "0"), "--limit: expected at least 1 image"),
    ],
)
def test_wrong_flags_are_told(
    words: tuple[str, ...], told: str, run: Path, photos: list[Path], tmp_path: Path
) -> None:
    answer = call("explain", run, photos[0], *words, "--out", tmp_path / "out")
    assert (answer.code, answer.out) == (2, "")
    assert told in answer.err
    assert not (tmp_path / "out").exists()


def test_a_method_that_is_not_known_is_told_before_channels_are_named(
    run: Path, photos: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    def never(*_: object) -> None:
        raise AssertionError

    monkeypatch.setattr(cli_explain, "channel_words", never)
    answer = call("explain", run, photos[0], "--words", "--method", "contribution-trace")
    assert (answer.code, answer.out) == (2, "")
    assert "did you mean contribution-traced?" in answer.err


def test_an_unreadable_photo_is_told_and_the_others_are_done(
    run: Path, photos: list[Path], tmp_path: Path
) -> None:
    empty = photos[0].with_name("empty.png")
    empty.write_bytes(b"")
    out = tmp_path / "out"
    answer = call("explain", run, empty, photos[2], "--out", out)
    assert (answer.code, answer.out) == (1, f"{out / 'c.png'}\n")
    assert answer.err.startswith(f"{empty}: expected an image")
    assert answer.err.count("\n") == 1
    assert sorted(path.name for path in out.iterdir()) == ["c.json", "c.png"]


def test_images_of_one_name_do_not_write_over_each_other(
    run: Path, photos: list[Path], tmp_path: Path
) -> None:
    paths = [photos[0]]
    for folder in ("b", "c"):
        paths.append(tmp_path / folder / "a.png")
        paths[-1].parent.mkdir()
        paths[-1].write_bytes(photos[0].read_bytes())
    out = tmp_path / "out"
    assert call("explain", run, *paths, "--out", out, "-q", "--top", "1").code == 0
    written = {json.loads(path.read_text())["image"]: path.stem for path in out.glob("*.json")}
    assert written == dict(zip(map(str, paths), ("a", "a-2", "a-3"), strict=True))


def test_names_that_are_free() -> None:
    taken: set[str] = set()
    assert [free_name(stem, taken) for stem in ("x", "x", "x-2", "x")] == [
        "x", "x-2", "x-2-2", "x-3",
    ]  # fmt: skip


def test_names_of_files_are_printable_and_short() -> None:
    assert file_name("Ünï 笑顔-1.b") == "Ünï 笑顔-1.b"
    assert file_name("a\nb\x1b[2J\udce9\u202e") == "a_b_[2J__"
    assert file_name("笑" * 90) == "笑" * 40
    assert len(file_name("x" * 250)) == 120


def test_a_name_with_a_comma_is_a_name() -> None:
    known = ("Smiling", "Hair, brown", "Male")
    assert named_attributes(["Hair, brown", "Male,Smiling"], known) == (
        "Hair, brown", "Male", "Smiling",
    )  # fmt: skip


def test_hostile_names_of_files_and_attributes(tmp_path: Path) -> None:
    names = ("../../evil", "$x_1^2$ \\frac", "</script>", "\u202eleft", "笑顔", "a" * 300)
    run = tmp_path / "run"
    make_network(names, dtype=torch.float32).save_pretrained(run / "model")
    (run / "config.toml").write_text(dump_toml(PRESETS["demo"]))
    folder = tmp_path / "in"
    folder.mkdir()
    stems = ("..", "$(reboot)", "line\nbreak", "-rf", "n" * 250)
    for stem in stems:
        Image.new("RGB", (9, 9), "red").save(folder / f"{stem}.png", "PNG")
    before = {path for path in tmp_path.rglob("*") if run not in path.parents}
    answer = call("explain", run, *(folder / f"{stem}.png" for stem in stems), "--top", "1")
    assert (answer.code, answer.err) == (0, "")
    assert {path for path in tmp_path.rglob("*") if run not in path.parents} == before
    written = sorted(path.name for path in (run / "explanations").glob("*"))
    assert len(written) == 10
    assert "line_break.json" in written
    assert max(map(len, written)) <= 125
    for path in (run / "explanations").glob("*.json"):
        assert set(json.loads(path.read_text())["attributes"]) == set(names)


def test_without_sub_networks_there_are_maps_alone(tmp_path: Path, photos: list[Path]) -> None:
    run = tmp_path / "run"
    make_network(KEPT, subnetworks=False, dtype=torch.float32).save_pretrained(run / "model")
    (run / "config.toml").write_text(dump_toml(PRESETS["demo"]))
    answer = call("explain", run, photos[0], "--method", "grad-cam")
    assert answer.code == 0
    told = json.loads((run / "explanations" / f"{photos[0].stem}.json").read_text())
    assert [entry["channels"] for entry in told["attributes"].values()] == [[]] * len(KEPT)
    answer = call("explain", run, photos[0], "--words")
    assert (answer.code, answer.out) == (2, "")
    assert "sub-networks alone" in answer.err


def test_channels_in_words(own_run: Path, photos: list[Path], tmp_path: Path) -> None:
    out = tmp_path / "out"
    words = ("explain", own_run, *photos[:2], "--words", "--top", "2", "--out", out)
    answer = call(*words)
    assert (answer.code, answer.err) == (0, "")
    network = AttributeNetwork.from_pretrained(own_run / "model")
    lines = answer.out.splitlines()
    assert len(lines) == 2 * (1 + len(network.attributes))
    assert lines[0] == str(out / "a.png")
    assert all(
        line.startswith("  ") and "(channel " in line for line in lines[1:-1] if "/" not in line
    )
    numbers = json.loads((out / "a.json").read_text())
    kept = json.loads((own_run / "words.json").read_text())
    concepts = set(kept["words"]["concepts"])
    assert concepts
    for entry in numbers["attributes"].values():
        spoken = entry["words"]["channels"]
        assert [c["channel"] for c in spoken] == [c["channel"] for c in entry["channels"]]
        assert {c["word"] for c in spoken} <= concepts | {None}
    written = (own_run / "words.json").stat().st_mtime_ns
    assert call(*words).out == answer.out
    assert (own_run / "words.json").stat().st_mtime_ns == written


@pytest.mark.parametrize("content", ["", "{}", '{"of": {}, "words": {}}', "[]"])
def test_words_that_are_damaged_are_measured_again(
    own_run: Path, photos: list[Path], content: str
) -> None:
    (own_run / "words.json").write_text(content)
    assert call("explain", own_run, photos[0], "--words", "-q", "--json").code == 0
    assert json.loads((own_run / "words.json").read_text())["words"]["concepts"]


def test_words_from_other_data_need_regions(run: Path, photos: list[Path], tmp_path: Path) -> None:
    answer = call("explain", run, photos[0], "--words-data", tmp_path, "--out", tmp_path / "out")
    assert (answer.code, answer.out) == (2, "")
    assert "expected --words with it" in answer.err
    folder = tmp_path / "own"
    (folder / "images").mkdir(parents=True)
    (folder / "images" / "a.png").write_bytes(photos[0].read_bytes())
    (folder / "labels.csv").write_text("image,Smiling\na.png,1\n")
    answer = call("explain", run, photos[0], "--words", "--words-data", folder, "--out", tmp_path)
    assert (answer.code, answer.out) == (1, "")
    assert "no image has one" in answer.err
