"""Draws backdrops: landscapes, rooms and abstract backgrounds, each with its own horizon and layout."""

import math
from collections.abc import Callable
from types import MappingProxyType

import numpy as np
from PIL import Image

from jobs.commands.generate.pictures.primitives.canvas import Canvas, Colour, Point
from jobs.commands.generate.pictures.primitives.palette import Palette, mix, shade
from jobs.commands.generate.pictures.primitives.randomness import Rng, between, chance, pick

Backdrop = Callable[[Canvas, Rng, Palette], float]


def gradient(canvas: Canvas, box: tuple[float, float, float, float], colours: tuple[Colour, Colour]) -> None:
    """Fills a box (left, top, right, bottom) from the first colour at its top to the second."""
    left, top, right, bottom = (round(side) for side in box)
    if right <= left or bottom <= top:
        return
    rows = np.linspace(colours[0], colours[1], 64).astype(np.uint8)[:, None, :]
    strip = Image.fromarray(rows).resize((1, bottom - top), Image.Resampling.BILINEAR)
    canvas.image.paste(strip.resize((right - left, bottom - top), Image.Resampling.NEAREST), (left, top))


def wave(rng: Rng, width: float, level: float, height: float, bumps: float = 1.5) -> list[Point]:
    """The top of a hill line from left to right: a few sines around a level, pixels."""
    xs = np.linspace(0, width, 40)
    phase = rng.random(3) * 2 * math.pi
    ys = sum(
        np.sin(xs / width * 2 * math.pi * bumps * (k + 1) * between(rng, 0.6, 1.2) + phase[k]) / (k + 1)
        for k in range(3)
    )
    return [(float(x), level - height * float(y)) for x, y in zip(xs, np.asarray(ys), strict=True)]


def blob(rng: Rng, at: Point, radius: float, wobble: float = 0.25, points: int = 36) -> list[Point]:
    """A closed wavy outline around a point."""
    angles = np.linspace(0, 2 * math.pi, points, endpoint=False)
    radii = np.ones(points)
    for k in (2, 3, 5):
        radii += wobble * between(rng, 0.2, 0.8) * np.sin(k * angles + between(rng, 0, 6.3))
    return [
        (at[0] + radius * r * math.cos(a), at[1] + radius * r * math.sin(a))
        for r, a in zip(radii.tolist(), angles.tolist(), strict=True)
    ]


def sky(canvas: Canvas, rng: Rng, palette: Palette) -> None:
    """A sky over the whole canvas: gradient, sun or moon, clouds or stars."""
    gradient(canvas, (0, 0, canvas.w, canvas.h), palette.sky)
    ink, canvas.ink = canvas.ink, None
    dark = sum(palette.sky[0]) < 260
    if chance(rng, 0.55):
        x, y, radius = between(rng, 0.08, 0.92), between(rng, 0.06, 0.4), between(rng, 0.04, 0.16) * canvas.unit
        glow = palette.light if dark else (255, 244, 200)
        canvas.ellipse(x * canvas.w, y * canvas.h, radius * 1.5, radius * 1.5, (*glow, 60))
        canvas.ellipse(x * canvas.w, y * canvas.h, radius, radius, glow)
        if dark and chance(rng, 0.6):
            canvas.ellipse(
                x * canvas.w + radius * 0.5, y * canvas.h - radius * 0.2, radius * 0.85, radius * 0.85, palette.sky[0]
            )
    if dark:
        for x, y in rng.random((int(rng.integers(20, 70)), 2)).tolist():
            radius = canvas.unit * between(rng, 0.002, 0.006)
            canvas.ellipse(x * canvas.w, y * canvas.h * 0.7, radius, radius, (255, 250, 225))
    for _ in range(int(rng.integers(0, 5))):
        cloud(canvas, rng, (between(rng, 0, 1) * canvas.w, between(rng, 0.05, 0.45) * canvas.h), dark)
    canvas.ink = ink


def cloud(canvas: Canvas, rng: Rng, at: Point, dark: bool) -> None:
    """A cloud of some puffs."""
    size = canvas.unit * between(rng, 0.05, 0.17)
    fill = (90, 96, 120) if dark else shade((235, 240, 246), between(rng, 0.85, 1.5))
    for _ in range(int(rng.integers(3, 7))):
        radius = size * between(rng, 0.4, 0.9)
        canvas.ellipse(at[0] + size * between(rng, -1.6, 1.6), at[1] - radius * 0.3, radius, radius * 0.7, fill)


