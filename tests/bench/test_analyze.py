from dataclasses import replace

import pytest

from maskatlas.bench import analyze as bench
from maskatlas.bench.settings import Analyze
from maskatlas.config import PRESETS, ModelConfig

TINY = Analyze(
    preset="demo", faces=3, images=8, memory=(4, 12), drop_images=5, repeats=1, device="cpu"
)


@pytest.fixture
def called(monkeypatch) -> list[tuple[int, int, int]]:
    """Images, images with channels dropped, and replicates of each call; networks are tiny."""
    small = replace(PRESETS["demo"], model=ModelConfig(channels=4, depth=0, image_size=32))
    monkeypatch.setitem(PRESETS, "demo", small)
    calls: list[tuple[int, int, int]] = []
    plain = bench.analyze

    def watched(network, data, *, drop_images: int, replicates: int):
        calls.append((len(data), drop_images, replicates))
        return plain(network, data, drop_images=drop_images, replicates=0)

    monkeypatch.setattr(bench, "analyze", watched)
    return calls


def test_speed_memory_and_the_causal_reading_are_told_apart(called):
    speed, memory, causal = bench.cases(TINY)
    assert [row.form.name for row in speed.rows] == [
        *("analyze", "analyze with intervals", "predict"),
    ]
    assert list(speed.rows[0].ratios) == ["predict"]
    assert [row.images for row in speed.rows] == [8, 8, 8]
    assert [row.images for row in memory.rows] == [4, 12]
    assert [row.images for row in causal.rows] == [5, 5]
    many = bench.REPLICATES
    pass_, intervals = (8, 0, 0), (8, 0, many)
    assert called[:6] == [pass_, intervals] * 3  # warm, memory, timed
    assert called[6:9] == [(4, 0, many), (4, 0, many), (12, 0, many)]
    assert called[9:] == [(5, 0, 0), (5, 5, 0)]


def test_a_limit_holds_everywhere(called):
    *_, memory, causal = bench.cases(replace(TINY, limit=4))
    assert {images for images, *_ in called} == {4}
    assert len(memory.rows) == 1  # both numbers are the same now
    assert causal.facts["drop_images"] == 4
