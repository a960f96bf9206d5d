"""Clocks at every time: wall, alarm, station, tower and pocket clocks."""

import math
from dataclasses import dataclass

from jobs.commands.generate.pictures.primitives.canvas import Colour, Pen, Point
from jobs.commands.generate.pictures.primitives.palette import Palette, shade
from jobs.commands.generate.pictures.primitives.randomness import Rng, between, chance, pick

CLOCKS = ("wall clock", "alarm clock", "station clock", "tower clock", "pocket watch", "clock face", "kitchen clock")
_SQUARE = ("kitchen clock",)


@dataclass(frozen=True)
class Face:
    """A clock's face.

    Attributes:
        rim: Colour.
        dial: Colour.
        ink: Of numbers and hands.
        marks: `numbers`, `quarters`, `ticks`, `roman` or `dots`.
        hands: Width of the minute hand, of the radius.
    """

    rim: Colour
    dial: Colour
    ink: Colour
    marks: str
    hands: float


def clock(pen: Pen, rng: Rng, name: str, time: tuple[int, int], palette: Palette) -> None:
    """Draws a clock.

    Args:
        pen: At its foot, its height is a unit.
        rng: Decides the design, never the time.
        name: One of `CLOCKS`.
        time: Hour and minute.
        palette: Its colours.
    """
    dark = chance(rng, 0.3)
    face = Face(
        rim=pick(rng, (*palette.accents, palette.dark, (150, 120, 60))),
        dial=shade(palette.dark, 1.0) if dark else palette.light,
        ink=palette.light if dark else palette.dark,
        marks=pick(rng, ("numbers", "quarters", "ticks", "roman", "dots")),
        hands=between(rng, 0.05, 0.11),
    )
    _case(pen, rng, name, face)
    radius = 0.36 if name in ("tower clock", "station clock") else 0.46
    centre = (0.0, 0.62 if name in ("tower clock", "station clock") else 0.5)
    _dial(pen, rng, name, (centre, radius), face)
    _marks(pen, (centre, radius * 0.9), face)
    _hands(pen, (centre, radius), time, face)


def _case(pen: Pen, rng: Rng, name: str, face: Face) -> None:
    if name == "alarm clock":
        for side in (-1, 1):
            pen.circle((side * 0.3, 0.95), 0.16, shade(face.rim, 0.7))
            pen.line([(side * 0.3, 0.12), (side * 0.4, -0.06)], 0.07, shade(face.rim, 0.6))
    elif name == "station clock":
        pen.rectangle((-0.04, 0.9), (0.04, 2.4), shade(face.rim, 0.6))
        pen.rectangle((-0.3, 1.02), (0.3, 1.07), shade(face.rim, 0.6))
    elif name == "tower clock":
        half = between(rng, 0.42, 0.55)
        pen.rectangle((-half, -1.5), (half, 1.1), shade(face.rim, 1.3))
        pen.polygon([(-half * 1.15, 1.1), (0, between(rng, 1.5, 1.9)), (half * 1.15, 1.1)], shade(face.rim, 0.5))
        for row in range(3):
            pen.rectangle((-0.1, -0.3 - 0.45 * row), (0.1, 0.0 - 0.45 * row), shade(face.rim, 0.4))
    elif name == "pocket watch":
        pen.circle((0, 1.08), 0.1, face.rim)
        pen.circle((0, 1.08), 0.05, shade(face.rim, 1.6))
        side = pick(rng, (-1, 1))
        chain = [(side * 0.07 * k, 1.15 + 0.25 * math.sin(k * 0.5)) for k in range(14)]
        pen.line(chain, 0.03, shade(face.rim, 0.8))


def _dial(pen: Pen, rng: Rng, name: str, where: tuple[Point, float], face: Face) -> None:
    (x, y), radius = where
    if name in _SQUARE:
        pen.rectangle((x - radius, y - radius), (x + radius, y + radius), face.rim)
        inner = radius * between(rng, 0.84, 0.92)
        pen.rectangle((x - inner, y - inner), (x + inner, y + inner), face.dial)
        return
    pen.circle((x, y), radius, face.rim)
    pen.circle((x, y), radius * between(rng, 0.8, 0.94), face.dial)
    if chance(rng, 0.25):
        pen.circle((x, y), radius * 0.45, shade(face.dial, 0.85))


def _marks(pen: Pen, where: tuple[Point, float], face: Face) -> None:
    (x, y), radius = where
    roman = ("XII", "I", "II", "III", "IV", "V", "VI", "VII", "VIII", "IX", "X", "XI")
    for hour in range(12):
        turn = math.pi / 2 - hour * math.pi / 6
        c, s = math.cos(turn), math.sin(turn)
        at = (x + radius * 0.76 * c, y + radius * 0.76 * s)
        if face.marks == "numbers" or (face.marks == "quarters" and hour % 3 == 0):
            pen.text(at, str(hour or 12), radius * 0.24, face.ink)
        elif face.marks == "roman":
            pen.text(at, roman[hour], radius * 0.2, face.ink, "Serif-Bold")
        elif face.marks == "dots":
            pen.circle(at, radius * (0.07 if hour % 3 == 0 else 0.045), face.ink)
        else:
            inner = 0.68 if hour % 3 == 0 else 0.76
            pen.line(
                [(x + radius * inner * c, y + radius * inner * s), (x + radius * 0.87 * c, y + radius * 0.87 * s)],
                radius * 0.05,
                face.ink,
            )


def _hands(pen: Pen, where: tuple[Point, float], time: tuple[int, int], face: Face) -> None:
    (x, y), radius = where
    hour, minute = time
    for turns, length, width in ((hour / 12 + minute / 720, 0.5, 1.4), (minute / 60, 0.76, 1.0)):
        turn = math.pi / 2 - turns * 2 * math.pi
        tip = (x + radius * length * math.cos(turn), y + radius * length * math.sin(turn))
        pen.line([(x, y), tip], radius * face.hands * width, face.ink)
    pen.circle((x, y), radius * 0.07, face.rim)


_HOURS = ("twelve", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven")
_PAST = {5: "five past", 10: "ten past", 15: "quarter past", 20: "twenty past", 25: "twenty-five past", 30: "half past"}
_TO = {35: "twenty-five to", 40: "twenty to", 45: "quarter to", 50: "ten to", 55: "five to"}


def spoken(hour: int, minute: int) -> str:
    """A time in words.

    Args:
        hour: 0 to 11.
        minute: A multiple of 5, 0 to 55.

    Examples:
        >>> spoken(4, 10), spoken(11, 45), spoken(1, 0)
        ('ten past four', 'quarter to twelve', "one o'clock")
    """
    if minute == 0:
        return f"{_HOURS[hour % 12]} o'clock"
    if minute <= 30:
        return f"{_PAST[minute]} {_HOURS[hour % 12]}"
    return f"{_TO[minute]} {_HOURS[(hour + 1) % 12]}"
