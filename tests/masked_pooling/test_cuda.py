"""On a GPU, the kernels run there; elsewhere Triton's interpreter runs them, program by program."""

import json
import os
import re
import struct
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from maskatlas.masked_pooling import cuda
from maskatlas.masked_pooling.reference import Problem, Wanted
from reference.masked_pooling import masked_pool as slow_masked_pool

if not torch.cuda.is_available():
    with pytest.MonkeyPatch.context() as patch:  # asked for when Triton is first imported
        patch.setenv("TRITON_INTERPRET", "1")
        pytest.importorskip("triton", reason="there is no Triton here")
        cuda._kernels()

SHARED_MEMORY = 99 << 10  # of a program, on the GPUs that have least
TOLERANCE = {torch.float32: 1e-5, torch.bfloat16: 1e-2, torch.float16: 2e-3}
ALL = Wanted(features=True, mask_features=True, weight=True, bias=True)


@pytest.fixture(autouse=True, scope="module")
def device() -> Iterator[str]:
    """Where the kernels run; in the interpreter, with what it lacks."""
    if torch.cuda.is_available():
        yield "cuda"
        return
    interpreter = pytest.importorskip("triton.runtime.interpreter")
    assert isinstance(cuda._kernels().sums, interpreter.InterpretedFunction)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TRITON_INTERPRET", "1")
        patch.setattr(interpreter.InterpreterBuilder, "create_dot", _product)
        patch.setattr(interpreter.InterpreterBuilder, "create_inline_asm", _ptx)
        yield "cpu"


def _product(_: object, a: Any, b: Any, start: Any, *_options: object) -> Any:
    """The interpreter's own takes bfloat16, which it holds in integers, for integers."""

    def wide(operand: Any) -> np.ndarray:
        if str(operand.dtype.scalar) == "bf16":
            return (operand.data.astype(np.uint32) << 16).view(np.float32)
        return operand.data.astype(np.float32)

    return type(start)(wide(a) @ wide(b) + start.data, start.dtype.scalar)


def _ptx(_: object, code: str, constraints: str, values: list[Any], *_types: object) -> Any:
    """Instructions of one target and one or two sources, on float32."""
    known = {"ex2": np.exp2, "add": np.add, "rcp": np.reciprocal}
    assert constraints == "=f,f"
    registers = {"$1": values[0].data}
    for name, target, sources in re.findall(r"(\w+)[.\w]*\.f32 (\S+), (.*);", code):
        operands = [_operand(source, registers) for source in sources.split(", ")]
        with np.errstate(over="ignore"):
            registers[target] = known[name](*operands)
    result = type(values[0])(registers["$0"], values[0].dtype.scalar)
    return SimpleNamespace(get_result=lambda _: result)


def _operand(text: str, registers: dict[str, np.ndarray]) -> np.ndarray:
    if text.startswith("0f"):
        return np.float32(struct.unpack(">f", bytes.fromhex(text[2:]))[0])
    return registers[text]


def draw(
    device: str,
    batch: int,
    attributes: int,
    channels: int,
    size: tuple[int, int],
    guides: int | None = None,
    dtype: torch.dtype = torch.float32,
    offset: float = 1.0,
) -> Problem:
    features = torch.randn(batch, channels, *size).relu().to(device, dtype)
    weight = torch.randn(attributes, channels, guides or channels) * (guides or channels) ** -0.5
    return Problem(
        features,
        None if guides is None else torch.randn(batch, guides, *size).to(device, dtype),
        weight.to(device),
        0.5 * torch.randn(attributes, channels, device=device),
        offset,
        dtype,
    )


def arriving(problem: Problem) -> tuple[Tensor, Tensor]:
    shape = (len(problem.features), *problem.bias.shape)
    return torch.randn(shape).to(problem.bias.device), torch.randn(shape).to(problem.bias.device)


def assert_like_the_slow_twin(problem: Problem) -> None:
    given = [problem.features, problem.weight, problem.bias, problem.mask_features]
    exact = [x.detach().double().requires_grad_() for x in given if x is not None]
    expected = slow_masked_pool(*exact, offset=problem.offset)
    gradients = arriving(problem)
    torch.autograd.backward(expected, [gradient.double() for gradient in gradients])
    found = [*cuda.pool(problem), *cuda.pool_gradients(problem, *gradients, ALL)]
    features, weight, bias, *guides = (x.grad for x in exact)
    expected = [*expected, features, *(guides or [None]), weight, bias]
    names = ("pooled", "mask_mean", "of features", "of mask_features", "of weight", "of bias")
    types = [torch.float32] * 2 + [None if x is None else x.dtype for x in problem[:4]]
    for name, dtype, one, other in zip(names, types, found, expected, strict=True):
        if other is None:
            assert one is None
            continue
        assert (one.dtype, one.shape) == (dtype, other.shape)
        distance = torch.dist(one.double(), other) / other.norm().clamp_min(1e-30)
        assert distance < TOLERANCE[problem.dtype], name


