import numpy as np
import pyarrow as pa
import pytest
from numpy.typing import NDArray

from udfs.arrays.arrow import lists
from udfs.search.semantic import Clustered, Removing, Split, best_first

LEAST = 0.9


def embeddings(count: int, seed: int, groups: int = 12) -> NDArray[np.float32]:
    """Returns vectors around a few directions, so that many are similar and similarity is not transitive."""
    rng = np.random.default_rng(seed)
    vectors = rng.normal(size=(groups, 6))[rng.integers(0, groups, count)] + rng.normal(0, 0.35, (count, 6))
    return (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)


@pytest.mark.parametrize("count", [0, 1, 40, 700])
def test_the_best_of_similar_images_stay(count: int) -> None:
    vectors = embeddings(count, seed=count)
    stays = np.random.default_rng(1).random(count) < 0.05
    keepers, similarity = best_first(vectors, stays, LEAST)
    alike = np.round(vectors.astype(np.float64) @ vectors.T.astype(np.float64), 6)
    kept: list[int] = []
    for place in range(count):
        near = [one for one in kept if alike[one, place] >= LEAST]
        if near and not stays[place]:
            assert keepers[place] == max(near, key=lambda one: (alike[one, place], -one))
            assert similarity[place] == alike[keepers[place], place]
        else:
            assert keepers[place] == -1
            kept.append(place)
    assert count < 40 or 0 < len(kept) < count


def test_a_similarity_at_the_threshold_counts() -> None:
    pair = np.array([[1, 0], [0.6, 0.8]], np.float32)
    none = np.zeros(2, np.bool_)
    assert best_first(pair, none, 0.6)[0].tolist() == [-1, 0]
    assert best_first(pair, none, 0.61)[0].tolist() == [-1, -1]


def test_a_part_is_judged_by_its_order_after_what_stays() -> None:
    similar = lists(np.array([[1, 0], [0.99, 0.141067], [0, 1]], np.float32))
    ids, orders = pa.array(["worse", "better", "other"]), pa.array([b"\x02", b"\x01", b"\x00"])

    def lost(*stays: bool) -> list[tuple[str, str]]:
        part = pa.table({"image_id": ids, "order": orders, "stays": pa.array(stays), "embedding": similar})
        rows = Removing(0.9)(part).to_pylist()
        assert all(row["similarity"] == pytest.approx(0.99) for row in rows)
        return [(row["removed_id"], row["kept_id"]) for row in rows]

    assert lost(False, False, False) == [("worse", "better")]
    assert lost(True, False, False) == [("better", "worse")]
    assert lost(True, True, False) == []


def test_images_go_to_the_nearest_centroid_and_large_clusters_are_split_by_members() -> None:
    line = np.array([[0.0], [1.0], [9.0], [10.0]], np.float32)
    rows = pa.record_batch({"image_id": ["a", "b", "c", "d"], "embedding": lists(line)})
    [found] = Clustered(np.array([[0.5], [9.5]], np.float32))(iter([rows, rows.slice(0, 0)]))
    assert found.to_pydict() == {"image_id": ["a", "b", "c", "d"], "part": [0, 0, 1, 1]}
    split = Split(np.array([1, 1]), line[2:], first=7)
    [parts] = split(iter([rows.slice(2).append_column("part", pa.array([1, 1], pa.int64()))]))
    assert parts.to_pydict() == {"image_id": ["c", "d"], "part": [7, 8]}
