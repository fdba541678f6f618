from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageDraw

from maskatlas.cache import PackedImages
from maskatlas.config import ModelConfig
from maskatlas.errors import CheckpointError, ConfigError, ImageError
from maskatlas.model import AttributeNetwork, Output, build_network
from networks import NAMES, draw_images, make_dataset, make_network
from reference import model as slow

EXACT = {"rtol": 1e-10, "atol": 1e-12}


def close(found: torch.Tensor, expected: torch.Tensor, **tolerance: float) -> None:
    torch.testing.assert_close(found, expected, **(tolerance or EXACT))


def test_every_part_equals_its_slow_twin() -> None:
    network, images = make_network(), draw_images(2, seed=1)
    output = network(images)
    features = slow.features(network, images)
    subnetworks, classifier = network.subnetworks, network.classifier
    reconstructor = network.reconstructor
    assert subnetworks is not None
    assert classifier is not None
    assert reconstructor is not None
    close(output.features, features)
    for k in range(3):
        masks = slow.masks(subnetworks, features, k)
        close(output.logits[:, k], slow.logit(subnetworks, features, k))
        close(output.mask_mean[:, k], masks.mean((2, 3)))
        close(output.pooled[:, k], ((1 + masks) * features).mean((2, 3)))
        close(network.masks(features)[:, k], masks)
    close(output.multilabel_logits, slow.multilabel_logits(classifier, features))
    close(output.reconstruction, slow.reconstruction(reconstructor, features))
    assert output.scores is output.logits


def test_gradients_equal_those_of_the_slow_twin() -> None:
    network, images = make_network(2, channels=4), draw_images(2, 16, seed=2).requires_grad_()
    parameters = {**dict(network.named_parameters()), "images": images}
    output = network(images)
    assert output.logits is not None
    assert output.multilabel_logits is not None
    assert output.reconstruction is not None
    arriving = [torch.randn_like(part) for part in output[:2]]
    arriving.append(torch.randn_like(output.reconstruction))

    def gradients(*parts: torch.Tensor) -> list[torch.Tensor]:
        total = sum((a * p).sum() for a, p in zip(arriving, parts, strict=True))
        return list(torch.autograd.grad(total, list(parameters.values())))

    found = gradients(output.logits, output.multilabel_logits, output.reconstruction)
    features = slow.features(network, images)
    logits = [slow.logit(network.subnetworks, features, k) for k in range(2)]
    expected = gradients(
        torch.stack(logits, dim=1),
        slow.multilabel_logits(network.classifier, features),
        slow.reconstruction(network.reconstructor, features),
    )
    for name, one, other in zip(parameters, found, expected, strict=True):
        assert other.abs().max() > 0, name
        close(one, other, rtol=1e-8, atol=1e-10)


def test_contributions_equal_their_slow_twin() -> None:
    network = make_network(2, channels=3)
    features = network(draw_images(1, 16)).features
    for k in range(2):
        expected = slow.contributions(network.subnetworks, features, k)
        close(network.contributions(features)[:, k], expected)


def test_contributions_of_a_whole_network_sum_to_the_logit_less_the_bias() -> None:
    for dtype, tolerance in ((torch.float64, 1e-10), (torch.float32, 1e-5)):
        network = make_network(5, channels=16, dtype=dtype)
        output = network(draw_images(3, dtype=dtype))
        shares = network.contributions(output.features)
        expected = output.logits - network.subnetworks.bias
        assert expected.abs().max() > 0.01
        close(shares.sum((2, 3, 4)), expected, rtol=tolerance, atol=tolerance)


def test_what_is_asked_for_comes_in_the_order_asked_for() -> None:
    network = make_network(5, channels=6)
    features = network(draw_images(2)).features
    for part in (network.masks, network.contributions):
        full = part(features)
        assert full.shape == (2, 5, 6, 8, 8)
        close(part(features, list(NAMES), range(6)), full)
        chosen = part(features, ["Young", "Smiling", "Young"], [5, 0])
        close(chosen, full[:, [4, 0, 4]][:, :, [5, 0]])
        close(part(features, channels=[3]), full[:, :, [3]])
        close(part(features, ("Male",)), full[:, [1]])
    assert (network.masks(features) > 0).all()
    assert (network.masks(features) < 1).all()


