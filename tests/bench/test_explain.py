import sys
from dataclasses import replace

import pytest
import torch

from maskatlas.bench import explain
from maskatlas.bench.settings import Explain
from maskatlas.config import PRESETS, ModelConfig
from maskatlas.explanations import contribution_map
from networks import draw_images, make_network

TINY = Explain(preset="demo", attributes=3, batch=2, repeats=1, device="cpu")
THEIRS = ["torchcam, plain", "torchcam, same", "captum, plain", "captum, same"]


@pytest.fixture(autouse=True)
def _tiny_preset(monkeypatch):
    small = ModelConfig(channels=6, depth=1, image_size=16)
    monkeypatch.setitem(PRESETS, "demo", replace(PRESETS["demo"], model=small))


def test_without_the_other_libraries_their_rows_say_how_to_get_them(monkeypatch):
    monkeypatch.setitem(sys.modules, "torchcam.methods", None)
    monkeypatch.setitem(sys.modules, "captum.attr", None)
    (case,) = explain.cases(TINY)
    ours, traced, *theirs = case.rows
    assert (traced.form.name, traced.timing is not None) == ("maskatlas, traced", True)
    assert [row.form.name for row in theirs] == THEIRS
    assert all(row.timing is None for row in theirs)
    assert "pip install 'maskatlas[torchcam]'" in theirs[0].form.note
    assert "pip install 'maskatlas[captum]'" in theirs[3].form.note
    assert (ours.timing is not None, ours.agrees, ours.ratios) == (True, True, {})


def test_all_are_measured_where_they_are_installed():
    pytest.importorskip("torchcam")
    pytest.importorskip("captum")
    (case,) = explain.cases(TINY)
    assert [row.form.name for row in case.rows] == ["maskatlas", "maskatlas, traced", *THEIRS]
    assert all(row.timing is not None and row.images == 2 for row in case.rows)
    assert list(case.rows[0].ratios) == THEIRS


def test_ours_are_the_sums_of_the_masks_and_the_contributions():
    network = make_network(3)
    images = draw_images(2)
    sums, maps = explain.sums_and_contributions(network, images)
    features = network(images).features
    torch.testing.assert_close(sums, network.masks(features).mean((3, 4)))
    torch.testing.assert_close(maps, contribution_map(network, features, network.attributes))
    assert not maps.requires_grad


def test_theirs_are_grad_cam():
    cams = pytest.importorskip("torchcam.methods")
    attribution = pytest.importorskip("captum.attr")
    network = make_network(2, subnetworks=False, reconstructor=False)
    images = draw_images(1)
    model = explain.Scores(network)
    features = network(images).features.detach()
    weight = network.classifier.weight.detach() / features.shape[2:].numel()
    expected = torch.einsum("kc,bchw->bkhw", weight, features)
    found = explain.captum_maps(attribution.LayerGradCam(model, network.extractor), images, 2)
    torch.testing.assert_close(torch.cat([part.detach() for part in found], 1), expected)
    method = cams.GradCAM(model, target_layer="network.extractor")
    for k, part in enumerate(explain.torchcam_maps(method, model, images)):
        positive = expected[:, k].relu()
        torch.testing.assert_close(
            part * (positive.max() - positive.min()), positive - positive.min()
        )
