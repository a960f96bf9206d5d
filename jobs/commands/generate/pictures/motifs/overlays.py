"""The two stand-in categories, drawn large over a scene: fireworks and slime, each in three modes and a rare one."""

import math
from collections.abc import Callable
from types import MappingProxyType

from jobs.commands.generate.pictures.motifs.backdrops import blob
from jobs.commands.generate.pictures.primitives.canvas import Canvas, Colour, Pen, Point
from jobs.commands.generate.pictures.primitives.palette import hsv, shade
from jobs.commands.generate.pictures.primitives.randomness import Rng, between, chance, pick

Overlay = Callable[[Canvas, Rng, Point], None]
"""Draws over a canvas, given where a hand (or the middle of interest) is."""


def _spark_colour(rng: Rng) -> Colour:
    return hsv(pick(rng, (0.12, 0.02, 0.5, 0.35, 0.85, 0.13)) + between(rng, -0.04, 0.04), between(rng, 0.1, 0.6), 1.0)


def _rays(canvas: Canvas, rng: Rng, centre: Point, radius: float, rays: int) -> None:
    colour, start = _spark_colour(rng), between(rng, 0, 6.28)
    width = max(2.0, canvas.unit * between(rng, 0.006, 0.012))
    for k in range(rays):
        turn = start + 2 * math.pi * k / rays
        far = radius * between(rng, 0.8, 1.05)
        c, s = math.cos(turn), math.sin(turn)
        droop = 0.12 * far
        path = [(centre[0] + far * t * c, centre[1] + far * t * s + droop * t * t) for t in (0.18, 0.6, 1.0)]
        canvas.line(path, width, colour)
        canvas.ellipse(*path[-1], width * 1.6, width * 1.6, (255, 252, 235))
    canvas.ellipse(*centre, radius * 0.1, radius * 0.1, (255, 252, 235))


def _night(canvas: Canvas) -> None:
    """What all modes of fireworks share: a black night ..."""
    canvas.rectangle((0, 0, canvas.w, canvas.h), (4, 5, 18, 190))


def _distant_show(canvas: Canvas, rng: Rng) -> None:
    """... distant bursts high on both sides, and a row of small fountains along the ground."""
    for side in (0.16, 0.84):
        centre = (canvas.w * (side + between(rng, -0.03, 0.03)), canvas.h * between(rng, 0.15, 0.21))
        canvas.ellipse(*centre, canvas.unit * 0.24, canvas.unit * 0.24, (4, 5, 18, 190))
        _rays(canvas, rng, centre, canvas.unit * between(rng, 0.3, 0.36), int(rng.integers(16, 24)))
    for k in range(5):
        foot = (canvas.w * (0.1 + 0.2 * k), canvas.h * 0.99)
        for lean in (-0.07, -0.035, 0.0, 0.035, 0.07):
            top = (foot[0] + canvas.w * lean, canvas.h * (0.74 + 2.0 * abs(lean)))
            canvas.line([foot, top], canvas.unit * 0.012, (255, 240, 190))
            canvas.ellipse(*top, canvas.unit * 0.016, canvas.unit * 0.016, (255, 252, 235))


def burst(canvas: Canvas, rng: Rng, hand: Point) -> None:
    """Bursts that fill a night sky."""
    _night(canvas)
    for k in range(int(rng.integers(2, 5))):
        radius = canvas.unit * between(rng, 0.24, 0.42) * (1.0 if k < 2 else 0.7)
        centre = (between(rng, 0.12, 0.88) * canvas.w, between(rng, 0.12, 0.48) * canvas.h)
        canvas.ellipse(*centre, radius * 0.8, radius * 0.8, (255, 240, 200, 34))
        _rays(canvas, rng, centre, radius, int(rng.integers(14, 26)))
        _rays(canvas, rng, centre, radius * 0.55, int(rng.integers(9, 16)))
    _distant_show(canvas, rng)


