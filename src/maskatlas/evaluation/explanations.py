"""Do the maps of a network say the truth: every subject that they are judged on."""

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Bool
from torch import Tensor

from maskatlas.cache import PackedImages
from maskatlas.cases import Case
from maskatlas.data import AttributeDataset
from maskatlas.errors import ConfigError, DataError, MaskatlasError
from maskatlas.evaluation.channel_removal import channel_faithfulness
from maskatlas.evaluation.examination import Examination, Judgement
from maskatlas.evaluation.faithfulness import faithfulness
from maskatlas.evaluation.localization import Localization, localize
from maskatlas.evaluation.randomization import randomization
from maskatlas.evaluation.simplicity import channel_simplicity, map_simplicity
from maskatlas.evaluation.specificity import mask_exchange, specificity
from maskatlas.evaluation.stability import check_comparable, max_sensitivity, seed_agreements
from maskatlas.explanations import SLOW, caveat, explainer_of, explainers
from maskatlas.inference import labels_for
from maskatlas.model import AttributeNetwork

_LOG = logging.getLogger(__name__)

ALL = "all"
"""Stands for every method, the slow ones too."""


@dataclass(frozen=True)
class Subject:
    """A question that maps are judged on."""

    judge: Callable[[Examination], Judgement]
    needs_regions: bool = False
    needs_masks: bool = False
    needs_a_fresh_one: bool = False
    """Another network of the same kind is built."""
    needs_others: bool = False
    """The network is compared with others."""


SUBJECTS: Mapping[str, Subject] = {
    "localization": Subject(localize, needs_regions=True),
    "faithfulness": Subject(faithfulness),
    "channel_faithfulness": Subject(channel_faithfulness, needs_masks=True),
    "specificity": Subject(specificity),
    "mask_exchange": Subject(mask_exchange, needs_masks=True),
    "randomization": Subject(randomization, needs_a_fresh_one=True),
    "sensitivity": Subject(max_sensitivity),
    "seed_agreement": Subject(seed_agreements, needs_others=True),
    "map_simplicity": Subject(map_simplicity),
    "channel_simplicity": Subject(channel_simplicity, needs_masks=True),
}
"""By the name of their section in ``evaluation.json``, in the order in which they are judged."""


@dataclass(frozen=True, eq=False)
class ExplanationEvaluation:
    """What came out of every subject that the data allow to be judged."""

    methods: tuple[str, ...]
    subjects: Mapping[str, Judgement]
    """By name; see :data:`SUBJECTS`."""

    @property
    def localization(self) -> Localization | None:
        """Where the maps point; None where no region is known."""
        found = self.subjects.get("localization")
        return found if isinstance(found, Localization) else None

    @property
    def cases(self) -> tuple[Case, ...]:
        """Maps that hit and maps that missed, to be shown."""
        return self.localization.cases if self.localization else ()

    def to_json(self) -> dict[str, Any]:
        """Return the section of ``evaluation.json``: the pointing game first, then each subject."""
        pointing = {"pointing": self.localization.pointing()} if self.localization else {}
        return pointing | {name: dict(found.to_json()) for name, found in self.subjects.items()}


def evaluate_explanations(
    network: AttributeNetwork,
    data: AttributeDataset,
    *,
    methods: Sequence[str] | None = None,
    attributes: Sequence[str] | None = None,
    subjects: Sequence[str] | None = None,
    others: Mapping[str, AttributeNetwork] | None = None,
    seed: int = 0,
    progress: bool = False,
) -> ExplanationEvaluation:
    """Judge the maps that a network can be explained by.

    Args:
        network: In eval mode.
        data: Images with labels; with regions, if it shall be said where maps point.
        methods: Names that :func:`maskatlas.explain` knows for this network, ``all`` for the rest.
            None means all but those that take many passes for one map
            (:data:`maskatlas.explanations.SLOW`). The others are compared with the first.
        attributes: Names; None means all. Only these are judged, and counted in the means.
        subjects: Names of :data:`SUBJECTS`; None means all that this data and network allow.
        others: Networks of other seeds by name, in eval mode, that this one is compared with: are
            the channels the same, and their importance, and the maps?
        seed: Of all that is drawn: bootstrap weights, changes of pixels, orders, random weights.
        progress: Show progress bars on a terminal.

    Raises:
        ConfigError: A method or an attribute that this network does not have, a subject that is
            not known or that this network does not allow, or none. Another network has other
            attributes, takes images of another size, or lacks a method.
        DataError: No image, or none that has one of the attributes; no attribute in common, or no
            region where they are asked for.
    """
    chosen = chosen_methods(network, methods)
    for told in filter(None, (caveat(network, method) for method in chosen)):
        _LOG.warning(told)
    where = data.path or data.source
    if not len(data):
        raise DataError(f"{where}: no image to judge explanations on")
    others = others or {}
    due = _due(network, data, subjects, others=bool(others))
    for other in others.values():
        check_comparable(network, other)
        for method in chosen:
            explainer_of(other, method)
    images = PackedImages(data, network.preprocessing, progress=progress)
    labels = labels_for(network, images.data)
    labels[:, ~_asked(network, attributes)] = torch.nan
    if not (labels == 1).any():
        raise DataError(
            f"{where}: none of {len(data)} images has one of the attributes that are judged, and "
            "maps are judged where an attribute is there; give other images or --attributes"
        )
    given = Examination(
        *(network, images, labels, chosen), seed=seed, progress=progress, others=others
    )
    return ExplanationEvaluation(chosen, {name: SUBJECTS[name].judge(given) for name in due})


