"""Logos and signs: bold shapes and words."""

import math
from types import MappingProxyType

import numpy as np

from jobs.commands.generate.pictures.motifs.backdrops import blob
from jobs.commands.generate.pictures.primitives.canvas import FONTS, Canvas, Colour, Pen, Point
from jobs.commands.generate.pictures.primitives.palette import Palette, shade
from jobs.commands.generate.pictures.primitives.randomness import Rng, between, chance, pick

BRANDS = (
    "Aldo", "Birch", "Corvo", "Delta Nine", "Ember", "Fjord", "Galan", "Hollin", "Ivo", "Juniper", "Kestrel", "Lumo",
    "Marlo", "Nimbus", "Orla", "Pico", "Quill", "Rosso", "Solen", "Tarn", "Umbra", "Verdo", "Wren", "Yarrow", "Zeno",
)  # fmt: skip
TRADES = ("bakery", "bank", "coffee", "school", "sports club", "bookshop", "airline", "music", "garden", "software")
SIGNS = MappingProxyType(
    {
        "Platform {}": ("1", "2", "3", "4", "5"),
        "Exit {}": ("A", "B", "C", "D", "E"),
        "Room {}": ("101", "102", "103", "104", "105"),
        "Open until {}": ("5", "6", "7", "8", "9"),
        "{} km to go": ("3", "5", "8", "12", "20"),
        "Sale {}%": ("10", "20", "30", "50", "70"),
        "Bus {}": ("7", "12", "18", "25", "40"),
        "Keep {}": ("left", "right", "calm", "quiet", "out"),
        "Fresh {}": ("bread", "eggs", "fish", "fruit", "milk"),
        "Happy {}": ("birthday", "new year", "holidays", "weekend", "Monday"),
        "Welcome to {}": ("Arden", "Bexley", "Calder", "Dunmore", "Elston"),
    }
)


def sign_words(base: str, first: int, variant: int) -> str:
    """The words of a sign; siblings differ in their variant only.

    Examples:
        >>> sign_words("Platform {}", 0, 2)
        'Platform 3'
    """
    endings = SIGNS[base]
    return base.format(endings[(first + variant) % len(endings)])


def logo(canvas: Canvas, rng: Rng, name: str, palette: Palette) -> None:
    """A logo: some shapes put together, the name below, beside or not at all."""
    ground = pick(rng, ((255, 255, 255), palette.light, palette.dark, *palette.accents))
    canvas.rectangle((0, 0, canvas.w, canvas.h), ground)
    fills = [fill for fill in (*palette.accents, palette.dark, palette.light) if fill != ground]
    for _ in range(int(rng.integers(0, 3))):
        _banner(canvas, rng, pick(rng, fills))
    x, y = between(rng, 0.22, 0.78) * canvas.w, between(rng, 0.25, 0.6) * canvas.h
    size = canvas.unit * between(rng, 0.5, 1.05)
    pen = Pen(canvas, (x, y + size / 2), size, pick(rng, (-1, 1)), between(rng, -40, 40))
    for k in range(int(rng.integers(3, 8))):
        spread = 0.4 if k else 0.05
        at = (between(rng, -spread, spread), 0.5 + between(rng, -spread, spread))
        radius = between(rng, 0.14, 0.5) * (1.0 if k else 1.3)
        pick(rng, _EMBLEMS)(pen, rng, at, radius, fills[(k + int(rng.integers(2))) % len(fills)])
    if chance(rng, 0.75):
        # Above or below the emblem, wherever there is more room.
        row = between(rng, 0.78, 0.9) if y < canvas.h * 0.45 else between(rng, 0.09, 0.16)
        _name(canvas, rng, name.upper() if chance(rng, 0.4) else name, palette, row * canvas.h)


def _name(canvas: Canvas, rng: Rng, name: str, palette: Palette, y: float) -> None:
    x = between(rng, 0.42, 0.58) * canvas.w
    height = min(canvas.h * between(rng, 0.1, 0.2), canvas.w / (len(name) + 1))
    under = np.asarray(canvas.image)[round(y), round(x)]
    canvas.text((x, y), name, height, palette.light if under.sum() < 380 else palette.dark, pick(rng, FONTS))


def _banner(canvas: Canvas, rng: Rng, fill: Colour) -> None:
    side = between(rng, 0.2, 0.6)
    w, h = canvas.w, canvas.h
    shapes: tuple[list[Point], ...] = (
        [(0, 0), (w * side, 0), (w * side * between(rng, 0.4, 1.0), h), (0, h)],
        [(0, h), (w, h), (w, h * (1 - side)), (0, h * (1 - side * between(rng, 0.3, 1.0)))],
        [(0, 0), (w, 0), (w, h * side * 0.7), (0, h * side)],
        [(w, 0), (w, h), (w * (1 - side), h), (w * between(rng, 0.5, 1.0), 0)],
    )
    canvas.polygon(pick(rng, shapes), fill)


