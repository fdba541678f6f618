import pytest
import torch

from maskatlas.explanations.gradients import gradient_x_input_map, integrated_gradients_map
from networks import draw_images, make_network

NETWORK = make_network(2, channels=4, image_size=12, mask_context=True, mask_rank=3)


def test_integrated_gradients_add_up_to_the_logit_less_that_of_grey() -> None:
    images = draw_images(2, 12)
    gain = NETWORK(images).scores - NETWORK(torch.full_like(images, 0.5)).scores
    maps = integrated_gradients_map(NETWORK, images, NETWORK.attributes, steps=200)
    torch.testing.assert_close(maps.sum((2, 3)), gain.detach(), rtol=0.01, atol=1e-3)
    near = integrated_gradients_map(NETWORK, images, NETWORK.attributes, steps=2)
    assert (near - maps).abs().max() > (maps.abs().max() / 1000)


def test_what_is_grey_has_no_part_in_it() -> None:
    images = draw_images(1, 12)
    images[:, :, 3:7, 4:9] = 0.5
    for method in (gradient_x_input_map, integrated_gradients_map):
        maps = method(NETWORK, images, NETWORK.attributes)
        assert not maps[:, :, 3:7, 4:9].any()
        assert maps[:, :, 8:].all()


@pytest.mark.parametrize("kind", ["InputXGradient", "IntegratedGradients"])
def test_maps_are_those_of_captum(kind: str) -> None:
    captum = pytest.importorskip("captum.attr")
    images = draw_images(2, 12)
    theirs = getattr(captum, kind)(lambda centred: NETWORK(centred + 0.5).scores)
    for k, name in enumerate(NETWORK.attributes):
        if kind == "InputXGradient":
            found = gradient_x_input_map(NETWORK, images, [name])
            expected = theirs.attribute((images - 0.5).requires_grad_(), target=k)
        else:
            found = integrated_gradients_map(NETWORK, images, [name], steps=7)
            options = {"n_steps": 7, "method": "riemann_middle"}
            expected = theirs.attribute(images - 0.5, target=k, **options)
        torch.testing.assert_close(found[:, 0], expected.sum(1))
