"""Numbers and findings in words, as the report says them."""

from collections.abc import Sequence
from math import isfinite

from pyspark.sql import Row

from jobs.facts.categories import Category
from jobs.facts.duplicates import Duplicates
from jobs.facts.funnel import Funnel
from jobs.facts.regurgitated import Regurgitation, Trials
from jobs.facts.weights import Reach, Weights
from jobs.runtime.wording import number, percent, plural, rounded_down, rounded_up, shift

NOTABLE = 6
DOUBT = 0.05


def verdict(funnel: Funnel | None) -> str:
    """What became of the pictures, in one sentence."""
    if funnel is None:
        return "This lake holds no pictures yet: `winnow ingest` reads some."
    parts = [
        f"{count:,} {what}"
        for count, what in (
            (funnel.filtered, "filtered"),
            (funnel.duplicates, "duplicates" if funnel.duplicates != 1 else "duplicate"),
            (funnel.repeats, "repeats" if funnel.repeats != 1 else "repeat"),
            (funnel.quarantined, "quarantined"),
        )
        if count
    ]
    lost = f": {', '.join(parts)}" if parts else ""
    return f"Of {plural(funnel.rows_read, 'picture')} read, {funnel.kept:,} {_are(funnel.kept)} kept{lost}."


def nothing_kept(funnel: Funnel | None) -> str:
    """Why no picture is kept, and what to do, in one sentence; empty where some are, or where nothing was read.

    Args:
        funnel: What came in and what became of it.
    """
    if funnel is None or funnel.kept:
        return ""
    if not funnel.images:
        return "No picture could be read, so there is none to work on: `winnow run SOURCE` with others reads more."
    return (
        f"The filter removed every picture ({funnel.images:,}), so nothing is kept: change filter.rules "
        "or lower the recall of a category, then run `winnow filter`, `winnow dedup` and `winnow weigh`."
    )


def without_category(funnel: Funnel | None) -> str:
    """What the filter does where no category is set, in one sentence."""
    none = "No category of pictures to filter out is set"
    how = "Describe one in the settings as `[categories.NAME]`, then `winnow run` fills this section."
    if funnel is None or not funnel.filtered:
        return f"{none}{'' if funnel and not funnel.images else ', so that every picture is kept'}. {how}"
    by = ", ".join(f"{name} {number(count)}" for name, count in funnel.filtered_by.items())
    return f"{none}; {plural(funnel.filtered, 'picture is', 'pictures are')} filtered by other reasons: {by}. {how}"


def recall_bound(category: Category) -> str:
    """What the threshold of a category promises, in one sentence."""
    limit = category.threshold
    if limit is None:
        return "No threshold is set yet, so that nothing is dropped: `winnow calibrate` sets it."
    tried = f"of {plural(limit.positives, 'random positive')} the threshold misses {number(limit.missed)}"
    cost = f"of {plural(limit.negatives, 'random negative')} it drops {number(limit.dropped_negatives)}"
    if limit.recall_lower is None or not isfinite(limit.recall_lower):
        return f"There are too few random labels for a bound on recall: {tried}; {cost}."
    caught = f"at least {rounded_down(limit.recall_lower)} of the pictures of this category are caught"
    return f"With {percent(limit.confidence, 0)} confidence, {caught}: {tried}; {cost}."


def cost(category: Category) -> str:
    """What escapes and what is dropped in error, as `calibrate` found; empty where it did not say."""
    parts = []
    if category.escaped:
        parts.append(f"At most {category.escaped.replace('%', ' %')} are of this category and yet kept.")
    if category.precision:
        parts.append(f"Of what is dropped, about {category.precision.replace('%', ' %')} is of this category.")
    return " ".join(parts)


def search_recall(duplicates: Duplicates) -> str:
    """How good the search for duplicates was, in one sentence."""
    quality = duplicates.quality
    if quality is not None and quality.distinct_hashes == 0:
        return "No picture has a hash that can be compared, so the search has no recall."
    if quality is None or not quality.sampled:
        return "The recall of the search was not measured (dedup.sample is 0)."
    against = f"an exhaustive search for {plural(quality.sampled, 'sampled picture')}"
    if not quality.exhaustive_pairs:
        return f"Even {against} found no other hash within {quality.max_distance} bits."
    interval = f"[{100 * quality.recall_low:.1f}, {100 * quality.recall_high:.1f}]"
    found = f"{quality.found_pairs:,} of {plural(quality.exhaustive_pairs, 'pair')} that {against} found"
    left = (
        "" if quality.both_kept is None else f" Both pictures are kept of {plural(quality.both_kept, 'pair')} of these."
    )
    return f"The search found {found}: a recall of {percent(quality.recall)} {interval}.{left}"


