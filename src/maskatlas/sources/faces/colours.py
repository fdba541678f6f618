"""Colours: the palettes that faces are drawn from, and how a colour stands off from another."""

Colour = tuple[float, float, float]
"""Red, green and blue, each 0 to 1."""


def _hex(*codes: str) -> tuple[Colour, ...]:
    return tuple(
        (int(c[0:2], 16) / 255, int(c[2:4], 16) / 255, int(c[4:6], 16) / 255) for c in codes
    )


SKIN = _hex("fce4d2", "f5cba8", "e5ac80", "c98b5a", "a4683c", "7d4a2b", "5d3520")
BLOND = _hex("f7d264", "efc14e", "f9dc80", "e2b045", "c9952f")
# as bright as blond as often as not, so that it takes the hue to tell
_DARK_HAIR = _hex("1d1a1e", "4e3324", "93391f", "8e8f98", "41659a")
_BRIGHT_HAIR = _hex("e8583f", "c9a2e8", "e58fb0", "dcdce4", "f0eef4", "f4a58a")
OTHER_HAIR = _DARK_HAIR + _BRIGHT_HAIR
BROW = _hex("1c1817", "3a271d", "5b3a24", "85421f")
BEARD = BROW + _hex("8d8b90", "cfa35c", "b9b4ae", "e6e2dc")
LIPSTICK = _hex("d3122f", "c2185b", "8e1450", "e8315f", "a30f1f")
CLOTHS = _hex(
    "2f5d8a", "c8453c", "3f8f6b", "f0ede6", "272b3a", "e0a433", "7c5aa6", "8ab6d6", "e98b6d"
)
RIMS = _hex("1b1b20", "5a3420", "8f1d2c", "20406e", "dfa63a", "f2f2f0")
JEWELS = _hex("f5c542", "e9edf2", "d7263d", "1fa6a0", "7d3fc0", "f7f1e1")
IRIS = _hex("4a2c17", "6b4423", "35607f", "3f7a4d", "5e5e63")
BLUSH = _hex("ee4a63", "f0566a", "e23d5c")

BLACK: Colour = (0.0, 0.0, 0.0)
WHITE: Colour = (1.0, 1.0, 1.0)
INK: Colour = (0.12, 0.09, 0.1)


def clipped(value: float) -> float:
    """The value, no less than 0 and no more than 1."""
    return float(min(max(value, 0.0), 1.0))


def luminance(colour: Colour) -> float:
    """Brightness of a colour as the eye weighs it (Rec. 601), 0 to 1."""
    return 0.299 * colour[0] + 0.587 * colour[1] + 0.114 * colour[2]


def blend(colour: Colour, other: Colour, share: float) -> Colour:
    """The colour with the given share of another."""
    red, green, blue = (a + share * (b - a) for a, b in zip(colour, other, strict=True))
    return red, green, blue


def apart(colour: Colour, ground: Colour, least: float) -> Colour:
    """The colour, darkened or lightened until its brightness stands off from the ground's."""
    gap = luminance(colour) - luminance(ground)
    if abs(gap) >= least:
        return colour
    darker = luminance(ground) - least > 0.04 and gap <= least / 2
    target = luminance(ground) + (-least if darker else least)
    end: Colour = (0.0, 0.0, 0.0) if darker else (1.0, 1.0, 1.0)
    share = (target - luminance(colour)) / (luminance(end) - luminance(colour))
    return blend(colour, end, clipped(share))
