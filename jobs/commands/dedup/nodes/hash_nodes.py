"""The distinct hashes of a lake, each with its best image, ranked from best to worst."""

from collections.abc import Sequence

from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F
from pyspark.sql.types import LongType, StructField, StructType

from jobs.commands.dedup.nodes import ranking
from jobs.matching.rule import Rule
from jobs.runtime.scratch import Scratch
from udfs.arrays.row_indexer import RowIndexer
from udfs.hashes.hamming import HASH_BYTES


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
        resolution (pixels), caption (characters), and what `score` measured: `ranking.MEASURED`.
    """
    chosen = hash_column(rule)
    comparable = F.col("pdq_quality") >= rule.min_quality
    content = F.col("content").cast("binary")
    node = F.concat(chosen, content) if rule.strict else F.col(chosen)
    hashed = signals.where(F.col("encoder") == rule.encoder).select(
        "image_id",
        F.when(comparable, node).otherwise(content).alias("node"),
        comparable.alias("comparable"),
        *ranking.measured(signals),
    )
    resolution = (F.col("width").cast("long") * F.col("height")).alias("resolution")
    facts = images.select("image_id", resolution, F.coalesce(F.length("caption"), F.lit(0)).alias("caption"))
    decided = F.col("kept_because").isNotNull() if "kept_because" in verdicts.columns else F.lit(False)
    judged = verdicts.select("image_id", F.col("kept").alias("passed"), decided.alias("decided"))
    joined = hashed.join(facts, "image_id").join(judged, "image_id", "left")
    return joined.na.fill({"passed": True, "decided": False}).select(
        "image_id", "node", "comparable", "passed", "decided", "resolution", "caption", *ranking.MEASURED
    )


def ordered(members: DataFrame, criteria: Sequence[str], incumbents: DataFrame | None = None) -> DataFrame:
    """Adds the order among all images: see `ranking.order`.

    Args:
        members: As `members` returns them.
        criteria: `dedup.rank`.
        incumbents: image_id of images that an earlier run kept and that stay, whatever the criteria.

    Returns:
        image_id, node, comparable, passed, decided, order (binary, smaller is better).
    """
    if incumbents is None:
        rows = members.withColumn("incumbent", F.lit(0))
    else:
        marked = incumbents.select("image_id", F.lit(1).alias("incumbent"))
        rows = members.join(marked, "image_id", "left").na.fill(0, ["incumbent"])
    return rows.select("image_id", "node", "comparable", "passed", "decided", ranking.order(criteria).alias("order"))


def distinct_nodes(ordered: DataFrame) -> DataFrame:
    """Returns each distinct node once: node, comparable, order and image_id of its best image, members (a count)."""
    best = F.min(F.struct("order", "image_id")).alias("best")
    grouped = ordered.groupBy("node").agg(
        best, F.first("comparable").alias("comparable"), F.count("*").alias("members")
    )
    return grouped.select("node", "comparable", "best.order", "best.image_id", "members")


def numbered(rows: DataFrame, scratch: Scratch, name: str = "nodes", number: str = "rank") -> DataFrame:
    """Replaces the order of rows by a number: 0 is the best.

    The search, the graph and all joins move this number instead of 56 bytes of hash and order. The numbers are written
    before they are used, because a recomputed sort may divide the rows into other partitions.

    Args:
        rows: order (each once) and further columns, as `distinct_nodes` returns them.
        scratch: Stores the numbers.
        name: Name of the stored rows.
        number: Name of the new column.

    Returns:
        The number and the further columns.
    """
    further = [column for column in rows.columns if column != "order"]
    ranged = rows.repartitionByRange(scratch.shuffle_partitions, "order").sortWithinPartitions("order")
    sorted_rows = scratch.keep(ranged.select(F.spark_partition_id().alias("part"), *further))
    # One row for each partition.
    counts = {row.part: row["count"] for row in sorted_rows.groupBy("part").count().collect()}
    offsets = {part: sum(counts[p] for p in counts if p < part) for part in counts}
    fields = [StructField(number, LongType()), *sorted_rows.schema.fields[1:]]
    return scratch.stage(name, sorted_rows.mapInArrow(RowIndexer(offsets, number), StructType(fields)))


def hash_column(rule: Rule) -> str:
    """Returns the name of the column, in the tables signals and mirrored, of the hash that is compared."""
    return "pdq" if rule.hash == "pdq" else "embedding_hash"


def sample_key(hash_: Column) -> Column:
    """Returns a pseudorandom number for a hash. Samples are the hashes with the smallest numbers."""
    return F.xxhash64(hash_)


def hash_of(node: str) -> Column:
    """Returns the hash of a comparable node.

    Args:
        node: Name of the column of nodes.
    """
    return F.substring(node, 1, HASH_BYTES)
