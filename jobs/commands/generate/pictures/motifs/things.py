"""Buildings, vehicles, boats, plants and food, each about one unit high."""

import math
from types import MappingProxyType

from jobs.commands.generate.pictures.motifs.animals import Draw
from jobs.commands.generate.pictures.primitives.canvas import Colour, Pen, Point
from jobs.commands.generate.pictures.primitives.palette import hsv, shade
from jobs.commands.generate.pictures.primitives.randomness import Rng, between, chance, pick

_GLASS = (170, 210, 226)
_TYRE = (38, 38, 42)
_WOOD = (120, 82, 50)
_LEAF = (74, 130, 66)


def _roof_colour(rng: Rng) -> Colour:
    return hsv(pick(rng, (0.02, 0.04, 0.6, 0.08)), between(rng, 0.3, 0.7), between(rng, 0.3, 0.75))


def _panes(pen: Pen, low: Point, high: Point, grid: tuple[int, int], fill: Colour) -> None:
    across, down = grid
    dx, dy = (high[0] - low[0]) / across, (high[1] - low[1]) / down
    for i in range(across):
        for j in range(down):
            x, y = low[0] + dx * (i + 0.22), low[1] + dy * (j + 0.2)
            pen.rectangle((x, y), (x + dx * 0.56, y + dy * 0.6), fill)


def house(pen: Pen, rng: Rng, colour: Colour) -> None:
    """A house with a gable, hip or flat roof and any number of windows."""
    half, wall = between(rng, 0.3, 0.75), between(rng, 0.35, 0.7)
    roof = _roof_colour(rng)
    pen.rectangle((-half, 0), (half, wall), colour)
    inset = pick(rng, (0.0, 0.35, 0.7, 1.0))
    if chance(rng, 0.6):
        x = between(rng, -0.6, 0.5) * half
        pen.rectangle((x, wall), (x + 0.12, min(1.1, wall + between(rng, 0.3, 0.5))), shade(roof, 0.8))
    over = half * between(rng, 1.02, 1.2)
    pen.polygon(
        [
            (-over, wall),
            (-half * (1 - inset) if inset < 1 else 0, 1.0),
            (half * (1 - inset) if inset < 1 else 0, 1.0),
            (over, wall),
        ],
        roof,
    )
    light = pick(rng, (_GLASS, (255, 226, 140), (70, 90, 110)))
    _panes(pen, (-half, wall * 0.4), (half, wall), (int(rng.integers(2, 5)), int(rng.integers(1, 3))), light)
    door = between(rng, -0.75, 0.5) * half
    pen.rectangle((door, 0), (door + 0.16, wall * 0.42), shade(roof, 0.5))


def barn(pen: Pen, rng: Rng, colour: Colour) -> None:
    """A barn with a bent roof and a crossed door."""
    half = between(rng, 0.45, 0.7)
    pen.polygon(
        [(-half, 0), (half, 0), (half, 0.55), (half * 0.7, 0.85), (0, 1.0), (-half * 0.7, 0.85), (-half, 0.55)], colour
    )
    pen.line(
        [(-half * 1.06, 0.52), (-half * 0.72, 0.86), (0, 1.02), (half * 0.72, 0.86), (half * 1.06, 0.52)],
        0.06,
        (70, 60, 60),
    )
    pen.rectangle((-0.22, 0), (0.22, 0.42), (240, 235, 225))
    for side in (-1, 1):
        pen.line([(-0.2 * side, 0.02), (0.2 * side, 0.4)], 0.03, colour)
    pen.circle((0, 0.7), 0.09, (50, 44, 44))


def castle(pen: Pen, rng: Rng, colour: Colour) -> None:
    """A castle of several towers."""
    stone = shade(colour, 0.9)
    pen.rectangle((-0.7, 0), (0.7, 0.45), stone)
    for k in range(9):
        pen.rectangle((-0.7 + k * 0.16, 0.45), (-0.62 + k * 0.16, 0.52), stone)
    count = int(rng.integers(2, 5))
    for k in range(count):
        x = -0.65 + 1.3 * k / (count - 1)
        top = between(rng, 0.55, 0.85)
        pen.rectangle((x - 0.12, 0), (x + 0.12, top), shade(stone, between(rng, 0.75, 1.2)))
        pen.polygon([(x - 0.16, top), (x, top + between(rng, 0.2, 0.35)), (x + 0.16, top)], _roof_colour(rng))
        pen.rectangle((x - 0.03, top - 0.2), (x + 0.03, top - 0.08), (50, 46, 56))
    pen.ellipse((0, 0.12), 0.13, 0.16, (60, 46, 40))


