"""Random numbers that depend on the seed, the picture and the purpose alone, never on the order of drawing."""

from collections.abc import Mapping, Sequence
from enum import IntEnum
from typing import TypeVar

import numpy as np

Rng = np.random.Generator
Item = TypeVar("Item")


class Purpose(IntEnum):
    """What a stream of random numbers is for, so that a change in one leaves the others alone."""

    PLAN = 0
    COMPOSE = 1
    DRAW = 2
    CAPTION = 3
    COPY = 4
    ENCODE = 5


def stream(seed: int, index: int, purpose: Purpose) -> Rng:
    """The random numbers of one picture for one purpose.

    Examples:
        >>> first, again = (stream(1, 2, Purpose.DRAW).integers(1000) for _ in range(2))
        >>> bool(first == again)
        True
    """
    return np.random.default_rng([seed, index, int(purpose)])


def pick(rng: Rng, items: Sequence[Item]) -> Item:
    """One of the items, each as likely."""
    return items[int(rng.integers(len(items)))]


def pick_weighted(rng: Rng, weights: Mapping[str, float]) -> str:
    """One of the keys, with the given relative weights."""
    total = sum(weights.values())
    left = float(rng.random()) * total
    for name, weight in weights.items():
        left -= weight
        if left < 0:
            return name
    return next(reversed(list(weights)))


def chance(rng: Rng, probability: float) -> bool:
    """True with the given probability."""
    return bool(rng.random() < probability)


def between(rng: Rng, low: float, high: float) -> float:
    """A number from low to high, evenly."""
    return low + (high - low) * float(rng.random())
