"""MT-RBM PCA, LNets+ANet, FaceTracer, the majority: equations, and what they are fitted to."""

import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from maskatlas.cache import PackedImages
from maskatlas.comparison import facetracer, lnets_anet, mt_rbm_pca
from maskatlas.comparison.facetracer import FaceTracer, region_features
from maskatlas.comparison.images import ImagesWithIdentities, ImagesWithRegions
from maskatlas.comparison.linear_svm import fit_svms
from maskatlas.comparison.lnets_anet import (
    ANet,
    IdentityNetwork,
    LNetsANet,
    LocallySharedConvolution,
)
from maskatlas.comparison.majority import Majority, log_odds
from maskatlas.comparison.mt_rbm_pca import MultiTaskRBM, PrincipalComponents
from maskatlas.comparison.system import Job
from maskatlas.config import ModelConfig
from maskatlas.images import Preprocessing
from maskatlas.losses import attribute_loss
from maskatlas.sources import open_dataset
from maskatlas.subnetworks import Supervision
from networks import draw_images, make_dataset
from reference import comparison as reference
from small_runs import small_config

NAMES = ("Smiling", "Male")


def small_rbm() -> MultiTaskRBM:
    torch.manual_seed(0)
    rbm = MultiTaskRBM(ModelConfig(channels=2, image_size=16), NAMES).double().eval()
    for parameter in rbm.parameters():
        torch.nn.init.normal_(parameter, std=0.7)
    rbm.extractor.components.normal_(std=0.02)
    return rbm


def test_free_energies_and_log_odds_against_all_hidden_states() -> None:
    rbm, images = small_rbm(), draw_images(3, 16)
    output = rbm(images)
    visible = output.features.flatten(1)
    labels = torch.tensor([[1.0, 0.0], [0.0, 0.0], [1.0, 1.0]], dtype=torch.float64)
    found = rbm.free_energy(visible[:, None].expand(-1, 2, -1), labels)
    for image in range(3):
        for k in range(2):
            v, y = visible[image], labels[image, k].item()
            torch.testing.assert_close(found[image, k], reference.free_energy(rbm, k, v, y))
            odds = reference.free_energy(rbm, k, v, 0.0) - reference.free_energy(rbm, k, v, 1.0)
            torch.testing.assert_close(output.scores[image, k], odds)


def test_the_loss_has_the_gradient_of_contrastive_divergence() -> None:
    rbm, images = small_rbm(), draw_images(3, 16)
    labels = torch.tensor([[1, torch.nan], [0, 0], [1, 1]], dtype=torch.float64)
    draws = torch.rand(3, 2, 8, generator=torch.Generator().manual_seed(0)).double()
    visible = rbm(images).features.flatten(1)
    output, loss = rbm.supervised(images, Supervision(labels, 1.0, 0.0))
    assert not output.scores.requires_grad
    found = torch.autograd.grad(loss, [rbm.connection, rbm.classifier.weight, rbm.classifier.bias])
    expected = [torch.zeros_like(gradient) for gradient in found]
    for i in range(3):
        for k in range(2):
            if labels[i, k].isnan():
                continue
            v, y, U = visible[i], labels[i, k], rbm.classifier.weight[k]
            up = (rbm.hidden_bias + v @ rbm.connection + y * U).sigmoid()
            h = (draws[i, k] < up).double()
            v1 = rbm.visible_bias + rbm.connection @ h
            y1 = (rbm.classifier.bias[k] + U @ h).sigmoid()
            up1 = (rbm.hidden_bias + v1 @ rbm.connection + y1 * U).sigmoid()
            expected[0] -= (torch.outer(v, up) - torch.outer(v1, up1)) / 3
            expected[1][k] -= (y * up - y1 * up1) / 3
            expected[2][k] -= (y - y1) / 3
    for mine, theirs in zip(found, expected, strict=True):
        torch.testing.assert_close(mine, theirs.detach())
    assert rbm.draws == 1


