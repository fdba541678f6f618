"""Reading a run folder: every value arrives as it was written, undefined as NaN."""

import json
import math
import re
from dataclasses import asdict
from pathlib import Path

import pytest

from maskatlas.config import PRESETS
from maskatlas.errors import RunError
from maskatlas.report.run import ALL, Score, read_run
from sample_run import make_cases, make_evaluation, make_run, names


def test_everything_arrives(tmp_path: Path) -> None:
    attributes = names(4)
    run = read_run(make_run(tmp_path, attributes=attributes, channels=5))
    written = make_evaluation(attributes)
    assert run.config == PRESETS["demo"]
    assert run.attributes == attributes
    assert run.atlas is not None
    assert run.atlas.attributes == attributes
    assert run.atlas.channels == 5
    assert run.evaluation is not None
    assert run.evaluation.subnetworks is not None
    for name in attributes:
        score = run.evaluation.subnetworks.attributes[name]
        for field, value in written["subnetworks"]["attributes"][name].items():
            assert getattr(score, field) == value
    game = written["explanations"]["pointing"]
    assert run.evaluation.pointing is not None
    assert run.evaluation.pointing.mean == game["mean"]
    assert run.evaluation.pointing.attributes["Attribute_3"].hits == 83
    where = run.evaluation.where
    section = written["explanations"]["localization"]
    assert where is not None
    assert (where.images, where.units, where.people) == (200, 150, True)
    assert list(where.methods) == list(section["methods"])
    for method, measures in section["methods"].items():
        for name, measured in measures.items():
            found = where.methods[method][name]
            assert asdict(found.overall).items() <= measured.items()
            lost = found.difference and asdict(found.difference)
            assert lost == measured["difference"]
            for attribute, row in measured["attributes"].items():
                assert asdict(found.attributes[attribute]).items() <= row.items()
    told = [case.to_json() for case in run.cases]
    assert told == [case.to_json() for case in make_cases(attributes)]
    assert {step["event"] for step in run.steps} == {"step"}
    assert len(run.steps) == 120
    assert [epoch["epoch"] for epoch in run.epochs] == [1, 2, 3, 4, 5, 6]


def test_null_is_undefined(tmp_path: Path) -> None:
    folder = make_run(tmp_path)
    (folder / "metrics.jsonl").write_text('{"event": "step", "step": 1, "mask_mean": null}\n')
    evaluation = make_evaluation(names(2)) | {"split": None, "mean_accuracy": None}
    evaluation["subnetworks"]["attributes"]["Attribute_1"]["auroc"] = None
    (folder / "evaluation.json").write_text(json.dumps(evaluation))
    run = read_run(folder)
    assert run.steps[0]["mask_mean"] is None
    assert run.evaluation is not None
    assert run.evaluation.subnetworks is not None
    assert run.evaluation.split == ALL
    assert math.isnan(run.evaluation.mean_accuracy)
    assert math.isnan(run.evaluation.subnetworks.attributes["Attribute_1"].auroc)


def test_a_game_played_on_no_image_was_not_played(tmp_path: Path) -> None:
    folder = make_run(tmp_path)
    evaluation = make_evaluation(names(2))
    evaluation["explanations"]["pointing"] |= {"attributes": {}, "mean": None}
    (folder / "evaluation.json").write_text(json.dumps(evaluation))
    found = read_run(folder).evaluation
    assert found is not None
    assert found.pointing is None


@pytest.mark.parametrize(
    ("section", "place"),
    [
        (7, "localization: expected a JSON object"),
        ({"methods": {"mask": 7}}, "localization.methods.mask: expected a JSON object"),
        ({"methods": {"mask": {"iou": {"mean": "?"}}}}, "methods.mask.iou.attributes"),
        ({"methods": {"mask": {"iou": {"mean": "?", "attributes": {}}}}}, "number for `mean`"),
        ({"methods": {"mask": {}}, "images": -1, "units": 3}, "count for `images`"),
    ],
)
def test_a_damaged_section_is_named_with_its_place(
    tmp_path: Path, section: object, place: str
) -> None:
    folder = make_run(tmp_path)
    evaluation = make_evaluation(names(2))
    evaluation["explanations"]["localization"] = section
    (folder / "evaluation.json").write_text(json.dumps(evaluation))
    with pytest.raises(RunError, match=re.escape(place)):
        read_run(folder)


def test_an_evaluation_of_an_earlier_version_says_less(tmp_path: Path) -> None:
    folder = make_run(tmp_path)
    evaluation = make_evaluation(names(2))
    del evaluation["explanations"]["localization"]
    (folder / "evaluation.json").write_text(json.dumps(evaluation))
    found = read_run(folder).evaluation
    assert found is not None
    assert found.pointing is not None
    assert found.where is None


def test_a_damaged_line_is_named_with_its_number(tmp_path: Path) -> None:
    folder = make_run(tmp_path)
    (folder / "metrics.jsonl").write_text('{"event": "step"}\n{"event": \n{"event": "step"}\n')
    with pytest.raises(RunError, match=r"metrics\.jsonl, line 2"):
        read_run(folder)


@pytest.mark.parametrize(
    ("positives", "negatives", "majority"), [(3, 1, 0.75), (1, 3, 0.75), (0, 4, 1.0), (2, 2, 0.5)]
)
def test_majority(positives: int, negatives: int, majority: float) -> None:
    assert Score(0.5, 0.5, 0.5, 0.5, 0.5, positives, negatives).majority == majority


def test_majority_of_nothing_is_undefined() -> None:
    assert math.isnan(Score(*[math.nan] * 5, positives=0, negatives=0).majority)
