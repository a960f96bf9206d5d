"""The format of numbers in messages and pages, and what a misspelt name may mean."""

from collections.abc import Iterable
from decimal import ROUND_CEILING, ROUND_FLOOR, Decimal
from difflib import get_close_matches
from math import floor, isfinite, log10

_MINUS = "−"
_NONE = "–"
_LONGEST_NAME = 200
_UNITS = ("bytes", "kB", "MB", "GB", "TB", "PB")


def number(value: float | None) -> str:
    """Returns a count or a figure of three digits, with thousands separators.

    Examples:
        >>> number(12345), number(0.12345), number(3.0), number(None)
        ('12,345', '0.123', '3', '–')
    """
    if value is None or not isfinite(value):
        return _NONE
    if float(value).is_integer():
        return f"{int(value):,}".replace("-", _MINUS)
    return f"{value:,.3g}".replace("-", _MINUS) if abs(value) < 1000 else f"{value:,.0f}".replace("-", _MINUS)


def percent(share: float | None, digits: int = 1) -> str:
    """Returns a share in per cent.

    Examples:
        >>> percent(0.1234), percent(None)
        ('12.3 %', '–')
    """
    return _NONE if share is None or not isfinite(share) else f"{100 * share:.{digits}f} %".replace("-", _MINUS)


def rounded_up(share: float | None) -> str:
    """Returns an upper bound in per cent, rounded up to two significant digits of it or of its distance to 100 %.

    Examples:
        >>> rounded_up(0.2144), rounded_up(0.0000428), rounded_up(0.9952), rounded_up(1.0), rounded_up(None)
        ('22 %', '0.0043 %', '99.52 %', '100 %', '–')
    """
    return _bound(share, ROUND_CEILING)


def rounded_down(share: float | None) -> str:
    """Returns a lower bound in per cent, rounded down to two significant digits of it or of its distance to 100 %.

    Examples:
        >>> rounded_down(0.953), rounded_down(0.99959), rounded_down(0.349), rounded_down(0.0), rounded_down(None)
        ('95.3 %', '99.959 %', '34 %', '0 %', '–')
    """
    return _bound(share, ROUND_FLOOR)


def recall_at_least(lower: float | None) -> str:
    """Returns the lower bound on the recall of a threshold, rounded down, or `unknown`.

    Examples:
        >>> recall_at_least(0.953), recall_at_least(None)
        ('95.3 %', 'unknown')
    """
    return "unknown" if lower is None or not isfinite(lower) else rounded_down(lower)


def _bound(share: float | None, rounding: str) -> str:
    if share is None or not isfinite(share):
        return _NONE
    exact = 100 * Decimal(str(share))
    least = min(exact, 100 - exact)
    digits = max(0, 1 - least.adjusted()) if least else 0
    return f"{exact.quantize(Decimal(1).scaleb(-digits), rounding):f} %"


def measured(share: float | None, low: float | None = None, high: float | None = None) -> str:
    """Returns a measured share in per cent, with its interval if both ends are given; below 1 it is never "100.0 %".

    Examples:
        >>> measured(0.9534, 0.9312, 0.97), measured(1.0), measured(0.99997), measured(None)
        ('95.3 % [93.1, 97.0]', '100.0 %', '99.997 %', '–')
    """
    if share is None or not isfinite(share):
        return _NONE
    ends = f" [{_below_whole(low)}, {_below_whole(high)}]" if low is not None and high is not None else ""
    return f"{_below_whole(share)} %{ends}"


def _below_whole(share: float) -> str:
    """One decimal, or as many as a share needs that would otherwise be rounded to 100."""
    digits = next((digits for digits in range(1, 13) if share >= 1 or round(100 * share, digits) < 100), 13)
    return f"{100 * share:.{digits}f}"


def confidence(probability: float) -> str:
    """Returns a confidence level in per cent.

    Examples:
        >>> confidence(0.95), confidence(0.995)
        ('95 %', '99.5 %')
    """
    return f"{100 * probability:g} %"


