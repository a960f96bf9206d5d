"""What people do and hold: an activity is a pose, the words for it and the thing drawn beside the figure."""

from collections.abc import Callable
from dataclasses import dataclass
from types import MappingProxyType

from jobs.commands.generate.pictures.motifs.animals import dog
from jobs.commands.generate.pictures.motifs.people import Body
from jobs.commands.generate.pictures.primitives.canvas import Pen
from jobs.commands.generate.pictures.primitives.palette import Palette, shade
from jobs.commands.generate.pictures.primitives.randomness import Rng, pick

Prop = Callable[[Pen, Body, Rng, Palette], None]
_WOOD = (140, 96, 60)


@dataclass(frozen=True)
class Activity:
    """Something to do.

    Attributes:
        words: For the caption, as in "a woman reading a book".
        pose: A key of `people.POSES`.
        before: Drawn behind the figure.
        after: Drawn over it.
    """

    words: tuple[str, ...]
    pose: str
    before: Prop | None = None
    after: Prop | None = None


def _book(pen: Pen, body: Body, rng: Rng, palette: Palette) -> None:
    x, y = body.near_hand
    pen.polygon([(x - 0.06, y - 0.03), (x, y - 0.05), (x, y + 0.08), (x - 0.06, y + 0.11)], pick(rng, palette.accents))
    pen.polygon([(x, y - 0.05), (x + 0.08, y - 0.01), (x + 0.08, y + 0.13), (x, y + 0.08)], palette.light)


def _chair(pen: Pen, body: Body, rng: Rng, palette: Palette) -> None:
    seat = body.hip[1] - 0.03
    wood = shade(pick(rng, (_WOOD, *palette.accents)), 0.8)
    pen.rectangle((-0.16, seat - 0.04), (0.18, seat), wood)
    pen.rectangle((-0.18, seat), (-0.13, seat + 0.3), wood)
    for x in (-0.17, 0.13):
        pen.rectangle((x, 0), (x + 0.04, seat), wood)


def _stove(pen: Pen, body: Body, rng: Rng, palette: Palette) -> None:
    top = body.near_hand[1] - 0.13
    x = body.near_hand[0]
    pen.rectangle((x - 0.12, 0), (x + 0.3, top), shade(palette.light, 0.85))
    pen.rectangle((x - 0.06, top * 0.25), (x + 0.22, top * 0.75), palette.dark)
    pot = pick(rng, palette.accents)
    pen.rectangle((x - 0.06, top), (x + 0.2, top + 0.11), pot)
    pen.rectangle((x - 0.1, top + 0.09), (x + 0.24, top + 0.12), shade(pot, 0.6))
    pen.line([body.near_hand, (x + 0.06, top + 0.1)], 0.02, _WOOD)
    for k in range(3):
        pen.ellipse((x + 0.05 * k, top + 0.2 + 0.07 * k), 0.03 + 0.012 * k, 0.03, (255, 255, 255, 120))


def _easel(pen: Pen, body: Body, rng: Rng, palette: Palette) -> None:
    x, y = body.near_hand
    for foot in (x + 0.02, x + 0.4):
        pen.line([(x + 0.2, y + 0.3), (foot, 0)], 0.025, _WOOD)
    pen.rectangle((x + 0.02, y - 0.14), (x + 0.42, y + 0.22), palette.light)
    for k in range(4):
        pen.ellipse((x + 0.1 + 0.08 * k, y + 0.03 * (k % 3)), 0.05, 0.07, pick(rng, palette.accents))
    pen.line([(x, y), (x + 0.08, y + 0.03)], 0.015, _WOOD)


def _plants(pen: Pen, body: Body, rng: Rng, palette: Palette) -> None:
    for k in range(5):
        x = 0.18 + 0.11 * k
        high = 0.1 + 0.16 * float(rng.random())
        pen.line([(x, 0), (x, high)], 0.015, (50, 110, 50))
        pen.ellipse((x + 0.03, high * 0.5), 0.05, 0.025, (70, 140, 60))
        pen.circle((x, high), 0.04, pick(rng, palette.accents))


def _ball(pen: Pen, body: Body, rng: Rng, palette: Palette) -> None:
    x, y = body.near_foot
    ball = pick(rng, palette.accents)
    pen.circle((x + 0.2, y + 0.12), 0.1, ball)
    pen.line([(x + 0.12, y + 0.16), (x + 0.28, y + 0.1)], 0.02, palette.light)


