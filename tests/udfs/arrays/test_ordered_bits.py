import numpy as np
import pyarrow as pa

from udfs.arrays.ordered_bits import double_of, ordered_bits, ordered_bits_of_column


def test_integers_are_in_the_order_of_the_doubles_and_give_them_back() -> None:
    generator = np.random.default_rng(0)
    doubles = generator.integers(-(2**63), 2**63, 2000).view(np.float64)
    doubles = np.concatenate([doubles[np.isfinite(doubles)], [0.0, -0.0, 5e-324, -5e-324, 1e308, -1e308, 0.27, -0.27]])

    bits = ordered_bits(doubles)

    assert ((bits[:, None] < bits) == (doubles[:, None] < doubles)).all()
    assert [double_of(int(one)) for one in bits] == doubles.tolist()


def test_null_stays_null() -> None:
    assert ordered_bits_of_column(pa.array([1.0, None, 0.0])).to_pylist() == [0x3FF0000000000000, None, 0]
    assert ordered_bits_of_column(pa.array([], pa.float64())).to_pylist() == []