def test_components_are_white_over_the_images_they_came_from() -> None:
    components = PrincipalComponents(4)
    images = np.random.default_rng(0).random((30, 3 * 32 * 32)).astype(np.float32)
    components.compute(images)
    found = components(torch.from_numpy(images).reshape(30, 3, 32, 32)).flatten(1)
    torch.testing.assert_close(found.mean(0), torch.zeros(4), atol=1e-4, rtol=0)
    torch.testing.assert_close(torch.cov(found.T), torch.eye(4), atol=1e-2, rtol=0)
    components.compute(images[:3])
    assert (components.components.abs().sum(1) > 0).tolist() == [True, True, False, False]


def test_a_locally_shared_convolution_against_its_twin() -> None:
    torch.manual_seed(0)
    layer = LocallySharedConvolution(3, 4, 2).double()
    torch.nn.init.normal_(layer.bias)
    features = torch.randn(2, 3, 6, 6, dtype=torch.float64, requires_grad=True)
    expected = reference.locally_shared(layer.weight, layer.bias, features, 2)
    torch.testing.assert_close(layer(features), expected)
    arriving = torch.randn_like(expected)
    sources = [features, layer.weight, layer.bias]
    for mine, theirs in zip(
        torch.autograd.grad(layer(features), sources, arriving),
        torch.autograd.grad(expected, sources, arriving),
        strict=True,
    ):
        torch.testing.assert_close(mine, theirs)


def test_the_contraction_against_its_twin() -> None:
    features = torch.randn(6, 3, dtype=torch.float64)
    identities = torch.tensor([5, 2, 5, 5, 2, 9])
    torch.testing.assert_close(
        lnets_anet.contraction(features, identities), reference.contraction(features, identities)
    )
    assert lnets_anet.contraction(features, torch.arange(6)).item() == 0


def test_the_first_stage_learns_people_and_its_probe_teaches_the_features_nothing() -> None:
    torch.manual_seed(0)
    people = torch.tensor([3, 7, 20])
    network = IdentityNetwork(ModelConfig(channels=4, image_size=16), NAMES, people).double()
    images, identities = draw_images(4, 16), torch.tensor([20, 3, -1, 20])
    labels = torch.tensor([[1, 0], [0, 1], [1, 1], [0, 0]], dtype=torch.float64)
    output, loss = network.supervised(images, Supervision(labels, 1.0, 0.0, identities=identities))
    flat = output.features.flatten(1)[[0, 1, 3]]
    logs = network.recogniser(flat).log_softmax(1)
    expected = -(logs[0, 2] + logs[1, 0] + logs[2, 2]) / 3
    expected = expected + lnets_anet.CONTRACTION * (flat[0] - flat[2]).square().sum() / 2
    torch.testing.assert_close(loss.double(), expected, atol=1e-5, rtol=1e-5)
    probe = attribute_loss(output.scores, labels)
    weights = [p for p in network.extractor.parameters() if p.requires_grad]
    assert all(g is None for g in torch.autograd.grad(probe, weights, allow_unused=True))
    nobody = Supervision(labels, 1.0, 0.0, identities=torch.full((4,), -1))
    assert network.supervised(images, nobody).loss.item() == 0


def test_scores_are_averaged_over_ten_crops() -> None:
    torch.manual_seed(0)
    network = ANet(ModelConfig(channels=4, image_size=16), NAMES).eval()
    images = PackedImages(make_dataset(3, NAMES), network.preprocessing)
    machines = fit_svms(np.random.default_rng(0).random((9, 160)), np.eye(9)[:, :2])
    pixels = images.batch(torch.arange(3)).images.float() / 255
    scores = []
    with torch.no_grad():
        for image in (pixels, pixels.flip(3)):
            for top, left in ((1, 1), (0, 0), (0, 2), (2, 0), (2, 2)):
                crop = image[:, :, top : top + 14, left : left + 14]
                features = network.extractor(network.normalised(crop)).flatten(1)
                scores.append(machines.scores(features.double().numpy()))
    # round(0.5 * 2) is 1: the centre crop
    expected = torch.from_numpy(np.mean(scores, axis=0)).float()
    found = lnets_anet.averaged_scores(network, machines, images)
    torch.testing.assert_close(found, expected, atol=1e-4, rtol=1e-4)


