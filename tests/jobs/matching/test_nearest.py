"""The distributed search agrees with a plain sort of all distances."""

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from numpy.typing import NDArray
from pyspark.sql import DataFrame, SparkSession

from jobs.matching import nearest
from udfs.hashes.hamming import distances, words
from udfs.search.nearest import NearestK, similarities, within

ROWS, QUERIES, DIMS = 700, 60, 16


def embeddings(count: int, seed: int, dims: int = DIMS) -> NDArray[np.float32]:
    """Returns unit vectors of coarse numbers, every third a repeat, so that many products are equal."""
    vectors = np.random.default_rng(seed).integers(-2, 3, (count, dims)).astype(np.float32)
    vectors[:, 0] += 0.5
    vectors[::3] = vectors[count // 2]
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def hashes(count: int, seed: int) -> NDArray[np.uint8]:
    """Returns hashes with few set bits, so that many distances are equal."""
    return np.packbits(np.random.default_rng(seed).random((count, 256)) < 0.05, axis=1)


def names(count: int) -> list[str]:
    """Returns ids of different lengths, in no order."""
    return [f"ü{number * 7919 % 1009:x}" for number in range(count)]


def expected(ids: list[str], measure: NDArray[np.float64], k: int) -> list[tuple[int, str, int]]:
    """Returns query, image_id, rank from a plain sort; `measure` has shape (q, n), smaller is nearer."""
    rows = []
    for query, line in enumerate(measure):
        order = sorted(range(len(ids)), key=lambda place: (line[place], ids[place]))[:k]
        rows += [(query, ids[place], rank) for rank, place in enumerate(order, 1)]
    return rows


def rows_of(found: DataFrame) -> list[tuple[int, str, int]]:
    return sorted(((r.query, r.image_id, r.rank) for r in found.collect()), key=lambda row: (row[0], row[2]))


def exact(queries: NDArray[np.float32], pool: NDArray[np.float32]) -> NDArray[np.float64]:
    return np.stack([similarities(np.repeat(query[None], len(pool), 0), pool) for query in queries]).astype(float)


@pytest.fixture(scope="module")
def pool(spark: SparkSession) -> DataFrame:
    signals = {"embedding": [*embeddings(ROWS, 0)], "hash": [h.tobytes() for h in hashes(ROWS, 1)]}
    return spark.createDataFrame(pa.table({"image_id": names(ROWS), **signals})).cache()


@pytest.mark.parametrize("partitions", [1, 3, 8])
def test_neighbours_equal_a_plain_sort_for_any_partitioning(pool: DataFrame, partitions: int) -> None:
    divided = pool.repartition(partitions, "image_id")
    queries = embeddings(QUERIES, 2)
    apart = -exact(queries, embeddings(ROWS, 0))
    assert rows_of(nearest.nearest_by_embedding(divided, queries, 5)) == expected(names(ROWS), apart, 5)
    query_hashes = hashes(QUERIES, 3)
    bits = distances(words(query_hashes)[:, None], words(hashes(ROWS, 1))[None])
    found = nearest.nearest_by_hash(divided, query_hashes, 5)
    assert rows_of(found) == expected(names(ROWS), bits.astype(float), 5)


def test_results_hold_the_similarity_or_the_distance_in_bits(pool: DataFrame) -> None:
    bits = distances(words(hashes(1, 3)), words(hashes(ROWS, 1)))
    (row,) = nearest.nearest_by_hash(pool, hashes(1, 3), 1).collect()
    assert row.distance == bits.min()
    (row,) = nearest.nearest_by_embedding(pool, embeddings(4, 0)[3:], 1).collect()
    assert row.similarity == exact(embeddings(4, 0)[3:], embeddings(ROWS, 0)).max()


def test_everything_within_a_distance_is_found_once(pool: DataFrame) -> None:
    bits = distances(words(hashes(QUERIES, 3))[:, None], words(hashes(ROWS, 1))[None])
    near = {(q, names(ROWS)[n], int(bits[q, n])) for q, n in zip(*np.nonzero(bits <= 15), strict=True)}
    found = nearest.within_distance(pool, hashes(QUERIES, 3), 15).collect()
    assert len(found) == len(near) > 0 and {tuple(row) for row in found} == near
    similarity = exact(embeddings(QUERIES, 2), embeddings(ROWS, 0))
    wanted = {(q, names(ROWS)[n]) for q, n in zip(*np.nonzero(similarity >= 0.5), strict=True)}
    found = nearest.within_similarity(pool, embeddings(QUERIES, 2), 0.5).collect()
    assert len(found) == len(wanted) > 0 and {(row.query, row.image_id) for row in found} == wanted


def test_many_queries_are_searched_in_several_passes(pool: DataFrame, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = rows_of(nearest.nearest_by_hash(pool, hashes(QUERIES, 3), 2))
    monkeypatch.setattr(nearest, "_QUERIES_OF_A_PASS", 25)
    assert rows_of(nearest.nearest_by_hash(pool, hashes(QUERIES, 3), 2)) == whole


def test_a_small_pool_an_empty_one_and_missing_signals(spark: SparkSession) -> None:
    schema = "image_id string, embedding array<float>, hash binary"
    rows = [("a", [1.0, 0.0], b"\0" * 32), ("b", None, None), ("c", [float("nan"), 0.0], b"\1" * 32)]
    small = spark.createDataFrame(rows, schema)
    queries, bits = np.eye(2, dtype=np.float32), np.zeros((1, 32), np.uint8)
    assert rows_of(nearest.nearest_by_embedding(small, queries, 5)) == [(0, "a", 1), (1, "a", 1)]
    assert rows_of(nearest.nearest_by_hash(small, bits, 5)) == [(0, "a", 1), (0, "c", 2)]
    assert rows_of(nearest.nearest_by_embedding(small.limit(0), queries, 5)) == []
    assert rows_of(nearest.nearest_by_hash(small, bits[:0], 5)) == []


def test_the_kernel_keeps_the_best_over_many_blocks() -> None:
    generator = np.random.default_rng(4)
    queries, vectors = (generator.standard_normal((n, 8)).astype(np.float32) for n in (1100, 9000))
    ids = np.array([f"{number:05x}".encode() for number in generator.permutation(9000)])
    search = NearestK(queries, 3)
    for begin in (0, 2, 5000):
        end = {0: 2, 2: 5000, 5000: 9000}[begin]
        search.add(ids[begin:end], vectors[begin:end])
    found = search.found()
    table = pd.DataFrame({"query": found.query, "image_id": found.image_id})
    for query in (0, 511, 512, 1099):
        order = np.lexsort((ids, -similarities(np.repeat(queries[query][None], 9000, 0), vectors)))[:3]
        assert table[table["query"] == query].image_id.tolist() == ids[order].tolist()
    near = within(queries, ids, vectors, 9.0)
    assert len(near.query) == sum((queries[i : i + 100] @ vectors.T >= 9.0).sum() for i in range(0, 1100, 100))