def hills(canvas: Canvas, rng: Rng, palette: Palette) -> float:
    """Rolling hills under the sky."""
    sky(canvas, rng, palette)
    level = canvas.h * between(rng, 0.35, 0.75)
    layers = int(rng.integers(2, 5))
    for layer in range(layers):
        y = level + (canvas.h - level) * layer / layers
        top = wave(rng, canvas.w, y, canvas.h * between(rng, 0.02, 0.10), between(rng, 0.4, 2.2))
        canvas.polygon(
            [*top, (canvas.w, canvas.h), (0, canvas.h)], mix(palette.ground[0], palette.ground[1], layer / layers)
        )
    if chance(rng, 0.4):
        _path(canvas, rng, level, shade(palette.ground[0], 1.45))
    return level + (canvas.h - level) * 0.35


def _path(canvas: Canvas, rng: Rng, level: float, fill: Colour) -> None:
    far, near = between(rng, 0.2, 0.8) * canvas.w, between(rng, 0.0, 1.0) * canvas.w
    wide = canvas.w * between(rng, 0.06, 0.2)
    bend = between(rng, -0.25, 0.25) * canvas.w
    middle = (level + canvas.h) / 2
    left = [(far - wide * 0.08, level), ((far + near) / 2 + bend - wide * 0.4, middle), (near - wide, canvas.h)]
    right = [(near + wide, canvas.h), ((far + near) / 2 + bend + wide * 0.4, middle), (far + wide * 0.08, level)]
    canvas.polygon([*left, *right], fill)


def mountains(canvas: Canvas, rng: Rng, palette: Palette) -> float:
    """Peaks, some with snow."""
    sky(canvas, rng, palette)
    level = canvas.h * between(rng, 0.5, 0.8)
    rock = mix(palette.sky[0], palette.dark, between(rng, 0.3, 0.7))
    for _ in range(int(rng.integers(2, 6))):
        x, height = between(rng, -0.05, 1.05) * canvas.w, between(rng, 0.18, 0.6) * canvas.h
        half = height * between(rng, 0.6, 1.5)
        lean = half * between(rng, -0.3, 0.3)
        canvas.polygon(
            [(x - half, level), (x + lean, level - height), (x + half, level)], shade(rock, between(rng, 0.7, 1.4))
        )
        if chance(rng, 0.6):
            cap = between(rng, 0.15, 0.4)
            tip = (x + lean, level - height)
            left = (tip[0] + (x - half - tip[0]) * cap, tip[1] + height * cap)
            right = (tip[0] + (x + half - tip[0]) * cap, tip[1] + height * cap)
            middle = ((left[0] + right[0]) / 2, tip[1] + height * cap * 0.7)
            canvas.polygon([tip, right, middle, left], (240, 244, 250))
    gradient(canvas, (0, level, canvas.w, canvas.h), palette.ground)
    return level + (canvas.h - level) * 0.4


def sea(canvas: Canvas, rng: Rng, palette: Palette) -> float:
    """Open water under the sky, with waves and now and then an island."""
    sky(canvas, rng, palette)
    level = canvas.h * between(rng, 0.3, 0.7)
    water = mix(palette.sky[0], (20, 70, 130), between(rng, 0.35, 0.8))
    if chance(rng, 0.5):
        x = between(rng, 0, 1) * canvas.w
        half = canvas.w * between(rng, 0.1, 0.4)
        top = [
            (x + half * t, level - half * 0.35 * math.cos(t * math.pi / 2) * (1 + 0.3 * math.sin(5 * t)))
            for t in np.linspace(-1, 1, 20).tolist()
        ]
        canvas.polygon(top, mix(palette.ground[1], water, 0.3))
    gradient(canvas, (0, level, canvas.w, canvas.h), (shade(water, 1.25), shade(water, 0.7)))
    for _ in range(int(rng.integers(8, 30))):
        y = level + (canvas.h - level) * between(rng, 0.02, 1) ** 1.5
        x, half = between(rng, 0, 1) * canvas.w, canvas.w * between(rng, 0.03, 0.14)
        canvas.line([(x - half, y), (x, y - canvas.h * 0.006), (x + half, y)], canvas.unit * 0.006, shade(water, 1.5))
    return level + (canvas.h - level) * 0.3


