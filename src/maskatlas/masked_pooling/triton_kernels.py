"""Masked pooling in Triton's language: the sums, and the gradients of maps and of weights.

Tiles of masks live in registers. Everywhere a map is [channels, positions] of one image, and its
steps say how far apart images, channels and positions lie.

`sums` holds one tile of the features of an image and goes through the attributes, whose weights
come from the cache. Channels are the rows of its product, so that a thread adds up the positions it
holds and little is left to exchange. `map_gradients` goes through the attributes likewise, with
positions as rows: a tile of slopes is then multiplied out of the registers it was computed in.
`weight_gradients` holds the weights of one attribute and goes through images. The two gradients sum
over different things. In one kernel, one of them would be added up in memory by all programs at
once, 64 KiB a tile and in no fixed order; apart, they cost one product and one sigmoid more, and
every sum has one order.

Rows and columns beyond an axis' end are loaded as zeros. `HW`, `C` and `G` are compiled in, so that
where tiles fit no check is left. Its types are not those of Python: `no_type_check`.
"""

from typing import no_type_check

import triton
import triton.language as tl


@triton.jit
@no_type_check
def sums(
    features,
    image_step,
    channel_step,
    position_step,
    guides,
    guide_image_step,
    guide_step,
    guide_position_step,
    weight,  # [K C G]
    bias,  # [K C]
    pooled,  # [B K C], float32
    mask_mean,  # [B K C], float32
    offset,
    attributes,
    attributes_each,
    HW: tl.constexpr,
    C: tl.constexpr,
    G: tl.constexpr,
    SHARED: tl.constexpr,
    POSITIONS: tl.constexpr,
    CHANNELS: tl.constexpr,
    GUIDES: tl.constexpr,
):
    """Pool one image's features under some attributes' masks, CHANNELS channels of them."""
    image = tl.program_id(0).to(tl.int64)
    channel = tl.program_id(1) * CHANNELS + tl.arange(0, CHANNELS)
    first = tl.program_id(2) * attributes_each
    last = tl.minimum(first + attributes_each, attributes)
    features += image * image_step
    guides += image * guide_image_step
    inside = channel < C
    for start in range(0, HW, POSITIONS):
        position = start + tl.arange(0, POSITIONS)
        g = _tile(guides, tl.arange(0, GUIDES), position, guide_step, guide_position_step, G, HW)
        if SHARED and CHANNELS >= C and GUIDES >= G:
            f = g
        else:
            f = _tile(features, channel, position, channel_step, position_step, C, HW)
        unmasked = offset * tl.sum(f.to(tl.float32), 1)
        for k in range(first, last):
            at = (image * attributes + k) * C + channel
            later = inside & (start > 0)
            pooled_before = tl.load(pooled + at, later, 0.0)
            masks_before = tl.load(mask_mean + at, later, 0.0)
            w = _weights(weight, k, channel, tl.arange(0, GUIDES), C, G)
            z = tl.dot(w, g, input_precision="ieee")
            for block in range(GUIDES, G, GUIDES):
                guide = block + tl.arange(0, GUIDES)
                w = _weights(weight, k, channel, guide, C, G)
                g_block = _tile(guides, guide, position, guide_step, guide_position_step, G, HW)
                z = tl.dot(w, g_block, z, input_precision="ieee")
            b = tl.load(bias + k * C + channel, inside, 0.0)
            mask = _mask(z, b[:, None])
            if HW % POSITIONS:
                mask = tl.where(position[None, :] < HW, mask, 0.0)
            attended = unmasked + tl.sum(mask * f.to(tl.float32), 1)
            tl.store(pooled + at, pooled_before + attended / HW, inside)
            tl.store(mask_mean + at, masks_before + tl.sum(mask, 1) / HW, inside)
        tl.debug_barrier()  # the next positions add to what other threads have stored


