"""`near_duplicates` on hand-written rows, without a lake."""

import re
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from pyspark.sql import DataFrame, SparkSession

from jobs.commands.dedup.near_duplicates import NearDuplicateConfig, near_duplicates
from jobs.matching.rule import Rule
from jobs.runtime.scratch import Scratch
from models.errors import SettingsError
from tests.builders.hash_lakes import hashes, near

ROOT = Path(__file__).parents[4]
RULE = Rule("pdq", "encoder", 31, 50)
SIGNALS = (
    "image_id string, encoder string, pdq binary, pdq_quality int, embedding array<float>, embedding_hash binary, "
    "content string, thumbnail binary"
)


def frames(spark: SparkSession) -> tuple[DataFrame, DataFrame]:
    """Returns a large image `a`, a copy `b` at 20 bits, `c` at 40 bits, and a different image `d`."""
    one, other = hashes(2)
    close = near(one, 20, seed=1)
    rows = [("a", one, 200), ("b", close, 100), ("c", near(one, 40, seed=2), 100), ("d", other, 100)]
    signals = [(i, "encoder", bytes(h), 100, [1.0], bytes(h), f"{ord(i):064x}", None) for i, h, _ in rows]
    images = [(i, width, 100, "a picture") for i, _, width in rows]
    return (
        spark.createDataFrame(signals, SIGNALS),
        spark.createDataFrame(images, "image_id string, width int, height int, caption string"),
    )


@pytest.mark.slow
def test_the_larger_of_two_near_images_is_kept_and_others_stay(spark: SparkSession, tmp_path: Path) -> None:
    (tmp_path / "mine.txt").write_text("kept")
    signals, images = frames(spark)
    with Scratch(spark, str(tmp_path)) as scratch:
        found = near_duplicates(signals, images, NearDuplicateConfig.with_defaults(RULE, recall=0.999), scratch)
        removed = [tuple(row) for row in found.removed.collect()]
        pairs = [tuple(row)[:3] for row in found.pairs.collect()]
        assert len(list(tmp_path.iterdir())) == 2, "intermediate results are in one new folder"
    assert removed == [("b", "a", 20, "lsh", False, True)] and pairs == [("a", "b", 20)]
    assert found.quality.whole.exhaustive == 1 and found.quality.whole.recall == 1.0
    assert [file.name for file in tmp_path.iterdir()] == ["mine.txt"]


def test_an_image_that_did_not_pass_loses_to_one_that_did(spark: SparkSession, tmp_path: Path) -> None:
    signals, images = frames(spark)
    verdicts = spark.createDataFrame([(i, i != "a") for i in "abcd"], "image_id string, kept boolean")
    with Scratch(spark, str(tmp_path)) as scratch:
        config = NearDuplicateConfig.with_defaults(RULE, recall=0.999)
        found = near_duplicates(signals, images, config, scratch, verdicts)
        assert [(*tuple(row)[:3], row.passed) for row in found.removed.collect()] == [("a", "b", 20, False)]


@pytest.mark.slow
def test_the_code_of_the_documents_works(spark: SparkSession, tmp_path: Path) -> None:
    blocks = re.findall(r"```python\n(.*?)```", (ROOT / "docs/spark.md").read_text(), re.S)
    code = next(block for block in blocks if "near_duplicates(" in block)
    tables = dict(zip(("signals", "images"), frames(spark), strict=True))
    shown: dict[str, Any] = {"lake": SimpleNamespace(session=spark, spark=tables.get)}
    exec(compile(code.replace('"scratch"', repr(str(tmp_path))), "spark.md", "exec"), shown)
    assert shown["removed"].to_dict("records") == [{"removed_id": "b", "kept_id": "a", "distance": 20}]
    assert shown["recall"].exhaustive == 1 and not list(tmp_path.iterdir())


def test_an_unknown_setting_is_refused() -> None:
    with pytest.raises(SettingsError, match="bits"):
        NearDuplicateConfig.with_defaults(RULE, bits=3)
    assert NearDuplicateConfig.with_defaults(RULE, clusterings=2).settings.clusterings == 2