def harbour(canvas: Canvas, rng: Rng, palette: Palette) -> float:
    """A quay with sheds and masts behind the water."""
    sea(canvas, rng, palette)
    level = canvas.h * between(rng, 0.38, 0.55)
    x = -canvas.w * between(rng, 0, 0.1)
    while x < canvas.w:
        width, height = canvas.w * between(rng, 0.05, 0.16), canvas.h * between(rng, 0.05, 0.28)
        canvas.rectangle(
            (x, level - height, x + width, level), shade(pick(rng, palette.accents), between(rng, 0.4, 0.9))
        )
        canvas.polygon(
            [(x, level - height), (x + width / 2, level - height * 1.3), (x + width, level - height)], palette.dark
        )
        if chance(rng, 0.5):
            mast = x + width * between(rng, 1.1, 1.6)
            canvas.line(
                [(mast, level), (mast, level - canvas.h * between(rng, 0.2, 0.4))], canvas.unit * 0.008, palette.dark
            )
        x += width * between(rng, 1.0, 2.2)
    canvas.rectangle((0, level, canvas.w, level + canvas.h * 0.03), shade(palette.ground[1], 0.6))
    quay = canvas.h * between(rng, 0.72, 0.85)
    gradient(canvas, (0, quay, canvas.w, canvas.h), (shade(palette.ground[0], 1.2), palette.ground[1]))
    return quay + (canvas.h - quay) * 0.3


def beach(canvas: Canvas, rng: Rng, palette: Palette) -> float:
    """Sea, then sand with a slanting shore."""
    sea(canvas, rng, palette)
    level = canvas.h * between(rng, 0.6, 0.8)
    top = wave(rng, canvas.w, level, canvas.h * between(rng, 0.01, 0.08), 0.7)
    sand = pick(rng, ((236, 214, 160), (214, 186, 138), (245, 230, 196)))
    canvas.polygon([(x, y - canvas.h * 0.02) for x, y in top] + [(canvas.w, canvas.h), (0, canvas.h)], (245, 250, 250))
    canvas.polygon([*top, (canvas.w, canvas.h), (0, canvas.h)], sand)
    for _ in range(int(rng.integers(0, 3))):
        x, radius = between(rng, 0, 1) * canvas.w, canvas.unit * between(rng, 0.08, 0.2)
        foot = canvas.h * between(rng, 0.75, 0.9)
        canvas.line([(x, foot), (x, foot - radius * 2)], canvas.unit * 0.012, palette.dark)
        half = [
            (x + radius * 1.3 * math.cos(t), foot - radius * 1.7 - radius * 0.8 * math.sin(t))
            for t in np.linspace(0, math.pi, 16).tolist()
        ]
        canvas.polygon(half, pick(rng, palette.accents))
    return level + (canvas.h - level) * 0.5


def city(canvas: Canvas, rng: Rng, palette: Palette) -> float:
    """A row of tall buildings with lit windows behind a street."""
    sky(canvas, rng, palette)
    level = canvas.h * between(rng, 0.6, 0.82)
    lit = (255, 226, 140)
    x = -canvas.w * between(rng, 0.0, 0.15)
    while x < canvas.w:
        width, height = canvas.w * between(rng, 0.07, 0.24), level * between(rng, 0.15, 0.95)
        body = shade(mix(pick(rng, palette.accents), palette.dark, between(rng, 0.1, 0.8)), between(rng, 0.6, 1.3))
        canvas.rectangle((x, level - height, x + width, level), body)
        _windows(canvas, rng, (x, level - height, x + width, level), lit if chance(rng, 0.5) else shade(body, 0.6))
        x += width * between(rng, 1.0, 1.5)
    gradient(canvas, (0, level, canvas.w, canvas.h), ((120, 120, 126), (70, 70, 78)))
    for k in range(6):
        x = canvas.w * (k + between(rng, 0.2, 0.4)) / 6
        y = (level + canvas.h) / 2
        canvas.rectangle((x, y, x + canvas.w * 0.07, y + canvas.h * 0.01), (230, 230, 220))
    return level + (canvas.h - level) * 0.3


