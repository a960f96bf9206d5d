"""Chooses the images to keep in a small lake, and names the images of pairs: see `jobs.commands.dedup.keep`."""

from dataclasses import dataclass, fields, replace

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from jobs.commands.dedup.in_memory.nodes import Flags, Images, Nodes, Places, text
from jobs.commands.dedup.in_memory.pairs import Pairs
from jobs.commands.dedup.keep.components import best_of_component
from jobs.commands.dedup.keep.images_of_hashes import MAX_PAIRS
from jobs.commands.dedup.keep.independent_set import greedily_removed
from udfs.hashes.hamming import distances, words

Ranks = NDArray[np.int64]


@dataclass(frozen=True)
class Losers:
    """Removed nodes, each with the kept one: arrays of n values.

    Attributes:
        removed: The rank of a removed node; each once, in order.
        kept: The rank of the node that is kept in its place.
        distance: int32, in bits.
        method: How the pair was found.
        mirrored: Whether the one is near the mirror image of the other.
    """

    removed: Ranks
    kept: Ranks
    distance: NDArray[np.int32]
    method: NDArray[np.str_]
    mirrored: Flags

    def take(self, selected: NDArray[np.bool_] | NDArray[np.intp]) -> "Losers":
        """Returns some of the removed nodes."""
        return Losers(*(getattr(self, one.name)[selected] for one in fields(self)))

    def stay(self, ranks: Ranks, passed: int) -> Flags:
        """Returns which nodes are kept and passed the filter.

        Args:
            ranks: The nodes.
            passed: Ranks below this belong to images that passed the filter.
        """
        return np.asarray(~np.isin(ranks, self.removed) & (ranks < passed))


def losers(pairs: Pairs, nodes: Nodes, keep: str, again: Ranks | None) -> Losers:
    """Returns the removed nodes: see `near_duplicates._losers`.

    Args:
        pairs: All pairs.
        nodes: The nodes.
        keep: `dedup.keep`.
        again: Another rank for each node of a pair, -1 for all others; None if they keep their ranks.
    """
    # Two images that people keep both stay. Their ranks come first, so the worse one of a pair decides.
    binding = pairs.take(pairs.b >= nodes.decided)
    ends = np.arange(len(nodes.best)) if again is None else again
    x, y = ends[binding.a], ends[binding.b]
    # The rank of each node in the order that decides.
    named = np.zeros(int(ends.max(initial=-1)) + 1, np.int64)
    named[ends[ends >= 0]] = np.flatnonzero(ends >= 0)
    decided = nodes.decided if again is None else int((again[: nodes.decided] >= 0).sum())
    better, worse = np.minimum(x, y), np.maximum(x, y)
    if keep == "component":
        found = _of_components(better, worse, named, nodes, decided)
    else:
        found = _independent(better, worse, binding)
    order = np.argsort(named[found.removed])
    return replace(found, removed=named[found.removed], kept=named[found.kept]).take(order)


def _independent(better: Ranks, worse: Ranks, pairs: Pairs) -> Losers:
    """Returns the removed nodes with the nearest better node that is kept: see `independent_set.removed`."""
    lost = greedily_removed(better, worse)
    to_kept = np.flatnonzero(~np.isin(better, lost))
    order = to_kept[np.lexsort((better[to_kept], pairs.distance[to_kept], worse[to_kept]))]
    _, first = np.unique(worse[order], return_index=True)
    nearest = order[first]
    one = pairs.take(nearest)
    return Losers(worse[nearest], better[nearest], one.distance, one.method, one.mirrored)


def _of_components(better: Ranks, worse: Ranks, named: Ranks, nodes: Nodes, decided: int) -> Losers:
    """Returns all nodes of each component but its best: see `components.removed`."""
    members, roots = best_of_component(better, worse)
    # A third image may still connect two that people keep.
    lost = (members != roots) & (members >= decided)
    members, roots = members[lost], roots[lost]
    hashes = words(nodes.hashes)
    removed, kept = named[members], named[roots]
    own = distances(hashes[removed], hashes[kept]).astype(np.int32)
    turned = own
    if nodes.mirrors is not None:
        mirrors = words(np.where(nodes.mirrors.present[:, None], nodes.mirrors.hashes, nodes.hashes))
        both = distances(hashes[removed], mirrors[kept]), distances(mirrors[removed], hashes[kept])
        turned = np.minimum(*both).astype(np.int32)
    return Losers(members, roots, np.minimum(own, turned), np.full(len(members), "component"), turned < own)


def removed_images(nodes: Nodes, lost: Losers) -> pa.Table:
    """Returns every removed image with the kept one: see `images_of_hashes.removed_images`.

    Returns:
        removed_id, kept_id, distance, method, mirrored, passed.
    """
    images = nodes.images
    place = np.full(len(nodes.best), -1)
    place[lost.removed] = np.arange(len(lost.removed))
    of_image = place[images.ranks]
    is_best = nodes.best[images.ranks] == np.arange(len(images.ranks))
    gone = np.flatnonzero((of_image >= 0) | (~is_best & ~images.decided))
    of_gone, has_loser = of_image[gone], of_image[gone] >= 0
    keeper = images.ranks[gone].copy()
    keeper[has_loser] = lost.kept[of_gone[has_loser]]
    distance, method = np.zeros(len(gone), np.int32), np.full(len(gone), "exact", dtype=object)
    mirrored = np.zeros(len(gone), np.bool_)
    mirrored[has_loser] = lost.mirrored[of_gone[has_loser]]
    distance[has_loser] = lost.distance[of_gone[has_loser]]
    method[has_loser] = lost.method[of_gone[has_loser]]
    return pa.table(
        {
            "removed_id": text(images.ids[gone]),
            "kept_id": text(images.ids[nodes.best[keeper]]),
            "distance": distance,
            "method": pa.array(method.tolist(), pa.string()),
            "mirrored": mirrored,
            "passed": images.passed[gone],
        }
    )


