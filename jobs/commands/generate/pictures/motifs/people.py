"""Women, men and children: a jointed figure, clothes and hair, and the things that they do."""

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from types import MappingProxyType

from jobs.commands.generate.pictures.primitives.canvas import Colour, Pen, Point
from jobs.commands.generate.pictures.primitives.palette import HAIR, SKIN, Palette, shade
from jobs.commands.generate.pictures.primitives.randomness import Rng, between, pick

Limb = tuple[float, float]
"""Angles of the upper and the lower part in degrees: 0 hangs down, 90 points forward, 180 up."""


@dataclass(frozen=True)
class Pose:
    """How a figure holds itself; `lean` tips the trunk forward, in degrees."""

    near_arm: Limb
    far_arm: Limb
    near_leg: Limb = (4, 3)
    far_leg: Limb = (-5, -4)
    lean: float = 0.0


@dataclass(frozen=True)
class Build:
    """Proportions, as shares of the whole height."""

    leg: float
    trunk: float
    head: float
    shoulder: float
    arm: float
    limb: float


@dataclass(frozen=True)
class Looks:
    """How a person looks.

    Attributes:
        person: `woman`, `man`, `girl` or `boy`.
        skin: Colour.
        hair: Colour.
        top: Colour of dress or shirt.
        bottom: Colour of skirt or trousers.
        clothes: `dress`, `skirt`, `trousers` or `shorts`.
        cut: Way of wearing hair, or `cap`, `hat`, `bald`.
    """

    person: str
    skin: Colour
    hair: Colour
    top: Colour
    bottom: Colour
    clothes: str
    cut: str


@dataclass(frozen=True)
class Body:
    """Where the joints of a drawn figure are, in the pen's coordinates."""

    hip: Point
    neck: Point
    head: Point
    near_hand: Point
    far_hand: Point
    near_foot: Point
    far_foot: Point


BUILDS = MappingProxyType(
    {
        "woman": Build(leg=0.45, trunk=0.28, head=0.095, shoulder=0.082, arm=0.34, limb=0.042),
        "man": Build(leg=0.45, trunk=0.30, head=0.09, shoulder=0.102, arm=0.36, limb=0.056),
        "girl": Build(leg=0.36, trunk=0.27, head=0.15, shoulder=0.08, arm=0.28, limb=0.05),
        "boy": Build(leg=0.36, trunk=0.27, head=0.15, shoulder=0.085, arm=0.28, limb=0.055),
    }
)
CUTS = MappingProxyType(
    {
        "woman": ("long", "bun", "ponytail", "bob", "long", "curls"),
        "man": ("short", "short", "cap", "bald", "hat", "beard"),
        "girl": ("pigtails", "bob", "ponytail"),
        "boy": ("short", "cap", "curls"),
    }
)
CLOTHES = MappingProxyType(
    {
        "woman": ("dress", "dress", "skirt"),
        "man": ("trousers", "trousers", "shorts"),
        "girl": ("dress", "skirt"),
        "boy": ("shorts", "trousers"),
    }
)
HOLD = Pose((28, 105), (18, 95))
WORK = Pose((50, 85), (35, 75), lean=6)
STAND = Pose((10, 14), (-12, -6))
SIT = Pose((30, 88), (25, 80), (86, 4), (78, -4))
POSES = MappingProxyType(
    {
        "reading": replace(HOLD, near_leg=(8, 4)),
        "reading seated": SIT,
        "cooking": WORK,
        "running": Pose((-55, 35), (60, 140), (62, -5), (-30, -85), 12),
        "walking": Pose((-28, -10), (28, 45), (26, 18), (-20, -34), 2),
        "gardening": Pose((40, 50), (25, 40), (60, -30), (-8, -50), 30),
        "painting": Pose((70, 100), (15, 70), (6, 4), (-6, -6), 2),
        "dancing": Pose((140, 165), (-95, -140), (35, -15), (-10, -12), -6),
        "playing": Pose((110, 150), (-40, -10), (70, 30), (-12, -18), -4),
        "watching": Pose((18, 10), (-14, -8)),
        "pointing": Pose((112, 118), (-10, -4)),
        "music": Pose((35, 110), (40, 80), (6, 4), (-8, -8), -2),
        "flying": Pose((125, 140), (100, 130), (20, 4), (-18, -28), -8),
        "holding": Pose((70, 130), (12, 30), (6, 3), (-7, -5), -2),
        "cheering": Pose((155, 172), (-150, -170), (14, 10), (-16, -12)),
        "sitting": SIT,
        "cycling": Pose((55, 70), (50, 66), (60, -10), (15, -30), 24),
        "working": replace(SIT, near_arm=(40, 86), far_arm=(36, 82)),
    }
)


def make_looks(rng: Rng, person: str, top: Colour, palette: Palette) -> Looks:
    """A person with skin, hair and clothes of their own."""
    return Looks(
        person=person,
        skin=pick(rng, SKIN),
        hair=pick(rng, HAIR),
        top=top,
        bottom=shade(pick(rng, (*palette.accents, (50, 60, 90), (70, 56, 46))), between(rng, 0.5, 1.1)),
        clothes=pick(rng, CLOTHES[person]),
        cut=pick(rng, CUTS[person]),
    )


