"""Reads the earlier run that a new run builds on from the tables that it wrote.

`duplicates` is written last. Its recipe names the version of `signals` it was made from, and so the images that were
compared. Tables that a killed run wrote later are skipped.
"""

from pyspark.sql import functions as F

from jobs.commands.dedup.nodes.history import History
from jobs.lake import tables
from jobs.lake.lake import Lake
from jobs.lake.recipe import Recipe
from jobs.lake.snapshot import Snapshot

# If these settings are the same, a new search would find the same pairs again.
_SEARCH = (
    "hash", "encoder", "max_distance", "min_quality", "strict", "keep", "method", "recall", "max_bucket", "clusterings",
    "nearest", "seed", "revision",
)  # fmt: skip
_RANK = ("rank",)


def latest(lake: Lake, now: Snapshot, recipe: Recipe, keep_kept: bool) -> History | None:
    """Returns the last complete run with the same signals table and settings, if its files exist; else None.

    Args:
        lake: The lake.
        now: The current versions of its tables.
        recipe: Recipe of the run that is about to start.
        keep_kept: Whether images that the earlier run kept stay, whatever their rank.
    """
    before = now.recipe(tables.DUPLICATES)
    if before is None or not _same_settings(before, recipe, _SEARCH):
        return None
    then, current = before.inputs["signals"], recipe.inputs["signals"]
    if then is None or current is None or then["id"] != current["id"]:
        return None
    signals = lake.read_version(tables.SIGNALS, then["version"])
    pairs, filtered = (lake.read_made(table, before) for table in (tables.PAIRS, tables.FILTERED_DUPLICATES))
    if signals is None or pairs is None or filtered is None:
        return None
    compared = signals.where(F.col("encoder") == recipe.settings["encoder"]).select("image_id")
    if not keep_kept or not _same_settings(before, recipe, _RANK):
        return History(compared, pairs, None)
    removed = lake.read(tables.DUPLICATES).unionByName(filtered)
    kept = compared.join(removed.select(F.col("removed_id").alias("image_id")), "image_id", "left_anti")
    return History(compared, pairs, kept)


def _same_settings(before: Recipe, now: Recipe, keys: tuple[str, ...]) -> bool:
    return all(before.settings.get(key) == now.settings.get(key) for key in keys)
