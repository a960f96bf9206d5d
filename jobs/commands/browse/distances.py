"""Other distances for `dedup`: what they would change, counted from its tables, or estimated from its samples."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F

from jobs.facts.duplicates import whole_search
from jobs.facts.samples import top
from jobs.lake import tables
from jobs.lake.lake import Lake
from jobs.runtime.wording import plural

FOUND, BEYOND = "found", "beyond"
"""Pairs that the search found, and the nearest pairs beyond the threshold (table near_misses)."""

_EXAMPLES = 60  # pairs of each distance


@dataclass(frozen=True)
class Distances:
    """What `dedup` counted by distance, in bits.

    Attributes:
        threshold: Largest distance of a near-duplicate.
        safe: Largest distance at which a pair counts without a look at the thumbnails.
        sampled: Distinct hashes in the sample, which were compared with all others.
        hashes: Distinct hashes.
        pairs: Number of pairs that the search found.
        removed: Number of removed images, by the distance to the image that is kept.
        sample: Number of pairs of the sampled hashes with all others, and how many of them the search found. Within
            the threshold these are near-duplicates, beyond it all pairs.
        looked: Number of pairs whose thumbnails were compared.
        told_apart: Number of those that show different images.
    """

    threshold: int
    safe: int
    sampled: int
    hashes: int
    pairs: Mapping[int, int]
    removed: Mapping[int, int]
    sample: Mapping[int, tuple[int, int]]
    looked: int = 0
    told_apart: int = 0

    @property
    def farthest(self) -> int:
        """The largest distance about which anything is known."""
        return max([self.threshold, *self.sample])

    def as_json(self) -> dict[str, Any]:
        """Returns the fields, for JSON."""
        return asdict(self)

    @classmethod
    def of_json(cls, fields: Mapping[str, Any]) -> "Distances":
        """Returns what `as_json` gave."""
        numbers = {name: {int(bits): value for bits, value in fields[name].items()} for name in _BY_DISTANCE}
        numbers["sample"] = {bits: (pairs, found) for bits, (pairs, found) in numbers["sample"].items()}
        return cls(**{**fields, **numbers})

    def histogram(self) -> list[int]:
        """Returns the number of pairs at each distance from 0: found ones, or estimated ones beyond the threshold."""
        return [
            self.pairs.get(bits, 0) if bits <= self.threshold else round(self.estimate(bits - 1, bits))
            for bits in range(self.farthest + 1)
        ]

    def estimate(self, above: int, within: int) -> float:
        """Returns the estimated number of pairs of different hashes at distances in (above, within].

        A pair is in the sample if one of its two hashes is: with probability f (2 - f), if f is the share of sampled
        hashes.

        Args:
            above: Distance in bits.
            within: Distance in bits.

        Examples:
            >>> found = Distances(10, 10, 50, 100, {}, {}, {11: (3, 0), 12: (9, 0)})
            >>> found.estimate(10, 11), found.estimate(10, 12)
            (4.0, 16.0)
        """
        share = min(1.0, self.sampled / self.hashes) if self.hashes else 0.0
        return self._sampled(above, within)[0] / (share * (2 - share)) if share else 0.0

    def _sampled(self, above: int, within: int) -> tuple[int, int]:
        rows = [self.sample[bits] for bits in self.sample if above < bits <= within]
        return sum(pairs for pairs, _ in rows), sum(found for _, found in rows)

    def effect(self, bits: int) -> list[str]:
        """Returns what `dedup.max_distance` would change, in sentences: what is counted first, then what is estimated.

        Args:
            bits: The distance to try.
        """
        return [*self._counted(bits), *self._estimated(bits), *self._recall(bits)]

    def _counted(self, bits: int) -> list[str]:
        every, within = sum(self.pairs.values()), sum(n for at, n in self.pairs.items() if at <= bits)
        removed, back = sum(self.removed.values()), sum(n for at, n in self.removed.items() if at > bits)
        said = [f"{within:,} of {plural(every, 'found pair')} {'is' if every == 1 else 'are'} within {bits} bits."]
        if back:
            said.append(
                f"{back:,} of {plural(removed, 'removed image')} {'is' if back == 1 else 'are'} farther from the image "
                f"that is kept: at most {'it comes' if back == 1 else 'these come'} back, because another near-copy "
                "may be kept instead."
            )
        return said

    def _estimated(self, bits: int) -> list[str]:
        said = []
        if bits > self.threshold:
            pairs, _ = self._sampled(self.threshold, bits)
            whole = self.sampled >= self.hashes
            number = f"{pairs:,}" if whole else f"About {self.estimate(self.threshold, bits):,.0f}"
            sample = f"{pairs:,} in the comparison of {self.sampled:,} sampled hashes with all {self.hashes:,}"
            basis = "counted by comparing all hashes" if whole else f"estimate: {sample}"
            said.append(f"{number} pairs of different hashes are {self.threshold + 1} to {bits} bits apart ({basis}).")
        if bits > self.safe and self.safe < self.threshold:
            said.append(
                f"Beyond {self.safe} bits, pairs count now only if their thumbnails agree; with dedup.max_distance, "
                f"all pairs count. Of {self.looked:,} pairs whose thumbnails were compared, {self.told_apart:,} show "
                "different images; the table told_apart holds a sample of them."
            )
        return said

    def _recall(self, bits: int) -> list[str]:
        # Beyond the safe distance, tables of an earlier Winnow do not tell copies from other pairs.
        within = min(bits, self.safe)
        pairs, found = self._sampled(-1, within)
        if not pairs:
            return []
        return [f"Within {within} bits, the search found {found:,} of {plural(pairs, 'pair')} of the sampled hashes."]


_BY_DISTANCE = ("pairs", "removed", "sample")


def measured(lake: Lake) -> Distances | None:
    """Returns what the last `dedup` counted by distance; None if it has not run, or compared no hash."""
    if not lake.exists(tables.DUPLICATES):
        return None
    quality = whole_search(lake.read(tables.DEDUP_QUALITY)).collect()
    if not quality or not quality[-1].distinct_hashes:
        return None
    row = quality[-1]
    safe = row.max_distance if row.safe_distance is None else min(row.safe_distance, row.max_distance)
    sample = lake.read(tables.DEDUP_DISTANCES).limit(257).collect()
    return Distances(
        threshold=row.max_distance,
        safe=safe,
        sampled=row.sampled or 0,
        hashes=row.distinct_hashes,
        pairs=_by_distance(lake.read(tables.PAIRS)),
        removed=_by_distance(lake.read(tables.DUPLICATES).where(F.col("method") != tables.SEMANTIC)),
        sample={one.distance: (one.exhaustive_pairs, one.found_pairs) for one in sample},
        looked=row.looked or 0,
        told_apart=row.told_apart or 0,
    )


def _by_distance(rows: DataFrame) -> dict[int, int]:
    # At most 257 rows.
    return {row.distance: row["count"] for row in rows.groupBy("distance").count().collect()}


def examples(lake: Lake, a_shown: Column, b_shown: Column) -> DataFrame:
    """Returns some pairs of each distance: a_id, b_id, distance, kind.

    Args:
        lake: Tables that do not exist yet count as empty.
        a_shown: Whether the page shows the image `a_id`.
        b_shown: Whether the page shows the image `b_id`.
    """
    found = lake.read(tables.PAIRS).where(a_shown & b_shown)
    some = top(found, F.col("distance"), [F.xxhash64("a_id", "b_id"), F.col("a_id"), F.col("b_id")], _EXAMPLES)
    misses = lake.read(tables.NEAR_MISSES).where(a_shown & b_shown)
    columns = "a_id", "b_id", "distance"
    near = some.select(*columns, F.lit(FOUND).alias("kind"))
    return near.unionByName(misses.select(*columns, F.lit(BEYOND).alias("kind")))