def _windows(canvas: Canvas, rng: Rng, box: tuple[float, float, float, float], fill: Colour) -> None:
    left, top, right, bottom = box
    across, down = int(rng.integers(1, 5)), int(rng.integers(2, 8))
    dx, dy = (right - left) / across, (bottom - top) / down
    lit = rng.random((across, down)) < between(rng, 0.4, 1.0)
    ink, canvas.ink = canvas.ink, None
    for i, j in np.argwhere(lit).tolist():
        x, y = left + dx * (i + 0.25), top + dy * (j + 0.25)
        canvas.rectangle((x, y, x + dx * 0.5, y + dy * 0.5), fill)
    canvas.ink = ink


def forest(canvas: Canvas, rng: Rng, palette: Palette) -> float:
    """Trunks in rows, dark and light."""
    gradient(canvas, (0, 0, canvas.w, canvas.h), (shade(palette.ground[0], 1.6), palette.ground[1]))
    level = canvas.h * between(rng, 0.6, 0.85)
    for row in range(3):
        tone = mix(shade(palette.ground[0], 1.3), palette.dark, row / 2.5)
        for _ in range(int(rng.integers(3, 8))):
            x = between(rng, 0, 1) * canvas.w
            half = canvas.unit * between(rng, 0.008, 0.03) * (row + 1)
            canvas.polygon([(x - half * 0.6, 0), (x + half * 0.6, 0), (x + half, level), (x - half, level)], tone)
    for _ in range(int(rng.integers(4, 10))):
        at = (between(rng, 0, 1) * canvas.w, between(rng, -0.05, 0.3) * canvas.h)
        canvas.polygon(
            blob(rng, at, canvas.unit * between(rng, 0.1, 0.28)), shade(palette.ground[1], between(rng, 0.6, 1.3))
        )
    gradient(canvas, (0, level, canvas.w, canvas.h), (palette.ground[0], shade(palette.ground[1], 0.8)))
    return level + (canvas.h - level) * 0.3


def garden(canvas: Canvas, rng: Rng, palette: Palette) -> float:
    """Flower beds before a hedge or a fence."""
    sky(canvas, rng, palette)
    level = canvas.h * between(rng, 0.45, 0.7)
    hedge = level - canvas.h * between(rng, 0.06, 0.25)
    if chance(rng, 0.5):
        for k in range(14):
            x = canvas.w * k / 13
            canvas.rectangle((x - canvas.w * 0.02, hedge, x + canvas.w * 0.02, level), (238, 232, 220))
        canvas.rectangle((0, hedge + (level - hedge) * 0.3, canvas.w, hedge + (level - hedge) * 0.45), (225, 218, 204))
    else:
        canvas.polygon(
            [*wave(rng, canvas.w, hedge, canvas.h * 0.02, 4), (canvas.w, level), (0, level)],
            shade(palette.ground[1], 0.7),
        )
    gradient(canvas, (0, level, canvas.w, canvas.h), palette.ground)
    for _ in range(int(rng.integers(10, 45))):
        x, y = between(rng, 0, 1) * canvas.w, between(rng, level, canvas.h)
        size = canvas.unit * between(rng, 0.008, 0.03) * (0.5 + (y - level) / (canvas.h - level))
        canvas.ellipse(x, y, size, size, shade(pick(rng, palette.accents), 1.3))
    return level + (canvas.h - level) * 0.45


def snow(canvas: Canvas, rng: Rng, palette: Palette) -> float:
    """White ground, dark firs, flakes."""
    sky(canvas, rng, palette)
    level = canvas.h * between(rng, 0.4, 0.75)
    for _ in range(int(rng.integers(2, 9))):
        x, height = between(rng, 0, 1) * canvas.w, canvas.h * between(rng, 0.1, 0.45)
        for k in range(3):
            top = level - height + k * height * 0.25
            half = height * (0.12 + 0.09 * k)
            canvas.polygon(
                [(x, top), (x + half, top + height * 0.42), (x - half, top + height * 0.42)],
                shade((40, 80, 66), between(rng, 0.7, 1.3)),
            )
    top_line = wave(rng, canvas.w, level, canvas.h * between(rng, 0.01, 0.07))
    canvas.polygon([*top_line, (canvas.w, canvas.h), (0, canvas.h)], (238, 243, 250))
    for x, y in rng.random((int(rng.integers(0, 70)), 2)).tolist():
        radius = canvas.unit * between(rng, 0.003, 0.012)
        canvas.ellipse(x * canvas.w, y * canvas.h, radius, radius, (255, 255, 255, 220))
    return level + (canvas.h - level) * 0.4


