from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from pyspark.sql import Row, SparkSession

from jobs import config, dedup, tables
from jobs.job import Job
from jobs.lake import Lake, Recipe
from jobs.progress import Progress
from jobs.score import current_encoder
from models.errors import WinnowError
from models.images import GREY_SIDE as SIDE
from udfs.hamming import distances, words

LIMIT = 31


@dataclass(frozen=True)
class Picture:
    """A row of signals with what dedup reads of images and verdicts."""

    number: int
    hash: bytes
    width: int = 100
    caption: str = "a picture"
    quality: int = 100
    content: str | None = None
    passed: bool = True
    thumbnail: bytes | None = None

    @property
    def image_id(self) -> str:
        return f"{self.number:032x}"


def hashes(count: int, seed: int = 0) -> NDArray[np.uint8]:
    return np.random.default_rng(seed).integers(0, 256, (count, 32), dtype=np.uint8)


def near(hash_: NDArray[np.uint8], bits: int, seed: int) -> NDArray[np.uint8]:
    flat = np.unpackbits(hash_)
    flat[np.random.default_rng(seed).choice(256, bits, replace=False)] ^= 1
    return np.packbits(flat)


def fill(lake: Lake, pictures: list[Picture], encoder: str) -> None:
    recipe, spark = Recipe("test"), lake.spark
    signals = [
        (p.image_id, p.hash, p.quality, encoder, [1.0], p.hash, p.content or str(p.number), p.thumbnail)
        for p in pictures
    ]  # fmt: skip
    images = [(p.image_id, str(p.number), "s", p.caption, b"", p.width, 100, "PNG", "{}", 0) for p in pictures]
    verdicts = [(p.image_id, p.passed, []) for p in pictures]
    lake.replace(tables.SIGNALS, spark.createDataFrame(signals, tables.SIGNALS.schema), recipe)
    lake.replace(tables.IMAGES, spark.createDataFrame(images, tables.IMAGES.schema), recipe)
    lake.replace(tables.VERDICTS, spark.createDataFrame(verdicts, tables.VERDICTS.schema), recipe)


def run(lake: Lake, pictures: list[Picture], *overrides: str) -> dict[str, tuple[str, int, str]]:
    settings = config.load(overrides=["dedup.hash=pdq", "dedup.recall=0.999", *overrides])
    job = Job(lake, settings, Progress())
    fill(lake, pictures, current_encoder(job).digest)
    dedup.run(job)
    rows = lake.read(tables.DUPLICATES).collect()
    assert len({row.removed_id for row in rows}) == len(rows)
    return {row.removed_id: (row.kept_id, row.distance, row.method) for row in rows}


def plain_greedy(pictures: list[Picture]) -> set[str]:
    """Best first; an image goes if it is within the limit of one kept before."""
    ranked = sorted(pictures, key=lambda p: (not p.passed, -p.width * 100, -len(p.caption), p.image_id))
    bits = words(np.stack([np.frombuffer(p.hash, np.uint8) for p in ranked]))
    kept: list[int] = []
    removed = set()
    for place, picture in enumerate(ranked):
        if kept and (distances(bits[place], bits[kept]) <= LIMIT).any():
            removed.add(picture.image_id)
        else:
            kept.append(place)
    return removed


def mixture() -> list[Picture]:
    """Groups of near-copies, exact repeats, chains and loners, with ranks that cross."""
    generator = np.random.default_rng(5)
    rows: list[bytes] = []
    for group, base in enumerate(hashes(60, seed=1)):
        rows.append(base.tobytes())
        current = base
        for step in range(int(generator.integers(0, 5))):
            # Half of the groups are chains: each step is near the one before, not near the first.
            current = near(current if group % 2 else base, int(generator.integers(0, 25)), seed=100 * group + step)
            rows.append(current.tobytes())
    rows += rows[:10]
    widths = generator.integers(1, 6, len(rows))
    return [
        Picture(i, row, width=int(w), caption="x" * int(i % 3), passed=i % 7 > 0)
        for i, (row, w) in enumerate(zip(rows, widths, strict=True))
    ]


