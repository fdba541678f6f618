"""What a rendered face is made of, drawn from (seed, index) alone.

Every number is drawn whether it is needed or not (the colour of a hat that is not worn), so two
faces that differ in one attribute differ in nothing else.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from maskatlas.sources.faces.colours import (
    BEARD,
    BLOND,
    BLUSH,
    BROW,
    CLOTHS,
    IRIS,
    JEWELS,
    LIPSTICK,
    OTHER_HAIR,
    RIMS,
    SKIN,
    WHITE,
    Colour,
    apart,
    blend,
    clipped,
)

PROBABILITIES = {
    "Bangs": 0.45,
    "Big_Nose": 0.45,
    "Blond_Hair": 0.45,
    "Bushy_Eyebrows": 0.45,
    "Eyeglasses": 0.45,
    "Goatee": 0.4,
    "Mouth_Slightly_Open": 0.45,
    "Mustache": 0.4,
    "Narrow_Eyes": 0.45,
    "Rosy_Cheeks": 0.45,
    "Smiling": 0.5,
    "Wearing_Earrings": 0.45,
    "Wearing_Hat": 0.45,
    "Wearing_Lipstick": 0.45,
    "Wearing_Necklace": 0.4,
    "Wearing_Necktie": 0.45,
}
"""The attributes, all of them CelebA's, and how often a face has each."""

ATTRIBUTES: tuple[str, ...] = tuple(PROBABILITIES)

Plant = tuple[str, str, float]
"""(attribute, source, probability): the attribute copies the source with that probability."""

_LABELS, _LOOKS, NOISE = range(3)  # independent streams of one face


@dataclass(frozen=True, slots=True)
class Pose:
    """Where the face is and which way it looks; lengths in half sides of the picture."""

    x: float
    y: float
    scale: float
    roll: float
    yaw: float


@dataclass(frozen=True, slots=True)
class Light:
    """A field of light over the whole picture and the camera's noise."""

    gain: float
    x: float
    y: float
    tint: Colour
    noise: float


@dataclass(frozen=True, slots=True)
class Backdrop:
    """What stands behind: two colours that run into each other, and a pattern."""

    near: Colour
    far: Colour
    angle: float
    pattern: int
    frequency: float
    phase: float
    contrast: float


@dataclass(frozen=True, slots=True)
class Build:
    """The face itself: shapes, and what both states of an attribute of shape look like."""

    skin: Colour
    iris: Colour
    blush: Colour
    brow: Colour
    beard: Colour
    lips: Colour
    width: float
    jaw: float
    eye: float
    narrow: float
    gaze: float
    arch: float
    nose: float
    mouth: float
    smile: float
    calm: float
    gap: float


@dataclass(frozen=True, slots=True)
class Hair:
    """The hair; the colour is one of two, by the attribute."""

    blond: Colour
    other: Colour
    length: float
    parting: float
    strands: float
    fringe: float


@dataclass(frozen=True, slots=True)
class Clothes:
    """What is worn, if it is worn."""

    shirt: Colour
    collar: Colour
    tie: Colour
    stripes: Colour
    hat: Colour
    band: Colour
    hat_style: int
    rims: Colour
    lens: float
    earring: Colour
    earring_style: int
    beads: Colour


@dataclass(frozen=True, slots=True)
class FaceParameters:
    """Everything that decides the pixels of one face, but their number."""

    key: tuple[int, int]
    """(seed, index), from which the noise is drawn."""
    present: frozenset[str]
    """The attributes that the face has."""
    pose: Pose
    light: Light
    backdrop: Backdrop
    build: Build
    hair: Hair
    clothes: Clothes

    def has(self, attribute: str) -> bool:
        """Whether the face has the attribute."""
        return attribute in self.present

    def toggled(self, attribute: str) -> "FaceParameters":
        """The same face with one attribute changed and nothing else."""
        return replace(self, present=self.present ^ {attribute})


def stream(seed: int, index: int, purpose: int) -> np.random.Generator:
    """The random numbers of one face for one purpose, the same in every process and order."""
    return np.random.default_rng((seed, index, purpose))


def draw_labels(seed: int, index: int, plant: Plant | None = None) -> frozenset[str]:
    """The attributes of a face, each drawn by itself but for a planted copy."""
    draws = stream(seed, index, _LABELS).random(len(ATTRIBUTES) + 1)
    present = {
        name for name, draw in zip(ATTRIBUTES, draws[1:], strict=True) if draw < PROBABILITIES[name]
    }
    if plant is not None:
        attribute, source, probability = plant
        if draws[0] < probability:
            present.discard(attribute)
            if source in present:
                present.add(attribute)
    return frozenset(present)


def draw_face(seed: int, index: int, plant: Plant | None = None) -> FaceParameters:
    """The face of an index; neither count nor size nor the other faces matter to it."""
    dice = _Dice(stream(seed, index, _LOOKS))
    build = _draw_build(dice)
    return FaceParameters(
        key=(seed, index),
        present=draw_labels(seed, index, plant),
        pose=_draw_pose(dice),
        light=_draw_light(dice),
        backdrop=_draw_backdrop(dice),
        build=build,
        hair=_draw_hair(dice, build.skin),
        clothes=_draw_clothes(dice, build.skin),
    )


