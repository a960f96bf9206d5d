"""Decides the content of a drawing before it is drawn and captioned, so that picture and caption agree."""

from dataclasses import dataclass, replace
from types import MappingProxyType

from jobs.commands.generate.pictures.motifs.animals import ANIMALS
from jobs.commands.generate.pictures.motifs.clocks import CLOCKS
from jobs.commands.generate.pictures.motifs.graphics import BRANDS, SIGNS, TRADES, sign_words
from jobs.commands.generate.pictures.motifs.props import ACTIVITIES
from jobs.commands.generate.pictures.motifs.textures import GRADIENTS, TEXTURES
from jobs.commands.generate.pictures.motifs.things import BOATS, BUILDINGS, FOOD, PLANTS, VEHICLES
from jobs.commands.generate.pictures.plan import PERSONS, Role
from jobs.commands.generate.pictures.primitives.palette import NAMED
from jobs.commands.generate.pictures.primitives.randomness import (
    Purpose,
    Rng,
    between,
    chance,
    pick,
    pick_weighted,
    stream,
)


@dataclass(frozen=True)
class Place:
    """The place of a scene: its words and its backdrop."""

    words: tuple[str, ...]
    backdrop: str


OUTDOORS = MappingProxyType(
    {
        "park": Place(("in the park", "in a meadow", "in the green hills"), "hills"),
        "mountains": Place(("in the mountains", "below the peaks"), "mountains"),
        "lake": Place(("by a lake", "by the water", "on the shore"), "sea"),
        "harbour": Place(("at the harbour", "over the harbour", "on the quay"), "harbour"),
        "beach": Place(("on the beach", "by the sea"), "beach"),
        "street": Place(("on a city street", "in town", "in front of tall buildings"), "city"),
        "forest": Place(("in the forest", "in the woods", "under the trees"), "forest"),
        "garden": Place(("in a garden", "among flowers"), "garden"),
        "snow": Place(("in the snow", "on a snowy field"), "snow"),
        "desert": Place(("in the desert", "between the dunes"), "desert"),
    }
)
INDOORS = MappingProxyType(
    {
        "room": Place(("in a living room", "at home", "in a bright room"), "room"),
        "kitchen": Place(("in a kitchen", "in the kitchen"), "kitchen"),
        "library": Place(("in a library", "before a wall of books"), "library"),
    }
)
ABSTRACT = MappingProxyType(
    {
        "stripes": Place(("on a striped background", "before colourful stripes"), "stripes"),
        "panels": Place(("on a colour block background", "before coloured panels"), "panels"),
        "dots": Place(("before blurred lights", "with bokeh"), "dots"),
        "shards": Place(("on a geometric background", "on an abstract background"), "shards"),
    }
)
TABLE = Place(("on a table", "on a tablecloth"), "table")
PLACES = MappingProxyType({**OUTDOORS, **INDOORS, **ABSTRACT, "table": TABLE})
_INSIDE_ONLY = ("cooking", "working", "resting")
_OUTSIDE_ONLY = ("flying", "fishing", "cycling", "dog", "running", "gardening")
_ON_WATER = ("lake", "harbour")
_STYLES = MappingProxyType(
    {"": 6.0, "photo": 1.6, "watercolor": 1.0, "black and white": 0.7, "vintage": 0.7, "pixel art": 0.35,
     "pencil sketch": 0.4, "cartoon": 1.6}
)  # fmt: skip
# Pictures of a category must keep its look, so they use no styles that redraw the picture.
_PLAIN_STYLES = MappingProxyType({"": 6.0, "photo": 1.5, "black and white": 0.6, "vintage": 0.6})
_ASPECTS = (1.0, 1.0, 4 / 3, 4 / 3, 3 / 2, 16 / 9, 3 / 4, 2 / 3, 5 / 4, 9 / 16)
_TALL_ASPECTS = (1.0, 4 / 3, 5 / 4, 3 / 4, 2 / 3, 3 / 4)