def test_equals_the_plain_greedy_and_names_a_kept_image_within_the_threshold(lake: Lake) -> None:
    pictures = mixture()
    by_id = {p.image_id: p for p in pictures}
    removed = run(lake, pictures)
    expected = {i for i in plain_greedy(pictures) if by_id[i].passed}
    assert set(removed) == expected
    for gone, (keeper, distance, _) in removed.items():
        pair = words(np.stack([np.frombuffer(by_id[i].hash, np.uint8) for i in (gone, keeper)]))
        assert keeper not in removed and by_id[keeper].passed
        assert distance == distances(pair[0], pair[1]) <= LIMIT
    pairs = lake.read(tables.PAIRS).collect()
    assert all(row.a_id < row.b_id for row in pairs)
    assert len({(row.a_id, row.b_id) for row in pairs}) == len(pairs)
    kept = {i for i, p in by_id.items() if p.passed} - set(removed)
    assert not [row for row in pairs if row.a_id in kept and row.b_id in kept]
    quality = lake.read(tables.DEDUP_QUALITY).collect()[0]
    assert quality.exhaustive_pairs == quality.found_pairs > 50 and quality.recall == 1.0
    assert quality.both_kept == 0


def test_a_chain_does_not_pull_unlike_images_together(lake: Lake) -> None:
    first = hashes(1)[0]
    second = near(first, 25, seed=1)
    third = second.copy()
    untouched = np.flatnonzero(np.unpackbits(first) == np.unpackbits(second))[:25]
    flat = np.unpackbits(third)
    flat[untouched] ^= 1
    third = np.packbits(flat)
    chain = [Picture(1, first.tobytes(), 300), Picture(2, second.tobytes(), 200), Picture(3, third.tobytes(), 100)]
    assert set(run(lake, chain)) == {chain[1].image_id}


def test_the_best_stays(lake: Lake) -> None:
    bases = hashes(4)
    cases: list[tuple[dict[str, Any], dict[str, Any]]] = [
        ({"width": 200}, {"width": 100, "caption": "a much longer caption"}),
        ({"caption": "longer caption"}, {"caption": "short"}),
        ({}, {}),
        ({"width": 10, "passed": True}, {"width": 999, "passed": False}),
    ]
    pictures = []
    for place, (better, worse) in enumerate(cases):
        # The ids would decide otherwise, but where nothing else does.
        first, second = (2 * place, 2 * place + 1) if not better else (2 * place + 1, 2 * place)
        pictures.append(Picture(first, bases[place].tobytes(), **better))
        pictures.append(Picture(second, near(bases[place], 5, 1).tobytes(), **worse))
    removed = run(lake, pictures)
    assert removed == {pictures[i + 1].image_id: (pictures[i].image_id, 5, "lsh") for i in (0, 2, 4)}
    assert [row.removed_id for row in lake.read(tables.FILTERED_DUPLICATES).collect()] == [pictures[7].image_id]


def test_a_plain_picture_only_matches_the_same_bytes(lake: Lake) -> None:
    blank = bytes(32)
    pictures = [
        Picture(1, blank, quality=0, content="white"),
        Picture(2, blank, quality=0, content="black"),
        Picture(3, blank, quality=0, content="white", caption="x"),
        Picture(4, blank, quality=100),
    ]
    assert run(lake, pictures) == {pictures[2].image_id: (pictures[0].image_id, 0, "exact")}


def test_many_repeats_of_one_picture_cost_rows_not_pairs(lake: Lake) -> None:
    popular = hashes(1)[0]
    repeats = [Picture(i, popular.tobytes(), content="same") for i in range(3000)]
    copies = [Picture(3000 + i, near(popular, 6, seed=i).tobytes()) for i in range(1500)]
    removed = run(lake, [*repeats, *copies], "dedup.max_bucket=100")
    assert len(removed) == 4499 and {keeper for keeper, _, _ in removed.values()} == {repeats[0].image_id}
    # All pairs would be 10 million; a row takes part in at most half a bucket of them.
    assert lake.read(tables.PAIRS).count() < len(repeats + copies) * 100 // 2


