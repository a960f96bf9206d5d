"""Animals, each seen from the side and one unit high."""

import math
from collections.abc import Callable
from types import MappingProxyType

from jobs.commands.generate.pictures.primitives.canvas import Colour, Pen
from jobs.commands.generate.pictures.primitives.palette import shade
from jobs.commands.generate.pictures.primitives.randomness import Rng, between, chance

Draw = Callable[[Pen, Rng, Colour], None]
_EYE = (24, 22, 26)


def _legs(pen: Pen, places: tuple[float, ...], top: float, width: float, colour: Colour) -> None:
    for k, x in enumerate(places):
        pen.line([(x, top), (x + 0.02 * (-1) ** k, 0.03)], width, shade(colour, 0.85 if k % 2 else 0.7))


def dog(pen: Pen, rng: Rng, colour: Colour) -> None:
    """A dog with hanging ears."""
    _legs(pen, (-0.38, -0.28, 0.22, 0.32), 0.4, 0.09, colour)
    pen.ellipse((0, 0.45), 0.5, between(rng, 0.17, 0.24), colour)
    pen.line([(-0.45, 0.5), (-0.65, between(rng, 0.4, 0.9))], 0.08, colour)
    pen.line([(0.4, 0.5), (0.5, 0.75)], 0.16, colour)
    pen.ellipse((0.55, 0.78), 0.2, 0.17, colour)
    pen.ellipse((0.72, 0.72), 0.12, 0.09, shade(colour, 1.2))
    pen.ellipse((0.45, 0.74), 0.07, 0.17, shade(colour, 0.6))
    pen.circle((0.6, 0.82), 0.03, _EYE)
    pen.circle((0.83, 0.74), 0.035, _EYE)


def cat(pen: Pen, rng: Rng, colour: Colour) -> None:
    """A cat that sits, its tail curled up."""
    pen.line([(-0.2, 0.08), (-0.5, 0.12), (-0.6, 0.35), (-0.5, between(rng, 0.5, 0.8))], 0.08, shade(colour, 0.8))
    pen.ellipse((-0.02, 0.28), 0.28, 0.3, colour)
    pen.ellipse((0.14, 0.08), 0.2, 0.07, shade(colour, 0.9))
    pen.circle((0.1, 0.7), 0.23, colour)
    for side in (-1, 1):
        pen.polygon(
            [(0.1 + side * 0.2, 0.78), (0.1 + side * 0.19, 1.02), (0.1 + side * 0.04, 0.9)], shade(colour, 0.75)
        )
        pen.circle((0.1 + side * 0.09, 0.73), 0.035, _EYE)
        pen.line([(0.1 + side * 0.08, 0.63), (0.1 + side * 0.36, 0.62 + 0.05 * side)], 0.012, shade(colour, 1.5))
    for k in range(3):
        pen.line([(-0.2 + 0.08 * k, 0.5), (-0.24 + 0.1 * k, 0.34)], 0.025, shade(colour, 0.65))


def horse(pen: Pen, rng: Rng, colour: Colour) -> None:
    """A horse with mane and tail."""
    mane = shade(colour, 0.45)
    _legs(pen, (-0.34, -0.24, 0.2, 0.3), 0.42, 0.075, colour)
    pen.line([(-0.4, 0.58), (-0.52, 0.45), (-0.5, 0.15)], 0.08, mane)
    pen.ellipse((0, 0.52), 0.44, 0.17, colour)
    pen.polygon([(0.18, 0.5), (0.4, 0.45), (0.58, 0.85), (0.42, 0.95)], colour)
    pen.polygon([(0.42, 0.96), (0.56, 0.92), (0.82, 0.72), (0.76, 0.63), (0.5, 0.74)], colour)
    pen.line([(0.24, 0.62), (0.42, 0.95)], 0.09, mane)
    pen.polygon([(0.42, 0.93), (0.44, 1.06), (0.5, 0.94)], colour)
    pen.circle((0.58, 0.83), 0.022, _EYE)


