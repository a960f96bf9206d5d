"""The parts of all charts: grid lines, axis labels, steps."""

from collections.abc import Sequence
from math import ceil

from markupsafe import Markup

GRID = Markup('<line class="grid" x1="0" x2="100%" y1="{y:.2f}%" y2="{y:.2f}%"/>')
Y_LABEL = Markup('<text class="tick" x="-8" y="{y:.2f}%" dy="0.32em" text-anchor="end">{text}</text>')
X_LABEL = Markup('<text class="tick" x="{x:.2f}%" y="100%" dy="18" text-anchor="middle">{text}</text>')
_ACROSS = Markup('<text class="title" x="100%" y="100%" dy="38" text-anchor="end">{text}</text>')
_UP = Markup('<text class="title" x="-44" y="-14">{text}</text>')


def joined(parts: Sequence[Markup]) -> Markup:
    """Returns the parts of a drawing as one."""
    return Markup("").join(parts)


def titles(across: str, up: str) -> Markup:
    """Returns the titles of both axes."""
    return _ACROSS.format(text=across) + _UP.format(text=up)


def short(count: int) -> str:
    """Returns the short form of a count, for an axis.

    Examples:
        >>> short(100), short(2_000), short(1_500_000)
        ('100', '2k', '1.5M')
    """
    for size, letter in ((1_000_000_000, "G"), (1_000_000, "M"), (1_000, "k")):
        if count >= size:
            return f"{count / size:g}{letter}"
    return str(count)


def share_step(span: float) -> float:
    """Returns a round step; about six of them cover the span of shares."""
    return next((s for s in (0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5) if span / s <= 6), max(1.0, ceil(span / 6)))
