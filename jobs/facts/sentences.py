"""The sentences of the report: numbers and findings in words."""

from collections.abc import Sequence
from math import ceil, floor, isfinite
from statistics import median

from pyspark.sql import Row

from jobs.facts.categories import Category
from jobs.facts.decisions import Decisions
from jobs.facts.duplicates import ChosenDistances, Duplicates
from jobs.facts.funnel import Funnel
from jobs.facts.pairs.precision import PairLabels
from jobs.facts.pairs.sample import RANDOM, TOLD_APART
from jobs.facts.pairs.sample_answers import CONFIDENCE, SampleAnswers
from jobs.facts.pairs.told_apart import ToldApart
from jobs.facts.regurgitated import Regurgitation, Trials
from jobs.facts.weights import Reach, Reliability, Weights
from jobs.lake import tables
from jobs.runtime.wording import (
    confidence,
    measured,
    number,
    percent,
    plural,
    recall_at_least,
    rounded_up,
    score,
    shift,
    signed,
)
from models.stats import thresholds

NOTABLE = 6
MAX_FALSE_DISCOVERY_RATE = 0.05
_HUB = 0.25  # share of the nearest different pairs from which one image is worth a sentence
_FEWEST_DECIMALS, _MOST_DECIMALS = 4, 17


def verdict(funnel: Funnel | None) -> str:
    """Returns how many images are kept and what happened to the others, in one sentence."""
    if funnel is None:
        return "This lake has no images yet. Run `winnow ingest SOURCE`."
    parts = [
        f"{count:,} {what}"
        for count, what in (
            (funnel.filtered, f"filtered ({_share(funnel.filtered, funnel.images)} of the images)"),
            (funnel.near_duplicates, "duplicates" if funnel.near_duplicates != 1 else "duplicate"),
            (funnel.semantic, "semantic duplicates" if funnel.semantic != 1 else "semantic duplicate"),
            (funnel.repeats, "repeats" if funnel.repeats != 1 else "repeat"),
            (funnel.quarantined, "quarantined"),
        )
        if count
    ]
    lost = f" Not kept: {', '.join(parts)}." if parts else ""
    kept = plural(funnel.kept, "image is", "images are")
    return f"Of {plural(funnel.rows_read, 'row')} read, {kept} kept.{lost}"


def _share(part: int | None, whole: int) -> str:
    return percent((part or 0) / whole if whole else None)


def decided(decisions: Decisions) -> str:
    """Returns how many images people keep and drop, in words."""
    if not decisions.newest:
        return "No decision of a person is in force."
    kept, dropped = (
        plural(decisions.kept, "image is", "images are"),
        plural(decisions.dropped, "image is", "images are"),
    )
    shown = "" if len(decisions.newest) == decisions.kept + decisions.dropped else " These are the newest decisions."
    return f"By decision of people, {kept} kept whatever the filter says, and {dropped} filtered.{shown}"


def nothing_kept(funnel: Funnel | None) -> str:
    """Returns why no image is kept and what to do next; empty if some are kept, or if nothing was read.

    Args:
        funnel: Counts of each step.
    """
    if funnel is None or funnel.kept:
        return ""
    if not funnel.images:
        return "No image could be read. Run `winnow run SOURCE` with other sources."
    return (
        f"The filter removed every image ({funnel.images:,}), so nothing is kept. Change the rules of `filter`, lower "
        "the `recall` of a category or raise its `threshold`, then run `winnow calibrate`, `winnow filter`, "
        "`winnow dedup` and `winnow weigh`."
    )


def without_category(funnel: Funnel | None) -> str:
    """Returns what the filter does if the settings define no category."""
    none = "The settings define no category to filter out"
    how = "Add a section `[categories.NAME]` to your settings, then run `winnow run`."
    if funnel is None or not funnel.filtered:
        return f"{none}{'' if funnel and not funnel.images else ', so the filter keeps every image'}. {how}"
    by = ", ".join(f"{name} {number(count)}" for name, count in funnel.filtered_by.items())
    filtered = plural(funnel.filtered, "image is", "images are")
    return f"{none}. {filtered} filtered for other reasons: {by}. {how}"