def test_neither_partitions_nor_adaptive_execution_change_a_row(lake: Lake, spark: SparkSession) -> None:
    pictures = mixture()
    results = []
    before = {key: spark.conf.get(key) for key in ("spark.sql.shuffle.partitions", "spark.sql.adaptive.enabled")}
    try:
        for partitions, adaptive in (("1", "true"), ("7", "false"), ("16", "true")):
            spark.conf.set("spark.sql.shuffle.partitions", partitions)
            spark.conf.set("spark.sql.adaptive.enabled", adaptive)
            results.append(run(lake, pictures))
    finally:
        for key, value in before.items():
            spark.conf.set(key, value)
    assert results[0] == results[1] == results[2] and len(results[0]) > 50


def test_a_second_run_is_up_to_date_and_another_distance_is_not(lake: Lake) -> None:
    pictures = mixture()
    run(lake, pictures)
    job = Job(lake, config.load(overrides=["dedup.hash=pdq", "dedup.recall=0.999"]), Progress())
    version = lake.version(tables.DUPLICATES)
    dedup.run(job)
    assert lake.version(tables.DUPLICATES) == version
    strict = config.load(overrides=["dedup.hash=pdq", "dedup.max_distance=0"])
    dedup.run(Job(lake, strict, Progress()))
    assert all(row.distance == 0 for row in lake.read(tables.DUPLICATES).collect())


def settings_of(lake: Lake, *overrides: str) -> Job:
    return Job(lake, config.load(overrides=["dedup.hash=pdq", "dedup.recall=0.999", *overrides]), Progress())


def in_two_goes(lake: Lake, pictures: list[Picture], *overrides: str) -> dict[str, tuple[str, int, str]]:
    """Half of the pictures first, then all."""
    run(lake, pictures[::2], *overrides)
    job, recipe = settings_of(lake, *overrides), Recipe("test")
    encoder = current_encoder(job).digest
    rest = Lake(lake.spark, f"{lake.uri}/rest")
    fill(rest, pictures[1::2], encoder)
    for table in (tables.SIGNALS, tables.IMAGES, tables.VERDICTS):
        lake.append(table, rest.read(table), recipe)
    dedup.run(job)
    return {row.removed_id: (row.kept_id, row.distance, row.method) for row in lake.read(tables.DUPLICATES).collect()}


def pair_rows(lake: Lake) -> set[tuple[str, str, int]]:
    return {(row.a_id, row.b_id, row.distance) for row in lake.read(tables.PAIRS).collect()}


def test_a_lake_that_grew_gives_what_one_run_over_everything_gives(lake: Lake) -> None:
    pictures = mixture()
    grown = in_two_goes(lake, pictures, "dedup.keep_kept=false")
    pairs, compared = pair_rows(lake), lake.read(tables.DEDUP_QUALITY).collect()[0].compared
    other = Lake(lake.spark, f"{lake.uri}/whole")
    assert grown == run(other, pictures, "dedup.keep_kept=false") and len(grown) > 50
    assert pairs == pair_rows(other)
    # Old is not compared with old again.
    assert 0 < compared < 0.9 * other.read(tables.DEDUP_QUALITY).collect()[0].compared


def test_what_was_kept_stays_when_better_copies_come_later(lake: Lake) -> None:
    base = hashes(2)
    old, better = Picture(1, base[0].tobytes(), 100), Picture(2, near(base[0], 5, 1).tobytes(), 900)
    other, repeat = Picture(3, base[1].tobytes(), 100), Picture(4, base[1].tobytes(), 900)
    assert in_two_goes(lake, [old, better, other, repeat]) == {
        better.image_id: (old.image_id, 5, "lsh"),
        repeat.image_id: (other.image_id, 0, "exact"),
    }


