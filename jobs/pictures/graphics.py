"""Logos and signs: bold shapes and words."""

import math
from types import MappingProxyType

from jobs.pictures.backdrops import blob
from jobs.pictures.canvas import FONTS, Canvas, Colour, Pen, Point
from jobs.pictures.palette import Palette, shade
from jobs.pictures.randomness import Rng, between, chance, pick

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
    if chance(rng, 0.5):
        _banner(canvas, rng, pick(rng, fills))
    x, y = between(rng, 0.22, 0.78) * canvas.w, between(rng, 0.25, 0.6) * canvas.h
    size = canvas.unit * between(rng, 0.22, 0.62)
    pen = Pen(canvas, (x, y + size / 2), size, pick(rng, (-1, 1)), between(rng, -40, 40))
    for k in range(int(rng.integers(2, 6))):
        spread = 0.32 if k else 0.05
        at = (between(rng, -spread, spread), 0.5 + between(rng, -spread, spread))
        _emblem(
            pen, rng, at, between(rng, 0.14, 0.5) * (1.0 if k else 1.3), fills[(k + int(rng.integers(2))) % len(fills)]
        )
    if chance(rng, 0.75):
        below = y < canvas.h * 0.45
        at = (
            between(rng, 0.35, 0.65) * canvas.w,
            canvas.h * (between(rng, 0.78, 0.92) if below else between(rng, 0.07, 0.14)),
        )
        height = min(canvas.h * between(rng, 0.1, 0.2), canvas.w * 1.1 / len(name))
        text = palette.light if sum(ground) < 330 else palette.dark
        canvas.text(at, name.upper() if chance(rng, 0.4) else name, height, text, pick(rng, FONTS))


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


def _emblem(pen: Pen, rng: Rng, at: Point, radius: float, fill: Colour) -> None:
    x, y = at
    shape = pick(rng, ("disc", "ring", "star", "polygon", "bar", "leaf", "arch", "blob", "chevron"))
    if shape in ("disc", "ring"):
        pen.circle(at, radius, fill)
        if shape == "ring":
            pen.circle((x + radius * between(rng, -0.2, 0.2), y), radius * between(rng, 0.4, 0.75), shade(fill, 1.7))
    elif shape in ("star", "polygon"):
        points, inner = int(rng.integers(3, 9)), (between(rng, 0.35, 0.6) if shape == "star" else 1.0)
        start = between(rng, 0, 6.28)
        turns = [start + math.pi * k / points for k in range(2 * points)]
        pen.polygon(
            [
                (x + radius * (inner if k % 2 else 1) * math.cos(t), y + radius * (inner if k % 2 else 1) * math.sin(t))
                for k, t in enumerate(turns)
            ],
            fill,
        )
    elif shape == "bar":
        wide = radius * between(rng, 0.15, 0.4)
        for k in range(int(rng.integers(1, 4))):
            pen.rectangle(
                (x - wide + 2.6 * wide * k, y - radius),
                (x + wide + 2.6 * wide * k, y + radius * between(rng, 0.3, 1.0)),
                fill,
            )
    elif shape == "leaf":
        pen.polygon([(x, y - radius), (x + radius * 0.7, y), (x, y + radius), (x - radius * 0.3, y)], fill)
    elif shape == "arch":
        pen.line(
            [(x + radius * math.cos(t), y + radius * math.sin(t)) for t in (k * 3.6 / 20 for k in range(21))],
            radius * 0.35,
            fill,
        )
    elif shape == "blob":
        pen.polygon(blob(rng, at, radius, 0.4), fill)
    else:
        for k in range(2):
            low = y - radius + radius * 0.8 * k
            pen.line([(x - radius, low), (x, low + radius * 0.8), (x + radius, low)], radius * 0.3, fill)


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