@triton.jit
@no_type_check
def map_gradients(
    features,
    image_step,
    channel_step,
    position_step,
    guides,
    guide_image_step,
    guide_step,
    guide_position_step,
    weight,
    bias,
    pooled_gradient,  # [B K C], float32
    mask_gradient,  # [B K C], float32
    feature_gradient,
    image_step_out,
    channel_step_out,
    position_step_out,
    guide_gradient,
    guide_image_step_out,
    guide_step_out,
    guide_position_step_out,
    offset,
    attributes,
    HW: tl.constexpr,
    C: tl.constexpr,
    G: tl.constexpr,
    SHARED: tl.constexpr,
    OF_FEATURES: tl.constexpr,
    OF_GUIDES: tl.constexpr,
    POSITIONS: tl.constexpr,
    CHANNELS: tl.constexpr,
    GUIDES: tl.constexpr,
):
    """Carry gradients to a tile of one image's features, and to one of its mask features.

    Where masks are computed from the features themselves (SHARED), the sum of both goes to the
    features, and CHANNELS equals GUIDES.
    """
    image = tl.program_id(0).to(tl.int64)
    position = tl.program_id(1) * POSITIONS + tl.arange(0, POSITIONS)
    own = tl.program_id(2)
    own_guide = own * GUIDES + tl.arange(0, GUIDES)
    features += image * image_step
    guides += image * guide_image_step
    g = _tile(guides, tl.arange(0, GUIDES), position, guide_step, guide_position_step, G, HW)
    of_guides = tl.zeros((POSITIONS, GUIDES), tl.float32)
    of_features = tl.zeros((POSITIONS, CHANNELS), tl.float32)
    for start in range(0, C, CHANNELS):
        channel = start + tl.arange(0, CHANNELS)
        inside = channel < C
        f = tl.trans(_tile(features, channel, position, channel_step, position_step, C, HW))
        for k in range(attributes):
            at = (image * attributes + k) * C + channel
            by_pooled = tl.load(pooled_gradient + at, inside, 0.0)
            by_mask = tl.load(mask_gradient + at, inside, 0.0)
            w = _weights(weight, k, channel, tl.arange(0, GUIDES), C, G)
            z = tl.dot(tl.trans(g), tl.trans(w), input_precision="ieee")
            for block in range(GUIDES, G, GUIDES):
                guide = block + tl.arange(0, GUIDES)
                w_block = _weights(weight, k, channel, guide, C, G)
                g_block = _tile(guides, guide, position, guide_step, guide_position_step, G, HW)
                z = tl.dot(tl.trans(g_block), tl.trans(w_block), z, input_precision="ieee")
            b = tl.load(bias + k * C + channel, inside, 0.0)
            mask = _mask(z, b[None, :])
            if OF_GUIDES:
                slope = (by_pooled[None, :] * f + by_mask[None, :]) * mask * (1 - mask)
                if G > GUIDES:
                    w = _weights(weight, k, channel, own_guide, C, G)
                of_guides = tl.dot(slope.to(w.dtype), w, of_guides, input_precision="ieee")
            if OF_FEATURES:
                by_own = tl.where(start == own * CHANNELS, by_pooled, 0.0)
                direct = by_own[None, :] * (offset + mask)
                if SHARED:
                    of_guides += direct
                else:
                    of_features += direct
    if OF_FEATURES:
        if SHARED:
            of_features = of_guides
        own_channel = own * CHANNELS + tl.arange(0, CHANNELS)
        at = own_channel[None, :] * channel_step_out + position[:, None] * position_step_out
        valid = (own_channel[None, :] < C) & (position[:, None] < HW)
        tl.store(feature_gradient + image * image_step_out + at, of_features / HW, valid)
    if OF_GUIDES and not SHARED:
        at = own_guide[None, :] * guide_step_out + position[:, None] * guide_position_step_out
        valid = (own_guide[None, :] < G) & (position[:, None] < HW)
        tl.store(guide_gradient + image * guide_image_step_out + at, of_guides / HW, valid)


