"""The page of a trial with a planted shortcut."""

import json
import re
from pathlib import Path

import numpy as np
import pytest

from maskatlas.report.shortcuts import write_shortcuts
from trials import METHODS, made_up_trial


@pytest.fixture
def page(tmp_path: Path) -> str:
    curve = made_up_trial("Smiling", "<script>alert(1)</script>")
    result = json.loads(json.dumps(curve.to_json(), allow_nan=False))
    return write_shortcuts(tmp_path, result, curve.sights).read_text()


def test_every_network_and_every_method_is_told(page: str) -> None:
    assert "<script>alert" not in page
    rows = re.findall(r'<tr><th scope="row">(\S+?)</th>', page)
    assert rows == ["0", "0.95", "0.95", "Area", "0", "0.95", "0.95"]
    for method in METHODS:
        assert page.count(f"<bdi>{method}</bdi></th>") == 2
    for text in ("none suspected", "1 of 2", "0.200<br>", "0.10 to 0.30", "61.0", "+0.250"):
        assert text in page, text


def test_maps_are_of_the_first_network_of_each_probability(page: str) -> None:
    assert page.count('alt="face-0, both outlined"') == 1
    assert page.count("contribution map of Smiling on face-1: highest") == 2
    assert "right where they differ 61" in page


def test_curves_are_averages_over_networks_of_a_probability() -> None:
    curve = made_up_trial()
    assert curve.to_json()["shares"]["contribution"] == [0.2, 0.7]
    np.testing.assert_allclose(curve.to_json()["counter_accuracy"], [0.98, 0.61])
    assert {p: len(sights) for p, sights in curve.sights.items()} == {0: 2, 0.95: 2}


def test_without_maps_there_is_nothing_to_show(tmp_path: Path) -> None:
    curve = made_up_trial()
    page = write_shortcuts(tmp_path, curve.to_json(), {}).read_text()
    assert "What it looks like" not in page
    assert (tmp_path / "shortcuts.png").stat().st_size > 1000