@pytest.mark.parametrize("part", ["masks", "contributions"])
def test_unknown_names_and_ids_are_told_with_what_is_near(part: str) -> None:
    network = make_network(5)
    features = network(draw_images(1)).features
    ask = getattr(network, part)
    with pytest.raises(ConfigError, match=r"'Smilling'.*did you mean Smiling\?"):
        ask(features, ["Smilling"])
    with pytest.raises(ConfigError, match="it has Smiling, Male, Wearing_Hat, Eyeglasses, Young"):
        ask(features, ["zzz"])
    with pytest.raises(ConfigError, match=r"list of names.*'Smiling'"):
        ask(features, "Smiling")
    with pytest.raises(ConfigError, match="at least one name"):
        ask(features, [])
    for channel in (-1, 6):
        with pytest.raises(ConfigError, match=f"channel {channel}: expected an id from 0 to 5"):
            ask(features, None, [channel])
    with pytest.raises(ConfigError, match="at least one id"):
        ask(features, None, [])


def test_a_part_that_is_not_there_is_none() -> None:
    images = draw_images(2)
    plain = make_network(subnetworks=False, reconstructor=False)
    output = plain(images)
    assert output.logits is output.pooled is output.mask_mean is output.reconstruction is None
    assert output.scores is output.multilabel_logits
    for part in (plain.masks, plain.contributions):
        with pytest.raises(ConfigError, match=r"without sub-networks.*model\.subnetworks = true"):
            part(output.features)
    masked = make_network(multilabel=False)(images)
    assert masked.multilabel_logits is None
    assert masked.reconstruction is not None
    assert masked.scores is masked.logits


def test_without_its_reconstructor_a_network_is_the_same_but_for_the_image() -> None:
    class Louder(AttributeNetwork):
        def forward(self, images: torch.Tensor) -> Output:
            output = super().forward(images)
            return output._replace(logits=2 * output.logits)

    network, images = make_network(), draw_images(2)
    network.__class__ = Louder
    bare = network.without_reconstructor()
    assert bare.reconstructor is None
    assert bare.without_reconstructor().reconstructor is None
    found, expected = bare(images), network(images)
    assert found.reconstruction is None
    assert expected.reconstruction is not None
    for one, other in zip(found[:-1], expected[:-1], strict=True):
        assert torch.equal(one, other)
    assert bare.extractor is network.extractor
    assert bare.subnetworks is network.subnetworks
    assert bare.attributes == network.attributes


def test_a_network_needs_a_head_and_names() -> None:
    with pytest.raises(ConfigError, match="subnetworks"):
        ModelConfig(subnetworks=False, multilabel=False)
    for names in ((), ("A", "A")):
        with pytest.raises(ConfigError, match="different names"):
            build_network(ModelConfig(channels=4), names)


def test_an_image_alone_gives_what_it_gives_in_a_batch() -> None:
    network, images = make_network(), draw_images(3)
    whole, alone = network(images), network(images[1:2])
    for one, other in zip(alone, whole, strict=True):
        close(one, other[1:2])
    close(network.masks(alone.features), network.masks(whole.features)[1:2])
    close(network.contributions(alone.features), network.contributions(whole.features)[1:2])


@pytest.mark.parametrize(
    ("extractor", "size", "positions"),
    [
        ("compact", (89, 89), (23, 23)),
        ("dilated", (89, 89), (22, 22)),
        ("compact", (64, 64), (16, 16)),
        ("compact", (33, 47), (9, 12)),
        ("dilated", (33, 47), (8, 11)),
        ("compact", (32, 30), (8, 8)),
    ],
)
def test_odd_and_oblong_images_are_reconstructed_at_their_size(
    extractor: str, size: tuple[int, int], positions: tuple[int, int]
) -> None:
    network = make_network(2, channels=4, extractor=extractor, dtype=torch.float32)
    output = network(draw_images(1, size, dtype=torch.float32))
    assert output.features.shape == (1, 4, *positions)
    assert output.reconstruction.shape == (1, 3, *size)
    assert network.contributions(output.features).shape == (1, 2, 4, *positions)