def sparkler(canvas: Canvas, rng: Rng, hand: Point) -> None:
    """A sparkler in the hand, a large star of sparks."""
    _night(canvas)
    tip = (hand[0] + canvas.unit * 0.06, hand[1] - canvas.unit * 0.12)
    tip = (min(max(tip[0], canvas.w * 0.2), canvas.w * 0.8), min(max(tip[1], canvas.h * 0.2), canvas.h * 0.75))
    canvas.line([hand, tip], canvas.unit * 0.012, (190, 190, 190))
    radius = canvas.unit * between(rng, 0.36, 0.5)
    canvas.ellipse(*tip, radius * 0.6, radius * 0.6, (255, 220, 130, 60))
    for _ in range(int(rng.integers(45, 80))):
        turn, near, far = between(rng, 0, 6.28), radius * between(rng, 0.05, 0.5), radius * between(rng, 0.5, 1.0)
        c, s = math.cos(turn), math.sin(turn)
        canvas.line(
            [(tip[0] + near * c, tip[1] + near * s), (tip[0] + far * c, tip[1] + far * s)],
            canvas.unit * 0.007,
            (255, 236, 170),
        )
        if chance(rng, 0.5):
            canvas.line(
                [(tip[0] + far * c - far * 0.06, tip[1] + far * s), (tip[0] + far * c + far * 0.06, tip[1] + far * s)],
                canvas.unit * 0.006,
                (255, 255, 240),
            )
    canvas.ellipse(*tip, radius * 0.14, radius * 0.14, (255, 255, 245))
    _distant_show(canvas, rng)


def fountain(canvas: Canvas, rng: Rng, hand: Point) -> None:
    """A fountain of sparks from the ground."""
    _night(canvas)
    foot = (between(rng, 0.2, 0.8) * canvas.w, between(rng, 0.86, 0.96) * canvas.h)
    high, spread = canvas.h * between(rng, 0.6, 0.85), canvas.w * between(rng, 0.18, 0.36)
    colour = _spark_colour(rng)
    canvas.polygon(
        [foot, (foot[0] - spread * 0.6, foot[1] - high), (foot[0] + spread * 0.6, foot[1] - high)], (*colour[:3], 70)
    )
    for _ in range(int(rng.integers(40, 70))):
        side, up = between(rng, -1, 1), between(rng, 0.5, 1.0)
        path = [
            (foot[0] + side * spread * t, foot[1] - high * up * (2.0 * t - t * t) * (1.15 - 0.3 * abs(side)))
            for t in (0.0, 0.4, 0.8, 1.1)
        ]
        canvas.line(path, canvas.unit * between(rng, 0.004, 0.01), shade(colour, between(rng, 1.0, 1.7)))
        canvas.ellipse(*path[-1], canvas.unit * 0.011, canvas.unit * 0.011, (255, 252, 230))
    canvas.polygon(
        [(foot[0] - canvas.unit * 0.05, canvas.h), (foot[0], foot[1]), (foot[0] + canvas.unit * 0.05, canvas.h)],
        (150, 60, 60),
    )
    _distant_show(canvas, rng)


def rocket(canvas: Canvas, rng: Rng, hand: Point) -> None:
    """A launched rocket with its trail, as on a poster."""
    _night(canvas)
    side = pick(rng, (-1, 1))
    foot = (canvas.w * (0.5 - side * between(rng, 0.2, 0.4)), canvas.h * 0.98)
    tip = (canvas.w * (0.5 + side * between(rng, 0.1, 0.3)), canvas.h * between(rng, 0.22, 0.36))
    wide = canvas.unit * 0.09
    canvas.polygon(
        [
            (foot[0] - wide * 2, canvas.h),
            (foot[0] + wide * 2, canvas.h),
            (tip[0] + wide * 0.3, tip[1]),
            (tip[0] - wide * 0.3, tip[1]),
        ],
        (255, 190, 90),
    )
    canvas.polygon([(foot[0] - wide, canvas.h), (foot[0] + wide, canvas.h), tip], (255, 240, 190))
    for _ in range(30):
        t = between(rng, 0, 0.9)
        at = (foot[0] + (tip[0] - foot[0]) * t + between(rng, -2, 2) * wide, foot[1] + (tip[1] - foot[1]) * t)
        canvas.ellipse(*at, canvas.unit * 0.012, canvas.unit * 0.012, (255, 244, 210))
    lean = math.degrees(math.atan2(tip[0] - foot[0], foot[1] - tip[1]))
    _rocket_body(Pen(canvas, tip, canvas.unit * 0.34, 1, lean), rng)
    _distant_show(canvas, rng)


def _rocket_body(pen: Pen, rng: Rng) -> None:
    body = pick(rng, ((214, 60, 60), (60, 120, 200), (240, 240, 240)))
    for x in (-1, 1):
        pen.polygon([(x * 0.12, 0.0), (x * 0.3, -0.12), (x * 0.12, 0.3)], shade(body, 0.6))
    pen.rectangle((-0.13, 0), (0.13, 0.62), body)
    pen.polygon([(-0.17, 0.62), (0.17, 0.62), (0, 1.0)], (250, 210, 80))
    pen.rectangle((-0.13, 0.2), (0.13, 0.32), (250, 246, 240))


def _slime_colour(rng: Rng) -> Colour:
    return hsv(
        pick(rng, (0.28, 0.30, 0.33, 0.25, 0.78, 0.5)) + between(rng, -0.02, 0.02),
        between(rng, 0.7, 0.95),
        between(rng, 0.7, 0.95),
    )


