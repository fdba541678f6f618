"""One training step at a time: batch, loss, gradient, AdamW, moving average.

What a step does is a function of the state before it and of its number, so that a run that was
stopped anywhere and restored computes the very same weights.
"""

import copy
import dataclasses
import math
from typing import Any

import torch
from jaxtyping import Float, Int64, UInt8
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from maskatlas import distributed
from maskatlas.augmentation import augment
from maskatlas.cache import PackedImages
from maskatlas.config import Config, LossConfig, TrainConfig
from maskatlas.data import epoch_order
from maskatlas.devices import autocast
from maskatlas.errors import ConfigError, TrainingError
from maskatlas.losses import LossTerms, loss_terms
from maskatlas.model import AttributeNetwork, Output, Supervised
from maskatlas.subnetworks import Supervision

_JOINING = ("subnetworks.mask_", "subnetworks.guide.", "reconstructor.")
"""What learns nothing in pretraining; the sub-networks' classifiers follow what does."""
MOST_NAMES = 64
"""Images that an error names."""


def learning_rate(step: int, total: int, config: TrainConfig) -> float:
    """Return the rate of a step: a linear rise over the warm-up, then half a cosine down to 0."""
    warmup = max(1, round(config.warmup * total))
    if step < warmup:
        return config.learning_rate * (step + 1) / warmup
    progress = (step - warmup) / max(1, total - warmup)
    return config.learning_rate * (1 + math.cos(math.pi * progress)) / 2


class Optimization:
    """A network on its way: weights, moments, moving average, and the number of the next step."""

    def __init__(
        self, config: Config, network: AttributeNetwork, images: PackedImages, device: torch.device
    ) -> None:
        """Set up step 0.

        Raises:
            ConfigError: The batch cannot be shared evenly among the processes.
        """
        self.config = config
        self.device = device
        self.images = images
        self.batch_size = min(config.train.batch_size, len(images))
        processes = distributed.world_size()
        if self.batch_size % processes:
            raise ConfigError(
                f"train.batch_size: {self.batch_size} images cannot be shared evenly among "
                f"{processes} processes; choose a multiple of {processes}"
            )
        share = self.batch_size // processes
        self.part = slice(distributed.rank() * share, (distributed.rank() + 1) * share)
        self.steps_per_epoch = len(images) // self.batch_size
        self.total = max(1, round(self.steps_per_epoch * config.train.epochs))
        self.number = 0
        self.pretraining = 0
        if None not in (network.subnetworks, network.classifier) and config.loss.multilabel:
            self.pretraining = int(config.train.pretraining * self.total)
        self.dtype = torch.float64 if config.train.precision == "float64" else torch.float32
        self.network = network.to(device, self.dtype).train()
        self.network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self._later = [
            parameter
            for part in (network.subnetworks, network.reconstructor)
            for parameter in (() if part is None else part.parameters())
            if parameter.requires_grad
        ]
        self.averaged = copy.deepcopy(self.network).eval() if config.train.ema else self.network
        self.optimizer = _adamw(self.network, self._later, config.train)
        self._order: tuple[int, Int64[Tensor, " image"]] | None = None
        self._phase: tuple[bool, nn.Module] | None = None

    @property
    def epoch(self) -> int:
        """The epoch of the next step, from 0."""
        return self.number // self.steps_per_epoch

    @property
    def epochs_due(self) -> int:
        """How many epochs are over: whole ones, and at the end what there was of the last."""
        over = self.number == self.total and self.number % self.steps_per_epoch > 0
        return self.epoch + over

    def step(self) -> tuple[LossTerms, Output]:
        """Take one step.

        Raises:
            TrainingError: The loss or its gradient is not finite; no weight has been changed then.
        """
        indices, pretraining = self._indices(), self.number < self.pretraining
        batch = self.images.batch(indices[self.part])
        images = self._moved(batch.images).to(self.dtype) / 255
        labels = batch.labels.to(self.device, self.dtype)
        supervision = Supervision(
            labels,
            self.config.loss.binary,
            self.config.loss.mask_l1,
            regions=None if batch.regions is None else self._moved(batch.regions),
            identities=None if batch.identities is None else batch.identities.to(self.device),
            pretraining=pretraining,
        )
        self.network.train()
        with autocast(self.device, self.config.train.precision):
            supervised: Supervised = self._pass(pretraining)(images, supervision)
        output, loss = supervised
        weights = _alone(self.config.loss) if pretraining else self.config.loss
        terms = loss_terms(output, images, labels, weights, loss=loss)
        self._check("the loss", distributed.mean(terms.total), indices)
        self.optimizer.zero_grad()
        terms.total.backward()
        norm = nn.utils.clip_grad_norm_(self.network.parameters(), self.config.train.clip)
        self._check("the norm of the gradient", norm, indices)
        for group in self.optimizer.param_groups:
            joined = group["joins"] and 0 < self.pretraining <= self.number
            begun = self.pretraining if joined else 0
            rate = learning_rate(self.number - begun, self.total - begun, self.config.train)
            group["lr"] = rate * (self.config.train.joining_rate if joined else 1)
        self.optimizer.step()
        self._average()
        if pretraining:
            _follow(self.network)
            _follow(self.averaged)
        self.number += 1
        return terms, output

    def _pass(self, pretraining: bool) -> nn.Module:
        """Return the pass of training; DistributedDataParallel must know which parts learn."""
        if self._phase is None or self._phase[0] != pretraining:
            for parameter in self._later:
                parameter.requires_grad_(not pretraining)
            supervised: nn.Module = _SupervisedPass(self.network)
            if distributed.world_size() > 1:
                devices = [self.device] if self.device.type == "cuda" else None
                supervised = DistributedDataParallel(
                    supervised, devices, broadcast_buffers=False, gradient_as_bucket_view=True
                )
            self._phase = pretraining, supervised
        return self._phase[1]

    def _moved(
        self, layers: UInt8[Tensor, "batch layer size size"]
    ) -> UInt8[Tensor, "batch layer size size"]:
        """Return images, or maps over them, mirrored and shifted as in this step, on the device."""
        moved = augment(
            layers,
            seed=self.config.seed,
            step=self.number,
            batch=self.batch_size,
            part=self.part,
            flip=self.config.train.flip,
            shift=self.config.train.shift,
        )
        return moved.to(self.device)

    def _indices(self) -> Int64[Tensor, " batch"]:
        """Return the images of the next global batch."""
        if self._order is None or self._order[0] != self.epoch:
            order = epoch_order(len(self.images), self.config.seed, self.epoch)
            self._order = self.epoch, order
        start = self.number % self.steps_per_epoch * self.batch_size
        return self._order[1][start : start + self.batch_size]

    def _check(self, what: str, value: Float[Tensor, ""], indices: Int64[Tensor, " batch"]) -> None:
        """Raise unless a number that is the same on every process is finite."""
        if not math.isfinite(number := value.item()):
            names = [self.images.data.names[index] for index in indices.tolist()]
            listed = ", ".join(names[:MOST_NAMES]) + (", ..." if len(names) > MOST_NAMES else "")
            raise TrainingError(
                f"step {self.number}: {what} is {number}, expected a finite number; the batch was "
                f"{listed}. The last good checkpoint is kept. Look at these images, or start "
                "another run with a lower train.learning-rate"
            )

    @torch.no_grad()
    def _average(self) -> None:
        """Move the averaged weights and buffers towards the current ones.

        In the beginning the average forgets faster, for parts that join later from then on.
        """
        if self.averaged is self.network:
            return
        average, current = self.averaged.state_dict(), self.network.state_dict()
        floating = [name for name, tensor in average.items() if tensor.is_floating_point()]
        for joins in (False, True):
            steps = max(0, self.number - self.pretraining) if joins else self.number
            decay = min(self.config.train.ema, (1 + steps) / (10 + steps))
            if names := [name for name in floating if name.startswith(_JOINING) == joins]:
                torch._foreach_lerp_(
                    [average[name] for name in names], [current[name] for name in names], 1 - decay
                )
        for name in average.keys() - floating:
            average[name].copy_(current[name])

    def tensors(self) -> dict[str, Tensor]:
        """Return all that changes from step to step, by name."""
        state: dict[str, Tensor] = {}
        for prefix, module in (("model", self.network), ("ema", self.averaged)):
            state |= {f"{prefix}.{name}": value for name, value in module.state_dict().items()}
        for name, parameter in self.network.named_parameters():
            for key, value in self.optimizer.state.get(parameter, {}).items():
                state[f"optimizer.{name}.{key}"] = value
        return state

    def restore(self, tensors: dict[str, Tensor], number: int) -> None:
        """Go back to a state that :meth:`tensors` returned before the step of this number."""
        for prefix, module in (("model.", self.network), ("ema.", self.averaged)):
            module.load_state_dict(_below(prefix, tensors))
        for name, parameter in self.network.named_parameters():
            moments: dict[str, Any] = _below(f"optimizer.{name}.", tensors)
            for key, value in moments.items():
                if value.ndim:  # fused AdamW expects moments to lie in memory as weights do
                    moments[key] = torch.empty_like(parameter).copy_(value)
                else:
                    moments[key] = value.to(self.device)
            if moments:
                self.optimizer.state[parameter] = moments
        self.number = number


