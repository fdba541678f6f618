"""The frame: systems by name, how sure figures are, how long is trained, what is written."""

import csv
import io
import json
import signal
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from maskatlas.cache import PackedImages
from maskatlas.comparison import budget, compare, find_systems, open_network, system_of, systems
from maskatlas.comparison.budget import within_minutes
from maskatlas.comparison.comparing import judged_on
from maskatlas.comparison.images import ImagesWithRegions
from maskatlas.comparison.intervals import drawn_metrics
from maskatlas.comparison.measuring import measured
from maskatlas.comparison.networks import ClassifierNetwork
from maskatlas.comparison.table import csv_text, mean_draws, table
from maskatlas.errors import CheckpointError, ConfigError, DataError
from maskatlas.interruption import Interrupted
from maskatlas.metrics import METRICS, attribute_metrics
from maskatlas.model import build_network
from maskatlas.optimization import Optimization
from maskatlas.report.comparison import write_comparison
from maskatlas.training_data import open_data
from networks import Regions, make_dataset
from reference import comparison as reference
from small_runs import at_step, small_config
from trials import made_up_entries

LISTED = tuple(
    """
    majority plain subnets no-masks shared-mask no-one-plus no-reconstructor no-multilabel no-l1
    abn abn-residual gain gain-regions wig dilation facetracer lnets-anet mt-rbm-pca
    """.split()  # noqa: SIM905, as the command line names them
)


def test_the_list_is_complete_and_each_says_what_it_is() -> None:
    known = systems()
    assert tuple(known) == LISTED
    assert all(system.name == name and system.title for name, system in known.items())
    assert len({system.title for system in known.values()}) == len(LISTED)


def test_systems_are_found_by_name_once_each() -> None:
    found = find_systems(["wig:silu", "plain", "dilation:3", "plain"])
    assert [system.name for system in found] == ["wig:silu", "plain", "dilation:3"]
    for wrong, hint in (("plane", "did you mean plain"), ("wig:tanh", ""), ("plain:x", "")):
        with pytest.raises(ConfigError, match=f"system '{wrong}'.*{hint}"):
            find_systems([wrong])


def test_draws_against_images_in_a_row_as_often_as_drawn() -> None:
    random = np.random.default_rng(0)
    scores = np.round(random.normal(0, 1, (15, 4)), 1)  # some are equal
    labels = random.choice([0.0, 1.0, np.nan], (15, 4), p=[0.5, 0.3, 0.2])
    labels[:, 3] = 0
    labels[:, 2] = np.nan
    scores[:, 1] = -1
    weights = random.poisson(1, (15, 9)).astype(np.uint8)
    weights[:, 8] = 0
    found, expected = (
        drawn_metrics(scores, labels, weights),
        reference.drawn_metrics(scores, labels, weights),
    )
    for name in METRICS:
        np.testing.assert_allclose(found[name], expected[name], rtol=1e-12, err_msg=name)
    assert np.isfinite(found["auroc"][:8, 0]).any()


def test_means_run_over_what_a_draw_defines() -> None:
    draws = np.array([[1.0, np.nan, 3.0], [np.nan, np.nan, np.nan]])
    np.testing.assert_array_equal(mean_draws(draws), [2.0, np.nan])


