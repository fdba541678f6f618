"""The painter: one face from its parameters, layer by layer, the farthest first.

A layer that shows an attribute marks its region with the shape that it paints, and marks the same
place, unpainted, where the face lacks the attribute; later layers take away what they cover. So a
region is where one sees the attribute, or where one would look for it.
"""

from typing import NamedTuple

import numpy as np
from jaxtyping import Float, UInt8

from maskatlas.sources.faces import attire, features
from maskatlas.sources.faces.canvas import Canvas, Frame
from maskatlas.sources.faces.parameters import (
    ATTRIBUTES,
    NOISE,
    Backdrop,
    FaceParameters,
    Light,
    stream,
)

_HEAD = -0.10  # height of the head's centre in the frame of the body
_NECK = 0.42  # height about which the head leans
_DEPTH = 0.55  # radius of the sphere that the front of the face turns on


class _Frames(NamedTuple):
    picture: Frame
    body: Frame
    head: Frame
    front: Frame
    """The front of the face, turned by the yaw; x = 0 is the line of the nose."""


def render_face(
    parameters: FaceParameters, size: int
) -> tuple[UInt8[np.ndarray, "size size 3"], UInt8[np.ndarray, "attribute size size"]]:
    """One face and the visible region of each of its attributes.

    Args:
        parameters: the face, as :func:`~maskatlas.sources.faces.draw_face` gives it.
        size: side of the square, in pixels; made for 32 and more.

    Returns:
        The picture, and for each of `ATTRIBUTES` 1 inside its region and 0 outside. For an
        attribute that the face lacks, the region is the place where it would be.
    """
    canvas = Canvas(size, ATTRIBUTES)
    _portray(canvas, parameters, size)
    return _developed(canvas, parameters), canvas.regions()


def render_image(parameters: FaceParameters, size: int) -> UInt8[np.ndarray, "size size 3"]:
    """The picture of :func:`render_face` without the regions, in less time."""
    canvas = Canvas(size)
    _portray(canvas, parameters, size)
    return _developed(canvas, parameters)


def _portray(canvas: Canvas, face: FaceParameters, size: int) -> None:
    frames = _frames(face, size)
    _backdrop(canvas, face.backdrop, frames.picture)
    hair = attire.hair_colour(face, frames.head)
    attire.hair_behind(canvas, face, frames.head, hair)
    attire.body(canvas, face, frames.body)
    attire.necklace(canvas, face, frames.body)
    attire.necktie(canvas, face, frames.body)
    outline = features.head(canvas, face, frames.head)
    features.cheeks(canvas, face, frames.front, outline)
    features.eyes(canvas, face, frames.front)
    features.brows(canvas, face, frames.front)
    features.nose(canvas, face, frames.front)
    features.mustache(canvas, face, frames.front)
    features.goatee(canvas, face, frames.front)
    features.mouth(canvas, face, frames.front)
    attire.hair_in_front(canvas, face, frames.head, frames.front, outline=outline, colour=hair)
    attire.eyeglasses(canvas, face, frames.front, outline)
    attire.hat(canvas, face, frames.head, frames.front)
    attire.earrings(canvas, face, frames.head)


def _frames(face: FaceParameters, size: int) -> _Frames:
    pose = face.pose
    steps = (np.arange(size, dtype=np.float32) + np.float32(0.5)) * np.float32(2 / size) - 1
    x, y = np.meshgrid(steps, steps)
    picture = Frame(x, y, 2 / size)
    upright = Frame(
        (picture.x - np.float32(pose.x)) / np.float32(pose.scale),
        (picture.y - np.float32(pose.y)) / np.float32(pose.scale),
        picture.pixel / pose.scale,
    )
    leaning = upright.turned(pose.roll, y=_NECK)
    head = Frame(leaning.x, leaning.y - np.float32(_HEAD), upright.pixel)
    depth = np.sqrt(np.maximum(np.float32(_DEPTH**2) - head.x**2, np.float32(0.01)))
    across = head.x * np.float32(np.cos(pose.yaw)) - depth * np.float32(np.sin(pose.yaw))
    front = Frame(across, head.y, head.pixel)
    return _Frames(picture, upright.turned(pose.roll / 5, y=1.0), head, front)


def _developed(canvas: Canvas, face: FaceParameters) -> UInt8[np.ndarray, "size size 3"]:
    image, light = canvas.image, face.light
    size = image.shape[-1]
    image *= _light(light, size)
    noise = stream(*face.key, NOISE).standard_normal(image.shape, dtype=np.float32)
    image += noise * np.float32(light.noise)
    return np.clip(image * 255 + 0.5, 0, 255).astype(np.uint8).transpose(1, 2, 0).copy()


def _light(light: Light, size: int) -> Float[np.ndarray, "3 size size"]:
    steps = (np.arange(size, dtype=np.float32) + np.float32(0.5)) * np.float32(2 / size) - 1
    field = 1 + np.float32(light.x) * steps[None, :] + np.float32(light.y) * steps[:, None]
    tint = np.asarray(light.tint, np.float32)[:, None, None]
    return np.float32(light.gain) * tint * field


def _backdrop(canvas: Canvas, backdrop: Backdrop, picture: Frame) -> None:
    turned = picture.turned(backdrop.angle)
    canvas.tint(np.ones_like(picture.x), backdrop.near)
    canvas.tint(np.clip(0.5 + 0.4 * turned.x, 0, 1), backdrop.far)
    waves = np.sin(turned.x * backdrop.frequency + backdrop.phase)
    crossing = np.sin(turned.y * backdrop.frequency + 2 * backdrop.phase)
    pattern = (
        np.clip(waves * 4, -1, 1),
        np.clip((waves * crossing - 0.35) * 6, 0, 1),
        np.clip(waves * crossing * 5, -1, 1),
        np.sin(turned.x * backdrop.frequency / 2 + 1.5 * crossing),
    )[backdrop.pattern]
    canvas.image += np.float32(backdrop.contrast) * pattern
