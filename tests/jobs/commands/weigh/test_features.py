from pyspark.sql import SparkSession

from jobs.commands.weigh.features import vocabulary
from jobs.runtime import config


def test_vocabulary_depends_on_the_kept_share_of_a_word_relative_to_all(
    spark: SparkSession, settings: config.Settings
) -> None:
    # The filter removes half of all captions, and nine in ten of "slime".
    rows = [(["slime" if i % 2 else "cat"], i % 20 in (1, 0, 2, 4, 6, 8, 10, 12, 14, 16)) for i in range(2000)]
    frame = spark.createDataFrame(rows, "words array<string>, kept boolean")
    assert vocabulary(frame, settings.weigh, kept=0.5) == ("cat",)
