import copy
import itertools
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from maskatlas import distributed, optimization
from maskatlas.augmentation import augment
from maskatlas.cache import PackedImages
from maskatlas.config import Config, TrainConfig
from maskatlas.errors import ConfigError, TrainingError
from maskatlas.images import Preprocessing
from maskatlas.losses import loss_terms
from maskatlas.model import build_network
from maskatlas.optimization import Optimization, learning_rate
from maskatlas.training_data import open_data
from reference.optimization import AdamW, averaged, clipped, learning_rates
from small_runs import small_config

CPU = torch.device("cpu")


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def packed(config: Config) -> PackedImages:
    return PackedImages(open_data(config).training, Preprocessing(config.model.image_size))


def prepared(config: Config) -> Optimization:
    images = packed(config)
    torch.manual_seed(config.seed)
    return Optimization(config, build_network(config.model, images.data.attributes), images, CPU)


def as_classifier(state: dict[str, torch.Tensor]) -> None:
    """Sub-networks whose masks are one half, and that answer what the classifier does."""
    for name in ("mask_weight", "mask_bias"):
        state[f"subnetworks.{name}"] = torch.zeros_like(state[f"subnetworks.{name}"])
    state["subnetworks.weight"] = state["classifier.weight"] / 1.5
    state["subnetworks.bias"] = state["classifier.bias"]


@given(
    total=st.integers(1, 300),
    warmup=st.floats(0, 1),
    peak=st.floats(1e-6, 10),
)
def test_the_learning_rate_rises_and_falls_as_its_twin(
    total: int, warmup: float, peak: float
) -> None:
    config = TrainConfig(learning_rate=peak, warmup=warmup)
    rates = [learning_rate(step, total, config) for step in range(total)]
    assert rates == pytest.approx(learning_rates(total, peak, warmup), rel=1e-9, abs=1e-12)
    assert max(rates) == pytest.approx(peak)
    assert min(rates) > 0


@pytest.mark.parametrize("alone", [0, 2])
def test_steps_are_those_of_the_plain_twin(alone: int) -> None:
    config = small_config(
        batch=8,
        epochs=1,
        precision="float64",
        pretraining=alone / 10 + 0.01,
        clip=0.5,
        weight_decay=0.3,
        ema=0.15,
        warmup=0.3,
        joining_rate=3.0,
    )
    ours = prepared(config)
    assert ours.pretraining == alone
    network, average = copy.deepcopy(ours.network), copy.deepcopy(ours.averaged).state_dict()
    twins = {
        name: AdamW(0.3 if parameter.ndim > 1 else 0.0)
        for name, parameter in network.named_parameters()
    }
    rates = learning_rates(ours.total, config.train.learning_rate, 0.3)
    times = 3.0 if alone else 1.0
    later = learning_rates(ours.total - alone, times * config.train.learning_rate, 0.3)
    images, norms = ours.images, []
    for number in range(4):
        indices = ours._indices()
        ours.step()
        batch = images.batch(indices)
        pixels = augment(
            batch.images, seed=0, step=number, batch=8, part=slice(0, 8), flip=True, shift=1
        )
        shown = pixels.double() / 255
        told, weights = network(shown), config.loss
        if number < alone:
            told = told._replace(logits=None, mask_mean=None, reconstruction=None)
            weights = replace(weights, multilabel=weights.binary + weights.multilabel)
        loss = loss_terms(told, shown, batch.labels.double(), weights).total
        learning = {
            name: parameter
            for name, parameter in network.named_parameters()
            if number >= alone or name.startswith(("extractor.", "classifier."))
        }
        gradients = torch.autograd.grad(loss, list(learning.values()))
        norms.append(torch.cat([g.flatten() for g in gradients]).norm())
        few = clipped(gradients, 0.5)
        with torch.no_grad():
            for (name, parameter), gradient in zip(learning.items(), few, strict=True):
                late = name.startswith(("subnetworks.", "reconstructor."))
                rate = later[number - alone] if late else rates[number]
                parameter.copy_(twins[name].updated(parameter, gradient, rate))
        state = {name: tensor.clone() for name, tensor in network.state_dict().items()}
        for name in state:
            late = alone if name.startswith(("subnetworks.mask_", "reconstructor.")) else 0
            since = max(0, number - late)
            average[name] = averaged(average[name], state[name], since, 0.15)
        if number < alone:
            as_classifier(state)
            as_classifier(average)
            network.load_state_dict(state)
    assert min(norms) > 0.5  # the gradient was clipped
    torch.testing.assert_close(ours.network.state_dict(), state, rtol=1e-9, atol=1e-11)
    torch.testing.assert_close(ours.averaged.state_dict(), dict(average), rtol=1e-9, atol=1e-11)


