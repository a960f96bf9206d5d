"""Mirror images count as copies with `dedup.mirrored`."""

from dataclasses import replace

import numpy as np
import pytest

from jobs.commands.dedup import command as dedup
from jobs.commands.dedup.threshold.near_pairs import sampled_pairs
from jobs.lake import tables
from jobs.lake.lake import Lake
from jobs.matching.rule import Rule
from jobs.models_in_use import current_encoder
from jobs.runtime.scratch import Scratch
from models.errors import WinnowError
from models.images.decoding import GREY_SIDE
from tests.builders.hash_lakes import (
    Picture,
    fill,
    grown,
    hashes,
    job_of,
    mixture,
    near,
    pair_rows,
    quality_rows,
    removed,
    run,
    with_mirrors,
)
from tests.jobs.commands.dedup.test_looks import darker, photos, scenes
from tests.jobs.commands.dedup.test_looks import job_of as plain_job

MIRRORED, BY_SPARK = "dedup.mirrored=true", "dedup.in_memory=0"
UNKEPT = "dedup.keep_kept=false"


def turned(thumbnail: bytes) -> bytes:
    return np.frombuffer(thumbnail, np.uint8).reshape(GREY_SIDE, GREY_SIDE)[:, ::-1].tobytes()


def four() -> list[Picture]:
    """Returns an image, a mirror image of it, a copy of that, and another image that looks like its mirror image."""
    own, mirror, other = hashes(3)
    return [
        Picture(0, own.tobytes(), 900, mirror=mirror.tobytes()),
        Picture(1, near(mirror, 9, 1).tobytes(), 500, mirror=near(own, 7, 2).tobytes()),
        Picture(2, near(mirror, 12, 3).tobytes(), 100, mirror=near(own, 80, 4).tobytes()),
        Picture(3, other.tobytes(), 300, mirror=near(other, 3, 5).tobytes()),
    ]


@pytest.mark.parametrize("where", [BY_SPARK, "dedup.in_memory=100"])
def test_a_mirror_image_is_a_copy_only_if_the_setting_says_so(lake: Lake, where: str) -> None:
    pictures = four()
    ids = [p.image_id for p in pictures]
    found = run(lake, pictures, MIRRORED, where)
    assert found == {ids[1]: (ids[0], 7, "lsh"), ids[2]: (ids[0], 12, "lsh")}
    rows = {(row.a_id, row.b_id): row.mirrored for row in lake.read(tables.PAIRS).collect()}
    assert rows == {(ids[0], ids[1]): True, (ids[0], ids[2]): True, (ids[1], ids[2]): False}
    assert [row.mirrored for row in lake.read(tables.DUPLICATES).collect()] == [True, True]
    # Without the setting, the whole lake is compared anew.
    dedup.run(job_of(lake, where))
    assert set(removed(lake)) == {ids[2]} and {row.mirrored for row in lake.read(tables.PAIRS).collect()} == {False}
    dedup.run(job_of(lake, MIRRORED, where))
    assert removed(lake) == found


@pytest.mark.slow
@pytest.mark.parametrize("where", [BY_SPARK, "dedup.in_memory=1000"])
def test_a_lake_that_grew_gives_the_same_result_as_one_run(lake: Lake, where: str) -> None:
    pictures = with_mirrors(mixture(), 3)
    overrides = (MIRRORED, UNKEPT, where)
    run(lake, pictures[::2], *overrides)
    dedup.run(grown(lake, pictures[1::2], *overrides))
    in_two, pairs, compared = removed(lake), pair_rows(lake), quality_rows(lake)[-1].compared
    other = Lake(lake.spark, f"{lake.uri}/whole")
    assert run(other, pictures, *overrides) == in_two and pair_rows(other) == pairs
    assert 0 < compared < 0.9 * quality_rows(other)[-1].compared
    # Turned images are as near to each other as the images are.
    plain = Lake(lake.spark, f"{lake.uri}/plain")
    assert 0.9 < len(in_two) / len(run(plain, mixture(), UNKEPT)) < 1.1


