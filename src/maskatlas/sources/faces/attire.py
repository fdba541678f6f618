"""What surrounds the face: hair, and what is worn."""

import numpy as np
from jaxtyping import Float

from maskatlas.sources.faces.canvas import Canvas, Frame, Mask
from maskatlas.sources.faces.colours import BLACK, WHITE, blend
from maskatlas.sources.faces.parameters import FaceParameters

HairColour = Float[np.ndarray, "3 height width"]


def hair_colour(face: FaceParameters, head: Frame) -> HairColour:
    """The colour of the hair wherever there is hair: strands, and a shine near the top."""
    hair = face.hair
    base = hair.blond if face.has("Blond_Hair") else hair.other
    strands = np.sin(40 * head.x / (1.6 + head.y) + hair.strands)
    shine = np.exp(-(((head.y + 0.36) / 0.06) ** 2))
    value = 1 + 0.07 * strands + 0.10 * shine
    return np.asarray(base, np.float32)[:, None, None] * value.astype(np.float32)


def hair_behind(canvas: Canvas, face: FaceParameters, head: Frame, colour: HairColour) -> None:
    """The hair behind the head, short or down to the shoulders."""
    reach = 0.02 + 0.68 * max(0.0, 2 * face.hair.length - 1)  # half of all have short hair
    width = face.build.width + 0.1
    dome = head.oval(0.0, -0.06, width, 0.52)
    fall = head.box(0.0, reach / 2 - 0.04, width, 0.02 + reach / 2 + 0.04, 0.06)
    mask = np.maximum(head.cover(np.maximum(dome, head.y - 0.05)), head.cover(fall))
    canvas.paint(mask, colour * np.float32(0.86))
    canvas.mark("Blond_Hair", mask)


def body(canvas: Canvas, face: FaceParameters, frame: Frame) -> None:
    """Shirt, neck and collar."""
    clothes, skin = face.clothes, face.build.skin
    mirror = frame.mirrored()
    shoulders = np.maximum(frame.box(0.0, 1.3, 0.74, 0.74, 0.3), frame.oval(0.0, 1.52, 1.0, 0.97))
    canvas.paint(frame.cover(shoulders), clothes.shirt)
    neck = np.minimum(frame.box(0.0, 0.36, 0.15, 0.24, 0.05), frame.oval(0.0, 0.555, 0.185, 0.085))
    canvas.paint(frame.cover(neck), blend(skin, BLACK, 0.16))
    flap = mirror.segment((0.2, 0.545), (0.055, 0.66))
    canvas.paint(mirror.cover(flap - 0.035), clothes.collar)


def necklace(canvas: Canvas, face: FaceParameters, body: Frame) -> None:
    """Wearing_Necklace: a string of beads on the neck."""
    arc = body.oval(0.0, 0.48, 0.155, 0.095)
    mask = body.line(arc, 0.04) * body.cover(0.49 - body.y)
    if face.has("Wearing_Necklace"):
        canvas.paint(mask, blend(face.clothes.beads, BLACK, 0.45))
        beads = np.cos(np.arctan2(body.x / 0.15, (body.y - 0.48) / 0.095) * 8)
        canvas.tint(body.line(arc, 0.034) * mask * np.clip(beads * 2 + 1, 0, 1), face.clothes.beads)
    canvas.mark("Wearing_Necklace", mask)


def necktie(canvas: Canvas, face: FaceParameters, body: Frame) -> None:
    """Wearing_Necktie: knot and striped blade."""
    x, y = np.abs(body.x), body.y
    knot = np.maximum(x - (0.075 - 0.35 * (y - 0.61)), np.abs(y - 0.655) - 0.05)
    blade = np.maximum(x - (0.045 + 0.22 * (y - 0.69)), 0.69 - y)
    mask = np.maximum(body.cover(knot), body.cover(blade))
    if face.has("Wearing_Necktie"):
        canvas.paint(mask, face.clothes.tie)
        stripes = np.clip(np.sin((body.y + 0.6 * body.x) * 42) * 3, 0, 1)
        canvas.tint(body.cover(blade) * stripes, face.clothes.stripes)
        canvas.tint(body.line(knot, 0.008) * mask, blend(face.clothes.tie, BLACK, 0.4))
    canvas.mark("Wearing_Necktie", mask)