def test_another_threshold_compares_everything_anew(lake: Lake) -> None:
    pictures = mixture()
    run(lake, pictures, "dedup.max_distance=10")
    job = settings_of(lake, "dedup.max_distance=31")
    dedup.run(job)
    wide = {row.removed_id for row in lake.read(tables.DUPLICATES).collect()}
    assert wide == {i for i in plain_greedy(pictures) if {p.image_id: p for p in pictures}[i].passed}


def test_clusters_find_what_exhaustive_search_finds_when_several_are_united(lake: Lake) -> None:
    pictures = mixture()
    removed = run(lake, pictures, "dedup.method=clusters", "dedup.clusterings=4")
    *united, quality = quality_rows(lake)
    assert quality.method == "clusters" and quality.clusterings == 4 and quality.bands is None
    assert quality.recall > 0.9 and len(removed) > 50
    assert {method for _, _, method in removed.values()} == {"clusters", "exact"}
    assert [row.clusterings for row in united] == [1, 2, 3, 4] and not any(row.whole for row in united)
    assert [row.found_pairs for row in united] == sorted(row.found_pairs for row in united)
    assert (united[3].found_pairs, united[3].compared) == (quality.found_pairs, quality.compared)
    both = run(lake, pictures, "dedup.method=both", "dedup.clusterings=2")
    assert set(both) == {i for i in plain_greedy(pictures) if {p.image_id: p for p in pictures}[i].passed}
    *again, whole = quality_rows(lake)
    # The first of two clusterings is the first of four, and bands add to what two of them find.
    assert [(row.found_pairs, row.compared) for row in again] == [(r.found_pairs, r.compared) for r in united[:2]]
    assert whole.method == "both" and whole.recall == 1.0 and whole.compared > again[1].compared
    run(lake, pictures, "dedup.method=clusters", "dedup.clusterings=1")
    (one, alone) = quality_rows(lake)
    assert one.found_pairs == alone.found_pairs == united[0].found_pairs < quality.found_pairs


def quality_rows(lake: Lake) -> list[Row]:
    return lake.read(tables.DEDUP_QUALITY).orderBy("whole", "clusterings").collect()


def test_what_lies_above_the_threshold_is_told(lake: Lake) -> None:
    bases = hashes(30, seed=3)
    pictures = [Picture(2 * i, base.tobytes(), width=200, passed=i > 2) for i, base in enumerate(bases)]
    pictures += [Picture(2 * i + 1, near(base, 25 + i, seed=i).tobytes()) for i, base in enumerate(bases)]
    removed = run(lake, pictures)
    distances_seen = {row.distance: row for row in lake.read(tables.DEDUP_DISTANCES).collect()}
    # 25 to 54 bits: within the threshold up to 31, looked at up to 55.
    assert set(distances_seen) == set(range(25, 55))
    assert all(row.exhaustive_pairs == 1 for row in distances_seen.values())
    assert {bits for bits, row in distances_seen.items() if row.found_pairs} == set(range(25, 32))
    misses = {(row.a_id, row.b_id, row.distance) for row in lake.read(tables.NEAR_MISSES).collect()}
    assert misses == {(pictures[i].image_id, pictures[30 + i].image_id, 25 + i) for i in range(7, 30)}
    assert not {end for a, b, _ in misses for end in (a, b)} & set(removed)


def test_a_near_miss_has_two_ends_that_are_kept(lake: Lake) -> None:
    first, other = hashes(2)
    pictures = [
        Picture(1, first.tobytes(), width=300),
        Picture(2, near(first, 10, 1).tobytes(), width=200),  # a copy of the first
        Picture(3, other.tobytes(), passed=False),
        Picture(4, near(other, 40, 2).tobytes()),
    ]
    flat = np.unpackbits(first)
    flat[np.flatnonzero(np.unpackbits(np.frombuffer(pictures[1].hash, np.uint8)) != flat)] ^= 1
    flat[np.flatnonzero(np.unpackbits(first) == flat)[:40]] ^= 1
    pictures.append(Picture(5, np.packbits(flat).tobytes(), width=100))  # 40 bits from the copy, 50 from the first
    run(lake, pictures)
    misses = [(row.a_id, row.b_id, row.distance) for row in lake.read(tables.NEAR_MISSES).collect()]
    assert misses == [(pictures[0].image_id, pictures[4].image_id, 50)]
    counted = {row.distance: row.exhaustive_pairs for row in lake.read(tables.DEDUP_DISTANCES).collect()}
    assert counted == {10: 1, 40: 2, 50: 1}


