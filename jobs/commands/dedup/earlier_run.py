"""Reads the earlier run that a new run builds on from the tables that it wrote.

`duplicates` is written last. Its recipe names the version of `signals` it was made from, and so the images that were
compared. Tables that a killed run wrote later are skipped.
"""

from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from jobs.commands.dedup.keep import components
from jobs.commands.dedup.nodes.history import History
from jobs.commands.dedup.threshold import choice
from jobs.commands.dedup.verify.told_apart import ToldApart
from jobs.facts.duplicates import whole_search
from jobs.lake import tables
from jobs.lake.lake import Lake
from jobs.lake.recipe import Recipe, Version
from jobs.lake.snapshot import Snapshot
from jobs.matching.rule import Rule
from jobs.runtime.scratch import Scratch

# If these settings are the same, a new search would find the same pairs again.
_SEARCH = (
    "hash", "encoder", "max_distance", "min_quality", "strict", "keep", "method", "recall", "max_bucket", "clusterings",
    "nearest", "mirrored", "seed", "revision",
)  # fmt: skip
# If these are the same too, the images that stay may stay.
_RANK = ("rank", "semantic", "semantic_encoder")


def latest(lake: Lake, now: Snapshot, recipe: Recipe, rule: Rule, keep_kept: bool, scratch: Scratch) -> History | None:
    """Returns the last complete run with the same signals table and settings, if its files exist; else None.

    Images in a group with a new decision count as new. So the result for the group is that of one run over everything,
    and no image stays only because of a decision that was taken back. If an earlier version of Winnow stored no sample
    of the pairs told apart, all images count as new, so that the search finds these pairs again.

    Args:
        lake: The lake.
        now: The current versions of its tables.
        recipe: Recipe of the run that is about to start.
        rule: Its rule.
        keep_kept: Whether images that the earlier run kept stay, whatever their rank.
        scratch: Keeps the groups of images with a new decision.
    """
    before = now.recipe(tables.DUPLICATES)
    if before is None or not _same_settings(before, recipe, _SEARCH) or not _covers(before, rule):
        return None
    unseen = before.result.get(choice.UNSEEN)
    then, current = before.inputs["signals"], recipe.inputs["signals"]
    if then is None or current is None or then["id"] != current["id"]:
        return None
    signals = lake.read_version(tables.SIGNALS, then["version"])
    pairs, filtered = (lake.read_made(table, before) for table in (tables.PAIRS, tables.FILTERED_DUPLICATES))
    if signals is None or pairs is None or filtered is None:
        return None
    compared = signals.where(F.col("encoder") == recipe.settings["encoder"]).select("image_id")
    versions = before.inputs.get(tables.DECISIONS.name), recipe.inputs[tables.DECISIONS.name]
    if versions[0] != versions[1]:
        decided = _decided_since(lake, *versions)
        if decided is None:
            return None
        compared = _outside_groups(compared, pairs, decided, scratch)
    kept = None
    if keep_kept and _same_settings(before, recipe, _RANK):
        removed = lake.read(tables.DUPLICATES).unionByName(filtered)
        kept = compared.join(removed.select(F.col("removed_id").alias("image_id")), "image_id", "left_anti")
    told_apart = _told_apart(lake, before) if rule.compares_thumbnails else None
    if rule.compares_thumbnails and told_apart is None:
        compared = compared.limit(0)
    return History(compared, pairs, kept, unseen, told_apart)


def _told_apart(lake: Lake, before: Recipe) -> ToldApart | None:
    """Returns the sample of pairs told apart of an earlier run; None if it stored none."""
    sample, quality = (lake.read_made(table, before) for table in (tables.TOLD_APART, tables.DEDUP_QUALITY))
    if sample is None or quality is None:
        return None
    [row] = whole_search(quality).collect()
    return ToldApart(sample, row.told_apart_kept or 0)


def _decided_since(lake: Lake, then: Version | None, now: Version | None) -> DataFrame | None:
    """Returns the images with decisions that an earlier run did not know; None if its decisions are gone."""
    if then is not None and (now is None or then["id"] != now["id"]):
        return None
    decisions = lake.read(tables.DECISIONS)
    known = lake.read_version(tables.DECISIONS, then["version"]) if then else None
    # Rows are only added. If the files of the earlier version are gone, all decisions count as new.
    return (decisions if known is None else decisions.subtract(known)).select("image_id").distinct()


def _outside_groups(images: DataFrame, pairs: DataFrame, decided: DataFrame, scratch: Scratch) -> DataFrame:
    """Returns the images that no chain of pairs connects with an image of `decided`.

    Args:
        images: image_id.
        pairs: Table pairs.
        decided: image_id.
        scratch: Keeps the groups.
    """
    # If two ids have the same hash, their groups count as one, and a few more images are compared again.
    a, b = (F.xxhash64(end) for end in ("a_id", "b_id"))
    ends = pairs.select(F.least(a, b).alias("a"), F.greatest(a, b).alias("b")).where("a != b")
    roots = components.roots(ends, scratch)
    own = decided.select(F.xxhash64("image_id").alias("node"))
    groups = roots.join(own, "node", "left_semi").select("root").distinct()
    members = roots.join(groups, "root", "left_semi").select("node").unionByName(own)
    return images.join(members, F.xxhash64(images["image_id"]) == members["node"], "left_anti")


def _covers(before: Recipe, rule: Rule) -> bool:
    """Returns whether all pairs that count by a rule were found by an earlier run.

    A lake that grows gets smaller distances. With a larger one, pairs count that were not found or that a look refused.
    """
    unseen, looked_at = before.result.get(choice.UNSEEN), before.result.get(choice.LOOKED_AT)
    if unseen is None or looked_at is None or rule.safe_distance is None:
        return unseen is None and rule.safe_distance is None
    return bool(unseen >= rule.safe_distance and looked_at >= rule.max_distance)


def _same_settings(before: Recipe, now: Recipe, keys: tuple[str, ...]) -> bool:
    return all(before.settings.get(key) == now.settings.get(key) for key in keys)
