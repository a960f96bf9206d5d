"""Compares the thumbnails of pairs of a small lake: see `jobs.commands.dedup.verify` and `keep.overlays`."""

from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from jobs.commands.dedup.candidates.popular import POPULAR
from jobs.commands.dedup.in_memory.nodes import Nodes, best_first
from jobs.commands.dedup.in_memory.pairs import Pairs
from jobs.commands.dedup.nodes import ranking
from jobs.commands.dedup.verify import thumbnail_verification
from jobs.matching.rule import Rule
from udfs.images.agreement import AGREE, agreement_of
from udfs.images.appearance import appearance, facing
from udfs.images.overlays import overlay_of
from udfs.images.registration import looks_alike

if TYPE_CHECKING:
    import pandas as pd

_FEW_PAIRS = 4_000  # more are compared by Spark, on all cores of a cluster
_AT_ONCE = 128
_THREADS = 4

Values = NDArray[Any]


class Looks:
    """Thumbnails of the best images of nodes.

    Args:
        signals: Table signals.
        nodes: The nodes.
        rule: The rule for near-duplicates.
    """

    def __init__(self, signals: DataFrame, nodes: Nodes, rule: Rule) -> None:
        self._signals = signals
        self._nodes = nodes
        self._rule = rule

    def confirmed(self, pairs: Pairs) -> Pairs:
        """Returns the pairs whose images look the same: see `thumbnail_verification.confirmed`."""
        if self._rule.strict:
            return pairs.take(np.flatnonzero(self._compared(pairs, looks_alike) == 1))
        return pairs.take(np.flatnonzero(self._compared(pairs, agreement_of) >= AGREE))

    def ranked_again(self, pairs: Pairs, criteria: Sequence[str]) -> NDArray[np.int64] | None:
        """Returns another rank for each node of a pair, so that images with an overlay lose: see `keep.overlays`.

        Args:
            pairs: All pairs.
            criteria: `dedup.rank`.

        Returns:
            int64 for each node, -1 for those of no pair; None if no image has an overlay.
        """
        place = ranking.place_of_overlay(criteria)
        if place is None or "thumbnail" not in self._signals.columns:
            return None
        orders = self._nodes.images.orders[self._nodes.best]
        leads = pairs.method == POPULAR
        undecided = pairs.take(~leads & ~_unequal(orders, pairs, [slice(0, place - 1)]))
        if not len(undecided):
            return None
        share = self._overlaid(undecided, _unequal(orders, undecided, ranking.places_of_properties(criteria)))
        # Leaders keep their place: what matches a popular image was resolved against it before the search.
        share[pairs.a[leads]] = 0
        if not share.any():
            return None
        ends = pairs.ends()
        lowered = orders[ends]
        worse = share[ends] > 0
        lowered[worse, place - 1] = ranking.OVERLAY_BYTE + share[ends][worse]
        again = np.full(len(orders), -1)
        again[ends[best_first(lowered)]] = np.arange(len(ends))
        return again

    def _overlaid(self, pairs: Pairs, differ: NDArray[np.bool_]) -> NDArray[np.int64]:
        """Returns for each node in how many of its pairs it has an overlay, in steps: see `keep.overlays`."""
        shown = self._signals.withColumn("thumbnail", appearance(self._signals))
        has = self._compared(pairs, overlay_of, shown, differ)
        nodes = len(self._nodes.best)
        votes = np.bincount(pairs.a, has > 0, nodes) + np.bincount(pairs.b, has < 0, nodes)
        all_pairs = np.maximum(np.bincount(np.concatenate([pairs.a, pairs.b]), minlength=nodes), 1)
        # Rounded as Spark rounds: half away from zero.
        return np.floor(ranking.MOST_OVERLAID * votes / all_pairs + 0.5).astype(np.int64)

    def _compared(
        self, pairs: Pairs, udf: Any, signals: DataFrame | None = None, differ: NDArray[np.bool_] | None = None
    ) -> Values:
        """Returns a value for each pair; NaN if one of its images has no thumbnail.

        Args:
            pairs: The pairs.
            udf: A pandas UDF that takes two columns of thumbnails, and `differ` if it is given; its function is `func`.
            signals: The table signals, if `thumbnail` is to be another column of it.
            differ: A value for each pair.
        """
        values = np.full(len(pairs), np.nan)
        if not len(pairs):
            return values
        named = F.broadcast(self._signals.sparkSession.createDataFrame(self._nodes.named(pairs.ends())))
        own = (signals or self._signals).where(
            (F.col("encoder") == self._rule.encoder) & F.col("thumbnail").isNotNull()
        )
        thumbnails = own.select("image_id", "thumbnail").join(named, "image_id").select("rank", "thumbnail")
        few = len(pairs) <= _FEW_PAIRS
        cells = (thumbnails if few else thumbnails.select("rank", F.lit(None).alias("thumbnail"))).toPandas()
        both = np.isin(pairs.a, cells["rank"]) & np.isin(pairs.b, cells["rank"])
        if both.any():
            shown, more = pairs.take(both), [] if differ is None else [differ[both]]
            values[both] = _by_driver(shown, cells, udf, more) if few else _by_spark(shown, thumbnails, udf, more)
        return values


def _unequal(orders: NDArray[np.uint8], pairs: Pairs, places: Iterable[slice]) -> NDArray[np.bool_]:
    """Returns for which pairs the orders of the two nodes have other bytes at some places."""
    differ = np.zeros(len(pairs), np.bool_)
    for place in places:
        differ |= (orders[pairs.a, place] != orders[pairs.b, place]).any(axis=1)
    return differ


def _by_driver(pairs: Pairs, cells: "pd.DataFrame", udf: Any, more: Sequence[NDArray[np.bool_]]) -> Values:
    import pandas as pd

    of_rank = cells.set_index("rank")["thumbnail"]
    left, right = (of_rank.loc[ends.tolist()].reset_index(drop=True) for ends in (pairs.a, pairs.b))
    columns = [left, facing.func(right, pd.Series(pairs.mirrored)), *map(pd.Series, more)]
    parts = [slice(begin, begin + _AT_ONCE) for begin in range(0, len(pairs), _AT_ONCE)]
    with ThreadPoolExecutor(_THREADS) as pool:  # numpy and scipy release Python's lock
        found = pool.map(lambda part: np.asarray(udf.func(*(column[part] for column in columns))), parts)
        return np.concatenate(list(found))


def _by_spark(pairs: Pairs, thumbnails: DataFrame, udf: Any, more: Sequence[NDArray[np.bool_]]) -> Values:
    import pandas as pd

    rows = pairs.rows()
    for values in more:
        rows = rows.append_column("differ", pa.array(values))
    joined = thumbnail_verification.with_both(thumbnails.sparkSession.createDataFrame(rows), thumbnails)
    compared = udf("left", "right", *(["differ"] if more else []))
    found = joined.select("a", "b", "mirrored", compared.alias("value")).toPandas()
    by_pair = found.set_index(pd.MultiIndex.from_frame(found[["a", "b", "mirrored"]]))["value"]
    return np.asarray(by_pair.reindex(pd.MultiIndex.from_arrays([pairs.a, pairs.b, pairs.mirrored])))
