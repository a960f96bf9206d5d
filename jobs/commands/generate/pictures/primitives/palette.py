"""Colours: the named ones that captions speak of, and the tones of a whole picture."""

import colorsys
from dataclasses import dataclass
from types import MappingProxyType

from jobs.commands.generate.pictures.primitives.canvas import Colour
from jobs.commands.generate.pictures.primitives.randomness import Rng, between, chance, pick

# Hue, saturation and value from 0 to 1.
NAMED = MappingProxyType(
    {
        "red": (0.99, 0.78, 0.80),
        "orange": (0.07, 0.82, 0.92),
        "yellow": (0.14, 0.72, 0.95),
        "green": (0.36, 0.62, 0.58),
        "teal": (0.49, 0.66, 0.58),
        "blue": (0.59, 0.70, 0.76),
        "purple": (0.77, 0.52, 0.60),
        "pink": (0.93, 0.42, 0.94),
        "brown": (0.06, 0.55, 0.48),
        "white": (0.12, 0.05, 0.97),
        "grey": (0.58, 0.06, 0.55),
        "black": (0.62, 0.20, 0.18),
    }
)
SKIN = ((255, 219, 190), (241, 194, 150), (214, 160, 114), (167, 112, 72), (118, 76, 49), (86, 56, 40))
HAIR = ((36, 28, 26), (74, 46, 28), (120, 70, 34), (176, 120, 56), (226, 190, 110), (160, 60, 30), (150, 150, 155))


@dataclass(frozen=True)
class Palette:
    """The tones of one picture.

    Attributes:
        sky: Top and bottom of the sky or wall.
        ground: Far and near ground or floor.
        accents: Colours for things.
        dark: For lines and shadows.
        light: For highlights and windows.
    """

    sky: tuple[Colour, Colour]
    ground: tuple[Colour, Colour]
    accents: tuple[Colour, ...]
    dark: Colour
    light: Colour


def hsv(hue: float, saturation: float, value: float) -> Colour:
    """A colour by hue (any number, 1 is a turn), saturation and value from 0 to 1.

    Examples:
        >>> hsv(0.0, 1.0, 1.0)
        (255, 0, 0)
    """
    clip = (min(max(saturation, 0.0), 1.0), min(max(value, 0.0), 1.0))
    return tuple(round(255 * part) for part in colorsys.hsv_to_rgb(hue % 1.0, *clip))


def named(rng: Rng, name: str) -> Colour:
    """A shade of a named colour."""
    hue, saturation, value = NAMED[name]
    return hsv(hue + between(rng, -0.015, 0.015), saturation * between(rng, 0.8, 1.1), value * between(rng, 0.85, 1.08))


def shade(colour: Colour, factor: float) -> Colour:
    """A colour made darker (below 1) or lighter (above 1, towards white).

    Examples:
        >>> shade((100, 200, 0), 0.5)
        (50, 100, 0)
    """
    if factor <= 1:
        return tuple(round(part * factor) for part in colour)
    share = min(factor - 1, 1.0)
    return tuple(round(part + (255 - part) * share) for part in colour)


def mix(first: Colour, second: Colour, share: float) -> Colour:
    """The colour a share of the way from the first to the second."""
    return tuple(round(a + (b - a) * share) for a, b in zip(first, second, strict=True))


def make_palette(rng: Rng, time: str) -> Palette:
    """Tones for a picture at a time of day (`day`, `sunset` or `night`)."""
    hue = float(rng.random())
    sky_hue, sky_value = {"day": (0.56, 0.95), "sunset": (0.05, 0.92), "night": (0.64, 0.22)}[time]
    sky_hue = sky_hue + between(rng, -0.07, 0.07) if chance(rng, 0.7) else hue
    top = hsv(sky_hue, between(rng, 0.25, 0.7), sky_value * between(rng, 0.6, 1.0))
    low = hsv(sky_hue + between(rng, -0.1, 0.1), between(rng, 0.1, 0.45), min(1.0, sky_value * between(rng, 0.9, 1.3)))
    dim = 0.45 if time == "night" else 1.0
    ground_hue = pick(rng, (0.25, 0.30, 0.11, 0.08, hue))
    far = hsv(ground_hue, between(rng, 0.25, 0.6), dim * between(rng, 0.45, 0.85))
    near = hsv(ground_hue + between(rng, -0.05, 0.05), between(rng, 0.3, 0.7), dim * between(rng, 0.3, 0.75))
    steps = pick(rng, ((0.0, 0.08, 0.5), (0.0, 0.33, 0.66), (0.0, 0.5, 0.55), (0.0, 0.12, 0.24)))
    accents = tuple(hsv(hue + s, between(rng, 0.45, 0.85), between(rng, 0.5, 0.95)) for s in steps)
    return Palette((top, low), (far, near), accents, hsv(hue, 0.4, 0.18), hsv(hue + 0.5, 0.12, 0.97))
