"""The order of images from best to worst: `dedup.rank`.

The order is a binary value that sorts bytewise, the best image first: a byte of flags, the bytes of each criterion, and
the image's id. Values are quantized, so that the next criterion decides between copies that hardly differ.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import accumulate

from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F

OVERLAY = "overlay"
"""The only criterion that is a property of pairs, so it is known only after the search: see `keep.overlays`."""

MOST_OVERLAID = 4
"""Steps of the share of an image's pairs in which it has an overlay."""

OVERLAY_BYTE = 255 - MOST_OVERLAID
"""The byte of `overlay` in the order of an image without one. Each step adds one."""

_OCTAVES = 2  # steps of detail for each doubling of the pixels
_SHARES = 20  # steps of the share of a frame
_CUTS = 8  # steps of sharpness
_GREY = 4.0  # colourfulness below which an image is grey
_JPEG, _FEW = 70, 10  # quality above which artefacts are hardly visible, and the step below it
_SAVED = 5  # steps of quality that tell which of two copies was saved again
_DECIBELS, _QUIETEST = 2.0, -20.0


@dataclass(frozen=True)
class _Criterion:
    """A criterion: `value` is a whole number from 0 that fits into `size` bytes; the larger one is better."""

    size: int
    value: Callable[[], Column]


def _detail() -> Column:
    pixels = F.col("resolution") * F.col("unframed") * F.pow("sharpness", F.lit(2))
    return F.round(_OCTAVES * F.log2(F.greatest(pixels, F.lit(1.0))))


_CRITERIA = {
    "detail": _Criterion(1, _detail),
    OVERLAY: _Criterion(1, lambda: F.lit(MOST_OVERLAID)),
    "border": _Criterion(1, lambda: F.round(_SHARES * F.col("unframed"))),
    "sharpness": _Criterion(1, lambda: F.round(_CUTS * F.col("sharpness"))),
    "colour": _Criterion(1, lambda: (F.col("colour") >= _GREY).cast("int")),
    "jpeg": _Criterion(1, lambda: F.floor(F.least(F.col("jpeg_quality"), F.lit(_JPEG)) / _FEW)),
    "saved": _Criterion(1, lambda: F.floor(F.col("jpeg_quality") / _SAVED)),
    "noise": _Criterion(1, lambda: 255 - F.round((F.col("noise") - _QUIETEST) / _DECIBELS)),
    "resolution": _Criterion(4, lambda: F.col("resolution")),
    "caption": _Criterion(3, lambda: F.col("caption")),
}
# What counts for an image that was scored before `score` measured these values.
_UNKNOWN = {"unframed": 1.0, "sharpness": 1.0, "noise": _QUIETEST, "colour": 255.0, "jpeg_quality": 100}
MEASURED = tuple(_UNKNOWN)
"""Columns of the table signals on which criteria depend."""

_FLAGS = 1  # bytes
_NO_PROPERTIES = {OVERLAY, "saved", "noise", "caption"}


def measured(signals: DataFrame) -> list[Column]:
    """Returns the columns `MEASURED` of the table signals, also if an earlier version wrote it."""
    has = signals.columns
    return [
        (F.coalesce(F.col(name), F.lit(value)) if name in has else F.lit(value)).alias(name)
        for name, value in _UNKNOWN.items()
    ]


def order(criteria: Sequence[str]) -> Column:
    """Returns the order of an image: binary, smaller is better.

    Images that passed the filter come first, so that none of them loses to an image that is not kept. Then come those
    that a person keeps, and those that an earlier run kept.

    Args:
        criteria: `dedup.rank`, the most important first. Ties go to the smaller image_id.

    Needs:
        passed, decided (boolean), incumbent (0 or 1), resolution (pixels), caption (characters), `MEASURED`, image_id.
    """
    passed, decided = (F.col(name).cast("int") for name in ("passed", "decided"))
    flags = F.shiftleft(passed, 2) + F.shiftleft(decided, 1) + F.col("incumbent")
    values = [_inverted(flags, _FLAGS), *(_inverted(_CRITERIA[one].value(), _CRITERIA[one].size) for one in criteria)]
    return F.concat(*values, F.unhex("image_id"))


def place_of_overlay(criteria: Sequence[str]) -> int | None:
    """Returns the place, from 1, of the byte of `overlay` in an order; None if it is no criterion."""
    if OVERLAY not in criteria:
        return None
    return 1 + _FLAGS + sum(_CRITERIA[one].size for one in criteria[: list(criteria).index(OVERLAY)])


def places_of_properties(criteria: Sequence[str]) -> list[slice]:
    """Returns the bytes of an order that say how large, sharp, colourful and compressed an image is.

    Two copies that are equal there have equally strong edges, but for what one of them has more.
    """
    starts = accumulate((_CRITERIA[one].size for one in criteria), initial=_FLAGS)
    places = {one: slice(start, start + _CRITERIA[one].size) for one, start in zip(criteria, starts, strict=False)}
    return [place for one, place in places.items() if one not in _NO_PROPERTIES]


def with_overlay(order: Column, place: int, overlaid: Column) -> Column:
    """Returns the order of an image that has an overlay, from its order without one.

    Args:
        order: As `order` returns it.
        place: As `place_of_overlay` returns it.
        overlaid: In how many of its pairs, 0 to `MOST_OVERLAID`.
    """
    value = _inverted(F.lit(MOST_OVERLAID) - overlaid, 1)
    return F.concat(F.substring(order, 1, place - 1), value, F.substring(order, place + 1, 1 << 10))


def _inverted(value: Column, size: int) -> Column:
    """Returns bytes that sort larger values first."""
    most = (1 << (8 * size)) - 1
    clipped = F.least(F.greatest(value.cast("long"), F.lit(0)), F.lit(most))
    return F.unhex(F.lpad(F.hex(F.lit(most) - clipped), 2 * size, "0"))
