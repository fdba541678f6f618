"""Mirroring and small shifts, on whole batches of bytes.

What happens to an image is a pure function of (seed, step, place in the global batch): a resumed
run and one on several processes see the very same images as an uninterrupted one on one process.
"""

import hashlib

import torch
from jaxtyping import UInt8
from torch import Tensor


def augment(
    images: UInt8[Tensor, "batch layer size size"],
    *,
    seed: int,
    step: int,
    batch: int,
    part: slice,
    flip: bool,
    shift: int,
) -> UInt8[Tensor, "batch layer size size"]:
    """Mirror each image with probability 1/2 and shift it by up to ``shift`` pixels each way.

    What a shift uncovers repeats the border.

    Args:
        images: This process's part of the global batch; or maps that lie over it, which then move
            with it.
        seed: Of the run.
        step: Of the run, from 0.
        batch: Images of the global batch.
        part: Where this process's part lies in it.
        flip: Whether to mirror.
        shift: Largest shift, in pixels.
    """
    mixed = hashlib.blake2b(f"augment {seed} {step}".encode(), digest_size=8).digest()
    generator = torch.Generator().manual_seed(int.from_bytes(mixed, "little", signed=True))
    draws = torch.rand((batch, 3), generator=generator)[part]
    side = images.shape[-1]
    offsets = (draws[:, :2] * (2 * shift + 1)).long() - shift
    places = torch.arange(side)
    rows = (places + offsets[:, :1]).clamp(0, side - 1)
    columns = (places + offsets[:, 1:]).clamp(0, side - 1)
    if flip:
        mirrored = draws[:, 2:] < 0.5
        columns = torch.where(mirrored, columns.flip(1), columns)
    last = images.permute(0, 2, 3, 1)
    places = torch.arange(len(images))[:, None, None]
    return last[places, rows[:, :, None], columns[:, None, :]].permute(0, 3, 1, 2)
