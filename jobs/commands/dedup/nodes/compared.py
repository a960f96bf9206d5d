"""What a search compares: the distinct hashes with their ranks, the images behind them, what an earlier run found."""

from collections.abc import Sequence
from dataclasses import dataclass

from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from jobs.commands.dedup.nodes import hash_nodes, history
from jobs.commands.dedup.nodes.history import History
from jobs.matching.rule import Rule
from jobs.runtime.scratch import Scratch


@dataclass(frozen=True)
class Inputs:
    """The tables that are compared.

    Attributes:
        signals: image_id, encoder, pdq, pdq_quality, embedding, embedding_hash, content, thumbnail.
        images: image_id, width, height, caption.
        verdicts: image_id, kept; an image without a verdict has passed.
        earlier: What an earlier run compared, found and kept; None where there was none, or it cannot be built on.
    """

    signals: DataFrame
    images: DataFrame
    verdicts: DataFrame
    earlier: History | None = None


@dataclass(frozen=True)
class Compared:
    """What a run compares.

    Attributes:
        nodes: Distinct hashes, as `hash_nodes.numbered` returns them, with known: whether an earlier run has compared
            them with each other.
        images: As `image_ranks` returns them.
        old_pairs: a, b, distance, method: pairs of ranks that an earlier run found, if there was one.
        hashes: Distinct hashes that can be compared.
        fresh: Those of them that are not known.
        passed: Hashes whose best image passed the filter: their ranks come first.
        total: Images.
    """

    nodes: DataFrame
    images: DataFrame
    old_pairs: DataFrame | None
    hashes: int
    fresh: int
    passed: int
    total: int


def compared(inputs: Inputs, rule: Rule, rank: Sequence[str], scratch: Scratch) -> Compared:
    """Numbers the distinct hashes from best to worst.

    Args:
        inputs: The tables.
        rule: What counts as a duplicate.
        rank: `dedup.rank`: what makes the better of two images, the first the most important.
        scratch: Keeps the result.
    """
    earlier = inputs.earlier
    members = hash_nodes.members(inputs.signals, inputs.images, inputs.verdicts, rule)
    ordered = scratch.keep(hash_nodes.ordered(members, rank, earlier.kept if earlier else None))
    nodes = hash_nodes.numbered(hash_nodes.distinct_nodes(ordered), scratch)
    everyone = scratch.keep(image_ranks(ordered, nodes))
    known = history.known_nodes(nodes, everyone, earlier)
    old_pairs = scratch.keep(history.known_pairs(everyone, earlier)) if earlier else None
    best_passed = F.count_if((F.col("image_id") == F.col("best_id")) & F.col("passed"))
    total, passed = everyone.agg(F.count("*"), best_passed).collect()[0]
    hashes, fresh = known.where("comparable").agg(F.count("*"), F.count_if(~F.col("known"))).collect()[0]
    return Compared(known, everyone, old_pairs, hashes, fresh, passed, total)


def image_ranks(ordered: DataFrame, nodes: DataFrame) -> DataFrame:
    """Every image with the rank of its hash.

    Args:
        ordered: As `hash_nodes.ordered` returns them.
        nodes: As `hash_nodes.numbered` returns them.

    Returns:
        image_id, passed, rank, best_id (the best image of the same hash), members (how many have it).
    """
    ranks = nodes.select("node", "rank", F.col("image_id").alias("best_id"), "members")
    return ordered.join(ranks, "node").select("image_id", "passed", "rank", "best_id", "members")
