"""The request to a strategy of `label next`, and its result."""

from dataclasses import dataclass


@dataclass(frozen=True)
class PickRequest:
    """A request to pick images.

    Attributes:
        category: Name of the category.
        strategy: Name of the strategy: `seed`, `random`, `precision` or `recall`.
        count: Number of images.
        like: Only for `seed`: local image files around which to search.
    """

    category: str
    strategy: str
    count: int
    like: tuple[str, ...] = ()


@dataclass(frozen=True)
class Pick:
    """An image to label, and the reason."""

    image_id: str
    reason: str
