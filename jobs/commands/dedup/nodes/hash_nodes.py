"""The distinct hashes of a lake, each with its best image, ranked from best to worst."""

from collections.abc import Sequence

from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F
from pyspark.sql.types import LongType, StructField, StructType

from jobs.matching.rule import Rule
from jobs.runtime.scratch import Scratch
from udfs.arrays.row_indexer import RowIndexer
from udfs.hashes.hamming import HASH_BYTES

_PIXEL_BITS, _CAPTION_BITS = 31, 20


def members(signals: DataFrame, images: DataFrame, verdicts: DataFrame, rule: Rule) -> DataFrame:
    """Returns every scored image with its node and the values that decide its rank.

    Args:
        signals: Table signals.
        images: Table images.
        verdicts: Table verdicts; an image without a verdict has passed. Without the column kept_because, no person has
            decided to keep an image.
        rule: The rule for near-duplicates.

    Returns:
        image_id, node (the hash, in strict mode followed by the digest of the content; for an image too plain to hash
        only that digest), comparable (whether it has a usable hash), passed, decided (whether a person keeps it),
        resolution (pixels), caption (characters).
    """
    chosen = "pdq" if rule.hash == "pdq" else "embedding_hash"
    comparable = F.col("pdq_quality") >= rule.min_quality
    content = F.col("content").cast("binary")
    node = F.concat(chosen, content) if rule.strict else F.col(chosen)
    hashed = signals.where(F.col("encoder") == rule.encoder).select(
        "image_id",
        F.when(comparable, node).otherwise(content).alias("node"),
        comparable.alias("comparable"),
    )
    resolution = (F.col("width").cast("long") * F.col("height")).alias("resolution")
    facts = images.select("image_id", resolution, F.coalesce(F.length("caption"), F.lit(0)).alias("caption"))
    decided = F.col("kept_because").isNotNull() if "kept_because" in verdicts.columns else F.lit(False)
    judged = verdicts.select("image_id", F.col("kept").alias("passed"), decided.alias("decided"))
    joined = hashed.join(facts, "image_id").join(judged, "image_id", "left")
    return joined.na.fill({"passed": True, "decided": False}).select(
        "image_id", "node", "comparable", "passed", "decided", "resolution", "caption"
    )


def ordered(members: DataFrame, criteria: Sequence[str], incumbents: DataFrame | None = None) -> DataFrame:
    """Adds the order among all images: by passed the filter, kept by a person, kept by the earlier run, the criteria.

    Images that passed come first, so that none of them loses to an image that is not kept.

    Args:
        members: As `members` returns them.
        criteria: `resolution` and `caption`, the most important first; ties go to the smaller image_id.
        incumbents: image_id of images that an earlier run kept and that stay, whatever the criteria.

    Returns:
        image_id, node, comparable, passed, decided, order (24 bytes, smaller is better).
    """
    if incumbents is None:
        rows = members.withColumn("incumbent", F.lit(0))
    else:
        marked = incumbents.select("image_id", F.lit(1).alias("incumbent"))
        rows = members.join(marked, "image_id", "left").na.fill(0, ["incumbent"])
    return rows.select("image_id", "node", "comparable", "passed", "decided", _order(criteria).alias("order"))


def _order(criteria: Sequence[str]) -> Column:
    passed, decided = (F.col(name).cast("long") for name in ("passed", "decided"))
    merit = F.shiftleft(passed, 2) + F.shiftleft(decided, 1) + F.col("incumbent")
    for criterion in criteria:
        bits = _PIXEL_BITS if criterion == "resolution" else _CAPTION_BITS
        merit = F.shiftleft(merit, bits) + F.least(F.col(criterion), F.lit((1 << bits) - 1)).cast("long")
    worst_first = F.lit((1 << 62) - 1) - merit
    return F.concat(F.unhex(F.lpad(F.hex(worst_first), 16, "0")), F.unhex("image_id"))


def distinct_nodes(ordered: DataFrame) -> DataFrame:
    """Returns each distinct node once: node, comparable, order and image_id of its best image, members (a count)."""
    best = F.min(F.struct("order", "image_id")).alias("best")
    grouped = ordered.groupBy("node").agg(
        best, F.first("comparable").alias("comparable"), F.count("*").alias("members")
    )
    return grouped.select("node", "comparable", "best.order", "best.image_id", "members")


def numbered(nodes: DataFrame, scratch: Scratch) -> DataFrame:
    """Adds the rank to the nodes: 0 is the best.

    The search, the graph and all joins move this number instead of 56 bytes of hash and order. The ranks are written
    before they are used, because a recomputed sort may divide the rows into other partitions.

    Args:
        nodes: As `distinct_nodes` returns them; each order once.
        scratch: Stores the ranks.

    Returns:
        rank, node, comparable, image_id, members.
    """
    columns = [F.spark_partition_id().alias("part"), "node", "comparable", "image_id", "members"]
    ranged = nodes.repartitionByRange(scratch.shuffle_partitions, "order").sortWithinPartitions("order")
    sorted_nodes = scratch.keep(ranged.select(*columns))
    # One row for each partition.
    counts = {row.part: row["count"] for row in sorted_nodes.groupBy("part").count().collect()}
    offsets = {part: sum(counts[p] for p in counts if p < part) for part in counts}
    fields = [StructField("rank", LongType()), *sorted_nodes.schema.fields[1:]]
    return scratch.stage("nodes", sorted_nodes.mapInArrow(RowIndexer(offsets, "rank"), StructType(fields)))


def hash_of(node: str) -> Column:
    """Returns the hash of a comparable node.

    Args:
        node: Name of the column of nodes.
    """
    return F.substring(node, 1, HASH_BYTES)
