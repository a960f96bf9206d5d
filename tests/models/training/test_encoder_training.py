import numpy as np
import onnx
import pytest
import torch
from numpy.typing import NDArray

from models.errors import ModelError
from models.inference import encoder
from models.inference.encoder import Encoder, projection
from models.training import contrast, noise
from models.training.augment import Augmenter, Chance, grained, moved, recoloured, refocused
from models.training.encoder import TrainingPlan, fit, measured, split, with_properties
from models.training.measure import LEAST_DISTANCE, distance_at, distances, layout_bits, measure, signs
from models.training.network import Hyperplanes, Network, from_onnx, to_onnx

CPU = torch.device("cpu")

# Several threads would be slow, since other tests use the cores too.
torch.set_num_threads(1)


@pytest.fixture(scope="module")
def pictures() -> NDArray[np.uint8]:
    return noise.pictures(seed=3, count=80, side=96)


@pytest.fixture(scope="module")
def planar(pictures: NDArray[np.uint8]) -> torch.Tensor:
    return torch.from_numpy(pictures).permute(0, 3, 1, 2).float()


def chance(seed: int = 0) -> Chance:
    return Chance(torch.Generator().manual_seed(seed))


def file_of(network: Network) -> bytes:
    planes = Hyperplanes(np.zeros(network.dims, np.float32), projection(network.dims))
    return to_onnx(network, planes, {"size": str(network.side), "max_distance": "50"})


def test_noise_pictures_are_different_and_not_plain(pictures: NDArray[np.uint8]) -> None:
    assert pictures.shape == (80, 96, 96, 3)
    assert len({picture.tobytes() for picture in pictures}) == 80
    assert (pictures.std(axis=(1, 2, 3)) > 5).mean() > 0.9


def test_views_are_changed_images_in_whole_numbers(planar: torch.Tensor) -> None:
    view = Augmenter(64, 1, CPU).view(planar)

    assert view.shape == (80, 3, 64, 64)
    assert view.min() >= 0 and view.max() <= 255 and torch.equal(view, view.round())
    small = torch.nn.functional.interpolate(planar, size=64, mode="bilinear", antialias=True)
    changed = (view - small).abs().mean(dim=(1, 2, 3))
    assert (changed > 2).float().mean() > 0.8


def test_views_depend_only_on_the_seed(planar: torch.Tensor) -> None:
    first, same, other = (Augmenter(64, seed, CPU).view(planar) for seed in (1, 1, 2))

    assert torch.equal(first, same)
    assert not torch.equal(first, other)


def test_turned_images_have_the_same_pixels(pictures: NDArray[np.uint8]) -> None:
    turned = Augmenter(64, 0, CPU).turned(torch.from_numpy(pictures), torch.arange(len(pictures)))

    plain = torch.from_numpy(pictures).permute(0, 3, 1, 2).float()
    assert torch.equal(turned.sum(dim=(1, 2, 3)), plain.sum(dim=(1, 2, 3)))
    moved_ones = (turned != plain).any(dim=3).any(dim=2).any(dim=1).float().mean()
    assert 0.4 < moved_ones < 0.9


def test_images_of_a_group_are_turned_in_the_same_way(pictures: NDArray[np.uint8]) -> None:
    same = torch.from_numpy(pictures[:1]).expand(40, -1, -1, -1)
    turned = Augmenter(64, 0, CPU).turned(same, torch.arange(20).repeat_interleave(2))

    assert torch.equal(turned[::2], turned[1::2])
    assert not all(torch.equal(one, turned[0]) for one in turned)


@pytest.mark.parametrize("change", [recoloured, refocused, grained])
def test_each_change_changes_some_images_but_not_their_shape(change: object, planar: torch.Tensor) -> None:
    changed = change(planar, chance())  # type: ignore[operator]

    assert changed.shape == planar.shape
    touched = ((changed - planar).abs().amax(dim=(1, 2, 3)) > 1).float().mean()
    assert 0.2 < touched < 1


def test_moved_images_keep_their_centre(planar: torch.Tensor) -> None:
    flat = torch.full_like(planar, 40.0)

    result = moved(flat, 64, chance())

    assert torch.allclose(result[:, :, 20:44, 20:44], torch.tensor(40.0), atol=1e-3)
    assert not torch.allclose(result, torch.tensor(40.0), atol=1e-3)


def test_info_nce_is_lower_for_partners_that_agree() -> None:
    torch.manual_seed(0)
    views = torch.nn.functional.normalize(torch.randn(8, 16), dim=1)

    assert contrast.info_nce(views, views, 0.05) < contrast.info_nce(views, views.roll(1, 0), 0.05)


def test_repeats_are_not_treated_as_different() -> None:
    views = torch.nn.functional.normalize(torch.tensor([[1.0, 0, 0], [1, 0.01, 0], [0, 0, 1]]), dim=1)
    repeats = torch.tensor([[1, 1, 0], [1, 1, 0], [0, 0, 1]]).bool()

    assert contrast.info_nce(views, views, 0.05, repeats) < 1e-6 < contrast.info_nce(views, views, 0.05)
    assert contrast.crowding(views, views, repeats) < contrast.crowding(views, views)