def recall_bound(category: Category) -> str:
    """Returns the bound on the recall of a category's threshold, and the labels behind it, in one sentence."""
    limit = category.threshold
    if limit is None:
        return "This category has no threshold yet, so it cannot be filtered. Run `winnow calibrate`."
    missed = f"the threshold misses {number(limit.missed)} of {plural(limit.positives, 'positive')}"
    by_hand = "The threshold is set in the settings. " if limit.chosen_by == tables.SET else ""
    if not (limit.positives or limit.negatives):
        return f"{by_hand}Its recall is unknown, because no image has a label of a random sample."
    removed = f"removes {number(limit.dropped_negatives)} of {plural(limit.negatives, 'negative')}"
    if limit.recall_lower is None or not isfinite(limit.recall_lower):
        none = "because no label of the random sample is positive"
        return f"{by_hand}Its recall is unknown, {none}; the threshold {removed}."
    bound = f"Recall is at least {recall_at_least(limit.recall_lower)} ({confidence(limit.confidence)} confidence)"
    return f"{by_hand}{bound}: of the labels of the random sample, {missed} and {removed}."


def prevalence(category: Category) -> str:
    """Returns the share of the images in a category with its interval, or `unknown` without a random label."""
    limit = category.threshold
    if limit is None or not (limit.positives or limit.negatives):
        return "unknown"
    counts = (limit.positives, limit.negatives, limit.unsure or 0)
    return measured(*thresholds.prevalence(*counts, limit.confidence))


def cost(category: Category) -> str:
    """Returns the escape bound and the precision that `calibrate` found; empty if it recorded none."""
    parts = []
    if category.escaped:
        parts.append(f"At most {category.escaped.replace('%', ' %')} belong to this category but are kept.")
    if category.precision:
        parts.append(f"Of the removed images, about {category.precision.replace('%', ' %')} belong to this category.")
    return " ".join(parts)


def how_to_correct(category: Category, change: str) -> str:
    """Returns what to do if too many images are on the wrong side of a category's threshold, after the word *if*.

    Args:
        category: A category with a classifier of Winnow or a model of its own, which `train` cannot change.
        change: `higher` or `lower`: the threshold that would help.

    Examples:
        >>> from types import SimpleNamespace
        >>> how_to_correct(SimpleNamespace(name="nsfw", own_model=True), "higher")
        'set a higher threshold (`categories.nsfw.threshold`)'
    """
    limit = f"set a {change} threshold (`categories.{category.name}.threshold`)"
    return (
        limit if category.own_model else f"label more images and run `winnow train {category.name}` again, or {limit}"
    )


def score_decimals(category: Category) -> int:
    """Returns the decimals that the threshold and the scores near it need to show which scores reach it.

    Examples:
        >>> from types import SimpleNamespace
        >>> shown = lambda *values: [SimpleNamespace(value=value) for value in values]
        >>> limit = SimpleNamespace(threshold=0.99996)
        >>> score_decimals(
        ...     SimpleNamespace(threshold=limit, dropped_nearest=shown(0.99999), kept_nearest=shown(0.99995)))
        5
    """
    if category.threshold is None:
        return _FEWEST_DECIMALS
    for decimals in range(_FEWEST_DECIMALS, _MOST_DECIMALS):
        least = float(score(category.threshold.threshold, decimals))
        removed = all(float(score(image.value, decimals)) >= least for image in category.dropped_nearest)
        if removed and all(float(score(image.value, decimals)) < least for image in category.kept_nearest):
            return decimals
    return _MOST_DECIMALS


def search_recall(duplicates: Duplicates) -> str:
    """Returns the measured recall of the search for duplicates, in one or two sentences."""
    quality = duplicates.quality
    if quality is not None and quality.distinct_hashes == 0:
        return "No image has a hash that can be compared, so the search has no recall."
    if quality is None or not quality.sampled:
        return "The recall of the search was not measured (`dedup.sample` is 0)."
    against = f"an exhaustive search with {plural(quality.sampled, 'sampled hash', 'sampled hashes')}"
    if not quality.exhaustive_pairs:
        return f"Recall cannot be measured: {against} found no near-duplicate pair."
    pairs = plural(quality.exhaustive_pairs, "near-duplicate pair")
    found = f"{quality.found_pairs:,} of {pairs} that {against} found"
    recall = measured(quality.recall, quality.recall_low, quality.recall_high)
    return f"The search found {found}: recall {recall}.{_remaining(quality.both_kept)}"


