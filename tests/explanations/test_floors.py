import torch

from maskatlas.explanations.floors import centre_map, random_map
from networks import draw_images


def test_noise_is_a_function_of_seed_attribute_and_image() -> None:
    images = draw_images(3, (9, 11))
    maps = random_map(images, ["A", "B"])
    assert torch.equal(maps, random_map(images.float(), ["A", "B"]))
    assert torch.equal(maps[[2, 0]][:, [1]], random_map(images[[2, 0]], ["B"]))
    different = [maps[0, 0], maps[0, 1], maps[1, 0], random_map(images, ["A"], seed=1)[0, 0]]
    for place, one in enumerate(different):
        for other in different[:place]:
            assert (one != other).float().mean() > 0.99
    assert 0 <= maps.min() < 0.05
    assert 0.95 < maps.max() < 1


def test_the_blob_is_in_the_centre_and_falls_off_evenly() -> None:
    maps = centre_map(draw_images(2, (21, 21)), ["A", "B", "C"])
    assert maps.shape == (2, 3, 21, 21)
    blob = maps[0, 0]
    assert (maps == blob).all()
    assert blob.argmax() == 10 * 21 + 10
    assert blob[10, 10] == 1
    torch.testing.assert_close(blob, blob.T)
    torch.testing.assert_close(blob, blob.flip(0))
    assert (blob[10, 10:].diff() < 0).all()
