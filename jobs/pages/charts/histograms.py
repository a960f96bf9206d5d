"""Histograms of scores, distances and weights; shares by distance."""

from collections.abc import Sequence
from dataclasses import dataclass
from math import ceil, floor, isfinite, log2, log10

from markupsafe import Markup
from pyspark.sql import Row

from jobs.facts.categories import ScoreBin
from jobs.facts.pairs.precision import PairShare
from jobs.facts.regurgitated import Nearest
from jobs.facts.weights import WeightBin
from jobs.pages.charts.svg import GRID, X_LABEL, Y_LABEL, joined, short, titles
from jobs.runtime.wording import measured, number, plural, score

_BAR = Markup(
    '<rect class="{kind}" x="{x:.3f}%" width="{width:.3f}%" y="{y:.2f}%" height="{height:.2f}%">'
    "<title>{title}</title></rect>"
)
_MARK = Markup(
    '<line class="mark" x1="{x:.2f}%" x2="{x:.2f}%" y1="-24" y2="100%"/>'
    '<text class="mark-label" x="{x:.2f}%" y="-30" text-anchor="{anchor}">{text}</text>'
)
_HISTOGRAM = Markup(
    '<svg class="chart" role="img" aria-label="{label}" height="190">{grid}{bars}'
    '<line class="axis" x1="0" x2="100%" y1="100%" y2="100%"/>{ticks}{titles}{marks}</svg>'
)
_SHARES = Markup(
    '<svg class="chart" role="img" aria-label="Share of copies by distance" height="190">{grid}'
    '<line class="axis" x1="0" x2="100%" y1="100%" y2="100%"/>{ticks}{titles}{marks}{points}</svg>'
)
_SHARE = Markup(
    '<g class="{kind}"><title>{title}</title><line x1="{x:.2f}%" x2="{x:.2f}%" y1="{low:.2f}%" y2="{high:.2f}%"/>'
    '<circle cx="{x:.2f}%" cy="{y:.2f}%" r="4.5"/></g>'
)


@dataclass(frozen=True)
class Bar:
    """One bar: its left and right edge in [0, 1] of the width, its count, its CSS class and its tooltip."""

    left: float
    right: float
    count: int
    kind: str
    title: str


@dataclass(frozen=True)
class Axis:
    """The axes of a histogram.

    Attributes:
        label: Description of the chart for screen readers.
        across: Title of the horizontal axis, with its unit.
        up: Title of the vertical axis.
        ticks: Position in [0, 1] and text along the horizontal axis.
        marks: Position in [0, 1] and text of the vertical lines.
        logarithmic: Whether heights are the logarithms of the counts.
    """

    label: str
    across: str
    up: str
    ticks: Sequence[tuple[float, str]]
    marks: Sequence[tuple[float, str]] = ()
    logarithmic: bool = False


def histogram(bars: Sequence[Bar], axis: Axis) -> Markup:
    """Returns a bar chart as inline SVG.

    Args:
        bars: In drawing order; later bars cover earlier ones.
        axis: Its ticks, lines and scale.

    Examples:
        >>> svg = histogram([Bar(0.0, 0.5, 3, "kept", "<b>")], Axis("three", "size", "images", [(0.0, "0")]))
        >>> "<b>" in svg, "&lt;b&gt;" in svg
        (False, True)
    """
    most = max((bar.count for bar in bars), default=1)
    levels = _powers(most) if axis.logarithmic else _round_steps(most)

    def height(count: int) -> float:
        if axis.logarithmic:
            return log10(1 + count) / log10(1 + max(most, levels[-1]))
        return count / max(most, levels[-1])

    grid = [GRID.format(y=y) + Y_LABEL.format(y=y, text=short(n)) for n in levels for y in [100 * (1 - height(n))]]
    return _HISTOGRAM.format(
        label=axis.label,
        grid=joined(grid),
        bars=joined([_bar(bar, height(bar.count)) for bar in bars if bar.count]),
        ticks=joined([X_LABEL.format(x=100 * x, text=text) for x, text in axis.ticks]),
        titles=titles(axis.across, axis.up),
        marks=joined([_MARK.format(x=100 * x, anchor=_anchor(x), text=text) for x, text in axis.marks]),
    )