def _towards(start: Point, angle: float, length: float) -> Point:
    turn = math.radians(angle)
    return (start[0] + length * math.sin(turn), start[1] - length * math.cos(turn))


def _limb(start: Point, limb: Limb, length: float) -> tuple[Point, Point, Point]:
    middle = _towards(start, limb[0], length / 2)
    return start, middle, _towards(middle, limb[1], length / 2)


def figure(pen: Pen, looks: Looks, pose: Pose) -> Body:
    """Draws a person whose lower foot stands at the pen's origin.

    Args:
        pen: Its unit is the height of the person upright.
        looks: Clothes and hair.
        pose: Limbs.

    Returns:
        Where hands, head and feet came to be, for what they hold.
    """
    build = BUILDS[looks.person]
    legs = [_limb((0.0, 0.0), limb, build.leg) for limb in (pose.near_leg, pose.far_leg)]
    rise = -min(point[1] for leg in legs for point in leg)
    near, far = ([(x, y + rise) for x, y in leg] for leg in legs)
    hip = (0.0, rise)
    neck = _towards(hip, 180 - pose.lean, build.trunk)
    head = _towards(neck, 180 - pose.lean * 0.6, build.head * 1.25)
    shoulder = (neck[0], neck[1] - build.limb * 0.6)
    arms = [_limb(shoulder, limb, build.arm) for limb in (pose.near_arm, pose.far_arm)]
    _arm(pen, arms[1], looks, build, 0.88)
    _legs(pen, (far, near), looks, build)
    _trunk(pen, (hip, neck), (near[1], far[1]), looks, build)
    _head(pen, head, looks, build)
    _arm(pen, arms[0], looks, build, 1.0)
    return Body(hip, neck, head, arms[0][2], arms[1][2], near[2], far[2])


def _arm(pen: Pen, arm: tuple[Point, Point, Point], looks: Looks, build: Build, light: float) -> None:
    pen.line(arm, build.limb * 0.85, shade(looks.skin, light))
    pen.line(arm[:2], build.limb, shade(looks.top, light * 0.92))
    pen.circle(arm[2], build.limb * 0.55, shade(looks.skin, light))


def _legs(pen: Pen, legs: tuple[list[Point], list[Point]], looks: Looks, build: Build) -> None:
    for leg, light in zip(legs, (0.82, 1.0), strict=True):
        bare = looks.clothes in ("dress", "skirt")
        colour = shade(looks.skin if bare else looks.bottom, light)
        pen.line(leg, build.limb * (0.85 if bare else 1.1), colour)
        if looks.clothes == "shorts":
            pen.line(leg[1:], build.limb * 0.9, shade(looks.skin, light))
        foot = leg[2]
        pen.line([foot, (foot[0] + build.limb * 1.1, foot[1])], build.limb * 0.8, shade(looks.bottom, 0.45))


def _trunk(pen: Pen, spine: tuple[Point, Point], knees: tuple[Point, Point], looks: Looks, build: Build) -> None:
    hip, neck = spine
    wide, waist = build.shoulder, build.shoulder * (0.6 if looks.person in ("woman", "girl") else 0.85)
    shoulders = [(neck[0] - wide, neck[1] - 0.02), (neck[0] + wide, neck[1] - 0.02)]
    middle = ((hip[0] * 0.6 + neck[0] * 0.4), (hip[1] * 0.6 + neck[1] * 0.4))
    if looks.clothes in ("dress", "skirt"):
        colour = looks.top if looks.clothes == "dress" else looks.bottom
        hem_low = min(knees[0][1], knees[1][1]) - build.leg * 0.12
        left, right = min(knees[0][0], knees[1][0], -0.05) - 0.06, max(knees[0][0], knees[1][0], 0.05) + 0.05
        pen.polygon(
            [(middle[0] - waist, middle[1]), (middle[0] + waist, middle[1]), (right, hem_low), (left, hem_low)], colour
        )
    foot = [(hip[0] + waist, hip[1] - 0.02), (hip[0] - waist, hip[1] - 0.02)]
    if looks.clothes in ("dress", "skirt"):
        foot = [(middle[0] + waist, middle[1]), (middle[0] - waist, middle[1])]
    pen.polygon([*shoulders, *foot], looks.top)
    pen.line(shoulders, build.limb * 0.8, looks.top)
    pen.line([neck, (neck[0], neck[1] + build.head * 0.5)], build.limb * 0.8, shade(looks.skin, 0.9))


