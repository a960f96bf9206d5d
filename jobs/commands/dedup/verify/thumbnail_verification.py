"""Verifies pairs of near hashes by the thumbnails of their images.

Beyond a safe distance, different images have near hashes too, but the fine structure of their thumbnails does not
agree: see `udfs.images.agreement`. With `dedup.strict`, all pairs are verified, and one differing detail is enough to
separate two images: see `udfs.images.registration`.
"""

from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from jobs.matching.rule import Rule
from models.errors import WinnowError
from udfs.images.agreement import AGREE, agreement_of
from udfs.images.appearance import facing
from udfs.images.registration import looks_alike


def thumbnails(signals: DataFrame, nodes: DataFrame, pairs: DataFrame, rule: Rule) -> DataFrame:
    """Returns the thumbnail of each node of some pairs.

    Args:
        signals: Table signals.
        nodes: As `hash_nodes.numbered` returns them.
        pairs: a, b (ranks). Thumbnails of other nodes are not moved.
        rule: The rule, which names the encoder.

    Returns:
        rank, thumbnail.
    """
    ends = pairs.select(F.explode(F.array("a", "b")).alias("rank")).distinct()
    own = signals.where(F.col("encoder") == rule.encoder).select("image_id", "thumbnail")
    return nodes.select("rank", "image_id").join(ends, "rank").join(own, "image_id").select("rank", "thumbnail")


def confirmed(pairs: DataFrame, thumbnails: DataFrame, rule: Rule) -> DataFrame:
    """Returns the pairs whose images look the same, with all their columns.

    Args:
        pairs: a, b (ranks), mirrored and further columns.
        thumbnails: rank, thumbnail.
        rule: In strict mode, no detail may differ. Else the fine structure must agree.
    """
    joined = with_both(pairs, thumbnails)
    same = looks_alike("left", "right") if rule.strict else agreement_of("left", "right") >= AGREE
    return joined.where(same).select(*pairs.columns)


def with_both(pairs: DataFrame, thumbnails: DataFrame) -> DataFrame:
    """Adds left and right to the pairs: the thumbnails of both images, or of the mirror image of the second one.

    Args:
        pairs: a, b (ranks), mirrored.
        thumbnails: rank, thumbnail. Pairs without both are left out.
    """
    for end, name in (("a", "left"), ("b", "right")):
        pairs = pairs.join(thumbnails.select(F.col("rank").alias(end), F.col("thumbnail").alias(name)), end)
    return pairs.withColumn("right", facing("right", "mirrored"))


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
