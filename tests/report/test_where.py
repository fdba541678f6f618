import json
import math
from pathlib import Path

import pytest

from maskatlas.report import write_report
from maskatlas.report.measured import Bounds, Measured
from maskatlas.report.run import read_run
from maskatlas.report.where import MOST_CASES, Where, where_facts
from sample_run import make_cases, make_evaluation, make_run, names


def measured(mean: float, difference: tuple[float, float] | None = None) -> Measured:
    lost = None if difference is None else Bounds(sum(difference) / 2, *difference)
    return Measured(Bounds(mean, mean - 1, mean + 1), lost, {"A": Bounds(mean, 0.0, 1.0)})


def test_the_best_is_marked_and_what_differs_by_more_than_chance() -> None:
    methods = {
        "contribution": {"pointing": measured(0.5), "iou": measured(math.nan)},
        "mask": {"pointing": measured(0.9, (0.1, 0.7)), "iou": measured(0.2, (-0.1, 0.1))},
        "random": {"pointing": measured(0.1, (-0.6, -0.2)), "iou": measured(0.1, (math.nan,) * 2)},
    }
    facts = where_facts(Where(9, 9, False, methods), ())
    assert facts is not None
    assert facts.reference == "contribution"
    assert facts.titles == ("Pointing game, %", "IoU, %")
    assert [name for name, _ in facts.rows] == list(methods)
    marks = [[(cell.best, cell.against) for cell in cells] for _, cells in facts.rows]
    assert marks == [
        [(False, ""), (False, "")],
        [(True, "better"), (True, "")],
        [(False, "worse"), (False, "")],
    ]
    assert list(facts.pointing) == ["A"]
    assert facts.energy == {}
    assert facts.cases == ()
    assert facts.leader == ("mask", 0.9)
    unsure = {**methods, "mask": {**methods["mask"], "pointing": measured(0.9, (-0.1, 0.7))}}
    unsure["random"] = {**methods["random"], "pointing": measured(0.95, (0.1, 0.8))}
    led = where_facts(Where(9, 9, False, unsure), ())
    assert led is not None
    assert led.leader is None  # within the interval; and what knows nothing explains nothing
    alone = where_facts(Where(9, 9, False, {"mask": {"pointing": measured(0.9)}}), ())
    assert alone is not None
    assert alone.leader is None


def test_nothing_measured_is_nothing_told() -> None:
    assert where_facts(None, make_cases(names(2))) is None


@pytest.mark.parametrize("count", [3, 20])
def test_cases_are_of_the_attributes_pointed_at_worst_and_best(tmp_path: Path, count: int) -> None:
    run = read_run(make_run(tmp_path, attributes=names(count), channels=4, examples=0))
    assert run.evaluation is not None
    facts = where_facts(run.evaluation.where, run.cases)
    assert facts is not None
    shown = [row.name for row in facts.cases]
    ranked = sorted(names(count), key=lambda name: facts.pointing[name].mean)
    few = MOST_CASES // 2
    assert shown == (ranked if count <= MOST_CASES else ranked[:few] + ranked[-few:])
    for row in facts.cases:
        assert row.accuracy == facts.pointing[row.name].mean
        assert row.hit is not None
        assert row.hit.energy_ratio == 3.0
        assert "hits" in row.hit.map.alt
        assert row.name in row.hit.image.alt
        assert (row.miss is None) == bool(int(row.name.split("_")[1]) % 2)
        assert row.hit.image.sources != row.hit.map.sources


def test_the_summary_names_the_maps_that_point_best(tmp_path: Path) -> None:
    evaluation = make_evaluation(names(3))
    methods = evaluation["explanations"]["localization"]["methods"]
    for method, mean, low in (("contribution", 0.5, None), ("mask", 0.75, 0.1)):
        found = methods[method]["pointing"]
        found["mean"] = mean
        found["difference"] = low and {"mean": 0.25, "low": low, "high": 0.4}
    folder = make_run(tmp_path, attributes=names(3), channels=4, examples=0)
    (folder / "evaluation.json").write_text(json.dumps(evaluation), encoding="utf-8")
    page = write_report(folder).read_text(encoding="utf-8")
    assert "those by <bdi>mask</bdi> in 75.0" in page


def test_the_page_tells_methods_cases_and_every_attribute(tmp_path: Path) -> None:
    folder = make_run(tmp_path, attributes=names(3), channels=4, examples=0)
    page = write_report(folder).read_text(encoding="utf-8")
    section = page[page.index('<section id="explanations"') : page.index('<section id="training"')]
    methods = make_evaluation(names(3))["explanations"]["localization"]["methods"]
    for method, measures in methods.items():
        assert f"<bdi>{method}</bdi>" in section
        assert f"{100 * measures['pointing']['mean']:.1f}" in section
        assert f"{measures['energy_ratio']['mean']:.2f}" in section
    assert "on 200 images of 150 people" in section
    assert section.count("<img") == 2 * len(make_cases(names(3)))
    assert section.count(">none</td>") == 1