def _head(pen: Pen, head: Point, looks: Looks, build: Build) -> None:
    x, y = head
    radius = build.head
    _HAIR_BEHIND.get(looks.cut, _no_hair)(pen, head, radius, looks.hair)
    pen.ellipse(head, radius * 0.86, radius, looks.skin)
    _HAIR_ABOVE.get(looks.cut, _fringe)(pen, head, radius, looks.hair)
    for side in (0.12, 0.55):
        pen.circle((x + radius * side, y + radius * 0.02), radius * 0.1, (40, 32, 36))
    pen.line([(x + radius * 0.1, y - radius * 0.42), (x + radius * 0.5, y - radius * 0.4)], radius * 0.1, (150, 50, 50))
    if looks.cut == "beard":
        pen.polygon(
            [
                (x - radius * 0.6, y - radius * 0.1),
                (x - radius * 0.5, y - radius * 1.0),
                (x + radius * 0.4, y - radius * 1.15),
                (x + radius * 0.8, y - radius * 0.5),
                (x + radius * 0.2, y - radius * 0.3),
            ],
            looks.hair,
        )


def _no_hair(pen: Pen, head: Point, radius: float, colour: Colour) -> None:
    """Nothing behind the head."""


def _long(pen: Pen, head: Point, radius: float, colour: Colour) -> None:
    x, y = head
    pen.polygon(
        [
            (x - radius * 1.05, y + radius * 0.5),
            (x + radius * 0.8, y + radius * 0.5),
            (x + radius * 0.7, y - radius * 1.9),
            (x - radius * 1.35, y - radius * 2.1),
        ],
        colour,
    )
    pen.circle((x - radius * 0.1, y + radius * 0.3), radius * 1.05, colour)


def _bob(pen: Pen, head: Point, radius: float, colour: Colour) -> None:
    x, y = head
    pen.ellipse((x - radius * 0.15, y - radius * 0.05), radius * 1.2, radius * 1.15, colour)


def _bun(pen: Pen, head: Point, radius: float, colour: Colour) -> None:
    x, y = head
    pen.circle((x - radius * 0.5, y + radius * 1.15), radius * 0.5, colour)
    pen.circle((x - radius * 0.1, y + radius * 0.2), radius, colour)


def _ponytail(pen: Pen, head: Point, radius: float, colour: Colour) -> None:
    x, y = head
    pen.polygon(
        [
            (x - radius * 0.7, y + radius * 0.7),
            (x - radius * 2.0, y + radius * 0.1),
            (x - radius * 1.7, y - radius * 1.6),
            (x - radius * 0.9, y - radius * 0.2),
        ],
        colour,
    )


def _pigtails(pen: Pen, head: Point, radius: float, colour: Colour) -> None:
    x, y = head
    for side in (-1.15, 1.05):
        pen.ellipse((x + radius * side, y - radius * 0.2), radius * 0.35, radius * 0.6, colour)


def _curls(pen: Pen, head: Point, radius: float, colour: Colour) -> None:
    x, y = head
    for angle in range(20, 240, 36):
        turn = math.radians(angle)
        pen.circle(
            (x + radius * 0.95 * math.cos(turn), y + radius * 0.2 + radius * 0.9 * math.sin(turn)),
            radius * 0.45,
            colour,
        )


def _fringe(pen: Pen, head: Point, radius: float, colour: Colour) -> None:
    x, y = head
    arch = [
        (x - radius * 0.9 * math.cos(t), y + radius * (0.25 + 0.85 * math.sin(t)))
        for t in (0, 0.5, 1.0, 1.57, 2.1, 2.6, 3.14)
    ]
    pen.polygon(
        [
            *arch,
            (x + radius * 0.5, y + radius * 0.45),
            (x - radius * 0.5, y + radius * 0.3),
            (x - radius * 0.85, y - radius * 0.4),
        ],
        colour,
    )


def _bald(pen: Pen, head: Point, radius: float, colour: Colour) -> None:
    x, y = head
    pen.ellipse((x - radius * 0.75, y), radius * 0.2, radius * 0.4, colour)


def _cap(pen: Pen, head: Point, radius: float, colour: Colour) -> None:
    x, y = head
    dome = [
        (x - radius * math.cos(t), y + radius * (0.3 + 0.8 * math.sin(t))) for t in (0, 0.5, 1.0, 1.57, 2.1, 2.6, 3.14)
    ]
    pen.polygon(dome, (190, 60, 50))
    pen.polygon(
        [
            (x, y + radius * 0.3),
            (x + radius * 1.6, y + radius * 0.3),
            (x + radius * 1.4, y + radius * 0.5),
            (x, y + radius * 0.55),
        ],
        (150, 44, 40),
    )


def _hat(pen: Pen, head: Point, radius: float, colour: Colour) -> None:
    x, y = head
    pen.ellipse((x, y + radius * 0.5), radius * 1.6, radius * 0.22, (92, 66, 44))
    pen.rectangle((x - radius * 0.75, y + radius * 0.5), (x + radius * 0.75, y + radius * 1.3), (110, 80, 54))


_Hair = Callable[[Pen, Point, float, Colour], None]
_HAIR_BEHIND: MappingProxyType[str, _Hair] = MappingProxyType(
    {"long": _long, "bob": _bob, "bun": _bun, "ponytail": _ponytail, "pigtails": _pigtails, "curls": _curls}
)
_HAIR_ABOVE: MappingProxyType[str, _Hair] = MappingProxyType({"bald": _bald, "cap": _cap, "hat": _hat})
