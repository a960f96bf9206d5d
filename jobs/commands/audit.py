"""`audit`: how filtering moved the keywords of captions, and how far the weights move them back."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from pyspark import StorageLevel
from pyspark.sql import DataFrame, Row
from pyspark.sql import functions as F

from jobs.facts import sentences
from jobs.facts.reference import reference_of
from jobs.job import Job, Summary
from jobs.lake import tables
from jobs.lake.recipe import Recipe
from jobs.prerequisites import require_kept
from jobs.runtime import keyword_lists
from jobs.runtime.config import AuditSettings, fingerprint
from models.stats import keyword_shift_stats
from udfs.text.bootstrap import COUNTS, WEIGHT_UNIT, Resampling
from udfs.text.captions import Keywords, caption_tokens, keyword_words

_SAID = 4

# Raised where other rows would come out than by the version before: what that wrote is made anew.
_REVISION = 3


@dataclass(frozen=True)
class Words:
    """Words that were counted: the frequent ones, and those of the lists that occur.

    Attributes:
        total: Unfiltered captions, and those of them that were kept.
        words: Folded, of shape (n,).
        captions: Unfiltered captions with each, int64 of shape (n,).
        kept: Those of them that were kept.
    """

    total: tuple[int, int]
    words: tuple[str, ...]
    captions: NDArray[np.int64]
    kept: NDArray[np.int64]


@dataclass(frozen=True)
class Watched:
    """What is resampled.

    Attributes:
        keywords: First those that were listed, then the movers.
        topics: Of each; None for a mover.
        looks: Words that the movers were found among.
        chances: p-values of the frequent words that are not watched, for the correction of the others'.
    """

    keywords: Keywords
    topics: tuple[str | None, ...]
    looks: int
    chances: NDArray[np.float64]

    @property
    def movers(self) -> int:
        """How many were found rather than listed."""
        return sum(topic is None for topic in self.topics)


def run(job: Job) -> Summary:
    """Counts the listed keywords and the words that moved most, and writes keyword_shift.

    Raises:
        WinnowError: No image is kept, or the weights are not those of the lake as it is now.
    """
    lake, settings = job.lake, job.settings.audit
    require_kept(lake)
    lake.require(tables.WEIGHTS)
    now = lake.snapshot()
    now.require_current(tables.WEIGHTS, tables.IMAGES, tables.VERDICTS, tables.DUPLICATES, tables.FILTERED_DUPLICATES)
    listed = keyword_lists.topics_of(settings.keywords, settings.lists)
    blank = [name for name in listed if not keyword_words(name)]
    if blank:
        job.progress.warn(
            f"audit: no letter or digit is in {', '.join(map(repr, blank))}: no caption is searched for it"
        )
    inputs = now.inputs(tables.IMAGES, tables.VERDICTS, tables.DUPLICATES, tables.FILTERED_DUPLICATES, tables.WEIGHTS)
    asked = {**fingerprint(settings), "listed": listed, "seed": job.settings.seed, "revision": _REVISION}
    recipe = Recipe("audit", inputs, asked)
    if (before := job.up_to_date(now.made_by(recipe, tables.KEYWORD_SHIFT))) is not None:
        return before
    reference = reference_of(
        lake.read(tables.IMAGES), lake.read(tables.VERDICTS), lake.read(tables.DUPLICATES),
        lake.read(tables.FILTERED_DUPLICATES),
    )  # fmt: skip
    rows = with_tokens(reference, lake.read(tables.WEIGHTS)).persist(StorageLevel.DISK_ONLY)
    try:
        with job.progress.step("audit: count words"):
            watched = watched_of(_words(rows, Keywords.of(list(listed)), settings), listed, settings)
        with job.progress.step("audit: count keywords"):
            counts = _array(keyword_counts(rows, watched.keywords, settings, job.settings.seed), watched, settings)
            found = [Row(**row) for row in shift_rows(counts, watched, settings)]
    finally:
        rows.unpersist()
    summary = _summary(job, found, watched)
    frame = lake.spark.createDataFrame([tuple(row) for row in found], tables.KEYWORD_SHIFT.schema)
    lake.replace(tables.KEYWORD_SHIFT, frame, recipe.with_result(summary))
    return summary


def with_tokens(reference: DataFrame, weights: DataFrame) -> DataFrame:
    """image_hash, kept, weight (whole millionths, 0 where not kept), tokens (the caption's words in order)."""
    return reference.join(weights, "image_id", "left").select(
        F.xxhash64("image_id").alias("image_hash"),
        "kept",
        F.coalesce(F.round(F.col("weight") * WEIGHT_UNIT), F.lit(0)).cast("long").alias("weight"),
        caption_tokens(F.col("caption")).alias("tokens"),
    )


def word_counts(rows: DataFrame, listed: Keywords, settings: AuditSettings) -> DataFrame:
    """word, captions, left: of words in enough captions, the most frequent, and of listed words."""
    each = rows.select(F.explode(F.array_distinct("tokens")).alias("word"), "kept").groupBy("word")
    counts = each.agg(F.count("*").alias("captions"), F.count_if("kept").alias("left"))
    known = F.col("word").isin(list(listed.spellings))
    order = (F.desc("captions"), F.col("word"))
    frequent = counts.where(F.col("captions") >= settings.least_captions).orderBy(*order).limit(settings.words)
    return frequent.unionByName(counts.where(known)).distinct()


def keyword_counts(rows: DataFrame, keywords: Keywords, settings: AuditSettings, seed: int) -> DataFrame:
    """Captions with each keyword in the data and in each resample, unfiltered, filtered and weighted.

    Args:
        rows: As `with_tokens` returns them.
        keywords: What is counted.
        settings: Number of resamples.
        seed: Of the resamples.

    Returns:
        `udfs.text.bootstrap.COUNTS`, summed.
    """
    shown = rows.select("image_hash", "kept", "weight", "tokens")
    counted = shown.mapInArrow(Resampling(keywords, settings.resamples, seed), COUNTS)
    sums = [F.sum(side).alias(side) for side in ("unfiltered", "filtered", "weighted")]
    return counted.groupBy("keyword", "resample").agg(*sums)


def watched_of(words: Words, listed: dict[str, str], settings: AuditSettings) -> Watched:
    """The listed keywords that may occur, and the frequent words that filtering moved most and beyond doubt.

    Args:
        words: What was counted.
        listed: Topic of each listed keyword.
        settings: Movers, confidence and how many captions make a word frequent.
    """
    all_listed = Keywords.of(list(listed))
    present = set(words.words)
    kept = [n for n, s in zip(all_listed.names, all_listed.spellings, strict=True) if " " in s or s in present]
    frequent = words.captions >= settings.least_captions
    chances = keyword_shift_stats.chance(words.captions, words.kept, words.total)
    doubtless = np.zeros(len(chances), dtype=np.bool_)
    doubtless[frequent] = keyword_shift_stats.adjusted(chances[frequent]) <= 1.0 - settings.confidence
    # One letter is no word, but what an apostrophe parted: woman's, l'homme.
    known = set(all_listed.spellings)
    new = np.array([word not in known and len(word.encode()) > 1 for word in words.words], dtype=np.bool_)
    share = words.total[1] / max(1, words.total[0])
    distance = np.abs(words.kept / np.maximum(words.captions, 1) - share)
    places = sorted(np.flatnonzero(doubtless & new), key=lambda i: (-distance[i], words.words[i]))
    movers = [words.words[i] for i in places[: settings.movers]]
    watched = known | set(movers)
    others = frequent & np.array([word not in watched for word in words.words], dtype=np.bool_)
    topics = (*(listed[name] for name in kept), *(None for _ in movers))
    return Watched(Keywords((*kept, *movers)), topics, int(frequent.sum()), chances[others])


def shift_rows(
    counts: NDArray[np.float64], watched: Watched, settings: AuditSettings
) -> list[dict[str, str | float | int | bool | None]]:
    """Rows of keyword_shift, most frequent keyword first; keywords that no caption holds are left out.

    Where no caption was filtered no word moved, and an interval would say that one may have: there is none.

    Args:
        counts: As `models.stats.keyword_shift_stats.moves` wants them.
        watched: The keywords.
        settings: Confidence.
    """
    total = (int(counts[0, 0, 0]), int(counts[0, 0, 1]))
    unfiltered, kept = (counts[1:, 0, side].astype(np.int64) for side in (0, 1))
    picked = np.array([topic is None for topic in watched.topics], dtype=np.bool_)
    wide = np.where(picked, keyword_shift_stats.widened(settings.confidence, watched.movers, watched.looks), np.nan)
    moves = keyword_shift_stats.moves(counts, settings.confidence, wide)
    chances = np.concatenate([keyword_shift_stats.chance(unfiltered, kept, total), watched.chances])
    doubt = keyword_shift_stats.adjusted(chances)
    names = tables.KEYWORD_SHIFT.schema.names
    rows = []
    for i in sorted(np.flatnonzero(unfiltered), key=lambda i: (-unfiltered[i], watched.keywords.names[i])):
        numbers = [*moves.shares[i], *(ends[i] for ends in moves.filtered), *(ends[i] for ends in moves.weighted)]
        # A number that cannot be had (a share of nothing) is null.
        values = [float(value) if np.isfinite(value) else None for value in numbers]
        if total[0] == total[1]:
            values[4:6] = values[7:9] = None, None
        about = (int(unfiltered[i]), watched.topics[i], bool(picked[i]), float(doubt[i]), watched.looks)
        rows.append(dict(zip(names, (watched.keywords.names[i], *values, *about), strict=True)))
    return rows


# Parts of the job ---------------------------------------------------------------------------------------------------


def _words(rows: DataFrame, listed: Keywords, settings: AuditSettings) -> Words:
    """Bounded by `audit.words` and the lists."""
    total = rows.agg(F.count("*"), F.count_if("kept")).collect()[0]
    found = word_counts(rows, listed, settings).toPandas().sort_values("word")
    captions, left = (found[name].to_numpy(np.int64) for name in ("captions", "left"))
    return Words((int(total[0]), int(total[1])), tuple(found["word"]), captions, left)


def _array(counts: DataFrame, watched: Watched, settings: AuditSettings) -> NDArray[np.float64]:
    """Collected counts of shape (keywords + 1, resamples + 1, 3); bounded by the settings. Row 0 is all captions."""
    values = np.zeros((len(watched.keywords.names) + 1, settings.resamples + 1, 3))
    found = counts.toPandas()
    sums = found[["unfiltered", "filtered", "weighted"]].to_numpy(np.float64)
    values[found["keyword"].to_numpy() + 1, found["resample"].to_numpy()] = sums
    return values


def _summary(job: Job, found: list[Row], watched: Watched) -> Summary:
    """What was found, in words."""
    if found and all(row.shift_low is None for row in found):
        return {"words looked at": watched.looks, "captions filtered": "none, so no word moved"}
    listed = sentences.notable([row for row in found if not row.mover])
    movers = sentences.notable([row for row in found if row.mover])
    shown = listed or [row for row in found if not row.mover]
    summary: Summary = {f"keyword {row.keyword}": sentences.shift_sentence(row) for row in shown[:_SAID]}
    summary |= {f"found {row.keyword}": sentences.shift_sentence(row) for row in movers[:_SAID]}
    summary["words looked at"] = watched.looks
    tolerance = job.settings.audit.tolerance
    left = sentences.not_undone(found, tolerance, job.settings.weigh.min_support)
    if left:
        summary["not undone"] = sentences.not_undone_sentence(left, tolerance)
        job.progress.warn(f"audit: {summary['not undone']}")
    return summary