def hair_in_front(
    canvas: Canvas,
    face: FaceParameters,
    head: Frame,
    front: Frame,
    *,
    outline: Mask,
    colour: HairColour,
) -> None:
    """The hair on the head, and Bangs from there down over the forehead."""
    hair = face.hair
    cap = np.maximum(outline, head.cover(head.oval(0.0, -0.06, face.build.width + 0.1, 0.52)))
    line = -0.33 + 1.6 * np.abs(front.x - hair.parting) ** 2.6
    mask = cap * head.cover(front.y - line) * head.cover(head.y - 0.03)
    canvas.paint(mask, colour)
    canvas.mark("Blond_Hair", mask)
    edge = -0.185 + 0.014 * np.sin(30 * front.x + hair.fringe) + 0.25 * front.x**2
    fringe = head.cover(front.y - edge) * outline
    if face.has("Bangs"):
        tips = 1 - 0.16 * np.clip(1 + (front.y - edge) / 0.05, 0, 1) * (1 - mask)
        canvas.paint(fringe, colour * tips)
        canvas.mark("Blond_Hair", fringe)
    canvas.mark("Bangs", fringe * (1 - mask))  # above, there is hair in any case


def eyeglasses(canvas: Canvas, face: FaceParameters, front: Frame, outline: Mask) -> None:
    """Eyeglasses: the rims, and the lenses that tint what is behind them."""
    mirror, power = front.mirrored(), face.clothes.lens
    width, height = 0.135, 0.098
    dx, dy = np.abs(mirror.x - 0.17) / width, np.abs(mirror.y - 0.02) / height
    norm = (dx**power + dy**power + 1e-9) ** (1 / power)
    distance = (norm - 1) * height
    rims = mirror.line(distance, 0.016)
    bridge = mirror.cover(np.maximum(np.abs(mirror.y) - 0.014, mirror.x - 0.05))
    arm = mirror.cover(np.maximum(np.abs(mirror.y) - 0.014, 0.295 - mirror.x)) * outline
    wire = np.maximum(np.maximum(rims, bridge), arm)
    lens = mirror.cover(distance)
    if face.has("Eyeglasses"):
        canvas.tint(lens * 0.16, (0.85, 0.95, 1.0))
        glare = np.abs(mirror.x - 0.17 + 0.8 * (mirror.y - 0.02) + 0.06) - 0.016
        canvas.tint(lens * mirror.cover(glare) * 0.5, WHITE)
        canvas.paint(wire, face.clothes.rims)
    canvas.mark("Eyeglasses", np.maximum(wire, lens))


def hat(canvas: Canvas, face: FaceParameters, head: Frame, front: Frame) -> None:
    """Wearing_Hat: a beanie, a cap or a hat with a brim; none reaches down to the fringe's tips."""
    clothes = face.clothes
    beanie, cap, _ = (clothes.hat_style == style for style in range(3))
    width = face.build.width + 0.11
    bowler = not (beanie or cap)
    dome = head.oval(0.0, -0.3, width - (0.05 if bowler else 0.0), 0.36)
    crown = head.cover(np.maximum(dome, head.y + 0.29))
    if beanie:
        brim = head.cover(head.box(0.0, -0.335, width + 0.015, 0.055, 0.04))
        top = head.cover(head.oval(0.0, -0.67, 0.085, 0.08))
    elif cap:
        brim = head.cover(front.oval(0.0, -0.3, 0.36, 0.055))
        top = head.cover(head.oval(0.0, -0.66, 0.04, 0.025))
    else:
        brim = head.cover(head.box(0.0, -0.3, width + 0.17, 0.035, 0.035))
        top = head.cover(np.maximum(dome, np.abs(head.y + 0.375) - 0.045))
    mask = np.maximum(np.maximum(crown, brim), top)
    if face.has("Wearing_Hat"):
        shade = 1 - 0.2 * np.clip(np.abs(head.x) / width, 0, 1) ** 2
        canvas.paint(mask, np.asarray(clothes.hat, np.float32)[:, None, None] * shade)
        canvas.tint(top, clothes.band)
        canvas.tint(brim, clothes.band if not bowler else blend(clothes.hat, BLACK, 0.15))
    canvas.mark("Wearing_Hat", mask)


def earrings(canvas: Canvas, face: FaceParameters, head: Frame) -> None:
    """Wearing_Earrings: studs, hoops or drops below the ears."""
    mirror, clothes = head.mirrored(), face.clothes
    x = face.build.width + 0.03
    stud, hoop, _ = (clothes.earring_style == style for style in range(3))
    if stud:
        jewel = mirror.oval(x, 0.15, 0.066, 0.066)
    elif hoop:
        jewel = mirror.oval(x, 0.175, 0.075, 0.085)
    else:
        jewel = mirror.oval(x, 0.19, 0.052, 0.1)
    mask = mirror.cover(jewel)
    if face.has("Wearing_Earrings"):
        ring = mirror.line(jewel + 0.026, 0.026) if hoop else mask
        canvas.paint(ring, blend(clothes.earring, BLACK, 0.55))
        inner = mirror.line(jewel + 0.026, 0.016) if hoop else mirror.cover(jewel + 0.013)
        canvas.tint(inner, clothes.earring)
    canvas.mark("Wearing_Earrings", mask)