def search(quality: Row) -> str:
    """How pairs were searched, in a few words."""
    parts = []
    if quality.bands:
        parts.append(f"{number(quality.bands)} bands of {number(quality.band_rows)} rows")
    if quality.clusterings:
        parts.append(f"{number(quality.clusterings)} clusterings of {number(quality.clusters)} clusters")
    return " and ".join(parts)


def weights_worth(weights: Weights) -> str:
    """What the weights cost and cannot do, in one or two sentences."""
    quality = weights.quality
    if quality is None or not quality.kept:
        return ""
    if quality.probe_auc is None:
        return f"{no_probe(quality)} {reach(weights.reach)}" if weights.reach else no_probe(quality)
    share = quality.effective_sample_size / quality.kept
    clipped = f"{plural(quality.clipped, 'weight was', 'weights were')} clipped"
    worth = f"The weighted set is worth {quality.effective_sample_size:,.0f} of its {quality.kept:,} pictures"
    text = f"{worth} ({percent(share, 0)}); {clipped}."
    return f"{text} {reach(weights.reach)}" if weights.reach else text


def no_probe(quality: Row) -> str:
    """Why all kept pictures weigh the same, in one sentence.

    Args:
        quality: A row of weight_quality that knows no area under the curve of a probe.

    Examples:
        >>> from types import SimpleNamespace
        >>> no_probe(SimpleNamespace(kept=6, reference=6))
        'All kept pictures weigh the same: the filter removed no picture, so there is nothing to weigh back.'
    """
    if quality.kept == quality.reference:
        return "All kept pictures weigh the same: the filter removed no picture, so there is nothing to weigh back."
    return (
        "All kept pictures weigh the same: they are too few, or no word stands in enough captions, to fit a probe that "
        "tells what filtering changed."
    )


def reach(found: Reach) -> str:
    """How many removed pictures are like nothing that was kept, beyond the share that chance gives, in one sentence.

    Examples:
        >>> reach(Reach(0.173, 0.123, 0.101, 0.148))
        '12.3 % [10.1, 14.8] of the removed pictures, over the 5 % of chance, have nothing like them among the kept: \
no weight can bring these back.'
        >>> reach(Reach(0.056, 0.006, -0.013, 0.026))
        'As many removed pictures as by chance have nothing like them among the kept: 5.6 %, where chance gives 5 %.'
    """
    if found.low > 0:
        more = f"{percent(found.excess)} [{100 * found.low:.1f}, {100 * found.high:.1f}] of the removed pictures"
        left = f"over the {percent(found.by_chance, 0)} of chance, have nothing like them among the kept"
        return f"{more}, {left}: no weight can bring these back."
    so_many = "As many" if found.high >= 0 else "Fewer"
    than = "as" if found.high >= 0 else "than"
    return (
        f"{so_many} removed pictures {than} by chance have nothing like them among the kept: {percent(found.share)}, "
        f"where chance gives {percent(found.by_chance, 0)}."
    )


def calibration(quality: Row) -> str:
    """How far the probe's predictions are from what is observed, in one sentence.

    Examples:
        >>> from types import SimpleNamespace
        >>> calibration(SimpleNamespace(calibration_error=0.0113, probe_auc=0.612))
        'On average a predicted share is off by 1.1 % of the pictures (expected calibration error 0.011).'
    """
    error = quality.calibration_error
    if error is None or not isfinite(error):
        return ""
    return (
        f"On average a predicted share is off by {percent(error)} of the pictures "
        f"(expected calibration error {number(round(error, 3))})."
    )


def regurgitated(found: Regurgitation) -> str:
    """How many generated pictures are copies, and how many may be at most, in one or two sentences."""
    if not found.compared:
        return "No generated picture could be compared."
    are = "is a copy of a picture" if found.copies == 1 else "are copies of pictures"
    text = f"{found.copies:,} of {plural(found.compared, 'generated picture')} {are} of this lake"
    if found.trials.are_prompts:
        text += f", and {found.trials.copies:,} of {plural(found.trials.number, 'prompt')} gave a copy"
    text += f": {copy_rate(found.trials, found.confidence)}."
    if found.own:
        text += f" {plural(found.own, 'copy is', 'copies are')} of the very picture whose caption was the prompt."
    return text


def copy_rate(trials: Trials, confidence: float) -> str:
    """What the rate of copies is at most, and of what, in half a sentence.

    Examples:
        >>> copy_rate(Trials(200, 2, are_prompts=True), 0.95)
        'of prompts like these, tried as often, at most 3.2 % give what is called a copy (95 % confidence)'
        >>> copy_rate(Trials(70_000, 0, are_prompts=False), 0.95)
        'of what prompts like these give, at most 0.0043 % is called a copy (95 % confidence)'
    """
    bound, sure = rounded_up(trials.bound(confidence)), f"({100 * confidence:g} % confidence)"
    if trials.are_prompts:
        return f"of prompts like these, tried as often, at most {bound} give what is called a copy {sure}"
    return f"of what prompts like these give, at most {bound} is called a copy {sure}"


