"""Numbers sorted rows."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np
import pyarrow as pa


@dataclass(frozen=True)
class RowIndexer:
    """A numbering of the rows of sorted partitions: the function for `DataFrame.mapInArrow`.

    Attributes:
        offsets: For each partition, the number of rows in all partitions before it; the column `part` has its number.
        name: Name of the column of the new number, which replaces `part`.
    """

    offsets: Mapping[int, int]
    name: str

    def __call__(self, batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        """Numbers the rows of Arrow batches with a column `part`, which are one sorted partition.

        Examples:
            >>> batch = pa.record_batch({"part": [1, 1], "x": ["a", "b"]})
            >>> next(RowIndexer({0: 0, 1: 5}, "place")([batch])).to_pydict()
            {'place': [5, 6], 'x': ['a', 'b']}
        """
        seen = 0
        for batch in batches:
            if not batch.num_rows:
                continue
            begin = self.offsets[batch.column("part")[0].as_py()] + seen
            numbers = pa.array(np.arange(begin, begin + batch.num_rows, dtype=np.int64))
            seen += batch.num_rows
            columns = [numbers if name == "part" else batch.column(name) for name in batch.schema.names]
            names = [self.name if name == "part" else name for name in batch.schema.names]
            yield pa.record_batch(columns, names=names)