def image_pairs(nodes: Nodes, pairs: Pairs, limit: int = MAX_PAIRS) -> pa.Table:
    """Returns the pairs of images: see `images_of_hashes.image_pairs`.

    Returns:
        a_id, b_id (a_id < b_id), distance, method, mirrored.
    """
    groups = _Groups.of(nodes)
    count = nodes.members[pairs.a] * nodes.members[pairs.b]
    whole = (count > 1) & (count <= limit)
    left, right, of_pair = groups.products(pairs.a[whole], pairs.b[whole])
    one = pairs.take(~whole)
    every = pairs.take(whole)
    x, y = groups.within(limit)
    a = np.concatenate([x, nodes.best[one.a], left])
    b = np.concatenate([y, nodes.best[one.b], right])
    distance = np.concatenate([np.zeros(len(x), np.int32), one.distance, every.distance[of_pair]])
    method = [*["exact"] * len(x), *one.method.tolist(), *every.method[of_pair].tolist()]
    mirrored = np.concatenate([np.zeros(len(x), np.bool_), one.mirrored, every.mirrored[of_pair]])
    named = _table(nodes.images, a, b, distance).append_column("method", pa.array(method, pa.string()))
    return named.append_column("mirrored", pa.array(mirrored))


def near_misses(nodes: Nodes, misses: tuple[tuple[int, int, int], ...]) -> pa.Table:
    """Returns the rows of the table near_misses: a_id, b_id, distance.

    Args:
        nodes: The nodes.
        misses: a, b (ranks), distance.
    """
    a, b, distance = np.array(misses, np.int64).reshape(-1, 3).T
    return _table(nodes.images, nodes.best[a], nodes.best[b], distance.astype(np.int32))


def told_apart(nodes: Nodes, fresh: Pairs, earlier: Pairs, lost: Losers) -> pa.Table:
    """Returns the pairs told apart of which both images are kept: see `images_of_hashes.told_apart_images`.

    Args:
        nodes: The nodes.
        fresh: Pairs that this run told apart.
        earlier: Pairs of the sample of an earlier run that still hold.
        lost: Removed nodes.

    Returns:
        a_id, b_id, distance, mirrored, known.
    """
    pairs = Pairs.joined([fresh, earlier])
    known = np.arange(len(pairs)) >= len(fresh)
    stay = lost.stay(pairs.a, nodes.passed) & lost.stay(pairs.b, nodes.passed)
    pairs, known = pairs.take(stay), known[stay]
    named = _table(nodes.images, nodes.best[pairs.a], nodes.best[pairs.b], pairs.distance)
    return named.append_column("mirrored", pa.array(pairs.mirrored)).append_column("known", pa.array(known))


@dataclass(frozen=True)
class _Groups:
    """The images of each node.

    Attributes:
        nodes: The nodes.
        places: The places of all images, those of each node together, best first.
        starts: Where each node begins.
    """

    nodes: Nodes
    places: Places
    starts: Places

    @classmethod
    def of(cls, nodes: Nodes) -> "_Groups":
        return cls(nodes, np.argsort(nodes.images.ranks, kind="stable"), np.cumsum(nodes.members) - nodes.members)

    def products(self, left: Ranks, right: Ranks) -> tuple[Places, Places, Places]:
        """Returns each image of one node with each of another: both places, and the number of the pair of nodes."""
        sizes = self.nodes.members[right]
        counts = self.nodes.members[left] * sizes
        of_pair = np.repeat(np.arange(len(left)), counts)
        number = np.arange(counts.sum()) - np.repeat(np.cumsum(counts) - counts, counts)
        i, j = np.divmod(number, sizes[of_pair])
        x = self.places[self.starts[left[of_pair]] + i]
        return x, self.places[self.starts[right[of_pair]] + j], of_pair

    def within(self, limit: int) -> tuple[Places, Places]:
        """Returns the pairs of images with the same hash; of large groups only those with the best image."""
        members = self.nodes.members
        full = np.flatnonzero((members > 1) & (members * (members - 1) / 2 <= limit))
        large = np.flatnonzero(members * (members - 1) / 2 > limit)
        x, y, _ = self.products(full, full)
        x, y = x[x < y], y[x < y]
        others = [self.places[self.starts[one] + 1 : self.starts[one] + members[one]] for one in large]
        best = np.repeat(self.nodes.best[large], members[large] - 1)
        return np.concatenate([x, best]), np.concatenate([y, *others])


def _table(images: Images, a: Places, b: Places, distance: NDArray[np.int32]) -> pa.Table:
    """Returns pairs of images with their ids in order: a_id, b_id, distance."""
    x, y = images.ids[a], images.ids[b]
    swapped = x > y
    first, second = np.where(swapped, y, x), np.where(swapped, x, y)
    return pa.table({"a_id": text(first), "b_id": text(second), "distance": pa.array(distance, pa.int32())})
