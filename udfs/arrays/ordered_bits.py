"""Numbers doubles in their order, so that integers can be counted in place of doubles."""

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

_MAGNITUDE = np.int64(2**63 - 1)


def ordered_bits(values: NDArray[np.float64]) -> NDArray[np.int64]:
    """Returns integers in the order of the doubles: the integer of the larger double is larger.

    Args:
        values: float64 of any shape, without NaN.

    Returns:
        int64 of the same shape; equal for equal doubles, so 0.0 and -0.0 give the same integer.

    Source:
        IEEE 754: read as integers, the bits of positive doubles are in the order of the doubles, and those of negative
        ones are in the reverse order, which inverting all bits but the sign turns round.

    Examples:
        >>> bits = ordered_bits(np.array([-np.inf, -1.5, -0.0, 0.0, 5e-324, 2.0]))
        >>> bool((np.diff(bits) >= 0).all()), bits[2:5].tolist()
        (True, [0, 0, 1])
    """
    bits = (values + 0.0).view(np.int64)  # -0.0 + 0.0 is 0.0
    return np.where(bits < 0, bits ^ _MAGNITUDE, bits)


def double_of(bits: int) -> float:
    """Returns the double of an integer of `ordered_bits`.

    Examples:
        >>> double_of(int(ordered_bits(np.array([-0.27]))[0]))
        -0.27
    """
    number = np.int64(bits)
    return float((number if number >= 0 else number ^ _MAGNITUDE).view(np.float64))


def ordered_bits_of_column(values: pa.Array) -> pa.Array:
    """Applies `ordered_bits` to an Arrow array of doubles without NaN; null stays null."""
    missing = values.is_null().to_numpy(zero_copy_only=False)
    return pa.array(ordered_bits(values.fill_null(0.0).to_numpy(zero_copy_only=False)), mask=missing)