def desert(canvas: Canvas, rng: Rng, palette: Palette) -> float:
    """Dunes in light and shade."""
    sky(canvas, rng, palette)
    level = canvas.h * between(rng, 0.4, 0.7)
    sand = pick(rng, ((226, 178, 110), (204, 140, 84), (238, 206, 150)))
    for layer in range(int(rng.integers(2, 5))):
        x, width = between(rng, -0.2, 1.2) * canvas.w, canvas.w * between(rng, 0.5, 1.1)
        y = level + layer * (canvas.h - level) * 0.2
        peak = y - canvas.h * between(rng, 0.05, 0.22)
        canvas.rectangle((0, y, canvas.w, canvas.h), shade(sand, 1 - 0.1 * layer))
        canvas.polygon([(x - width, y + 2), (x, peak), (x + width, y + 2)], shade(sand, 1.15))
        canvas.polygon([(x, peak), (x + width, y + 2), (x + width * between(rng, -0.2, 0.3), y + 2)], shade(sand, 0.7))
    return level + (canvas.h - level) * 0.5


def room(canvas: Canvas, rng: Rng, palette: Palette) -> float:
    """A wall with window, picture, shelf and lamp over a floor."""
    level = _wall(canvas, rng, palette)
    slots = rng.permutation(4)[: int(rng.integers(2, 4))].tolist()
    for slot in slots:
        x, y = canvas.w * (0.14 + 0.24 * slot), level * between(rng, 0.2, 0.6)
        half = canvas.unit * between(rng, 0.07, 0.17)
        pick(rng, (_window, _framed, _shelf, _lamp))(canvas, rng, palette, (x, y, half))
    if chance(rng, 0.5):
        x, half = between(rng, 0.2, 0.8) * canvas.w, canvas.w * between(rng, 0.2, 0.45)
        y = level + (canvas.h - level) * 0.6
        canvas.ellipse(x, y, half, (canvas.h - level) * 0.3, pick(rng, palette.accents))
    return level + (canvas.h - level) * 0.45


def _wall(canvas: Canvas, rng: Rng, palette: Palette) -> float:
    wall = shade(pick(rng, palette.accents), between(rng, 0.7, 1.75))
    canvas.rectangle((0, 0, canvas.w, canvas.h), wall)
    if chance(rng, 0.5):
        step = canvas.w / int(rng.integers(5, 16))
        for k in range(0, 32, 2):
            canvas.rectangle((k * step, 0, (k + 1) * step, canvas.h), shade(wall, 0.9))
    level = canvas.h * between(rng, 0.55, 0.85)
    floor = mix(palette.ground[1], (130, 90, 60), 0.5)
    gradient(canvas, (0, level, canvas.w, canvas.h), (floor, shade(floor, 0.75)))
    canvas.rectangle((0, level, canvas.w, level + canvas.h * 0.02), shade(wall, 0.55))
    return level


def _window(canvas: Canvas, rng: Rng, palette: Palette, at: tuple[float, float, float]) -> None:
    x, y, half = at
    tall = half * between(rng, 0.9, 1.7)
    canvas.rectangle((x - half, y - tall, x + half, y + tall), shade(palette.light, 0.95))
    gradient(canvas, (x - half * 0.85, y - tall * 0.9, x + half * 0.85, y + tall * 0.9), palette.sky)
    canvas.rectangle((x - half * 0.06, y - tall, x + half * 0.06, y + tall), palette.light)
    canvas.rectangle((x - half, y - half * 0.06, x + half, y + half * 0.06), palette.light)


def _framed(canvas: Canvas, rng: Rng, palette: Palette, at: tuple[float, float, float]) -> None:
    x, y, half = at
    tall = half * between(rng, 0.6, 1.3)
    canvas.rectangle((x - half, y - tall, x + half, y + tall), palette.dark)
    canvas.rectangle((x - half * 0.8, y - tall * 0.8, x + half * 0.8, y + tall * 0.8), palette.light)
    canvas.polygon(blob(rng, (x, y), min(half, tall) * 0.55), pick(rng, palette.accents))


