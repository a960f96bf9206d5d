"""Appearances: the bytes of an image's grey thumbnail, and after them those of its edge map if there is one."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F
from pyspark.sql.functions import pandas_udf
from pyspark.sql.types import BinaryType

from models.images.decoding import GREY_SIDE
from models.images.edges import EDGE_SIDE
from udfs.arrays.late import late

if TYPE_CHECKING:
    import pandas as pd

_THUMBNAIL, _EDGES = GREY_SIDE**2, EDGE_SIDE**2


@dataclass(frozen=True)
class Appearances:
    """The parts of n appearances.

    Attributes:
        thumbnails: uint8 of shape (n, GREY_SIDE, GREY_SIDE).
        edges: uint8 of shape (n, EDGE_SIDE, EDGE_SIDE), zeros where there is no edge map.
        has_edges: bool of shape (n,).
    """

    thumbnails: NDArray[np.uint8]
    edges: NDArray[np.uint8]
    has_edges: NDArray[np.bool_]


def appearance(signals: DataFrame) -> Column:
    """Returns the column of appearances of the table signals, also if a version that had no edge maps wrote it."""
    if "edges" not in signals.columns:
        return F.col("thumbnail")
    return F.concat("thumbnail", F.coalesce("edges", F.lit(b"")))


def split(column: "pd.Series[bytes]") -> Appearances:
    """Returns the parts of a column of appearances, none of them null."""
    has_edges = np.array([len(cell) > _THUMBNAIL for cell in column], np.bool_)
    whole = b"".join(cell.ljust(_THUMBNAIL + _EDGES, b"\0") for cell in column)
    pixels = np.frombuffer(whole, np.uint8).reshape(len(column), -1)
    return Appearances(
        pixels[:, :_THUMBNAIL].reshape(-1, GREY_SIDE, GREY_SIDE),
        pixels[:, _THUMBNAIL:].reshape(-1, EDGE_SIDE, EDGE_SIDE),
        has_edges,
    )


def mirrored(parts: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Returns the thumbnails or edge maps of mirror images: left and right are exchanged.

    Args:
        parts: uint8 of shape (n, height, width).

    Examples:
        >>> mirrored(np.array([[[1, 2], [3, 4]]], np.uint8)).tolist()
        [[[2, 1], [4, 3]]]
    """
    return np.ascontiguousarray(parts[:, :, ::-1])


@late
def facing() -> Any:
    """Returns appearances or thumbnails, or null, and where `is_mirrored` those of the mirror images."""
    import pandas as pd

    @pandas_udf(BinaryType())
    def facing(appearance: pd.Series, is_mirrored: pd.Series) -> pd.Series:
        chosen = is_mirrored.to_numpy(bool) & appearance.notna().to_numpy(bool)
        if not chosen.any():
            return appearance
        parts = split(appearance[chosen])
        turned = zip(mirrored(parts.thumbnails), mirrored(parts.edges), parts.has_edges, strict=True)
        result = appearance.copy()
        result[chosen] = [one.tobytes() + (edges.tobytes() if has else b"") for one, edges, has in turned]
        return result

    return facing
