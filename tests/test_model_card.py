from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from maskatlas.config import Config
from maskatlas.metrics import Metrics, attribute_metrics
from maskatlas.model_card import model_card
from networks import make_network
from small_runs import small_config


@pytest.fixture
def metrics() -> Metrics:
    """Of three attributes, the last of which nobody has."""
    labels = np.array([[1, 0, 0], [0, 1, 0], [1, 1, 0], [0, 0, 0]], float)
    scores = np.array([[2, -1, -1], [-1, -2, -3], [3, 1, -1], [1, -1, 2]], float)
    return attribute_metrics(scores, labels)


def card(metrics: Metrics, config: Config | None = None, *names: str, split: str = "val") -> str:
    return model_card(
        config or small_config(), names or ("A", "B", "C"), metrics, epoch=2.0, split=split
    )


def rows(text: str) -> dict[str, list[str]]:
    """The cells of each row of the table, by the name in the first."""
    table = [line.strip("|").split("|") for line in text.splitlines() if line.startswith("| ")]
    return {cells[0].strip(): [cell.strip() for cell in cells[1:]] for cells in table[1:]}


def test_the_numbers_are_the_measured_ones(metrics: Metrics) -> None:
    found = rows(card(metrics))
    assert list(found) == ["**mean**", "A", "B", "C"]
    assert found["A"][:2] == ["0.7500", "0.7500"]
    assert found["B"] == ["0.7500", "0.7500", "0.6667", *found["B"][3:]]
    mean = metrics.mean()
    columns = ("accuracy", "balanced_accuracy", "f1", "average_precision", "auroc")
    assert found["**mean**"] == [f"{mean[column]:.4f}" for column in columns]


def test_what_is_undefined_is_a_dash(metrics: Metrics) -> None:
    assert "-" in rows(card(metrics))["C"]
    assert "nan" not in card(metrics)


def test_it_says_what_the_network_is_and_what_it_learned_from(metrics: Metrics) -> None:
    config = small_config()
    text = card(metrics, replace(config, seed=17))
    assert "# 3 attributes from images of 16 x 16 pixels" in text
    assert "`compact` with 8 channels, sub-networks, multi-label classifier, reconstructor" in text
    assert "Trained on `faces` (train), seed 17; the weights are those after epoch 2 of\n3." in text
    assert "## Measured on `val`\n" in text
    plain = replace(config.model, subnetworks=False, reconstructor=False)
    assert "8 channels, multi-label classifier.\n" in card(metrics, replace(config, model=plain))


@pytest.mark.parametrize("splits", [("train", "val"), ("train", "validation")])
def test_it_says_that_the_images_were_trained_on(metrics: Metrics, splits: tuple[str, ...]) -> None:
    text = card(metrics, small_config(splits=splits))
    assert "## Measured on `val`, images it was trained on" in text
    apart = card(metrics, small_config(splits=splits), split="held out")
    assert "## Measured on `held out`\n" in apart


def test_no_path_of_the_machine_is_told(metrics: Metrics) -> None:
    config = small_config()
    config = replace(config, data=replace(config.data, path="/home/somebody/private/set_1/"))
    text = card(metrics, config)
    assert "somebody" not in text
    assert r"`set_1`" in text


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        ("5_o_Clock", r"5\_o\_Clock"),
        ("<script>", r"\<script\>"),
        ("a|b", r"a\|b"),
        ("a\nb", "a b"),
        ("[x](y)", r"\[x\]\(y\)"),
        ("`code`", r"\`code\`"),
    ],
)
def test_names_are_text(metrics: Metrics, name: str, shown: str) -> None:
    lines = card(metrics, None, name, "B", "C").splitlines()
    (row,) = [line for line in lines if line.startswith(f"| {shown} |")]
    assert len(row.replace(r"\|", "").split("|")) == 8


def test_its_example_runs(
    metrics: Metrics, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_network(3).float().save_pretrained(tmp_path / "this folder", card=card(metrics))
    Image.new("RGB", (30, 40), "grey").save(tmp_path / "photo.jpg")
    text = (tmp_path / "this folder" / "README.md").read_text()
    code = text.split("```python\n")[1].split("```")[0]
    names: dict[str, object] = {}
    monkeypatch.chdir(tmp_path)
    exec(code, names)
    assert names["logits"].shape == (1, 3)  # type: ignore[attr-defined]