def test_onnx_and_torch_give_the_same_results(pictures: NDArray[np.uint8]) -> None:
    torch.manual_seed(0)
    network = Network(64, 32)
    torch.nn.init.normal_(network.residual[1].weight, std=0.05)
    seen = np.ascontiguousarray(pictures[:, 16:80, 16:80])

    embedding, hashes = Encoder.load(file_of(network)).encode(seen)

    with torch.inference_mode():
        expected = network(torch.from_numpy(seen).permute(0, 3, 1, 2).float()).numpy()
    np.testing.assert_allclose(embedding, expected, atol=2e-3)
    assert (np.unpackbits(hashes, axis=1) == (expected @ projection(32) > 0)).mean() > 0.99


def test_the_residual_block_initially_adds_nothing() -> None:
    network = Network(32, 16)
    pixels = torch.rand(2, 3, 32, 32) * 255
    before = network(pixels)

    torch.nn.init.zeros_(network.residual[0].weight)

    torch.testing.assert_close(network(pixels), before)


def test_a_network_is_loaded_from_its_file() -> None:
    torch.manual_seed(0)
    network = Network(32, 16)

    again = from_onnx(file_of(network))

    assert (again.side, again.dims) == (32, 16)
    for name, value in network.state_dict().items():
        torch.testing.assert_close(again.state_dict()[name], value, atol=1e-3, rtol=1e-3)


def test_training_starts_from_the_shipped_encoder(pictures: NDArray[np.uint8]) -> None:
    given, seen = encoder.shipped(), np.ascontiguousarray(pictures[:, 16:80, 16:80])

    network = from_onnx(given)

    with torch.inference_mode():
        found = network(torch.from_numpy(seen).permute(0, 3, 1, 2).float()).numpy()
    np.testing.assert_allclose(found, Encoder.load(given).encode(seen)[0], atol=2e-3)


def test_a_file_without_a_residual_block_gets_a_neutral_one() -> None:
    model = onnx.load_from_string(file_of(Network(32, 16)))
    stored = [tensor for tensor in model.graph.initializer if not tensor.name.startswith("residual")]
    assert len(stored) < len(model.graph.initializer)
    del model.graph.initializer[:]
    model.graph.initializer.extend(stored)

    network, pixels = from_onnx(model.SerializeToString()), torch.rand(2, 3, 32, 32) * 255

    before = network(pixels)
    torch.nn.init.zeros_(network.residual[0].weight)
    torch.testing.assert_close(network(pixels), before)


def test_a_file_with_another_network_is_refused() -> None:
    model = onnx.load_from_string(file_of(Network(32, 16)))
    del model.graph.initializer[:]

    with pytest.raises(ModelError, match="not written by fit-encoder"):
        from_onnx(model.SerializeToString())


def test_properties_are_replaced_or_kept() -> None:
    model = with_properties(file_of(Network(32, 16)), {"max_distance": "7", "made_by": "a test"})

    assert Encoder.load(model).properties == {"size": "32", "max_distance": "7", "made_by": "a test"}


def test_split_uses_each_image_once() -> None:
    rows = np.arange(50, dtype=np.uint8).reshape(50, 1, 1, 1)

    training, unseen = split(rows, seed=1)

    assert sorted([*training.ravel(), *unseen.ravel()]) == list(range(50))
    assert len(unseen) == 5
    assert not np.array_equal(unseen, split(rows, seed=2)[1])


def separation(model: bytes, pictures: NDArray[np.uint8]) -> float:
    """Returns how much farther apart different images are than copies, in bits, on average."""
    own = Encoder.load(model)
    hashes = signs(own, pictures)
    different = (256 - hashes @ hashes.T)[~np.eye(len(hashes), dtype=bool)] / 2
    return float(different.mean() - measure(own, pictures, 5, pictures[:0]).copies.mean())


@pytest.mark.slow
def test_fitting_separates_different_images_and_is_reproducible(pictures: NDArray[np.uint8]) -> None:
    torch.manual_seed(0)
    untrained = separation(file_of(Network(64, 64)), pictures[-30:])
    plan = TrainingPlan(minutes=0, batch=24, seed=0, dims=64, steps=20)
    reports: list[float] = []

    fitted = fit(pictures[:-30], plan, lambda done, loss: reports.append(done))

    assert separation(fitted.model, pictures[-30:]) > max(2 * untrained, 20)
    assert len(reports) == 10 and reports == sorted(reports)
    assert fitted.model == fit(pictures[:-30], plan, lambda done, loss: None).model
    assert Encoder.load(fitted.model).max_distance == fitted.measured.max_distance
    assert fitted.measured.copies.tolist() == measured(fitted.model, pictures[:-30], plan).copies.tolist()


