"""How numbers are written wherever a person reads them."""

from decimal import ROUND_CEILING, ROUND_FLOOR, Decimal
from math import isfinite

_MINUS = "−"
_NONE = "–"


def number(value: float | None) -> str:
    """A count or a small figure, with separators of thousands.

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
    """A share in per cent.

    Examples:
        >>> percent(0.1234), percent(None)
        ('12.3 %', '–')
    """
    return _NONE if share is None or not isfinite(share) else f"{100 * share:.{digits}f} %".replace("-", _MINUS)


def rounded_up(share: float | None) -> str:
    """An upper bound in per cent, rounded so that it still holds, to two digits of it or of what it lacks to 100 %.

    Examples:
        >>> rounded_up(0.2144), rounded_up(0.0000428), rounded_up(0.9952), rounded_up(1.0), rounded_up(None)
        ('22 %', '0.0043 %', '99.52 %', '100 %', '–')
    """
    return _bound(share, ROUND_CEILING)


def rounded_down(share: float | None) -> str:
    """A lower bound in per cent, rounded so that it still holds, to two digits of it or of what it lacks to 100 %.

    Examples:
        >>> rounded_down(0.953), rounded_down(0.99959), rounded_down(0.349), rounded_down(0.0), rounded_down(None)
        ('95.3 %', '99.959 %', '34 %', '0 %', '–')
    """
    return _bound(share, ROUND_FLOOR)


def _bound(share: float | None, rounding: str) -> str:
    if share is None or not isfinite(share):
        return _NONE
    exact = 100 * Decimal(str(share))
    least = min(exact, 100 - exact)
    digits = max(0, 1 - least.adjusted()) if least else 0
    return f"{exact.quantize(Decimal(1).scaleb(-digits), rounding):f} %"


def signed(share: float | None) -> str:
    """A change in per cent, with its sign.

    Examples:
        >>> signed(-0.142), signed(0.013), signed(0.0)
        ('−14.2', '+1.3', '0.0')
    """
    if share is None or not isfinite(share):
        return _NONE
    text = f"{100 * share:+.1f}"
    return "0.0" if float(text) == 0 else text.replace("-", _MINUS)


def shift(change: float | None, low: float | None, high: float | None) -> str:
    """A change with its interval.

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
    """How likely chance explains a find.

    Examples:
        >>> chance(0.0314), chance(1e-9), chance(None)
        ('0.031', '< 0.001', '–')
    """
    if share is None or not isfinite(share):
        return _NONE
    return "< 0.001" if share < 0.001 else f"{share:.3f}"


def plural(count: int, one: str, many: str | None = None) -> str:
    """A count with its noun.

    Examples:
        >>> plural(1, "duplicate"), plural(1200, "duplicate")
        ('1 duplicate', '1,200 duplicates')
    """
    return f"{count:,} {one if count == 1 else many or one + 's'}"
