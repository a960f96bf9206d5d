"""Plans the pictures of a set, with exact quotas for all pictures and for the distinct drawings."""

from dataclasses import dataclass, field
from functools import lru_cache
from types import MappingProxyType

import numpy as np
from numpy.typing import NDArray

from jobs.commands.generate.pictures.primitives.randomness import Purpose, Rng, stream

PERSONS = ("woman", "man", "child")
# Shares of the pictures without a person.
OBJECT_SHARES = MappingProxyType(
    {
        "clock": 0.11,
        "building": 0.12,
        "vehicle": 0.10,
        "boat": 0.09,
        "tree": 0.09,
        "animal": 0.13,
        "food": 0.07,
        "landscape": 0.07,
        "logo": 0.06,
        "sign": 0.06,
        "texture": 0.07,
        "gradient": 0.03,
    }
)
KINDS = (*PERSONS, *OBJECT_SHARES)
CATEGORIES = ("", "fireworks", "slime")
MODES = MappingProxyType(
    {
        "": ("",),
        "fireworks": ("burst", "sparkler", "fountain", "rocket"),
        "slime": ("splat", "drips", "puddle", "bucket"),
    }
)
_RARE_MODE = 3
_GRAPHIC = ("clock", "logo", "sign")
_SIBLING_SET = 3


@dataclass(frozen=True)
class Quotas:
    """The shares in a plan, exact up to rounding.

    Attributes:
        persons: Share of all pictures with this person in the caption.
        categories: Share of a person's pictures in a category. With the defaults, a perfect filter lowers the share of
            "woman" by about 14 % and that of "man" by 6 %.
        other_categories: The same share for pictures without woman or man.
        copies: Share of the pictures that are copies.
        rare: Share of a category's drawings in its rare mode.
        largest: Size of the largest group of copies, as a share of all pictures, and its maximum.
        siblings: Share of the clocks and signs in groups of siblings, which differ in one detail.
    """

    persons: dict[str, float] = field(default_factory=lambda: {"woman": 0.12, "man": 0.12, "child": 0.10})
    categories: dict[str, float] = field(default_factory=lambda: {"woman": 0.168, "man": 0.09})
    other_categories: float = 0.002
    copies: float = 0.25
    rare: float = 0.05
    largest: tuple[float, int] = (0.02, 400)
    siblings: float = 0.4


