import pytest

from maskatlas.masked_pooling.cost import (
    GPUS,
    Gpu,
    Sizes,
    Work,
    at_once,
    backward,
    floor_seconds,
    forward,
)


def count(sizes: Sizes) -> tuple[int, int]:
    """Operations of one product and exponentials, one by one."""
    operations = exponentials = 0
    for _ in range(sizes.batch * sizes.attributes * sizes.positions):
        for _ in range(sizes.channels):
            operations += sum(2 for _ in range(sizes.guides))
            exponentials += 1
    return operations, exponentials


def test_work_is_what_is_counted() -> None:
    sizes = Sizes(batch=2, attributes=3, channels=4, guides=5, positions=6, separate=True)
    product, exponentials = count(sizes)
    maps, weights, results = 2 * 6 * (4 + 5) * 2, 3 * 4 * 5 * 2, 2 * (2 * 3 * 4) * 4
    read = maps + weights
    assert forward(sizes) == Work(product, exponentials, read + results)
    assert backward(sizes) == Work(3 * product, exponentials, results + 2 * read)
    assert at_once(sizes) == Work(3 * product, exponentials, 2 * read)


def test_features_that_serve_twice_are_read_once() -> None:
    apart = Sizes(1, 2, 3, 3, 4, separate=True, map_bytes=4)
    assert forward(apart).bytes - forward(apart._replace(separate=False)).bytes == 3 * 4 * 4


def test_the_floor_is_that_of_the_slowest_unit_in_every_pass() -> None:
    gpu = Gpu(2, 10.0, 100.0, tensor_operations=50, plain_operations=5, exponentials=1)
    products, memory = Work(3000, 20, 100), Work(1000, 20, 700)
    assert gpu.seconds(products, 2) == pytest.approx((3, 1, 1))
    assert floor_seconds((products, memory), gpu, 2) == pytest.approx(3 + 7)
    assert floor_seconds((products,), gpu, 4) == pytest.approx(30)


def test_tensor_cores_have_the_rate_of_the_data_sheet() -> None:
    for gpu in GPUS.values():
        rate = gpu.multiprocessors * gpu.clock * gpu.tensor_operations
        assert rate == pytest.approx(989e12, rel=0.01)


def test_time_is_linear_in_the_attributes() -> None:
    few, many = (Sizes(256, attributes, 128, 128, 256) for attributes in (40, 160))
    times = [
        floor_seconds((forward(sizes), backward(sizes)), GPUS["H100"], 2) for sizes in (few, many)
    ]
    assert times[1] == pytest.approx(4 * times[0])