class _Dice:
    def __init__(self, generator: np.random.Generator) -> None:
        self._draws = iter(generator.random(160).tolist())

    def between(self, low: float, high: float) -> float:
        draw: float = next(self._draws)
        return low + (high - low) * draw

    def number(self, count: int) -> int:
        return int(self.between(0.0, float(count)))

    def pick(self, palette: Sequence[Colour], jitter: float = 0.03) -> Colour:
        red, green, blue = palette[self.number(len(palette))]
        shift = self.between(-jitter, jitter)
        return (
            clipped(red + shift + self.between(-jitter, jitter) / 2),
            clipped(green + shift + self.between(-jitter, jitter) / 2),
            clipped(blue + shift + self.between(-jitter, jitter) / 2),
        )

    def colour(self) -> Colour:
        """Any colour, pale ones and dark ones as often as bright ones."""
        grey, saturation = self.between(0.15, 0.95), self.between(0.0, 0.28)
        turn = self.between(0.0, 2 * np.pi)
        red, green, blue = (grey + saturation * np.cos(turn + k * 2 * np.pi / 3) for k in range(3))
        return clipped(red), clipped(green), clipped(blue)


def _draw_pose(dice: _Dice) -> Pose:
    return Pose(
        x=dice.between(-0.08, 0.08),
        y=dice.between(-0.02, 0.06),
        scale=dice.between(1.08, 1.24),
        roll=dice.between(-0.12, 0.12),
        yaw=dice.between(-0.2, 0.2),
    )


def _draw_light(dice: _Dice) -> Light:
    gain = dice.between(0.68, 1.1)
    angle, slope = dice.between(0.0, 2 * np.pi), dice.between(0.0, 0.22)
    warmth = dice.between(-0.06, 0.06)
    return Light(
        gain=gain,
        x=slope * float(np.cos(angle)),
        y=slope * float(np.sin(angle)),
        tint=(1 + warmth, 1.0, 1 - warmth),
        noise=dice.between(0.004, 0.018),
    )


def _draw_backdrop(dice: _Dice) -> Backdrop:
    near = dice.colour()
    return Backdrop(
        near=near,
        far=blend(near, dice.colour(), 0.5),
        angle=dice.between(0.0, 2 * np.pi),
        pattern=dice.number(4),
        frequency=dice.between(5.0, 11.0),
        phase=dice.between(0.0, 2 * np.pi),
        contrast=dice.between(0.03, 0.1),
    )


def _draw_build(dice: _Dice) -> Build:
    tone = dice.between(0.0, len(SKIN) - 1.001)
    light, dark = SKIN[int(tone)], SKIN[int(tone) + 1]
    skin = blend(light, dark, tone % 1.0)
    return Build(
        skin=skin,
        iris=dice.pick(IRIS),
        blush=dice.pick(BLUSH),
        brow=apart(dice.pick(BROW), skin, 0.2),
        beard=apart(dice.pick(BEARD), skin, 0.22),
        lips=dice.pick(LIPSTICK),
        width=dice.between(0.365, 0.405),
        jaw=dice.between(0.06, 0.2),
        eye=dice.between(0.068, 0.082),
        narrow=dice.between(0.02, 0.027),
        gaze=dice.between(-0.022, 0.022),
        arch=dice.between(0.0, 0.02),
        nose=dice.between(0.92, 1.08),
        mouth=dice.between(0.135, 0.16),
        smile=dice.between(0.1, 0.12),
        calm=dice.between(-0.05, -0.01),
        gap=dice.between(0.06, 0.08),
    )


def _draw_hair(dice: _Dice, skin: Colour) -> Hair:
    return Hair(
        blond=dice.pick(BLOND),
        other=apart(dice.pick(OTHER_HAIR), skin, 0.12),
        length=dice.between(0.0, 1.0),
        parting=dice.between(-0.15, 0.15),
        strands=dice.between(0.0, 2 * np.pi),
        fringe=dice.between(0.0, 2 * np.pi),
    )


def _draw_clothes(dice: _Dice, skin: Colour) -> Clothes:
    shirt, hat = dice.pick(CLOTHS), dice.pick(CLOTHS)
    tie = apart(dice.pick(CLOTHS), shirt, 0.25)
    return Clothes(
        shirt=shirt,
        collar=blend(shirt, WHITE, 0.3),
        tie=tie,
        stripes=apart(dice.pick(CLOTHS), tie, 0.2),
        hat=hat,
        band=apart(dice.pick(CLOTHS), hat, 0.25),
        hat_style=dice.number(3),
        rims=apart(dice.pick(RIMS), skin, 0.3),
        lens=dice.between(2.0, 5.0),
        earring=dice.pick(JEWELS),
        earring_style=dice.number(3),
        beads=apart(dice.pick(JEWELS), skin, 0.3),
    )
