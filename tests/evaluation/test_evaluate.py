import json
from pathlib import Path

import numpy as np
import pytest

from maskatlas.data import AttributeDataset
from maskatlas.errors import DataError
from maskatlas.evaluation import evaluate, evaluate_explanations
from maskatlas.inference import labels_for
from networks import make_dataset, make_network
from reference import metrics as slow
from reference.interventions import scores

NETWORK = make_network(4, channels=4, image_size=16)
METRICS = ["accuracy", "balanced_accuracy", "f1", "average_precision", "auroc"]


def no_constant(name: str) -> None:
    raise AssertionError(f"{name} is no JSON")


def as_json(result: dict) -> dict:
    """What another program reads of it; NaN is refused."""
    return json.loads(json.dumps(result), parse_constant=no_constant)


def test_the_keys_are_those_of_the_specification_in_its_order() -> None:
    regions = [np.ones((4, 40, 36), np.uint8)] * 6
    data = make_dataset(6, 4, regions=regions)
    chosen = {"methods": ["contribution", "mask"], "subjects": ["localization"]}
    judged = evaluate_explanations(NETWORK, data, **chosen)
    result = evaluate(NETWORK, data, explanations=judged)
    assert list(result) == [
        "mean_accuracy",
        "data",
        "split",
        "images",
        "subnetworks",
        "multilabel",
        "explanations",
    ]
    for head in ("subnetworks", "multilabel"):
        assert list(result[head]) == ["mean", "attributes"]
        assert list(result[head]["mean"]) == METRICS
        assert list(result[head]["attributes"]) == list(NETWORK.attributes)
        for row in result[head]["attributes"].values():
            assert list(row) == [*METRICS, "positives", "negatives"]
    assert list(result["explanations"]) == ["pointing", "localization"]
    assert list(result["explanations"]["pointing"]) == [
        "method",
        "tolerance_pixels",
        "mean",
        "attributes",
    ]
    assert result["explanations"]["pointing"]["mean"] == 1.0
    assert as_json(result) == result


def check_section(found: dict, logits: np.ndarray, labels: np.ndarray, names: list[str]) -> None:
    expected = slow.attribute_metrics(logits, labels)
    for metric in METRICS:
        values = expected[metric]
        for name, value in zip(names, values, strict=True):
            shown = found["attributes"][name][metric]
            assert (shown is None) == np.isnan(value)
            assert shown is None or shown == pytest.approx(value)
        defined = [value for value in values if not np.isnan(value)]
        assert found["mean"][metric] == pytest.approx(sum(defined) / len(defined))


def test_figures_are_those_of_the_slow_twin_by_name() -> None:
    data = make_dataset(17, ["Eyeglasses", "Other", "Smiling", "Male", "Wearing_Hat"], seed=4)
    result = evaluate(NETWORK, data)
    images = [NETWORK.preprocess(data.read(index)) for index in range(17)]
    logits = scores(NETWORK, images)
    labels = labels_for(NETWORK, data).numpy()
    check_section(result["subnetworks"], logits, labels, list(NETWORK.attributes))
    assert "Other" not in result["subnetworks"]["attributes"]
    for name, row in result["subnetworks"]["attributes"].items():
        column = data.labels[:, data.attributes.index(name)]
        assert row["positives"] == (column == 1).sum()
        assert row["negatives"] == (column == 0).sum()
    assert result["mean_accuracy"] == result["subnetworks"]["mean"]["accuracy"]
    assert 0 < result["mean_accuracy"] < 1
    assert (result["data"], result["split"], result["images"]) == ("memory-4", "val", 17)
    assert result["explanations"] is None


def one_class() -> AttributeDataset:
    """Smiling is never there, Male always, nothing is known of Wearing_Hat."""
    nan = float("nan")
    return make_dataset([[0, 1, nan, 1], [0, 1, nan, 0], [0, nan, nan, 1]], 4)


def test_what_is_undefined_is_null_and_left_out_of_the_means() -> None:
    result = as_json(evaluate(NETWORK, one_class()))
    section = result["subnetworks"]
    rows = section["attributes"]
    for name in ("Smiling", "Male"):
        assert rows[name]["accuracy"] is not None
        assert [rows[name][metric] for metric in METRICS[1:]] == [None] * 4
    assert [rows["Wearing_Hat"][metric] for metric in METRICS] == [None] * 5
    assert rows["Smiling"]["positives"] == rows["Male"]["negatives"] == 0
    for metric in METRICS[1:]:
        assert section["mean"][metric] == rows["Eyeglasses"][metric]
    known = [rows[name]["accuracy"] for name in ("Smiling", "Male", "Eyeglasses")]
    assert section["mean"]["accuracy"] == pytest.approx(sum(known) / 3)


def test_where_nothing_is_known_every_figure_is_null() -> None:
    result = as_json(evaluate(NETWORK, make_dataset([[float("nan")] * 4] * 2, 4)))
    assert result["mean_accuracy"] is None
    assert set(result["subnetworks"]["mean"].values()) == {None}


def test_the_head_that_answers_gives_the_mean_accuracy() -> None:
    data = make_dataset(9, 4, seed=1)
    plain = evaluate(make_network(4, subnetworks=False), data)
    assert plain["subnetworks"] is None
    assert plain["mean_accuracy"] == plain["multilabel"]["mean"]["accuracy"]
    masked = evaluate(make_network(4, multilabel=False), data)
    assert masked["multilabel"] is None
    assert masked["mean_accuracy"] == masked["subnetworks"]["mean"]["accuracy"]


def test_names_are_keys_and_nothing_else() -> None:
    names = ("</script>", "../x", '"', "=1+1")
    data = make_dataset(5, names)
    result = as_json(evaluate(make_network(names), data))
    assert tuple(result["subnetworks"]["attributes"]) == names


def test_a_whole_dataset_has_no_split() -> None:
    assert evaluate(NETWORK, make_dataset(3, 4, split=None))["split"] is None


def test_what_cannot_be_evaluated_is_told(tmp_path: Path) -> None:
    data = make_dataset(3, 4)
    with pytest.raises(DataError, match="no image"):
        evaluate(NETWORK, data.subset([]))
    with pytest.raises(DataError, match="none of its attributes"):
        evaluate(NETWORK, make_dataset(3, ["A", "B"]))
