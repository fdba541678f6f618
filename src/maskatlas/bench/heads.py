"""Masked pooling, forward and backward, beside what one would write by hand.

Every form gets the same features, weights and gradients of its results, which are those of the
loss. What it returns, and each gradient, is first held against the loop in float64.
"""

from collections.abc import Callable, Iterator
from functools import partial
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor
from torch._dynamo.exc import TorchDynamoException

from maskatlas.bench.baselines import loop, one_convolution
from maskatlas.bench.measuring import processor_clock
from maskatlas.bench.results import Case, Form, compare
from maskatlas.bench.settings import Heads
from maskatlas.devices import autocast, choose_device, has_bfloat16
from maskatlas.masked_pooling import masked_loss, masked_pool, reference
from maskatlas.masked_pooling.reference import Problem, Wanted
from maskatlas.memory import available_bytes

TOLERANCE = {"float32": 1e-5, "bfloat16": 1e-2}
"""Relative norm by which our own forms may differ from the loop in float64."""

_DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16}
_MASK_L1 = 0.01  # large enough that an error in the gradient of the masks would show
_CHUNK = 16  # attributes that the truth is computed for at a time
_BLOCK = 512  # rows and columns of products that stay in the cache
_KEPT = 6  # maps of the size of all masks that forms written by hand need at their peak

Pooling = Callable[[Tensor, Tensor, Tensor, Tensor | None], tuple[Tensor, Tensor]]
Results = tuple[Tensor, ...]
"""pooled, mask_mean, and the gradients of features, weight, bias and, if there are, guides."""
NAMES = ("pooled", "mask_mean", "d features", "d weight", "d bias", "d mask_features")


class Inputs(NamedTuple):
    """What all forms get; features lie channels last, as the extractor leaves them."""

    features: Float[Tensor, "batch channel height width"]
    mask_features: Float[Tensor, "batch guide height width"] | None
    weight: Float[Tensor, "attribute channel guide"]
    bias: Float[Tensor, "attribute channel"]
    head_weight: Float[Tensor, "attribute channel"]
    head_bias: Float[Tensor, " attribute"]
    labels: Float[Tensor, "batch attribute"]

    @property
    def leaves(self) -> list[Tensor]:
        """What gradients are taken of."""
        guides = [] if self.mask_features is None else [self.mask_features]
        return [self.features, self.weight, self.bias, *guides]

    def with_maps_for(self, precision: str) -> "Inputs":
        """Return these with the maps that layers under such an autocast give."""
        dtype = _DTYPES[precision]
        features, guides = (
            None if x is None else x.detach().to(dtype).requires_grad_() for x in self[:2]
        )
        assert features is not None
        return self._replace(features=features, mask_features=guides)


class Truth(NamedTuple):
    """The loop in float64, and the gradients of the loss that its results get."""

    results: Results
    of_pooled: Float[Tensor, "batch attribute channel"]
    of_mask_mean: Float[Tensor, "batch attribute channel"]


def cases(settings: Heads) -> Iterator[Case]:
    """Measure every number of attributes at every size, in every precision."""
    device = choose_device(settings.device)
    rank = f", masks of rank {settings.mask_rank}" if settings.mask_rank else ""
    for size in settings.sizes:
        for attributes in settings.attributes:
            inputs = draw(settings, attributes, settings.batch, size, device)
            truth = in_float64(inputs)
            for precision in precisions(settings, device):
                yield compare(
                    f"{precision}, K {attributes}, C {settings.channels}{rank}, {size} x {size}, "
                    f"batch {settings.batch}",
                    {
                        "precision": precision,
                        "attributes": attributes,
                        "channels": settings.channels,
                        "mask_rank": settings.mask_rank,
                        "size": size,
                        "batch": settings.batch,
                    },
                    forms(inputs, truth, precision, compiled=settings.compile),
                    images=settings.batch,
                    rounds=settings.repeats,
                    device=device,
                    clock=processor_clock(device),
                )


