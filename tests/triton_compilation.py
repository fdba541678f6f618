"""Compile the Triton kernels as they are called, for a GPU that need not be there.

Run as a program with a compute capability, times ten: writes a line of JSON for each kernel, with
its name, the type of its products, how many mask features it has, and the bytes of shared memory
that a program needs.
"""

import json
import sys
from collections.abc import Callable
from typing import Any
from unittest.mock import patch

import torch
import triton
from torch import Tensor
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource

from maskatlas.masked_pooling import cuda, triton_kernels
from maskatlas.masked_pooling.reference import Problem, Wanted

TYPES = {torch.float32: "*fp32", torch.bfloat16: "*bf16"}
CASES = ((torch.bfloat16, 128), (torch.bfloat16, 256), (torch.float32, 128))
"""Type of the products, and channels."""


class Compiler:
    """Stands where the module of kernels stands; what is called is compiled."""

    def __init__(self, target: GPUTarget) -> None:
        self.target = target
        self.shared: dict[str, int] = {}

    def __getattr__(self, name: str) -> "_AnyGrid":
        return _AnyGrid(lambda *args, **options: self._compile(name, args, options))

    def _compile(self, name: str, args: tuple[Any, ...], options: dict[str, Any]) -> None:
        kernel = getattr(triton_kernels, name)
        constants = {key: options.pop(key) for key in kernel.arg_names if key in options}
        signature: dict[str, str] = {}
        aligned = {}
        for number, (key, value) in enumerate(zip(kernel.arg_names, args, strict=False)):
            signature[key] = _type(value)
            if isinstance(value, int) and value == 1:
                signature[key], constants[key] = "constexpr", 1
            elif isinstance(value, Tensor) or (isinstance(value, int) and value % 16 == 0):
                aligned[(number,)] = [["tt.divisibility", 16]]
        signature |= dict.fromkeys(constants, "constexpr")
        paths = {(kernel.arg_names.index(key),): value for key, value in constants.items()}
        ordered = {key: signature[key] for key in kernel.arg_names}
        source = ASTSource(kernel, ordered, paths, aligned)
        made = triton.compile(source, target=self.target, options=options)
        self.shared[name] = made.metadata.shared


class _AnyGrid:
    def __init__(self, call: Callable[..., None]) -> None:
        self.call = call

    def __getitem__(self, _: tuple[int, ...]) -> Callable[..., None]:
        return self.call


def _type(value: object) -> str:
    if isinstance(value, Tensor):
        return TYPES[value.dtype]
    return "fp32" if isinstance(value, float) else "i32"


def main(capability: int) -> None:
    for dtype, channels in CASES:
        features = torch.zeros(1, channels, 16, 16, dtype=dtype)
        weight = torch.zeros(2, channels, channels)
        problem = Problem(features, None, weight, torch.zeros(2, channels), 1.0, dtype)
        compiler = Compiler(GPUTarget("cuda", capability, 32))
        with patch.object(cuda, "_kernels", lambda compiler=compiler: compiler):
            results = cuda.pool(problem)
            cuda.pool_gradients(problem, *results, Wanted(True, True, True, True))
        for name, shared in compiler.shared.items():
            found = {"kernel": name, "type": str(dtype), "guides": channels, "shared": shared}
            sys.stdout.write(f"{json.dumps(found)}\n")


if __name__ == "__main__":
    main(int(sys.argv[1]))
