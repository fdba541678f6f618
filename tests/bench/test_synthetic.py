import numpy as np
import torch

from maskatlas.bench.synthetic import noise, repeated


def test_noise_is_a_function_of_seed_and_index():
    data, again, other = noise(3, 2, 8, 0), noise(3, 2, 8, 0), noise(3, 2, 8, 1)
    assert np.array_equal(data.read(1), again.read(1))
    assert not np.array_equal(data.read(0), data.read(1))
    assert not np.array_equal(data.read(0), other.read(0))
    assert len({data.content_key(0), data.content_key(1), other.content_key(0)}) == 3
    assert data.content(2) == data.read(2).tobytes()
    assert set(data.labels.flatten().tolist()) <= {0.0, 1.0}
    assert torch.equal(data.labels, again.labels)


def test_few_images_stand_for_many():
    data = noise(3, 2, 8, 0)
    many = repeated(data, 7)
    assert many.names == tuple(data.names[n % 3] for n in range(7))
    assert many.content_key(5) == data.content_key(2)
    assert len(repeated(data, 2)) == 2