def _guitar(pen: Pen, body: Body, rng: Rng, palette: Palette) -> None:
    x, y = body.hip[0] + 0.08, body.hip[1] + 0.1
    wood = pick(rng, (_WOOD, (190, 110, 50), *palette.accents))
    pen.line([(x, y), (x + 0.36, y + 0.2)], 0.025, (70, 46, 30))
    pen.circle((x - 0.03, y - 0.02), 0.11, wood)
    pen.circle((x + 0.08, y + 0.04), 0.08, wood)
    pen.circle((x + 0.03, y + 0.01), 0.035, palette.dark)


def _kite(pen: Pen, body: Body, rng: Rng, palette: Palette) -> None:
    x, y = body.near_hand
    kx, ky = x + 0.25 + 0.5 * float(rng.random()), y + 0.25 + 0.2 * float(rng.random())
    pen.line([(x, y), (kx, ky)], 0.006, palette.dark)
    first, second = pick(rng, palette.accents), pick(rng, palette.accents)
    pen.polygon([(kx - 0.13, ky), (kx, ky + 0.17), (kx + 0.13, ky)], first)
    pen.polygon([(kx - 0.13, ky), (kx, ky - 0.22), (kx + 0.13, ky)], shade(second, 0.8))
    pen.line([(kx, ky - 0.22), (kx - 0.06, ky - 0.3), (kx + 0.04, ky - 0.38)], 0.012, first)


def _umbrella(pen: Pen, body: Body, rng: Rng, palette: Palette) -> None:
    x, y = body.near_hand
    top = body.head[1] + 0.32
    pen.line([(x, y - 0.05), (x, top)], 0.015, palette.dark)
    colour = pick(rng, palette.accents)
    pen.polygon(
        [(x - 0.36, top - 0.14), (x - 0.25, top), (x, top + 0.07), (x + 0.25, top), (x + 0.36, top - 0.14)], colour
    )
    pen.polygon(
        [(x - 0.12, top - 0.14), (x - 0.07, top + 0.03), (x + 0.07, top + 0.03), (x + 0.12, top - 0.14)],
        shade(colour, 1.4),
    )


def _desk(pen: Pen, body: Body, rng: Rng, palette: Palette) -> None:
    x, y = body.near_hand
    top = y - 0.04
    pen.rectangle((x - 0.14, top - 0.04), (x + 0.4, top), _WOOD)
    for leg in (x - 0.1, x + 0.34):
        pen.rectangle((leg, 0), (leg + 0.03, top - 0.04), shade(_WOOD, 0.7))
    pen.polygon([(x, top), (x + 0.16, top), (x + 0.22, top + 0.17), (x + 0.06, top + 0.17)], palette.dark)
    pen.rectangle((x + 0.28, top), (x + 0.35, top + 0.08), pick(rng, palette.accents))


def _bicycle(pen: Pen, body: Body, rng: Rng, palette: Palette) -> None:
    colour = pick(rng, palette.accents)
    for x in (-0.24, 0.36):
        pen.circle((x, 0.12), 0.17, palette.dark)
        pen.circle((x, 0.12), 0.14, palette.light)
        pen.circle((x, 0.12), 0.03, palette.dark)
    pen.line([(-0.24, 0.12), (0.0, 0.36), (0.26, 0.36), (0.06, 0.1), (0.0, 0.36)], 0.03, colour)
    pen.line([(0.36, 0.12), (0.26, 0.36), (0.24, 0.46), (0.32, 0.48)], 0.03, colour)


def _rod(pen: Pen, body: Body, rng: Rng, palette: Palette) -> None:
    x, y = body.near_hand
    pen.line([(x - 0.08, y - 0.06), (x + 0.5, y + 0.36)], 0.016, _WOOD)
    pen.line([(x + 0.5, y + 0.36), (x + 0.54, 0.02)], 0.006, palette.dark)
    pen.circle((x + 0.54, 0.04), 0.03, (210, 60, 50))


def _leash(pen: Pen, body: Body, rng: Rng, palette: Palette) -> None:
    x, y = body.near_hand
    foot = pen.at(0.55, 0.0)
    dog(
        Pen(pen.canvas, foot, pen.size * 0.34, 1 if foot[0] > pen.at(0, 0)[0] else -1),
        rng,
        pick(rng, (_WOOD, (60, 50, 48), (220, 200, 170))),
    )
    pen.line([(x, y), (0.62, 0.22)], 0.01, palette.dark)


