"""Reading what explanations were judged on: every value arrives, and what is damaged is named."""

import copy
import math
import re
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest

from maskatlas.errors import RunError
from maskatlas.report.judgements import Judgements, read_judgements
from maskatlas.report.measured import Bounds
from maskatlas.report.run import read_run
from sample_run import make_judgements, make_run, names

WRITTEN = make_judgements(names(3))


def test_every_section_arrives(tmp_path: Path) -> None:
    run = read_run(make_run(tmp_path, attributes=names(3), judged=True))
    assert run.evaluation is not None
    found = run.evaluation.judgements
    assert found is not None
    for name in ("faithfulness", "sensitivity", "map_simplicity"):
        section = getattr(found, name)
        assert section.images == WRITTEN[name]["images"]
        for method, measures in WRITTEN[name]["methods"].items():
            for measure, written in measures.items():
                told = section.methods[method][measure].overall
                assert (told.mean, told.low) == (written["mean"], written["low"])
    curves = WRITTEN["faithfulness"]["curves"]
    assert found.faithfulness is not None
    assert {m: list(c) for m, c in found.faithfulness.insertion.items()} == {
        method: curve["insertion"] for method, curve in curves.items()
    }
    assert {m: list(c) for m, c in found.faithfulness.deletion.items()} == {
        method: curve["deletion"] for method, curve in curves.items()
    }


def test_means_without_intervals_of_earlier_versions_arrive() -> None:
    earlier = copy.deepcopy(WRITTEN)
    earlier["mask_exchange"]["mean"] = {"logit": -0.4, "accuracy": -0.02, "auroc": None}
    earlier["channel_faithfulness"]["removal"]["mask"]["auroc_area"] = 0.01
    earlier["seed_agreement"]["runs/b"]["channel_correlation"] = 0.7
    found = read_judgements(earlier, "here")
    assert found is not None
    matched = found.seed_agreement["runs/b"].channels
    area = found.channel_faithfulness.removal["mask"].auroc_area
    for bounds, mean in ((found.mask_exchange.mean["logit"], -0.4), (area, 0.01), (matched, 0.7)):
        assert bounds.mean == mean
        assert math.isnan(bounds.low)
    assert math.isnan(found.mask_exchange.mean["auroc"].mean)


def test_channels_arrive() -> None:
    found = read_judgements(WRITTEN, "here")
    assert found is not None
    channels, simple = found.channel_faithfulness, found.channel_simplicity
    assert channels is not None
    assert simple is not None
    assert channels.completeness_error == 2.5e-6
    assert list(channels.removal) == ["mask", "contribution", "random"]
    assert channels.removal["mask"].logit[:2] == (1.0, 0.5)
    assert math.isnan(channels.removal["mask"].logit[2])
    assert channels.removal["contribution"].area is not None
    assert channels.removal["contribution"].area.mean == 0.2
    assert channels.removal["random"].area is None
    assert channels.removal["contribution"].auroc_area.high == pytest.approx(0.12)
    assert channels.removal["random"].auroc_area is None
    assert channels.agreement["mask-logit"] == Bounds(0.4, 0.4 - 0.1, 0.4 + 0.1)
    assert math.isnan(channels.agreement["contribution-logit"].mean)
    assert (simple.dead, simple.duplicates) == ((3, 5), ((1, 6, 0.995),))
    assert simple.gini["mask"].mean == 0.12


