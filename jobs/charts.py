"""Small charts as inline SVG: no library in the page, colours by CSS class, sharp and readable at every width.

Positions are per cent of the drawing's width and height and text keeps its own size, so that a chart fits a telephone
and a sheet of paper without being scaled. Every value that is drawn passes through `Markup.format`, which escapes it.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import ceil, floor, isfinite, log2, log10

from markupsafe import Markup
from pyspark.sql import Row

from jobs.report_facts import ScoreBin, WeightBin
from jobs.report_words import number, shift, signed

_ROW_PX = 30
_LABEL_CHARACTERS = 14
_GRID = Markup('<line class="grid" x1="0" x2="100%" y1="{y:.2f}%" y2="{y:.2f}%"/>')
_Y_LABEL = Markup('<text class="tick" x="-8" y="{y:.2f}%" dy="0.32em" text-anchor="end">{text}</text>')
_X_LABEL = Markup('<text class="tick" x="{x:.2f}%" y="100%" dy="18" text-anchor="middle">{text}</text>')
_BAR = Markup(
    '<rect class="{kind}" x="{x:.3f}%" width="{width:.3f}%" y="{y:.2f}%" height="{height:.2f}%">'
    "<title>{title}</title></rect>"
)
_MARK = Markup(
    '<line class="mark" x1="{x:.2f}%" x2="{x:.2f}%" y1="-6" y2="100%"/>'
    '<text class="mark-label" x="{x:.2f}%" y="-12" text-anchor="{anchor}">{text}</text>'
)
_HISTOGRAM = Markup(
    '<svg class="chart" role="img" aria-label="{label}" height="190">{grid}{bars}'
    '<line class="axis" x1="0" x2="100%" y1="100%" y2="100%"/>{ticks}{marks}</svg>'
)


@dataclass(frozen=True)
class Bar:
    """One bar: left and right edge in [0, 1] of the width, how much, its CSS class and what it says when pointed at."""

    left: float
    right: float
    count: int
    kind: str
    title: str


@dataclass(frozen=True)
class Axis:
    """How a histogram is read.

    Attributes:
        label: What the chart shows, for those who do not see it.
        ticks: Position in [0, 1] and text along the horizontal axis.
        marks: Position in [0, 1] and text of the vertical lines.
        logarithmic: Whether heights are the logarithms of the counts.
    """

    label: str
    ticks: Sequence[tuple[float, str]]
    marks: Sequence[tuple[float, str]] = ()
    logarithmic: bool = False


def histogram(bars: Sequence[Bar], axis: Axis) -> Markup:
    """Bars over one axis.

    Args:
        bars: In the order in which they are drawn, later ones on top.
        axis: Its ticks, lines and scale.

    Examples:
        >>> svg = histogram([Bar(0.0, 0.5, 3, "kept", "<b>")], Axis("three", [(0.0, "0")]))
        >>> "<b>" in svg, "&lt;b&gt;" in svg
        (False, True)
    """
    most = max((bar.count for bar in bars), default=1)
    levels = _powers(most) if axis.logarithmic else _round_steps(most)

    def height(count: int) -> float:
        if axis.logarithmic:
            return log10(1 + count) / log10(1 + max(most, levels[-1]))
        return count / max(most, levels[-1])

    grid = [_GRID.format(y=y) + _Y_LABEL.format(y=y, text=short(n)) for n in levels for y in [100 * (1 - height(n))]]
    return _HISTOGRAM.format(
        label=axis.label,
        grid=_joined(grid),
        bars=_joined([_bar(bar, height(bar.count)) for bar in bars if bar.count]),
        ticks=_joined([_X_LABEL.format(x=100 * x, text=text) for x, text in axis.ticks]),
        marks=_joined([_MARK.format(x=100 * x, anchor=_anchor(x), text=text) for x, text in axis.marks]),
    )


def score_histogram(bins: Sequence[ScoreBin], threshold: float | None) -> Markup:
    """Scores of one category, on logarithmic counts: kept below the threshold line, dropped above it."""
    bars = []
    for one in bins:
        span = f"score {one.low:.2f} to {one.high:.2f}"
        pair = [
            Bar(one.low, one.high, one.kept, "kept", f"{span}: {one.kept:,} kept"),
            Bar(one.low, one.high, one.dropped, "dropped", f"{span}: {one.dropped:,} dropped"),
        ]
        # Both stand in one place only where the threshold cuts a bin: the lower one in front, so that both are seen.
        bars += sorted(pair, key=lambda bar: -bar.count)
    ticks = [(x / 5, f"{x / 5:g}") for x in range(6)]
    marks = [(threshold, f"threshold {number(threshold)}")] if threshold is not None and isfinite(threshold) else []
    return histogram(bars, Axis("Histogram of scores, logarithmic counts", ticks, marks, logarithmic=True))


def distance_histogram(counts: Sequence[tuple[int, int]], max_distance: int) -> Markup:
    """Pairs of duplicates by their Hamming distance in bits."""
    width = max([max_distance, *[distance for distance, _ in counts]]) + 1
    bars = [
        Bar((d + 0.08) / width, (d + 0.92) / width, n, "pairs", f"{d} bits: {n:,} pair{'s' if n != 1 else ''}")
        for d, n in counts
    ]
    step = next(step for step in (1, 2, 5, 10, 20, 50) if width / step <= 8)
    ticks = [((d + 0.5) / width, str(d)) for d in range(0, width, step)]
    return histogram(bars, Axis("Histogram of distances between duplicates, in bits", ticks))


def weight_histogram(bins: Sequence[WeightBin], max_weight: float | None) -> Markup:
    """Weights of the kept set, on a logarithmic axis with 1 and the clip marked."""
    low = min(-1, floor(log2(bins[0].low)) if bins else -1)
    high = max(1, ceil(log2(bins[-1].high)) if bins else 1)

    def place(weight: float) -> float:
        return (log2(weight) - low) / (high - low)

    bars = [
        Bar(place(b.low), place(b.high), b.count, "kept", f"weight {b.low:.2f} to {b.high:.2f}: {b.count:,} pictures")
        for b in bins
    ]
    step = max(1, ceil((high - low) / 10))
    ticks = [(place(2.0**power), _power_of_two(power)) for power in range(low, high + 1, step)]
    marks = [(place(1.0), "mean 1")]
    if max_weight and 1.3 < max_weight < 2.0**high:
        marks.append((place(max_weight), f"largest {number(max_weight)}"))
    return histogram(bars, Axis("Histogram of weights, logarithmic axis", ticks, marks))


_SHIFTS = Markup('<svg class="chart shifts" role="img" aria-label="{label}" height="{height}">{grid}{rows}</svg>')
_V_LINE = Markup('<line class="{kind}" x1="{x:.2f}%" x2="{x:.2f}%" y1="0" y2="100%"/>')
_KEYWORD = Markup(
    '<text class="keyword" x="-12" y="{y}" dy="0.34em" text-anchor="end">{text}<title>{full}</title></text>'
)
_WHISKER = Markup(
    '<g class="{kind}"><title>{title}</title><line x1="{low:.2f}%" x2="{high:.2f}%" y1="{y}" y2="{y}"/>'
    '<circle cx="{at:.2f}%" cy="{y}" r="4.5"/></g>'
)


def shift_chart(keywords: Sequence[Row]) -> Markup:
    """Keyword shifts with their intervals: before weighing (rings) and after it (dots), one row for each keyword."""
    values = [v for row in keywords for v in (row.shift_low, row.shift_high, row.weighted_low, row.weighted_high, 0.0)]
    known = [v for v in values if v is not None and isfinite(v)]
    step = _share_step(max(known) - min(known))
    low, high = floor(min(known) / step) * step, ceil(max(known) / step) * step
    high = high if high > low else low + step
    count = round((high - low) / step)
    ticks = [low + step * i for i in range(count + 1)]

    def place(value: float) -> float:
        return 100 * (value - low) / (high - low)

    grid = [_V_LINE.format(kind="zero" if abs(t) < step / 2 else "grid", x=place(t)) for t in ticks]
    labels = [_X_LABEL.format(x=place(t), text=f"{signed(t).removesuffix('.0')} %") for t in ticks]
    rows = [_shift_row(row, _ROW_PX * i + _ROW_PX // 2, place) for i, row in enumerate(keywords)]
    label = "Change of keyword shares, before and after weighing, with intervals"
    return _SHIFTS.format(label=label, height=_ROW_PX * len(rows), grid=_joined([*grid, *labels]), rows=_joined(rows))


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
    return _joined(parts)


def short(count: int) -> str:
    """A count for an axis.

    Examples:
        >>> short(100), short(2_000), short(1_500_000)
        ('100', '2k', '1.5M')
    """
    for size, letter in ((1_000_000_000, "G"), (1_000_000, "M"), (1_000, "k")):
        if count >= size:
            return f"{count / size:g}{letter}"
    return str(count)


def _bar(bar: Bar, height: float) -> Markup:
    place = {"x": 100 * bar.left, "width": 100 * (bar.right - bar.left)}
    # One picture among millions must still be seen.
    tall = max(100 * height, 0.8)
    return _BAR.format(kind=bar.kind, y=100 - tall, height=tall, title=bar.title, **place)


def _powers(most: int) -> list[int]:
    powers = [10**p for p in range(ceil(log10(max(most, 1))) + 1)]
    return powers if len(powers) <= 5 else powers[:: ceil(len(powers) / 5)]


def _round_steps(most: int) -> list[int]:
    step = next(s for p in range(19) for s in (10**p, 2 * 10**p, 5 * 10**p) if s * 4 >= most)
    return [step * i for i in range(1, ceil(most / step) + 1)]


def _share_step(span: float) -> float:
    return next((s for s in (0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5) if span / s <= 6), max(1.0, ceil(span / 6)))


def _power_of_two(power: int) -> str:
    return str(2**power) if power >= 0 else f"1/{2**-power}"


def _anchor(x: float) -> str:
    return "start" if x < 0.15 else "end" if x > 0.85 else "middle"


def _clipped(text: str) -> str:
    return text if len(text) <= _LABEL_CHARACTERS else text[: _LABEL_CHARACTERS - 1] + "…"


def _joined(parts: Sequence[Markup]) -> Markup:
    return Markup("").join(parts)