def lighthouse(pen: Pen, rng: Rng, colour: Colour) -> None:
    """A banded lighthouse on rocks."""
    pen.ellipse((0, 0.02), between(rng, 0.3, 0.6), 0.1, (92, 88, 90))
    bands = int(rng.integers(3, 7))
    for k in range(bands):
        low, high = k / bands, (k + 1) / bands
        wide = [0.2 - 0.09 * low, 0.2 - 0.09 * high]
        fill = colour if k % 2 else (245, 242, 236)
        pen.polygon([(-wide[0], low * 0.8), (wide[0], low * 0.8), (wide[1], high * 0.8), (-wide[1], high * 0.8)], fill)
    pen.rectangle((-0.15, 0.79), (0.15, 0.83), _TYRE)
    pen.rectangle((-0.09, 0.83), (0.09, 0.93), (255, 236, 150))
    pen.polygon([(-0.12, 0.93), (0, 1.04), (0.12, 0.93)], colour)


def windmill(pen: Pen, rng: Rng, colour: Colour) -> None:
    """A windmill, its sails at any angle."""
    pen.polygon([(-0.26, 0), (0.26, 0), (0.15, 0.66), (-0.15, 0.66)], colour)
    pen.polygon([(-0.19, 0.66), (0, 0.82), (0.19, 0.66)], _roof_colour(rng))
    pen.rectangle((-0.07, 0), (0.07, 0.2), (70, 52, 40))
    start = between(rng, 0, math.pi / 2)
    for k in range(4):
        turn = start + k * math.pi / 2
        c, s = math.cos(turn), math.sin(turn)
        pen.line([(0, 0.68), (0.5 * c, 0.68 + 0.5 * s)], 0.025, _TYRE)
        sail = [(0.14, 0.0), (0.5, 0.0), (0.5, 0.12), (0.14, 0.12)]
        pen.polygon([(u * c - v * s, 0.68 + u * s + v * c) for u, v in sail], (240, 234, 220))


def tower(pen: Pen, rng: Rng, colour: Colour) -> None:
    """A tall block with many windows."""
    half, floors = between(rng, 0.16, 0.34), int(rng.integers(4, 10))
    pen.rectangle((-half, 0), (half, 0.95), colour)
    _panes(pen, (-half, 0.1), (half, 0.93), (int(rng.integers(2, 6)), floors), pick(rng, (_GLASS, (255, 226, 140))))
    if chance(rng, 0.5):
        pen.line([(0, 0.95), (0, 1.15)], 0.02, _TYRE)
    pen.rectangle((-half * 1.1, 0.94), (half * 1.1, 0.99), shade(colour, 0.6))


def church(pen: Pen, rng: Rng, colour: Colour) -> None:
    """A church with a pointed steeple."""
    roof = _roof_colour(rng)
    pen.rectangle((-0.15, 0), (0.65, 0.38), shade(colour, 1.15))
    pen.polygon([(-0.2, 0.38), (0.02, 0.62), (0.6, 0.62), (0.7, 0.38)], roof)
    pen.rectangle((-0.42, 0), (-0.12, 0.62), colour)
    pen.polygon([(-0.46, 0.62), (-0.27, between(rng, 0.9, 1.1)), (-0.08, 0.62)], roof)
    for x in (0.05, 0.27, 0.49):
        pen.ellipse((x, 0.2), 0.05, 0.1, _GLASS)
    pen.circle((-0.27, 0.5), 0.07, (250, 246, 230))
    pen.ellipse((-0.27, 0.08), 0.06, 0.12, (64, 48, 40))


def _wheels(pen: Pen, places: tuple[float, ...], radius: float) -> None:
    for x in places:
        pen.circle((x, radius), radius, _TYRE)
        pen.circle((x, radius), radius * 0.5, (196, 196, 200))