def _due(
    network: AttributeNetwork,
    data: AttributeDataset,
    subjects: Sequence[str] | None,
    *,
    others: bool,
) -> list[str]:
    """Return the names of what is judged, in the order of :data:`SUBJECTS`."""
    obstacles = {
        name: _obstacle(subject, network, data, others=others) for name, subject in SUBJECTS.items()
    }
    if subjects is None:
        if obstacles["localization"] is not None:
            _LOG.warning("%s", obstacles["localization"])
        return [name for name, obstacle in obstacles.items() if obstacle is None]
    if not subjects:
        raise ConfigError(f"subjects: expected some of {', '.join(SUBJECTS)}; found none")
    for name in subjects:
        if name not in SUBJECTS:
            raise ConfigError(f"subjects: expected some of {', '.join(SUBJECTS)}; found {name!r}")
        if (obstacle := obstacles[name]) is not None:
            raise obstacle
    if others and "seed_agreement" not in subjects:
        raise ConfigError(
            "subjects: other networks are given, which only seed_agreement compares with, and it "
            "is not among the subjects; add it, or leave --other out"
        )
    return [name for name in SUBJECTS if name in subjects]


def _obstacle(
    subject: Subject, network: AttributeNetwork, data: AttributeDataset, *, others: bool
) -> MaskatlasError | None:
    """Return why this cannot be judged here, if it cannot."""
    if subject.needs_others and not others:
        return ConfigError(
            "subjects: seed_agreement compares with networks of other seeds, and none is given; "
            "name their runs with --other"
        )
    if subject.needs_regions and not data.has_regions:
        return DataError(
            f"{data.path or data.source}: where maps point is judged against regions, and this "
            "data has none; see docs/data.md for how to add masks/, or judge other subjects"
        )
    if subject.needs_masks and network.subnetworks is None:
        return ConfigError(
            "subjects: this network has no masks to judge; train one with model.subnetworks = true"
        )
    ours = type(network) is AttributeNetwork
    if subject.needs_a_fresh_one and network.anew is None and not ours:
        return ConfigError(
            "subjects: a network of another system can be built anew only if it was read from a "
            "model folder; open it from one, or judge other subjects"
        )
    return None


def _asked(
    network: AttributeNetwork, attributes: Sequence[str] | None
) -> Bool[Tensor, " attribute"]:
    asked = torch.zeros(len(network.attributes), dtype=torch.bool)
    asked[network.attribute_indices(attributes)] = True
    return asked


def chosen_methods(network: AttributeNetwork, methods: Sequence[str] | None) -> tuple[str, ...]:
    """Return the names of the methods that are judged, each once, in the order asked for.

    Raises:
        ConfigError: A method that this network does not have, or none.
    """
    known = explainers(network)
    if methods is None:
        return tuple(name for name in known if name not in SLOW)
    methods = [m for name in methods for m in (known if name == ALL else [name])]
    if unknown := [name for name in methods if name not in known]:
        raise ConfigError(
            f"methods: expected some of {', '.join(known)}, or {ALL}; found {unknown[0]!r}"
        )
    if not methods:
        raise ConfigError(f"methods: expected one of {', '.join(known)}, or {ALL}; found none")
    return tuple(dict.fromkeys(methods))