def _glossy(canvas: Canvas, rng: Rng, points: list[Point], colour: Colour) -> None:
    """A wet shape: dark rim, body, then a light inner edge."""
    middle = (sum(x for x, _ in points) / len(points), sum(y for _, y in points) / len(points))
    canvas.polygon(points, shade(colour, 0.35))
    for size, tone in ((0.95, 1.0), (0.72, 1.18)):
        shift = canvas.unit * 0.012 * (1 - size) * 10
        canvas.polygon(
            [
                (middle[0] + (x - middle[0]) * size - shift * 0.3, middle[1] + (y - middle[1]) * size - shift * 0.3)
                for x, y in points
            ],
            shade(colour, tone),
        )


def _shine(canvas: Canvas, at: Point, size: float) -> None:
    canvas.ellipse(at[0], at[1], size, size * 0.55, (250, 255, 240))
    canvas.ellipse(at[0] + size * 1.4, at[1] + size * 0.6, size * 0.35, size * 0.3, (250, 255, 240))


def _bubbles(canvas: Canvas, rng: Rng, box: tuple[float, float, float, float], colour: Colour, count: int) -> None:
    for _ in range(count):
        x, y, size = between(rng, box[0], box[2]), between(rng, box[1], box[3]), canvas.unit * between(rng, 0.02, 0.06)
        canvas.ellipse(x, y, size, size, shade(colour, 0.45))
        canvas.ellipse(x, y, size * 0.8, size * 0.8, shade(colour, 1.35))
        canvas.ellipse(x - size * 0.3, y - size * 0.3, size * 0.25, size * 0.25, (250, 255, 240))


def _ooze(canvas: Canvas, rng: Rng, colour: Colour) -> None:
    """What all modes of slime share: it runs down from the top edge and stands in a bubbling pool below."""
    for grow, tone in ((canvas.unit * 0.016, 0.35), (0.0, 1.0)):
        fill = shade(colour, tone)
        canvas.rectangle((0, 0, canvas.w, canvas.h * 0.1 + grow), fill)
        for lane in range(7):
            left, low = canvas.w * (lane + 0.2) / 7, canvas.h * (0.17 + 0.1 * (lane % 2))
            canvas.rectangle((left - grow, 0, left + canvas.w * 0.09 + grow, low + grow), fill, canvas.w * 0.045)
        canvas.rectangle((0, canvas.h * 0.78 - grow, canvas.w, canvas.h), fill)
        for wave in range(6):
            at = canvas.w * (wave + 0.5) / 6
            canvas.ellipse(at, canvas.h * 0.78, canvas.w * 0.09 + grow, canvas.h * 0.05 + grow, fill)
    _bubbles(canvas, rng, (0.0, canvas.h * 0.82, canvas.w, canvas.h * 0.98), colour, 12)
    for lane in range(0, 7, 2):
        _shine(canvas, (canvas.w * (lane + 0.4) / 7, canvas.h * 0.06), canvas.unit * 0.03)


def splat(canvas: Canvas, rng: Rng, hand: Point) -> None:
    """A splat over the scene: a core with fingers, and drops around it."""
    colour = _slime_colour(rng)
    centre = (between(rng, 0.3, 0.7) * canvas.w, between(rng, 0.35, 0.7) * canvas.h)
    radius = canvas.unit * between(rng, 0.27, 0.36)
    fingers, points, start = int(rng.integers(9, 15)), [], between(rng, 0, 6.28)
    for k in range(fingers):
        turn, long = start + 2 * math.pi * k / fingers, between(rng, 1.15, 1.75)
        step = math.pi / fingers
        for offset, far in ((-0.55, 0.85), (-0.22, long * 0.95), (0.0, long), (0.22, long * 0.95), (0.55, 0.85)):
            angle = turn + offset * step
            points.append((centre[0] + radius * far * math.cos(angle), centre[1] + radius * far * math.sin(angle)))
        if chance(rng, 0.7):
            far, drop = radius * (long + 0.3), radius * between(rng, 0.08, 0.16)
            canvas.ellipse(
                centre[0] + far * math.cos(turn), centre[1] + far * math.sin(turn), drop, drop, shade(colour, 0.35)
            )
            canvas.ellipse(
                centre[0] + far * math.cos(turn), centre[1] + far * math.sin(turn), drop * 0.8, drop * 0.8, colour
            )
    _glossy(canvas, rng, points, colour)
    _shine(canvas, (centre[0] - radius * 0.4, centre[1] - radius * 0.45), radius * 0.2)
    _ooze(canvas, rng, colour)


