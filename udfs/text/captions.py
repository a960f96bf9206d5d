"""Captions as words, and keywords among them.

Words are cut out by a Spark expression, since a regular expression runs faster in the JVM than a row in Python;
keywords are looked up in Arrow, a whole batch at a time.
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
"""A word: letters, marks and digits of any script, joined by hyphens. An apostrophe parts words, so that "woman's" and
"l'homme" hold "woman" and "homme". Scripts that put no space between words give one long word: see README.md."""

_JOINED = re.compile(r"[^\s-]+(?:-[^\s-]+)*")


def fold(text: str) -> str:
    """A text as it is compared: one form for each character (NFKC), and no difference of case.

    Examples:
        >>> fold("Ｗoman"), fold("STRASSE") == fold("Straße")
        ('woman', True)
    """
    return unicodedata.normalize("NFKC", text).casefold()


def fold_captions(captions: pa.Array) -> pa.Array:
    """`fold` for an Arrow array of strings; a missing caption stays missing."""
    return pa.array([None if caption is None else fold(caption) for caption in captions.to_pylist()], pa.string())


def caption_tokens(caption: Column) -> Column:
    """A caption's words in order, folded, as array<string>; empty for a missing caption."""
    found = F.regexp_extract_all(F.arrow_udf(fold_captions, "string")(caption), F.lit(f"({WORD})"))
    return F.coalesce(found, F.array().cast("array<string>"))


def caption_words(caption: Column) -> Column:
    """A caption's words, each once, as array<string>."""
    return F.array_distinct(caption_tokens(caption))


def keyword_words(keyword: str) -> list[str]:
    """A keyword's words, cut as `caption_tokens` cuts a caption; none where no letter, mark or digit is in it.

    Examples:
        >>> keyword_words("AT&T"), keyword_words("St. Patrick"), keyword_words("Grand-mère")
        (['at', 't'], ['st', 'patrick'], ['grand-mère'])
        >>> keyword_words("🙂 & –")
        []
    """
    # Python's regular expressions do not know the classes of `WORD`: what is in none of them becomes a space.
    kept = (c if c == "-" or unicodedata.category(c)[0] in "LMN" else " " for c in fold(keyword))
    return _JOINED.findall("".join(kept))


@dataclass(frozen=True)
class Keywords:
    """Words and phrases to look for by whole words, whatever their case.

    The words of a phrase must follow each other, parted by spaces or joined by hyphens.

    Attributes:
        names: The keywords as they were given.
    """

    names: tuple[str, ...]

    @classmethod
    def of(cls, names: Sequence[str]) -> "Keywords":
        """The keywords without those that say the same as an earlier one, or have no word in them.

        Examples:
            >>> Keywords.of(["Woman", "woman", "old  man"]).names
            ('Woman', 'old  man')
        """
        first = {" ".join(keyword_words(name)): name for name in reversed(list(names)) if keyword_words(name)}
        kept = set(first.values())
        return cls(tuple(dict.fromkeys(name for name in names if name in kept)))

    @cached_property
    def spellings(self) -> tuple[str, ...]:
        """Each keyword folded, its words parted by one space."""
        return tuple(" ".join(keyword_words(name)) for name in self.names)

    def places(self, tokens: pa.ListArray) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Which keywords captions hold; each counts once a caption.

        Args:
            tokens: Words of each caption in order, as `caption_tokens` gives them, list<string> of length n.

        Returns:
            Caption (0 to n - 1) and keyword (its place in `names`), int64 of equal shape, sorted by caption.

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
        """Where a keyword of so many words may begin: at its first word, and not across two captions."""
        last = max(0, len(owner) - size + 1)
        if size == 1:
            return np.arange(last, dtype=np.int64)
        heads = pc.is_in(words.slice(0, last), value_set=self._heads[size]).to_numpy(zero_copy_only=False)
        return np.flatnonzero(heads & (owner[:last] == owner[size - 1 :][:last]))

    @cached_property
    def _by_size(self) -> dict[int, tuple[pa.Array, NDArray[np.int64]]]:
        """For each number of words the spellings of that length and the keyword that each stands for."""
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
