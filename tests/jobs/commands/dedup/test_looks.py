"""Pairs beyond the safe distance count as copies only if their thumbnails agree."""

import io
from collections.abc import Sequence

import numpy as np
import pytest
from numpy.typing import NDArray
from rich.console import Console
from scipy import ndimage

from jobs.commands.dedup import command as dedup
from jobs.commands.dedup.threshold import choice
from jobs.job import Job
from jobs.lake import tables
from jobs.lake.lake import Lake
from jobs.models_in_use import current_encoder
from jobs.runtime import config
from jobs.runtime.progress import Progress
from models.images.decoding import GREY_SIDE as SIDE
from models.stats.strangers import FARTHEST
from tests.builders.hash_lakes import Picture, fill, hashes, near, pair_rows, quality_rows, removed, rows_of
from tests.builders.lake_rows import write_rows

IMAGES = 1500


def scenes(count: int, seed: int) -> list[bytes]:
    """Returns thumbnails with fine structure, each of another image."""
    noise = np.random.default_rng(seed).normal(size=(count, SIDE, SIDE))
    fine, coarse = (ndimage.gaussian_filter(noise, (0, sigma, sigma)) for sigma in (1, 4))
    shown = 128 + 30 * fine / fine.std() + 20 * coarse / coarse.std()
    return [one.tobytes() for one in shown.clip(0, 255).astype(np.uint8)]


def darker(thumbnail: bytes) -> bytes:
    return (np.frombuffer(thumbnail, np.uint8) * 0.7).astype(np.uint8).tobytes()


def crowded_hashes(count: int, seed: int) -> NDArray[np.uint8]:
    """Returns hashes whose distances spread as those of photographs do, wider than those of independent bits."""
    rng = np.random.default_rng(seed)
    bits = rng.integers(0, 2, (count, 256), dtype=np.uint8)
    bits[:, :120] = bits[:, 120:121] if count else 0
    flipped = rng.random((count, 120)) < 0.05
    bits[:, :120] ^= flipped.astype(np.uint8)
    return np.packbits(bits, axis=1)


def photos() -> list[Picture]:
    """Returns images without copies, large first."""
    shown = scenes(IMAGES, seed=1)
    return [
        Picture(i, one.tobytes(), width=10_000 - i, thumbnail=shown[i])
        for i, one in enumerate(crowded_hashes(IMAGES, seed=2))
    ]


def copies_of(pictures: Sequence[Picture], bits: int, first: int) -> list[Picture]:
    """Returns a darker copy of each image, with a hash that differs in some bits."""
    return [
        Picture(
            first + i,
            near(np.frombuffer(p.hash, np.uint8), bits, seed=i).tobytes(),
            10,
            thumbnail=darker(p.thumbnail or b""),
        )
        for i, p in enumerate(pictures)
    ]


def impostors_of(pictures: Sequence[Picture], bits: int, first: int) -> list[Picture]:
    """Returns a different image beside each image, with a hash that differs in some bits."""
    shown = scenes(len(pictures), seed=first)
    return [
        Picture(first + i, near(np.frombuffer(p.hash, np.uint8), bits, seed=i).tobytes(), 10, thumbnail=shown[i])
        for i, p in enumerate(pictures)
    ]


def job_of(lake: Lake, *overrides: str) -> Job:
    return Job(lake, config.load(overrides=overrides), Progress(Console(file=io.StringIO(), width=500)))


def printed(job: Job) -> str:
    return str(job.progress.console.file.getvalue())


def run(job: Job, pictures: Sequence[Picture]) -> dict[str, tuple[str, int, str]]:
    fill(job.lake, list(pictures), current_encoder(job).digest)
    dedup.run(job)
    return removed(job.lake)


def test_far_copies_are_removed_and_far_strangers_stay(lake: Lake) -> None:
    originals = photos()
    job = job_of(lake)
    seen = copies_of(originals[:20], 5, 20_000)
    looked_at = copies_of(originals[20:50], 50, 30_000)
    strangers = impostors_of(originals[50:80], 50, 40_000)
    found = run(job, [*originals, *seen, *looked_at, *strangers])
    whole = quality_rows(lake)[-1]
    assert whole.safe_distance < 50 < whole.max_distance <= FARTHEST
    copies = {p.image_id for p in (*seen, *looked_at)}
    assert len(copies - set(found)) <= 2 and not {p.image_id for p in strangers} & set(found)
    assert whole.looked >= whole.told_apart >= 30 and whole.looked - whole.told_apart >= 28
    assert not set(found) - copies  # no stranger is lost
    # Recall is that of near-duplicates: pairs of different images within the outer distance are none.
    assert 30 <= whole.exhaustive_pairs <= 50 and whole.both_kept <= whole.exhaustive_pairs - whole.found_pairs
    # The table says what the distances follow from.
    rows = {row.distance: row for row in lake.read(tables.STRANGERS).collect()}
    assert len(rows) == FARTHEST + 1 and rows[whole.safe_distance].expected_high <= 0.001
    assert all(rows[d].expected <= rows[d + 1].expected for d in range(FARTHEST))
    assert f"within {whole.safe_distance} bits count as copies" in printed(job)