def test_machines_are_scikit_learns_and_know_nothing_of_unknown_labels() -> None:
    from sklearn.preprocessing import StandardScaler
    from sklearn.svm import LinearSVC

    random = np.random.default_rng(0)
    features = random.normal(3, 5, (60, 4)) * [1, 10, 0.1, 1]
    features[:, 3] = 2
    truth = (features[:, 0] + 20 * features[:, 2] > features[:, 0].mean()).astype(float)
    labels = np.stack([truth, np.ones(60), np.zeros(60), np.full(60, np.nan), truth], axis=1)
    labels[40:, 4] = np.nan
    scores = fit_svms(features, labels).scores(features)
    standard = StandardScaler().fit_transform(features)
    expected = LinearSVC(C=20 / 60, dual=False).fit(standard, truth).decision_function(standard)
    np.testing.assert_allclose(scores[:, 0], expected, rtol=1e-6)
    assert ((scores[:, 0] > 0) == truth).mean() > 0.8
    assert (scores[:, 1] == 1).all()
    assert (scores[:, 2] == -1).all()
    assert (scores[:, 3] == 0).all()
    labels[40:, 4] = 1 - truth[40:]
    known = fit_svms(features[:40], labels[:40]).scores(features[:5])
    assert not np.allclose(known[:, 4], scores[:5, 4])  # standardised by other images
    assert np.isfinite(scores).all()


def test_a_region_sees_its_own_pixels_only() -> None:
    pytest.importorskip("skimage")
    image = np.random.default_rng(0).integers(0, 256, (60, 60, 3), np.uint8)
    changed = image.copy()
    changed[-4:, :4] = 255 - changed[-4:, :4]  # a corner that only the whole image holds
    before, after = region_features(image), region_features(changed)
    each = len(before) // len(facetracer.REGIONS)
    differs = (before != after).reshape(-1, each).any(axis=1)
    assert differs.tolist() == [name == "whole" for name in facetracer.REGIONS]


def test_colours_are_counted_by_bin() -> None:
    from PIL import Image

    pixels = np.array([[[0, 31, 32], [255, 255, 0]]], np.uint8)
    shares = facetracer.colour_histogram(Image.fromarray(pixels)).reshape(3, 8)
    expected = np.zeros((3, 8))
    for place, colour in ((0, 0), (7, 0), (0, 1), (7, 1), (1, 2), (0, 2)):
        expected[colour, place] += 0.5
    np.testing.assert_array_equal(shares, expected)


def test_the_majority_answers_by_log_odds() -> None:
    labels = torch.tensor([[1, 0, torch.nan], [1, 0, torch.nan], [0, torch.nan, torch.nan]])
    expected = torch.tensor([math.log(3 / 2), math.log(1 / 3), 0.0], dtype=torch.float64)
    torch.testing.assert_close(log_odds(labels), expected)


def test_machines_learn_from_as_many_images_as_time_allows(monkeypatch: pytest.MonkeyPatch) -> None:
    now, fitted = [0.0], []

    def fit(features: np.ndarray, labels: np.ndarray) -> None:
        fitted.append((features.shape, labels.shape))
        now[0] += 2.0  # of 100 images and one attribute

    monkeypatch.setattr(facetracer, "fit_svms", fit)
    monkeypatch.setattr(facetracer.time, "monotonic", lambda: now[0])
    features, labels = np.zeros((800, 3)), np.zeros((800, 5))
    assert facetracer._fitting(features, labels, 1000.0) == 800
    assert facetracer._fitting(features, labels, 20.0) == 200
    assert facetracer._fitting(features, labels, 0.0) == facetracer._BATCH
    assert fitted == [((100, 3), (100, 1))] * 3