def car(pen: Pen, rng: Rng, colour: Colour) -> None:
    """A car: saloon, hatchback or sports car."""
    roof, front, back = between(rng, 0.62, 0.8), between(rng, 0.1, 0.4), between(rng, 0.3, 0.65)
    pen.polygon(
        [
            (-0.9, 0.15),
            (0.9, 0.15),
            (0.92, 0.36),
            (0.6, 0.44),
            (front, roof),
            (-back, roof),
            (-0.8, 0.46),
            (-0.92, 0.4),
        ],
        colour,
    )
    pen.polygon([(0.48, 0.44), (front - 0.05, roof - 0.06), (-0.06, roof - 0.06), (-0.06, 0.44)], _GLASS)
    pen.polygon([(-0.14, 0.44), (-0.14, roof - 0.06), (-back + 0.05, roof - 0.06), (-0.66, 0.44)], _GLASS)
    pen.circle((0.87, 0.33), 0.05, (255, 240, 170))
    pen.line([(-0.1, 0.42), (-0.1, 0.18)], 0.015, shade(colour, 0.6))
    _wheels(pen, (-0.55, 0.55), between(rng, 0.15, 0.2))


def bus(pen: Pen, rng: Rng, colour: Colour) -> None:
    """A bus with a row of windows."""
    long = between(rng, 0.8, 1.2)
    pen.rectangle((-long, 0.12), (long, 0.85), colour)
    _panes(pen, (-long, 0.42), (long * 0.95, 0.84), (int(rng.integers(4, 8)), 1), _GLASS)
    pen.rectangle((-long, 0.28), (long, 0.34), shade(colour, 1.6))
    _wheels(pen, (-long * 0.65, long * 0.65), 0.15)


def truck(pen: Pen, rng: Rng, colour: Colour) -> None:
    """A truck, loaded or with a box."""
    pen.rectangle((-1.0, 0.18), (0.95, 0.3), (60, 60, 66))
    pen.polygon([(0.4, 0.2), (0.95, 0.2), (0.95, 0.52), (0.8, 0.8), (0.4, 0.8)], colour)
    pen.polygon([(0.6, 0.5), (0.9, 0.5), (0.78, 0.74), (0.6, 0.74)], _GLASS)
    if chance(rng, 0.5):
        pen.rectangle((-1.0, 0.28), (0.34, between(rng, 0.75, 1.0)), shade(colour, 1.5))
    else:
        for k in range(4):
            pen.circle((-0.8 + 0.3 * k, 0.42), 0.16, _WOOD)
    _wheels(pen, (-0.75, -0.4, 0.65), 0.15)


def tractor(pen: Pen, rng: Rng, colour: Colour) -> None:
    """A tractor with one large wheel."""
    pen.rectangle((-0.2, 0.3), (0.75, 0.6), colour)
    pen.rectangle((-0.35, 0.45), (0.1, 1.0), shade(colour, 0.8))
    pen.rectangle((-0.28, 0.62), (0.04, 0.93), _GLASS)
    pen.line([(0.5, 0.6), (0.5, 0.9)], 0.05, _TYRE)
    _wheels(pen, (-0.35,), between(rng, 0.3, 0.38))
    _wheels(pen, (0.55,), 0.19)


def train(pen: Pen, rng: Rng, colour: Colour) -> None:
    """A steam engine with a carriage."""
    pen.rectangle((-1.3, 0.0), (1.3, 0.04), (90, 80, 70))
    pen.rectangle((-0.1, 0.2), (0.85, 0.55), colour)
    pen.rectangle((-0.35, 0.2), (0.05, 0.85), shade(colour, 0.75))
    pen.rectangle((-0.26, 0.55), (-0.04, 0.75), _GLASS)
    pen.polygon([(0.58, 0.55), (0.74, 0.55), (0.8, 0.82), (0.52, 0.82)], _TYRE)
    pen.rectangle((-1.3, 0.2), (-0.45, 0.7), shade(colour, 1.3))
    _panes(pen, (-1.28, 0.36), (-0.48, 0.7), (3, 1), _GLASS)
    for k in range(int(rng.integers(2, 5))):
        pen.circle((0.6 - 0.16 * k, 0.95 + 0.08 * k), 0.09 + 0.03 * k, (236, 236, 240))
    _wheels(pen, (-1.1, -0.65, -0.2, 0.2, 0.65), 0.12)


