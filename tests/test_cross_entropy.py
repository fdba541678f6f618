import torch

from maskatlas.cross_entropy import cross_entropy
from reference.losses import cross_entropy as slow_cross_entropy

NAN = float("nan")


def test_it_equals_its_slow_twin_gradient_included() -> None:
    logits = (3 * torch.randn(4, 3, dtype=torch.float64)).requires_grad_()
    labels = torch.tensor([[0, 1, NAN], [1, NAN, 0], [0, 0, 1], [1, 1, 0]], dtype=torch.float64)
    found, expected = cross_entropy(logits, labels), 4 * slow_cross_entropy(logits, labels)
    torch.testing.assert_close(found, expected, rtol=1e-10, atol=1e-12)
    (one,), (other,) = (torch.autograd.grad(total, logits) for total in (found, expected))
    torch.testing.assert_close(one, other, rtol=1e-9, atol=1e-12)
    assert not one[labels.isnan()].any()


def test_who_is_right_and_sure_of_it_loses_little_and_that_exactly() -> None:
    logits, labels = torch.tensor([[-16.0, 16.0, -30.0]]), torch.tensor([[0.0, 1.0, 0.0]])
    for k in range(3):
        found = cross_entropy(logits[:, k : k + 1], labels[:, k : k + 1])
        exact = torch.log1p(torch.exp(-logits[0, k].double().abs()))
        torch.testing.assert_close(found.double(), exact, rtol=1e-6, atol=0)