def removed_duplicates(duplicates: Duplicates) -> str:
    """Returns how many duplicates are removed, or why none is although pairs were found, in a sentence.

    Examples:
        >>> removed_duplicates(Duplicates(0, 0, (), (), (), ((3, 1), (5, 2)), None))
        'No image is removed as a near-duplicate: in each of the 3 pairs found, one image at most passed the filter.'
        >>> removed_duplicates(Duplicates(2, 1, (), (), (), ((3, 3),), None))
        '2 duplicates in 1 group are removed; the best image of each group is kept.'
    """
    if duplicates.removed:
        are = "is" if duplicates.removed == 1 else "are"
        found = f"{plural(duplicates.removed, 'duplicate')} in {plural(duplicates.groups, 'group')}"
        return f"{found} {are} removed; the best image of each group is kept."
    pairs = sum(count for _, count in duplicates.pair_distances)
    decided = duplicates.quality.decided if duplicates.quality else None
    if not pairs:
        return "No image is removed as a near-duplicate: the search found no pair."
    found = "the 1 pair found" if pairs == 1 else f"each of the {pairs:,} pairs found"
    by_hand = ", or people keep both" if decided else ""
    return f"No image is removed as a near-duplicate: in {found}, one image at most passed the filter{by_hand}."


def pair_precision(labelled: PairLabels | None) -> str:
    """Returns the share of removed images that are copies, by the labels of people, and what to do for a better one.

    Args:
        labelled: What people say of pairs; None if no pair is labelled.

    Examples:
        >>> pair_precision(None)[:53]
        'How many removed images are copies is not measured: r'
        >>> print(pair_precision(PairLabels(98, 2, 0, 0, 0, (), 0, ()))[-84:])
        kept image and 2 a different image: precision 98.0 % [93.0, 99.8] (95 % confidence).
    """
    if labelled is None or not labelled.sampled:
        return (
            "How many removed images are copies is not measured: run `winnow label next duplicates` and `winnow label "
            "serve duplicates`."
        )
    drawn = plural(labelled.sampled, "removed image")
    said = f"people call {labelled.same:,} a copy of the kept image and {labelled.different:,} a different image"
    share, low, high = labelled.precision
    found = f"{measured(share, low, high)} ({confidence(CONFIDENCE)} confidence)" if isfinite(share) else "unknown"
    precision = f"precision {found}"
    return f"Of {drawn} drawn at random, {said}: {precision}.{_not_firm(labelled, RANDOM)}"


def told_apart_copies(found: ToldApart) -> str:
    """Returns how many pairs that thumbnails told apart are copies, by the labels of people, and what to do to know it.

    Examples:
        >>> print(told_apart_copies(ToldApart(0, 0, 0, 0, 0, 345, 0, ()))[:79])
        Thumbnails told apart 345 pairs of which both images are kept. How many of them
        >>> print(told_apart_copies(ToldApart(3, 57, 0, 0, 0, 4321, 2, ()))[-99:])
        so about 214 pairs of copies [43, 600] stay, and people dropped an image of 2 others in the sample.
    """
    if not found.sampled:
        return (
            f"Thumbnails told apart {plural(found.count, 'pair')} of which both images are kept. How many of them are "
            "copies is not measured: run `winnow label next duplicates --strategy told-apart` and `winnow label serve "
            "duplicates`."
        )
    drawn = f"{plural(found.sampled, 'pair')} drawn at random from the {found.count:,} that thumbnails told apart"
    said = f"people call {found.same:,} the same image and {found.different:,} different images"
    share, low, high = found.share_same
    if not isfinite(share):
        return f"Of {drawn}, {said}.{_not_firm(found, TOLD_APART)}"
    stay, fewest, most = found.stayed
    copies = f"{plural(round(stay), 'pair')} of copies [{floor(fewest):,}, {ceil(most):,}]"
    sure = f"{measured(share, low, high)} are copies ({confidence(CONFIDENCE)} confidence)"
    text = f"Of {drawn}, {said}: {sure}, so about {copies} {'stays' if round(stay) == 1 else 'stay'}"
    if found.dropped:
        others = "1 other" if found.dropped == 1 else f"{found.dropped:,} others"
        text += f", and people dropped an image of {others} in the sample"
    return f"{text}.{_not_firm(found, TOLD_APART)}"


