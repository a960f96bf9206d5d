"""Splits captions into words, and finds keywords among them.

A Spark expression splits the captions, because a regular expression is faster in the JVM than in Python row by row.
Keywords are looked up in Arrow, one batch at a time.
"""

import re
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray
from pyspark.sql import Column
from pyspark.sql import functions as F

_LETTERS = r"[\p{L}\p{M}\p{N}]+"
WORD = rf"{_LETTERS}(?:-{_LETTERS})*"
"""A word: letters, marks and digits of any script, joined by hyphens. An apostrophe separates words, so "woman's" and
"l'homme" contain "woman" and "homme". Scripts without spaces between words give one long word; see docs/weighing.md."""

_JOINED = re.compile(r"[^\s-]+(?:-[^\s-]+)*")


def fold(text: str) -> str:
    """Normalises a text for comparison: Unicode NFKC and case folding.

    Examples:
        >>> fold("Ｗoman"), fold("STRASSE") == fold("Straße")
        ('woman', True)
    """
    return unicodedata.normalize("NFKC", text).casefold()


def fold_captions(captions: pa.Array) -> pa.Array:
    """Applies `fold` to an Arrow array of strings; null stays null."""
    return pa.array([None if caption is None else fold(caption) for caption in captions.to_pylist()], pa.string())


def caption_tokens(caption: Column) -> Column:
    """Returns a caption's words in order, folded, as array<string>; empty for a null caption."""
    found = F.regexp_extract_all(F.arrow_udf(fold_captions, "string")(caption), F.lit(f"({WORD})"))
    return F.coalesce(found, F.array().cast("array<string>"))


def caption_words(caption: Column) -> Column:
    """Returns a caption's words, each once, as array<string>."""
    return F.array_distinct(caption_tokens(caption))


def keyword_words(keyword: str) -> list[str]:
    """Splits a keyword into words as `caption_tokens` splits a caption; empty without a letter, mark or digit.

    Examples:
        >>> keyword_words("AT&T"), keyword_words("St. Patrick"), keyword_words("Grand-mère")
        (['at', 't'], ['st', 'patrick'], ['grand-mère'])
        >>> keyword_words("🙂 & –")
        []
    """
    # Python's regular expressions lack the classes of `WORD`, so all other characters become spaces.
    kept = (c if c == "-" or unicodedata.category(c)[0] in "LMN" else " " for c in fold(keyword))
    return _JOINED.findall("".join(kept))


@dataclass(frozen=True)
class Keywords:
    """Words and phrases to find in captions, by whole words and without regard to case.

    The words of a phrase must follow each other, separated by spaces or joined by hyphens.

    Attributes:
        names: The keywords as given.
    """

    names: tuple[str, ...]

    @classmethod
    def of(cls, names: Sequence[str]) -> "Keywords":
        """Returns the keywords without repetitions and without those that contain no word.

        Examples:
            >>> Keywords.of(["Woman", "woman", "old  man"]).names
            ('Woman', 'old  man')
        """
        first = {" ".join(keyword_words(name)): name for name in reversed(list(names)) if keyword_words(name)}
        kept = set(first.values())
        return cls(tuple(dict.fromkeys(name for name in names if name in kept)))

    @cached_property
    def spellings(self) -> tuple[str, ...]:
        """Each keyword, folded, with one space between words."""
        return tuple(" ".join(keyword_words(name)) for name in self.names)

    def places(self, tokens: pa.ListArray) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Finds the keywords in captions; each keyword counts once for each caption.

        Args:
            tokens: Words of each caption in order, as from `caption_tokens`, list<string> of length n.

        Returns:
            Caption (0 to n - 1) and keyword (its index in `names`), int64 of equal shape, sorted by caption.

        Examples:
            >>> caption, keyword = Keywords(("man", "old man")).places(pa.array([["an", "old", "man"], ["tree"]]))
            >>> caption.tolist(), keyword.tolist()
            ([0, 0], [0, 1])
        """
        words = tokens.flatten()
        lengths = pc.fill_null(tokens.value_lengths(), 0).to_numpy(zero_copy_only=False)
        owner = np.repeat(np.arange(len(tokens), dtype=np.int64), lengths)
        found = [np.zeros(0, dtype=np.int64)]
        for size, (spellings, places) in self._by_size.items():
            starts = self._starts(words, owner, size)
            grams = words.take(pa.array(starts))
            if size > 1:
                grams = pc.binary_join_element_wise(*[words.take(pa.array(starts + i)) for i in range(size)], " ")
            hit = pc.fill_null(pc.index_in(grams, value_set=spellings), -1).to_numpy(zero_copy_only=False)
            found.append(owner[starts[hit >= 0]] * len(self.names) + places[hit[hit >= 0]])
        pairs = np.unique(np.concatenate(found))
        return pairs // max(1, len(self.names)), pairs % max(1, len(self.names))

    def _starts(self, words: pa.Array, owner: NDArray[np.int64], size: int) -> NDArray[np.int64]:
        """Returns where a keyword of `size` words may begin: at its first word, and within one caption."""
        last = max(0, len(owner) - size + 1)
        if size == 1:
            return np.arange(last, dtype=np.int64)
        heads = pc.is_in(words.slice(0, last), value_set=self._heads[size]).to_numpy(zero_copy_only=False)
        return np.flatnonzero(heads & (owner[:last] == owner[size - 1 :][:last]))

    @cached_property
    def _by_size(self) -> dict[int, tuple[pa.Array, NDArray[np.int64]]]:
        """For each number of words: the spellings of that length, and the keyword of each spelling."""
        spellings: dict[int, dict[str, int]] = {}
        for place, name in enumerate(self.names):
            parts = keyword_words(name)
            for spelling in (parts, ["-".join(parts)]):
                spellings.setdefault(len(spelling), {}).setdefault(" ".join(spelling), place)
        return {
            size: (pa.array(list(found), pa.string()), np.array(list(found.values()), dtype=np.int64))
            for size, found in sorted(spellings.items())
        }

    @cached_property
    def _heads(self) -> dict[int, pa.Array]:
        return {
            size: pa.array(sorted({gram.split(" ")[0] for gram in grams.to_pylist()}), pa.string())
            for size, (grams, _) in self._by_size.items()
        }