def test_masks_and_weights_arrive() -> None:
    found = read_judgements(WRITTEN, "here")
    assert found is not None
    assert found.specificity is not None
    assert found.specificity.similarity["mask"].mean == 0.17
    assert found.specificity.similarity["mask"].low == pytest.approx(0.15)
    assert found.mask_exchange is not None
    assert [list(row) for row in found.mask_exchange.logit] == WRITTEN["mask_exchange"]["logit"]
    assert math.isnan(found.mask_exchange.mean["auroc"].mean)
    assert found.mask_exchange.mean["logit"].high == -0.4 + 0.1
    assert found.randomization is not None
    last = found.randomization.methods["mask"][-1]
    assert (last.layer, last.magnitude.mean, last.chance) == ("masks alone", 0.6, 0.2)
    assert (found.randomization.networks, found.randomization.expected["mask"][0].mean) == (5, 0.09)
    assert found.randomization.expected["mask"][1] == 0.06
    # before correlations were averaged over random networks
    kept = {"images", "methods"}
    earlier = {key: value for key, value in WRITTEN["randomization"].items() if key in kept}
    read = read_judgements({"randomization": earlier}, "here")
    assert read is not None
    assert read.randomization is not None
    assert (read.randomization.networks, read.randomization.expected) == (0, {})


@pytest.mark.parametrize("name", [field.name for field in fields(Judgements)])
def test_one_section_is_there_without_the_others(name: str) -> None:
    found = read_judgements({name: WRITTEN[name], "localization": {}}, "here")
    assert found is not None
    assert [f.name for f in fields(found) if getattr(found, f.name) is not None] == [name]


def test_an_evaluation_of_an_earlier_version_has_none(tmp_path: Path) -> None:
    run = read_run(make_run(tmp_path))
    assert run.evaluation is not None
    assert run.evaluation.judgements is None
    assert read_judgements({}, "here") is None


@pytest.mark.parametrize(
    ("path", "value", "told"),
    [
        ("faithfulness", 7, "faithfulness: expected a JSON object"),
        ("faithfulness.images", -1, "faithfulness: expected a count for `images`"),
        ("faithfulness.curves.mask", [1], "faithfulness.curves.mask: expected a JSON object"),
        ("faithfulness.curves.mask.insertion", 3, "expected a list for `insertion`"),
        ("faithfulness.curves.mask.insertion", [0, "?"], "expected a number for `insertion`"),
        ("sensitivity.methods.mask.max_sensitivity.mean", "?", "expected a number for `mean`"),
        ("channel_faithfulness.removal.mask.logit", None, "expected a list for `logit`"),
        ("channel_faithfulness.removal.mask.logit_area", 1, "logit_area: expected a JSON object"),
        ("channel_faithfulness.agreement.mask-logit", 0.4, "expected a JSON object"),
        ("channel_faithfulness.removal.mask.auroc_area", "?", "a number for `auroc_area`"),
        ("mask_exchange.mean.logit", [0.1], "expected a number for `logit`"),
        ("specificity.methods.mask", 0.5, "specificity.methods.mask: expected a JSON object"),
        ("mask_exchange.attributes", [1, 2, 3], "expected `attributes`, a list of names"),
        ("mask_exchange.logit", [[1, 2], [3, 4]], "each of the 3 attributes"),
        ("mask_exchange.mean", None, "mask_exchange.mean: expected a JSON object"),
        ("randomization.methods.mask", {}, "expected a list for `mask`"),
        ("randomization.methods.mask", [{"layer": "a"}], "magnitude: expected a JSON object"),
        ("randomization.networks", "5", "expected a count for `networks`"),
        ("randomization.expected.mask", 0.1, "expected.mask: expected a JSON object"),
        ("channel_simplicity.dead", ["3"], "expected a count for `dead`"),
        ("channel_simplicity.duplicates", [{"channels": [1]}], "expected two ids"),
        ("channel_simplicity.gini.mask", 0.1, "gini.mask: expected a JSON object"),
    ],
)
def test_a_damaged_section_is_named_with_its_place(path: str, value: object, told: str) -> None:
    damaged = copy.deepcopy(WRITTEN)
    *parents, last = path.split(".")
    inside: dict[str, Any] = damaged
    for parent in parents:
        inside = inside[parent]
    inside[last] = value
    with pytest.raises(RunError, match=re.escape(told)) as error:
        read_judgements(damaged, "evaluation.json: explanations")
    assert str(error.value).startswith(f"evaluation.json: explanations.{(parents or [last])[0]}")