def test_fitting_continues_from_a_file_for_a_given_time(pictures: NDArray[np.uint8]) -> None:
    torch.manual_seed(0)
    start = file_of(Network(64, 256))

    model = fit(pictures[:40], TrainingPlan(minutes=0.02, batch=8, seed=0), lambda done, loss: None, start).model

    assert model != start
    assert not np.array_equal(signs(Encoder.load(model), pictures[:10]), signs(Encoder.load(start), pictures[:10]))


def test_an_encoder_with_equal_hashes_has_recall_zero(pictures: NDArray[np.uint8]) -> None:
    blind = Network(64, 64)
    torch.nn.init.zeros_(blind.linear.weight)
    torch.nn.init.ones_(blind.linear.bias)

    found = measure(Encoder.load(file_of(blind)), pictures[:60], 1, pictures[60:])

    assert found.copies.max() == 0 and found.recall == 0 and found.max_distance == LEAST_DISTANCE


def test_measure_counts_copies_at_the_collision_free_distance(pictures: NDArray[np.uint8]) -> None:
    own = Encoder.load(encoder.shipped())

    found = measure(own, pictures[:60], 1, pictures[60:])

    assert found.pictures == 60 and found.copies.shape == (240,)
    assert found.recall == (found.copies <= found.free_distance).mean()
    hashes, mirrored = signs(own, pictures), signs(own, np.ascontiguousarray(pictures[:, :, ::-1]))
    lopsided = np.flatnonzero(distances(hashes, mirrored) > 96)
    pairs = [(i, j) for i in lopsided for j in lopsided if i < 60 and i != j]
    others = [distances(hashes[[i]], mirrored[[j]])[0] for i, j in pairs]
    assert found.free_distance == distance_at(np.array(others, np.float32), 1e-6) < min(others)
    allowed = [measure(own, pictures[:60], 1, pictures[60:], share).max_distance for share in (1e-2, 1e-6, 1e-99)]
    assert allowed == [int(np.quantile(found.copies, 0.999)), found.max_distance, 31]
    assert found.max_distance == min(found.free_distance, allowed[0])


def test_a_shared_layout_lowers_the_distance(pictures: NDArray[np.uint8]) -> None:
    own, alike = Encoder.load(encoder.shipped()), pictures.copy()
    alike[:, :, :40] = pictures[7, :, :40]

    plain, shared = (measure(own, some[:60], 1, some[60:]) for some in (pictures, alike))

    assert plain.layout_bits == 0 and shared.layout_bits > 10
    hashes, mirrored = signs(own, alike), signs(own, np.ascontiguousarray(alike[:, :, ::-1]))
    lopsided = distances(hashes, mirrored) > 96
    apart = (256 - hashes[:60] @ mirrored.T) / 2
    by_mirror = apart[lopsided[:60, None] & lopsided & ~np.eye(60, 80, dtype=bool)]
    assert shared.free_distance == distance_at(by_mirror - shared.layout_bits, 1e-6) < distance_at(by_mirror, 1e-6)


def some_hashes(count: int, seed: int) -> NDArray[np.float32]:
    return np.random.default_rng(seed).choice(np.array([-1, 1], np.float32), (count, 256))


def changed(hashes: NDArray[np.float32], share: float) -> NDArray[np.float32]:
    return np.where(np.random.default_rng(9).random(hashes.shape) < share, -hashes, hashes)


def test_layout_bits_measure_what_all_images_share() -> None:
    originals, mirrored = some_hashes(300, 0), some_hashes(300, 1)
    assert layout_bits(originals, mirrored, 100) == 0

    originals[:, :100] = 1

    assert 45 <= layout_bits(originals, mirrored, 100) <= 60
    of_one_form = changed(originals[:1].repeat(300, axis=0), 0.03)
    assert layout_bits(of_one_form, mirrored, 100) > 80


def test_unmarked_copies_do_not_count_as_a_layout() -> None:
    originals, mirrored = some_hashes(300, 0), some_hashes(300, 1)
    five_copies_each = originals[np.arange(300) % 60]
    popular = originals[np.where(np.arange(300) % 5, np.arange(300), 0)]

    near = [
        layout_bits(changed(copies, share), mirrored, 100)
        for copies in (five_copies_each, popular)
        for share in (0, 0.05)
    ]

    assert near == [0] * 4
    assert layout_bits(changed(five_copies_each, 0.12), mirrored, 100) == 0


def test_too_few_images_show_no_layout() -> None:
    assert layout_bits(some_hashes(12, 0), some_hashes(12, 1), 5) == 0
    assert layout_bits(some_hashes(0, 0), some_hashes(0, 1), 0) == 0


def test_few_pairs_do_not_make_the_threshold_optimistic() -> None:
    many_distances = np.random.default_rng(0).normal(128, 12, 1_000_000).astype(np.float32)
    exact = distance_at(many_distances, 1e-4)

    from_few = distance_at(many_distances[:5000], 1e-4)

    assert exact - 12 <= from_few <= exact + 2
    assert from_few < many_distances[:5000].min()
