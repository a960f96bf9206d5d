import random
from pathlib import Path

import pytest
from pyspark.sql import SparkSession

from jobs.commands.dedup.keep import components
from jobs.runtime.scratch import Scratch

Edge = tuple[int, int]


def plain(edges: list[Edge]) -> dict[int, int]:
    """Finds components by relabelling: slow, but obviously correct."""
    label = {node: node for edge in edges for node in edge}
    for a, b in edges:
        old, new = max(label[a], label[b]), min(label[a], label[b])
        label = {node: new if at == old else at for node, at in label.items()}
    return label


def sparse(nodes: int, count: int, seed: int) -> list[Edge]:
    generator = random.Random(seed)
    return sorted({(min(p), max(p)) for p in (generator.sample(range(nodes), 2) for _ in range(count))})


GRAPHS = {
    "chain": [(i, i + 1) for i in range(40)],
    "star with its worst in the middle": [(i, 50) for i in range(9)],
    "two cliques and a bridge": [(a, b) for g in (0, 10) for b in range(g, g + 5) for a in range(g, b)] + [(3, 13)],
    "sparse": sparse(150, 110, seed=1),
    "no edge": [],
}


@pytest.mark.slow
@pytest.mark.parametrize("few", [0, 1000], ids=["stars", "one task"])
@pytest.mark.parametrize("edges", GRAPHS.values(), ids=GRAPHS)
def test_every_node_finds_the_best_of_its_component(
    spark: SparkSession, tmp_path: Path, edges: list[Edge], few: int
) -> None:
    frame = spark.createDataFrame(edges, "a long, b long")
    with Scratch(spark, str(tmp_path)) as scratch:
        rows = components.roots(frame, scratch, few).collect()
    assert len(rows) == len({row.node for row in rows})
    assert {row.node: row.root for row in rows} == plain(edges)