def precisions(settings: Heads, device: torch.device) -> tuple[str, ...]:
    """Return those that are measured on a device."""
    if settings.precision is not None:
        return (settings.precision,)
    return ("bfloat16", "float32") if has_bfloat16(device) else ("float32",)


def draw(settings: Heads, attributes: int, batch: int, size: int, device: torch.device) -> Inputs:
    """Draw features, weights and labels; the features have values that bfloat16 holds exactly."""
    generator = torch.Generator().manual_seed(settings.seed)
    normal = partial(torch.randn, generator=generator)
    channels, guides = settings.channels, settings.mask_rank or settings.channels

    def maps(count: int) -> Tensor:
        drawn = normal(batch, count, size, size).relu().bfloat16().float().to(device)
        return drawn.contiguous(memory_format=torch.channels_last).requires_grad_()

    return Inputs(
        features=maps(channels),
        mask_features=maps(guides) if settings.mask_rank else None,
        weight=(normal(attributes, channels, guides) * guides**-0.5).to(device).requires_grad_(),
        bias=normal(attributes, channels).to(device).requires_grad_(),
        head_weight=(normal(attributes, channels) * channels**-0.5).to(device),
        head_bias=normal(attributes).to(device),
        labels=(normal(batch, attributes) > 0).float().to(device),
    )


def in_float64(inputs: Inputs) -> Truth:
    """Compute the results and all gradients with the loop, a few attributes at a time."""
    wide = Inputs(*(None if x is None else x.detach().double() for x in inputs))  # type: ignore[arg-type]
    for leaf in wide.leaves:
        leaf.requires_grad_()
    parts = []
    for start in range(0, len(wide.weight), _CHUNK):
        part = slice(start, start + _CHUNK)
        pooled, mean = loop(wide.features, wide.weight[part], wide.bias[part], wide.mask_features)
        logits = (pooled.detach() * wide.head_weight[part]).sum(2) + wide.head_bias[part]
        slopes = (logits.sigmoid() - wide.labels[:, part]) / len(logits)
        of_pooled = slopes[:, :, None] * wide.head_weight[part]
        of_mean = torch.full_like(mean, _MASK_L1 / len(logits))
        torch.autograd.backward((pooled, mean), (of_pooled, of_mean))
        parts.append((pooled.detach(), mean.detach(), of_pooled, of_mean))
    pooled, mean, of_pooled, of_mean = (torch.cat(each, 1) for each in zip(*parts, strict=True))
    gradients = [leaf.grad for leaf in wide.leaves if leaf.grad is not None]
    return Truth((pooled, mean, *gradients), of_pooled, of_mean)


def forms(inputs: Inputs, truth: Truth, precision: str, *, compiled: bool) -> list[Form]:
    """Return all ways of doing it, each run once and held against the truth.

    Beside them stands a lower bound, which computes nothing of use: as many operations as the
    three products take that loss and gradient cannot do without.

    Args:
        inputs: In float32.
        truth: Of these inputs.
        precision: `float32` or `bfloat16`; under the latter, autocast is on for all of them.
        compiled: Whether the convolution is measured under torch.compile too.
    """
    inputs = inputs.with_maps_for(precision)
    by_hand: dict[str, Pooling] = {"loop": loop, "convolution": one_convolution}
    if compiled:
        torch.compiler.reset()  # else the ninth size would silently run as it is
        by_hand["compiled convolution"] = torch.compile(one_convolution, dynamic=False)
    ours = own_forms(inputs, truth, precision)
    found = [_checked(name, call, truth, TOLERANCE[precision]) for name, call in ours.items()]
    found.append(Form("three products alone", _products(inputs), note="a lower bound, not a form"))
    lack = _lack_of_memory(inputs)
    for name, pooling in by_hand.items():
        call = _by_autograd(pooling, inputs, truth, precision)
        form = Form(name, None, baseline=True, note=lack)
        found.append(form if lack else _checked(name, call, truth, None))
    return found


