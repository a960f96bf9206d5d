"""Measures the recall of a search in a small lake: see `jobs.commands.dedup.verify.search_recall`."""

from collections import defaultdict

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from jobs.commands.dedup.in_memory.keep import Losers
from jobs.commands.dedup.in_memory.nodes import Nodes
from jobs.commands.dedup.in_memory.pairs import NO_CLUSTERING, Pairs, keys_of
from jobs.commands.dedup.verify import search_recall
from jobs.commands.dedup.verify.search_recall import (
    NEAR_MISSES,
    Exhaustive,
    HashSample,
    MeasuredRecall,
    RecallSampleConfig,
    SampledSums,
)
from udfs.search.matching import entries_of_rows

_BATCH = 10_000


def measure(
    nodes: Nodes, searched: NDArray[np.int64], pairs: Pairs, lost: Losers, config: RecallSampleConfig
) -> MeasuredRecall:
    """Estimates the recall of a search and collects the near misses.

    Args:
        nodes: The nodes.
        searched: The ranks of the searched hashes.
        pairs: The pairs that the search found.
        lost: Removed nodes.
        config: The parameters of the sample.
    """
    chosen = searched[np.lexsort((searched, nodes.keys[searched]))[: config.count]]
    sample = HashSample(entries_of_rows(nodes.rows(chosen)), lost.stay(chosen, config.passed))
    one_in = 1
    if search_recall.is_large(sample, config):
        few = searched[nodes.few[searched]]
        found = _compared(nodes, few, lost, Exhaustive(sample, config.max_distance, beyond=0), config)
        one_in = search_recall.one_in(pc.sum(pc.equal(found["pairs"], 1)).as_py() or 0)
    rows = _compared(nodes, searched, lost, Exhaustive(sample, config.max_distance, one_in=one_in), config)
    is_pair = rows.filter(pc.is_valid(rows["a"]))
    within, misses = (is_pair.filter(pc.equal(is_pair["pairs"], count)) for count in (1, 0))
    above = rows.filter(pc.is_null(rows["a"])).group_by("distance").aggregate([("pairs", "sum")])
    misses = misses.sort_by([("distance", "ascending"), ("a", "ascending"), ("b", "ascending")])[:NEAR_MISSES]
    return search_recall.measured(
        *_sums(within, pairs, config),
        sorted((row["distance"], row["pairs_sum"]) for row in above.to_pylist()),
        [(row["a"], row["b"], row["distance"]) for row in misses.to_pylist()],
        (len(chosen), one_in),
        config,
    )


def _compared(
    nodes: Nodes, ranks: NDArray[np.int64], lost: Losers, exhaustive: Exhaustive, config: RecallSampleConfig
) -> pa.Table:
    rows = nodes.rows(ranks).append_column("stays", pa.array(lost.stay(ranks, config.passed)))
    batches = rows.combine_chunks().to_batches(max_chunksize=_BATCH)
    return pa.Table.from_batches(exhaustive(iter(batches)), schema=search_recall.SAMPLED_ARROW)


def _sums(
    within: pa.Table, pairs: Pairs, config: RecallSampleConfig
) -> tuple[list[SampledSums], list[tuple[int, int, int]]]:
    """Returns the sums for each sampled hash, and distance, pairs and found pairs for each distance."""
    if config.strict:
        within = within.filter(pc.invert(within["known"]))
    keys = keys_of(within["a"].to_numpy(), within["b"].to_numpy())
    clustering = dict(zip(pairs.keys.tolist(), pairs.clustering.tolist(), strict=True))
    by_hash: dict[tuple[int, bool, int | None], NDArray[np.int64]] = defaultdict(lambda: np.zeros(3, np.int64))
    by_distance: dict[int, NDArray[np.int64]] = defaultdict(lambda: np.zeros(2, np.int64))
    columns = (within[name].to_pylist() for name in ("sampled", "known", "distance", "stay"))
    for key, sampled, known, distance, stay in zip(keys.tolist(), *columns, strict=True):
        first = clustering.get(key)
        hit = first is not None
        number = None if first in (None, NO_CLUSTERING) else first
        # A pair whose thumbnails differ was found, so it is not a miss, although both images are kept.
        by_hash[sampled, known, number] += (1, hit, stay and not hit)
        by_distance[distance] += (1, hit)
    sums = [SampledSums(*key, *map(int, counts)) for key, counts in by_hash.items()]
    return sums, [(distance, int(counts[0]), int(counts[1])) for distance, counts in sorted(by_distance.items())]
