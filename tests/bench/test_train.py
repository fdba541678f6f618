from dataclasses import replace

import pytest
import torch

from maskatlas.bench import train
from maskatlas.bench.baselines import LoopedSubNetworks
from maskatlas.bench.settings import Train
from maskatlas.config import PRESETS, ModelConfig
from maskatlas.optimization import Optimization

CPU = torch.device("cpu")
TINY = Train(
    preset="demo", sizes=(8,), attributes=2, batch=2, mask_rank=2, steps=2, repeats=1, device="cpu"
)


@pytest.fixture
def taken(monkeypatch) -> list[Optimization]:
    """Who took a step, one after another; networks are tiny, and all parts learn at once."""
    whole = replace(PRESETS["demo"].train, pretraining=0.0)
    small = replace(PRESETS["demo"], model=ModelConfig(channels=6, depth=1), train=whole)
    monkeypatch.setitem(PRESETS, "demo", small)
    steps: list[Optimization] = []
    plain = Optimization.step

    def watched(self: Optimization):
        steps.append(self)
        return plain(self)

    monkeypatch.setattr(Optimization, "step", watched)
    return steps


def test_whole_steps_of_every_network_are_measured_in_turn(taken):
    (case,) = train.cases(TINY)
    assert [row.form.name for row in case.rows] == [
        *("masks of full rank", "masks of rank 2", "plain", "loop"),
    ]
    assert case.rows[0].images == 4
    assert list(case.rows[0].ratios) == ["plain", "loop"]
    rounds = 3  # warm, memory, timed
    assert len(taken) == rounds * 4 * TINY.steps
    full, ranked, plain, looped = (taken[TINY.steps * n].network for n in range(4))
    assert ranked.config.mask_rank == 2
    assert (full.config.mask_rank, full.config.image_size) == (0, 8)
    assert (plain.subnetworks, plain.reconstructor) == (None, None)
    assert isinstance(looped.subnetworks, LoopedSubNetworks)
    assert looped.reconstructor is not None
    assert all(running.number == rounds * TINY.steps for running in taken)


def test_steps_of_pretraining_are_measured_where_the_preset_has_them(taken, monkeypatch):
    short = replace(PRESETS["demo"].train, pretraining=0.3)
    monkeypatch.setitem(PRESETS, "demo", replace(PRESETS["demo"], train=short))
    forms = {form.name: form for form in train.forms(TINY, 8, CPU)}
    assert list(forms) == [
        *("masks of full rank", "masks of rank 2", "pretraining", "plain", "loop"),
    ]
    for form in forms.values():
        form.call()
    alone = [running.number <= running.pretraining for running in taken[:: TINY.steps]]
    assert alone == [False, False, True, False, False]


def test_the_loop_trains_what_full_rank_trains(taken):
    exact = replace(TINY, precision="float32")  # sums in bfloat16 differ in the fourth digit
    full, _, _, looped = train.forms(exact, 8, CPU)
    for form in (full, looped):
        form.call()
    ours, theirs = taken[0], taken[-1]
    theirs.network.load_state_dict(ours.network.state_dict())
    theirs.number = ours.number
    losses = [running.step()[0].total.item() for running in (ours, theirs)]
    assert losses[0] == pytest.approx(losses[1], rel=1e-5)


def test_a_preset_that_is_another_network_comes_as_it_is_too(monkeypatch):
    monkeypatch.setitem(
        PRESETS, "demo", replace(PRESETS["demo"], model=ModelConfig(mask_context=True))
    )
    models = train.models(TINY, 8)
    assert list(models) == ["masks of full rank", "masks of rank 2", "as preset demo"]
    assert models["as preset demo"] == ModelConfig(mask_context=True, image_size=8)
    assert not models["masks of full rank"].mask_context