@pytest.mark.slow
@pytest.mark.parametrize("where", [BY_SPARK, "dedup.in_memory=10000"])
def test_far_mirror_images_are_looked_at_turned(lake: Lake, where: str) -> None:
    originals = [replace(p, mirror=one.tobytes()) for p, one in zip(photos(), hashes(1500, 77), strict=True)]
    # Some images are so near their own mirror image that a mirrored copy is found both ways.
    for place in range(40, 46):
        own = near(np.frombuffer(originals[place].mirror or b"", np.uint8), 45, place)
        originals[place] = replace(originals[place], hash=own.tobytes())
    shown = scenes(20, 5)
    copies, others = [], []
    for place, bits in [*((i, 50) for i in range(40)), *((i, 4) for i in range(40, 46))]:
        original = originals[place]
        own, mirror = (np.frombuffer(one or b"", np.uint8) for one in (original.hash, original.mirror))
        copy = Picture(
            20_000 + place,
            near(mirror, bits, place).tobytes(),
            10,
            thumbnail=turned(darker(original.thumbnail or b"")),
            mirror=near(own, bits, place).tobytes(),
        )
        if 20 <= place < 40:  # near a mirror image, but it shows something else
            others.append(replace(copy, thumbnail=shown[place - 20]))
        else:
            copies.append(copy)
    job = plain_job(lake, MIRRORED, where)
    fill(lake, [*originals, *copies, *others], current_encoder(job).digest)
    dedup.run(job)
    found = set(removed(lake))
    whole = quality_rows(lake)[-1]
    assert 4 <= whole.safe_distance < 45 and whole.max_distance > 50
    assert len({p.image_id for p in copies} - found) <= 1 and not found - {p.image_id for p in copies}
    assert whole.looked >= 38
    assert all(row.mirrored for row in lake.read(tables.DUPLICATES).collect())


def test_mirrored_copies_are_no_strangers_but_mirrored_strangers_are(lake: Lake, tmp_path: object) -> None:
    shown = scenes(60, seed=1)
    own, mirrors = hashes(60, 1), hashes(60, 2)
    originals = [
        Picture(i, a.tobytes(), thumbnail=shown[i], mirror=b.tobytes())
        for i, (a, b) in enumerate(zip(own, mirrors, strict=True))
    ]
    # Ten mirrored copies at 30 bits; ten images near a mirror image at 40 bits that show something else.
    copies = [
        Picture(
            100 + i,
            near(mirrors[i], 30, i).tobytes(),
            thumbnail=turned(shown[i]),
            mirror=hashes(1, 300 + i)[0].tobytes(),
        )
        for i in range(10)
    ]
    strangers = [
        Picture(
            200 + i,
            near(mirrors[20 + i], 40, i).tobytes(),
            thumbnail=shown[40 + i],
            mirror=hashes(1, 400 + i)[0].tobytes(),
        )
        for i in range(10)
    ]
    # And one that looks like its own mirror image: it is not its own stranger.
    one = hashes(1, 500)[0]
    symmetric = Picture(300, one.tobytes(), thumbnail=shown[50], mirror=near(one, 20, 1).tobytes())
    encoder = "e" * 16
    fill(lake, [*originals, *copies, *strangers, symmetric], encoder)
    rule = Rule("embedding", encoder, 96, 4)
    signals = lake.read(tables.SIGNALS)
    with Scratch(lake.spark, str(tmp_path)) as scratch:
        plain = sampled_pairs(signals, rule, scratch)
        found = sampled_pairs(signals, rule, scratch, lake.read(tables.MIRRORED))
    assert not plain.near[:, :60].any()
    # Each pair is seen from both sides.
    assert found.near.sum(axis=0)[[20, 30, 40]].tolist() == [0, 20, 20]
    assert found.strangers()[[30, 40]].tolist() == [0, 20] and found.others == plain.others


def test_a_dry_run_writes_no_hashes_of_mirror_images(lake: Lake) -> None:
    pictures = [Picture(i, one.tobytes()) for i, one in enumerate(hashes(3))]
    job = job_of(lake, MIRRORED)
    fill(lake, pictures, current_encoder(job).digest)
    with pytest.raises(WinnowError, match="3 images have no hash of their mirror image"):
        dedup.preview(job)
