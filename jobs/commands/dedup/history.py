"""What an earlier `dedup` compared, found and kept, so that a lake that grew is not compared anew.

Only the tables tell: `duplicates`, which is written last, names the version of `signals` that it was made from, and so
which images had been compared. What a killed run wrote after it is passed over.
"""

from dataclasses import dataclass

from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from jobs.commands.dedup.popular import POPULAR
from jobs.lake import tables
from jobs.lake.lake import Lake
from jobs.lake.recipe import Recipe

# Settings with which pairs that were found once are still what a new search would find.
_SEARCH = (
    "hash", "encoder", "max_distance", "min_quality", "strict", "keep", "method", "recall", "max_bucket", "clusterings",
    "nearest", "seed", "revision",
)  # fmt: skip
_RANK = ("rank",)


@dataclass(frozen=True)
class History:
    """An earlier run, as far as it can be built on.

    Attributes:
        compared: image_id: images that had signals.
        pairs: Table pairs.
        kept: image_id: images that it kept; None where another order of rank decided.
    """

    compared: DataFrame
    pairs: DataFrame
    kept: DataFrame | None


def latest(lake: Lake, recipe: Recipe) -> History | None:
    """The last run that ended, if it searched the same table with the same settings and all of it is there; else None.

    Args:
        lake: Where it wrote.
        recipe: Of the run that is about to start.
    """
    before = lake.snapshot().recipe(tables.DUPLICATES)
    if before is None or not _alike(before, recipe, _SEARCH):
        return None
    then, now = before.inputs["signals"], recipe.inputs["signals"]
    if then is None or now is None or then["id"] != now["id"]:
        return None
    signals = lake.read_version(tables.SIGNALS, then["version"])
    pairs, filtered = (lake.read_made(table, before) for table in (tables.PAIRS, tables.FILTERED_DUPLICATES))
    if signals is None or pairs is None or filtered is None:
        return None
    compared = signals.where(F.col("encoder") == recipe.settings["encoder"]).select("image_id")
    if not _alike(before, recipe, _RANK):
        return History(compared, pairs, None)
    gone = lake.read(tables.DUPLICATES).unionByName(filtered)
    kept = compared.join(gone.select(F.col("removed_id").alias("image_id")), "image_id", "left_anti")
    return History(compared, pairs, kept)


def _alike(before: Recipe, now: Recipe, keys: tuple[str, ...]) -> bool:
    return all(before.settings.get(key) == now.settings.get(key) for key in keys)


def known_nodes(nodes: DataFrame, images: DataFrame, history: History | None) -> DataFrame:
    """Nodes with known: whether any of their images had been compared with all others.

    Of those that a popular picture had settled no other pair was told, and it may not be the best any more.

    Args:
        nodes: As `hash_nodes.numbered` returns them.
        images: As `jobs.commands.dedup.command.placed` returns them.
        history: The earlier run.
    """
    if history is None:
        return nodes.withColumn("known", F.lit(False))
    by_leader = history.pairs.where(F.col("method") == POPULAR)
    ends = by_leader.select(F.explode(F.array("a_id", "b_id")).alias("image_id")).distinct()
    # By rank: where repeats are many, the pair names one image of each hash, and settled are all of them.
    settled = images.join(ends, "image_id", "left_semi").select("rank").distinct()
    seen = images.join(history.compared, "image_id", "left_semi").select("rank").distinct()
    seen = seen.join(settled, "rank", "left_anti")
    marked = nodes.join(seen.withColumn("known", F.lit(True)), "rank", "left")
    return marked.withColumn("known", F.coalesce("known", F.lit(False)))


def known_pairs(images: DataFrame, history: History) -> DataFrame:
    """a, b, distance, method: the pairs of ranks (a < b) that the earlier run found, each once."""
    a = images.select(F.col("image_id").alias("a_id"), F.col("rank").alias("x"))
    b = images.select(F.col("image_id").alias("b_id"), F.col("rank").alias("y"))
    ranked = history.pairs.join(a, "a_id").join(b, "b_id").where("x != y")
    pairs = ranked.select(F.least("x", "y").alias("a"), F.greatest("x", "y").alias("b"), "distance", "method")
    return pairs.dropDuplicates(["a", "b"])