def shift_sentence(row: Row) -> str:
    """One keyword's shift before and after weighing, in one sentence.

    Examples:
        >>> from types import SimpleNamespace
        >>> shift_sentence(SimpleNamespace(keyword="woman", shift=-0.142, shift_low=-0.15, shift_high=-0.133,
        ...     weighted_shift=-0.004, weighted_low=-0.013, weighted_high=0.005))
        '“woman” −14.2 % [−15.0, −13.3] after filtering, −0.4 % [−1.3, +0.5] after weighing'
    """
    before = f"{shift(row.shift, row.shift_low, row.shift_high)} after filtering"
    if row.weighted_shift is None:
        return f"“{row.keyword}” {before}"
    return f"“{row.keyword}” {before}, {shift(row.weighted_shift, row.weighted_low, row.weighted_high)} after weighing"


def notable(keywords: Sequence[Row], most: int = NOTABLE) -> list[Row]:
    """The keywords that filtering moved beyond doubt: the watched ones, then those found.

    Of each kind those first whose shift is of most captions: a tenth of the women before a fifth of the nuns. Beyond
    doubt means that the interval leaves out 0, and that the word stands out even among so many words looked at.

    Args:
        keywords: Rows of keyword_shift.
        most: How many at most.
    """
    moved = [row for row in keywords if _leaves_out(row.shift_low, row.shift_high, 0.0) and not _by_chance(row)]
    return sorted(moved, key=lambda row: (bool(row.mover), -abs(row.shift) * row.unfiltered, row.keyword))[:most]


def none_notable(keywords: Sequence[Row]) -> str:
    """That no keyword is notable, and why, in one sentence.

    Examples:
        >>> from types import SimpleNamespace
        >>> none_notable([SimpleNamespace(shift_low=-0.3, shift_high=-0.1)])
        'No keyword stands out beyond doubt: 1 interval without 0 may be chance among so many words.'
    """
    if all(row.shift_low is None for row in keywords):
        return "No keyword moved: the filter removed no caption."
    leaving = sum(_leaves_out(row.shift_low, row.shift_high, 0.0) for row in keywords)
    if not leaving:
        return "No keyword stands out beyond doubt: every interval includes 0."
    without = f"{plural(leaving, 'interval')} without 0 may be chance among so many words"
    return f"No keyword stands out beyond doubt: {without}."


def not_undone(keywords: Sequence[Row], tolerance: float, support: float) -> list[Row]:
    """The keywords that filtering moved and that weighing leaves off by more than the tolerance, beyond doubt.

    A word that nobody listed and that lost so much that it names what is filtered for is none of them: it is not to
    come back.

    Args:
        keywords: Rows of keyword_shift.
        tolerance: Share, such as 0.01; see `audit.tolerance`.
        support: Share of itself that a word must have kept; see `weigh.min_support`.
    """
    left = [
        row
        for row in keywords
        if _leaves_out(row.shift_low, row.shift_high, tolerance)
        and (not row.mover or row.shift >= support - 1.0)
        and not _by_chance(row)
        and _leaves_out(row.weighted_low, row.weighted_high, tolerance)
    ]
    return sorted(left, key=lambda row: (-abs(row.weighted_shift), row.keyword))


def not_undone_sentence(left: Sequence[Row], tolerance: float) -> str:
    """What weighing did not bring back, and what can be done.

    Examples:
        >>> from types import SimpleNamespace
        >>> row = SimpleNamespace(keyword="woman", weighted_shift=-0.138, weighted_low=-0.147, weighted_high=-0.129)
        >>> not_undone_sentence([row], 0.01)[:83]
        'weighing leaves 1 word off by more than 1 %: “woman” −13.8 % [−14.7, −12.9]. What t'
    """
    named = ", ".join(
        f"“{row.keyword}” {shift(row.weighted_shift, row.weighted_low, row.weighted_high)}" for row in left[:3]
    )
    more = " and others" if len(left) > 3 else ""
    return (
        f"weighing leaves {plural(len(left), 'word')} off by more than {percent(tolerance, 0)}: {named}{more}. "
        "What the probe sees does not show this bias: see weigh.features, and of words that lost much weigh.min_support"
    )


def _leaves_out(low: float | None, high: float | None, zone: float) -> bool:
    """Whether an interval lies wholly outside [-zone, zone]."""
    return low is not None and high is not None and (low > zone or high < -zone)


def _by_chance(row: Row) -> bool:
    """Whether the shift may be chance, given how many words were looked at; not known for older tables."""
    doubt = getattr(row, "adjusted", None)
    return doubt is not None and doubt > DOUBT


def _are(count: int) -> str:
    return "is" if count == 1 else "are"
