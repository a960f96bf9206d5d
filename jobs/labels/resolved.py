"""Origins of labels, and which of several labels of an image counts."""

from pyspark.sql import DataFrame
from pyspark.sql import functions as F

ORIGINS = ("seed", "random", "precision", "recall", "import")
"""Allowed origins of a label; labels of origin `random` are set apart for calibration."""


def resolved(labels: DataFrame, by: str = "newest") -> DataFrame:
    """Returns one label for each image and category.

    If labels have the same time, the positive one counts: a wrong positive costs an image, but a wrong negative teaches
    the model the opposite of what it must learn.

    Args:
        labels: Table labels.
        by: `newest`, or `majority`: each annotator's newest label is one vote, and the newest label decides a tie.

    Returns:
        image_id, category, label boolean, contradicted boolean (both labels were given).
    """
    # Structures compare field by field: null comes before any time, and false before true.
    votes = labels.groupBy("image_id", "category", "annotator").agg(
        F.max(F.struct("labelled_at", "label")).alias("vote"),
        F.min("label").alias("low"),
        F.max("label").alias("high"),
    )
    newest, yes, both = F.max("vote")["label"], 2 * F.count_if("vote.label"), F.min("low") != F.max("high")
    majority = F.when(yes == F.count("*"), newest).otherwise(yes > F.count("*"))
    chosen = majority if by == "majority" else newest
    return votes.groupBy("image_id", "category").agg(chosen.alias("label"), both.alias("contradicted"))