def bird(pen: Pen, rng: Rng, colour: Colour) -> None:
    """A plump bird on thin legs."""
    for x in (-0.05, 0.07):
        pen.line([(x, 0.3), (x, 0.02), (x + 0.1, 0.0)], 0.025, (200, 130, 50))
    pen.polygon([(-0.3, 0.45), (-0.75, between(rng, 0.3, 0.75)), (-0.65, 0.35)], shade(colour, 0.7))
    pen.ellipse((0, 0.5), 0.4, 0.28, colour)
    pen.circle((0.28, 0.75), 0.2, colour)
    pen.ellipse((-0.08, 0.5), 0.27, 0.15, shade(colour, 0.7))
    pen.polygon([(0.45, 0.82), (0.7, 0.74), (0.45, 0.68)], (240, 160, 40))
    pen.circle((0.33, 0.8), 0.035, _EYE)


def fish(pen: Pen, rng: Rng, colour: Colour) -> None:
    """A striped fish."""
    tall = between(rng, 0.25, 0.42)
    pen.polygon([(-0.45, 0.5), (-0.85, 0.8), (-0.75, 0.5), (-0.85, 0.2)], shade(colour, 0.75))
    pen.polygon([(-0.2, 0.5 + tall * 0.8), (0.05, 0.55 + tall * 1.4), (0.25, 0.5 + tall * 0.7)], shade(colour, 0.75))
    pen.ellipse((0, 0.5), 0.55, tall, colour)
    for k in range(3):
        x = -0.25 + 0.2 * k
        half = tall * math.sqrt(max(0.05, 1 - (x / 0.55) ** 2)) * 0.9
        pen.line([(x, 0.5 - half), (x + 0.04, 0.5 + half)], 0.05, shade(colour, 1.6))
    pen.circle((0.36, 0.57), 0.06, (250, 250, 250))
    pen.circle((0.37, 0.57), 0.03, _EYE)


def rabbit(pen: Pen, rng: Rng, colour: Colour) -> None:
    """A rabbit with long ears."""
    pen.circle((-0.36, 0.22), 0.1, shade(colour, 1.4))
    pen.ellipse((-0.05, 0.26), 0.33, 0.25, colour)
    pen.ellipse((0.2, 0.05), 0.18, 0.06, shade(colour, 0.85))
    pen.circle((0.26, 0.52), 0.19, colour)
    for x, lean in ((0.2, between(rng, -0.16, 0.0)), (0.3, between(rng, 0.0, 0.16))):
        pen.line([(x, 0.64), (x + lean, 1.0)], 0.1, shade(colour, 0.9))
        pen.line([(x, 0.68), (x + lean, 0.96)], 0.04, (240, 180, 180))
    pen.circle((0.33, 0.56), 0.03, _EYE)


def owl(pen: Pen, rng: Rng, colour: Colour) -> None:
    """An owl on a branch."""
    pen.line([(-0.8, between(rng, 0.0, 0.12)), (0.8, between(rng, 0.0, 0.12))], 0.09, (104, 74, 50))
    pen.ellipse((0, 0.48), 0.33, 0.44, colour)
    pen.ellipse((0, 0.36), 0.2, 0.28, shade(colour, 1.45))
    for side in (-1, 1):
        pen.polygon([(side * 0.3, 0.75), (side * 0.34, 1.05), (side * 0.1, 0.88)], shade(colour, 0.7))
        pen.ellipse((side * 0.3, 0.42), 0.09, 0.3, shade(colour, 0.7))
        pen.circle((side * 0.14, 0.7), 0.13, (250, 240, 200))
        pen.circle((side * 0.14, 0.7), 0.065, _EYE)
    pen.polygon([(-0.06, 0.64), (0.06, 0.64), (0, 0.5)], (240, 160, 40))