def _flowers(pen: Pen, body: Body, rng: Rng, palette: Palette) -> None:
    x, y = body.near_hand
    for k in range(6):
        tip = (x - 0.09 + 0.036 * k, y + 0.13 + 0.03 * (k % 2))
        pen.line([(x, y), tip], 0.012, (60, 120, 60))
        pen.circle(tip, 0.034, pick(rng, palette.accents))


def _camera(pen: Pen, body: Body, rng: Rng, palette: Palette) -> None:
    x, y = body.near_hand
    pen.rectangle((x - 0.05, y - 0.02), (x + 0.07, y + 0.07), palette.dark)
    pen.circle((x + 0.07, y + 0.025), 0.035, shade(palette.light, 0.7))


def _balloons(pen: Pen, body: Body, rng: Rng, palette: Palette) -> None:
    x, y = body.near_hand
    for k in range(int(rng.integers(3, 6))):
        bx, by = x - 0.2 + 0.12 * k, y + 0.34 + 0.1 * float(rng.random())
        pen.line([(x, y), (bx, by)], 0.006, palette.dark)
        pen.ellipse((bx, by + 0.08), 0.075, 0.095, shade(pick(rng, palette.accents), 1.1))


def _basket(pen: Pen, body: Body, rng: Rng, palette: Palette) -> None:
    x, y = body.near_hand
    pen.line([(x - 0.09, y - 0.1), (x, y), (x + 0.09, y - 0.1)], 0.015, shade(_WOOD, 0.8))
    for k in range(4):
        pen.circle((x - 0.07 + 0.045 * k, y - 0.1), 0.035, pick(rng, palette.accents))
    pen.polygon([(x - 0.11, y - 0.1), (x + 0.11, y - 0.1), (x + 0.08, y - 0.22), (x - 0.08, y - 0.22)], _WOOD)


def _easy(pen: Pen, body: Body, rng: Rng, palette: Palette) -> None:
    pen.rectangle((-0.3, 0), (0.2, body.hip[1] - 0.02), pick(rng, palette.accents))
    pen.rectangle((-0.32, 0), (-0.2, body.hip[1] + 0.28), shade(pick(rng, palette.accents), 0.8))


ACTIVITIES: MappingProxyType[str, Activity] = MappingProxyType(
    {
        "reading": Activity(("reading a book", "reading", "looking at a picture book"), "reading", after=_book),
        "reading seated": Activity(("sitting and reading", "reading on a chair"), "reading seated", _chair, _book),
        "cooking": Activity(("cooking soup", "cooking", "stirring a pot"), "cooking", after=_stove),
        "running": Activity(("running", "jogging", "racing along"), "running"),
        "walking": Activity(("walking", "taking a walk", "strolling"), "walking"),
        "gardening": Activity(("gardening", "planting flowers", "tending the flowers"), "gardening", after=_plants),
        "painting": Activity(("painting a picture", "painting at an easel"), "painting", before=_easel),
        "dancing": Activity(("dancing", "dancing happily"), "dancing"),
        "playing": Activity(("playing with a ball", "kicking a ball", "playing football"), "playing", after=_ball),
        "watching": Activity(("watching the view", "standing and watching", "waiting"), "watching"),
        "pointing": Activity(("pointing at something", "pointing the way"), "pointing"),
        "music": Activity(("playing the guitar", "making music"), "music", after=_guitar),
        "flying": Activity(("flying a kite", "playing with a kite"), "flying", before=_kite),
        "umbrella": Activity(("holding an umbrella", "standing under an umbrella"), "holding", before=_umbrella),
        "cheering": Activity(("cheering", "jumping for joy", "waving"), "cheering"),
        "resting": Activity(("sitting in an armchair", "resting"), "sitting", before=_easy),
        "cycling": Activity(("riding a bicycle", "cycling"), "cycling", before=_bicycle),
        "working": Activity(("working at a desk", "writing at a laptop"), "working", _chair, _desk),
        "fishing": Activity(("fishing", "holding a fishing rod"), "holding", after=_rod),
        "dog": Activity(("walking a dog", "out with the dog"), "walking", after=_leash),
        "flowers": Activity(("holding flowers", "carrying a bunch of flowers"), "holding", after=_flowers),
        "camera": Activity(("taking a photo", "holding a camera"), "holding", after=_camera),
        "balloons": Activity(("holding balloons", "with a bunch of balloons"), "holding", before=_balloons),
        "basket": Activity(("carrying a basket", "bringing fruit from the market"), "walking", after=_basket),
    }
)