def _disc(pen: Pen, rng: Rng, at: Point, radius: float, fill: Colour) -> None:
    pen.circle(at, radius, fill)
    if chance(rng, 0.5):
        pen.circle(
            (at[0] + radius * between(rng, -0.2, 0.2), at[1]), radius * between(rng, 0.4, 0.75), shade(fill, 1.7)
        )


def _star(pen: Pen, rng: Rng, at: Point, radius: float, fill: Colour) -> None:
    """A star, or a regular polygon."""
    points, inner = int(rng.integers(3, 9)), pick(rng, (0.4, 0.55, 1.0))
    start, corners = between(rng, 0, 6.28), []
    for k in range(2 * points):
        turn, far = start + math.pi * k / points, radius * (inner if k % 2 else 1.0)
        corners.append((at[0] + far * math.cos(turn), at[1] + far * math.sin(turn)))
    pen.polygon(corners, fill)


def _bars(pen: Pen, rng: Rng, at: Point, radius: float, fill: Colour) -> None:
    half = radius * between(rng, 0.15, 0.4)
    for k in range(int(rng.integers(1, 4))):
        x = at[0] + 2.6 * half * k
        pen.rectangle((x - half, at[1] - radius), (x + half, at[1] + radius * between(rng, 0.3, 1.0)), fill)


def _leaf(pen: Pen, rng: Rng, at: Point, radius: float, fill: Colour) -> None:
    x, y = at
    side = between(rng, 0.3, 0.9)
    pen.polygon([(x, y - radius), (x + radius * side, y), (x, y + radius), (x - radius * 0.3, y)], fill)


def _arch(pen: Pen, rng: Rng, at: Point, radius: float, fill: Colour) -> None:
    turns = np.linspace(0, between(rng, 2.4, 4.4), 21).tolist()
    pen.line([(at[0] + radius * math.cos(t), at[1] + radius * math.sin(t)) for t in turns], radius * 0.35, fill)


def _stain(pen: Pen, rng: Rng, at: Point, radius: float, fill: Colour) -> None:
    pen.polygon(blob(rng, at, radius, 0.4), fill)


def _chevrons(pen: Pen, rng: Rng, at: Point, radius: float, fill: Colour) -> None:
    for k in range(int(rng.integers(1, 4))):
        low = at[1] - radius + radius * 0.8 * k
        corners = [(at[0] - radius, low), (at[0], low + radius * 0.8), (at[0] + radius, low)]
        pen.line(corners, radius * 0.3, fill)


_EMBLEMS = (_disc, _disc, _star, _star, _bars, _leaf, _arch, _stain, _chevrons)


def sign(canvas: Canvas, rng: Rng, words: str, palette: Palette) -> None:
    """A board with words on it, before whatever is drawn already."""
    w, h = canvas.w * between(rng, 0.45, 0.92), canvas.h * between(rng, 0.28, 0.7)
    x, y = between(rng, w / 2, canvas.w - w / 2), between(rng, h / 2, canvas.h * 0.95 - h / 2)
    board = pick(rng, (*palette.accents, palette.dark, palette.light, (30, 90, 60), (30, 60, 130)))
    text = palette.light if sum(board) < 400 else palette.dark
    for post in pick(rng, ((), (0.0,), (-0.35, 0.35))):
        post_x = x + post * w
        canvas.rectangle((post_x - canvas.unit * 0.02, y, post_x + canvas.unit * 0.02, canvas.h), (110, 90, 70))
    _board(canvas, rng, (x, y, w / 2, h / 2), board)
    rows = words.split(" ") if len(words) > 9 and h > w * 0.3 else [words]
    height = min(h * 0.72 / len(rows), w * 1.35 / max(len(row) for row in rows))
    font = pick(rng, FONTS)
    for k, row in enumerate(rows):
        canvas.text((x, y + height * 1.05 * (k - (len(rows) - 1) / 2)), row, height * 0.9, text, font)


def _board(canvas: Canvas, rng: Rng, at: tuple[float, float, float, float], fill: Colour) -> None:
    x, y, half, tall = at
    shape = pick(rng, ("round", "square", "arrow", "oval", "framed"))
    if shape == "oval":
        canvas.ellipse(x, y, half * 1.05, tall * 1.1, fill)
    elif shape == "arrow":
        side = pick(rng, (-1, 1))
        canvas.polygon(
            [
                (x - side * half, y - tall),
                (x + side * half * 0.8, y - tall),
                (x + side * half * 1.1, y),
                (x + side * half * 0.8, y + tall),
                (x - side * half, y + tall),
            ],
            fill,
        )
    else:
        canvas.rectangle(
            (x - half, y - tall, x + half, y + tall), shade(fill, 0.6), tall * 0.25 if shape == "round" else 0
        )
        edge = canvas.unit * (0.03 if shape == "framed" else 0.008)
        canvas.rectangle(
            (x - half + edge, y - tall + edge, x + half - edge, y + tall - edge),
            fill,
            tall * 0.2 if shape == "round" else 0,
        )