def elephant(pen: Pen, rng: Rng, colour: Colour) -> None:
    """An elephant, its trunk up or down."""
    for x in (-0.42, -0.22, 0.14, 0.34):
        pen.rectangle((x - 0.08, 0), (x + 0.08, 0.45), shade(colour, 0.82))
    pen.ellipse((-0.04, 0.58), 0.56, 0.34, colour)
    pen.circle((0.52, 0.72), 0.25, colour)
    tip = (1.0, between(rng, 0.85, 1.1)) if chance(rng, 0.5) else (0.86, 0.12)
    pen.line([(0.66, 0.68), (0.82, 0.5), tip], 0.12, colour)
    pen.ellipse((0.38, 0.74), 0.2, 0.24, shade(colour, 0.75))
    pen.polygon([(0.66, 0.56), (0.86, 0.42), (0.7, 0.5)], (250, 248, 235))
    pen.circle((0.6, 0.8), 0.03, _EYE)


def sheep(pen: Pen, rng: Rng, colour: Colour) -> None:
    """A woolly sheep."""
    face = (66, 58, 58)
    _legs(pen, (-0.28, -0.16, 0.18, 0.28), 0.35, 0.07, face)
    for k in range(11):
        turn = 2 * math.pi * k / 11
        pen.circle((0.4 * math.cos(turn), 0.52 + 0.22 * math.sin(turn)), between(rng, 0.13, 0.19), shade(colour, 1.0))
    pen.ellipse((0, 0.52), 0.4, 0.24, colour)
    pen.ellipse((0.56, 0.66), 0.14, 0.2, face)
    pen.ellipse((0.42, 0.74), 0.11, 0.05, face)
    pen.circle((0.6, 0.72), 0.03, (250, 250, 250))


def turtle(pen: Pen, rng: Rng, colour: Colour) -> None:
    """A turtle with a patterned shell."""
    skin = (126, 158, 84)
    _legs(pen, (-0.4, 0.35), 0.25, 0.15, skin)
    pen.line([(0.45, 0.3), (0.72, between(rng, 0.4, 0.6))], 0.15, skin)
    pen.circle((0.78, 0.55), 0.14, skin)
    dome = [(0.58 * math.cos(t), 0.24 + 0.5 * math.sin(t)) for t in (k * math.pi / 16 for k in range(17))]
    pen.polygon(dome, colour)
    for k in range(3):
        pen.polygon([(-0.36 + 0.28 * k, 0.3), (-0.22 + 0.28 * k, 0.56), (-0.08 + 0.28 * k, 0.3)], shade(colour, 0.7))
    pen.circle((0.83, 0.6), 0.03, _EYE)


def butterfly(pen: Pen, rng: Rng, colour: Colour) -> None:
    """A butterfly with open wings."""
    wide, tall = between(rng, 0.3, 0.45), between(rng, 0.24, 0.36)
    for side in (-1, 1):
        pen.ellipse((side * wide, 0.68), wide, tall, colour)
        pen.ellipse((side * wide * 0.8, 0.26), wide * 0.75, tall * 0.8, shade(colour, 0.75))
        pen.circle((side * wide * 1.1, 0.7), tall * 0.4, shade(colour, 1.6))
        pen.line([(0, 0.85), (side * 0.16, 1.1)], 0.02, _EYE)
    pen.ellipse((0, 0.5), 0.05, 0.38, _EYE)


def snail(pen: Pen, rng: Rng, colour: Colour) -> None:
    """A snail with a round house."""
    body = (200, 170, 120)
    pen.line([(-0.6, 0.06), (0.5, 0.06), (0.66, 0.4)], 0.13, body)
    for x in (0.62, 0.76):
        pen.line([(0.66, 0.42), (x, 0.62)], 0.03, body)
    for k in range(4):
        pen.circle((-0.06 + 0.03 * k, 0.5 - 0.03 * k), 0.44 - 0.11 * k, shade(colour, (1.0, 0.7, 1.3, 0.7)[k]))


ANIMALS: MappingProxyType[str, Draw] = MappingProxyType(
    {
        "dog": dog,
        "cat": cat,
        "horse": horse,
        "bird": bird,
        "fish": fish,
        "rabbit": rabbit,
        "owl": owl,
        "elephant": elephant,
        "sheep": sheep,
        "turtle": turtle,
        "butterfly": butterfly,
        "snail": snail,
    }
)
