"""Prepares what a search compares: distinct hashes with ranks, their images, and the results of an earlier run."""

from collections.abc import Sequence
from dataclasses import dataclass

from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from jobs.commands.dedup.nodes import hash_nodes, history, mirrors
from jobs.commands.dedup.nodes.history import History
from jobs.matching.rule import Rule
from jobs.runtime.scratch import Scratch


@dataclass(frozen=True)
class Inputs:
    """The input tables.

    Attributes:
        signals: image_id, encoder, pdq, pdq_quality, embedding, embedding_hash, content, thumbnail.
        images: image_id, width, height, caption.
        verdicts: image_id, kept, kept_because; an image without a verdict has passed.
        earlier: The results of an earlier run; None if there is none that can be reused.
        mirrored: Table mirrored, if mirror images are compared too; None if they are not.
    """

    signals: DataFrame
    images: DataFrame
    verdicts: DataFrame
    earlier: History | None = None
    mirrored: DataFrame | None = None


@dataclass(frozen=True)
class Compared:
    """The hashes and images that a run compares.

    Attributes:
        nodes: Distinct hashes, as `hash_nodes.numbered` returns them, with known: whether an earlier run compared them
            with all other known ones; and mirror, as `mirrors.with_mirrors` adds it, if mirror images are compared.
        images: As `image_ranks` returns them.
        orders: image_id, order (binary): the order of each image, see `ranking.order`.
        old_pairs: a, b, distance, method, mirrored: pairs of ranks that an earlier run found; None without one.
        old_told_apart: a, b, distance, mirrored: pairs of its sample of pairs told apart; None without one.
        hashes: Number of distinct hashes that can be compared.
        fresh: Number of those that are not known.
        passed: Number of nodes whose best image passed the filter. Their ranks come first.
        decided: Number of nodes whose best image a person keeps. Their ranks come before all others.
        total: Number of images.
    """

    nodes: DataFrame
    images: DataFrame
    orders: DataFrame
    old_pairs: DataFrame | None
    old_told_apart: DataFrame | None
    hashes: int
    fresh: int
    passed: int
    decided: int
    total: int


def compared(inputs: Inputs, rule: Rule, rank: Sequence[str], scratch: Scratch) -> Compared:
    """Ranks the distinct hashes from best to worst.

    Args:
        inputs: The input tables.
        rule: The rule for near-duplicates.
        rank: `dedup.rank`: the criteria for the better of two images, the most important first.
        scratch: Keeps the result.
    """
    earlier = inputs.earlier
    members = hash_nodes.members(inputs.signals, inputs.images, inputs.verdicts, rule)
    ordered = scratch.keep(hash_nodes.ordered(members, rank, earlier.kept if earlier else None))
    nodes = hash_nodes.numbered(hash_nodes.distinct_nodes(ordered), scratch)
    image_rows = scratch.keep(image_ranks(ordered, nodes))
    known = history.known_nodes(nodes, image_rows, earlier)
    if inputs.mirrored is not None:
        known = scratch.keep(mirrors.with_mirrors(known, inputs.mirrored, rule))
    old_pairs = old_told_apart = None
    if earlier:
        old_pairs = scratch.keep(history.known_pairs(image_rows, earlier.pairs, rule.max_distance))
    if earlier and earlier.told_apart:
        old_told_apart = history.known_pairs(image_rows, earlier.told_apart.sample, rule.max_distance)
    best = F.col("image_id") == F.col("best_id")
    counts = F.count_if(best & F.col("passed")), F.count_if(best & F.col("decided")), F.count("*")
    passed, decided, total = image_rows.agg(*counts).collect()[0]
    hashes, fresh = known.where("comparable").agg(F.count("*"), F.count_if(~F.col("known"))).collect()[0]
    orders = ordered.select("image_id", "order")
    return Compared(known, image_rows, orders, old_pairs, old_told_apart, hashes, fresh, passed, decided, total)


def image_ranks(ordered: DataFrame, nodes: DataFrame) -> DataFrame:
    """Returns every image with the rank of its hash.

    Args:
        ordered: As `hash_nodes.ordered` returns them.
        nodes: As `hash_nodes.numbered` returns them.

    Returns:
        image_id, passed, decided, rank, best_id (the best image of the same hash), members (how many have it).
    """
    ranks = nodes.select("node", "rank", F.col("image_id").alias("best_id"), "members")
    return ordered.join(ranks, "node").select("image_id", "passed", "decided", "rank", "best_id", "members")