def _not_firm(labelled: SampleAnswers, strategy: str) -> str:
    """How many pairs of the random sample have no firm answer, and what to do about them; empty if all have one."""
    if not labelled.open:
        return ""
    one = labelled.open == 1
    text = f" {labelled.open:,} {'has' if one else 'have'} no firm answer and {'counts' if one else 'count'} as either."
    if labelled.waiting:
        text += " Label the rest with `winnow label serve duplicates`."
    if labelled.undrawn:
        more = f"winnow label next duplicates --strategy {strategy} --count {labelled.undrawn}"
        text += f" Pairs that came with a later `dedup` belong in the sample: run `{more}`."
    return text


def distances(chosen: ChosenDistances) -> str:
    """Returns why pairs count as copies within the chosen distances, in a few sentences.

    Examples:
        >>> print(distances(ChosenDistances(8192, 41, 66, 39, 64, 2000, 0.02))[:72])
        The distances follow from 2,000 hashes that were compared with all other
    """
    farther = (
        f" Pairs from {chosen.safe + 1} to {chosen.outer} bits count only if their thumbnails agree."
        if chosen.outer > chosen.safe
        else ""
    )
    near = (
        f"Pairs within {chosen.safe} bits count as copies without a look: on average, at most `dedup.strangers` "
        "strangers (different images) are that near to an image."
        if chosen.safe
        else "Only images with the same hash count as copies without a look: even within 1 bit of an image there "
        "are more strangers (different images) than `dedup.strangers` allows."
    )
    hub = (
        f" One image has {percent(chosen.hub)} of the nearest different pairs: look for images of one layout, such as "
        "pages of text."
        if chosen.hub >= _HUB
        else ""
    )
    return (
        f"The distances follow from {chosen.sampled:,} hashes that were compared with all others. {near}{farther} "
        f"This holds for up to {chosen.size:,} images; with up to {2 * chosen.size:,}, the "
        f"distances would be {chosen.next_safe} and {chosen.next_outer} bits.{hub}"
    )


def _remaining(both_kept: int | None) -> str:
    """How many pairs of the measurement are left in the set; empty for tables of earlier versions."""
    if both_kept is None:
        return ""
    if both_kept == 0:
        return " No missed pair remains in the set."
    return f" {plural(both_kept, 'missed pair remains', 'missed pairs remain')} in the set."


def search(quality: Row) -> str:
    """Returns the method of the search for pairs, in a few words."""
    parts = []
    if quality.bands:
        parts.append(f"{number(quality.bands)} bands of {number(quality.band_rows)} rows")
    if quality.clusterings:
        parts.append(f"{number(quality.clusterings)} clusterings of {number(quality.clusters)} clusters")
    return " and ".join(parts)


def weights_worth(weights: Weights) -> str:
    """Returns the effective sample size and what the weights cannot replace, in one or two sentences."""
    quality = weights.quality
    if quality is None or not quality.kept:
        return ""
    if quality.probe_auc is None:
        return f"{no_probe(quality)} {reach(weights.reach)}" if weights.reach else no_probe(quality)
    share = quality.effective_sample_size / quality.kept
    clipped = f"{plural(quality.clipped, 'weight is', 'weights are')} clipped"
    size = f"Effective sample size: {quality.effective_sample_size:,.0f} of {quality.kept:,} kept images"
    text = f"{size} ({percent(share)}); {clipped}."
    return f"{text} {reach(weights.reach)}" if weights.reach else text


def no_probe(quality: Row) -> str:
    """Returns why all kept images have the same weight, in one sentence.

    Args:
        quality: A row of weight_quality without a value for the area under the curve of the probe.

    Examples:
        >>> from types import SimpleNamespace
        >>> no_probe(SimpleNamespace(kept=6, reference=6))
        'All kept images have the same weight: the filter removed no image, so there is no bias to correct.'
    """
    if quality.kept == quality.reference:
        return "All kept images have the same weight: the filter removed no image, so there is no bias to correct."
    return (
        "All kept images have the same weight: there are too few images, or no word is in enough captions, to fit the "
        "probe."
    )


