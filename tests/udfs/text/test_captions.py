import pyarrow as pa
import pytest
from pyspark.sql import SparkSession
from pyspark.sql import functions as F

from udfs.text.captions import Keywords, caption_tokens, caption_words, keyword_words

KEYWORDS = Keywords(("woman", "man", "mann", "old man", "grand-mère", "homme", "African American", "strasse", "U.S.",
                     "AT&T", "St. Patrick", "mother/father"))  # fmt: skip
CAPTIONS = [
    ("A Woman, a woman's hat", ["a", "woman", "s", "hat"], ["woman"]),
    ("mailman and WOMAN.", ["mailman", "and", "woman"], ["woman"]),
    ("der ältere Mann — Straße", ["der", "ältere", "mann", "strasse"], ["mann", "strasse"]),
    ("an old  man\nwalks", ["an", "old", "man", "walks"], ["man", "old man"]),
    ("old. Then a man", ["old", "then", "a", "man"], ["man"]),
    ("Portrait d’homme et grand-mère", ["portrait", "d", "homme", "et", "grand-mère"], ["grand-mère", "homme"]),
    ("African-American", ["african-american"], ["African American"]),
    ("ｗｏｍａｎ, MA\u0308NN", ["woman", "männ"], ["woman"]),
    ("старая женщина", ["старая", "женщина"], []),
    ("हिन्दी", ["हिन्दी"], []),
    ("The U.S. flag, us", ["the", "u", "s", "flag", "us"], ["U.S."]),
    ("AT&T, St. Patrick's", ["at", "t", "st", "patrick", "s"], ["AT&T", "St. Patrick"]),
    ("mother/father--son", ["mother", "father", "son"], ["mother/father"]),
    ("-five_stars-", ["five", "stars"], []),
    (None, [], []),
    ("", [], []),
]


def test_words_and_keywords_of_captions(spark: SparkSession) -> None:
    frame = spark.createDataFrame([(i, c) for i, (c, _, _) in enumerate(CAPTIONS)], "place int, caption string")
    tokens = frame.select("place", caption_tokens(F.col("caption")).alias("tokens"), caption_words(F.col("caption")))
    rows = sorted(tokens.collect())
    assert [list(row[2]) for row in rows] == [words for _, words, _ in CAPTIONS]
    caption, keyword = KEYWORDS.places(pa.array([row.tokens for row in rows], pa.list_(pa.string())))
    found = [[KEYWORDS.names[k] for k in keyword[caption == i]] for i in range(len(CAPTIONS))]
    assert found == [keywords for _, _, keywords in CAPTIONS]
    # Keywords are split like captions.
    assert [keyword_words(caption or "") for caption, _, _ in CAPTIONS] == [list(row.tokens) for row in rows]


def test_phrases_match_only_within_one_caption() -> None:
    tokens = pa.array([["left", "out"], ["an", "old"], ["man"], ["old", "man", "old", "man"]])
    caption, keyword = Keywords(("old man",)).places(tokens)
    assert (caption.tolist(), keyword.tolist()) == ([3], [0])
    caption, _ = Keywords(("old man",)).places(tokens.slice(2))
    assert caption.tolist() == [1]


@pytest.mark.parametrize("names", [(), ("tree",), ("a tall tree",)])
def test_captions_without_words_have_no_keywords(names: tuple[str, ...]) -> None:
    assert Keywords(names).places(pa.array([[], None], pa.list_(pa.string())))[0].tolist() == []
