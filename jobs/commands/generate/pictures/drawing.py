"""Draws a scene: backdrop, objects or people, the content of its category, style."""

from collections.abc import Mapping
from types import MappingProxyType

from PIL import Image

from jobs.commands.generate.pictures.motifs.animals import ANIMALS, Draw
from jobs.commands.generate.pictures.motifs.backdrops import BACKDROPS, blob
from jobs.commands.generate.pictures.motifs.clocks import clock
from jobs.commands.generate.pictures.motifs.graphics import logo, sign
from jobs.commands.generate.pictures.motifs.overlays import OVERLAYS
from jobs.commands.generate.pictures.motifs.people import POSES, figure, make_looks
from jobs.commands.generate.pictures.motifs.props import ACTIVITIES
from jobs.commands.generate.pictures.motifs.styles import STYLES
from jobs.commands.generate.pictures.motifs.textures import GRADIENTS, TEXTURES
from jobs.commands.generate.pictures.motifs.things import BOATS, BUILDINGS, FOOD, PLANTS, VEHICLES
from jobs.commands.generate.pictures.plan import PERSONS
from jobs.commands.generate.pictures.primitives.canvas import Canvas, Pen, Point
from jobs.commands.generate.pictures.primitives.palette import Palette, make_palette, named, shade
from jobs.commands.generate.pictures.primitives.randomness import Purpose, Rng, between, chance, pick, stream
from jobs.commands.generate.pictures.scenes import PLACES, Scene

_THINGS: Mapping[str, Mapping[str, Draw]] = MappingProxyType(
    {"building": BUILDINGS, "vehicle": VEHICLES, "boat": BOATS, "tree": PLANTS, "animal": ANIMALS, "food": FOOD}
)
_FINE_SIDE = 700


def draw(seed: int, scene: Scene) -> Image.Image:
    """Draws a scene.

    Args:
        seed: Seed of the picture set.
        scene: The scene.

    Returns:
        8-bit RGB of the scene's size.
    """
    role = scene.role
    rng = stream(seed, role.original if role.sibling < 0 else role.sibling, Purpose.DRAW)
    # Large pictures need no antialiasing, so they are drawn at their own size.
    canvas = Canvas(scene.size, scale=2 if min(scene.size) < _FINE_SIDE else 1)
    palette = make_palette(rng, scene.time)
    if scene.style == "cartoon":
        canvas.ink = shade(palette.dark, 0.6)
    hand = _subject(canvas, rng, scene, palette)
    if role.category:
        canvas.ink = None
        OVERLAYS[role.mode](canvas, rng, hand)
    image = canvas.finish()
    return STYLES[scene.style](image, rng) if scene.style in STYLES else image


def _subject(canvas: Canvas, rng: Rng, scene: Scene, palette: Palette) -> Point:
    """Draws the subject of the scene, and returns the point from which an overlay may start."""
    kind = scene.role.kind
    middle = (canvas.w / 2, canvas.h / 2)
    if kind == "texture":
        TEXTURES[scene.words](canvas, rng, palette)
        return middle
    if kind == "gradient":
        GRADIENTS[scene.words](canvas, rng, palette)
        return middle
    if kind == "logo":
        logo(canvas, rng, scene.words, palette)
        return middle
    horizon = BACKDROPS[PLACES[scene.place].backdrop](canvas, rng, palette)
    if kind in PERSONS:
        return _people(canvas, rng, scene, palette, horizon)
    if kind == "sign":
        sign(canvas, rng, scene.words, palette)
    elif kind == "clock":
        _clock(canvas, rng, scene, palette)
    elif kind in _THINGS:
        _things(canvas, rng, scene, palette, horizon)
    return middle