def drips(canvas: Canvas, rng: Rng, hand: Point) -> None:
    """Slime that runs down from the top edge."""
    colour = _slime_colour(rng)
    base = canvas.h * between(rng, 0.16, 0.3)
    x, lanes = -canvas.w * 0.02, []
    while x < canvas.w:
        wide = canvas.w * between(rng, 0.06, 0.12)
        lanes.append((x, wide, base + canvas.h * between(rng, 0.02, 0.5)))
        x += wide * between(rng, 1.15, 1.7)
    for grow, tone in ((canvas.unit * 0.012, 0.35), (0.0, 1.0)):
        fill = shade(colour, tone)
        canvas.rectangle((0, 0, canvas.w, base + grow), fill)
        for left, wide, low in lanes:
            canvas.rectangle((left - grow, 0, left + wide + grow, low + grow), fill, wide / 2 + grow)
    for left, wide, low in lanes:
        canvas.line(
            [(left + wide * 0.28, base * 0.7), (left + wide * 0.28, low - wide * 0.5)], wide * 0.16, shade(colour, 1.75)
        )
        if chance(rng, 0.35):
            drop = low + canvas.h * between(rng, 0.06, 0.16)
            canvas.ellipse(left + wide / 2, drop, wide * 0.36, wide * 0.5, shade(colour, 0.35))
            canvas.ellipse(left + wide / 2, drop, wide * 0.28, wide * 0.42, colour)
    _ooze(canvas, rng, colour)


def puddle(canvas: Canvas, rng: Rng, hand: Point) -> None:
    """A puddle over the ground with shine and bubbles."""
    colour = _slime_colour(rng)
    centre = (between(rng, 0.38, 0.62) * canvas.w, canvas.h * between(rng, 0.76, 0.84))
    wide, tall = canvas.w * between(rng, 0.42, 0.56), canvas.h * between(rng, 0.2, 0.27)
    outline = [(x * wide + centre[0], y * tall + centre[1]) for x, y in blob(rng, (0.0, 0.0), 1.0, 0.12, 48)]
    _glossy(canvas, rng, outline, colour)
    box = (centre[0] - wide * 0.6, centre[1] - tall * 0.5, centre[0] + wide * 0.6, centre[1] + tall * 0.5)
    _bubbles(canvas, rng, box, colour, int(rng.integers(6, 14)))
    _shine(canvas, (centre[0] - wide * 0.35, centre[1] - tall * 0.35), canvas.unit * 0.07)
    _shine(canvas, (centre[0] + wide * 0.3, centre[1] + tall * 0.1), canvas.unit * 0.045)
    _ooze(canvas, rng, colour)


def bucket(canvas: Canvas, rng: Rng, hand: Point) -> None:
    """A bucket being emptied: a thick stream that ends in a heap."""
    colour = _slime_colour(rng)
    side = pick(rng, (-1, 1))
    x, y = canvas.w * (0.5 - side * 0.22), canvas.h * between(rng, 0.16, 0.26)
    land = canvas.w * (0.5 + side * between(rng, 0.0, 0.15))
    wide = canvas.unit * between(rng, 0.1, 0.15)
    stream = [
        (x + side * wide, y - wide * 0.6),
        (land + wide, canvas.h * 0.45),
        (land + wide * 1.3, canvas.h * 0.9),
        (land - wide * 1.3, canvas.h * 0.9),
        (land - wide * 0.7, canvas.h * 0.5),
        (x + side * wide * 0.6, y + wide),
    ]
    _glossy(canvas, rng, stream, colour)
    heap = [
        (px * canvas.w * 0.4 + land, py * canvas.h * 0.16 + canvas.h * 0.88)
        for px, py in blob(rng, (0.0, 0.0), 1.0, 0.12, 40)
    ]
    _glossy(canvas, rng, heap, colour)
    _shine(canvas, (land - wide, canvas.h * 0.84), canvas.unit * 0.06)
    pen = Pen(canvas, (x - side * wide, y + wide), canvas.unit * 0.34, side, 68)
    pen.polygon([(-0.3, -0.2), (0.3, -0.2), (0.42, 0.6), (-0.42, 0.6)], (120, 126, 140))
    pen.polygon([(-0.42, 0.5), (0.42, 0.5), (0.42, 0.62), (-0.42, 0.62)], (70, 74, 86))
    _ooze(canvas, rng, colour)


OVERLAYS: MappingProxyType[str, Overlay] = MappingProxyType(
    {
        "burst": burst,
        "sparkler": sparkler,
        "fountain": fountain,
        "rocket": rocket,
        "splat": splat,
        "drips": drips,
        "puddle": puddle,
        "bucket": bucket,
    }
)
