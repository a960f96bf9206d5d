import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from models.training.batches import GROUP, NEAREST, Batches

BITS, SAME_WITHIN = 256, 20
FAMILIES, MEMBERS = 30, 16


@pytest.fixture(scope="module")
def codes() -> NDArray[np.float32]:
    """Returns families of images whose hashes differ in about 60 bits from each other and in 128 from all others."""
    rng = np.random.default_rng(0)
    heads = rng.integers(0, 2, (FAMILIES, 1, BITS)) * 2 - 1
    flips = np.where(rng.random((FAMILIES, MEMBERS, BITS)) < 0.13, -1, 1)
    return np.ascontiguousarray((heads * flips).reshape(-1, BITS), np.float32)


def batches(codes: NDArray[np.float32] | None, size: int = 64, count: int = FAMILIES * MEMBERS) -> Batches:
    return Batches(count, size, 0.5, torch.Generator().manual_seed(0), codes, SAME_WITHIN)


def members(batch: torch.Tensor, groups: torch.Tensor) -> list[list[int]]:
    members = [batch[groups == group].tolist() for group in range(int(groups.max()) + 1)]
    return [found for found in members if len(found) > 1]


def test_half_of_a_batch_is_groups_of_near_images(codes: NDArray[np.float32]) -> None:
    batch = batches(codes).draw()

    groups = members(batch.chosen, batch.groups)
    assert [len(group) for group in groups] == [GROUP] * 8
    assert all(len({picture // MEMBERS for picture in group}) == 1 for group in groups)
    assert all(len(set(group)) == GROUP for group in groups)
    assert len(batch.chosen) == len(batch.groups) == 64


def test_copies_are_not_drawn_as_near_images(codes: NDArray[np.float32]) -> None:
    copied = codes.copy()
    copied[1::2] = codes[::2]

    batch = batches(copied, size=256).draw()

    for anchor, *others in members(batch.chosen, batch.groups):
        assert anchor // 2 not in {picture // 2 for picture in others}
    expected = batch.chosen[:, None] // 2 == batch.chosen[None] // 2
    assert torch.equal(batch.repeats, expected)


def test_groups_draw_different_near_images(codes: NDArray[np.float32]) -> None:
    source = batches(codes[:MEMBERS], size=2 * GROUP, count=MEMBERS)

    groups = [members(batch.chosen, batch.groups)[0] for batch in (source.draw() for _ in range(400))]
    partners = {picture for group in groups if group[0] == 0 for picture in group[1:]}
    assert GROUP <= len(partners) <= NEAREST


@pytest.mark.parametrize(("codes_of", "count"), [(0, 500), (GROUP, GROUP), (GROUP + 1, GROUP + 1)])
def test_batches_have_full_size_without_an_encoder_and_with_few_images(
    codes: NDArray[np.float32], codes_of: int, count: int
) -> None:
    batch = batches(codes[:codes_of] if codes_of else None, size=32, count=count).draw()

    assert batch.chosen.shape == batch.groups.shape == (32,)
    assert batch.repeats.shape == (32, 32) and bool(batch.repeats.diagonal().all())
    assert batch.chosen.min() >= 0 and batch.chosen.max() < count
    assert batch.groups.max() < 32


def test_batches_depend_only_on_the_seed(codes: NDArray[np.float32]) -> None:
    first, same = batches(codes).draw(), batches(codes).draw()

    assert torch.equal(first.chosen, same.chosen) and torch.equal(first.groups, same.groups)
