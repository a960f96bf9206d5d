"""The earlier run that a new one builds on, read from the tables that it wrote.

`duplicates`, which is written last, names the version of `signals` that it was made from, and so which images had been
compared. What a killed run wrote after it is skipped.
"""

from pyspark.sql import functions as F

from jobs.commands.dedup.nodes.history import History
from jobs.lake import tables
from jobs.lake.lake import Lake
from jobs.lake.recipe import Recipe
from jobs.lake.snapshot import Snapshot

# Settings with which pairs that were found once are still what a new search would find.
_SEARCH = (
    "hash", "encoder", "max_distance", "min_quality", "strict", "keep", "method", "recall", "max_bucket", "clusterings",
    "nearest", "seed", "revision",
)  # fmt: skip
_RANK = ("rank",)


def latest(lake: Lake, now: Snapshot, recipe: Recipe, keep_kept: bool) -> History | None:
    """The last run that ended, if it searched the same table with the same settings and all of it is there; else None.

    Args:
        lake: Where it wrote.
        now: The versions that its tables are at.
        recipe: Of the run that is about to start.
        keep_kept: Whether images that it kept are to stay, whatever their rank.
    """
    before = now.recipe(tables.DUPLICATES)
    if before is None or not _alike(before, recipe, _SEARCH):
        return None
    then, asked = before.inputs["signals"], recipe.inputs["signals"]
    if then is None or asked is None or then["id"] != asked["id"]:
        return None
    signals = lake.read_version(tables.SIGNALS, then["version"])
    pairs, filtered = (lake.read_made(table, before) for table in (tables.PAIRS, tables.FILTERED_DUPLICATES))
    if signals is None or pairs is None or filtered is None:
        return None
    compared = signals.where(F.col("encoder") == recipe.settings["encoder"]).select("image_id")
    if not keep_kept or not _alike(before, recipe, _RANK):
        return History(compared, pairs, None)
    gone = lake.read(tables.DUPLICATES).unionByName(filtered)
    kept = compared.join(gone.select(F.col("removed_id").alias("image_id")), "image_id", "left_anti")
    return History(compared, pairs, kept)


def _alike(before: Recipe, now: Recipe, keys: tuple[str, ...]) -> bool:
    return all(before.settings.get(key) == now.settings.get(key) for key in keys)
