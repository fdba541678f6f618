import logging
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from maskatlas.masked_pooling import compilation
from maskatlas.masked_pooling.compilation import compiled

_SOURCE_TEXT = "int answer(void) { return 42; }"


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    monkeypatch.setenv("MASKATLAS_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("MASKATLAS_NATIVE", raising=False)
    compiled.cache_clear()
    yield tmp_path / "cache"
    compiled.cache_clear()


@pytest.fixture
def source(tmp_path: Path) -> Path:
    try:
        compilation._compiler()
    except compilation.CannotCompileError as error:
        pytest.skip(str(error))
    path = tmp_path / "answer.c"
    path.write_text(_SOURCE_TEXT)
    return path


@pytest.fixture
def log(caplog: pytest.LogCaptureFixture) -> pytest.LogCaptureFixture:
    caplog.set_level(logging.INFO, logger="maskatlas.masked_pooling.compilation")
    return caplog


def answer(source: Path) -> int:
    library = compiled(source)
    assert library is not None
    return library.answer()


def test_compiled_once_and_kept(source: Path, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert answer(source) == 42
    assert len(list((cache / "compiled").glob("answer-*.so"))) == 1
    compiled.cache_clear()
    monkeypatch.setattr(compilation, "_compile", lambda *_: pytest.fail("compiled again"))
    assert answer(source) == 42


def test_another_source_is_another_library(source: Path, cache: Path) -> None:
    assert answer(source) == 42
    source.write_text(_SOURCE_TEXT.replace("42", "43"))
    compiled.cache_clear()
    assert answer(source) == 43
    assert len(list((cache / "compiled").iterdir())) == 2


def test_what_the_source_includes_counts_too(source: Path) -> None:
    source.with_name("answer.h").write_text("enum { ANSWER = 1 };")
    source.write_text('#include "answer.h"\nint answer(void) { return ANSWER; }')
    assert answer(source) == 1
    source.with_name("answer.h").write_text("enum { ANSWER = 2 };")
    compiled.cache_clear()
    assert answer(source) == 2


def test_another_processor_is_another_library(
    source: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert answer(source) == 42
    compiled.cache_clear()
    monkeypatch.setattr(compilation, "_processor", lambda: b"something else")
    assert answer(source) == 42
    assert len(list((cache / "compiled").iterdir())) == 2


def test_a_damaged_library_is_compiled_again(source: Path, cache: Path) -> None:
    answer(source)
    (library,) = (cache / "compiled").iterdir()
    library.unlink()  # it is still mapped into this process
    library.write_bytes(b"half a library")
    compiled.cache_clear()
    assert answer(source) == 42


def test_switched_off(source: Path, monkeypatch: pytest.MonkeyPatch, log) -> None:
    monkeypatch.setenv("MASKATLAS_NATIVE", "0")
    assert compiled(source) is None
    assert "MASKATLAS_NATIVE=0" in log.text


def test_without_a_compiler_one_line_is_logged(
    source: Path, monkeypatch: pytest.MonkeyPatch, log
) -> None:
    monkeypatch.setenv("PATH", "")
    monkeypatch.delenv("CC", raising=False)
    assert compiled(source) is None
    assert compiled(source) is None
    assert len(log.records) == 1
    assert "there is no C compiler" in log.text


def test_a_source_that_does_not_compile_says_why(source: Path, log) -> None:
    source.write_text("int answer(void) { return unknown; }")
    assert compiled(source) is None
    assert "failed" in log.text
    assert "answer" in log.text


def test_a_folder_that_others_can_write_is_not_trusted(source: Path, cache: Path, log) -> None:
    folder = cache / "compiled"
    folder.mkdir(parents=True)
    os.chmod(folder, 0o777)
    assert answer(source) == 42
    assert list(folder.iterdir()) == []
    assert "can be written by others" in log.text


def test_a_cache_that_cannot_be_written_is_done_without(source: Path, cache: Path, log) -> None:
    cache.write_text("a file where the folder should be")
    assert answer(source) == 42
    assert "compiling for this process alone" in log.text
