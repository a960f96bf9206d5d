"""Rules of `filter` that remove images by words and phrases of their captions, matched as `audit` matches them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Self

import numpy as np
import pyarrow as pa
from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from udfs.text.captions import Keywords, caption_tokens, keyword_words


def faults(words: Mapping[str, Sequence[str]]) -> list[str]:
    """Returns what is wrong with the rules: a line for each text that no caption can match.

    Args:
        words: Words and phrases by name of the rule.

    Examples:
        >>> faults({"toys": ["doll", "?"], "cats": ["cat"]})
        ['filter.words.toys: "?" has no letter or digit, so it matches no caption: remove it']
    """
    return [
        f'filter.words.{name}: "{word}" has no letter or digit, so it matches no caption: remove it'
        for name, listed in words.items()
        for word in listed
        if not keyword_words(word)
    ]


def found(images: DataFrame, words: Mapping[str, Sequence[str]]) -> DataFrame:
    """Returns the words and phrases that remove each image.

    Args:
        images: Table images.
        words: Words and phrases by name of the rule, at least one rule.

    Returns:
        image_id, why: a row for each image, rule and word of the rule that is in the caption.
    """
    finder = WordReasons.of(words)

    def reasons(tokens: pa.Array) -> pa.Array:
        return finder(tokens)

    whys = F.arrow_udf(reasons, "array<string>")(caption_tokens(F.col("caption")))
    return images.select("image_id", F.explode(whys).alias("why"))


@dataclass(frozen=True)
class WordReasons:
    """Finds the words of rules in captions.

    Attributes:
        rules: Words and phrases of each rule.
        whys: The reason of each of them, in the same order.
    """

    rules: tuple[Keywords, ...]
    whys: tuple[str, ...]

    @classmethod
    def of(cls, words: Mapping[str, Sequence[str]]) -> Self:
        """Returns the finder of the words of some rules, by name of the rule."""
        rules = {name: Keywords.of(listed) for name, listed in words.items()}
        whys = tuple(f'{name}: caption has "{word}"' for name, rule in rules.items() for word in rule.names)
        return cls(tuple(rules.values()), whys)

    def __call__(self, tokens: pa.ListArray) -> pa.ListArray:
        """Returns the reasons of each caption, list<string> of length n.

        Args:
            tokens: Words of each caption in order, as from `caption_tokens`, list<string> of length n.

        Examples:
            >>> toys = WordReasons.of({"toys": ["doll", "teddy bear"], "bears": ["bear"]})
            >>> toys(pa.array([["a", "teddy", "bear"], ["a", "bearing"]])).to_pylist()
            [['toys: caption has "teddy bear"', 'bears: caption has "bear"'], []]
        """
        captions, places, before = [], [], 0
        for rule in self.rules:
            caption, keyword = rule.places(tokens)
            captions.append(caption)
            places.append(keyword + before)
            before += len(rule.names)
        owner = np.concatenate(captions)
        order = np.argsort(owner, kind="stable")
        ends = np.cumsum(np.bincount(owner, minlength=len(tokens)))
        offsets = pa.array(np.concatenate([[0], ends]), pa.int32())
        return pa.ListArray.from_arrays(offsets, pa.array(self.whys).take(pa.array(np.concatenate(places)[order])))