@pytest.mark.slow
def test_a_lake_that_grows_keeps_its_distances_and_looks_only_at_new_pairs(lake: Lake) -> None:
    originals = photos()
    first = job_of(lake)
    run(first, [*originals, *copies_of(originals[:20], 50, 20_000)])
    version = lake.snapshot().version(tables.STRANGERS)
    before, pairs = quality_rows(lake)[-1], pair_rows(lake)
    more = copies_of(originals[20:40], 50, 30_000)
    second = job_of(lake)
    for table, rows in rows_of(more, current_encoder(second).digest).items():
        write_rows(lake, table, rows)
    dedup.run(second)
    after = quality_rows(lake)[-1]
    assert lake.snapshot().version(tables.STRANGERS) == version
    assert (after.safe_distance, after.max_distance) == (before.safe_distance, before.max_distance)
    assert after.looked < before.looked and pairs < pair_rows(lake)
    assert len({p.image_id for p in more} - set(removed(lake))) <= 2


@pytest.mark.slow
def test_images_without_thumbnails_are_compared_within_the_safe_distance_alone(lake: Lake) -> None:
    originals = photos()[:200]
    bare = [Picture(p.number, p.hash, p.width) for p in originals]
    job = job_of(lake)
    far = copies_of(originals[:10], 60, 20_000)
    found = run(job, [*bare, *far, *copies_of(originals[10:20], 3, 30_000)])
    assert len(found) == 10 and not {p.image_id for p in far} & set(found)
    assert "200 images have no thumbnail to look at" in printed(job)


@pytest.mark.slow
def test_few_images_use_the_curve_of_the_model_card_and_write_no_table(lake: Lake) -> None:
    shown = scenes(100, seed=1)
    originals = [Picture(i, one.tobytes(), 900, thumbnail=shown[i]) for i, one in enumerate(hashes(100, seed=3))]
    found = run(
        job_of(lake), [*originals, *copies_of(originals[:10], 76, 20_000), *impostors_of(originals[10:20], 76, 30_000)]
    )
    whole = quality_rows(lake)[-1]
    assert set(found) == {p.image_id for p in copies_of(originals[:10], 76, 20_000)}
    assert whole.safe_distance < 76 <= whole.max_distance and not lake.exists(tables.STRANGERS)


@pytest.mark.slow
def test_a_set_distance_is_used_alone_and_unverified(lake: Lake) -> None:
    originals = photos()[:100]
    others = impostors_of(originals[:10], 30, 20_000)
    found = run(job_of(lake, "dedup.max_distance=31"), [*originals, *others])
    assert {p.image_id for p in others} <= set(found) and quality_rows(lake)[-1].safe_distance is None


@pytest.mark.slow
def test_smaller_distances_look_again_at_pairs_that_had_counted_unseen(
    lake: Lake, monkeypatch: pytest.MonkeyPatch
) -> None:
    originals = photos()[:100]
    others = impostors_of(originals[:10], 30, 20_000)
    monkeypatch.setattr(choice, "_limits", lambda *given: choice.Limits(40, 60))
    assert {p.image_id for p in others} <= set(run(job_of(lake), [*originals, *others]))
    more = [Picture(50_000, bytes(32), thumbnail=scenes(1, 9)[0])]
    monkeypatch.setattr(choice, "_limits", lambda *given: choice.Limits(20, 50))
    second = job_of(lake, "dedup.keep_kept=false")
    for table, rows in rows_of(more, current_encoder(second).digest).items():
        write_rows(lake, table, rows)
    dedup.run(second)
    assert not {p.image_id for p in others} & set(removed(lake))


@pytest.mark.slow
def test_larger_distances_compare_everything_again(lake: Lake, monkeypatch: pytest.MonkeyPatch) -> None:
    originals = photos()[:100]
    others = impostors_of(originals[:10], 30, 20_000)
    monkeypatch.setattr(choice, "_limits", lambda *given: choice.Limits(20, 60))
    assert not {p.image_id for p in others} & set(run(job_of(lake), [*originals, *others]))
    monkeypatch.setattr(choice, "_limits", lambda *given: choice.Limits(40, 60))
    second = job_of(lake)
    more = [Picture(50_000, bytes(32), thumbnail=scenes(1, 9)[0])]
    for table, rows in rows_of(more, current_encoder(second).digest).items():
        write_rows(lake, table, rows)
    dedup.run(second)
    assert {p.image_id for p in others} <= set(removed(lake))
