"""What explanations were judged on, in a line or two for each subject."""

from collections.abc import Callable, Mapping
from typing import Any

Section = Mapping[str, Any]


def judged_in_words(explanations: Section) -> list[str]:
    """Return the lines of the subjects that were judged, but for where maps point.

    Args:
        explanations: The section of ``evaluation.json``.
    """
    return [
        f"{title}: {line}"
        for name, (title, words) in _SUBJECTS.items()
        if name in explanations
        for line in words(explanations[name])
    ]


def number(value: float | None, digits: int = 3) -> str:
    """Return a number, or a dash where it is undefined."""
    return "-" if value is None else f"{value:.{digits}f}"


def with_bounds(found: Section) -> str:
    """Return a mean, and its interval where it has one."""
    mean = number(found["mean"])
    if found.get("low") is None:
        return mean
    return f"{mean} ({number(found['low'])} to {number(found['high'])})"


def _faithfulness(found: Section) -> list[str]:
    return [
        f"insertion less deletion, {_best(found, 'gain', max)}",
        f"relative infidelity, {_best(found, 'relative_infidelity', min)}",
    ]


def _channel_faithfulness(found: Section) -> list[str]:
    areas = [
        f"{order} {with_bounds(removal['logit_area'])}"
        for order, removal in found["removal"].items()
        if "logit_area" in removal
    ]
    drops = [f"{name} {with_bounds(values)}" for name, values in found["agreement"].items()]
    return [
        f"logit below random removal, {', '.join(areas)}",
        f"rank correlation with what the network loses, {', '.join(drops)}; contributions miss "
        f"the logit by at most {found['completeness_error']:.1e}",
    ]


def _specificity(found: Section) -> list[str]:
    return [f"similarity of two attributes' maps, {_best_of(found['methods'], min)}"]


def _mask_exchange(found: Section) -> list[str]:
    mean = ", ".join(f"{name} {with_bounds(value)}" for name, value in found["mean"].items())
    return [f"mean change with another's mask, {mean}"]


def _randomization(found: Section) -> list[str]:
    """Return how much is left of maps once all layers are random, and once the masks are."""
    from maskatlas.evaluation.randomization import MASKS

    lines = []
    for layer in _last_layers(found):
        left = {
            method: stage["magnitude"] | {"chance": stage["chance"]}
            for method, stages in found["methods"].items()
            for stage in stages
            if stage["layer"] == layer
        }
        told = _best_of(left, min, _with_chance)
        what = layer if layer == MASKS else "all layers"
        lines.append(f"rank correlation that is left with {what} random, {told}")
    told = _best_of(found["expected"], min, _with_chance)
    lines[0] += f"; averaged over {found['networks']} such networks first, {told}"
    return lines


def _with_chance(left: Section) -> str:
    return f"{number(left['mean'])} (chance {number(left['chance'])})"


def _last_layers(found: Section) -> list[str]:
    """Return the last layer of the cascade, and what stands for the masks alone."""
    from maskatlas.evaluation.randomization import MASKS

    layers = [stage["layer"] for stages in found["methods"].values() for stage in stages]
    cascade = [layer for layer in layers if layer != MASKS]
    return [*cascade[-1:], *([MASKS] if MASKS in layers else [])]


def _sensitivity(found: Section) -> list[str]:
    return [f"maximum sensitivity, {_best(found, 'max_sensitivity', min)}"]


def _seed_agreement(found: Section) -> list[str]:
    """Return a line for each other network."""
    return [
        f"with {name}, correlation of matched channels {with_bounds(other['channel_correlation'])};"
        " rank correlation of their importance, "
        + ", ".join(f"{key} {with_bounds(value)}" for key, value in other["readings"].items())
        + f"; of maps, {_best_of({m: v['agreement'] for m, v in other['maps'].items()}, max)}"
        for name, other in found.items()
    ]


def _map_simplicity(found: Section) -> list[str]:
    return [f"Gini index of maps, {_best(found, 'gini', max)}"]


def _channel_simplicity(found: Section) -> list[str]:
    spread = ", ".join(f"{name} {number(gini['mean'])}" for name, gini in found["gini"].items())
    return [
        f"{len(found['dead'])} of {found['channels']} channels dead, {len(found['duplicates'])} "
        f"pairs of duplicates; Gini index of importance, {spread}"
    ]


def _best(found: Section, measure: str, pick: Callable[..., Any]) -> str:
    return _best_of({m: values[measure] for m, values in found["methods"].items()}, pick)


def _best_of(
    methods: Section, pick: Callable[..., Any], told: Callable[[Section], str] = with_bounds
) -> str:
    """Return the best method that knows the network, and that of reference if it is another.

    Args:
        methods: What was measured of each; the first is the one of reference.
        pick: ``max`` or ``min``.
        told: Puts what was measured in words.
    """
    from maskatlas.explanations import FLOORS

    reference = next(iter(methods))
    known = {m: v for m, v in methods.items() if m not in FLOORS and v["mean"] is not None}
    best = pick(known, key=lambda m: known[m]["mean"]) if known else reference
    words = f"best {best} {told(methods[best])}"
    return words if best == reference else f"{words}; {reference} {told(methods[reference])}"


_SUBJECTS: Mapping[str, tuple[str, Callable[[Section], list[str]]]] = {
    "faithfulness": ("faithful", _faithfulness),
    "channel_faithfulness": ("faithful, channels", _channel_faithfulness),
    "specificity": ("specific", _specificity),
    "mask_exchange": ("specific, masks", _mask_exchange),
    "randomization": ("sane", _randomization),
    "sensitivity": ("stable", _sensitivity),
    "seed_agreement": ("stable, seeds", _seed_agreement),
    "map_simplicity": ("simple", _map_simplicity),
    "channel_simplicity": ("simple, channels", _channel_simplicity),
}
"""What a subject is called, and its lines, in the order in which they are told."""
