import random
from pathlib import Path

import pytest
from pyspark.sql import SparkSession

from jobs.commands.dedup.keep import independent_set
from jobs.runtime.scratch import Scratch

Edge = tuple[int, int, int]


def greedy(edges: list[Edge]) -> dict[int, tuple[int, int]]:
    """Runs the plain algorithm: best first, keep what matches no kept node; others name their nearest kept node."""
    better: dict[int, list[tuple[int, int]]] = {}
    for a, b, distance in edges:
        better.setdefault(b, []).append((distance, a))
    removed: dict[int, tuple[int, int]] = {}
    for node in sorted({n for a, b, _ in edges for n in (a, b)}):
        kept = [pair for pair in better.get(node, []) if pair[1] not in removed]
        if kept:
            distance, keeper = min(kept)
            removed[node] = (keeper, distance)
    return removed


def random_graph(nodes: int, count: int, seed: int) -> list[Edge]:
    generator = random.Random(seed)
    pairs = {tuple(sorted(generator.sample(range(nodes), 2))) for _ in range(count)}
    return [(a, b, generator.randrange(1, 9)) for a, b in sorted(pairs)]


GRAPHS = {
    "chain": [(i, i + 1, 1) for i in range(9)],
    "star with its best in the middle": [(0, i, i) for i in range(1, 8)],
    "star with its worst in the middle": [(i, 9, i) for i in range(9)],
    "clique": [(a, b, 1) for b in range(7) for a in range(b)],
    "long chain": [(i, i + 1, 1) for i in range(300)],
    "no edge": [],
    "sparse": random_graph(200, 150, seed=1),
    "dense": random_graph(60, 400, seed=2),
}


@pytest.mark.slow
@pytest.mark.parametrize("few", [0, 40, 10_000], ids=["rounds", "rounds, then one task", "one task"])
@pytest.mark.parametrize(
    "edges", [g for n, g in GRAPHS.items() if n != "long chain"], ids=[n for n in GRAPHS if n != "long chain"]
)
def test_the_result_equals_the_sequential_greedy_set(
    spark: SparkSession, tmp_path: Path, edges: list[Edge], few: int
) -> None:
    assert found(spark, tmp_path, edges, few) == greedy(edges)


def test_a_long_chain_needs_few_rounds(spark: SparkSession, tmp_path: Path) -> None:
    edges = GRAPHS["long chain"]
    assert found(spark, tmp_path, edges, few=1000) == greedy(edges)


def found(spark: SparkSession, folder: Path, edges: list[Edge], few: int) -> dict[int, tuple[int, int]]:
    frame = spark.createDataFrame(edges, "better long, worse long, distance int")
    with Scratch(spark, str(folder)) as scratch:
        result = independent_set.removed(frame, scratch, few).collect()
    assert not list(folder.iterdir())
    assert len({row.removed for row in result}) == len(result)
    return {row.removed: (row.kept, row.distance) for row in result}