@triton.jit
@no_type_check
def weight_gradients(
    features,
    image_step,
    channel_step,
    position_step,
    guides,
    guide_image_step,
    guide_step,
    guide_position_step,
    weight,
    bias,
    pooled_gradient,
    mask_gradient,
    weight_gradient,  # [parts K C G], float32
    bias_gradient,  # [parts K C], float32
    images,
    images_each,
    attributes,
    HW: tl.constexpr,
    C: tl.constexpr,
    G: tl.constexpr,
    SHARED: tl.constexpr,
    POSITIONS: tl.constexpr,
    CHANNELS: tl.constexpr,
    GUIDES: tl.constexpr,
):
    """Sum up a tile of one attribute's weight gradient, and its bias', over some images."""
    TILES: tl.constexpr = (HW + POSITIONS - 1) // POSITIONS
    GUIDE_TILES: tl.constexpr = (G + GUIDES - 1) // GUIDES
    k = tl.program_id(0)
    own_tile = tl.program_id(1) % GUIDE_TILES
    own_guide = own_tile * GUIDES + tl.arange(0, GUIDES)
    channel = tl.program_id(1) // GUIDE_TILES * CHANNELS + tl.arange(0, CHANNELS)
    inside = channel < C
    first = tl.program_id(2) * images_each
    last = tl.minimum(first + images_each, images)
    b = tl.load(bias + k * C + channel, inside, 0.0)
    w = _weights(weight, k, channel, own_guide, C, G)
    of_weight = tl.zeros((CHANNELS, GUIDES), tl.float32)
    of_bias = tl.zeros((CHANNELS,), tl.float32)
    for step in range(first * TILES, last * TILES):
        image = tl.cast(step // TILES, tl.int64)
        position = step % TILES * POSITIONS + tl.arange(0, POSITIONS)
        at = (image * attributes + k) * C + channel
        by_pooled = tl.load(pooled_gradient + at, inside, 0.0)
        by_mask = tl.load(mask_gradient + at, inside, 0.0)
        maps = guides + image * guide_image_step
        g = _tile(maps, own_guide, position, guide_step, guide_position_step, G, HW)
        z = tl.dot(w, g, input_precision="ieee")
        for number in range(1, GUIDE_TILES):
            guide = (own_tile + number) % GUIDE_TILES * GUIDES + tl.arange(0, GUIDES)
            w_block = _weights(weight, k, channel, guide, C, G)
            g_block = _tile(maps, guide, position, guide_step, guide_position_step, G, HW)
            z = tl.dot(w_block, g_block, z, input_precision="ieee")
        if SHARED and CHANNELS >= C and GUIDES >= G:
            f = g
        else:
            maps = features + image * image_step
            f = _tile(maps, channel, position, channel_step, position_step, C, HW)
        mask = _mask(z, b[:, None])
        slope = (by_pooled[:, None] * f + by_mask[:, None]) * mask * (1 - mask)
        if HW % POSITIONS:
            slope = tl.where(position[None, :] < HW, slope, 0.0)
        of_bias += tl.sum(slope, 1)
        of_weight = tl.dot(slope.to(g.dtype), tl.trans(g), of_weight, input_precision="ieee")
    row = (tl.program_id(2) * attributes + k).to(tl.int64) * C + channel
    valid = inside[:, None] & (own_guide[None, :] < G)
    tl.store(weight_gradient + row[:, None] * G + own_guide[None, :], of_weight / HW, valid)
    tl.store(bias_gradient + row, of_bias / HW, inside & (own_tile == 0))


@triton.jit
@no_type_check
def _tile(maps, channel, position, channel_step, position_step, C, HW):
    """Channels x positions of one image."""
    at = channel[:, None] * channel_step + position[None, :] * position_step
    return tl.load(maps + at, (channel[:, None] < C) & (position[None, :] < HW), 0.0)


@triton.jit
@no_type_check
def _weights(weight, k, channel, guide, C, G):
    """Channels x guides of attribute k."""
    row = tl.cast(k, tl.int64) * C + channel
    at = row[:, None] * G + guide[None, :]
    return tl.load(weight + at, (channel[:, None] < C) & (guide[None, :] < G), 0.0)


@triton.jit
@no_type_check
def _mask(z, b):
    """sigmoid(z + b), by two of the special functions and nothing that guards their far ends.

    One would do, since sigmoid(z) = (1 + tanh(z / 2)) / 2; but its 11 bits leave a mask near 0 no
    digits, nor the slope of one near 1. Here 2 ** x is infinite or 0 at the far ends, and the mask
    then 0 or 1.
    """
    return tl.inline_asm_elementwise(
        """{
        .reg .f32 e;
        ex2.approx.ftz.f32 e, $1;
        add.f32 e, e, 0f3F800000;  // 1
        rcp.approx.ftz.f32 $0, e;
        }""",
        "=f,f",
        [z * -1.4426950408889634 + b * -1.4426950408889634],  # e ** x is 2 ** (x / ln 2)
        dtype=tl.float32,
        is_pure=True,
        pack=1,
    )