def test_facetracer_and_the_majority_learn_the_rendered_faces(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("skimage")
    monkeypatch.setattr(facetracer, "_BATCH", 16)
    config = replace(small_config(images=100), model=ModelConfig(image_size=32, channels=4))
    data = open_dataset("faces", split="test", faces=config.data.faces)
    images = PackedImages(data, Preprocessing(32))
    truth = data.labels == 1
    shares = {}
    for system in (Majority(), FaceTracer()):
        folder = tmp_path / system.name
        folder.mkdir()
        fitted = system.fit(Job(config, folder))
        shares[system.name] = ((fitted.score(images) > 0) == truth).float().mean().item()
        again = system.fit(Job(config, folder))
        torch.testing.assert_close(again.score(images), fitted.score(images), rtol=0, atol=0)
    assert shares["facetracer"] > shares["majority"] + 0.1
    hurried = FaceTracer().fit(Job(config, tmp_path, minutes=1e-9))
    assert hurried.note == f"{facetracer._BATCH} images"


def test_no_feature_of_anet_falls_silent_whatever_its_weights() -> None:
    torch.manual_seed(0)
    extractor = ANet(ModelConfig(channels=4, image_size=16), NAMES).extractor.train()
    weight = extractor.last.weight
    with torch.no_grad():
        weight.copy_(-weight.abs())  # of features that are not negative, every sum is
    optimizer = torch.optim.AdamW([p for p in extractor.parameters() if p.requires_grad], 0.1)
    for _ in range(5):  # and learning to be silent does not make them so
        features = extractor(draw_images(64, 16).float())
        assert (features > 0).any(0).all()
        optimizer.zero_grad()
        features.sum().backward()
        optimizer.step()


def test_lnets_anet_trains_on_people_then_on_attributes(tmp_path: Path, monkeypatch) -> None:
    data = make_dataset(np.eye(2)[np.arange(24) % 2], NAMES, split="train")
    data = replace(data, identities=torch.arange(24) % 5, splits=("train",) * 18 + ("val",) * 6)
    monkeypatch.setattr("maskatlas.training_data.open_dataset", lambda *_, **__: data)
    config = small_config(batch=6, epochs=2)
    fitted = LNetsANet().fit(Job(config, tmp_path))
    assert fitted.note == "1 epochs of people, 1 epochs of attributes"
    monkeypatch.setattr(
        "maskatlas.training_data.open_dataset", lambda *_, **__: replace(data, identities=None)
    )
    fitted = LNetsANet().fit(Job(config, tmp_path / "unknown"))
    assert fitted.note == "no identities: not pre-trained, 2 epochs of attributes"
    images = PackedImages(data, Preprocessing(16))
    assert fitted.score(images).shape == (24, 2)
    first = lnets_anet._identity_stage(torch.arange(5)).open(tmp_path / "identities" / "model")
    assert first.recogniser.weight.shape == (5, 160)
    assert LNetsANet().obstacle(data) is None


def test_batches_bring_regions_and_identities(tmp_path: Path) -> None:
    data = open_dataset("faces", split="val", faces=small_config(images=60).data.faces)
    images = ImagesWithRegions(data, Preprocessing(16))
    batch = images.batch(torch.tensor([4, 0]))
    for row, index in enumerate((4, 0)):
        regions = data.regions(index)
        expected = np.stack([Preprocessing(16).region(layer) for layer in regions.numpy()])
        np.testing.assert_array_equal(batch.regions[row].numpy(), expected)
    known = replace(make_dataset(4, NAMES), identities=torch.tensor([4, -1, 0, 9]))
    batch = ImagesWithIdentities(known, Preprocessing(16)).batch(torch.tensor([3, 1]))
    assert batch.identities.tolist() == [9, -1]


def test_where_no_region_is_known_all_of_it_is_unknown() -> None:
    region = np.ones((2, 40, 36), np.uint8)
    data = make_dataset(2, NAMES, regions=[None, region])
    regions = ImagesWithRegions(data, Preprocessing(8)).batch(torch.arange(2)).regions
    assert regions.unique().tolist() == [1, 255]
    assert (regions[0] == 255).all()


def test_components_are_taken_from_training_images() -> None:
    network = MultiTaskRBM(ModelConfig(channels=3, image_size=16), NAMES)
    images = PackedImages(make_dataset(12, NAMES), network.preprocessing)
    mt_rbm_pca.prepare(network, images)
    pixels = images.batch(torch.arange(12)).images.float() / 255
    visible = network(pixels).features.flatten(1)
    torch.testing.assert_close(torch.cov(visible.T), torch.eye(3), atol=2e-2, rtol=0)