def test_every_epoch_shows_each_image_once_in_an_order_of_its_own() -> None:
    ours = prepared(small_config(batch=20))
    epochs = []
    for _ in range(2):
        shown = []
        for _ in range(ours.steps_per_epoch):
            shown += ours._indices().tolist()
            ours.number += 1
        assert sorted(shown) == list(range(80))
        epochs.append(shown)
    assert epochs[0] != epochs[1]


def test_the_rest_of_an_epoch_that_fills_no_batch_is_left_out() -> None:
    ours = prepared(small_config(batch=30))
    assert (ours.steps_per_epoch, ours.total) == (2, 6)


def test_fewer_images_than_a_batch_are_one_batch() -> None:
    ours = prepared(small_config(batch=1000))
    assert (ours.batch_size, ours.steps_per_epoch) == (80, 1)
    ours.step()


def test_without_an_average_the_network_is_its_own() -> None:
    ours = prepared(small_config(ema=0.0))
    assert ours.averaged is ours.network
    ours.step()


def test_in_pretraining_the_sub_networks_answer_as_the_classifier() -> None:
    config = small_config(pretraining=0.5)
    ours = prepared(replace(config, loss=replace(config.loss, binary=0.7, multilabel=0.1)))
    before = {name: p.detach().clone() for name, p in ours.network.named_parameters()}
    terms, output = ours.step()
    assert output.logits is output.mask_mean is output.reconstruction is None
    assert terms.total == (0.7 + 0.1) * terms.multilabel
    shown = torch.rand(4, 3, 16, 16)
    for network in (ours.network.eval(), ours.averaged):
        told = network(shown)
        torch.testing.assert_close(told.logits, told.multilabel_logits)
    now = dict(ours.network.named_parameters())
    assert torch.equal(
        now["reconstructor.layers.0.weight"], before["reconstructor.layers.0.weight"]
    )
    for _ in range(ours.pretraining):
        ours.step()
    assert ours.number == ours.pretraining + 1
    assert all(p.grad is not None for p in ours.network.parameters())
    told = ours.averaged(shown)
    assert not torch.allclose(told.logits, told.multilabel_logits, atol=1e-5)


@pytest.mark.parametrize("parts", [{"multilabel": False}, {"subnetworks": False}])
def test_a_network_with_one_kind_of_head_has_no_pretraining(parts: dict[str, bool]) -> None:
    config = small_config(pretraining=0.5)
    assert prepared(replace(config, model=replace(config.model, **parts))).pretraining == 0


def test_where_the_classifier_learns_nothing_there_is_no_pretraining() -> None:
    config = small_config(pretraining=0.5)
    assert prepared(config).pretraining == 7
    assert prepared(replace(config, loss=replace(config.loss, multilabel=0.0))).pretraining == 0


@pytest.mark.parametrize("pretraining", [0.0, 0.2])
def test_what_was_frozen_stays_so(pretraining: float) -> None:
    config = small_config(pretraining=pretraining)
    images = packed(config)
    network = build_network(config.model, images.data.attributes)
    network.subnetworks.weight.requires_grad_(False)
    ours = Optimization(config, network, images, CPU)
    for _ in range(ours.pretraining + 1):
        ours.step()
    frozen = [name for name, p in network.named_parameters() if not p.requires_grad]
    assert frozen == ["subnetworks.weight"]


