from dataclasses import replace

import pytest
import torch
from torch._dynamo.exc import TorchDynamoException

from maskatlas.bench import heads
from maskatlas.bench.settings import Heads
from maskatlas.masked_pooling import masked_loss
from reference.masked_pooling import masked_loss as slow_loss

CPU = torch.device("cpu")
TINY = Heads(
    batch=3, attributes=(2, 5), channels=6, sizes=(4,), repeats=2, compile=False, device="cpu"
)
ALONE = "three products alone"
OURS = ["masked_loss", "masked_pool", "masked_pool in plain torch"]


@pytest.mark.parametrize("rank", [0, 3])
@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_every_form_is_measured_at_every_size_and_agrees(precision, rank):
    settings = Heads(
        batch=3, attributes=(2, 5), channels=6, sizes=(4,), repeats=2, compile=False,
        device="cpu", precision=precision, mask_rank=rank,
    )  # fmt: skip
    found = list(heads.cases(settings))
    assert [case.facts["attributes"] for case in found] == [2, 5]
    for case in found:
        assert [row.form.name for row in case.rows] == [*OURS, ALONE, "loop", "convolution"]
        for row in case.rows:
            assert len(row.timing.seconds) == 2
            if row.form.name == ALONE:
                continue
            assert len(row.form.errors) == (6 if rank else 5)
            assert 0 < max(row.form.errors.values()) < (1e-5 if precision == "float32" else 0.03)
        assert all(row.agrees for row in case.rows[:3])
        assert set(case.rows[0].ratios) == {"loop", "convolution"}


@pytest.mark.parametrize("rank", [0, 3])
def test_the_truth_has_the_gradients_of_the_loss(rank):
    settings = Heads(batch=3, channels=6, mask_rank=rank)
    inputs = heads.draw(settings, 20, 3, 4, CPU)  # more than are computed at a time
    truth = heads.in_float64(inputs)
    wide = heads.Inputs(*(None if x is None else x.detach().double() for x in inputs))
    for leaf in wide.leaves:
        leaf.requires_grad_()
    loss, _, pooled, mask_mean = slow_loss(
        *(wide.features, wide.weight, wide.bias, wide.head_weight, wide.head_bias),
        *(wide.labels, wide.mask_features),
        mask_l1=heads._MASK_L1,
    )
    expected = (pooled, mask_mean, *torch.autograd.grad(loss, wide.leaves))
    torch.testing.assert_close(truth.results, expected)


@pytest.mark.parametrize("rank", [0, 24])
def test_the_products_alone_are_as_many_as_the_three(rank, monkeypatch):
    counted = []
    monkeypatch.setattr(torch, "mm", lambda a, b, out: counted.append(2 * a.numel() * b.shape[1]))
    settings = Heads(batch=8, channels=128, mask_rank=rank)
    heads._products(heads.draw(settings, 20, 8, 8, CPU))()
    expected = 3 * 2 * (8 * 8 * 8) * 20 * 128 * (rank or 128)
    assert sum(counted) == pytest.approx(expected, rel=2e-3)


def test_features_are_the_same_in_both_precisions():
    inputs = heads.draw(TINY, 2, 3, 4, CPU)
    assert torch.equal(inputs.features, inputs.with_maps_for("bfloat16").features.float())
    again = heads.draw(TINY, 2, 3, 4, CPU)
    assert all(torch.equal(a, b) for a, b in zip(inputs.leaves, again.leaves, strict=True))


def test_a_form_of_ours_that_is_wrong_is_noticed(monkeypatch):
    def wrong(*arguments, mask_l1):
        return masked_loss(*arguments, mask_l1=1.01 * mask_l1)

    monkeypatch.setattr(heads, "masked_loss", wrong)
    case = next(heads.cases(replace(TINY, precision="float32")))
    assert [row.agrees for row in case.rows] == [False, True, True, None, None, None]
    assert "differs by more than 1e-05" in case.text()


def test_what_does_not_fit_into_memory_is_not_run(monkeypatch):
    monkeypatch.setattr(heads, "available_bytes", lambda _: 1000)
    case = next(heads.cases(TINY))
    assert [row.timing is None for row in case.rows] == [False] * 4 + [True] * 2
    assert case.rows[5].form.note.startswith("not run: needs about 0.0 GiB")
    assert case.rows[0].ratios == {}


def test_the_convolution_is_compiled_for_each_size(monkeypatch):
    compiled = []

    def compile_(form, *, dynamic):
        compiled.append(dynamic)
        return form

    monkeypatch.setattr(torch, "compile", compile_)
    settings = Heads(batch=2, attributes=(2, 3), channels=4, sizes=(2,), repeats=1, device="cpu")
    for case in heads.cases(settings):
        assert case.rows[-1].form.name == "compiled convolution"
        assert "compiled convolution" in case.rows[0].ratios
    assert compiled == [False] * len(heads.precisions(settings, CPU)) * 2


def test_without_a_working_compiler_the_row_says_so(monkeypatch):
    def failing(*_):
        raise TorchDynamoException("no compiler\nand a long trace")

    monkeypatch.setattr(torch, "compile", lambda form, dynamic: failing)
    inputs = heads.draw(TINY, 2, 3, 4, CPU)
    *_, last = heads.forms(inputs, heads.in_float64(inputs), "float32", compiled=True)
    assert (last.call, last.note) == (None, "does not compile: no compiler")
