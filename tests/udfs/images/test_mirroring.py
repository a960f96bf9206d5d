import numpy as np
import pandas as pd

from models.images.decoding import GREY_SIDE
from udfs.images.mirroring import facing


def test_only_mirrored_thumbnails_are_turned() -> None:
    one = np.random.default_rng(0).integers(0, 256, (GREY_SIDE, GREY_SIDE), dtype=np.uint8)
    column = pd.Series([one.tobytes(), one.tobytes(), None])
    turned = facing.func(column, pd.Series([True, False, True]))
    assert turned[0] == one[:, ::-1].tobytes() and turned[1] == one.tobytes() and turned[2] is None
    assert facing.func(column[1:2], pd.Series([False], index=[1])).tolist() == [one.tobytes()]