@pytest.mark.parametrize("ema", [0.0, 0.9])
def test_no_answer_jumps_when_the_sub_networks_join(ema: float) -> None:
    config = small_config(pretraining=0.5, ema=ema, learning_rate=1e-3)
    config = replace(config, model=replace(config.model, mask_rank=4, mask_context=True))
    ours, shown = prepared(config), torch.rand(8, 3, 16, 16)

    def told() -> torch.Tensor:
        with torch.no_grad():
            return ours.averaged.eval()(shown).logits

    answers = []
    for _ in range(ours.pretraining + 3):
        ours.step()
        answers.append(told())
    moves = [(b - a).abs().mean() for a, b in itertools.pairwise(answers)]
    before, joining = moves[ours.pretraining - 4 : ours.pretraining - 1], moves[-3:]
    assert max(joining) < 2 * max(before)


@pytest.mark.parametrize("alone", [0, 2, 3, 5])
def test_restored_it_goes_on_to_the_very_same_weights(alone: int) -> None:
    config = small_config(pretraining=alone / 15 + 0.01)
    ours, theirs = prepared(config), prepared(config)
    for _ in range(3):
        ours.step()
    state = {name: tensor.clone() for name, tensor in ours.tensors().items()}
    # as if read from a file: one after another in memory, whatever the network's layout
    state = {name: tensor.contiguous() for name, tensor in state.items()}
    theirs.restore(state, 3)
    for _ in range(3):
        ours.step()
        theirs.step()
    found = theirs.tensors()
    assert found.keys() == ours.tensors().keys()
    assert all(torch.equal(tensor, found[name]) for name, tensor in ours.tensors().items())


def test_a_state_from_before_the_first_step_has_no_moments_and_can_be_restored() -> None:
    config = small_config()
    ours, theirs = prepared(config), prepared(replace(config, seed=1))
    assert not any(name.startswith("optimizer.") for name in ours.tensors())
    theirs.restore({name: tensor.clone() for name, tensor in ours.tensors().items()}, 0)
    assert all(
        torch.equal(tensor, theirs.tensors()[name]) for name, tensor in ours.tensors().items()
    )


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (float("nan"), "step 1: the loss is nan, expected a finite number; the batch was face-"),
        (float("-inf"), "step 1: the loss is -inf"),
    ],
)
def test_a_loss_that_is_not_finite_changes_no_weight(
    monkeypatch: pytest.MonkeyPatch, value: float, message: str
) -> None:
    ours = prepared(small_config(batch=4))
    ours.step()
    before = {name: p.detach().clone() for name, p in ours.network.named_parameters()}
    monkeypatch.setattr(
        optimization,
        "loss_terms",
        lambda *args, **loss: (terms := loss_terms(*args, **loss))._replace(
            total=terms.total + value
        ),
    )
    names = [ours.images.data.names[index] for index in ours._indices().tolist()]
    with pytest.raises(TrainingError) as caught:
        ours.step()
    assert message in str(caught.value)
    assert ", ".join(names) in str(caught.value)
    assert all(torch.equal(p, before[name]) for name, p in ours.network.named_parameters())
    assert ours.number == 1


def test_a_batch_of_many_images_is_named_in_part(monkeypatch: pytest.MonkeyPatch) -> None:
    ours = prepared(small_config(batch=80))
    monkeypatch.setattr(
        optimization,
        "loss_terms",
        lambda *args, **loss: (terms := loss_terms(*args, **loss))._replace(
            total=terms.total * torch.nan
        ),
    )
    with pytest.raises(TrainingError) as caught:
        ours.step()
    assert str(caught.value).count("face-") == optimization.MOST_NAMES
    assert ", .... The last good" in str(caught.value)


def test_a_batch_that_cannot_be_shared_evenly_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(distributed, "world_size", lambda: 3)
    with pytest.raises(ConfigError, match=r"train.batch_size: 16 images .* a multiple of 3"):
        prepared(small_config(batch=16))


def test_what_has_one_dimension_does_not_decay() -> None:
    ours = prepared(small_config())
    groups = ours.optimizer.param_groups
    assert {group["weight_decay"] for group in groups} == {0.05, 0.0}
    names: dict[Any, str] = {p: name for name, p in ours.network.named_parameters()}
    others = [names[p] for group in groups if not group["weight_decay"] for p in group["params"]]
    assert {name.rsplit(".", 1)[-1] for name in others} == {"weight", "bias"}
    assert all("extractor" in name or "bias" in name for name in others)
    assert sum(len(group["params"]) for group in groups) == len(names)
