import ctypes

import pytest
import torch
from torch import Tensor

from maskatlas.masked_pooling import cpu, masked_pool, reference
from maskatlas.masked_pooling.compilation import compiled
from maskatlas.masked_pooling.reference import Problem


@pytest.fixture(autouse=True)
def _compiler() -> None:
    if compiled(cpu._SOURCE) is None:
        pytest.skip("there is no compiler here, and so no compiled form")


def problem(
    batch: int, attributes: int, channels: int, side: int, dtype: torch.dtype, guides: int | None
) -> Problem:
    features = torch.randn(batch, channels, side, side).to(dtype)
    mask_features = None if guides is None else torch.randn(batch, guides, side, side).to(dtype)
    weight = torch.randn(attributes, channels, guides or channels) / 8
    return Problem(features, mask_features, weight, torch.randn(attributes, channels), 1.0, dtype)


# More rows than a tile holds, more attributes than a chunk, several segments: every border is met.
MANY_TILES = [(5, 35, 48, 20, None), (40, 10, 130, 6, 24), (2, 3, 16, 33, None)]


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("size", MANY_TILES)
def test_across_the_borders_of_tiles_chunks_and_segments(size: tuple, dtype: torch.dtype) -> None:
    asked = problem(*size[:4], dtype, size[4])
    exact = asked._replace(
        features=asked.features.double(),
        mask_features=None if asked.mask_features is None else asked.mask_features.double(),
        dtype=torch.float64,
    )
    tolerance = 1e-5 if dtype == torch.float32 else 1e-2
    arriving = [torch.randn(asked.features.shape[0], *asked.bias.shape) for _ in range(2)]
    wanted = reference.Wanted(True, True, True, True)
    found = (*cpu.pool(asked), *cpu.pool_gradients(asked, *arriving, wanted))
    expected = (*reference.pool(exact), *reference.pool_gradients(exact, *arriving, wanted))
    for a, b in zip(found, expected, strict=True):
        assert (a is None) == (b is None)
        if a is not None:
            assert float((a.double() - b).norm() / b.norm()) < tolerance


def everything(threads: int, dtype: torch.dtype) -> list[Tensor]:
    torch.manual_seed(0)
    asked = problem(4, 11, 40, 20, dtype, None)
    inputs = [tensor.requires_grad_() for tensor in (asked.features, asked.weight, asked.bias)]
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        pooled, mask_mean = masked_pool(*inputs)
        (pooled.square().sum() + mask_mean.square().sum()).backward()
    finally:
        torch.set_num_threads(before)
    return [pooled, mask_mean, *(tensor.grad for tensor in inputs)]


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_the_number_of_threads_changes_no_bit(
    dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch
) -> None:
    alone = everything(1, dtype)
    for threads in (2, 3):
        for one, other in zip(alone, everything(threads, dtype), strict=True):
            assert torch.equal(one, other)
    monkeypatch.setattr(cpu, "_address", lambda _: None)  # its own threads, not those of OpenMP
    for threads in (1, 2, 3):
        for one, other in zip(alone, everything(threads, dtype), strict=True):
            assert torch.equal(one, other)


def test_the_problem_is_described_alike_in_both_languages() -> None:
    library = compiled(cpu._SOURCE)
    assert library is not None
    assert library.masked_pooling_problem_bytes() == ctypes.sizeof(cpu._Problem)


def test_what_it_does_not_do_is_left_to_the_plain_form() -> None:
    asked = problem(2, 3, 4, 5, torch.float32, None)
    assert cpu.suits(asked)
    assert cpu.suits(asked._replace(dtype=torch.bfloat16))
    assert not cpu.suits(asked._replace(dtype=torch.float16))
    assert not cpu.suits(asked._replace(features=asked.features.double(), dtype=torch.float64))
    assert not cpu.suits(asked._replace(features=asked.features[:0]))
    assert not cpu.suits(asked._replace(weight=asked.weight[:0], bias=asked.bias[:0]))
    assert not cpu.suits(asked._replace(features=asked.features.to("meta")))


def test_what_torch_compiles_is_the_plain_form(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.compiler, "is_compiling", lambda: True)
    assert not cpu.suits(problem(2, 3, 4, 5, torch.float32, None))


def test_no_memory_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    class Library:
        @staticmethod
        def masked_pooling_problem_bytes() -> int:
            return ctypes.sizeof(cpu._Problem)

        @staticmethod
        def masked_pooling_forward(_: object) -> int:
            return 1

    monkeypatch.setattr(cpu, "compiled", lambda _: Library)
    with pytest.raises(MemoryError, match="masked_pooling_forward: no memory for 3 attributes"):
        cpu.pool(problem(2, 3, 4, 5, torch.float32, None))