def test_whole_components_keep_one_image_of_a_chain_and_warn(lake: Lake, capsys: pytest.CaptureFixture[str]) -> None:
    first = hashes(1)[0]
    flat = np.unpackbits(first)
    chain = [Picture(1, first.tobytes(), 300)]
    for step in range(1, 4):
        flat[20 * step - 20 : 20 * step] ^= 1
        chain.append(Picture(1 + step, np.packbits(flat).tobytes(), 300 - step))
    removed = run(lake, chain, "dedup.keep=component")
    assert removed == {p.image_id: (chain[0].image_id, 20 * i, "component") for i, p in enumerate(chain) if i}
    assert "2 images of 1 components lie farther than 31 bits" in capsys.readouterr().err.replace("\n", " ")


def clock(hour: int, light: float = 1.0) -> bytes:
    """A dial with one hand, as a thumbnail."""
    rows, columns = np.mgrid[:SIDE, :SIDE] - (SIDE - 1) / 2
    dial = np.where(np.hypot(rows, columns) < 26, 230.0, 60.0)
    turn = np.pi * hour / 6
    along, across = np.sin(turn) * columns - np.cos(turn) * rows, np.cos(turn) * columns + np.sin(turn) * rows
    dial[(along > 0) & (along < 22) & (np.abs(across) < 1.5)] = 20.0
    return bytes((dial * light).astype(np.uint8).tobytes())


def clocks() -> list[Picture]:
    """A clock at one, a darker copy of it, one at two whose hash is near and one at three whose hash is the same."""
    one = hashes(1)[0]
    return [
        Picture(1, one.tobytes(), width=400, thumbnail=clock(1)),
        Picture(2, near(one, 20, 1).tobytes(), width=300, thumbnail=clock(1, light=0.6)),
        Picture(3, near(one, 5, 2).tobytes(), width=200, thumbnail=clock(2)),
        Picture(4, one.tobytes(), width=100, thumbnail=clock(3)),
        Picture(5, one.tobytes(), width=50, thumbnail=clock(1), content="1"),  # the first, byte for byte
    ]


def test_strict_keeps_clocks_at_other_times_and_still_drops_copies(lake: Lake) -> None:
    pictures = clocks()
    ids = [picture.image_id for picture in pictures]
    assert set(run(lake, pictures)) == set(ids[1:])
    assert run(lake, pictures, "dedup.strict=true") == {ids[1]: (ids[0], 20, "lsh"), ids[4]: (ids[0], 0, "exact")}
    whole = quality_rows(lake)[-1]
    # Near hashes that differ in a detail are found by the search all the same.
    assert whole.recall == 1.0 and whole.exhaustive_pairs == 6 and whole.told_apart == 5
    # The darker copy matches the first and the first's exact repeat.
    pairs = {(row.a_id, row.b_id) for row in lake.read(tables.PAIRS).collect()}
    assert pairs == {(ids[0], ids[1]), (ids[0], ids[4]), (ids[1], ids[4])}


def test_strict_over_a_lake_that_grew_gives_what_one_run_gives(lake: Lake) -> None:
    pictures = clocks()
    removed = in_two_goes(lake, pictures, "dedup.strict=true", "dedup.keep_kept=false")
    assert removed == run(Lake(lake.spark, f"{lake.uri}/whole"), pictures, "dedup.strict=true") and len(removed) == 2


def test_strict_says_when_pictures_have_no_thumbnail(lake: Lake) -> None:
    with pytest.raises(WinnowError, match="1 images were scored by a version that kept none"):
        run(lake, [*clocks(), Picture(6, bytes(32))], "dedup.strict=true")
