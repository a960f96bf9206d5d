import pyarrow as pa
from hypothesis import given
from hypothesis import strategies as st

from udfs.arrow import in_batches_of


@given(sizes=st.lists(st.integers(0, 9), max_size=8), count=st.integers(1, 7))
def test_batches_are_cut_to_one_size_and_keep_every_row_in_order(sizes: list[int], count: int) -> None:
    numbers = iter(range(sum(sizes)))
    batches = [pa.record_batch({"n": pa.array([next(numbers) for _ in range(size)], pa.int64())}) for size in sizes]
    cut = list(in_batches_of(count, batches))
    assert [row for batch in cut for row in batch.column("n").to_pylist()] == list(range(sum(sizes)))
    assert all(batch.num_rows == count for batch in cut[:-1]) and all(0 < batch.num_rows <= count for batch in cut[-1:])
