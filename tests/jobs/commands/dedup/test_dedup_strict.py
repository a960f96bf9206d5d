import numpy as np
import pytest

from jobs.lake import tables
from jobs.lake.lake import Lake
from models.errors import WinnowError
from models.images.decoding import GREY_SIDE as SIDE
from tests.builders.hash_lakes import Picture, hashes, in_two_runs, near, quality_rows, run


def clock(hour: int, light: float = 1.0) -> bytes:
    """Returns the thumbnail of a dial with one hand."""
    rows, columns = np.mgrid[:SIDE, :SIDE] - (SIDE - 1) / 2
    dial = np.where(np.hypot(rows, columns) < 26, 230.0, 60.0)
    turn = np.pi * hour / 6
    along, across = np.sin(turn) * columns - np.cos(turn) * rows, np.cos(turn) * columns + np.sin(turn) * rows
    dial[(along > 0) & (along < 22) & (np.abs(across) < 1.5)] = 20.0
    return bytes((dial * light).astype(np.uint8).tobytes())


def clocks() -> list[Picture]:
    """Returns a clock at one, a darker copy, one at two with a near hash, and one at three with the same hash."""
    one = hashes(1)[0]
    return [
        Picture(1, one.tobytes(), width=400, thumbnail=clock(1)),
        Picture(2, near(one, 20, 1).tobytes(), width=300, thumbnail=clock(1, light=0.6)),
        Picture(3, near(one, 5, 2).tobytes(), width=200, thumbnail=clock(2)),
        Picture(4, one.tobytes(), width=100, thumbnail=clock(3)),
        Picture(5, one.tobytes(), width=50, thumbnail=clock(1), content="1"),  # the first, byte for byte
    ]


@pytest.mark.slow
def test_strict_keeps_clocks_at_other_times_and_removes_copies(lake: Lake) -> None:
    pictures = clocks()
    ids = [picture.image_id for picture in pictures]
    assert set(run(lake, pictures)) == set(ids[1:])
    assert run(lake, pictures, "dedup.strict=true") == {ids[1]: (ids[0], 20, "lsh"), ids[4]: (ids[0], 0, "exact")}
    whole = quality_rows(lake)[-1]
    # The search also finds near hashes whose images differ in a detail: they are no near-duplicates.
    assert whole.recall == 1.0 and whole.exhaustive_pairs == 1 and whole.told_apart == 5 and whole.both_kept == 0
    # The darker copy matches the first and the first's exact repeat.
    pairs = {(row.a_id, row.b_id) for row in lake.read(tables.PAIRS).collect()}
    assert pairs == {(ids[0], ids[1]), (ids[0], ids[4]), (ids[1], ids[4])}


@pytest.mark.slow
def test_strict_on_a_lake_that_grew_gives_the_same_result_as_one_run(lake: Lake) -> None:
    pictures = clocks()
    removed = in_two_runs(lake, pictures, "dedup.strict=true", "dedup.keep_kept=false")
    assert removed == run(Lake(lake.spark, f"{lake.uri}/whole"), pictures, "dedup.strict=true") and len(removed) == 2


@pytest.mark.slow
def test_strict_refuses_images_without_thumbnails(lake: Lake) -> None:
    with pytest.raises(WinnowError, match="1 images were scored by a version that stored none"):
        run(lake, [*clocks(), Picture(6, bytes(32))], "dedup.strict=true")