def _people(canvas: Canvas, rng: Rng, scene: Scene, palette: Palette, horizon: float) -> Point:
    activity = ACTIVITIES[scene.doing]
    child = scene.role.kind == "child"
    height = canvas.h * (between(rng, 0.5, 0.78) if child else between(rng, 0.62, 0.92))
    near = chance(rng, 0.16) and not scene.role.category
    if near:  # a portrait: larger than the picture, feet below its edge
        height *= between(rng, 1.3, 1.7)
    foot = max(canvas.h * between(rng, 0.88, 0.98), min(horizon, canvas.h * 0.95))
    if near:
        foot = height + canvas.h * between(rng, 0.04, 0.12)
    x = canvas.w * between(rng, 0.24, 0.76)
    # Facing the wider side leaves room for what they hold.
    mirror = 1 if x < canvas.w / 2 else -1
    pen = Pen(canvas, (x, foot), height, mirror)
    looks = make_looks(rng, scene.subject, named(rng, scene.colour), palette)
    _beside(canvas, rng, palette, horizon)
    canvas.ellipse(x, foot, height * 0.2, height * 0.025, (20, 20, 30, 80))
    # The furniture behind needs to know where the figure will be: the first, hidden drawing tells.
    body = figure(Pen(Canvas((8, 8)), (0, 0), 1.0), looks, POSES[activity.pose])
    if activity.before is not None:
        activity.before(pen, body, rng, palette)
    body = figure(pen, looks, POSES[activity.pose])
    if activity.after is not None:
        activity.after(pen, body, rng, palette)
    return pen.at(*body.near_hand)


def _beside(canvas: Canvas, rng: Rng, palette: Palette, horizon: float) -> None:
    """Draws bushes, stones or boxes, so that no two scenes have the same layout."""
    for _ in range(int(rng.integers(0, 4))):
        size = canvas.unit * between(rng, 0.05, 0.2)
        x = canvas.w * pick(rng, (between(rng, -0.02, 0.25), between(rng, 0.75, 1.02)))
        y = between(rng, min(horizon, canvas.h * 0.9), canvas.h)
        fill = shade(pick(rng, (*palette.accents, *palette.ground)), between(rng, 0.4, 1.3))
        shape = pick(rng, ("bush", "stone", "box"))
        if shape == "bush":
            for dx in (-0.7, 0.0, 0.7):
                canvas.ellipse(x + dx * size, y - size * between(rng, 0.3, 0.7), size * 0.7, size * 0.8, fill)
        elif shape == "stone":
            canvas.polygon(blob(rng, (x, y - size * 0.3), size * 0.7, 0.2, 14), fill)
        else:
            canvas.rectangle((x - size * 0.6, y - size * between(rng, 0.6, 1.6), x + size * 0.6, y), fill)


def _clock(canvas: Canvas, rng: Rng, scene: Scene, palette: Palette) -> None:
    size = canvas.unit * between(rng, 0.42, 0.86)
    x, y = canvas.w * between(rng, 0.28, 0.72), canvas.h * between(rng, 0.3, 0.66)
    if scene.subject in ("tower clock", "station clock"):
        size *= 0.8
    clock(Pen(canvas, (x, y + size / 2), size), rng, scene.subject, scene.clock, palette)


def _things(canvas: Canvas, rng: Rng, scene: Scene, palette: Palette, horizon: float) -> None:
    draw_thing = _THINGS[scene.role.kind][scene.subject]
    flying = scene.subject in ("aeroplane", "hot air balloon", "butterfly")
    if not flying:
        _beside(canvas, rng, palette, horizon)
    crowd = scene.things
    for number in _far_to_near(rng, crowd):
        size = (
            canvas.unit
            * between(rng, 0.42, 0.78)
            / (1 + 0.28 * (crowd - 1))
            * (1 if number else between(rng, 1.0, 1.3))
        )
        x = canvas.w * ((number + between(rng, 0.25, 0.75)) / crowd)
        y = min(canvas.h * 0.97, horizon + (canvas.h - horizon) * between(rng, 0.0, 0.85))
        if flying:
            y = between(rng, size, canvas.h * 0.9) if size < canvas.h * 0.9 else canvas.h * 0.95
        y = max(y, size * 1.02)
        if not flying:
            canvas.ellipse(x, y, size * 0.5, size * 0.05, (20, 20, 30, 80))
        pen = Pen(canvas, (x, y), size, pick(rng, (-1, 1)), between(rng, -9, 9))
        draw_thing(pen, rng, named(rng, scene.colour))


def _far_to_near(rng: Rng, count: int) -> list[int]:
    return [int(place) for place in rng.permutation(count)]
