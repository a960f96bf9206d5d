import numpy as np
import pandas as pd

from models.images.decoding import GREY_SIDE
from models.images.edges import EDGE_SIDE
from udfs.images.appearance import facing, split


def test_only_mirrored_thumbnails_are_turned() -> None:
    one = np.random.default_rng(0).integers(0, 256, (GREY_SIDE, GREY_SIDE), dtype=np.uint8)
    column = pd.Series([one.tobytes(), one.tobytes(), None])
    turned = facing.func(column, pd.Series([True, False, True]))
    assert turned[0] == one[:, ::-1].tobytes() and turned[1] == one.tobytes() and turned[2] is None
    assert facing.func(column[1:2], pd.Series([False], index=[1])).tolist() == [one.tobytes()]


def test_an_edge_map_is_turned_with_its_thumbnail() -> None:
    rng = np.random.default_rng(0)
    one, edges = (rng.integers(0, 256, (side, side), dtype=np.uint8) for side in (GREY_SIDE, EDGE_SIDE))
    column = pd.Series([one.tobytes() + edges.tobytes(), one.tobytes()])
    turned = facing.func(column, pd.Series([True, True]))
    assert turned[0] == one[:, ::-1].tobytes() + edges[:, ::-1].tobytes() and turned[1] == one[:, ::-1].tobytes()
    parts = split(column)
    assert parts.has_edges.tolist() == [True, False]
    assert (parts.thumbnails == one).all() and (parts.edges[0] == edges).all() and not parts.edges[1].any()
