from jobs.runtime import settings_reference
from jobs.runtime.config import Settings

COMMENTS = """\
seed = 0   # of all samples

[audit]   # words
# Names of columns
# in order.
first = ["a#b"]
second = ["c"]
# third = 3   # off: as many
              # as there are

fourth = "x # y"   # a hash sign
# [categories.boats]
# recall = 0.95   # share found
"""


def test_the_comments_of_a_toml_file_are_read_with_what_they_belong_to() -> None:
    found = {key: tuple(comment) for key, comment in settings_reference.comments_of(COMMENTS).items()}

    assert found == {
        "seed": ("of all samples", "0"),
        "audit": ("words", ""),
        "audit.first": ("Names of columns in order.", '["a#b"]'),
        "audit.second": ("Names of columns in order.", '["c"]'),
        "audit.third": ("off: as many as there are", "3"),
        "audit.fourth": ("a hash sign", '"x # y"'),
        "categories.NAME": ("", ""),
        "categories.NAME.recall": ("share found", "0.95"),
    }


def test_settings_sections_and_fields_of_models_have_names_and_meanings() -> None:
    schema = Settings.model_json_schema()

    names, meanings = settings_reference.names(schema), settings_reference.explanations(schema)

    for name in (
        "seed",
        "dedup",
        "dedup.max_distance",
        "filter.rules",
        "categories.NAME",
        "categories.NAME.recall",
        "categories.NAME.model.index",
        "encoder.model",
        "encoder.model.crop_pct",
        "export.card.license",
    ):
        assert names.count(name) == 1, name
    assert "encoder.model.index" not in names
    assert meanings["dedup.recall"].startswith("fraction of pairs within max_distance")
    assert meanings["semantic.model.layout"] == "Order of the input's axes."
    assert meanings["categories.NAME.model.index"] == "Column of the category in the output, counted from 0."
