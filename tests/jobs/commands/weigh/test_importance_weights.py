"""Importance weights of hand-written rows, without a lake."""

import numpy as np
import pytest
from pyspark.sql import DataFrame, SparkSession

from jobs.commands.weigh.importance_weights import ImportanceWeights, WeighingConfig, importance_weights
from jobs.runtime.scratch import Scratch
from models.errors import SettingsError, WinnowError

REFERENCE = "image_id string, caption string, kept boolean"
SIGNALS = "image_id string, embedding array<float>"


def animal(number: int) -> str:
    return ("cat", "dog")[number % 2]


def cats_and_dogs(spark: SparkSession) -> DataFrame:
    """400 images, half of them cats and half dogs; the filter removes every second dog."""
    rows = [(f"{n:032x}", f"a {animal(n)}", n % 4 != 1) for n in range(400)]
    return spark.createDataFrame(rows, REFERENCE)


def mean_weights(found: ImportanceWeights) -> dict[str, float]:
    weights = {row.image_id: row.weight for row in found.weights.collect()}
    return {
        name: float(np.mean([weight for image, weight in weights.items() if animal(int(image, 16)) == name]))
        for name in ("cat", "dog")
    }


def test_remaining_dogs_weigh_twice_as_much_after_the_filter_halved_the_dogs(spark: SparkSession, tmp_path) -> None:
    config = WeighingConfig.with_defaults(features=["caption"], min_support=0.5, regularisation=0.1)
    with Scratch(spark, str(tmp_path)) as scratch:
        found = importance_weights(cats_and_dogs(spark), None, config, scratch)
        weights, count = mean_weights(found), found.weights.count()
    # 200 cats and 100 dogs are kept. Their weights have the sum 300, half of it for each kind.
    assert count == 300
    assert weights == pytest.approx({"cat": 0.75, "dog": 1.5}, rel=0.02)
    quality = found.quality
    assert (quality.kept, quality.reference, quality.clipped, quality.features) == (300, 400, 0, ("caption",))
    assert quality.effective_sample_size == pytest.approx(300**2 / (200 * 0.75**2 + 100 * 1.5**2), rel=0.01)
    assert quality.beyond_reach is None and found.beyond_reach == ()
    assert sum(one.images for one in found.reliability) == 700


def test_embeddings_correct_a_bias_without_caption_words_and_show_images_beyond_reach(
    spark: SparkSession, tmp_path
) -> None:
    rows = [(f"{n:032x}", "a photo", n % 4 != 1) for n in range(400)]
    # Cats point east, dogs north. A fifth of the removed dogs point in a direction without kept images.
    directions = ([1.0, 0.0, 0.0], [0.0, 1.0, 0.0], [0.0, 0.0, 1.0])
    signals = [(f"{n:032x}", directions[2 if n % 20 == 1 else n % 2]) for n in range(400)]
    config = WeighingConfig.with_defaults(dims=3, features=["embedding"], regularisation=0.1, max_weight=4.0)
    with Scratch(spark, str(tmp_path)) as scratch:
        frames = spark.createDataFrame(rows, REFERENCE), spark.createDataFrame(signals, SIGNALS)
        found = importance_weights(*frames, config, scratch)
        weights = mean_weights(found)
    assert weights["dog"] / weights["cat"] > 1.5
    assert found.quality.beyond_reach == pytest.approx(0.2)
    assert [int(one.image_id, 16) for one in found.beyond_reach] == list(range(1, 400, 20))


def test_impossible_weighing_fails_with_a_message(spark: SparkSession, tmp_path) -> None:
    nothing = spark.createDataFrame([("a", "a cat", False)], REFERENCE)
    with Scratch(spark, str(tmp_path)) as scratch:
        with pytest.raises(WinnowError, match="none of 1 images is kept, so there is nothing to weigh"):
            importance_weights(nothing, None, WeighingConfig.with_defaults(), scratch)
        with pytest.raises(WinnowError, match="no embeddings were given"):
            importance_weights(nothing, None, WeighingConfig.with_defaults(features=["embedding"]), scratch)
    with pytest.raises(SettingsError, match=r"weigh\.fold: there is no such setting"):
        WeighingConfig.with_defaults(fold=3)
