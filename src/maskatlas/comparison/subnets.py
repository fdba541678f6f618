"""Multi-channel attentional sub-networks: ours, and with one part of it taken away.

The paper's figure 2 and equation (6), as :mod:`maskatlas.model` has them. Each ablation is a
configuration of the same network; those that are not stand in ``no_masks.py`` and
``shared_mask.py``.
"""

from dataclasses import replace

from maskatlas.config import Config


def configure(config: Config) -> Config:
    """Return the configuration with sub-networks; all else is as it was asked for."""
    return replace(config, model=replace(config.model, subnetworks=True))


def without_offset(config: Config) -> Config:
    """Return M f instead of (1 + M) f: a mask can then switch a feature off."""
    ours = configure(config)
    return replace(ours, model=replace(ours.model, mask_offset=0.0))


def without_reconstructor(config: Config) -> Config:
    """Return it without equation (5)."""
    ours = configure(config)
    return replace(ours, model=replace(ours.model, reconstructor=False))


def without_multilabel(config: Config) -> Config:
    """Return it without the multi-label classifier, equation (4)."""
    ours = configure(config)
    return replace(ours, model=replace(ours.model, multilabel=False))


def without_l1(config: Config) -> Config:
    """Return it with a lambda of 0."""
    ours = configure(config)
    return replace(ours, loss=replace(ours.loss, mask_l1=0.0))