def score_histogram(bins: Sequence[ScoreBin], threshold: float | None, decimals: int = 4) -> Markup:
    """Returns the histogram of one category's scores, kept and removed, on a logarithmic axis of counts.

    Args:
        bins: From the lowest score to the highest.
        threshold: Drawn as a line; None for no line.
        decimals: Of the threshold in the label of the line.
    """
    bars = []
    for one in bins:
        span = f"score {one.low:.2f} to {one.high:.2f}"
        pair = [
            Bar(one.low, one.high, one.kept, "kept", f"{span}: {one.kept:,} kept"),
            Bar(one.low, one.high, one.dropped, "dropped", f"{span}: {one.dropped:,} removed"),
        ]
        # If the threshold cuts a bin, its two bars overlap: draw the shorter one last, so that both are visible.
        bars += sorted(pair, key=lambda bar: -bar.count)
    ticks = [(x / 5, f"{x / 5:g}") for x in range(6)]
    marks = []
    if threshold is not None and isfinite(threshold):
        marks.append((threshold, f"threshold {score(threshold, decimals)}"))
    return histogram(bars, Axis("Histogram of scores", "score", "images (log)", ticks, marks, logarithmic=True))


def distance_histogram(counts: Sequence[tuple[int, int]], max_distance: int) -> Markup:
    """Returns the histogram of the found pairs by Hamming distance in bits."""
    width = max([max_distance, *[distance for distance, _ in counts]]) + 1
    bars = [
        Bar((d + 0.08) / width, (d + 0.92) / width, n, "pairs", f"{d} bits: {n:,} pair{'s' if n != 1 else ''}")
        for d, n in counts
    ]
    return histogram(bars, Axis("Histogram of distances", "bits of 256 that differ", "pairs", _bits(width)))


def sampled_histogram(sampled: Sequence[Row], max_distance: int) -> Markup:
    """Returns the histogram of the pairs of sampled hashes by distance: all pairs, and those that the search found."""
    width = max([max_distance, *[row.distance for row in sampled]]) + 1
    bars = []
    for row in sampled:
        left, right = (row.distance + 0.08) / width, (row.distance + 0.92) / width
        said = f"{row.distance} bits: {row.found_pairs:,} of {row.exhaustive_pairs:,} pairs found"
        bars += [
            Bar(left, right, row.exhaustive_pairs, "dropped", said),
            Bar(left, right, row.found_pairs, "pairs", said),
        ]
    marks = [((max_distance + 1) / width, f"at most {max_distance}")]
    axis = Axis("Histogram of distances", "bits of 256 that differ", "pairs (log)", _bits(width), marks, True)
    return histogram(bars, axis)


def precision_chart(shares: Sequence[PairShare], safe: int | None, most: int) -> Markup:
    """Returns the chart of the share of pairs that people call the same image, by distance, with exact intervals.

    Args:
        shares: The answers, by distance.
        safe: Largest distance at which a pair counts without a look; None if all count so.
        most: Largest distance of a pair.
    """
    width = max([most, *[share.high for share in shares]]) + 1
    levels = [step / 4 for step in range(5)]
    grid = [GRID.format(y=100 * y) + Y_LABEL.format(y=100 * y, text=f"{100 - 100 * y:g} %") for y in levels]
    points = []
    for one in shares:
        share, low, high = one.measured
        if isfinite(share):
            said = f"{one.low} to {one.high} bits: {measured(share, low, high)} of {plural(one.firm, 'pair')}"
            x = 100 * ((one.low + one.high) / 2 + 0.5) / width
            kind = "after" if one.high <= most else "before"
            place = {"x": x, "y": 100 - 100 * share, "low": 100 - 100 * low, "high": 100 - 100 * high}
            points.append(_SHARE.format(kind=kind, title=said, **place))
    ends = [
        (most, "start" if most < 0.6 * width else "end", f"at most {most}"),
        *([(safe, "end", f"by thumbnail from {safe + 1}")] if safe is not None and safe < most else []),
    ]
    return _SHARES.format(
        grid=joined(grid),
        ticks=joined([X_LABEL.format(x=100 * x, text=text) for x, text in _bits(width)]),
        titles=titles("bits of 256 that differ", "same image"),
        marks=joined([_MARK.format(x=100 * (at + 1) / width, anchor=anchor, text=text) for at, anchor, text in ends]),
        points=joined(points),
    )


