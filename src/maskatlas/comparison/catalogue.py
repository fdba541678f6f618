"""All systems by name: those that the paper names, ours, and what is taken away from ours."""

import difflib
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

from maskatlas.comparison import (
    abn,
    dilation,
    gain,
    no_masks,
    plain,
    shared_mask,
    subnets,
    wig,
)
from maskatlas.comparison.backbone import BackboneSystem
from maskatlas.comparison.facetracer import FaceTracer
from maskatlas.comparison.images import ImagesWithRegions
from maskatlas.comparison.lnets_anet import LNetsANet
from maskatlas.comparison.majority import Majority
from maskatlas.comparison.mt_rbm_pca import multi_task_rbm
from maskatlas.comparison.system import NetworkSystem, System
from maskatlas.errors import ConfigError

VARIANTS = """\
backbone:timm/NAME or backbone:torchvision/NAME (`backbone:timm/resnet18`) puts our sub-networks on
the features of that network, trained; with `:frozen` and --weights FILE on one that stays so.
wig:silu and wig:relu are wig with those activations, dilation:64 is dilation in full width."""
"""What names there are beside those of the list."""


def systems() -> dict[str, System]:
    """Return the systems that a comparison trains unless it is asked for others, in their order."""
    listed: tuple[System, ...] = (
        Majority(),
        NetworkSystem("plain", "Plain multi-label network", configure=plain.configure),
        NetworkSystem(
            "subnets", "Multi-channel attentional sub-networks", configure=subnets.configure
        ),
        NetworkSystem(
            "no-masks", "without masks", build=no_masks.build, configure=subnets.configure
        ),
        NetworkSystem(
            "shared-mask", "one mask for all channels", shared_mask.build, subnets.configure
        ),
        NetworkSystem("no-one-plus", "M f instead of (1 + M) f", configure=subnets.without_offset),
        NetworkSystem(
            "no-reconstructor", "without reconstructor", configure=subnets.without_reconstructor
        ),
        NetworkSystem(
            "no-multilabel",
            "without multi-label classifier",
            configure=subnets.without_multilabel,
        ),
        NetworkSystem("no-l1", "without L1", configure=subnets.without_l1),
        NetworkSystem("abn", "Attention branch network", abn.build, plain.configure),
        NetworkSystem(
            "abn-residual", "Attention branch network, 1 + M", abn.build_residual, plain.configure
        ),
        NetworkSystem("gain", "Guided attention inference", gain.build, plain.configure),
        NetworkSystem(
            "gain-regions",
            "Guided attention inference with regions",
            gain.build,
            plain.configure,
            pack=ImagesWithRegions,
            needs_regions=True,
        ),
        NetworkSystem("wig", "Weighted sigmoid gate", wig.build, plain.configure),
        NetworkSystem("dilation", "Dilation network", dilation.build, plain.configure),
        FaceTracer(),
        LNetsANet(),
        multi_task_rbm(),
    )
    return {system.name: system for system in listed}


def find_systems(names: Sequence[str], weights: Path | None = None) -> tuple[System, ...]:
    """Return the named systems, each once, in the order of their names.

    Args:
        names: Of the list, or with a variant behind a colon; see :data:`VARIANTS`.
        weights: Of the backbones, in safetensors.

    Raises:
        ConfigError: There is no such system.
    """
    known = systems()
    return tuple(_find(name, known, weights) for name in dict.fromkeys(names))


def _find(name: str, known: dict[str, System], weights: Path | None) -> System:
    kind, _, variant = name.partition(":")
    if not variant and name in known:
        return known[name]
    if kind == "backbone":
        return BackboneSystem.named(name, weights)
    system = known.get(kind)
    if kind == "wig" and variant in wig.ACTIVATIONS and isinstance(system, NetworkSystem):
        build = partial(wig.build, activation=variant)
        return replace(system, name=name, title=f"Plain network with {variant}", build=build)
    if kind == "dilation" and variant.isdecimal() and isinstance(system, NetworkSystem):
        build = partial(dilation.build, width=int(variant))
        return replace(system, name=name, title=f"Dilation network of width {variant}", build=build)
    near = difflib.get_close_matches(name, known, n=1)
    hint = f"; did you mean {near[0]}?" if near else ""
    raise ConfigError(
        f"system {name!r}: expected one of {', '.join(known)}, or backbone:timm/NAME and the like"
        f"{hint}; `maskatlas compare --list` says more"
    )
