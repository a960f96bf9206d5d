"""Ranks the images and distinct hashes of a small lake, as arrays: see `jobs.commands.dedup.nodes`."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from jobs.commands.dedup.candidates.popular import POPULAR
from jobs.commands.dedup.in_memory.pairs import Pairs
from jobs.commands.dedup.nodes import hash_nodes
from jobs.commands.dedup.nodes.compared import Inputs
from jobs.commands.dedup.nodes.history import History
from jobs.commands.dedup.verify.search_recall import few_of
from jobs.matching.rule import Rule
from udfs.arrays.arrow import cells, joined_bytes
from udfs.hashes.hamming import HASH_BYTES, hashes_of

Places = NDArray[np.intp]
Flags = NDArray[np.bool_]


@dataclass(frozen=True)
class Images:
    """The images of a lake, best first: arrays of n values.

    Attributes:
        ids: image_id as bytes.
        orders: uint8 of shape (n, width): `ranking.order`.
        passed: Whether it passed the filter.
        decided: Whether a person keeps it.
        ranks: int64: the rank of its hash.
    """

    ids: NDArray[np.bytes_]
    orders: NDArray[np.uint8]
    passed: Flags
    decided: Flags
    ranks: NDArray[np.int64]

    def ranks_of(self, ids: pa.ChunkedArray) -> NDArray[np.int64]:
        """Returns the rank of each image_id; -1 for an image that is not here."""
        wanted = _bytes_of(ids)
        if not len(self.ids):
            return np.full(len(wanted), -1)
        by_id = np.argsort(self.ids)
        place = by_id[np.minimum(np.searchsorted(self.ids, wanted, sorter=by_id), len(by_id) - 1)]
        return np.where(self.ids[place] == wanted, self.ranks[place], -1)


@dataclass(frozen=True)
class Nodes:
    """The distinct hashes of a lake: arrays of m values; the place of a value is the rank.

    Attributes:
        images: All images.
        best: The place of its best image.
        members: int64: the number of its images.
        comparable: Whether it is a usable hash.
        known: Whether an earlier run compared it with all other known ones.
        hashes: uint8 of shape (m, 32); zeros if it is not comparable.
        keys: int64: `sample_key`, by which samples are drawn.
        few: Whether `few_of` selects it.
        old_pairs: Pairs of an earlier run; None without one.
        old_told_apart: Pairs of its sample of pairs told apart; None without one.
        mirrors: The hashes of the mirror images of the best images, if they are compared; None if they are not.
    """

    images: Images
    best: Places
    members: NDArray[np.int64]
    comparable: Flags
    known: Flags
    hashes: NDArray[np.uint8]
    keys: NDArray[np.int64]
    few: Flags
    old_pairs: Pairs | None
    old_told_apart: Pairs | None = None
    mirrors: "Mirrors | None" = None

    @property
    def passed(self) -> int:
        """The number of nodes whose best image passed the filter. Their ranks come first."""
        return int(self.images.passed[self.best].sum())

    @property
    def decided(self) -> int:
        """The number of nodes whose best image a person keeps. Their ranks come before all others."""
        return int(self.images.decided[self.best].sum())

    @property
    def hashed(self) -> NDArray[np.int64]:
        """The ranks of the comparable nodes."""
        return np.flatnonzero(self.comparable)

    def rows(self, ranks: NDArray[np.int64]) -> pa.Table:
        """Returns nodes as the search takes them: hash, rank, known."""
        return _rows(self.hashes[ranks], ranks, self.known[ranks])

    def entries(self) -> "Entries":
        """Returns what the search compares: the hashes of nodes, and those of mirror images: see `nodes.mirrors`."""
        ranks = self.hashed
        own = Entries(self.rows(ranks), self.keys[ranks])
        if self.mirrors is None:
            return own
        turned = ranks[self.mirrors.present[ranks]]
        hashes = np.concatenate([self.hashes[ranks], self.mirrors.hashes[turned]])
        numbers, known = np.concatenate([2 * ranks, 2 * turned + 1]), self.known[np.concatenate([ranks, turned])]
        return Entries(_rows(hashes, numbers, known), np.concatenate([own.keys, self.mirrors.keys[turned]]))

    def named(self, ranks: NDArray[np.int64]) -> pa.Table:
        """Returns the best images of nodes: rank, image_id."""
        return pa.table({"rank": ranks, "image_id": text(self.images.ids[self.best[ranks]])})


@dataclass(frozen=True)
class Mirrors:
    """The mirror images of the best images of nodes: arrays of m values.

    Attributes:
        present: Whether the hash is known.
        hashes: uint8 of shape (m, 32); zeros if it is not.
        keys: int64: `sample_key`.
    """

    present: Flags
    hashes: NDArray[np.uint8]
    keys: NDArray[np.int64]


@dataclass(frozen=True)
class Entries:
    """What a search compares.

    Attributes:
        rows: hash, rank, known.
        keys: int64 of shape (n,): `sample_key` of each hash.
    """

    rows: pa.Table
    keys: NDArray[np.int64]

    @property
    def ranks(self) -> NDArray[np.int64]:
        """The ranks of the entries."""
        return np.asarray(self.rows["rank"].to_numpy())

    def take(self, selected: Flags) -> "Entries":
        """Returns some of the entries."""
        return Entries(self.rows.filter(pa.array(selected)), self.keys[selected])


def compared(inputs: Inputs, rule: Rule, rank: Sequence[str]) -> Nodes:
    """Reads the images of a lake into memory, and ranks them and their hashes from best to worst.

    Args:
        inputs: The input tables.
        rule: The rule for near-duplicates.
        rank: `dedup.rank`.
    """
    earlier = inputs.earlier
    members = hash_nodes.members(inputs.signals, inputs.images, inputs.verdicts, rule)
    ordered = hash_nodes.ordered(members, rank, earlier.kept if earlier else None)
    hashed = hash_nodes.hash_of("node")
    rows = ordered.select("*", hash_nodes.sample_key(hashed).alias("key"), few_of(hashed).alias("few")).toArrow()
    orders = joined_bytes(rows["order"])
    orders = orders.reshape(rows.num_rows, -1) if rows.num_rows else np.zeros((0, 1), np.uint8)
    order = best_first(orders)
    nodes = _nodes(rows.take(pa.array(order)), orders[order], earlier, rule)
    return nodes if inputs.mirrored is None else replace(nodes, mirrors=_mirrors(nodes, inputs.mirrored, rule))


def _mirrors(nodes: Nodes, mirrored: DataFrame, rule: Rule) -> Mirrors:
    hash_ = F.col(hash_nodes.hash_column(rule))
    own = mirrored.where(F.col("encoder") == rule.encoder)
    rows = own.select("image_id", hash_.alias("hash"), hash_nodes.sample_key(hash_).alias("key")).toArrow()
    best, ids = nodes.images.ids[nodes.best], _bytes_of(rows["image_id"])
    count = len(nodes.best)
    present, hashes, keys = (
        np.zeros(count, np.bool_),
        np.zeros((count, HASH_BYTES), np.uint8),
        np.zeros(count, np.int64),
    )
    _, place, row = np.intersect1d(best, ids, return_indices=True)
    if len(place):
        present[place], hashes[place] = True, hashes_of(rows["hash"])[row]
        keys[place] = rows["key"].to_numpy()[row]
    return Mirrors(present, hashes, keys)


def _rows(hashes: NDArray[np.uint8], ranks: NDArray[np.int64], known: Flags) -> pa.Table:
    return pa.table({"hash": cells(hashes), "rank": pa.array(ranks), "known": pa.array(known)})


def _nodes(rows: pa.Table, orders: NDArray[np.uint8], earlier: History | None, rule: Rule) -> Nodes:
    # A code for each node, in the order in which they appear: the rank.
    ranks = rows["node"].combine_chunks().dictionary_encode().indices.to_numpy(zero_copy_only=False).astype(np.int64)
    _, best = np.unique(ranks, return_index=True)
    passed, decided, comparable, few = (_flags(rows[name]) for name in ("passed", "decided", "comparable", "few"))
    images = Images(_bytes_of(rows["image_id"]), orders, passed, decided, ranks)
    hashes = np.zeros((len(best), HASH_BYTES), np.uint8)
    usable = np.flatnonzero(comparable[best])
    if len(usable):
        # In strict mode, a digest follows the hash.
        own = joined_bytes(rows["node"].take(pa.array(best[usable]))).reshape(len(usable), -1)
        hashes[usable] = own[:, :HASH_BYTES]
    known, old_pairs, told_apart = np.zeros(len(best), np.bool_), None, None
    if earlier:
        known, old_pairs = _earlier(images, len(best), earlier, rule.max_distance)
    if earlier and earlier.told_apart:
        told_apart = _told_apart(images, earlier.told_apart.sample, rule.max_distance)
    keys, members = rows["key"].to_numpy()[best], np.bincount(ranks)
    return Nodes(images, best, members, comparable[best], known, hashes, keys, few[best], old_pairs, told_apart)


def _earlier(images: Images, nodes: int, history: History, max_distance: int) -> tuple[Flags, Pairs]:
    """Returns which nodes an earlier run compared, and the pairs that it found: see `jobs.commands.dedup.nodes`."""
    columns = "a_id", "b_id", "distance", "method", F.coalesce("mirrored", F.lit(False)).alias("mirrored")
    near = history.pairs.where(F.col("distance") <= max_distance).select(*columns).toArrow()
    x, y = images.ranks_of(near["a_id"]), images.ranks_of(near["b_id"])
    method = np.array(near["method"].to_pylist(), dtype=np.str_)
    by_leader = method == POPULAR
    known = np.zeros(nodes, np.bool_)
    ranks = images.ranks_of(history.compared.select("image_id").toArrow()["image_id"])
    known[ranks[ranks >= 0]] = True
    for ends in (x, y):
        resolved = ends[by_leader]
        known[resolved[resolved >= 0]] = False
    return known, _pairs(x, y, near, method)


def _told_apart(images: Images, sample: DataFrame, max_distance: int) -> Pairs:
    """Returns the pairs that an earlier run told apart."""
    near = sample.where(F.col("distance") <= max_distance).toArrow()
    x, y = images.ranks_of(near["a_id"]), images.ranks_of(near["b_id"])
    return _pairs(x, y, near, np.full(len(x), ""))


def _pairs(x: NDArray[np.int64], y: NDArray[np.int64], rows: pa.Table, method: NDArray[np.str_]) -> Pairs:
    """Returns pairs of ranks, each once, without those of an image that is not here (rank -1)."""
    present = (x >= 0) & (y >= 0) & (x != y)
    mirrored = _flags(rows["mirrored"])
    pairs = Pairs.of(np.minimum(x, y), np.maximum(x, y), rows["distance"].to_numpy(), method, mirrored=mirrored)
    return pairs.take(present).each_once()


def best_first(orders: NDArray[np.uint8]) -> Places:
    """Returns the places of orders, the best one first: they sort bytewise.

    Args:
        orders: uint8 of shape (n, width): `ranking.order`.
    """
    return np.argsort(orders.view(f"S{orders.shape[1]}").ravel(), kind="stable")


def text(ids: NDArray[np.bytes_]) -> pa.Array:
    """Returns ids as an Arrow column of strings."""
    return pa.array(ids.astype(np.str_).tolist(), pa.string())


def _bytes_of(column: pa.ChunkedArray) -> NDArray[np.bytes_]:
    return np.array(column.to_pylist(), dtype=np.bytes_)


def _flags(column: pa.ChunkedArray) -> Flags:
    return np.asarray(column.to_numpy(), dtype=np.bool_)
