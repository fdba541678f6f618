import numpy as np
import pytest
import torch

from maskatlas import inference
from maskatlas.cache import PackedImages
from maskatlas.data import AttributeDataset
from maskatlas.errors import DataError
from maskatlas.inference import labels_for, passes, predict
from maskatlas.model import AttributeNetwork
from networks import make_dataset, make_network


@pytest.fixture(autouse=True)
def _uneven_batches(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(inference, "BATCH_SIZE", 3)


def packed(network: AttributeNetwork, data: AttributeDataset) -> PackedImages:
    return PackedImages(data, network.preprocessing)


def test_predictions_are_what_the_network_says_of_each_image() -> None:
    network, data = make_network(), make_dataset(7)
    found = predict(network, packed(network, data))
    assert found.scores is found.logits
    masks = []
    for index in range(7):
        with torch.no_grad():
            output = network(network.preprocess(data.read(index))[None])
        torch.testing.assert_close(found.logits[index], output.logits[0].float())
        torch.testing.assert_close(
            found.multilabel_logits[index], output.multilabel_logits[0].float()
        )
        masks.append(output.mask_mean.mean().item())
    assert found.mask_mean == pytest.approx(np.mean(masks), rel=1e-6)
    assert found.logits.dtype == torch.float32


def test_only_the_chosen_images_are_looked_at() -> None:
    network, data = make_network(), make_dataset(7)
    images = packed(network, data)
    whole, some = predict(network, images), predict(network, images, indices=torch.tensor([5, 1]))
    for found, expected in zip(some[:2], whole[:2], strict=True):
        torch.testing.assert_close(found[[1, 5]], expected[[1, 5]])
        assert not found[[0, 2, 3, 4, 6]].any()
    alone = [predict(network, images, indices=torch.tensor([i])).mask_mean for i in (1, 5)]
    assert some.mask_mean == pytest.approx(sum(alone) / 2)


def test_heads_that_are_not_there_predict_nothing() -> None:
    data = make_dataset(4)
    plain = make_network(subnetworks=False)
    found = predict(plain, packed(plain, data))
    assert found.logits is found.mask_mean is None
    assert found.scores is found.multilabel_logits
    masked = make_network(multilabel=False)
    found = predict(masked, packed(masked, data))
    assert found.multilabel_logits is None
    assert found.scores is found.logits


def test_every_image_passes_once_in_batches_without_gradients() -> None:
    network, data = make_network(dtype=torch.float32), make_dataset(7)
    seen = []
    for batch, output in passes(network, packed(network, data)):
        assert not output.features.requires_grad
        assert output.logits.dtype == torch.float32
        assert output.reconstruction is None
        seen.append(batch.indices.tolist())
    assert seen == [[0, 1, 2], [3, 4, 5], [6]]


def test_processes_share_the_images_without_one_counted_twice(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    network, data = make_network(), make_dataset(7)
    images = packed(network, data)
    whole = predict(network, images)
    monkeypatch.setattr(inference.distributed, "world_size", lambda: 3)
    logits, masks = torch.zeros(7, 3), 0.0
    for rank in range(3):
        monkeypatch.setattr(inference.distributed, "rank", lambda rank=rank: rank)
        part = predict(network, images)
        assert part.logits.any(dim=1).sum() == (3, 2, 2)[rank]
        logits += part.logits
        masks += part.mask_mean
    torch.testing.assert_close(logits, whole.logits)
    assert masks == pytest.approx(whole.mask_mean)


def test_no_progress_bar_unless_it_has_a_title(capsys: pytest.CaptureFixture[str]) -> None:
    network, data = make_network(), make_dataset(4)
    images = packed(network, data)
    predict(network, images)
    predict(network, images, title="not on a terminal")
    assert capsys.readouterr() == ("", "")


def test_labels_are_matched_by_name() -> None:
    network = make_network(["Young", "Absent", "Smiling"])
    data = make_dataset([[1, 0], [0, float("nan")]], ["Smiling", "Young"])
    labels = labels_for(network, data)
    expected = [[0, np.nan, 1], [np.nan, np.nan, 0]]
    np.testing.assert_array_equal(labels.numpy(), expected)


def test_labels_with_no_name_in_common_are_an_error() -> None:
    with pytest.raises(DataError, match=r"Hat, Male.*Smiling, Young"):
        labels_for(make_network(["Smiling", "Young"]), make_dataset(3, ["Hat", "Male"]))
