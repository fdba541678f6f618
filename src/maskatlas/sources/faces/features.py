"""The face itself, feature by feature; the front of it is drawn in the frame that turns."""

import numpy as np

from maskatlas.sources.faces.canvas import Canvas, Frame, Mask
from maskatlas.sources.faces.colours import BLACK, INK, WHITE, blend
from maskatlas.sources.faces.parameters import FaceParameters


def head(canvas: Canvas, face: FaceParameters, frame: Frame) -> Mask:
    """Ears and skin; returns the coverage of the skin."""
    build = face.build
    ears = frame.mirrored()
    ear = ears.oval(build.width + 0.005, 0.03, 0.055, 0.09)
    canvas.paint(ears.cover(ear), blend(build.skin, BLACK, 0.06))
    canvas.tint(ears.cover(ear + 0.03), blend(build.skin, BLACK, 0.2))
    taper = 1 - np.float32(build.jaw) * np.clip(frame.y / 0.48, 0, 1) ** 2
    shape = Frame(frame.x / taper, frame.y, frame.pixel).oval(0.0, 0.0, build.width, 0.48)
    outline = frame.cover(shape)
    away = -(face.light.x * frame.x / build.width + face.light.y * frame.y / 0.48)
    shade = 1 - np.clip(away, -0.1, 0.3) * 0.6 - 0.1 * np.clip(1 + shape / 0.09, 0, 1) ** 2
    canvas.paint(outline, np.asarray(build.skin, np.float32)[:, None, None] * shade)
    return outline


def cheeks(canvas: Canvas, face: FaceParameters, front: Frame, outline: Mask) -> None:
    """Rosy_Cheeks: blush on the skin."""
    mirror = front.mirrored()
    distance = mirror.oval(0.23, 0.172, 0.085, 0.066)
    mask = mirror.cover(distance) * outline
    if face.has("Rosy_Cheeks"):
        canvas.tint(mask * np.clip(0.45 - distance / 0.1, 0.3, 0.75), face.build.blush)
    canvas.mark("Rosy_Cheeks", mask)


def eyes(canvas: Canvas, face: FaceParameters, front: Frame) -> None:
    """Eyes, open wide or Narrow_Eyes, whose region is the eye as if open wide."""
    build, mirror = face.build, front.mirrored()
    height = build.narrow if face.has("Narrow_Eyes") else build.eye
    lids = mirror.oval(0.165, 0.015, 0.09, height)
    white = mirror.cover(lids)
    look = np.where(front.x < 0, np.float32(0.165 - build.gaze), np.float32(0.165 + build.gaze))
    iris = mirror.oval(look, 0.015, 0.05, 0.054)
    canvas.paint(white, (0.97, 0.96, 0.95))
    canvas.tint(white * mirror.cover(iris), build.iris)
    canvas.tint(white * mirror.cover(iris + 0.026), INK)
    canvas.tint(white * mirror.cover(mirror.oval(look + 0.018, -0.008, 0.015, 0.015)), WHITE)
    canvas.tint(mirror.line(lids, 0.012) * mirror.cover(mirror.y - 0.012), INK)
    canvas.mark("Narrow_Eyes", mirror.cover(mirror.oval(0.165, 0.015, 0.1, build.eye + 0.01)))


def brows(canvas: Canvas, face: FaceParameters, front: Frame) -> None:
    """Eyebrows, thin or Bushy_Eyebrows, whose region is the bushy shape."""
    mirror = front.mirrored()
    along = (mirror.x - 0.165) / 0.11
    taper = np.sqrt(np.clip(1.05 - along**2, 0, 1))
    distance = np.abs(mirror.y + 0.118 + face.build.arch * (1 - along**2))
    ends = mirror.cover(np.abs(mirror.x - 0.165) - 0.11)
    bushy = mirror.cover(distance - 0.036 * taper) * ends
    if face.has("Bushy_Eyebrows"):
        canvas.paint(bushy, face.build.brow)
    else:
        thin = mirror.line(distance, 0.009) * ends
        canvas.paint(thin, blend(face.build.brow, face.build.skin, 0.15))
    canvas.mark("Bushy_Eyebrows", bushy)


