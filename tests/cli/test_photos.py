import logging
from pathlib import Path

import pytest
from PIL import Image

from maskatlas.cli.photos import check_photos, open_photos
from maskatlas.errors import ConfigError


def test_what_cannot_be_opened_is_noted_and_told(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    good, bad = tmp_path / "a.png", tmp_path / "b.png"
    Image.new("L", (3, 5)).save(good)
    bad.write_bytes(b"\x89PNG\r\n\x1a\n")
    failed: list[Path] = []
    with caplog.at_level(logging.ERROR):
        opened = list(open_photos([bad, good, bad], failed))
    assert [path for path, _ in opened] == [good]
    assert opened[0][1].mode == "RGB"
    assert failed == [bad, bad]
    assert caplog.text.count(str(bad)) == 2


def test_images_are_opened_one_at_a_time(tmp_path: Path) -> None:
    photos = open_photos([tmp_path / "gone.png"], failed := [])
    assert failed == []
    assert list(photos) == []
    assert failed == [tmp_path / "gone.png"]


def test_no_image_is_an_error_of_usage() -> None:
    with pytest.raises(ConfigError, match="at least one image"):
        check_photos([])