def _shelf(canvas: Canvas, rng: Rng, palette: Palette, at: tuple[float, float, float]) -> None:
    x, y, half = at
    for row in range(int(rng.integers(1, 4))):
        base = y + row * half * 0.9
        canvas.rectangle((x - half * 1.2, base, x + half * 1.2, base + half * 0.12), palette.dark)
        left = x - half * 1.1
        while left < x + half:
            width, height = half * between(rng, 0.1, 0.3), half * between(rng, 0.3, 0.75)
            canvas.rectangle(
                (left, base - height, left + width, base), shade(pick(rng, palette.accents), between(rng, 0.5, 1.4))
            )
            left += width * between(rng, 1.0, 1.6)


def _lamp(canvas: Canvas, rng: Rng, palette: Palette, at: tuple[float, float, float]) -> None:
    x, y, half = at
    canvas.line([(x, 0), (x, y)], canvas.unit * 0.008, palette.dark)
    canvas.polygon(
        [(x - half * 0.3, y), (x + half * 0.3, y), (x + half * 0.8, y + half * 0.7), (x - half * 0.8, y + half * 0.7)],
        pick(rng, palette.accents),
    )
    canvas.ellipse(x, y + half * 0.75, half * 0.25, half * 0.2, (255, 244, 200))


def kitchen(canvas: Canvas, rng: Rng, palette: Palette) -> float:
    """Cupboards, tiles and a worktop."""
    level = _wall(canvas, rng, palette)
    board = shade(pick(rng, palette.accents), between(rng, 0.6, 1.3))
    top = level * between(rng, 0.15, 0.35)
    count = int(rng.integers(2, 6))
    gap = int(rng.integers(count))
    for k in range(count):
        x = canvas.w * k / count
        if k != gap:
            canvas.rectangle((x, 0, x + canvas.w / count * 0.96, top), board)
            canvas.ellipse(
                x + canvas.w / count * 0.8, top * 0.8, canvas.unit * 0.012, canvas.unit * 0.012, palette.dark
            )
    work = level - canvas.h * between(rng, 0.1, 0.2)
    for k in range(count + 1):
        x = canvas.w * k / (count + 1)
        canvas.rectangle((x, work, x + canvas.w / (count + 1) * 0.97, level), shade(board, 0.85))
    canvas.rectangle((0, work - canvas.h * 0.02, canvas.w, work), palette.light)
    _window(canvas, rng, palette, (canvas.w * (gap + 0.5) / count, top + (work - top) * 0.35, canvas.unit * 0.1))
    return level + (canvas.h - level) * 0.4


def library(canvas: Canvas, rng: Rng, palette: Palette) -> float:
    """A wall of books."""
    level = _wall(canvas, rng, palette)
    left, right = canvas.w * between(rng, 0, 0.3), canvas.w * between(rng, 0.7, 1.0)
    canvas.rectangle((left, 0, right, level), shade(palette.dark, 1.1))
    rows = int(rng.integers(3, 6))
    for row in range(rows):
        base, tall = level * (row + 0.93) / rows, level / rows
        x = left + canvas.w * 0.01
        while x < right - canvas.w * 0.03:
            width = canvas.w * between(rng, 0.012, 0.05)
            if chance(rng, 0.85):
                canvas.rectangle(
                    (x, base - tall * between(rng, 0.5, 0.85), x + width, base),
                    shade(pick(rng, palette.accents), between(rng, 0.5, 1.5)),
                )
            x += width
    return level + (canvas.h - level) * 0.4


def stripes(canvas: Canvas, rng: Rng, palette: Palette) -> float:
    """Slanting bands of unequal width."""
    colours = (*palette.sky, *palette.accents)
    slant = between(rng, -1.2, 1.2) * canvas.h
    x = -abs(slant)
    while x < canvas.w + abs(slant):
        width = canvas.w * between(rng, 0.04, 0.25)
        fill = shade(pick(rng, colours), between(rng, 0.7, 1.5))
        canvas.polygon([(x, 0), (x + width, 0), (x + width + slant, canvas.h), (x + slant, canvas.h)], fill)
        x += width
    return canvas.h * between(rng, 0.65, 0.9)


