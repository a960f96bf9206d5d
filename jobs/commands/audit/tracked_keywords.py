"""The words that `audit` watches: listed keywords, and the frequent words that filtering moved most."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from jobs.runtime.config import AuditSettings
from models.stats import keyword_shift_stats
from udfs.text.captions import Keywords


@dataclass(frozen=True)
class Words:
    """Counts of the frequent words, and of the listed words that occur.

    Attributes:
        total: Number of unfiltered captions, and of kept captions among them.
        words: The n words, folded.
        captions: Number of unfiltered captions with each word, int64 of shape (n,).
        kept: Number of kept captions among them, int64 of shape (n,).
    """

    total: tuple[int, int]
    words: tuple[str, ...]
    captions: NDArray[np.int64]
    kept: NDArray[np.int64]


@dataclass(frozen=True)
class TrackedKeywords:
    """The keywords whose shifts are estimated.

    Attributes:
        keywords: First the listed keywords, then the movers.
        topics: Topic of each keyword; None for a mover.
        looks: Number of words that were tested for a shift.
        chances: p-values of the frequent words that are not watched; they are needed to correct those of the listed
            keywords.
        rates: False discovery rate of each mover, by which it was chosen among the frequent words.
    """

    keywords: Keywords
    topics: tuple[str | None, ...]
    looks: int
    chances: NDArray[np.float64]
    rates: NDArray[np.float64]

    @property
    def movers(self) -> int:
        """Number of movers among the keywords."""
        return sum(topic is None for topic in self.topics)


def word_counts(rows: DataFrame, listed: Keywords, settings: AuditSettings) -> DataFrame:
    """Returns word, captions, left (kept captions) for the most frequent words and for the listed words."""
    each = rows.select(F.explode(F.array_distinct("tokens")).alias("word"), "kept").groupBy("word")
    counts = each.agg(F.count("*").alias("captions"), F.count_if("kept").alias("left"))
    known = F.col("word").isin(list(listed.spellings))
    order = (F.desc("captions"), F.col("word"))
    frequent = counts.where(F.col("captions") >= settings.least_captions).orderBy(*order).limit(settings.words)
    return frequent.unionByName(counts.where(known)).distinct()


def counted_words(rows: DataFrame, listed: Keywords, settings: AuditSettings) -> Words:
    """Collects the counts of `word_counts`; their number is bounded by `audit.words` and the lists.

    Args:
        rows: kept, tokens (the caption's words in order).
        listed: Keywords to count even if they are rare.
        settings: Which words are frequent, and how many of them are counted.
    """
    total = rows.agg(F.count("*"), F.count_if("kept")).collect()[0]
    found = word_counts(rows, listed, settings).toPandas().sort_values("word")
    captions, left = (found[name].to_numpy(np.int64) for name in ("captions", "left"))
    return Words((int(total[0]), int(total[1])), tuple(found["word"]), captions, left)


def tracked_keywords(words: Words, listed: Mapping[str, str], settings: AuditSettings) -> TrackedKeywords:
    """Returns the listed keywords that may occur, and the frequent words with the largest significant shifts.

    Args:
        words: Counted words.
        listed: Topic of each listed keyword.
        settings: Number of movers, confidence, and how many captions make a word frequent.
    """
    all_listed = Keywords.of(list(listed))
    present, known = set(words.words), set(all_listed.spellings)
    kept = [n for n, s in zip(all_listed.names, all_listed.spellings, strict=True) if " " in s or s in present]
    frequent = words.captions >= settings.least_captions
    chances = keyword_shift_stats.chance(words.captions, words.kept, words.total)
    rates = np.ones(len(chances))
    rates[frequent] = keyword_shift_stats.adjusted(chances[frequent])
    places = _moved_most(words, rates <= 1.0 - settings.confidence, known)[: settings.movers]
    movers = [words.words[place] for place in places]
    watched = known | set(movers)
    others = frequent & np.array([word not in watched for word in words.words], dtype=np.bool_)
    topics = (*(listed[name] for name in kept), *(None for _ in movers))
    return TrackedKeywords(Keywords((*kept, *movers)), topics, int(frequent.sum()), chances[others], rates[places])


def _moved_most(words: Words, significant: NDArray[np.bool_], known: set[str]) -> list[int]:
    """Returns the places of unlisted words with a significant shift, the largest shift first."""
    # A single letter is part of a word with an apostrophe (woman's, l'homme), not a word.
    new = np.array([word not in known and len(word.encode()) > 1 for word in words.words], dtype=np.bool_)
    share = words.total[1] / max(1, words.total[0])
    distance = np.abs(words.kept / np.maximum(words.captions, 1) - share)
    return sorted(np.flatnonzero(significant & new), key=lambda i: (-distance[i], words.words[i]))
