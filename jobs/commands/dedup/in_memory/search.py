"""Finds candidate pairs among the hashes of a small lake: see `jobs.commands.dedup.candidates`."""

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray
from pyspark.sql import SparkSession

from jobs.commands.dedup.candidates import clusters, pair_search, popular
from jobs.commands.dedup.candidates.pair_search import CLUSTERS, LSH, Search, SearchCost, SearchCounts, SearchInputs
from jobs.commands.dedup.candidates.popular import POPULAR
from jobs.commands.dedup.in_memory.nodes import Entries
from jobs.commands.dedup.in_memory.pairs import NO_CLUSTERING, Pairs
from jobs.runtime.progress import Progress
from udfs.search import matching
from udfs.search.matching import entries_of_rows, near_between
from udfs.search.packing import PACKED, Repacking
from udfs.search.popular import Resolving

_THREADS = 4


@dataclass(frozen=True)
class FoundInMemory:
    """The pairs that a search found.

    Attributes:
        pairs: Each pair once.
        cost: Number of compared and skipped pairs.
        searched: int64: the ranks of the nodes whose own hashes were searched: all but those resolved against popular
            images.
        count: Number of searched hashes, those of mirror images included.
    """

    pairs: Pairs
    cost: SearchCost
    searched: NDArray[np.int64]
    count: int


def find_all_pairs(
    entries: Entries, mirrored: bool, search: Search, inputs: SearchInputs, spark: SparkSession, progress: Progress
) -> FoundInMemory:
    """Runs the search: see `pair_search.find_all_pairs`.

    Args:
        entries: The distinct hashes.
        mirrored: Whether some are those of mirror images, with ranks as in `nodes.mirrors`.
        search: The methods and their parameters.
        inputs: The other inputs.
        spark: Fits the clusters.
        progress: Receives a note about popular images.
    """
    found: list[tuple[str, pa.Table]] = []
    if (config := pair_search.popular_config(search, inputs)) is not None:
        entries, found = _resolved(entries, config, progress)
    ranks, rows = entries.ranks, entries.rows
    if len(ranks) >= pair_search.A_PAIR:
        if search.lsh:
            found.append((LSH, _by_bands(rows, search, inputs)))
        if search.clusters:
            vectors = clusters.vectors(inputs.signals, spark.createDataFrame(rows), inputs.rule)
            limits = inputs.decided, pair_search.unseen(inputs)
            found.append((CLUSTERS, clusters.find_pairs(vectors, search.clusters, *limits).toArrow()))
    own = ranks[ranks % 2 == 0] // 2 if mirrored else ranks
    return FoundInMemory(_distinct(found, mirrored), _cost(found, search), own, len(ranks))


def _by_bands(rows: pa.Table, search: Search, inputs: SearchInputs) -> pa.Table:
    assert search.lsh
    matching = search.lsh.matching(inputs.decided, pair_search.unseen(inputs))
    found = _each_bucket(matching, search.lsh.packing(iter(rows.to_batches())))
    omitting = found.filter(pc.is_valid(found["bucket"])).select(PACKED.names)
    if not omitting.num_rows:
        return found
    again = Repacking(search.lsh.layout)(iter(omitting.to_batches()))
    return pa.concat_tables([found, _each_bucket(search.lsh.completing, again)])


def _each_bucket(function: Callable[[pa.Table], pa.Table], batches: Iterator[pa.RecordBatch]) -> pa.Table:
    packed = pa.Table.from_batches(list(batches))
    buckets = [packed.filter(pc.equal(packed["bucket"], number)) for number in pc.unique(packed["bucket"])]
    with ThreadPoolExecutor(_THREADS) as pool:  # numpy releases Python's lock
        return pa.concat_tables(pool.map(function, buckets))


def _resolved(
    entries: Entries, config: popular.PopularConfig, progress: Progress
) -> tuple[Entries, list[tuple[str, pa.Table]]]:
    """Resolves hashes against popular images: see `popular.split_popular`.

    Returns:
        The others, and the pairs with the popular images, as `udfs.search.matching.FOUND`.
    """
    ranks, rows = entries.ranks, entries.rows
    leaders = popular.leaders(_Pool(entries_of_rows(rows), entries.keys), len(ranks), config)
    if not len(leaders):
        return entries, []
    batches = Resolving(leaders, config.max_distance, config.decided)(iter(rows.to_batches()))
    resolved = pa.Table.from_batches(batches)
    lost = resolved.filter(pc.is_valid(resolved["leader"]))
    _, followers = np.unique(lost["leader"].to_numpy(), return_counts=True)
    note = popular.note(len(leaders), lost.num_rows)
    progress.note(note)
    found = popular.found_rows(lost, len(ranks) * len(leaders), followers, config.clustered)
    left = pc.is_null(resolved["leader"]).to_numpy()  # in the order of the entries
    return entries.take(left), [(POPULAR, found)]


@dataclass(frozen=True)
class _Pool:
    """The hashes among which popular images are sought: `popular.Pool`.

    Attributes:
        packed: uint64 of shape (n, 5): entries of `udfs.search.matching`.
        keys: int64 of shape (n,): `sample_key`.
    """

    packed: popular.Packed
    keys: NDArray[np.int64]

    def sample(self, count: int) -> popular.Packed:
        order = np.lexsort((matching.Entries.unpacked(self.packed).ranks, self.keys))
        return self.packed[order[:count]]

    def best_near(self, centres: popular.Packed, max_distance: int) -> popular.Packed:
        hashes = matching.Entries.unpacked(self.packed)
        near, own = near_between(matching.Entries.unpacked(centres).words, hashes.words, max_distance)
        order = np.lexsort((hashes.ranks[own], near))
        _, first = np.unique(near[order], return_index=True)
        return self.packed[own[order[first]]]


def _distinct(found: Sequence[tuple[str, pa.Table]], mirrored: bool) -> Pairs:
    """Returns each pair once: see `pair_search.distinct_pairs`."""
    parts = []
    for method, table in found:
        rows = table.filter(pc.is_valid(table["a"]))
        clustering = pc.fill_null(rows["clustering"], int(NO_CLUSTERING)).to_numpy()
        a, b, distance = (rows[name].to_numpy() for name in ("a", "b", "distance"))
        pairs = Pairs.of(a, b, distance, np.full(len(a), method), clustering)
        parts.append(_of_nodes(pairs) if mirrored else pairs)
    return Pairs.joined(parts).distinct()


def _of_nodes(pairs: Pairs) -> Pairs:
    """Returns pairs of entries as pairs of nodes: see `nodes.mirrors`."""
    pairs = pairs.take(((pairs.a >> 1) != (pairs.b >> 1)) & ((pairs.a % 2 == 0) | (pairs.b % 2 == 0)))
    return replace(pairs, a=pairs.a >> 1, b=pairs.b >> 1, mirrored=(pairs.a + pairs.b) % 2 == 1)


def _cost(found: Sequence[tuple[str, pa.Table]], search: Search) -> SearchCost:
    """Sums the pairs that the search compared and skipped: see `pair_search.search_cost`."""
    sums: dict[int | None, SearchCounts] = {}
    for _, table in found:
        for row in table.filter(pc.is_null(table["a"])).to_pylist():
            counts = SearchCounts(row["compared"], row["skipped"])
            sums[row["clustering"]] = sums.get(row["clustering"], SearchCounts()).plus(counts)
    return pair_search.cost_of(sums, search)
