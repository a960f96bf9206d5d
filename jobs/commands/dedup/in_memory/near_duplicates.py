"""Finds the near-duplicates of a small lake: hashes → candidate pairs → verified pairs → kept images → recall.

Spark takes a tenth of a second for each step on a few rows, and there are dozens. Here the rows of a lake of bounded
size are arrays in the driver's memory, and the same kernels make the same rows of them.
"""

from dataclasses import replace

import numpy as np
import pyarrow as pa

from jobs.commands.dedup.candidates import pair_search
from jobs.commands.dedup.candidates.pair_search import Search, SearchInputs
from jobs.commands.dedup.candidates.popular import POPULAR
from jobs.commands.dedup.in_memory import keep, recall, search
from jobs.commands.dedup.in_memory.keep import Losers
from jobs.commands.dedup.in_memory.looks import Looks
from jobs.commands.dedup.in_memory.nodes import Nodes
from jobs.commands.dedup.in_memory.pairs import Pairs
from jobs.commands.dedup.near_duplicates import INTERVAL, Counts, NearDuplicateConfig, NearDuplicates, looked_note
from jobs.commands.dedup.nodes import mirrors
from jobs.commands.dedup.nodes.compared import Inputs
from jobs.commands.dedup.verify.search_recall import RecallSampleConfig
from jobs.matching.rule import Rule
from jobs.runtime.config import DedupSettings
from jobs.runtime.progress import Progress

_MOST_ENTRIES = 4_000_000  # hashes in bands, of 44 bytes


def fits(images: int, rule: Rule, settings: DedupSettings) -> bool:
    """Returns whether the duplicates of a lake are found in memory.

    Args:
        images: Number of images.
        rule: The rule for near-duplicates.
        settings: The section `[dedup]` of the settings.
    """
    if images > settings.in_memory:
        return False
    hashes = 2 * images if settings.mirrored else images
    search_of = Search.for_data(hashes, rule, settings, seed=0)
    return search_of.lsh is None or hashes * search_of.lsh.bands.bands <= _MOST_ENTRIES


def search_nodes(
    inputs: Inputs, nodes: Nodes, config: NearDuplicateConfig, progress: Progress
) -> tuple[NearDuplicates, Counts]:
    """Finds near-duplicates among nodes in memory: the same as `near_duplicates.search_nodes` finds by Spark.

    Args:
        inputs: The input tables.
        nodes: The nodes.
        config: The rule for near-duplicates and the parameters of the search.
        progress: Shows the steps.
    """
    settings, rule = config.settings, config.rule
    spark = inputs.signals.sparkSession
    # 1. Find candidate pairs and verify each by its distance.
    entries, turned = nodes.entries(), nodes.mirrors is not None
    search_inputs = SearchInputs(inputs.signals, rule, settings, nodes.decided)
    if inputs.mirrored is not None:
        vectors = mirrors.with_vectors(inputs.signals, inputs.mirrored)
        search_inputs = SearchInputs(vectors, rule, settings, 2 * nodes.decided)
    chosen = Search.for_data(len(entries.keys), rule, settings, config.seed)
    with progress.step(f"dedup: {chosen.words}"):
        found = search.find_all_pairs(entries, turned, chosen, search_inputs, spark, progress)
        near, cost = found.pairs, found.cost
    # 2. Look at pairs beyond the safe distance, in strict mode at all, and drop those whose images differ. Then add the
    # pairs of an earlier run.
    looks = Looks(inputs.signals, nodes, rule)
    every = near.united(nodes.old_pairs).each_once()
    pairs, of_sample, unsure = every, None, None
    if rule.compares_thumbnails:
        pairs, unsure, looked = _verified(inputs, nodes, near, rule, looks, progress)
        pairs = pairs.each_once()
        cost = replace(cost, looks=looked)
        of_sample = recall.Looks(pairs, rule.looked_beyond, looks.confirmed)
    # 3. Choose the images to keep.
    with progress.step("dedup: choose kept images"):
        again = looks.ranked_again(pairs, settings.rank)
        lost = keep.losers(pairs, nodes, settings.keep, again)
    # 4. Measure what the search missed: compare a sample with all hashes.
    with progress.step(f"dedup: measure recall on {settings.sample} hashes"):
        sample_config = RecallSampleConfig(
            settings.sample, found.count, rule.max_distance, INTERVAL, nodes.passed, chosen.clusterings
        )  # fmt: skip
        measured = recall.measure(nodes, found.searched, every, lost, sample_config, of_sample)
    removed, image_pairs = keep.removed_images(nodes, lost), keep.image_pairs(nodes, pairs)
    misses = keep.near_misses(nodes, measured.near_misses)
    told_apart = None if unsure is None else spark.createDataFrame(_told_apart(nodes, unsure, pairs, lost))
    pair_rows, removed_rows, miss_rows = map(spark.createDataFrame, (image_pairs, removed, misses))
    result = NearDuplicates(pair_rows, removed_rows, miss_rows, told_apart, measured, chosen, cost)
    return result, _counts(nodes, removed, image_pairs, config)