def nose(canvas: Canvas, face: FaceParameters, front: Frame) -> None:
    """A small nose or a Big_Nose, whose region is the big shape."""
    build = face.build
    tip = Frame(front.x - np.float32(0.12 * face.pose.yaw), front.y, front.pixel)
    big = face.has("Big_Nose")
    width, height = (0.14, 0.095) if big else (0.042, 0.03)
    width, height = width * build.nose, height * build.nose
    base = 0.175
    ball = tip.oval(0.0, base - height, width, height)
    bridge = tip.box(0.0, 0.06, 0.035 if big else 0.02, 0.09, 0.02)
    canvas.tint(tip.cover(bridge), blend(build.skin, BLACK, 0.07))
    canvas.paint(tip.cover(ball), blend(build.skin, (0.8, 0.25, 0.2), 0.34 if big else 0.15))
    wings = tip.line(ball, 0.009) * tip.cover(base - 1.1 * height - tip.y)
    canvas.tint(wings, blend(build.skin, BLACK, 0.4))
    shine = tip.oval(-0.3 * width, base - 1.35 * height, 0.28 * width, 0.25 * height)
    canvas.tint(tip.cover(shine) * 0.5, WHITE)
    place = tip.oval(0.0, base - 0.095 * build.nose, 0.145 * build.nose, 0.1 * build.nose)
    canvas.mark("Big_Nose", tip.cover(np.minimum(place, tip.box(0.0, 0.06, 0.035, 0.09, 0.02))))


def mustache(canvas: Canvas, face: FaceParameters, front: Frame) -> None:
    """Mustache: below the nose, in a colour of its own."""
    mirror = front.mirrored()
    along = mirror.x / 0.185
    middle = 0.215 + 0.03 * along**2
    half = 0.034 * np.sqrt(np.clip(1 - along**2, 0, 1)) * np.clip(0.55 + mirror.x / 0.07, 0, 1)
    mask = mirror.cover(np.abs(mirror.y - middle) - half) * mirror.cover(mirror.x - 0.185)
    if face.has("Mustache"):
        canvas.paint(mask, face.build.beard)
    canvas.mark("Mustache", mask)


def goatee(canvas: Canvas, face: FaceParameters, front: Frame) -> None:
    """Goatee: on the chin, in the mustache's colour."""
    chin = front.oval(0.0, 0.43, 0.14, 0.11)
    mask = front.cover(np.maximum(chin, 0.355 - front.y))
    if face.has("Goatee"):
        strands = 1 + 0.12 * np.sin(70 * front.x)
        canvas.paint(mask, np.asarray(face.build.beard, np.float32)[:, None, None] * strands)
    canvas.mark("Goatee", mask)


def mouth(canvas: Canvas, face: FaceParameters, front: Frame) -> None:
    """Lips and what is between them; three attributes show in them."""
    build, x, y = face.build, front.x, front.y
    smiling, is_open = face.has("Smiling"), face.has("Mouth_Slightly_Open")
    width = build.mouth * (1.3 if smiling else 1.0 if not is_open else 0.9)
    along = x / width
    arch = np.clip(1 - along**2, 0, 1)
    round_arch = np.sqrt(arch)
    middle = 0.29 + (build.smile if smiling else build.calm) * (0.45 - along**2)
    gap = build.gap if is_open else 0.0
    upper = middle - 0.12 * gap * arch
    lower = middle + gap * (arch if smiling else round_arch)
    top = upper - 0.034 * round_arch
    bottom = lower + 0.042 * round_arch
    ends = front.cover(np.abs(x) - width)
    lips = front.cover(np.maximum(top - y, y - bottom)) * ends
    natural = blend(build.skin, (0.6, 0.2, 0.2), 0.3)
    colour = build.lips if face.has("Wearing_Lipstick") else natural
    canvas.paint(lips, colour)
    canvas.mark("Wearing_Lipstick", lips)
    if is_open:
        opening = front.cover(np.maximum(upper - y, y - lower)) * ends
        canvas.paint(opening, (0.28, 0.05, 0.07))
        canvas.tint(front.cover(y - upper - 0.4 * gap) * opening, (0.98, 0.97, 0.94))
    else:
        canvas.tint(front.line(y - middle, 0.007) * ends, blend(colour, BLACK, 0.5))
    canvas.mark("Smiling", lips)
    canvas.mark("Mouth_Slightly_Open", lips)