def test_a_reconstruction_is_resized_over_its_whole_extent() -> None:
    network = make_network(2, channels=4)
    features = torch.randn(1, 4, 8, 8, dtype=torch.float64)
    whole = slow.reconstruction(network.reconstructor, features)
    resized = torch.nn.functional.interpolate(whole, (31, 30), mode="bilinear")
    close(network.reconstructor(features, (31, 30)), resized)


def test_images_are_computed_on_in_the_type_of_the_weights() -> None:
    network = make_network(dtype=torch.float64)
    images = draw_images(2, dtype=torch.float32)
    output = network(images)
    assert output.features.dtype == torch.float64
    close(output.logits, network(images.double()).logits)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_a_saved_network_comes_back_bit_by_bit_in_eval_mode(
    dtype: torch.dtype, tmp_path: Path
) -> None:
    network = make_network(dtype=dtype).to(memory_format=torch.channels_last).train()
    network.save_pretrained(str(tmp_path / "a" / "model"))
    loaded = AttributeNetwork.from_pretrained(tmp_path / "a" / "model")
    assert network.training
    assert not any(module.training for module in loaded.modules())
    assert loaded.attributes == network.attributes
    assert loaded.config == network.config
    assert loaded.channels == 6
    before, after = network.state_dict(), loaded.state_dict()
    assert before.keys() == after.keys()
    for name, tensor in before.items():
        assert after[name].dtype == tensor.dtype, name
        assert torch.equal(after[name], tensor), name
    assert all(parameter.requires_grad for parameter in loaded.parameters())
    images = draw_images(2, dtype=dtype)
    for one, other in zip(loaded(images), network.eval()(images), strict=True):
        assert torch.equal(one, other)


def test_a_model_folder_has_a_card(tmp_path: Path) -> None:
    make_network().save_pretrained(tmp_path)
    assert "3 attributes" in (tmp_path / "README.md").read_text()
    make_network().save_pretrained(tmp_path, card="# Ours\n")
    assert (tmp_path / "README.md").read_text() == "# Ours\n"
    assert {path.name for path in tmp_path.iterdir()} == {
        "config.json",
        "model.safetensors",
        "README.md",
    }


def test_weights_that_do_not_fit_their_config_are_refused(tmp_path: Path) -> None:
    make_network(channels=6).save_pretrained(tmp_path / "a")
    make_network(channels=5).save_pretrained(tmp_path / "b")
    (tmp_path / "a" / "config.json").write_bytes((tmp_path / "b" / "config.json").read_bytes())
    with pytest.raises(CheckpointError, match="does not fit its configuration"):
        AttributeNetwork.from_pretrained(tmp_path / "a")
    with pytest.raises(CheckpointError, match="found nothing"):
        AttributeNetwork.from_pretrained(tmp_path / "nowhere")


def test_an_image_is_preprocessed_as_the_cache_has_it() -> None:
    network, data = make_network(image_size=24), make_dataset(4, size=(41, 30))
    packed = PackedImages(data, network.preprocessing)
    batch = packed.batch(torch.arange(4))
    for index in range(4):
        pixels = network.preprocess(data.read(index))
        assert pixels.shape == (3, 24, 24)
        assert pixels.dtype == torch.float32
        assert 0 <= pixels.min() < pixels.max() <= 1
        assert torch.equal(pixels, batch.images[index].float() / 255)
        assert torch.equal((pixels * 255).round().to(torch.uint8), batch.images[index])


def drawn(size: tuple[int, int], box: tuple[int, int, int, int], values: tuple[int, int]) -> Image:
    """A grey picture with a rectangle in it; its left, top, right and bottom are included."""
    image = Image.new("L", size, values[0])
    ImageDraw.Draw(image).rectangle(box, fill=values[1])
    return image


