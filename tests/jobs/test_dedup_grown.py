from jobs import dedup, tables
from jobs.lake import Lake
from tests.jobs.hashed import Picture, hashes, in_two_goes, job_of, mixture, near, pair_rows, plain_greedy, run


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
    job = job_of(lake, "dedup.max_distance=31")
    dedup.run(job)
    wide = {row.removed_id for row in lake.read(tables.DUPLICATES).collect()}
    assert wide == {i for i in plain_greedy(pictures) if {p.image_id: p for p in pictures}[i].passed}