def own_forms(inputs: Inputs, truth: Truth, precision: str) -> dict[str, Callable[[], Results]]:
    """Return ours: loss and gradient at once, the operation alone, and that in plain torch."""
    return {
        "masked_loss": partial(_loss, inputs, precision),
        "masked_pool": _by_autograd(masked_pool, inputs, truth, precision),
        "masked_pool in plain torch": partial(_plain, inputs, truth, precision),
    }


def _loss(inputs: Inputs, precision: str) -> Results:
    device = inputs.features.device
    with autocast(device, precision):
        found = masked_loss(
            *(inputs.features, inputs.weight, inputs.bias, inputs.head_weight, inputs.head_bias),
            *(inputs.labels, inputs.mask_features),
            mask_l1=_MASK_L1,
        )
    return found.pooled, found.mask_mean, *torch.autograd.grad(found.loss, inputs.leaves)


def _by_autograd(
    pooling: Pooling, inputs: Inputs, truth: Truth, precision: str
) -> Callable[[], Results]:
    features = inputs.features
    of_results = truth.of_pooled.float(), truth.of_mask_mean.float()

    def call() -> Results:
        with autocast(features.device, precision):
            results = pooling(features, inputs.weight, inputs.bias, inputs.mask_features)
        arriving = [one.to(result.dtype) for one, result in zip(of_results, results, strict=True)]
        gradients = torch.autograd.grad(tuple(results), inputs.leaves, arriving)
        return *(result.detach() for result in results), *gradients

    return call


def _plain(inputs: Inputs, truth: Truth, precision: str) -> Results:
    problem = Problem(*inputs[:4], offset=1.0, dtype=_DTYPES[precision])
    wanted = Wanted(True, inputs.mask_features is not None, True, True)
    with torch.no_grad():
        results = reference.pool(problem)
        found = reference.pool_gradients(problem, truth.of_pooled, truth.of_mask_mean, wanted)
    ordered = found.features, found.weight, found.bias, found.mask_features
    return *results, *(gradient for gradient in ordered if gradient is not None)


def _products(inputs: Inputs) -> Callable[[], None]:
    """Multiply as much as `masked_loss` must at least, in blocks that a library is fastest at."""
    batch, channels, height, width = inputs.features.shape
    guides = inputs.weight.shape[2]
    block = torch.zeros(_BLOCK, _BLOCK, dtype=inputs.features.dtype, device=inputs.features.device)
    result = torch.empty_like(block)
    operations = 2 * batch * height * width * len(inputs.weight) * channels * guides
    whole, rows = divmod(3 * operations // (2 * _BLOCK**2), _BLOCK)

    def call() -> None:
        for _ in range(whole):
            torch.mm(block, block, out=result)
        torch.mm(block[:rows], block, out=result[:rows])

    return call


def _checked(name: str, call: Callable[[], Results], truth: Truth, tolerance: float | None) -> Form:
    """Return the form with its errors; ours have a tolerance, what is written by hand has none."""
    baseline = tolerance is None
    try:
        results = call()
    except TorchDynamoException as error:
        said = str(error).strip().splitlines()[0]
        return Form(name, None, baseline, note=f"does not compile: {said}")
    norms = [
        0.0 if torch.equal(found, true) else ((found - true).norm() / true.norm()).item()
        for found, true in zip(results, truth.results, strict=True)
    ]
    errors = dict(zip(NAMES, norms, strict=False))  # the last is there with mask features only
    return Form(name, call, baseline, errors=errors, tolerance=tolerance)


def _lack_of_memory(inputs: Inputs) -> str:
    """Say why forms that hold all masks cannot run here; empty if they can."""
    batch, _, height, width = inputs.features.shape
    masks = batch * inputs.bias.numel() * height * width
    needed = _KEPT * masks * inputs.features.element_size()
    free = available_bytes(inputs.features.device)
    if free is None or needed < free:
        return ""
    return f"not run: needs about {needed / 2**30:.1f} GiB, and {free / 2**30:.1f} are free"
