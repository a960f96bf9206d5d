"""`label next duplicates`: picks pairs of images to label as the same or different, and queues them.

Half of them are drawn at random from the removed images, so that they measure the precision of `dedup`. A quarter are
drawn at random from the pairs whose thumbnails show different images, so that they measure how many copies `dedup` does
not find by them. The others are near the distances at which it decides, where a person learns most about these.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import chain, zip_longest
from typing import Any

from pyspark.sql import Column, DataFrame, Row
from pyspark.sql import functions as F

from jobs.facts.duplicates import whole_search
from jobs.facts.pairs import sample
from jobs.facts.pairs.sample import ENDS, RANDOM, THRESHOLD, TOLD_APART
from jobs.facts.samples import top
from jobs.job import Job, Summary
from jobs.lake import tables
from jobs.lake.recipe import Recipe
from jobs.runtime.config import PAIRS
from models.errors import WinnowError

STRATEGIES = (RANDOM, THRESHOLD, TOLD_APART)

_JUST_WITHIN = 8  # bits; the standard deviation of the distance of two random hashes
_SPREAD = 4  # times as many pairs are read as are drawn, before those with equal files are left out
_MOST_PLACES = 2**64


@dataclass(frozen=True)
class PairRequest:
    """A request to pick pairs.

    Attributes:
        count: Number of pairs.
        strategy: `random`, `threshold`, `told-apart`, or None for half `random` and a quarter of each other.
    """

    count: int
    strategy: str | None = None


@dataclass(frozen=True)
class PairPick:
    """A pair to label, why it was picked, and the seed of the random order if it was drawn from that."""

    a_id: str
    b_id: str
    distance: int
    strategy: str
    reason: str
    seed: int | None = None


@dataclass(frozen=True)
class PickedPairs:
    """The result of `label next duplicates`.

    Attributes:
        picks: Picked pairs, in the order in which to label them.
        summary: Counts for the summary of the command.
    """

    picks: tuple[PairPick, ...]
    summary: Summary


def run(job: Job, request: PairRequest) -> PickedPairs:
    """Picks pairs that are not queued yet, and queues them; random ones first.

    Raises:
        WinnowError: There is no such strategy, `dedup` has not run, or no pair is left.
    """
    if request.strategy not in (None, *STRATEGIES):
        raise WinnowError(f"no strategy '{request.strategy}' for {PAIRS}: choose one of {', '.join(STRATEGIES)}")
    removed = sample.removals(job.lake.require(tables.DUPLICATES))
    counts = _counts(request)
    with job.progress.step(f"label next: pick {request.count:,} pairs"):
        random = _at_random(job, removed, RANDOM, counts[RANDOM])
        apart = _at_random(job, job.lake.read(tables.TOLD_APART), TOLD_APART, counts[TOLD_APART])
        # If fewer pairs were told apart, more are near the threshold.
        others = counts[THRESHOLD] + (counts[TOLD_APART] - len(apart) if request.strategy is None else 0)
        near = _near(job, removed, others, random)
    picks = (*random, *apart, *near)
    if not picks:
        raise WinnowError(_nothing_left(job, request.strategy))
    if len(picks) < request.count:
        job.progress.note(f"label next: found {len(picks):,} of the {request.count:,} pairs requested")
    with job.progress.step(f"label next: queue {len(picks):,} pairs"):
        batch = _queue(job, request, picks)
    job.progress.address(f"next: {job.command('label', 'serve', PAIRS)}")
    counted = {"at random": len(random), "told apart": len(apart), "near the threshold": len(near)}
    return PickedPairs(picks, {"picked": len(picks), **counted, "batch": batch})


def _counts(request: PairRequest) -> dict[str, int]:
    """Returns the number of pairs for each strategy."""
    if request.strategy is not None:
        return dict.fromkeys(STRATEGIES, 0) | {request.strategy: request.count}
    others = request.count // 2
    return {RANDOM: request.count - others, TOLD_APART: others // 2, THRESHOLD: others - others // 2}


def _nothing_left(job: Job, strategy: str | None) -> str:
    if strategy == TOLD_APART and not job.lake.exists(tables.TOLD_APART):
        return f"the last dedup stored no pairs that thumbnails told apart: run `{job.command('dedup')}`"
    if strategy == TOLD_APART and job.lake.read(tables.TOLD_APART).isEmpty():
        return "there is no pair to label: thumbnails told no pair apart of which both images are kept"
    if job.lake.read(tables.PAIR_QUEUE).isEmpty():
        return "there is no pair to label: dedup removed no image whose file differs from the kept one's"
    return f"every pair is already queued: label them with `{job.command('label', 'serve', PAIRS)}`"


# At random ----------------------------------------------------------------------------------------------------------


_WHY = {RANDOM: "drawn at random from the removed images", TOLD_APART: "drawn at random from the pairs told apart"}


def _at_random(job: Job, pairs: DataFrame, strategy: str, count: int) -> list[PairPick]:
    if not count:
        return []
    queue = job.lake.read(tables.PAIR_QUEUE)
    seed = sample.sample_seed(queue, job.settings.seed, strategy)
    if seed != job.settings.seed:
        job.progress.note(f"label next: continues the random sample that was drawn with seed {seed}")
    drawn = queue.where(F.col("strategy") == strategy).select(*ENDS)
    rows = first_pairs(pairs, job.lake.read(tables.SIGNALS), drawn, seed, count)
    return [PairPick(row.a_id, row.b_id, row.distance, strategy, _WHY[strategy], seed) for row in rows]


def first_pairs(pairs: DataFrame, signals: DataFrame, drawn: DataFrame, seed: int, count: int) -> list[Row]:
    """Returns the first pairs of the random order that were not drawn and whose files differ.

    Args:
        pairs: a_id, b_id, distance: as `jobs.facts.pairs.sample.removals` returns them, or table told_apart.
        signals: Table signals.
        drawn: a_id, b_id of pairs that were drawn before.
        seed: Seed of the order.
        count: Number of pairs.

    Returns:
        a_id, b_id, distance, in the random order.
    """
    own = sample.place(seed)
    wanted, total = count + drawn.count(), max(1, pairs.count())
    share = (2 * wanted + 100) / total
    while True:
        # Only the beginning of the order is compared with the files, and more of it if too few pairs are left.
        pool = pairs if share >= 1 else pairs.where(own < F.lit(-(2**63) + int(share * _MOST_PLACES)))
        left = sample.other_files(pool, signals).join(F.broadcast(drawn.distinct()), ENDS, "left_anti")
        rows: list[Row] = left.select(*ENDS, "distance").orderBy(own, *ENDS).limit(count).collect()
        if len(rows) == count or share >= 1:
            return rows
        share *= _SPREAD


# Near the threshold -------------------------------------------------------------------------------------------------


def _near(job: Job, removed: DataFrame, count: int, taken: Sequence[PairPick]) -> list[PairPick]:
    """Picks pairs just within the distances at which dedup decides, between them, and just beyond, by turns."""
    searches = whole_search(job.lake.read(tables.DEDUP_QUALITY)).collect()
    if not count or not searches:
        return []
    safe, most = searches[-1].safe_distance, searches[-1].max_distance
    queued = job.lake.read(tables.PAIR_QUEUE).select(*ENDS)
    others = job.lake.spark.createDataFrame([(p.a_id, p.b_id) for p in taken], "a_id string, b_id string")
    seen = F.broadcast(queued.unionByName(others).distinct())
    left, misses = (
        rows.select(*ENDS, "distance").join(seen, ENDS, "left_anti")
        for rows in (removed, job.lake.read(tables.NEAR_MISSES))
    )
    chance, bits = sample.place(job.settings.seed), F.col("distance")
    within = most if safe is None else safe
    zones = [
        (left.where(bits.between(max(1, within - _JUST_WITHIN + 1), within)), f"just within {within} bits"),
        (misses, f"just beyond {most} bits"),
    ]
    if within < most:
        zones.insert(1, (left.where(bits.between(within + 1, most)), f"from {within + 1} to {most} bits, by thumbnail"))
    each = [
        [
            PairPick(r.a_id, r.b_id, r.distance, THRESHOLD, f"{r.distance} bits: {why}")
            for r in _spread(rows, count, chance)
        ]
        for rows, why in zones
    ]
    by_turns = chain.from_iterable(zip_longest(*each))
    return [pick for pick in by_turns if pick is not None][:count]


def _spread(rows: DataFrame, count: int, chance: Column) -> list[Row]:
    """Returns pairs of all distances: by chance the first of each distance, then the second of each."""
    ranked = top(rows, F.col("distance"), [chance, *map(F.col, ENDS)], count)
    return list(ranked.orderBy("rank", "distance").select(*ENDS, "distance").limit(count).collect())


# The queue ----------------------------------------------------------------------------------------------------------


def _queue(job: Job, request: PairRequest, picks: Sequence[PairPick]) -> str:
    now = datetime.now(UTC)
    batch = f"{PAIRS}-{request.strategy or 'both'}-{now:%Y%m%dT%H%M%S%f}"
    rows: list[tuple[Any, ...]] = [
        (p.a_id, p.b_id, p.distance, p.strategy, p.reason, p.seed, place, batch, now) for place, p in enumerate(picks)
    ]
    made = Recipe("label next", settings={"batch": batch, "count": request.count, "strategy": request.strategy})
    job.lake.append(tables.PAIR_QUEUE, job.lake.spark.createDataFrame(rows, tables.PAIR_QUEUE.schema), made)
    return batch
