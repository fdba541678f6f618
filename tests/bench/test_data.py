import numpy as np
import pytest
import torch

from maskatlas.bench import data as bench
from maskatlas.bench.settings import Data
from maskatlas.cache import PackedImages
from maskatlas.images import Preprocessing
from maskatlas.sources import open_dataset

TINY = Data(
    batch=4, faces=2, limit=7, side=40, size=32, workers=(0,), repeats=1
)  # fmt: skip


def test_filling_and_epochs_are_measured():
    fill, epochs = bench.cases(TINY)
    assert [row.form.name for row in fill.rows] == ["fill"]
    assert [row.form.name for row in epochs.rows] == ["cache", "Pillow, 0 workers"]
    assert list(epochs.rows[0].ratios) == ["Pillow, 0 workers"]
    assert all(row.images == 7 for row in (*fill.rows, *epochs.rows))


@pytest.mark.filterwarnings("ignore:.*multi-threaded, use of fork:DeprecationWarning")
def test_workers_hand_over_every_image(tmp_path):
    data = open_dataset(bench.write_files(TINY, tmp_path / "data"))
    loader = bench._loader(data, tmp_path / "data", TINY, 1)
    images = [batch for batch, _ in loader]
    assert sum(map(len, images)) == 7
    del loader


def test_both_load_the_same_pixels_and_labels(tmp_path):
    data = open_dataset(bench.write_files(TINY, tmp_path / "data"))
    packed = PackedImages(data, Preprocessing(32), directory=tmp_path / "cache")
    files = [tmp_path / "data" / "images" / name for name in data.names]
    decoded = bench.Decoded(files, data.labels, 32)
    batch = packed.batch(torch.arange(7))
    for index in range(7):
        image, labels = decoded[index]
        assert torch.equal(image, batch.images[index].float() / 255)
        assert torch.equal(labels, batch.labels[index])
    assert torch.equal(batch.images[0], batch.images[2])  # two faces, repeated
    assert not torch.equal(batch.images[0], batch.images[1])


def test_every_epoch_from_the_cache_has_all_images_in_an_order_of_its_own(tmp_path):
    data = open_dataset(bench.write_files(TINY, tmp_path / "data"))
    packed = PackedImages(data, Preprocessing(32), directory=tmp_path / "cache")
    seen: list[int] = []
    plain = packed.batch
    packed.batch = lambda indices: seen.extend(indices.tolist()) or plain(indices)  # type: ignore
    call = bench.cached_epochs(packed, TINY)
    call()
    call()
    assert sorted(seen[:7]) == sorted(seen[7:]) == list(np.arange(7))
    assert seen[:7] != seen[7:]