def reach(found: Reach) -> str:
    """Returns the share of filtered images beyond reach and the share that chance gives, in one or two sentences.

    Examples:
        >>> reach(Reach(0.173, 0.123, 0.101, 0.148))
        '17.3 % of the filtered images have no similar image left (5 % expected by chance). Weights cannot replace \
them.'
        >>> reach(Reach(0.056, 0.006, -0.013, 0.026))
        '5.6 % of the filtered images have no similar image left; chance alone would give 5 %, and the difference is \
not significant.'
    """
    share, chance = percent(found.share), percent(found.by_chance, 0)
    lost = f"{share} of the filtered images have no similar image left"
    if found.low > 0:
        return f"{lost} ({chance} expected by chance). Weights cannot replace them."
    if found.high < 0:
        return f"{lost}, fewer than expected by chance ({chance})."
    return f"{lost}; chance alone would give {chance}, and the difference is not significant."


def reach_excess(found: Reach) -> str:
    """Returns how far the share beyond reach is from the share that chance gives, with its 95 % interval.

    Examples:
        >>> reach_excess(Reach(0.173, 0.123, 0.101, 0.148))
        '+12.3 [+10.1, +14.8] percentage points'
    """
    return f"{signed(found.excess)} [{signed(found.low)}, {signed(found.high)}] percentage points"


def calibration(quality: Row) -> str:
    """Returns the calibration error of the probe, in one sentence.

    Examples:
        >>> from types import SimpleNamespace
        >>> calibration(SimpleNamespace(calibration_error=0.0113, probe_auc=0.612))
        'Expected calibration error: 1.1 %.'
    """
    error = quality.calibration_error
    if error is None or not isfinite(error):
        return ""
    return f"Expected calibration error: {percent(error)}."


def trust(reliability: Sequence[Reliability]) -> str:
    """Returns whether the probe can be trusted, in one sentence.

    Examples:
        >>> trust([Reliability(0.4, 0.5, 40, 0.45, 0.46, (0.4, 0.5)), Reliability(0.5, 0.6, 40, 0.55, 0.7, (0.6, 0.8))])
        'In 1 of 2 groups, the prediction is within the 95 % interval of the observed share; about 2 are expected.'
    """
    within = sum(one.interval[0] <= one.predicted <= one.interval[1] for one in reliability)
    expected = round(0.95 * len(reliability))
    groups = plural(len(reliability), "group")
    return (
        f"In {within} of {groups}, the prediction is within the 95 % interval of the observed share; about {expected} "
        "are expected."
    )


def help_on_movers(movers: Sequence[Row]) -> str:
    """Returns by how much weighing helped on words that nobody listed, in one sentence; empty if nothing is known.

    Examples:
        >>> from types import SimpleNamespace
        >>> help_on_movers([SimpleNamespace(shift=-0.2, weighted_shift=0.01), SimpleNamespace(shift=0.1,
        ...     weighted_shift=-0.03)])
        'Half of these 2 words were off by at least 15.0 % after filtering, and by at least 2.0 % after weighing.'
    """
    known = [row for row in movers if row.shift is not None and row.weighted_shift is not None]
    if not known:
        return ""
    before, after = (median(abs(getattr(row, name)) for row in known) for name in ("shift", "weighted_shift"))
    return (
        f"Half of these {plural(len(known), 'word')} were off by at least {percent(before)} after filtering, and by at "
        f"least {percent(after)} after weighing."
    )


def regurgitated(found: Regurgitation) -> str:
    """Returns how many generated images are copies, and the upper bound on their rate, in one or two sentences."""
    if not found.compared:
        return "No generated image could be compared."
    are = "is a copy of an image" if found.copies == 1 else "are copies of images"
    text = f"{found.copies:,} of {plural(found.compared, 'generated image')} {are} of this lake"
    if found.trials.are_prompts:
        text += f", and {found.trials.copies:,} of {plural(found.trials.number, 'prompt')} gave a copy"
    text += f": {copy_rate(found.trials, found.confidence)}."
    if found.own:
        text += f" {plural(found.own, 'copy shows', 'copies show')} the image whose caption was the prompt."
    return text


def copy_rate(trials: Trials, confidence_level: float) -> str:
    """Returns the upper bound on the rate of copies, and what it is a rate of, as half a sentence.

    Examples:
        >>> copy_rate(Trials(200, 2, are_prompts=True), 0.95)
        'at most 3.2 % of prompts like these give a copy, if each prompt gets as many images as here (95 % confidence)'
        >>> copy_rate(Trials(70_000, 0, are_prompts=False), 0.95)
        'at most 0.0043 % of images generated from prompts like these are copies (95 % confidence)'
    """
    bound, sure = rounded_up(trials.bound(confidence_level)), f"({confidence(confidence_level)} confidence)"
    if trials.are_prompts:
        return f"at most {bound} of prompts like these give a copy, if each prompt gets as many images as here {sure}"
    return f"at most {bound} of images generated from prompts like these are copies {sure}"