def _alone(loss: LossConfig) -> LossConfig:
    """Return the weights of pretraining: the multi-label classifier stands for both heads.

    The sub-networks answer as it does when they join, so that the gradient does not jump then.
    """
    return dataclasses.replace(loss, multilabel=loss.binary + loss.multilabel)


def _follow(network: AttributeNetwork) -> None:
    """Have the sub-networks answer as the multi-label classifier does."""
    assert network.subnetworks is not None
    assert network.classifier is not None
    network.subnetworks.follow(network.classifier)


class _SupervisedPass(nn.Module):
    """The network's pass of training, as the forward pass that DistributedDataParallel wants."""

    def __init__(self, network: AttributeNetwork) -> None:
        super().__init__()
        self.network = network

    def forward(
        self, images: Float[Tensor, "batch 3 rows columns"], supervision: Supervision
    ) -> Supervised:
        return self.network.supervised(images, supervision)


def _below(prefix: str, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    return {
        name.removeprefix(prefix): tensor
        for name, tensor in tensors.items()
        if name.startswith(prefix)
    }


def _adamw(
    network: AttributeNetwork, later: list[nn.Parameter], config: TrainConfig
) -> torch.optim.AdamW:
    """Return AdamW; what has one dimension (biases, scales) does not decay.

    What joins after pretraining has groups of its own: its rate rises and falls from then on.
    """
    joining = {id(parameter) for parameter in later}
    groups = []
    for joins in (False, True):
        parameters = [p for p in network.parameters() if (id(p) in joining) == joins]
        for many, decay in ((True, config.weight_decay), (False, 0.0)):
            chosen = [p for p in parameters if (p.ndim > 1) == many]
            groups.append({"params": chosen, "weight_decay": decay, "joins": joins})
    return torch.optim.AdamW(groups, lr=config.learning_rate, fused=True)
