import json
from dataclasses import replace
from pathlib import Path

import pytest

from maskatlas.config import DataConfig
from maskatlas.errors import ConfigError
from maskatlas.shortcut_trial import FILE, shortcut_trial
from small_runs import small_config

CONFIG = small_config(images=60, epochs=1)
PAIR = ("Smiling", "Wearing_Hat")


def test_a_network_is_trained_and_judged_for_each_probability(tmp_path: Path) -> None:
    words = {"pair": PAIR, "probabilities": (0.9, 0.0), "methods": ["mask", "centre"]}
    curve = shortcut_trial(CONFIG, tmp_path, seeds=(3,), **words)
    assert [point.probability for point in curve.points] == [0, 0.9]
    assert [moved.method for moved in curve.points[0].methods] == ["mask", "centre"]
    assert all(point.pair is not None for point in curve.points)
    # the map that knows nothing of the network is where it was
    assert curve.moved("centre") == 0
    shares = {point.methods[1].share.mean for point in curve.points}
    assert len(shares) == 1
    runs = sorted(path.name for path in tmp_path.iterdir() if path.is_dir())
    assert runs == ["planted-0-seed-3", "planted-0.9-seed-3"]
    text = (tmp_path / "planted-0.9-seed-3" / "config.toml").read_text()
    assert 'plant = ["Smiling", "Wearing_Hat", 0.9]' in text
    found = json.loads((tmp_path / FILE).read_text())
    assert (found["attribute"], found["source"]) == PAIR
    assert found == json.loads(json.dumps(curve.to_json()))
    again = shortcut_trial(CONFIG, tmp_path, seeds=(3,), **words)
    assert again.to_json() == curve.to_json()


def test_what_cannot_be_tried_is_told_before_anything_is_trained(tmp_path: Path) -> None:
    for settings, words, message in (
        (replace(CONFIG, data=DataConfig(path="celeba")), {}, "expected faces"),
        (CONFIG, {"probabilities": (0.5, 0.5)}, "two or more"),
        (CONFIG, {"probabilities": (0.5, 1.5)}, "from 0 to 1"),
        (CONFIG, {"seeds": ()}, "at least one"),
        (CONFIG, {"pair": ("Smiling", "Hat")}, "Wearing_Hat"),
        (CONFIG, {"pair": ("Smiling", "Smiling")}, "cannot copy itself"),
        (CONFIG, {"methods": ("mask", "nope")}, "found 'nope'"),
        (replace(CONFIG, data=replace(CONFIG.data, ignore=("Smiling",))), {}, "neither"),
        (replace(CONFIG, model=replace(CONFIG.model, subnetworks=False)), {}, "needs masks"),
    ):
        with pytest.raises(ConfigError, match=message):
            shortcut_trial(settings, tmp_path / "out", **{"pair": PAIR, **words})
        assert not (tmp_path / "out").exists()