def aeroplane(pen: Pen, rng: Rng, colour: Colour) -> None:
    """An aeroplane in flight."""
    pen.polygon([(-0.1, 0.5), (-0.5, 0.95), (-0.25, 0.95), (0.3, 0.52)], shade(colour, 0.75))
    pen.ellipse((0, 0.5), 0.95, 0.15, (240, 242, 246))
    pen.polygon([(-0.9, 0.52), (-1.05, 0.88), (-0.82, 0.88), (-0.6, 0.56)], colour)
    pen.polygon([(0.1, 0.48), (-0.45, between(rng, 0.0, 0.15)), (-0.15, 0.02), (0.4, 0.46)], colour)
    for k in range(6):
        pen.circle((-0.4 + 0.17 * k, 0.55), 0.03, (70, 90, 120))


def balloon(pen: Pen, rng: Rng, colour: Colour) -> None:
    """A hot air balloon with stripes."""
    pen.ellipse((0, 0.66), 0.42, 0.42, colour)
    for k, wide in enumerate((0.28, 0.12)):
        pen.ellipse((0, 0.66), wide, 0.42, shade(colour, (1.5, 0.8)[k]))
    pen.polygon([(-0.27, 0.34), (0.27, 0.34), (0.09, 0.18), (-0.09, 0.18)], shade(colour, 0.7))
    for x in (-0.08, 0.08):
        pen.line([(x, 0.2), (x, 0.1)], 0.012, _WOOD)
    pen.rectangle((-0.1, 0), (0.1, 0.11), _WOOD)


def sailing_boat(pen: Pen, rng: Rng, colour: Colour) -> None:
    """A boat with one or two sails."""
    deck = between(rng, 0.45, 0.7)
    pen.polygon([(-deck, 0.22), (deck * 1.1, 0.22), (deck * 0.8, 0.0), (-deck * 0.8, 0.0)], colour)
    mast = between(rng, -0.15, 0.15)
    pen.line([(mast, 0.22), (mast, 1.0)], 0.025, _WOOD)
    cloth = pick(rng, ((248, 244, 234), (236, 214, 180), shade(colour, 1.4)))
    pen.polygon([(mast + 0.03, 0.97), (mast + 0.03, 0.3), (mast + between(rng, 0.35, 0.6), 0.3)], cloth)
    if chance(rng, 0.7):
        pen.polygon([(mast - 0.03, 0.9), (mast - 0.03, 0.3), (mast - between(rng, 0.25, 0.5), 0.3)], shade(cloth, 0.82))


def rowing_boat(pen: Pen, rng: Rng, colour: Colour) -> None:
    """A low boat with oars."""
    pen.polygon([(-1.0, 0.5), (1.0, 0.5), (0.75, 0.08), (-0.75, 0.08)], colour)
    pen.line([(-1.0, 0.5), (1.0, 0.5)], 0.07, shade(colour, 0.6))
    for x in (-0.35, 0.3):
        pen.rectangle((x, 0.36), (x + 0.2, 0.44), _WOOD)
    pen.line([(-0.05, 0.62), (between(rng, -0.95, -0.6), -0.05)], 0.06, _WOOD)


def ship(pen: Pen, rng: Rng, colour: Colour) -> None:
    """A steamer with funnels."""
    pen.polygon([(-1.2, 0.38), (1.3, 0.42), (1.05, 0.0), (-1.05, 0.0)], colour)
    pen.rectangle((-0.8, 0.38), (0.7, 0.56), (246, 244, 238))
    _panes(pen, (-0.8, 0.38), (0.7, 0.56), (9, 1), (80, 110, 140))
    pen.rectangle((-0.55, 0.56), (0.4, 0.68), (232, 230, 224))
    count = int(rng.integers(1, 4))
    for k in range(count):
        x = -0.4 + 0.34 * k
        pen.rectangle((x, 0.68), (x + 0.16, 0.94), shade(colour, 0.85))
        pen.circle((x - 0.05, 1.04), 0.1, (210, 210, 214))


