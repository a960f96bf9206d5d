import pyarrow as pa

from jobs.commands.filter import caption_words
from jobs.commands.filter.caption_words import WordReasons
from udfs.text.captions import keyword_words

WORDS = {
    "toys": ["doll", "Teddy Bear", "Straße"],
    "people": ["женщина", "grand-mère", "हिन्दी", "女性", "امرأة", "old man", "doll"],
}
CAPTIONS = [
    ("A teddy-bear and a DOLL, a doll", ["people: doll", "toys: Teddy Bear", "toys: doll"]),
    ("dolls, a teddy\nbear's hat", ["toys: Teddy Bear"]),
    ("teddy. Then a bear", []),
    ("STRASSE", ["toys: Straße"]),
    ("Старая Женщина", ["people: женщина"]),
    ("ma grand-mère et हिन्दी", ["people: grand-mère", "people: हिन्दी"]),
    ("ｏｌｄ ＭＡＮ, صورة امرأة", ["people: old man", "people: امرأة"]),
    ("女性 と 犬", ["people: 女性"]),
    ("女性と犬", []),  # no space between the words: see docs/weighing.md
    ("mailman", []),
    (None, []),
    ("", []),
]


def named(reasons: list[str]) -> list[str]:
    return sorted(why.replace('caption has "', "").rstrip('"') for why in reasons)


def test_words_are_found_in_captions_that_are_split_into_words() -> None:
    tokens = pa.array([keyword_words(caption or "") for caption, _ in CAPTIONS], pa.list_(pa.string()))

    found = WordReasons.of(WORDS)(tokens)

    assert [named(why) for why in found.to_pylist()] == [wanted for _, wanted in CAPTIONS]
    assert found.slice(0, 1).to_pylist()[0][0] == 'toys: caption has "doll"'
    assert WordReasons.of(WORDS)(tokens.slice(4, 0)).to_pylist() == []


def test_words_remove_images_by_their_captions(spark) -> None:
    rows = [(str(i), caption) for i, (caption, _) in enumerate(CAPTIONS)]

    found = caption_words.found(spark.createDataFrame(rows, "image_id string, caption string"), WORDS).collect()

    for i, (_, wanted) in enumerate(CAPTIONS):
        assert named([row.why for row in found if row.image_id == str(i)]) == wanted