@pytest.mark.parametrize("size", [(96, 64), (64, 96), (64, 64)])
def test_a_square_drawn_in_image_and_region_lands_on_the_same_pixels(size: tuple[int, int]) -> None:
    network = make_network(image_size=16)
    left, top = (size[0] - 64) // 2, (size[1] - 64) // 2
    box = (left + 8, top + 20, left + 8 + 15, top + 20 + 23)  # 4 x 6 pixels of 16 x 16
    image = network.preprocess(drawn(size, box, (0, 255)).convert("RGB"))
    region = network.preprocess_region(drawn(size, box, (7, 255)))
    expected = torch.full((16, 16), 7, dtype=torch.uint8)
    expected[5:11, 2:6] = 255
    assert torch.equal(region, expected)
    assert torch.equal(image[0] > 0.5, expected == 255)


@settings(max_examples=40, deadline=None)
@given(
    size=st.tuples(st.integers(30, 120), st.integers(30, 120)),
    side=st.integers(12, 100),
    place=st.tuples(st.floats(0, 0.5), st.floats(0, 0.5)),
)
def test_image_and_region_agree_at_any_size(
    size: tuple[int, int], side: int, place: tuple[float, float]
) -> None:
    network = make_network(image_size=side)
    square = min(size)
    left = (size[0] - square) // 2 + round(place[0] * square)
    top = (size[1] - square) // 2 + round(place[1] * square)
    box = (left, top, left + square // 3, top + square // 2)
    image = network.preprocess(drawn(size, box, (0, 255)).convert("RGB"))[0]
    region = network.preprocess_region(drawn(size, box, (0, 3)))
    sure = (image < 0.02) | (image > 0.98)  # away from the border, which is blurred
    assert sure.sum() > (sure.numel() - 8 * side)
    assert torch.equal((image > 0.5)[sure], (region == 3)[sure])
    assert ((image > 0.5) != (region == 3)).sum() <= 2.5 * side


@pytest.mark.parametrize(
    ("mode", "values", "dtype"),
    [
        ("P", [0, 1, 17, 255], torch.uint8),
        ("L", [0, 1, 17, 255], torch.uint8),
        ("1", [0, 1, 1, 0], torch.uint8),
        ("I", [0, -5, 70_000, 255], torch.int32),
        ("I;16", [0, 1, 300, 65535], torch.uint16),
        ("I;16B", [0, 1, 300, 65535], torch.uint16),
    ],
)
def test_values_of_regions_are_untouched(mode: str, values: list[int], dtype: torch.dtype) -> None:
    if mode == "I":
        image = Image.fromarray(np.array(values, np.int32).reshape(2, 2))
    elif mode.startswith("I;16"):
        order = ">" if mode.endswith("B") else "<"
        packed = np.array(values, np.dtype(f"{order}u2")).tobytes()
        image = Image.frombytes(mode, (2, 2), packed)
    else:
        image = Image.new(mode, (2, 2))
        image.putdata([255 * value if mode == "1" else value for value in values])
        if mode == "P":
            image.putpalette([level for index in range(256) for level in (255 - index, 3, index)])
    assert image.mode == mode
    region = make_network(image_size=4).preprocess_region(image)
    assert region.dtype == dtype
    expected = torch.tensor(values).reshape(2, 2).repeat_interleave(2, 0).repeat_interleave(2, 1)
    assert torch.equal(region.long(), expected)


def test_a_region_of_several_channels_is_refused() -> None:
    with pytest.raises(ImageError, match="one integer for each pixel"):
        make_network().preprocess_region(Image.new("RGB", (5, 5)))


def test_a_turned_region_follows_its_image() -> None:
    network = make_network(image_size=8)
    image, region = drawn((16, 16), (0, 0, 7, 3), (0, 255)), drawn((16, 16), (0, 0, 7, 3), (0, 9))
    for picture in (image, region):
        picture.getexif()[274] = 6
    turned = network.preprocess(image)[0] > 0.5
    assert not torch.equal(turned, turned.T)
    assert torch.equal(turned, network.preprocess_region(region) == 9)