def canoe(pen: Pen, rng: Rng, colour: Colour) -> None:
    """A slim canoe with a paddle."""
    pen.polygon([(-1.2, 0.5), (-0.9, 0.34), (0.9, 0.34), (1.2, 0.5), (0.95, 0.12), (-0.95, 0.12)], colour)
    pen.line([(-0.9, 0.34), (0.9, 0.34)], 0.05, shade(colour, 1.5))
    pen.line([(between(rng, -0.5, 0.0), 0.85), (0.35, 0.0)], 0.05, _WOOD)
    pen.ellipse((0.36, 0.0), 0.08, 0.14, _WOOD)


def broadleaf(pen: Pen, rng: Rng, colour: Colour) -> None:
    """A tree with a crown of leaves, apples now and then."""
    trunk = between(rng, 0.04, 0.09)
    pen.polygon([(-trunk * 1.4, 0), (trunk * 1.4, 0), (trunk * 0.7, 0.6), (-trunk * 0.7, 0.6)], _WOOD)
    wide = between(rng, 0.18, 0.34)
    for _ in range(int(rng.integers(4, 9))):
        turn = between(rng, 0, 6.28)
        at = (wide * 0.9 * math.cos(turn), 0.68 + 0.2 * math.sin(turn))
        pen.circle(at, wide * between(rng, 0.5, 0.85), shade(colour, between(rng, 0.75, 1.2)))
    if chance(rng, 0.3):
        for _ in range(8):
            pen.circle((between(rng, -wide, wide), between(rng, 0.5, 0.9)), 0.03, (214, 60, 50))


def fir(pen: Pen, rng: Rng, colour: Colour) -> None:
    """A fir of several tiers."""
    pen.rectangle((-0.04, 0), (0.04, 0.2), _WOOD)
    tiers = int(rng.integers(3, 6))
    wide = between(rng, 0.22, 0.4)
    for k in range(tiers):
        low = 0.15 + 0.75 * k / tiers
        half = wide * (1 - k / (tiers + 0.6))
        pen.polygon([(-half, low), (half, low), (0, min(1.05, low + 0.42))], shade(colour, 0.8 + 0.1 * (k % 3)))


def palm(pen: Pen, rng: Rng, colour: Colour) -> None:
    """A palm, bent to one side."""
    bend = between(rng, -0.3, 0.3)
    pen.line([(0, 0), (bend * 0.3, 0.4), (bend, 0.8)], 0.07, (150, 110, 70))
    for k in range(8):
        turn = math.radians(-30 + 240 * k / 7 + between(rng, -10, 10))
        c, s = math.cos(turn), math.sin(turn)
        tip = (bend + 0.42 * c, 0.8 + 0.3 * s - 0.08)
        pen.polygon(
            [(bend, 0.8), (bend + 0.24 * c, 0.86 + 0.24 * s), tip, (bend + 0.2 * c, 0.74 + 0.2 * s)],
            shade(colour, between(rng, 0.8, 1.2)),
        )
    for k in range(3):
        pen.circle((bend - 0.04 + 0.04 * k, 0.77), 0.035, (90, 60, 40))


def bare(pen: Pen, rng: Rng, colour: Colour) -> None:
    """A bare tree: branches that fork."""
    _branch(pen, rng, ((0.0, 0.0), 90.0, 0.36), 0.09, 4)


def _branch(pen: Pen, rng: Rng, start: tuple[Point, float, float], width: float, depth: int) -> None:
    (x, y), angle, length = start
    turn = math.radians(angle)
    end = (x + length * math.cos(turn), y + length * math.sin(turn))
    pen.line([(x, y), end], width, (84, 64, 54))
    if depth:
        for side in (-1, 1):
            _branch(
                pen,
                rng,
                (end, angle + side * between(rng, 14, 44), length * between(rng, 0.62, 0.8)),
                width * 0.66,
                depth - 1,
            )


def cactus(pen: Pen, rng: Rng, colour: Colour) -> None:
    """A cactus with arms."""
    pen.line([(0, 0.05), (0, 0.92)], 0.2, colour)
    for side in (-1, 1):
        if chance(rng, 0.8):
            low, out = between(rng, 0.25, 0.5), between(rng, 0.22, 0.34) * side
            pen.line([(0, low), (out, low), (out, low + between(rng, 0.15, 0.4))], 0.12, shade(colour, 0.85))
    pen.circle((0, 1.0), 0.06, (240, 110, 150))


