"""Facts on the training: how long, how it went, and whether the masks stayed alight."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from maskatlas.report.run import Run
from maskatlas.statistics import OUT


@dataclass(frozen=True, slots=True)
class Health:
    """The masks at one moment of the training; None where it was not written down."""

    step: int
    epoch: float | None
    mask_mean: float | None
    mask_active: float | None
    unused_channels: int | None


@dataclass(frozen=True, slots=True)
class Epoch:
    """The network after an epoch, on the validation images."""

    number: float
    """How often it had seen the training images."""
    accuracy: float | None
    balanced_accuracy: float | None
    auroc: float | None
    mask_mean: float | None


@dataclass(frozen=True, slots=True)
class History:
    """Everything that the section shows."""

    steps: int
    epochs: tuple[Epoch, ...]
    best: Epoch | None
    """The epoch with the highest accuracy, the first of equals."""
    seconds: float | None
    health: tuple[Health, ...]
    """At the beginning, half way and at the end, of what was written down."""
    out: bool
    """The masks are out at the end: they explain nothing."""
    died_at: float | None
    """The epoch in which the masks went out and stayed out."""


def history_facts(run: Run) -> History | None:
    """Return the facts on the training, or None where it left no record."""
    if not run.steps and not run.epochs:
        return None
    watched = [_health(record) for record in run.steps if record.get("mask_mean") is not None]
    epochs = tuple(_epoch(record) for record in run.epochs)
    last = watched[-1].mask_mean if watched else epochs[-1].mask_mean if epochs else None
    scored = [epoch for epoch in epochs if epoch.accuracy is not None]
    seconds = [s for record in run.epochs if (s := _number(record, "seconds")) is not None]
    shown = (0, len(watched) // 2, len(watched) - 1)
    return History(
        steps=max(int(record.get("step") or 0) for record in (*run.steps, *run.epochs)),
        epochs=epochs,
        best=max(scored, key=lambda epoch: epoch.accuracy or 0.0, default=None),
        seconds=max(seconds, default=None),
        health=tuple(watched[i] for i in sorted({i for i in shown if 0 <= i < len(watched)})),
        out=last is not None and last < OUT,
        died_at=_died_at(watched),
    )


def _died_at(watched: list[Health]) -> float | None:
    died = None
    for moment in watched:
        if moment.mask_mean is not None and moment.mask_mean >= OUT:
            died = None
        elif died is None:
            died = moment.epoch
    return died


def _health(record: Mapping[str, Any]) -> Health:
    unused = _number(record, "unused_channels")
    return Health(
        step=int(record.get("step") or 0),
        epoch=_number(record, "epoch"),
        mask_mean=_number(record, "mask_mean"),
        mask_active=_number(record, "mask_active"),
        unused_channels=None if unused is None else int(unused),
    )


def _epoch(record: Mapping[str, Any]) -> Epoch:
    return Epoch(
        number=_number(record, "epoch") or 0.0,
        accuracy=_number(record, "val_accuracy"),
        balanced_accuracy=_number(record, "val_balanced_accuracy"),
        auroc=_number(record, "val_auroc"),
        mask_mean=_number(record, "mask_mean"),
    )


def _number(record: Mapping[str, Any], key: str) -> float | None:
    value = record.get(key)
    return None if value is None else float(value)
