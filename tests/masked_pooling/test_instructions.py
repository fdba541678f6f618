"""The C code as each processor compiles it: what one lacks is taken from this one."""

import ctypes
import subprocess

import pytest
import torch
from torch import Tensor

from maskatlas.masked_pooling import compilation, cpu, reference
from maskatlas.masked_pooling.reference import Head, Problem

# What the one before has and this one lacks; on other processors all are the same code.
WITHOUT = {
    "all that there is": None,
    "no matrix unit": "-mno-amx-bf16",
    "no products of bfloat16": "-mno-avx512bf16",
    "no AVX-512": "-mno-avx512f",
    "no AVX": "-mno-avx",
}
# (images, attributes, channels, side, guides): less than a block, whole blocks, every border.
SIZES = [
    (1, 1, 1, 1, None),
    (2, 9, 64, 8, 32),
    (3, 11, 34, 7, None),
    (40, 3, 70, 6, 24),
    (2, 2, 40, 33, None),
]


@pytest.fixture(scope="module", params=WITHOUT)
def library(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> ctypes.CDLL:
    flag = WITHOUT[request.param]
    with pytest.MonkeyPatch.context() as patch:
        if flag is not None:
            patch.setattr(compilation, "_TUNED", (("-march=native", flag),))
        try:
            found = compilation._compile(
                compilation._compiler(), cpu._SOURCE, tmp_path_factory.mktemp("kernel")
            )
        except (compilation.CannotCompileError, OSError, subprocess.SubprocessError) as error:
            pytest.skip(f"nothing to compile it here: {error}")
    return ctypes.CDLL(str(found))


@pytest.fixture(autouse=True)
def _chosen(library: ctypes.CDLL, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cpu, "compiled", lambda _: library)


def problem(size: tuple, dtype: torch.dtype) -> Problem:
    batch, attributes, channels, side, guides = size
    features = torch.randn(batch, channels, side, side).to(dtype)
    mask_features = None if guides is None else torch.randn(batch, guides, side, side).to(dtype)
    weight = torch.randn(attributes, channels, guides or channels) / 8
    return Problem(features, mask_features, weight, torch.randn(attributes, channels), 1.0, dtype)


def exactly(asked: Problem) -> Problem:
    return asked._replace(
        features=asked.features.double(),
        mask_features=None if asked.mask_features is None else asked.mask_features.double(),
        weight=asked.weight.double(),
        bias=asked.bias.double(),
        dtype=torch.float64,
    )


def assert_near(found: tuple, expected: tuple, dtype: torch.dtype) -> None:
    tolerance = 1e-5 if dtype == torch.float32 else 1e-2
    for a, b in zip(found, expected, strict=True):
        assert (a is None) == (b is None)
        if a is not None:
            assert float((a.double() - b).norm()) <= tolerance * max(float(b.norm()), 1e-3)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("size", SIZES)
def test_forward_and_backward(size: tuple, dtype: torch.dtype) -> None:
    asked = problem(size, dtype)
    arriving = [torch.randn(size[:3]) for _ in range(2)]
    wanted = reference.Wanted(True, True, True, True)
    found = (*cpu.pool(asked), *cpu.pool_gradients(asked, *arriving, wanted))
    exact = exactly(asked)
    doubled = [tensor.double() for tensor in arriving]
    expected = (*reference.pool(exact), *reference.pool_gradients(exact, *doubled, wanted))
    assert_near(found, expected, dtype)


def by_autograd(asked: Problem, head: Head) -> tuple[Tensor, ...]:
    """Loss, logits and gradients of what `loss_and_gradients` fuses, from plain torch."""
    exact = exactly(asked)
    inputs = [exact.features, exact.weight, exact.bias, head.weight.double(), head.bias.double()]
    guides = exact.features if exact.mask_features is None else exact.mask_features
    if exact.mask_features is not None:
        inputs.append(guides)
    for tensor in inputs:
        tensor.requires_grad_()
    masks = torch.einsum("kcg,nghw->nkchw", inputs[1], guides) + inputs[2][..., None, None]
    masks = masks.sigmoid()
    pooled = ((1 + masks) * inputs[0][:, None]).mean((-2, -1))
    logits = torch.einsum("nkc,kc->nk", pooled, inputs[3]) + inputs[4]
    labels = head.labels.double()
    entropy = torch.nn.functional.binary_cross_entropy_with_logits
    loss = head.binary * entropy(logits, labels, reduction="sum")
    loss = loss + head.mask_l1 * masks.mean((-2, -1)).sum()
    loss = loss + head.contribution_l1 * (pooled * inputs[3]).abs().sum()
    loss.backward()
    return (loss.detach(), logits.detach(), *(tensor.grad for tensor in inputs))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("size", SIZES)
def test_loss_and_gradient_at_once(size: tuple, dtype: torch.dtype) -> None:
    asked = problem(size, dtype)
    batch, attributes, channels = size[:3]
    labels = torch.randint(0, 2, (batch, attributes)).float()
    head = Head(torch.randn(attributes, channels), torch.randn(attributes), labels, 0.5, 1e-3, 1e-3)
    found = cpu.loss_and_gradients(asked, head)
    ours = [found.loss, found.logits, found.gradients.features, found.gradients.weight]
    ours += [found.gradients.bias, found.of_head_weight, found.of_head_bias]
    if asked.mask_features is not None:
        ours.append(found.gradients.mask_features)
    assert_near(tuple(ours), by_autograd(asked, head), dtype)


def test_between_products_of_torch_neither_disturbs_the_other() -> None:
    """Both use the matrix unit of the same threads, each with shapes of its own."""
    asked = problem((4, 5, 64, 8, None), torch.bfloat16)
    left, right = torch.randn(2, 96, 80).bfloat16()
    first, product = cpu.pool(asked), left @ right.T
    for _ in range(3):
        again = cpu.pool(asked)
        assert torch.equal(left @ right.T, product)
        for a, b in zip(first, again, strict=True):
            assert torch.equal(a, b)
