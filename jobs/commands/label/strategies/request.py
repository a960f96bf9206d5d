"""What is asked of a strategy, and what it answers."""

from dataclasses import dataclass


@dataclass(frozen=True)
class PickRequest:
    """What is to be picked.

    Attributes:
        category: For which category.
        strategy: By name: `seed`, `random`, `precision` or `recall`.
        count: How many images.
        like: For `seed`: local image files around which to pick.
    """

    category: str
    strategy: str
    count: int
    like: tuple[str, ...] = ()


@dataclass(frozen=True)
class Pick:
    """An image to label and why."""

    image_id: str
    reason: str
