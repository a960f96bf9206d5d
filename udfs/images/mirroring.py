"""Turns thumbnails into those of the mirror images."""

from typing import Any

import numpy as np
from numpy.typing import NDArray
from pyspark.sql.functions import pandas_udf
from pyspark.sql.types import BinaryType

from models.images.decoding import GREY_SIDE
from udfs.arrays.late import late


def mirrored(thumbnails: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Returns the thumbnails of mirror images: left and right are exchanged.

    Args:
        thumbnails: uint8 of shape (n, height, width).

    Examples:
        >>> mirrored(np.array([[[1, 2], [3, 4]]], np.uint8)).tolist()
        [[[2, 1], [4, 3]]]
    """
    return np.ascontiguousarray(thumbnails[:, :, ::-1])


@late
def facing() -> Any:
    """Returns thumbnails (GREY_SIDE² bytes each, or null), and where `is_mirrored` those of the mirror images."""
    import pandas as pd

    @pandas_udf(BinaryType())
    def facing(thumbnail: pd.Series, is_mirrored: pd.Series) -> pd.Series:
        chosen = is_mirrored.to_numpy(bool) & thumbnail.notna().to_numpy(bool)
        if not chosen.any():
            return thumbnail
        pixels = np.frombuffer(b"".join(thumbnail[chosen]), np.uint8).reshape(-1, GREY_SIDE, GREY_SIDE)
        result = thumbnail.copy()
        result[chosen] = [one.tobytes() for one in mirrored(pixels)]
        return result

    return facing
