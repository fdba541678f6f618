import csv
import io
import json
from pathlib import Path

import pytest
import torch
from PIL import Image

from command_line import KEPT, call, ended, start
from maskatlas.config import PRESETS, dump_toml
from maskatlas.model import AttributeNetwork
from networks import make_network


def expected(run: Path, photo: Path) -> list[float]:
    network = AttributeNetwork.from_pretrained(run / "model")
    with torch.no_grad():
        return network(network.preprocess(Image.open(photo))[None]).logits[0].sigmoid().tolist()


def test_scores_as_a_table(run: Path, photos: list[Path]) -> None:
    answer = call("predict", run, *photos)
    assert (answer.code, answer.err) == (0, "")
    header, *rows = csv.reader(io.StringIO(answer.out))
    assert header == ["image", *KEPT]
    assert [row[0] for row in rows] == [str(path) for path in photos]
    for row, path in zip(rows, photos, strict=True):
        assert [float(cell) for cell in row[1:]] == pytest.approx(expected(run, path), abs=1e-6)


def test_scores_as_json(run: Path, photos: list[Path]) -> None:
    answer = call("predict", run, *photos, "--json", terminal=True)
    assert (answer.code, answer.err) == (0, "")
    result = json.loads(answer.out)
    assert list(result) == [str(path) for path in photos]
    for path in photos:
        assert list(result[str(path)]) == list(KEPT)
        assert [*result[str(path)].values()] == pytest.approx(expected(run, path))


@pytest.mark.parametrize("flag", [(), ("--json",)])
def test_an_unreadable_photo_is_told_and_the_others_are_done(
    flag: tuple[str, ...], run: Path, photos: list[Path]
) -> None:
    page, gone = photos[0].with_name("page.jpg"), photos[0].with_name("gone.jpg")
    page.write_text("<!doctype html><html></html>")
    answer = call("predict", run, photos[0], page, gone, photos[0].parent, photos[2], *flag)
    assert answer.code == 1
    assert f"{page}: expected an image" in answer.err
    assert f"{gone}: cannot be read: No such file or directory" in answer.err
    assert f"{photos[0].parent}: cannot be read: Is a directory" in answer.err
    assert answer.err.count("\n") == 3
    for path in (photos[0], photos[2]):
        assert str(path) in answer.out
    assert str(page) not in answer.out
    assert flag == () or len(json.loads(answer.out)) == 2
    assert call("predict", run, page, "-q").err.startswith(f"{page}: ")


def test_a_limit(run: Path, photos: list[Path]) -> None:
    assert len(json.loads(call("predict", run, *photos, "--limit", "2", "--json").out)) == 2


def test_names_stay_text(tmp_path: Path) -> None:
    names = ("=1+1", "a,b", '"', "<script>", "../x", "line\nbreak")
    run = tmp_path / "run"
    make_network(names, dtype=torch.float32).save_pretrained(run / "model")
    (run / "config.toml").write_text(dump_toml(PRESETS["demo"]))
    photo = tmp_path / "=photo, 1.png"
    Image.new("RGB", (9, 9), "red").save(photo)
    answer = call("predict", run, photo)
    header, row = csv.reader(io.StringIO(answer.out))
    assert header == ["image", "'=1+1", *names[1:]]
    assert row[0] == str(photo)
    assert list(json.loads(call("predict", run, photo, "--json").out)[str(photo)]) == [*names]


def test_a_network_of_double_precision_or_without_sub_networks_predicts(
    tmp_path: Path, photos: list[Path]
) -> None:
    for number, network in enumerate((make_network(), make_network(subnetworks=False))):
        run = tmp_path / str(number)
        network.save_pretrained(run / "model")
        (run / "config.toml").write_text(dump_toml(PRESETS["demo"]))
        assert call("predict", run, *photos).code == 0


def test_a_file_whose_name_is_no_unicode(run: Path, tmp_path: Path) -> None:
    photo = Path(str(tmp_path / "caf\udce9.png"))
    try:
        Image.new("RGB", (9, 9), "red").save(photo)
    except OSError:
        pytest.skip("this file system takes only Unicode")
    answer = ended(start("-m", "maskatlas", "predict", run, photo, errors="surrogateescape"))
    assert (answer.code, answer.err) == (0, "")
    assert "caf\udce9.png," in answer.out
