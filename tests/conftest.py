"""Shapes and types are checked while the tests run; real data is found, or its tests skip."""

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path

from jaxtyping import install_import_hook

_hook = install_import_hook("maskatlas", "beartype.beartype")

import matplotlib  # noqa: E402

matplotlib.use("Agg")

import pytest  # noqa: E402
import torch  # noqa: E402

from command_line import own_logging  # noqa: E402

if not torch.cuda.is_available():  # Triton asks when it is first imported, by whoever that is
    with contextlib.suppress(ImportError), pytest.MonkeyPatch.context() as patch:
        patch.setenv("TRITON_INTERPRET", "1")
        import triton.language  # noqa: F401


@pytest.fixture(autouse=True)
def _own_cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MASKATLAS_CACHE", str(tmp_path_factory.getbasetemp() / "cache"))


@pytest.fixture(autouse=True)
def _own_logging() -> Iterator[None]:
    with own_logging():
        yield


@pytest.fixture(scope="session")
def real_data() -> Path:
    """The folder that holds `celeba/` and `celebamask/`."""
    beside = Path(__file__).resolve().parents[2] / "shared" / "data"
    folder = Path(os.environ.get("MASKATLAS_DATA", beside))
    if not (folder / "celeba").is_dir():
        pytest.skip(f"no real faces in {folder}; set MASKATLAS_DATA to a folder that holds celeba/")
    return folder
