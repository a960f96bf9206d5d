import pytest
from pyspark.sql import SparkSession
from pyspark.sql import functions as F

from udfs.captions import caption_words, keywords_in

CAPTIONS = [
    ("A Woman, a woman's hat", ["a", "woman", "woman's", "hat"], [0]),
    ("mailman and WOMAN.", ["mailman", "and", "woman"], [0]),
    ("der ältere Mann — Straße", ["der", "ältere", "mann", "straße"], [2]),
    ("an old  man\nwalks", ["an", "old", "man", "walks"], [1, 3]),
    ("старая женщина", ["старая", "женщина"], []),
    (None, [], []),
    ("", [], []),
]


@pytest.mark.parametrize(("caption", "words", "found"), CAPTIONS)
def test_words_and_keywords(spark: SparkSession, caption: str, words: list[str], found: list[int]) -> None:
    frame = spark.createDataFrame([(caption,)], "caption string")
    keywords = ("woman", "man", "mann", "old man")
    row = frame.select(
        caption_words(F.col("caption")).alias("words"), keywords_in(F.col("caption"), keywords).alias("found")
    ).collect()[0]
    assert list(row.words) == words
    assert list(row.found) == found
