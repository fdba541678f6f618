import pytest
import torch
from torch.nn.functional import mse_loss

from maskatlas.bench.baselines import LoopedSubNetworks, loop, one_convolution
from maskatlas.masked_pooling import masked_pool
from maskatlas.subnetworks import SubNetworks, Supervision


@pytest.mark.parametrize("guided", [False, True])
@pytest.mark.parametrize("form", [loop, one_convolution])
def test_what_is_written_by_hand_is_masked_pooling(form, guided):
    torch.manual_seed(3)
    draw = lambda *shape: torch.randn(shape, dtype=torch.float64, requires_grad=True)  # noqa: E731
    features, guides = draw(3, 5, 4, 2), draw(3, 6, 4, 2) if guided else None
    weight, bias = draw(2, 5, 6 if guided else 5), draw(2, 5)
    inputs = [x for x in (features, weight, bias, guides) if x is not None]
    arriving = [torch.randn(3, 2, 5, dtype=torch.float64) for _ in range(2)]
    found, expected = (
        _all(operation, features, weight, bias, guides, inputs, arriving)
        for operation in (form, masked_pool)
    )
    torch.testing.assert_close(found, expected)


def _all(operation, features, weight, bias, guides, inputs, arriving):
    results = tuple(operation(features, weight, bias, guides))
    return [*results, *torch.autograd.grad(results, inputs, arriving)]


def test_looped_sub_networks_answer_as_ours_and_leave_the_loss_to_others():
    torch.manual_seed(4)
    ours, looped = SubNetworks(3, 5).double(), LoopedSubNetworks(3, 5).double()
    looped.load_state_dict(ours.state_dict())
    features = torch.randn(2, 5, 4, 4, dtype=torch.float64)
    supervision = Supervision(torch.ones(2, 3, dtype=torch.float64), 1.0, 0.1)
    answers, expected = looped(features, supervision), ours(features)
    assert answers.loss is None
    torch.testing.assert_close(answers[:3], expected[:3])
    mse_loss(answers.logits, torch.zeros_like(answers.logits)).backward()
    assert looped.mask_weight.grad is not None
