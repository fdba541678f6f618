"""What the specification says that one types in Python, typed word by word."""

import inspect
import subprocess
import sys
from pathlib import Path

import numpy as np
import PIL.Image
import pytest
import torch

import maskatlas as ma
from command_line import TINY, call
from layouts import truth, write_celeba


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with `celeba/`, a tiny trained network in `runs/a`, a photo and a mask of it."""
    base = tmp_path_factory.mktemp("api")
    write_celeba(base / "celeba", truth(30))
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MASKATLAS_CACHE", str(base / "cache"))
        answer = call("train", "--out", base / "runs" / "a", *TINY)
    assert answer.code == 0, answer.err
    random = np.random.default_rng(0)
    for name in ("one", "two"):
        pixels = random.integers(0, 256, (50, 40, 3), dtype=np.uint8)
        PIL.Image.fromarray(pixels).save(base / f"{name}.jpg")
    PIL.Image.fromarray(random.integers(0, 256, (50, 40), dtype=np.uint8)).save(base / "mask.png")
    return base


@pytest.mark.usefixtures("_own_cache")
def test_the_lines_of_the_specification(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(folder)
    paths, mask, dir = ["one.jpg", "two.jpg"], "mask.png", "atlas"  # noqa: A001

    data = ma.open_dataset("celeba/", split="val")
    example = data[0]
    assert example.image.shape == (3, 22, 18)
    assert example.image.dtype == torch.float32
    assert 0 <= example.image.min() < example.image.max() <= 1
    assert set(example.labels.tolist()) <= {0, 1}
    assert example.labels.shape == (4,)
    assert example.name.endswith(".jpg")
    assert isinstance(example.identity, int)
    assert example.regions is None
    assert example == (example.image, example.labels, example.name, example.identity, None)
    assert data.attributes == ("Smiling", "Male", "Wearing_Hat", "Eyeglasses")
    assert data.labels.shape == (10, 4)
    assert len(ma.open_dataset("celeba/", split=None)) == 30
    assert ma.open_dataset("faces").has_regions

    network = ma.AttributeNetwork.from_pretrained("runs/a/model")
    assert not network.training
    assert "Smiling" in network.attributes
    assert network.channels == 10
    network.save_pretrained("elsewhere")
    assert ma.AttributeNetwork.from_pretrained("elsewhere").attributes == network.attributes

    images = torch.stack([network.preprocess(PIL.Image.open(p)) for p in paths])
    assert images.shape == (2, 3, 32, 32)
    region = network.preprocess_region(PIL.Image.open(mask))
    assert region.shape == (32, 32)
    assert not region.is_floating_point()

    output = network(images)
    assert output.logits.shape == output.multilabel_logits.shape == (2, 4)
    assert output.features.shape == (2, 10, 8, 8)
    assert output.pooled.shape == output.mask_mean.shape == (2, 4, 10)
    assert output.reconstruction.shape == (2, 3, 32, 32)
    assert output._fields == (
        "logits", "multilabel_logits", "features", "pooled", "mask_mean", "reconstruction",
    )  # fmt: skip

    masks = network.masks(output.features, attributes=["Smiling"], channels=[3, 8])
    assert masks.shape == (2, 1, 2, 8, 8)
    shares = network.contributions(output.features, attributes=["Smiling"], channels=None)
    assert shares.shape == (2, 1, 10, 8, 8)
    k = network.attributes.index("Smiling")
    logit = shares.sum((1, 2, 3, 4)) + network.subnetworks.bias[k]
    torch.testing.assert_close(logit, output.logits[:, k], rtol=1e-5, atol=1e-5)

    maps = ma.explain(network, images, method="contribution", attributes=["Smiling"])
    assert maps.shape == (2, 1, 32, 32)
    assert maps.dtype == torch.float32
    assert not maps.requires_grad

    atlas = ma.analyze(network, data)
    assert atlas.mask_mean.shape == (4, 10)
    assert atlas.channel_correlation.shape == (10, 10)
    assert atlas.attribute_correlation.shape == (4, 4)
    assert len(atlas.top_channels("Smiling", 3)) == 3
    assert sorted(name for group in atlas.groups(2) for name in group) == sorted(network.attributes)
    atlas.save(dir)
    np.testing.assert_array_equal(ma.Atlas.load(dir).mask_mean, atlas.mask_mean)

    ma.write_report("runs/a")
    assert "</html>" in Path("runs/a/report.html").read_text()


def test_arguments_have_the_names_of_the_specification() -> None:
    network = ma.AttributeNetwork
    for function, names in (
        (ma.open_dataset, ["path", "split"]),
        (network.from_pretrained, ["directory"]),
        (network.masks, ["self", "features", "attributes", "channels"]),
        (network.contributions, ["self", "features", "attributes", "channels"]),
        (ma.explain, ["network", "images", "method", "attributes"]),
        (ma.analyze, ["network", "data"]),
        (ma.evaluate_explanations, ["network", "data"]),
    ):
        assert list(inspect.signature(function).parameters)[: len(names)] == names


def test_the_public_names_are_all_and_cost_nothing_until_used() -> None:
    code = (
        "import sys, maskatlas\n"
        "before = 'torch' in sys.modules, 'numpy' in sys.modules\n"
        "assert set(maskatlas.__all__) == set(dir(maskatlas)), dir(maskatlas)\n"
        "for name in maskatlas.__all__:\n"
        "    getattr(maskatlas, name)\n"
        "print(before, maskatlas.__all__)\n"
    )
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stderr
    names = [
        *("Atlas", "AttributeNetwork", "__version__", "analyze", "evaluate_explanations"),
        *("explain", "open_dataset", "write_report"),
    ]
    assert ran.stdout == f"(False, False) {names}\n"
    with pytest.raises(AttributeError, match="module 'maskatlas' has no attribute 'explian'"):
        ma.explian  # noqa: B018