def test_the_table_holds_metrics_intervals_and_differences_on_the_same_draws() -> None:
    data = replace(make_dataset(40, 3), identities=torch.arange(40) // 2)
    made = made_up_entries(data, "plain", "subnets", "abn")
    result = table([*made, replace(made[1], name="again")], data, skipped={"gain": "why"}, seed=3)
    json.dumps(result, allow_nan=False)
    assert result["reference"] == "subnets"
    assert result["interval"] == {"level": 0.95, "replicates": 200, "units": 20, "people": True}
    for entry, row in zip(made, result["systems"], strict=False):
        metrics = attribute_metrics(entry.scores.double().numpy(), data.labels.numpy())
        for name, value in metrics.mean().items():
            figure = row["mean"][name]
            assert figure["value"] == pytest.approx(value)
            assert figure["low"] < figure["high"]
            ours = result["systems"][1]["mean"][name]["value"]
            assert row["difference"][name]["value"] == pytest.approx(value - ours)
        for k, attribute in enumerate(data.attributes):
            found = row["attributes"][attribute]["auroc"]["value"]
            assert found == pytest.approx(metrics.auroc[k])
    assert result["systems"][3]["difference"]["auroc"] == {"value": 0.0, "low": 0.0, "high": 0.0}


def test_published_numbers_stand_apart_and_only_where_they_say_something() -> None:
    data = make_dataset(20, ["Smiling", "Male", "Wearing_Hat"])
    result = table(made_up_entries(data, "plain"), data, skipped={}, seed=0)
    column = result["published"]["columns"]["facetracer"]
    assert column["attributes"]["Smiling"] == 89
    assert column["mean"] == pytest.approx(np.mean(list(column["attributes"].values())))
    assert not [name for name in result["published"]["columns"] if name.startswith("positive")]
    rows = list(csv.DictReader(io.StringIO(csv_text(result))))
    assert {row["origin"] for row in rows} == {"measured", "published"}
    measured_ = [row for row in rows if row["origin"] == "measured"]
    assert [row["attribute"] for row in measured_] == ["mean", *data.attributes]
    assert float(measured_[0]["accuracy"]) == result["systems"][0]["mean"]["accuracy"]["value"]
    one = next(r for r in rows if (r["system"], r["attribute"]) == ("facetracer", "Smiling"))
    assert float(one["accuracy"]) == 0.89
    assert not one["auroc"]
    for other in (replace(data, source="faces"), make_dataset(20, ["Fish", "Bird"])):
        assert (
            table(made_up_entries(other, "plain"), other, skipped={}, seed=0)["published"] is None
        )


def test_the_page_tells_all_and_takes_names_for_text(tmp_path: Path) -> None:
    data = make_dataset(20, ["Smiling", "<script>alert(1)</script>"])
    result = table(
        made_up_entries(data, "plain", "subnets"), data, skipped={"gain": "a & b"}, seed=0
    )
    (tmp_path / "comparison.json").write_text(json.dumps(result))
    page = write_comparison(tmp_path).read_text()
    assert "<script>alert" not in page
    assert "<i>note</i>" not in page
    for text in (
        "How far from <bdi>subnets</bdi>",
        "gain</bdi> is left out: a &amp; b.",
        "What was published",
        "1,234",
    ):
        assert text in page
    figure = result["systems"][0]["mean"]["accuracy"]
    assert f"{100 * figure['value']:.2f}" in page
    assert f"{100 * figure['low']:.2f} to {100 * figure['high']:.2f}" in page
    (tmp_path / "comparison.json").write_text("{}")
    with pytest.raises(ValueError, match="damaged"):
        write_comparison(tmp_path)
    with pytest.raises(ValueError, match="make it with `maskatlas compare`"):
        write_comparison(tmp_path / "none")


def test_what_is_done_stays_and_what_was_stopped_goes_on(tmp_path: Path) -> None:
    config = small_config(images=60, batch=12, epochs=2)
    names = ["majority", "plain", "abn"]
    whole = compare(config, tmp_path / "whole", names=names)
    with pytest.MonkeyPatch.context() as patch:
        at_step(patch, 5, lambda: signal.raise_signal(signal.SIGTERM))
        with pytest.raises(Interrupted):
            compare(config, tmp_path / "parts", names=["majority", "plain"])
    path = tmp_path / "parts" / "plain" / "result.json"
    assert system_of(path.parent) == "plain"  # before it is done
    assert "costs" not in json.loads(path.read_text(encoding="utf-8"))
    with pytest.raises(ConfigError, match="seed: it has 0, asked for is 4"):
        compare(replace(config, seed=4), tmp_path / "parts", names=["plain"])
    parts = compare(config, tmp_path / "parts", names=names)
    for one, other in zip(whole["systems"], parts["systems"], strict=True):
        assert one["mean"] == other["mean"]
        assert one["attributes"] == other["attributes"]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("maskatlas.comparison.system.train", None)
        assert compare(config, tmp_path / "parts", names=names) == parts
    other = replace(config, seed=4)
    with pytest.raises(
        ConfigError, match=r"asked for something else.*seed: it has 0, asked for is 4"
    ):
        compare(other, tmp_path / "parts", names=names)
    assert system_of(path.parent) == "plain"
    assert system_of(tmp_path / "parts") is None
    older = json.loads(path.read_text(encoding="utf-8"))
    assert older["asked"]["train"].pop("pretraining") == 0.0
    path.write_text(json.dumps(older), encoding="utf-8")
    assert compare(config, tmp_path / "parts", names=names) == parts
    later = replace(config, train=replace(config.train, pretraining=0.5))
    with pytest.raises(ConfigError, match=r"train.pretraining: it has 0, asked for is 0.5"):
        compare(later, tmp_path / "parts", names=names)
    path.write_text("{}")
    assert system_of(path.parent) == "plain"  # by the folder, as of earlier versions
    path.write_text('{"system": null}')
    with pytest.raises(CheckpointError, match=r"does not say which system's.*open_network"):
        system_of(path.parent)
    with pytest.raises(CheckpointError, match=r"damaged.*remove the folder"):
        compare(config, tmp_path / "parts", names=names)
    network = open_network("abn", tmp_path / "whole" / "abn" / "model")
    assert not network.training
    card = (tmp_path / "whole" / "abn" / "model" / "README.md").read_text()
    assert "open_network" in card
    assert "from_pretrained" not in card
    with pytest.raises(CheckpointError):
        open_network("gain", tmp_path / "whole" / "abn" / "model")
    with pytest.raises(ConfigError, match="one that is a network"):
        open_network("majority", tmp_path / "whole" / "majority")


def test_a_system_that_the_data_does_not_suit_is_left_out_or_refused_if_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = make_dataset(20, 2)
    monkeypatch.setattr("maskatlas.comparison.comparing.judged_on", lambda c, _: (c, data))
    few = {name: system for name, system in systems().items() if name == "gain-regions"}
    monkeypatch.setattr("maskatlas.comparison.comparing.systems", lambda: few)
    result = compare(small_config(), tmp_path)
    assert list(result["skipped"]) == ["gain-regions"]
    assert (result["systems"], result["reference"]) == ([], None)
    with pytest.raises(DataError, match="gain-regions: it learns from regions"):
        compare(small_config(), tmp_path, names=["gain-regions"])


def test_bad_settings_are_refused_before_anything_is_trained(tmp_path: Path) -> None:
    for settings, message in (
        ({"names": ["nothing"]}, "system 'nothing'"),
        ({"minutes": 0.0}, "minutes: expected a number above 0, found 0"),
        ({"split": "some"}, "split: expected train, val or test, found 'some'"),
    ):
        with pytest.raises(ConfigError, match=message):
            compare(small_config(), tmp_path / "out", **{"names": ["plain"], **settings})
    assert not (tmp_path / "out").exists()


def test_what_cannot_be_built_is_told_before_anything_is_trained(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = small_config(images=20)
    config = replace(config, model=replace(config.model, mask_offset=0.0))
    monkeypatch.setattr("maskatlas.comparison.backbone.open_backbone", _not_there)
    for name, message in (("no-masks", "mask-offset"), ("backbone:timm/x", "timm is not there")):
        with pytest.raises(ConfigError, match=message):
            compare(config, tmp_path / "out", names=["majority", name])
    assert not (tmp_path / "out").exists()
    few = {name: system for name, system in systems().items() if name in ("majority", "no-masks")}
    monkeypatch.setattr("maskatlas.comparison.comparing.systems", lambda: few)
    result = compare(config, tmp_path / "out")
    assert list(result["skipped"]) == ["no-masks"]
    assert [system["name"] for system in result["systems"]] == ["majority"]


def _not_there(*_: object) -> torch.nn.Module:
    raise ConfigError("timm is not there")


def test_what_judges_does_not_choose_the_best_epoch(monkeypatch: pytest.MonkeyPatch) -> None:
    config = small_config(images=20)
    same, data = judged_on(config, "test")
    assert (same, data.split, set(data.splits)) == (config, "test", {"test"})
    changed, data = judged_on(config, "valid")
    assert (changed.train.validation, data.split) == ("test", "val")
    # of ten faces in a row, the last is for testing: here there is none
    few, data = judged_on(small_config(images=9), "test")
    assert (few.train.validation, data.split, len(data)) == ("test", "val", 1)
    alone = make_dataset(5, 2, split="train")
    monkeypatch.setattr("maskatlas.comparison.comparing.open_dataset", lambda *_, **__: alone)
    with pytest.raises(DataError, match="found training images only; add a column `split`"):
        judged_on(config, "test")


def test_what_judges_is_not_learned_from() -> None:
    config = small_config(images=20)
    both = replace(config, train=replace(config.train, splits=("train", "valid")))
    kept, data = judged_on(both, "test")
    assert (kept.train.splits, data.split) == (("train", "valid"), "test")
    changed, data = judged_on(both, "val")
    assert (changed.train.splits, changed.train.validation) == (("train",), "test")
    learned = open_data(changed)
    assert not set(data.names) & {*learned.training.names, *learned.validation.names}
    with pytest.raises(ConfigError, match=r"train.splits: .* beside 'train'.* another --split"):
        judged_on(config, "train")


def test_without_a_test_split_a_tenth_of_the_training_images_chooses(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    data = make_dataset(60, 2)
    data = replace(data, splits=("train",) * 40 + ("val",) * 20)
    for module in ("comparison.comparing", "training_data"):
        monkeypatch.setattr(f"maskatlas.{module}.open_dataset", lambda *_, **__: data)
    config, judges = judged_on(small_config(), "test")
    learned = open_data(config)
    assert len(judges) == 20
    assert not set(judges.names) & {*learned.training.names, *learned.validation.names}
    assert len(learned.training) + len(learned.validation) == 40


def test_as_many_epochs_as_fit_and_no_more_than_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    config = small_config(images=60, batch=12, epochs=50)
    monkeypatch.setattr("maskatlas.comparison.budget._seconds_of_a_step", lambda _: 3.0)
    monkeypatch.setattr("maskatlas.comparison.budget.time.perf_counter", lambda: 0.0)

    def fitted(minutes: float):
        return within_minutes(config, minutes, build_network, PackedImages)

    assert fitted(1.0).train.epochs == 5  # 48 images, four steps of 3 s
    assert fitted(1.1).train.epochs == pytest.approx(5.5)
    assert fitted(1000.0).train.epochs == 50
    short = fitted(0.1)  # what were 24 of 48 images, once
    assert (short.train.epochs, short.limit) == (pytest.approx(0.5), config.limit)
    assert fitted(1e-9).train.epochs == 0.25  # a step
    assert replace(fitted(1.0), train=config.train) == config
    with pytest.raises(ConfigError, match="minutes"):
        fitted(0.0)


def test_steps_before_and_after_pretraining_count_by_their_number(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def step(self: Optimization) -> None:
        now[0] += 1.0 if self.number < self.pretraining else 3.0

    def timed(**train: float) -> float:
        config = small_config(images=60, batch=12, epochs=5, **train)
        data = open_data(config).training
        network = build_network(config.model, data.attributes)
        images = PackedImages(data, network.preprocessing)
        running = Optimization(config, network, images, torch.device("cpu"))
        return budget._seconds_of_a_step(running)

    now = [0.0]
    monkeypatch.setattr(Optimization, "step", step)
    monkeypatch.setattr("maskatlas.comparison.budget.time.perf_counter", lambda: now[0])
    assert timed() == 3.0
    assert timed(pretraining=0.5) == pytest.approx(2.0)
    assert timed(pretraining=0.25) == pytest.approx(2.5)


def test_a_bounded_system_goes_on_with_what_it_found_to_fit(tmp_path: Path) -> None:
    config = small_config(images=60, batch=12, epochs=3)
    (plain,) = find_systems(["plain"])
    result = compare(config, tmp_path, names=["plain"], minutes=5.0)
    assert result["systems"][0]["note"] == "3 epochs"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("maskatlas.comparison.system.within_minutes", None)
        (tmp_path / "plain" / "result.json").unlink()
        again = compare(config, tmp_path, names=["plain"], minutes=5.0)
    assert again["systems"][0]["mean"] == result["systems"][0]["mean"]
    assert plain.name == "plain"


def test_memory_above_what_was_held_is_measured() -> None:
    with measured(torch.device("cpu")) as cost:
        block = torch.ones(40 * 2**20, dtype=torch.uint8)
        del block
    if cost.peak_bytes is None:
        pytest.skip("this system does not tell")
    assert 36 * 2**20 < cost.peak_bytes < 80 * 2**20


class Witness(ClassifierNetwork):
    """Remembers what it was given to learn from."""

    def supervised(self, images, supervision=None):
        self.given = images, supervision
        return super().supervised(images)


def test_regions_move_with_their_images() -> None:
    data = make_dataset(12, 1, size=(16, 16))
    red = [data.images.pixels[i][None, :, :, 0] // 128 for i in range(12)]
    data = replace(data, regions_of=Regions(red))
    config = small_config(batch=8, shift=3, flip=True)
    network = Witness(config.model, data.attributes)
    images = ImagesWithRegions(data, network.preprocessing)
    optimization = Optimization(config, network, images, torch.device("cpu"))
    for _ in range(2):
        optimization.step()
        pixels, supervision = network.given
        expected = (pixels[:, :1] * 255).round() >= 128
        assert torch.equal(supervision.regions == 1, expected)
        assert expected.any()
        assert not expected.all()