def panels(canvas: Canvas, rng: Rng, palette: Palette) -> float:
    """Rectangles split again and again."""
    boxes = [(0.0, 0.0, float(canvas.w), float(canvas.h))]
    for _ in range(int(rng.integers(3, 9))):
        boxes.sort(key=lambda box: (box[2] - box[0]) * (box[3] - box[1]))
        left, top, right, bottom = boxes.pop()
        cut = between(rng, 0.3, 0.7)
        if (right - left) > (bottom - top):
            middle = left + (right - left) * cut
            boxes += [(left, top, middle, bottom), (middle, top, right, bottom)]
        else:
            middle = top + (bottom - top) * cut
            boxes += [(left, top, right, middle), (left, middle, right, bottom)]
    for box in boxes:
        fill = shade(pick(rng, (*palette.accents, *palette.sky, *palette.ground)), between(rng, 0.6, 1.6))
        canvas.rectangle(box, fill)
    return canvas.h * between(rng, 0.65, 0.9)


def dots(canvas: Canvas, rng: Rng, palette: Palette) -> float:
    """Discs of all sizes, as out-of-focus lights."""
    gradient(
        canvas, (0, 0, canvas.w, canvas.h), (palette.sky[0], shade(pick(rng, palette.accents), between(rng, 0.4, 1.3)))
    )
    for _ in range(int(rng.integers(8, 40))):
        radius = canvas.unit * between(rng, 0.02, 0.22)
        fill = (*shade(pick(rng, palette.accents), between(rng, 0.8, 1.6)), int(rng.integers(60, 220)))
        canvas.ellipse(between(rng, 0, 1) * canvas.w, between(rng, 0, 1) * canvas.h, radius, radius, fill)
    return canvas.h * between(rng, 0.65, 0.9)


def shards(canvas: Canvas, rng: Rng, palette: Palette) -> float:
    """Large overlapping triangles."""
    canvas.rectangle((0, 0, canvas.w, canvas.h), palette.sky[1])
    for _ in range(int(rng.integers(6, 16))):
        corners = (rng.random((3, 2)) * 1.6 - 0.3) * (canvas.w, canvas.h)
        fill = shade(pick(rng, (*palette.accents, *palette.sky)), between(rng, 0.6, 1.6))
        canvas.polygon([(x, y) for x, y in corners.tolist()], (*fill, 215))
    return canvas.h * between(rng, 0.65, 0.9)


def table(canvas: Canvas, rng: Rng, palette: Palette) -> float:
    """A table with a cloth before a wall."""
    level = _wall(canvas, rng, palette)
    edge = level - canvas.h * between(rng, 0.0, 0.12)
    cloth = shade(pick(rng, palette.accents), between(rng, 0.8, 1.6))
    slant = canvas.w * between(rng, 0.0, 0.2)
    canvas.polygon([(slant, edge), (canvas.w - slant, edge), (canvas.w, canvas.h), (0, canvas.h)], cloth)
    if chance(rng, 0.6):
        count = int(rng.integers(3, 9))
        for k in range(count):
            top, low = slant + (canvas.w - 2 * slant) * k / count, canvas.w * k / count
            canvas.polygon(
                [(top, edge), (top + canvas.w * 0.03, edge), (low + canvas.w * 0.05, canvas.h), (low, canvas.h)],
                shade(cloth, 0.75),
            )
    if chance(rng, 0.6):
        _window(
            canvas,
            rng,
            palette,
            (between(rng, 0.15, 0.85) * canvas.w, edge * 0.45, canvas.unit * between(rng, 0.1, 0.2)),
        )
    return edge + (canvas.h - edge) * 0.5


BACKDROPS: MappingProxyType[str, Backdrop] = MappingProxyType(
    {
        "hills": hills,
        "mountains": mountains,
        "sea": sea,
        "harbour": harbour,
        "beach": beach,
        "city": city,
        "forest": forest,
        "garden": garden,
        "snow": snow,
        "desert": desert,
        "room": room,
        "kitchen": kitchen,
        "library": library,
        "stripes": stripes,
        "panels": panels,
        "dots": dots,
        "shards": shards,
        "table": table,
    }
)
