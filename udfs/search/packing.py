"""Packs hashes by band key for the shuffle: the map side of the search for pairs.

A packed row holds many entries for one shuffle bucket, so that the shuffle moves a few large rows instead of one small
row for each band of each hash. A bucket holds the keys of a few bands, or a part of the keys of one band. So the number
of a bucket says in which bands its pairs agree, and bands can be searched in groups.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray
from pyspark.sql import types as T

from udfs.hashes.hamming import HASH_WORDS
from udfs.hashes.minhash import Bands, band_keys
from udfs.search.matching import ENTRY_WORDS, entries_of_rows

PACKED = T.StructType(
    [
        T.StructField("bucket", T.IntegerType()),
        T.StructField("keys", T.BinaryType()),
        T.StructField("entries", T.BinaryType()),
    ]
)
"""Entries for one shuffle bucket: n keys of 4 bytes, n entries of 40 bytes (`udfs.search.matching`)."""

ENTRY_BYTES = 44
"""Bytes of an entry with its key in a shuffle."""

_FEWEST_BUCKETS, _ENTRIES_PER_BUCKET = 8, 1_000_000
# Hashes that are packed together. At 10^9 hashes a band has a thousand buckets, and a packed row 131 entries.
_HELD = 1 << 17
_OUTPUT_BYTES, _OUTPUT_ROWS = 32 << 20, 100_000


@dataclass(frozen=True)
class BandLayout:
    """Which shuffle bucket holds which band keys.

    Attributes:
        bands: Bands and rows.
        together: Bands that share a bucket, in a small lake.
        apart: Buckets of one band, in a large one.
    """

    bands: Bands
    together: int
    apart: int

    @classmethod
    def for_data(cls, hashes: int, bands: Bands) -> "BandLayout":
        """Returns buckets of at most about a million entries, at least eight if there are as many bands.

        Examples:
            >>> small, large = (BandLayout.for_data(count, Bands(33, 10)) for count in (100_000, 10_000_000))
            >>> (small.together, small.buckets), (large.apart, large.buckets)
            ((5, 7), (10, 330))
            >>> BandLayout.for_data(0, Bands(7, 2)).buckets
            7
        """
        together = min(max(_ENTRIES_PER_BUCKET // max(hashes, 1), 1), -(-bands.bands // _FEWEST_BUCKETS))
        return cls(bands, together, max(-(-hashes // _ENTRIES_PER_BUCKET), 1) if together == 1 else 1)

    @property
    def buckets(self) -> int:
        """Number of buckets."""
        return -(-self.bands.bands // self.together) * self.apart

    def first_band(self, bucket: int) -> int:
        """Returns the first band of a bucket. All bands of earlier numbers are in earlier buckets."""
        return bucket // self.apart * self.together

    def of_keys(self, keys: NDArray[np.uint64], first: int) -> NDArray[np.uint32]:
        """Returns the bucket of each key.

        Args:
            keys: Keys of shape (n, m), as `band_keys` returns them.
            first: The band of the first column.
        """
        start = (np.arange(first, first + keys.shape[1]) // self.together * self.apart).astype(np.uint32)
        # The upper half of a key gives the bucket. The lower half distinguishes the keys of a bucket.
        part = ((keys >> np.uint64(32)) % np.uint64(self.apart)).astype(np.uint32)
        return np.asarray(start + part)


@dataclass(frozen=True)
class Packing:
    """The map side: hashes to packed shuffle rows.

    Attributes:
        layout: The buckets.
        first: The first band to pack.
        last: The band before which to end; None for all.
    """

    layout: BandLayout
    first: int = 0
    last: int | None = None

    @property
    def name(self) -> str:
        """A name for these bands."""
        return f"bands-{self.first}"

    @property
    def buckets(self) -> int:
        """Number of buckets of these bands."""
        count = (self.layout.bands.bands if self.last is None else self.last) - self.first
        return -(-count // self.layout.together) * self.layout.apart

    def __call__(self, batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        """Packs Arrow batches of (hash, rank, known): the function for `DataFrame.mapInArrow` with schema `PACKED`."""
        held: list[NDArray[np.uint64]] = []
        for batch in batches:
            held.append(entries_of_rows(batch))
            if sum(map(len, held)) >= _HELD:
                yield from self.pack(np.concatenate(held))
                held = []
        if held:
            yield from self.pack(np.concatenate(held))

    def pack(self, entries: NDArray[np.uint64]) -> Iterator[pa.RecordBatch]:
        """Packs entries (uint64 of shape (n, 5)), some bands at a time: each batch has about 32 MB at most."""
        if not len(entries):
            return
        hashes = np.ascontiguousarray(entries[:, :HASH_WORDS]).view(np.uint8)
        last = self.layout.bands.bands if self.last is None else self.last
        step = max(_OUTPUT_BYTES // (ENTRY_BYTES * len(entries)), 1)
        for first in range(self.first, last, step):
            keys = band_keys(hashes, self.layout.bands, first, min(first + step, last))
            yield packed_rows(keys.astype(np.uint32), self.layout.of_keys(keys, first), entries)


@dataclass(frozen=True)
class Repacking:
    """Packs the entries of runs that were not compared in full, by all bands, for `udfs.search.lsh.Completing`.

    Attributes:
        layout: The buckets.
    """

    layout: BandLayout

    def __call__(self, batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        """Packs Arrow batches of (bucket, keys, entries); the keys of those runs become rows without entries."""
        packing = Packing(self.layout)
        for batch in batches:
            none = pa.array([b""] * batch.num_rows, pa.binary())
            yield pa.RecordBatch.from_arrays([batch.column("bucket"), batch.column("keys"), none], PACKED.names)
            for cell in batch.column("entries").to_pylist():
                yield from packing.pack(np.frombuffer(cell, np.uint64).reshape(-1, ENTRY_WORDS))


@dataclass(frozen=True)
class EachBucket:
    """Calls a function for each shuffle bucket of a partition; there is one, if partitions were made by bucket number.

    Attributes:
        function: A function of the rows of a bucket (`PACKED`).
    """

    function: Callable[[pa.Table], pa.Table]

    def __call__(self, batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        """Yields the results in batches of bounded size: the function for `DataFrame.mapInArrow`."""
        held = [batch for batch in batches if batch.num_rows]
        if not held:
            return
        rows = pa.Table.from_batches(held)
        numbers = pc.unique(rows["bucket"])
        for number in numbers:
            bucket = rows if len(numbers) == 1 else rows.filter(pc.equal(rows["bucket"], number))
            yield from self.function(bucket).to_batches(max_chunksize=_OUTPUT_ROWS)


def packed_rows(keys: NDArray[np.uint32], buckets: NDArray[np.uint32], entries: NDArray[np.uint64]) -> pa.RecordBatch:
    """Packs a batch's entries into one row for each shuffle bucket.

    Args:
        keys: uint32 of shape (n, m): the m keys of each entry.
        buckets: The bucket of each key, same shape.
        entries: uint64 of shape (n, 5), as `udfs.search.matching.packed_entries` makes them.

    Returns:
        Rows of `PACKED`.
    """
    by_bucket = np.argsort(buckets.ravel(), kind="stable")
    owner, sorted_keys = by_bucket // keys.shape[1], keys.ravel()[by_bucket]
    present, starts = np.unique(buckets.ravel()[by_bucket], return_index=True)
    spans = list(zip(starts, [*starts[1:], len(by_bucket)], strict=True))
    return pa.RecordBatch.from_arrays(
        [
            pa.array(present.astype(np.int32)),
            pa.array([sorted_keys[begin:end].tobytes() for begin, end in spans], pa.binary()),
            pa.array([entries[owner[begin:end]].tobytes() for begin, end in spans], pa.binary()),
        ],
        names=["bucket", "keys", "entries"],
    )


def buckets_for(entries: int) -> int:
    """Returns the number of shuffle buckets, so that a task holds about a million entries of 44 bytes at most.

    Examples:
        >>> buckets_for(1000), buckets_for(10_000_001)
        (8, 11)
    """
    return max(_FEWEST_BUCKETS, -(-entries // _ENTRIES_PER_BUCKET))
