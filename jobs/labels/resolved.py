"""Where labels come from, and which of several counts."""

from pyspark.sql import DataFrame
from pyspark.sql import functions as F

ORIGINS = ("seed", "random", "precision", "recall", "import")
"""Where a label may come from; `random` is a random sample, set apart for calibration."""


def resolved(labels: DataFrame, by: str = "newest") -> DataFrame:
    """One label for each image and category, however many were given.

    Of labels that are equally new the positive one counts: a wrong positive costs an image, a wrong negative teaches
    the model what it must not learn.

    Args:
        labels: Table labels.
        by: `newest`, or `majority`: each annotator's newest label is a vote; where votes are even the newest counts.

    Returns:
        image_id, category, label boolean, contradicted boolean (both labels were given).
    """
    # Structures compare field by field, no time before any time and false before true.
    votes = labels.groupBy("image_id", "category", "annotator").agg(
        F.max(F.struct("labelled_at", "label")).alias("vote"),
        F.min("label").alias("low"),
        F.max("label").alias("high"),
    )
    newest, yes, both = F.max("vote")["label"], 2 * F.count_if("vote.label"), F.min("low") != F.max("high")
    majority = F.when(yes == F.count("*"), newest).otherwise(yes > F.count("*"))
    chosen = majority if by == "majority" else newest
    return votes.groupBy("image_id", "category").agg(chosen.alias("label"), both.alias("contradicted"))