def nearest_histogram(nearest: Sequence[Nearest], max_distance: int | None) -> Markup:
    """Returns the histogram of generated images by distance of the nearest image of the lake: copies and others."""
    width = max([max_distance or 0, *[one.distance for one in nearest]]) + 1
    bars = []
    for one in nearest:
        left, right = (one.distance + 0.08) / width, (one.distance + 0.92) / width
        pair = [
            Bar(left, right, one.others, "kept", f"{one.distance} bits: {one.others:,} not copies"),
            Bar(left, right, one.copies, "dropped", f"{one.distance} bits: {one.copies:,} copies"),
        ]
        # The two bars of a distance overlap: draw the shorter one last, so that both are visible.
        bars += sorted(pair, key=lambda bar: -bar.count)
    marks = [((max_distance + 1) / width, f"at most {max_distance}")] if max_distance is not None else []
    axis = Axis(
        "Histogram of distances", "bits of 256 that differ", "generated images (log)", _bits(width), marks, True
    )
    return histogram(bars, axis)


def weight_histogram(bins: Sequence[WeightBin], max_weight: float | None) -> Markup:
    """Returns the histogram of the weights on a logarithmic axis, with marks at the mean and the largest weight."""
    low = min(-1, floor(log2(bins[0].low)) if bins else -1)
    high = max(1, ceil(log2(bins[-1].high)) if bins else 1)

    def place(weight: float) -> float:
        return (log2(weight) - low) / (high - low)

    bars = [
        Bar(place(b.low), place(b.high), b.count, "kept", f"weight {b.low:.2f} to {b.high:.2f}: {b.count:,} images")
        for b in bins
    ]
    step = max(1, ceil((high - low) / 10))
    ticks = [(place(2.0**power), _power_of_two(power)) for power in range(low, high + 1, step)]
    marks = [(place(1.0), "mean 1")]
    if max_weight and 1.3 < max_weight < 2.0**high:
        marks.append((place(max_weight), f"largest {number(max_weight)}"))
    return histogram(bars, Axis("Histogram of weights", "weight (log)", "images", ticks, marks))


def _bar(bar: Bar, height: float) -> Markup:
    place = {"x": 100 * bar.left, "width": 100 * (bar.right - bar.left)}
    # One image among millions must still be visible.
    tall = max(100 * height, 0.8)
    return _BAR.format(kind=bar.kind, y=100 - tall, height=tall, title=bar.title, **place)


def _bits(width: int) -> list[tuple[float, str]]:
    """Ticks of an axis for the distances from 0 to `width` - 1 bits."""
    step = next(step for step in (1, 2, 5, 10, 20, 50) if width / step <= 8)
    return [((d + 0.5) / width, str(d)) for d in range(0, width, step)]


def _powers(most: int) -> list[int]:
    powers = [10**p for p in range(ceil(log10(max(most, 1))) + 1)]
    return powers if len(powers) <= 5 else powers[:: ceil(len(powers) / 5)]


def _round_steps(most: int) -> list[int]:
    step = next(s for p in range(19) for s in (10**p, 2 * 10**p, 5 * 10**p) if s * 4 >= most)
    return [step * i for i in range(1, ceil(most / step) + 1)]


def _power_of_two(power: int) -> str:
    return str(2**power) if power >= 0 else f"1/{2**-power}"


def _anchor(x: float) -> str:
    return "start" if x < 0.15 else "end" if x > 0.85 else "middle"
