"""Measures the recall of a search in a small lake: see `jobs.commands.dedup.verify.search_recall`."""

from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass

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


@dataclass(frozen=True)
class Looks:
    """How the pairs of the sample are looked at: see `search_recall.Looks`.

    Attributes:
        verified: The pairs of the search that count as near-duplicates.
        unseen: Largest distance at which a pair counts without a look; -1 if every pair needs one.
        confirmed: Returns the pairs whose images look the same.
    """

    verified: Pairs
    unseen: int
    confirmed: Callable[[Pairs], Pairs]


def measure(
    nodes: Nodes,
    searched: NDArray[np.int64],
    pairs: Pairs,
    lost: Losers,
    config: RecallSampleConfig,
    looks: Looks | None,
) -> MeasuredRecall:
    """Estimates the recall of a search and collects the near misses.

    Args:
        nodes: The nodes.
        searched: The ranks of the searched hashes.
        pairs: The pairs that the search found.
        lost: Removed nodes.
        config: The parameters of the sample.
        looks: Which pairs of the sample are near-duplicates; None if all within the distance are.
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
        *_sums(within, pairs, config, looks),
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
    within: pa.Table, pairs: Pairs, config: RecallSampleConfig, looks: Looks | None
) -> tuple[list[SampledSums], list[tuple[int, int, int]]]:
    """Returns the sums for each sampled hash, and distance, pairs and found pairs for each distance."""
    keys = keys_of(within["a"].to_numpy(), within["b"].to_numpy())
    clustering = dict(zip(pairs.keys.tolist(), pairs.clustering.tolist(), strict=True))
    by_hash: dict[tuple[int, bool, int | None], NDArray[np.int64]] = defaultdict(lambda: np.zeros(3, np.int64))
    by_distance: dict[int, NDArray[np.int64]] = defaultdict(lambda: np.zeros(2, np.int64))
    counts = _near_duplicates(within, keys, pairs, looks) if looks else np.full(len(keys), True)
    columns = (within[name].to_pylist() for name in ("sampled", "known", "distance", "stay"))
    for key, counted, sampled, known, distance, stay in zip(keys.tolist(), counts.tolist(), *columns, strict=True):
        first = clustering.get(key)
        hit = first is not None
        number = None if first in (None, NO_CLUSTERING) else first
        if counted:
            by_hash[sampled, known, number] += (1, hit, stay and not hit)
            by_distance[distance] += (1, hit)
    sums = [SampledSums(*key, *map(int, values)) for key, values in by_hash.items()]
    return sums, [(distance, int(values[0]), int(values[1])) for distance, values in sorted(by_distance.items())]


def _near_duplicates(within: pa.Table, keys: NDArray[np.int64], pairs: Pairs, looks: Looks) -> NDArray[np.bool_]:
    """Returns for each pair of the sample whether it counts as a near-duplicate: see `search_recall`."""
    found = np.isin(keys, pairs.keys)
    distance = within["distance"].to_numpy()
    beyond = np.flatnonzero(~found & (distance > looks.unseen))
    a, b = (within[name].to_numpy()[beyond] for name in ("a", "b"))
    same = looks.confirmed(Pairs.of(a, b, distance[beyond], np.full(len(beyond), "")))
    return np.where(found, np.isin(keys, looks.verified.keys), (distance <= looks.unseen) | np.isin(keys, same.keys))
