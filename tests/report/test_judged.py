import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from maskatlas import explanations, report
from maskatlas.evaluation import randomization
from maskatlas.report import write_report
from maskatlas.report.judged import COLUMNS, FLOORS, MASKS_ALONE, JudgedFacts, judged_facts
from maskatlas.report.judgements import read_judgements
from maskatlas.report.pictures import cells_picture
from sample_run import make_judgements, make_run, names


def facts(**sections: Any) -> JudgedFacts:
    found = judged_facts(read_judgements(sections or make_judgements(names(3)), "here"))
    assert found is not None
    return found


def of_means(**methods: dict[str, float | None]) -> dict[str, Any]:
    """A section with these means, and no intervals."""
    nothing = {"low": None, "high": None, "difference": None, "attributes": {}}
    return {
        "images": 5,
        "methods": {
            method.replace("_", "-"): {name: {"mean": mean} | nothing for name, mean in row.items()}
            for method, row in methods.items()
        },
    }


def test_names_that_evaluation_gives_are_those_of_the_report() -> None:
    assert tuple(explanations.FLOORS) == FLOORS
    assert randomization.MASKS == MASKS_ALONE


def test_nothing_judged_is_nothing_told() -> None:
    assert judged_facts(None) is None


def test_the_best_is_the_highest_or_the_lowest_and_no_floor() -> None:
    curves = {"curves": {}}
    found = facts(
        faithfulness=curves
        | of_means(
            contribution={"insertion": 0.6, "deletion": 0.3, "infidelity": 9.0},
            grad_cam={"insertion": 0.7, "deletion": None, "infidelity": 9.0},
            random={"insertion": 0.8, "deletion": 0.1, "infidelity": 9.0},
        ),
        sensitivity=of_means(contribution={"max_sensitivity": 0.2}, mask={"max_sensitivity": 0.1}),
        specificity={"images": 7, "methods": {"contribution": {"mean": -0.1}}},
    )
    titles = [column.title for column in found.columns]
    assert titles == ["Insertion", "Deletion", "Sensitivity", "Similarity"]
    assert [method for method, _ in found.rows] == ["contribution", "grad-cam", "random", "mask"]
    assert [[cell and cell.best for cell in cells] for _, cells in found.rows] == [
        [False, True, False, True],
        [True, False, None, None],
        [False, False, None, None],
        [None, None, True, None],
    ]
    assert found.images == 7


@pytest.mark.parametrize(("error", "exact"), [(1e-6, True), (0.5, False)])
def test_contributions_that_miss_the_logit_are_not_exact(error: float, exact: bool) -> None:
    section = make_judgements(names(3))["channel_faithfulness"] | {"completeness_error": error}
    assert facts(channel_faithfulness=section).exact is exact


def test_readings_stand_by_their_drops() -> None:
    found = facts()
    assert found.drops == ("logit", "auroc", "change")
    table = {
        reading: [value and f"{value.mean:.1f}" for value in values]
        for reading, values in found.readings
    }
    assert table == {"mask": ["0.4", "0.1", "0.7"], "contribution": ["nan", None, None]}


def test_what_is_left_above_chance_is_marked_layer_by_layer() -> None:
    found = facts()
    assert found.masks_alone == MASKS_ALONE
    assert [layer for layer, _ in found.layers] == ["subnetworks", "extractor.0", MASKS_ALONE]
    marks = [[left and left.above for left in cells] for _, cells in found.layers]
    assert marks == [[True, True], [False, True], [None, True]]
    assert facts(sensitivity=of_means(mask={"max_sensitivity": 0.1})).layers == ()


@pytest.fixture
def dots(monkeypatch: pytest.MonkeyPatch) -> None:
    """Dots in place of figures: these tests are about words."""
    dot = cells_picture(np.zeros((1, 1, 3), np.uint8), "a figure")
    drawn = {f"{name}_figure": dot for name in report.plots.FIGURES}
    monkeypatch.setattr(report, "draw_figures", lambda run, classifier: drawn)


def section_of(folder: Path) -> str:
    page = write_report(folder).read_text(encoding="utf-8")
    return page[page.index('<section id="explanations"') : page.index('<section id="training"')]


def test_the_page_tells_every_subject(tmp_path: Path, dots: None) -> None:
    folder = make_run(tmp_path, attributes=names(3), channels=8, examples=0, judged=True)
    section = section_of(folder)
    written = make_judgements(names(3))
    for part in ("faithfulness", "sensitivity", "map_simplicity"):
        for measures in written[part]["methods"].values():
            for name, measure in measures.items():
                assert (f"{measure['mean']:.2f}" in section) or name not in COLUMNS
    for words in (
        "0.31",
        "by 0.20 logits on average (0.10 to 0.30)",
        "at most 2.5e-06, which is rounding",
        "2 of 8 channels are dead, adding next to nothing to any attribute: 3, 5.",
        "1 pair does the same work: 1 and 6.",
        "<b>−0.40</b>",
        "<b>−2.0</b> (−12.0 to +8.0) points",
        "and by 0.020 lower in AUROC (−0.080 to 0.120).",
        "0.12 by <bdi>mean mask</bdi>",
        "“masks alone” only what masks are computed from is random",
        "docs/evaluation.md",
        "5 random networks</th>",
        "<bdi>runs/b</bdi></th>",
        *("0.71<br>", "0.62<br>", "0.83<br>", "0.57<br>"),
        *("0.61 to 0.81", "0.52 to 0.72", "0.73 to 0.93", "0.47 to 0.67"),
    ):
        assert words in section


def test_a_reading_that_loses_less_than_random_is_called_higher(tmp_path: Path, dots: None) -> None:
    folder = make_run(tmp_path, attributes=names(3), channels=8, examples=0, judged=True)
    file = folder / "evaluation.json"
    written = json.loads(file.read_text())
    removal = written["explanations"]["channel_faithfulness"]["removal"]
    removal["mask"]["logit_area"] |= {"mean": -0.1, "low": -0.25, "high": 0.05}
    file.write_text(json.dumps(written))
    assert "is <b>higher</b> by 0.10 logits on average (−0.05 to 0.25)" in section_of(folder)


def test_what_was_not_judged_is_absent(tmp_path: Path, dots: None) -> None:
    folder = make_run(tmp_path, attributes=names(3), channels=8, examples=0)
    section = section_of(folder)
    for title in ("Does the network do", "Does the network need", "forgets", "whose mask", "idle"):
        assert title not in section
