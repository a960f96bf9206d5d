"""Mirror images as further hashes to compare: `dedup.mirrored`.

The search compares entries: a hash with a number that says which of two images is better. With mirror images, the node
of rank r has two entries: 2 r is its own hash, and 2 r + 1 the hash of its mirror image. So every part of the search
works as without them, and pairs of entries become pairs of nodes at its end. A pair is mirrored if it consists of an
own hash and the hash of a mirror image. Pairs of two mirror
images do not count.
"""

from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F

from jobs.commands.dedup.nodes.hash_nodes import hash_column, hash_of
from jobs.matching.rule import Rule


def with_mirrors(nodes: DataFrame, mirrored: DataFrame, rule: Rule) -> DataFrame:
    """Adds mirror to the nodes: the hash of the mirror image of its best image; null if that is missing.

    Args:
        nodes: image_id and further columns.
        mirrored: Table mirrored.
        rule: The rule for near-duplicates.
    """
    own = mirrored.where(F.col("encoder") == rule.encoder)
    return nodes.join(own.select("image_id", F.col(hash_column(rule)).alias("mirror")), "image_id", "left")


def entries(nodes: DataFrame) -> DataFrame:
    """Returns the entries of comparable nodes: rank, hash, known.

    Args:
        nodes: rank, node, known, and mirror (binary) if mirror images are compared. Without it, the entries are the
            hashes of the nodes, with their own ranks.
    """
    if "mirror" not in nodes.columns:
        return nodes.select("rank", hash_of("node").alias("hash"), "known")
    own = nodes.select((2 * F.col("rank")).alias("rank"), hash_of("node").alias("hash"), "known")
    mirror = (2 * F.col("rank") + 1).alias("rank"), F.col("mirror").alias("hash"), "known"
    return own.unionByName(nodes.where(F.col("mirror").isNotNull()).select(*mirror))


def own_hashes(entries: DataFrame) -> DataFrame:
    """Returns the nodes of which the own hash is among some entries: rank, hash, known."""
    return entries.where("rank % 2 = 0").select(F.shiftright("rank", 1).alias("rank"), "hash", "known")


def with_vectors(signals: DataFrame, mirrored: DataFrame) -> DataFrame:
    """Returns the hashes and embeddings of images and of their mirror images: encoder, embedding_hash, embedding."""
    columns = "encoder", "embedding_hash", "embedding"
    return signals.select(*columns).unionByName(mirrored.select(*columns))


def node_of(entry: str) -> Column:
    """Returns the rank of the node of an entry."""
    return F.shiftright(entry, 1)


def is_pair(a: str, b: str) -> Column:
    """Returns whether a pair of entries is one of nodes: of two own hashes, or of one and another's mirror image.

    Two mirror images are as near as their images are, and an image may look like its own mirror image.
    """
    return (node_of(a) != node_of(b)) & ((F.col(a) % 2 == 0) | (F.col(b) % 2 == 0))


def is_mirrored(a: str, b: str) -> Column:
    """Returns whether a pair of entries is an own hash and the hash of a mirror image."""
    return (F.col(a) + F.col(b)) % 2 == 1