@dataclass(frozen=True)
class PictureSet:
    """The parameters that decide every byte of a generated set.

    Attributes:
        count: Number of pictures.
        seed: Seed, 0 or more.
        shard: Pictures in a sub-folder.
    """

    count: int
    seed: int
    shard: int = 1000

    @property
    def shards(self) -> int:
        """Number of sub-folders."""
        return -(-self.count // self.shard)


@dataclass(frozen=True)
class Role:
    """The plan of one picture.

    Attributes:
        index: Its index in the set.
        original: Index of the drawing that it copies; its own index for a drawing.
        kind: One of `KINDS`.
        category: One of `CATEGORIES`.
        mode: The category's visual mode.
        sibling: Index of the first of its siblings; -1 without siblings.
        variant: Its number among its siblings, which decides the detail that differs.
        size: Pictures in its group of copies, including itself.
    """

    index: int
    original: int
    kind: str
    category: str
    mode: str
    sibling: int
    variant: int
    size: int


@dataclass(frozen=True)
class PicturePlan:
    """The roles of a whole set, in a few bytes for each picture.

    Attributes:
        original: int64 of shape (count,).
        kind: int8, index in `KINDS`.
        category: int8, index in `CATEGORIES`.
        mode: int8, index in the category's modes.
        sibling: int64, -1 without siblings.
        variant: int8.
        size: int32, pictures in the group.
    """

    original: NDArray[np.int64]
    kind: NDArray[np.int8]
    category: NDArray[np.int8]
    mode: NDArray[np.int8]
    sibling: NDArray[np.int64]
    variant: NDArray[np.int8]
    size: NDArray[np.int32]

    def role(self, index: int) -> Role:
        """Returns the role of the picture at an index."""
        category = CATEGORIES[self.category[index]]
        return Role(
            index=index,
            original=int(self.original[index]),
            kind=KINDS[self.kind[index]],
            category=category,
            mode=MODES[category][self.mode[index]],
            sibling=int(self.sibling[index]),
            variant=int(self.variant[index]),
            size=int(self.size[index]),
        )


@dataclass(frozen=True)
class _Cell:
    """The pictures of one person (or `object`) and one category, with the same distribution of copies."""

    subject: str
    category: str
    count: int


@lru_cache(maxsize=2)
def plan(pictures: PictureSet) -> PicturePlan:
    """Returns the roles of all pictures, the same in every process.

    Examples:
        >>> made = plan(PictureSet(count=1000, seed=0))
        >>> [int((made.kind == KINDS.index(person)).sum()) for person in PERSONS]
        [120, 120, 100]
    """
    quotas = Quotas()
    rng = stream(pictures.seed, 0, Purpose.PLAN)
    parts: list[PicturePlan] = []
    begin = 0
    for cell in _cells(pictures.count, quotas):
        parts.append(_fill(cell, begin, _largest_group(cell, pictures.count, quotas), quotas, rng))
        begin += cell.count
    return _shuffle(parts, rng)


def _cells(count: int, quotas: Quotas) -> list[_Cell]:
    counts = {person: round(count * share) for person, share in quotas.persons.items()}
    counts["object"] = count - sum(counts.values())
    cells = []
    for number, (subject, total) in enumerate(counts.items()):
        flagged = round(total * quotas.categories.get(subject, quotas.other_categories))
        fireworks = (flagged + number % 2) // 2  # an odd number rounds up for each category in turn
        cells += [
            _Cell(subject, "fireworks", fireworks),
            _Cell(subject, "slime", flagged - fireworks),
            _Cell(subject, "", total - flagged),
        ]
    return [cell for cell in cells if cell.count]


def _largest_group(cell: _Cell, count: int, quotas: Quotas) -> int:
    copies = round(cell.count * quotas.copies)
    if cell.subject == "object" and not cell.category:
        share, most = quotas.largest
        return max(1, min(most, round(count * share), copies + 1) - 1)
    return max(1, copies // 8)


def _fill(cell: _Cell, begin: int, largest: int, quotas: Quotas, rng: Rng) -> PicturePlan:
    copies = round(cell.count * quotas.copies)
    drawings = cell.count - copies
    kind = _kinds(cell, drawings, rng)
    sibling, variant = _siblings(kind, quotas)
    sizes = np.zeros(drawings, np.int64)
    chosen = _copied(kind, sibling, rng)
    made = group_sizes(copies, largest)[: len(chosen)]
    sizes[chosen[: len(made)]] = made
    # Few drawings can be short of groups for the copies: the first one takes what is left.
    sizes[chosen[0]] += copies - made.sum()
    source = np.concatenate([np.arange(drawings), np.repeat(np.arange(drawings), sizes)])
    mode = _modes(cell.category, drawings, quotas.rare)
    return PicturePlan(
        original=source + begin,
        kind=kind[source],
        category=np.full(cell.count, CATEGORIES.index(cell.category), np.int8),
        mode=mode[source],
        sibling=np.where(sibling < 0, -1, sibling + begin)[source],
        variant=variant[source],
        size=(sizes + 1).astype(np.int32)[source],
    )


def _kinds(cell: _Cell, drawings: int, rng: Rng) -> NDArray[np.int8]:
    if cell.subject != "object":
        return np.full(drawings, KINDS.index(cell.subject), np.int8)
    if cell.category:
        return np.full(drawings, KINDS.index("landscape"), np.int8)
    edges = np.round(np.cumsum(list(OBJECT_SHARES.values())) / sum(OBJECT_SHARES.values()) * drawings)
    kinds = np.searchsorted(edges, np.arange(drawings), side="right") + len(PERSONS)
    return rng.permutation(kinds).astype(np.int8)


def _siblings(kind: NDArray[np.int8], quotas: Quotas) -> tuple[NDArray[np.int64], NDArray[np.int8]]:
    sibling = np.full(len(kind), -1, np.int64)
    variant = np.zeros(len(kind), np.int8)
    for name in ("clock", "sign"):
        places = np.flatnonzero(kind == KINDS.index(name))
        sets = round(len(places) * quotas.siblings / _SIBLING_SET)
        members = places[: sets * _SIBLING_SET].reshape(-1, _SIBLING_SET)
        sibling[members] = members[:, :1]
        variant[members] = np.arange(_SIBLING_SET)
    return sibling, variant


def _copied(kind: NDArray[np.int8], sibling: NDArray[np.int64], rng: Rng) -> NDArray[np.int64]:
    """Returns the drawings that may be copied; the first ones get the larger groups."""
    order = rng.permutation(np.flatnonzero(sibling < 0))
    # The largest group copies a simple graphic, like the most repeated images of the web.
    graphic = np.flatnonzero(np.isin(kind[order], [KINDS.index(name) for name in _GRAPHIC]))
    if len(graphic):
        order[[0, graphic[0]]] = order[[graphic[0], 0]]
    return order


def group_sizes(copies: int, largest: int, exponent: float = 1.3) -> NDArray[np.int64]:
    """Returns the sizes of groups of copies from a power law, with as many groups as the copies fill.

    Args:
        copies: Sum of the sizes.
        largest: The first and largest size.
        exponent: Exponent of the Pareto distribution; the sizes are its quantiles.

    Returns:
        int64, descending, each at least 1.

    Examples:
        >>> group_sizes(20, 6).tolist()
        [6, 4, 2, 2, 1, 1, 1, 1, 1, 1]
    """
    low, high = 1, max(copies, 1)
    while low < high:
        groups = (low + high) // 2
        low, high = (low, groups) if _quantiles(groups, largest, exponent).sum() >= copies else (groups + 1, high)
    sizes = _quantiles(low, largest, exponent)
    spent = np.minimum(np.cumsum(sizes), copies)
    sizes = np.diff(spent, prepend=0)
    return np.sort(sizes[sizes > 0])[::-1].astype(np.int64)


def _quantiles(groups: int, largest: int, exponent: float) -> NDArray[np.float64]:
    upper = (np.arange(groups) + 0.5) / groups
    sizes: NDArray[np.float64] = np.minimum(np.floor(upper ** (-1 / exponent)), largest)
    sizes[0] = largest
    return sizes


def _modes(category: str, drawings: int, rare: float) -> NDArray[np.int8]:
    if not category:
        return np.zeros(drawings, np.int8)
    places = np.arange(drawings)
    modes = places % _RARE_MODE
    # Shifted by half a step, so that even a few drawings include a rare one.
    step = np.floor(places * rare + 0.5)
    modes[1:][np.diff(step) > 0] = _RARE_MODE
    return modes.astype(np.int8)


def _shuffle(parts: list[PicturePlan], rng: Rng) -> PicturePlan:
    count = sum(len(part.kind) for part in parts)
    place = rng.permutation(count)
    source = np.argsort(place)

    def joined(name: str) -> NDArray[np.int64]:
        return np.concatenate([getattr(part, name) for part in parts])[source]

    sibling = joined("sibling")
    return PicturePlan(
        original=place[joined("original")],
        kind=joined("kind").astype(np.int8),
        category=joined("category").astype(np.int8),
        mode=joined("mode").astype(np.int8),
        sibling=np.where(sibling < 0, -1, place[sibling]),
        variant=joined("variant").astype(np.int8),
        size=joined("size").astype(np.int32),
    )
