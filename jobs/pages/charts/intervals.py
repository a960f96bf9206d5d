"""Charts of points with intervals: keyword shifts, the reliability of the probe."""

from collections.abc import Callable, Sequence
from math import ceil, floor, isfinite

from markupsafe import Markup
from pyspark.sql import Row

from jobs.facts.weights import Reliability
from jobs.pages.charts.svg import GRID, X_LABEL, Y_LABEL, joined, share_step, titles
from jobs.runtime.wording import percent, shift, signed

_ROW_PX = 30
_LABEL_CHARACTERS = 14
_SHIFTS = Markup('<svg class="chart shifts" role="img" aria-label="{label}" height="{height}">{grid}{rows}</svg>')
_V_LINE = Markup('<line class="{kind}" x1="{x:.2f}%" x2="{x:.2f}%" y1="0" y2="100%"/>')
_KEYWORD = Markup(
    '<text class="keyword" x="-12" y="{y}" dy="0.34em" text-anchor="end">{text}<title>{full}</title></text>'
)
_WHISKER = Markup(
    '<g class="{kind}"><title>{title}</title><line x1="{low:.2f}%" x2="{high:.2f}%" y1="{y}" y2="{y}"/>'
    '<circle cx="{at:.2f}%" cy="{y}" r="4.5"/></g>'
)
_CURVE = Markup(
    '<svg class="chart curve" role="img" aria-label="Reliability curve of the probe" height="260">{grid}'
    '<line class="ideal" x1="0" y1="100%" x2="100%" y2="0"/>'
    '<line class="axis" x1="0" x2="100%" y1="100%" y2="100%"/>{ticks}{titles}{points}</svg>'
)
_POINT = Markup(
    '<g class="after"><title>{title}</title><line x1="{x:.2f}%" x2="{x:.2f}%" y1="{low:.2f}%" y2="{high:.2f}%"/>'
    '<circle cx="{x:.2f}%" cy="{y:.2f}%" r="4.5"/></g>'
)


def shift_chart(keywords: Sequence[Row]) -> Markup:
    """Returns the chart of keyword shifts: before weighing (rings) and after it (dots), one row per keyword."""
    values = [v for row in keywords for v in (row.shift_low, row.shift_high, row.weighted_low, row.weighted_high, 0.0)]
    known = [v for v in values if v is not None and isfinite(v)]
    step = share_step(max(known) - min(known))
    low, high = floor(min(known) / step) * step, ceil(max(known) / step) * step
    high = high if high > low else low + step
    count = round((high - low) / step)
    ticks = [low + step * i for i in range(count + 1)]

    def place(value: float) -> float:
        return 100 * (value - low) / (high - low)

    grid = [_V_LINE.format(kind="zero" if abs(t) < step / 2 else "grid", x=place(t)) for t in ticks]
    labels = [X_LABEL.format(x=place(t), text=f"{signed(t).removesuffix('.0')} %") for t in ticks]
    rows = [_shift_row(row, _ROW_PX * i + _ROW_PX // 2, place) for i, row in enumerate(keywords)]
    label = "Change of keyword shares, before and after weighing, with intervals"
    return _SHIFTS.format(label=label, height=_ROW_PX * len(rows), grid=joined([*grid, *labels]), rows=joined(rows))


def reliability_curve(bins: Sequence[Reliability]) -> Markup:
    """Returns the chart of the observed unfiltered share against the predicted one, with intervals."""
    ends = [end for one in bins for end in (one.predicted, *one.interval)]
    step = share_step(max(ends) - min(ends))
    low, high = floor(min(ends) / step) * step, ceil(max(ends) / step) * step
    high = high if high > low else low + step
    levels = [low + step * i for i in range(round((high - low) / step) + 1)]

    def place(value: float) -> float:
        return 100 * (value - low) / (high - low)

    names = [f"{100 * level:.3g} %" for level in levels]
    grid = [GRID.format(y=100 - place(level)) for level in levels]
    grid += [Y_LABEL.format(y=100 - place(v), text=name) for v, name in zip(levels, names, strict=True)]
    ticks = [X_LABEL.format(x=place(v), text=name) for v, name in zip(levels, names, strict=True)]
    points = [
        _POINT.format(
            x=place(one.predicted), y=100 - place(one.observed),
            low=100 - place(one.interval[0]), high=100 - place(one.interval[1]),
            title=f"predicted {percent(one.predicted)}, observed {percent(one.observed)} of {one.images:,} images",
        )
        for one in bins
    ]  # fmt: skip
    named = titles("predicted", "observed")
    return _CURVE.format(grid=joined(grid), ticks=joined(ticks), titles=named, points=joined(points))


def _shift_row(row: Row, y: int, place: Callable[[float], float]) -> Markup:
    parts = [_KEYWORD.format(y=y, text=_clipped(row.keyword), full=row.keyword)]
    for kind, offset, change, low, high in (
        ("before", -4, row.shift, row.shift_low, row.shift_high),
        ("after", 5, row.weighted_shift, row.weighted_low, row.weighted_high),
    ):
        if change is None or low is None or high is None:
            continue
        title = f"{row.keyword}: {shift(change, low, high)}"
        where = {"low": place(low), "at": place(change), "high": place(high)}
        parts.append(_WHISKER.format(kind=kind, title=title, y=y + offset, **where))
    return joined(parts)


def _clipped(text: str) -> str:
    return text if len(text) <= _LABEL_CHARACTERS else text[: _LABEL_CHARACTERS - 1] + "…"
