"""`dedup.strict`: verifies pairs of near hashes by the thumbnails of their images.

The hash of a sibling (a clock at another time) may be nearer than the hash of a copy, so no distance separates them.
The thumbnails do: see `udfs.images.registration`.
"""

from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from jobs.matching.rule import Rule
from models.errors import WinnowError
from udfs.images.registration import looks_alike


def thumbnails(signals: DataFrame, nodes: DataFrame, rule: Rule) -> DataFrame:
    """Returns the thumbnail of each comparable node.

    Args:
        signals: Table signals.
        nodes: As `hash_nodes.numbered` returns them.
        rule: The rule, which names the encoder.

    Returns:
        rank, thumbnail.
    """
    own = signals.where(F.col("encoder") == rule.encoder).select("image_id", "thumbnail")
    return nodes.where("comparable").select("rank", "image_id").join(own, "image_id").select("rank", "thumbnail")


def confirmed(pairs: DataFrame, thumbnails: DataFrame) -> DataFrame:
    """Returns the pairs whose images look the same, with all their columns.

    Args:
        pairs: a, b (ranks) and further columns.
        thumbnails: rank, thumbnail.
    """
    joined = pairs
    for end, name in (("a", "left"), ("b", "right")):
        joined = joined.join(thumbnails.select(F.col("rank").alias(end), F.col("thumbnail").alias(name)), end)
    return joined.where(looks_alike("left", "right")).select(*pairs.columns)


def check(signals: DataFrame, rule: Rule) -> None:
    """Checks, before the work begins, that all images have thumbnails.

    Args:
        signals: Table signals.
        rule: The rule, which names the encoder.

    Raises:
        WinnowError: Images were scored by a version of Winnow that stored no thumbnails.
    """
    missing = signals.where((F.col("encoder") == rule.encoder) & F.col("thumbnail").isNull()).count()
    if missing:
        raise WinnowError(
            f"dedup.strict needs thumbnails, but {missing:,} images were scored by a version that stored none: delete "
            "the table signals and run `winnow score` again, or use `--set dedup.strict=false`"
        )
