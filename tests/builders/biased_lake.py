"""A lake of 600 captions with a filter that is biased, for the tests of `weigh` and `audit`."""

from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from jobs.job import Job
from jobs.lake import tables
from jobs.lake.recipe import Recipe


def fill(job: Job) -> None:
    """Writes 600 captions; the filter removes a quarter of the women and nothing else; one man is a duplicate."""
    spark, rows, verdicts = job.lake.spark, [], []
    for number in range(600):
        word = ("woman", "man", "tree")[number % 3]
        image_id = f"{number:032x}"
        rows.append((image_id, str(number), "s", f"A {word}, outside", b"x", 10, 10, "PNG", "{}"))
        verdicts.append((image_id, word != "woman" or number % 4 != 0, []))
    recipe = Recipe("test")
    images = spark.createDataFrame(rows, "image_id string, key string, source string, caption string, image binary, "
                                   "width int, height int, format string, meta string")  # fmt: skip
    job.lake.append(tables.IMAGES, _with_extra_columns(images), recipe)
    job.lake.append(tables.VERDICTS, spark.createDataFrame(verdicts, tables.VERDICTS.schema), recipe)
    duplicates = [(f"{1:032x}", f"{4:032x}", 3, "lsh")]
    job.lake.append(tables.DUPLICATES, spark.createDataFrame(duplicates, tables.DUPLICATES.schema), recipe)
    job.lake.append(tables.FILTERED_DUPLICATES, spark.createDataFrame([], tables.FILTERED_DUPLICATES.schema), recipe)


def _with_extra_columns(images: DataFrame) -> DataFrame:
    for field in tables.IMAGES.schema.fields:
        if field.name not in images.columns:
            images = images.withColumn(field.name, F.lit(0).cast(field.dataType))
    return images