SIZES = [
    (2, 4, 8, (3, 5), None),
    (3, 5, 16, (8, 8), None),
    (1, 1, 33, (7, 1), None),
    (5, 2, 17, (1, 1), 6),
    (2, 3, 6, (4, 4), 21),
    (1, 1, 130, (2, 70), None),
    (1, 2, 72, (12, 11), 150),
]


@pytest.mark.parametrize("dtype", TOLERANCE)
@pytest.mark.parametrize("size", SIZES)
def test_results_and_gradients_equal_the_slow_twin(
    device: str, size: tuple, dtype: torch.dtype
) -> None:
    assert_like_the_slow_twin(draw(device, *size, dtype=dtype))


@settings(max_examples=8, deadline=None)
@given(
    st.integers(1, 3),
    st.integers(1, 3),
    st.integers(4, 40),
    st.tuples(st.integers(1, 7), st.integers(1, 7)),
    st.none() | st.integers(4, 40),
    st.sampled_from([0.0, 0.4, 1.0]),
    st.sampled_from(list(TOLERANCE)),
)
def test_any_size_and_offset(
    device: str,
    batch: int,
    attributes: int,
    channels: int,
    size: tuple[int, int],
    guides: int | None,
    offset: float,
    dtype: torch.dtype,
) -> None:
    problem = draw(device, batch, attributes, channels, size, guides, dtype, offset)
    assert_like_the_slow_twin(problem)


