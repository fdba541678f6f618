from typing import Any

from maskatlas.cli.judged import judged_in_words
from maskatlas.evaluation.explanations import SUBJECTS
from sample_run import make_judgements, names

WRITTEN = make_judgements(names(2))


def means(found: dict[str, Any], measure: str) -> dict[str, float]:
    return {method: values[measure]["mean"] for method, values in found["methods"].items()}


def test_every_subject_has_a_line_and_none_that_was_not_judged() -> None:
    for name in SUBJECTS:
        lines = judged_in_words({name: WRITTEN.get(name)})
        assert 0 < len(lines) <= 2 or name == "localization"
    assert judged_in_words({"pointing": None, "localization": None}) == []
    assert len(judged_in_words(WRITTEN)) == sum(
        len(judged_in_words({name: section})) for name, section in WRITTEN.items()
    )


def test_the_best_that_knows_the_network_is_told_and_the_reference_beside_it() -> None:
    found = {"sensitivity": {"methods": {}}}
    for method, mean in (("mask", 0.3), ("grad-cam", 0.2), ("random", 0.1), ("gone", None)):
        bounds = {"mean": mean, "low": 0.05, "high": None}
        found["sensitivity"]["methods"][method] = {"max_sensitivity": bounds}
    assert judged_in_words(found) == [
        "stable: maximum sensitivity, best grad-cam 0.200 (0.050 to -); mask 0.300 (0.050 to -)"
    ]
    del found["sensitivity"]["methods"]["grad-cam"]
    assert judged_in_words(found) == ["stable: maximum sensitivity, best mask 0.300 (0.050 to -)"]


def test_more_is_better_or_less() -> None:
    lines = "\n".join(judged_in_words(WRITTEN))
    gain = means(WRITTEN["faithfulness"], "gain")
    still = means(WRITTEN["sensitivity"], "max_sensitivity")
    few = means(WRITTEN["map_simplicity"], "gini")
    for title, values, pick in (
        ("insertion less deletion", gain, max),
        ("maximum sensitivity", still, min),
        ("Gini index of maps", few, max),
        ("maps", {"contribution": 0.31, "mask": 0.17}, min),
    ):
        best = pick(("contribution", "mask"), key=values.__getitem__)
        assert f"{title}, best {best} {values[best]:.3f}" in lines


def test_what_channels_and_weights_come_to() -> None:
    lines = judged_in_words(WRITTEN)
    for line in (
        "faithful, channels: logit below random removal, "
        "mask 0.100 (0.000 to 0.200), contribution 0.200 (0.100 to 0.300)",
        "faithful, channels: rank correlation with what the network loses, "
        "mask-logit 0.400 (0.300 to 0.500), mask-auroc 0.100 (0.000 to 0.200), "
        "contribution-logit -, mask-change 0.700 (0.600 to 0.800); "
        "contributions miss the logit by at most 2.5e-06",
        "specific, masks: mean change with another's mask, logit -0.400 (-0.500 to -0.300), "
        "accuracy -0.020 (-0.120 to 0.080), auroc -",
        "sane: rank correlation that is left with all layers random, "
        "best contribution 0.250 (chance 0.200); averaged over 5 such networks first, "
        "best contribution 0.070 (chance 0.060)",
        "sane: rank correlation that is left with masks alone random, "
        "best mask 0.600 (chance 0.200)",
        "stable, seeds: with runs/b, correlation of matched channels 0.710 (0.610 to 0.810); "
        "rank correlation of their importance, mask 0.620 (0.520 to 0.720), "
        "contribution 0.830 (0.730 to 0.930); of maps, "
        "best contribution 0.570 (0.470 to 0.670)",
        "simple, channels: 2 of 8 channels dead, 1 pairs of duplicates; "
        "Gini index of importance, mask 0.120, contribution -",
    ):
        assert line in lines
