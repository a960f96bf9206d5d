"""`dedup.strict`: pairs of near hashes looked at again, by the thumbnails of their pictures.

The hash of a copy may lie farther from its original's than that of a sibling (a clock at another time), so that no
distance tells them apart. The thumbnails do: see `udfs.images.registration`.
"""

from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from jobs.matching.rule import Rule
from models.errors import WinnowError
from udfs.images.registration import looks_alike


def thumbnails(signals: DataFrame, nodes: DataFrame, rule: Rule) -> DataFrame:
    """The thumbnail of each node that is compared.

    Args:
        signals: Table signals.
        nodes: As `hash_nodes.numbered` returns them.
        rule: Which signals count.

    Returns:
        rank, thumbnail.
    """
    of_encoder = signals.where(F.col("encoder") == rule.encoder).select("image_id", "thumbnail")
    return nodes.where("comparable").select("rank", "image_id").join(of_encoder, "image_id").select("rank", "thumbnail")


def confirmed(pairs: DataFrame, thumbnails: DataFrame) -> DataFrame:
    """The pairs whose pictures show the same; all their columns.

    Args:
        pairs: a, b (ranks) and further columns.
        thumbnails: rank, thumbnail.
    """
    seen = pairs
    for end, name in (("a", "left"), ("b", "right")):
        seen = seen.join(thumbnails.select(F.col("rank").alias(end), F.col("thumbnail").alias(name)), end)
    return seen.where(looks_alike("left", "right")).select(*pairs.columns)


def check(signals: DataFrame, rule: Rule) -> None:
    """Stops before work begins where pictures have no thumbnail.

    Args:
        signals: Table signals.
        rule: Which signals count.

    Raises:
        WinnowError: Some were scored before thumbnails were kept.
    """
    blind = signals.where((F.col("encoder") == rule.encoder) & F.col("thumbnail").isNull()).count()
    if blind:
        raise WinnowError(
            f"dedup.strict looks at thumbnails, and {blind:,} images were scored by a version that kept none: remove "
            "the table signals and run `winnow score` again, or set dedup.strict=false"
        )