@pytest.mark.parametrize("guides", [None, 9, 36])
def test_many_tiles_of_every_axis(
    device: str, guides: int | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    small = cuda.Tiling(16, 16, 16, num_warps=4, num_stages=2, resident=1)
    for kernel in cuda.TILINGS:
        monkeypatch.setitem(cuda.TILINGS[kernel], (4, False), small)
    assert_like_the_slow_twin(draw(device, 2, 2, 20, (3, 7), guides, offset=0.3))


def test_images_and_attributes_are_shared_among_programs(
    device: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cuda, "_processors", lambda _: 3)
    problem = draw(device, 5, 3, 4, (2, 2))
    assert cuda._share(5, 3, cuda._programs("weight_gradients", problem)) == 2  # the last has one
    assert cuda._share(3, 5, cuda._programs("sums", problem)) == 2
    assert_like_the_slow_twin(problem)


def test_any_memory_layout(device: str) -> None:
    problem = draw(device, 3, 2, 12, (6, 5), 9)
    assert problem.mask_features is not None
    last = problem.features.contiguous(memory_format=torch.channels_last)
    turned = problem.mask_features.mT.contiguous().mT
    weight, bias = problem.weight.mT.contiguous().mT, problem.bias.T.contiguous().T
    assert_like_the_slow_twin(problem._replace(features=last, mask_features=turned))
    fewer = problem._replace(weight=weight[:, :9], bias=bias[:, :9])
    assert_like_the_slow_twin(fewer._replace(features=turned, mask_features=None))
    every_second = torch.randn(3, 24, 6, 10, device=device)[:, ::2, :, ::2]
    same_for_all = problem.mask_features[:1].expand(3, -1, -1, -1)
    assert_like_the_slow_twin(problem._replace(features=every_second, mask_features=same_for_all))


def test_the_type_of_products_may_be_another_than_that_of_maps(device: str) -> None:
    assert_like_the_slow_twin(draw(device, 2, 3, 16, (4, 4), 9)._replace(dtype=torch.bfloat16))


@pytest.mark.parametrize("guides", [None, 6])
def test_only_what_is_asked_for_is_computed(device: str, guides: int | None) -> None:
    problem = draw(device, 2, 3, 8, (4, 4), guides)
    gradients = arriving(problem)
    everything = cuda.pool_gradients(problem, *gradients, ALL)
    for number in range(4):
        wanted = Wanted(*(number == other for other in range(4)))
        found = cuda.pool_gradients(problem, *gradients, wanted)
        for asked, one, other in zip(wanted, found, everything, strict=True):
            if asked and other is not None:
                assert torch.equal(one, other)
            else:
                assert one is None


def test_the_same_call_gives_the_same_bits(device: str) -> None:
    problem = draw(device, 3, 3, 40, (5, 4), dtype=torch.bfloat16)
    gradients = arriving(problem)
    one, other = (
        [*cuda.pool(problem), *cuda.pool_gradients(problem, *gradients, ALL)] for _ in range(2)
    )
    assert all(a is b is None or torch.equal(a, b) for a, b in zip(one, other, strict=True))


def test_far_ends_of_the_sigmoid_are_0_and_1(device: str) -> None:
    problem = draw(device, 1, 2, 4, (3, 3))
    problem = problem._replace(bias=torch.tensor([[-1e4] * 4, [1e4] * 4], device=device))
    mask_mean = cuda.pool(problem)[1]
    assert torch.equal(mask_mean[:, 0], torch.zeros_like(mask_mean[:, 0]))
    torch.testing.assert_close(mask_mean[:, 1], torch.ones_like(mask_mean[:, 1]))
    found = cuda.pool_gradients(problem, *arriving(problem), ALL)
    assert not found.weight.any()
    assert not found.bias.any()


def test_a_small_mask_keeps_its_digits(device: str) -> None:
    problem = draw(device, 1, 1, 4, (2, 2))
    bias = torch.full((1, 4), -12.0, device=device)
    mask_mean = cuda.pool(problem._replace(weight=0 * problem.weight, bias=bias))[1]
    torch.testing.assert_close(mask_mean[0], bias.sigmoid(), rtol=1e-5, atol=0)


def test_what_is_not_finite_stays_so(device: str) -> None:
    problem = draw(device, 2, 3, 8, (4, 4))
    problem.features[1, 2, 3, 3] = float("nan")
    pooled = cuda.pool(problem)[0]
    assert pooled[1].isnan().all()
    assert pooled[0].isfinite().all()


def test_what_it_does_not_do_is_left_to_other_forms(monkeypatch: pytest.MonkeyPatch) -> None:
    capability = (9, 0)
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda _: capability)
    here = draw("cpu", 2, 3, 4, (5, 5))
    on_gpu = _on_a_gpu(here)
    assert cuda.suits(on_gpu)
    assert cuda.suits(on_gpu._replace(dtype=torch.bfloat16))
    assert not cuda.suits(here)
    assert not cuda.suits(on_gpu._replace(dtype=torch.float64))
    assert not cuda.suits(on_gpu._replace(bias=here.bias))
    assert not cuda.suits(_on_a_gpu(draw("cpu", 0, 3, 4, (5, 5))))
    assert not cuda.suits(_on_a_gpu(draw("cpu", 2, 0, 4, (5, 5))))
    with monkeypatch.context() as patch:
        patch.setattr(torch.compiler, "is_compiling", lambda: True)
        assert not cuda.suits(on_gpu)
    with monkeypatch.context() as patch:
        patch.setattr(cuda, "_triton_is_here", lambda: False)
        assert not cuda.suits(on_gpu)
    capability = (7, 5)
    assert not cuda.suits(on_gpu)


def _on_a_gpu(problem: Problem) -> Problem:
    """The problem as it would look there, without what it holds."""
    from torch._subclasses.fake_tensor import FakeTensorMode

    with FakeTensorMode():
        maps, _, weight, bias = (
            None if x is None else torch.empty(x.shape, device="cuda") for x in problem[:4]
        )
    return problem._replace(features=maps, weight=weight, bias=bias)


def test_triton_is_imported_only_when_it_is_needed() -> None:
    code = "import sys, maskatlas.masked_pooling.cuda; print('triton' in sys.modules)"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "False"


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="there is no Triton for this system")
def test_the_kernels_compile_for_hopper_and_fit_into_shared_memory(tmp_path: Path) -> None:
    pytest.importorskip("triton")
    found = subprocess.run(
        [sys.executable, Path(__file__).parents[1] / "triton_compilation.py", "90"],
        env={**os.environ, "TRITON_INTERPRET": "0", "TRITON_CACHE_DIR": str(tmp_path)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert found.returncode == 0, found.stderr
    compiled = [json.loads(line) for line in found.stdout.splitlines()]
    assert {each["kernel"] for each in compiled} == set(cuda.TILINGS)
    assert all(each["shared"] <= SHARED_MEMORY for each in compiled), compiled