def score(value: float | None, decimals: int = 4) -> str:
    """Returns a score or a threshold; a value near 0 gets more decimals, so that two digits are visible.

    Examples:
        >>> score(0.29541), score(0.29541, 3), score(0.0000123), score(None)
        ('0.2954', '0.295', '0.000012', '–')
    """
    if value is None or not isfinite(value):
        return _NONE
    return f"{value:.{max(decimals, 1 - floor(log10(abs(value)))) if value else decimals}f}"


def likeness(value: float | None) -> str:
    """Returns a likeness, rounded down: a value below the limit is never shown as equal to it.

    Examples:
        >>> likeness(0.89996), likeness(0.9), likeness(None)
        ('0.899', '0.900', '–')
    """
    if value is None or not isfinite(value):
        return _NONE
    return f"{Decimal(str(value)).quantize(Decimal('0.001'), ROUND_FLOOR):f}"


def signed(share: float | None) -> str:
    """Returns a change in per cent, with its sign.

    Examples:
        >>> signed(-0.142), signed(0.013), signed(0.0)
        ('−14.2', '+1.3', '0.0')
    """
    if share is None or not isfinite(share):
        return _NONE
    text = f"{100 * share:+.1f}"
    return "0.0" if float(text) == 0 else text.replace("-", _MINUS)


def shift(change: float | None, low: float | None, high: float | None) -> str:
    """Returns a change in per cent with its interval.

    Examples:
        >>> shift(-0.142, -0.15, -0.133)
        '−14.2 % [−15.0, −13.3]'
        >>> shift(0.0, None, None)
        '0.0 %'
    """
    if change is None or not isfinite(change):
        return _NONE
    known = low is not None and high is not None and isfinite(low) and isfinite(high)
    return f"{signed(change)} % [{signed(low)}, {signed(high)}]" if known else f"{signed(change)} %"


def chance(share: float | None) -> str:
    """Returns a probability, or `< 0.001` for a smaller one.

    Examples:
        >>> chance(0.0314), chance(1e-9), chance(None)
        ('0.031', '< 0.001', '–')
    """
    if share is None or not isfinite(share):
        return _NONE
    return "< 0.001" if share < 0.001 else f"{share:.3f}"


def plural(count: int, one: str, many: str | None = None) -> str:
    """Returns a count with its noun in the singular or plural.

    Examples:
        >>> plural(1, "duplicate"), plural(1200, "duplicate")
        ('1 duplicate', '1,200 duplicates')
    """
    return f"{count:,} {one if count == 1 else many or one + 's'}"


def in_bytes(count: int) -> str:
    """Returns a number of bytes with a unit.

    Examples:
        >>> in_bytes(0), in_bytes(999), in_bytes(12_345), in_bytes(5_000_000_000)
        ('0 bytes', '999 bytes', '12.3 kB', '5 GB')
    """
    size, unit = float(count), 0
    while size >= 1000 and unit < len(_UNITS) - 1:
        size, unit = size / 1000, unit + 1
    return f"{number(size)} {_UNITS[unit]}"


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """Returns the question that ends an error about an unknown name; empty if no known name is like it.

    A name with the same last part comes first: a wrong section is more likely than a wrong name.

    Args:
        word: The unknown name; its parts are separated by dots.
        known: The names that exist.

    Examples:
        >>> did_you_mean("dedupe.recall", ["dedup", "dedup.recall", "weigh.folds"])
        ': did you mean dedup.recall?'
        >>> did_you_mean("NSFW", ["nsfw"]), did_you_mean("cars", ["nsfw"])
        (': did you mean nsfw?', '')
    """
    if len(word) > _LONGEST_NAME:
        return ""
    names = {name.lower(): name for name in known}
    own = word.lower()
    same_end = [name for name in names if name.rpartition(".")[2] == own.rpartition(".")[2]]
    found = get_close_matches(own, same_end, 1, 0) or get_close_matches(own, names, 1)
    return f": did you mean {names[found[0]]}?" if found else ""
