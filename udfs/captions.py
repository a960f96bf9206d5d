"""Captions as words: Spark expressions, since a regular expression runs faster in the JVM than a row in Python."""

from collections.abc import Sequence

from pyspark.sql import Column
from pyspark.sql import functions as F

_LETTERS = r"[\p{L}\p{M}\p{N}]+"
WORD = rf"{_LETTERS}(?:['’\-]{_LETTERS})*"
"""A word: letters, marks and digits of any script, joined by apostrophes or hyphens."""


def caption_tokens(caption: Column) -> Column:
    """A caption's words in order, lower case, as array<string>; empty for a missing caption."""
    found = F.regexp_extract_all(F.lower(caption), F.lit(f"({WORD})"))
    return F.coalesce(found, F.array().cast("array<string>"))


def caption_words(caption: Column) -> Column:
    """A caption's words, each once, as array<string>."""
    return F.array_distinct(caption_tokens(caption))


def keywords_in(caption: Column, keywords: Sequence[str]) -> Column:
    """Which keywords a caption holds, by whole words, as array<int> of their places; each counts once a caption.

    Args:
        caption: String column.
        keywords: Words or phrases in lower case; the words of a phrase must follow each other.
    """
    text = F.concat(F.lit(" "), F.array_join(caption_tokens(caption), " "), F.lit(" "))
    places = [F.when(text.contains(f" {word} "), F.lit(place)) for place, word in enumerate(keywords)]
    return F.array_compact(F.array(*places)) if places else F.array().cast("array<int>")
