"""The commands that are named after a command has ended."""

from datetime import datetime
from typing import Any

import pytest

from jobs.job import Job
from jobs.lake import tables
from jobs.lake.lake import Lake
from jobs.models_in_use import HEAD
from jobs.next_commands import next_commands
from jobs.runtime import config
from jobs.runtime.progress import Progress
from tests.builders.lake_rows import write_rows

OPTIONS = ("--lake", "my lake", "--conf", "mine.toml")
LAKE = "--lake 'my lake' --conf mine.toml"


def following(lake: Lake, command: str, *overrides: str, **options: Any) -> list[str]:
    job = Job(lake, config.load(overrides=list(overrides)), Progress.silent(), OPTIONS)
    return next_commands(job, command, options)


@pytest.mark.parametrize(
    ("command", "options", "expected"),
    [
        ("ingest", {"sources": ["a"]}, ["winnow score"]),
        ("filter", {"dry_run": False}, ["winnow dedup"]),
        ("filter", {"dry_run": True}, ["winnow filter"]),
        ("dedup", {"dry_run": True}, ["winnow dedup"]),
        ("score", {}, ["winnow filter"]),
        ("run", {}, ["winnow browse", "winnow export DIR --format webdataset"]),
        ("label next", {"category": "cats"}, ["winnow label serve cats"]),
        ("label serve", {"category": "duplicates"}, ["winnow report"]),
        ("verify", {}, []),
        ("export", {"directory": "a"}, []),
    ],
)
def test_each_command_names_the_next_one_with_all_options(
    lake: Lake, command: str, options: dict[str, Any], expected: list[str]
) -> None:
    assert following(lake, command, **options) == [f"{one} {LAKE}" for one in expected]


def test_a_category_goes_from_random_labels_to_labels_to_train_on_to_its_classifier(lake: Lake) -> None:
    cats = 'categories.cats={definition="Cats."}'

    def after(command: str, **options: Any) -> str:
        (found,) = following(lake, command, cats, **options)
        return found.removesuffix(f" {LAKE}").removeprefix("winnow ")

    assert after("score") == "label next cats --strategy random"
    write_rows(lake, tables.LABELS, [("a" * 32, "cats", True, "random", "anna", datetime(2026, 1, 1))])
    assert after("label serve", category="cats") == "label next cats --strategy seed" == after("score")
    write_rows(lake, tables.LABELS, [("b" * 32, "cats", True, "seed", "anna", datetime(2026, 1, 1))])
    assert after("label import", file="a.csv") == "train cats" == after("score")
    lake.write_file(HEAD.format("cats"), b"a model")
    assert after("label serve", category="cats") == "train cats" and after("score") == "calibrate"


def test_a_set_threshold_and_a_model_need_no_random_labels(lake: Lake) -> None:
    job = 'categories.cats={definition="Cats.", threshold=0.5}'
    assert following(lake, "score", job)[0].startswith("winnow label next cats --strategy seed --lake")
    own = 'categories.cats={definition="Cats.", model={path="a.onnx", size=[8, 8]}}'
    assert following(lake, "score", own) == [f"winnow calibrate {LAKE}"]
    assert following(lake, "label serve", own, category="cats") == [f"winnow calibrate {LAKE}"]