def shift_sentence(row: Row) -> str:
    """Returns the shift of one keyword after filtering and after weighing.

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
    """Returns the keywords whose share filtering changed significantly: watched words first, then movers.

    Here a shift is significant if its interval excludes 0 and its false discovery rate is at most
    `MAX_FALSE_DISCOVERY_RATE`. `audit` chooses movers by the false discovery rate alone, and their intervals are wider,
    so some movers may be missing. Within each kind, the words whose change affects most captions come first: a tenth of
    the women before a fifth of the nuns.

    Args:
        keywords: Rows of keyword_shift.
        most: The largest number of keywords to return.
    """
    moved = [row for row in keywords if _excludes(row.shift_low, row.shift_high, 0.0) and not _by_chance(row)]
    return sorted(moved, key=lambda row: (bool(row.mover), -abs(row.shift) * row.unfiltered, row.keyword))[:most]


def none_notable(keywords: Sequence[Row]) -> str:
    """Returns that no keyword is notable, and why, in one sentence.

    Examples:
        >>> from types import SimpleNamespace
        >>> none_notable([SimpleNamespace(shift_low=-0.3, shift_high=-0.1)])
        'The share of no keyword changed significantly: 1 interval excludes 0, but that may be chance among so many \
words.'
    """
    if all(row.shift_low is None for row in keywords):
        return "The filter removed no caption, so no keyword's share changed."
    excluding = sum(_excludes(row.shift_low, row.shift_high, 0.0) for row in keywords)
    if not excluding:
        return "The share of no keyword changed significantly: every interval includes 0."
    intervals = plural(excluding, "interval excludes", "intervals exclude")
    return f"The share of no keyword changed significantly: {intervals} 0, but that may be chance among so many words."


def not_undone(keywords: Sequence[Row], tolerance: float, support: float) -> list[Row]:
    """Returns the keywords that filtering moved and that are still off by more than the tolerance after weighing.

    Both shifts must be significant. A mover that lost more than `support` allows is not among them: such a word names
    what the filter removes, and it is not meant to come back.

    Args:
        keywords: Rows of keyword_shift.
        tolerance: Share, such as 0.01; see `audit.tolerance`.
        support: The smallest share of its captions that a word must have kept; see `weigh.min_support`.
    """
    left = [
        row
        for row in keywords
        if _excludes(row.shift_low, row.shift_high, tolerance)
        and (not row.mover or row.shift >= support - 1.0)
        and not _by_chance(row)
        and _excludes(row.weighted_low, row.weighted_high, tolerance)
    ]
    return sorted(left, key=lambda row: (-abs(row.weighted_shift), row.keyword))


def not_undone_sentence(left: Sequence[Row], tolerance: float) -> str:
    """Returns which keywords weighing does not correct, and the settings that may help; without a full stop.

    Examples:
        >>> from types import SimpleNamespace
        >>> row = SimpleNamespace(keyword="woman", weighted_shift=-0.138, weighted_low=-0.147, weighted_high=-0.129)
        >>> not_undone_sentence([row], 0.01)[:88]
        'after weighing, 1 word is still off by more than 1 %: “woman” −13.8 % [−14.7, −12.9]. Th'
    """
    named = ", ".join(
        f"“{row.keyword}” {shift(row.weighted_shift, row.weighted_low, row.weighted_high)}" for row in left[:3]
    )
    words, limit = plural(len(left), "word is", "words are"), f"{100 * tolerance:g} %"
    return (
        f"after weighing, {words} still off by more than {limit}: {named}{' and others' if len(left) > 3 else ''}. "
        "The features of the probe do not show this bias: change weigh.features, or weigh.min_support for words that "
        "lost much"
    )


def _excludes(low: float | None, high: float | None, zone: float) -> bool:
    """Whether an interval lies wholly outside [-zone, zone]."""
    return low is not None and high is not None and (low > zone or high < -zone)


def _by_chance(row: Row) -> bool:
    """Whether the false discovery rate is too high to call the shift significant; False for tables without it."""
    rate = getattr(row, "adjusted", None)
    return rate is not None and rate > MAX_FALSE_DISCOVERY_RATE
