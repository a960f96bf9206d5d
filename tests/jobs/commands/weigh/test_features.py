from pyspark.sql import SparkSession

from jobs.commands.weigh.features import vocabulary
from jobs.runtime import config


def test_a_word_is_weighed_by_if_it_kept_its_share_whatever_the_filter_took_of_all(
    spark: SparkSession, settings: config.Settings
) -> None:
    # Half of everything is dropped, of "slime" nine in ten.
    rows = [(["slime" if i % 2 else "cat"], i % 20 in (1, 0, 2, 4, 6, 8, 10, 12, 14, 16)) for i in range(2000)]
    frame = spark.createDataFrame(rows, "words array<string>, kept boolean")
    assert vocabulary(frame, settings.weigh, kept=0.5) == ("cat",)