def _verified(
    inputs: Inputs, nodes: Nodes, near: Pairs, rule: Rule, looks: Looks, progress: Progress
) -> tuple[Pairs, Pairs, pair_search.Looks]:
    """Returns the pairs whose images look the same, those of an earlier run included, all looked at, and counts."""
    beyond = near.distance > rule.looked_beyond
    old, unsure = nodes.old_pairs, near.take(beyond)
    if old is not None and inputs.earlier is not None and inputs.earlier.unseen is not None:
        # The distances shrink as a lake grows, so pairs that counted unseen may now need a look.
        again = (old.distance > rule.looked_beyond) & (old.distance <= inputs.earlier.unseen)
        unsure, old = unsure.united(old.take(again)), old.take(~again)
    with progress.step("dedup: compare thumbnails of pairs"):
        # What matches a popular image is removed before the search, so the popular image must stay.
        unsure = unsure.take(~np.isin(unsure.b, near.a[near.method == POPULAR]))
        same = looks.confirmed(unsure)
    looked = pair_search.Looks(len(unsure), len(unsure) - len(same))
    progress.note(looked_note(looked))
    return Pairs.joined([near.take(~beyond), same]).united(old), unsure, looked


def _told_apart(nodes: Nodes, unsure: Pairs, pairs: Pairs, lost: Losers) -> pa.Table:
    """Returns the kept images of the pairs whose thumbnails differ: see `near_duplicates._refused`."""
    refused, earlier = unsure.each_once(), nodes.old_told_apart or unsure.take(np.zeros(len(unsure), np.bool_))
    fresh, old = refused.take(~np.isin(refused.keys, pairs.keys)), earlier.take(~np.isin(earlier.keys, unsure.keys))
    return keep.told_apart(nodes, fresh, old.take(~np.isin(old.keys, pairs.keys)), lost)


def _counts(nodes: Nodes, removed: pa.Table, pairs: pa.Table, config: NearDuplicateConfig) -> Counts:
    ids, kept = (np.array(removed[name].to_pylist(), np.bytes_) for name in ("removed_id", "kept_id"))
    passed = removed["passed"].to_numpy()
    far = removed["distance"].to_numpy() > config.rule.max_distance
    decided = nodes.images.ids[nodes.images.decided]
    ends = (np.array(pairs[name].to_pylist(), np.bytes_) for name in ("a_id", "b_id"))
    both_decided = np.logical_and.reduce([np.isin(end, decided) for end in ends])
    return Counts(
        images=len(nodes.images.ids),
        passed=int(nodes.images.passed.sum()),
        hashes=len(nodes.hashed),
        removed=len(ids),
        distinct_removed=len(np.unique(ids)),
        removed_passed=int(passed.sum()),
        orphans=int(np.isin(kept, ids).sum()),
        far=int(far.sum()),
        far_groups=len(np.unique(kept[far])),
        decided_pairs=int(both_decided.sum()) if len(decided) else 0,
    )