@dataclass(frozen=True)
class Scene:
    """The content of a drawing.

    Attributes:
        role: Its role in the plan.
        size: Width and height, in pixels.
        subject: `woman`, `girl`, `lighthouse`, `fallen leaves`, …
        place: A key of `PLACES`, or empty.
        time: `day`, `sunset` or `night`.
        style: Its style; empty is plain.
        colour: Named colour of the main object.
        doing: A key of `props.ACTIVITIES`, or empty.
        words: Text in the picture, or the name of a pattern.
        clock: Hour and minute that a clock shows.
        things: Number of objects of the subject.
    """

    role: Role
    size: tuple[int, int]
    subject: str
    place: str
    time: str
    style: str
    colour: str
    doing: str = ""
    words: str = ""
    clock: tuple[int, int] = (0, 0)
    things: int = 1


def compose(seed: int, role: Role) -> Scene:
    """Decides the content of the drawing of a role. Siblings are equal except for one detail."""
    rng = stream(seed, role.original if role.sibling < 0 else role.sibling, Purpose.COMPOSE)
    person = role.kind in PERSONS
    style = pick_weighted(rng, _PLAIN_STYLES if role.category else _STYLES)
    size = _size(rng, person)
    time = pick_weighted(rng, {"day": 6, "sunset": 2, "night": 1.5})
    if role.category == "fireworks":
        time = "night"
    colour = pick(rng, tuple(NAMED))
    scene = Scene(role, size, "", "", time, style, colour)
    return _person(rng, scene) if person else _object(rng, scene)


def _size(rng: Rng, person: bool) -> tuple[int, int]:
    aspect = pick(rng, _TALL_ASPECTS if person else _ASPECTS)
    short = round(160 * 4 ** (float(rng.random()) ** 1.4))
    if chance(rng, 0.008):
        short = int(rng.integers(720, 1025))
    long = round(short * max(aspect, 1 / aspect) * between(rng, 0.97, 1.03))
    return (max(long, short), short) if aspect >= 1 else (short, max(long, short))


def _person(rng: Rng, scene: Scene) -> Scene:
    subject = pick(rng, ("girl", "boy")) if scene.role.kind == "child" else scene.role.kind
    doing = pick(rng, tuple(ACTIVITIES))
    outside = scene.role.category == "fireworks" or doing in _OUTSIDE_ONLY or chance(rng, 0.62)
    if outside and doing in _INSIDE_ONLY:
        doing = pick(rng, ("watching", "dancing", "cheering", "walking", "music", "painting"))
    place = pick(rng, tuple(OUTDOORS if outside else INDOORS))
    return replace(scene, subject=subject, place=place, doing=doing)


def _object(rng: Rng, scene: Scene) -> Scene:
    kind = scene.role.kind
    if kind in ("texture", "gradient"):
        names = tuple(TEXTURES if kind == "texture" else GRADIENTS)
        return replace(scene, subject=kind, words=pick(rng, names), style="photo" if chance(rng, 0.35) else "")
    if kind == "logo":
        return replace(scene, subject=pick(rng, TRADES), words=pick(rng, BRANDS), style="")
    if kind == "sign":
        base, first = pick(rng, tuple(SIGNS)), int(rng.integers(5))
        words = sign_words(base, first, scene.role.variant)
        return replace(scene, subject="sign", words=words, place=pick(rng, (*OUTDOORS, *ABSTRACT)))
    if kind == "clock":
        # Siblings are an hour apart: the same clock at one, two and three o'clock.
        minute = 0 if scene.role.sibling >= 0 else 5 * int(rng.integers(12))
        hour = (int(rng.integers(12)) + scene.role.variant) % 12
        return replace(
            scene, subject=pick(rng, CLOCKS), clock=(hour, minute), place=pick(rng, (*INDOORS, *ABSTRACT, "street"))
        )
    return _thing(rng, scene)


def _thing(rng: Rng, scene: Scene) -> Scene:
    kind = scene.role.kind
    names = {"building": BUILDINGS, "vehicle": VEHICLES, "boat": BOATS, "tree": PLANTS, "animal": ANIMALS, "food": FOOD}
    things = int(rng.choice([1, 2, 3, 4, 5], p=[0.42, 0.24, 0.18, 0.1, 0.06]))
    if kind == "landscape":
        return replace(scene, subject="landscape", place=pick(rng, tuple(OUTDOORS)), things=0)
    places: tuple[str, ...] = (*OUTDOORS, *OUTDOORS, *ABSTRACT)
    if kind == "boat":
        places = _ON_WATER
    elif kind == "food":
        places = ("table", "table", *ABSTRACT)
    return replace(scene, subject=pick(rng, tuple(names[kind])), place=pick(rng, places), things=things)