def flower(pen: Pen, rng: Rng, colour: Colour) -> None:
    """One large flower."""
    bend = between(rng, -0.15, 0.15)
    pen.line([(0, 0), (bend, 0.66)], 0.035, _LEAF)
    pen.polygon([(0, 0.15), (0.24, 0.36), (0.06, 0.3)], _LEAF)
    petals, radius = int(rng.integers(5, 12)), between(rng, 0.16, 0.24)
    for k in range(petals):
        turn = 2 * math.pi * k / petals
        pen.circle(
            (bend + radius * math.cos(turn), 0.74 + radius * math.sin(turn)), radius * 2.2 / petals + 0.05, colour
        )
    pen.circle((bend, 0.74), radius * 0.65, (244, 200, 70))


def mushroom(pen: Pen, rng: Rng, colour: Colour) -> None:
    """A mushroom with a dotted cap."""
    wide, high = between(rng, 0.35, 0.6), between(rng, 0.3, 0.5)
    pen.polygon([(-0.14, 0), (0.14, 0), (0.1, 0.6), (-0.1, 0.6)], (240, 230, 210))
    cap = [(wide * math.cos(t), 0.52 + high * math.sin(t)) for t in (k * math.pi / 16 for k in range(17))]
    pen.polygon(cap, colour)
    for _ in range(int(rng.integers(3, 7))):
        x = between(rng, -0.6, 0.6) * wide
        pen.circle((x, 0.52 + high * between(rng, 0.2, 0.6)), between(rng, 0.03, 0.07), (250, 246, 240))


def apple(pen: Pen, rng: Rng, colour: Colour) -> None:
    """An apple with a leaf."""
    for x in (-0.17, 0.17):
        pen.ellipse((x, 0.42), 0.28, 0.42, colour)
    pen.line([(0, 0.78), (between(rng, -0.1, 0.1), 1.02)], 0.05, _WOOD)
    pen.ellipse((0.16, 0.93), 0.15, 0.06, _LEAF)
    pen.ellipse((-0.25, 0.56), 0.06, 0.12, shade(colour, 1.6))


def cup(pen: Pen, rng: Rng, colour: Colour) -> None:
    """A steaming cup on a saucer."""
    pen.ellipse((0, 0.04), 0.6, 0.07, shade(colour, 1.4))
    pen.circle((0.42, 0.36), 0.18, colour)
    pen.circle((0.42, 0.36), 0.1, shade(colour, 1.7))
    pen.polygon([(-0.4, 0.62), (0.4, 0.62), (0.24, 0.06), (-0.24, 0.06)], colour)
    pen.ellipse((0, 0.62), 0.4, 0.07, (90, 56, 36))
    for k in range(3):
        x = -0.18 + 0.18 * k
        pen.line([(x, 0.72), (x + 0.05, 0.82), (x - 0.02, 0.92), (x + 0.04, 1.02)], 0.035, (245, 245, 245))


def teapot(pen: Pen, rng: Rng, colour: Colour) -> None:
    """A teapot."""
    pen.line([(-0.4, 0.6), (-0.72, 0.55), (-0.6, 0.2), (-0.35, 0.25)], 0.08, shade(colour, 0.7))
    pen.polygon([(0.35, 0.25), (0.8, 0.66), (0.7, 0.7), (0.35, 0.5)], shade(colour, 0.85))
    pen.ellipse((0, 0.4), 0.46, 0.38, colour)
    pen.ellipse((0, 0.76), 0.26, 0.08, shade(colour, 0.7))
    pen.circle((0, 0.88), 0.08, shade(colour, 0.7))
    for k in range(int(rng.integers(0, 5))):
        pen.circle((-0.28 + 0.14 * k, 0.38), 0.06, shade(colour, 1.6))


def cake(pen: Pen, rng: Rng, colour: Colour) -> None:
    """A cake of some layers, with candles."""
    layers = int(rng.integers(1, 4))
    for k in range(layers):
        half, low = 0.7 - 0.16 * k, 0.7 * k / layers
        pen.rectangle((-half, low), (half, low + 0.7 / layers), shade(colour, 1.0 + 0.2 * (k % 2)))
        for j in range(7):
            pen.circle((-half + half * j / 3, low + 0.7 / layers), half / 7, (250, 240, 236))
    for k in range(int(rng.integers(1, 6))):
        x = -0.3 + 0.14 * k
        pen.line([(x, 0.72), (x, 0.9)], 0.03, (90, 140, 200))
        pen.ellipse((x, 0.96), 0.03, 0.06, (255, 196, 60))


def pizza(pen: Pen, rng: Rng, colour: Colour) -> None:
    """A pizza from above, one slice gone."""
    gone = between(rng, 0, 6.28)
    rim = [(0.0, 0.5)] + [
        (0.5 * math.cos(gone + 0.7 + t), 0.5 + 0.5 * math.sin(gone + 0.7 + t))
        for t in (k * 5.58 / 40 for k in range(41))
    ]
    pen.polygon(rim, (206, 150, 82))
    pen.polygon([(x * 0.88, 0.5 + (y - 0.5) * 0.88) for x, y in rim], (240, 200, 96))
    for _ in range(int(rng.integers(6, 14))):
        turn, far = gone + 0.9 + between(rng, 0, 5.1), between(rng, 0.12, 0.36)
        pen.circle(
            (far * math.cos(turn), 0.5 + far * math.sin(turn)), 0.06, pick(rng, ((190, 60, 44), colour, (60, 110, 60)))
        )


def vase(pen: Pen, rng: Rng, colour: Colour) -> None:
    """A vase of flowers."""
    for k in range(int(rng.integers(3, 8))):
        tip = (-0.4 + 0.13 * k + between(rng, -0.05, 0.05), between(rng, 0.65, 1.0))
        pen.line([(0, 0.35), tip], 0.025, _LEAF)
        pen.circle(tip, between(rng, 0.06, 0.12), hsv(between(rng, 0, 1), 0.55, 0.95))
    pen.polygon([(-0.12, 0.45), (0.12, 0.45), (0.24, 0.2), (0.15, 0), (-0.15, 0), (-0.24, 0.2)], colour)
    pen.line([(-0.2, 0.24), (0.2, 0.24)], 0.04, shade(colour, 1.5))


def ice_cream(pen: Pen, rng: Rng, colour: Colour) -> None:
    """An ice cream cone of some scoops."""
    pen.polygon([(0, 0), (0.2, 0.5), (-0.2, 0.5)], (214, 158, 92))
    for k in range(int(rng.integers(1, 4))):
        pen.circle((0, 0.58 + 0.17 * k), 0.21 - 0.02 * k, shade(colour, (1.0, 1.5, 0.75)[k]))
    pen.circle((0.05, 1.05), 0.05, (200, 40, 50))


BUILDINGS: MappingProxyType[str, Draw] = MappingProxyType(
    {"house": house, "cottage": house, "barn": barn, "castle": castle, "lighthouse": lighthouse, "windmill": windmill,
     "tower block": tower, "church": church}
)  # fmt: skip
VEHICLES: MappingProxyType[str, Draw] = MappingProxyType(
    {"car": car, "bus": bus, "truck": truck, "tractor": tractor, "train": train, "aeroplane": aeroplane,
     "hot air balloon": balloon, "taxi": car}
)  # fmt: skip
BOATS: MappingProxyType[str, Draw] = MappingProxyType(
    {"sailing boat": sailing_boat, "rowing boat": rowing_boat, "ship": ship, "canoe": canoe, "yacht": sailing_boat}
)
PLANTS: MappingProxyType[str, Draw] = MappingProxyType(
    {"tree": broadleaf, "fir tree": fir, "palm tree": palm, "bare tree": bare, "cactus": cactus, "flower": flower,
     "mushroom": mushroom}
)  # fmt: skip
FOOD: MappingProxyType[str, Draw] = MappingProxyType(
    {"apple": apple, "cup of coffee": cup, "teapot": teapot, "cake": cake, "pizza": pizza, "vase of flowers": vase,
     "ice cream": ice_cream}
)  # fmt: skip
