import numpy as np
import pytest
from scipy import sparse

from models.stats import probe


def test_halved_dogs_get_twice_the_weight_of_cats() -> None:
    # Half cats, half dogs. The filter removes half of the dogs by a property that is not a feature.
    dog = np.array([0] * 3000 + [1] * 3000)
    kept = np.array([True] * 3000 + [True, False] * 1500)
    features = sparse.csr_matrix(np.concatenate([dog, dog[kept]])[:, None].astype(float))
    unfiltered = np.repeat([True, False], [6000, int(kept.sum())])
    folds = np.arange(len(unfiltered)) % 5
    probes, quality = probe.cross_fit(features, unfiltered, folds, regularisation=1.0)
    cat_weight, dog_weight = np.exp(probes[0].log_odds(sparse.csr_matrix([[0.0], [1.0]])))
    assert dog_weight / cat_weight == pytest.approx(2.0, rel=0.02)
    assert quality.calibration_error < 0.01


def test_weights_restore_feature_means_even_if_one_feature_nearly_separates_the_sides() -> None:
    generator = np.random.default_rng(1)
    woman, bucket = generator.random(20_000) < 0.3, generator.random(20_000) < 0.1
    # Most captions with a bucket are filtered out, and more women than others hold one.
    bucket |= woman & (generator.random(20_000) < 0.1)
    kept = ~(bucket & (generator.random(20_000) < 0.8))
    every = np.stack([woman, bucket], axis=1).astype(float)
    features = sparse.csr_matrix(np.concatenate([every, every[kept]]))
    fitted = probe.fit_probe(features, np.repeat([True, False], [20_000, int(kept.sum())]), regularisation=1.0)
    weights = np.exp(fitted.log_odds(sparse.csr_matrix(every[kept])))
    assert abs(woman[kept].mean() / woman.mean() - 1) > 0.05
    assert np.average(every[kept], axis=0, weights=weights) == pytest.approx(every.mean(axis=0), rel=0.01)


def test_fit_reaches_its_minimum_with_words_in_nearly_all_captions() -> None:
    draw = np.random.default_rng(2)
    group = np.eye(3)[draw.choice(3, 40_000, p=[0.2, 0.2, 0.6])]
    kept = draw.random(40_000) < group @ [0.774, 0.846, 0.96]
    every = np.column_stack([group, np.ones(40_000), draw.random(40_000) < 0.9999])
    features = sparse.csr_matrix(np.concatenate([every, every[kept]]))
    fitted = probe.fit_probe(features, np.repeat([True, False], [40_000, int(kept.sum())]), regularisation=1.0)
    weights = np.exp(fitted.log_odds(every[kept]))
    assert fitted.coefficients[3] == 0.0
    assert np.average(group[kept], axis=0, weights=weights) == pytest.approx(group.mean(axis=0), rel=0.003)


def test_beyond_reach_finds_images_without_similar_kept_images() -> None:
    generator = np.random.default_rng(0)
    cluster = generator.normal([5, 0, 0], 0.1, (200, 3))
    elsewhere = generator.normal([0, 5, 0], 0.1, (50, 3))
    unit = [rows / np.linalg.norm(rows, axis=1, keepdims=True) for rows in (cluster, elsewhere)]
    near, far = (rows.astype(np.float32) for rows in unit)
    among = near[:150] @ near[:150].T - 2 * np.eye(150)
    to_far, to_near = ((rows @ near[:150].T).max(axis=1) for rows in (far, near[150:]))
    assert probe.beyond_reach(to_far, among.max(axis=1)).all()
    assert probe.beyond_reach(to_near, among.max(axis=1)).mean() < 0.2


def test_reliability_curve_of_a_calibrated_probe_is_diagonal() -> None:
    draw = np.random.default_rng(0)
    word = draw.random(60_000) < 0.3
    kept = draw.random(60_000) < np.where(word, 0.6, 0.95)
    features = sparse.csr_matrix(np.concatenate([word, word[kept]])[:, None].astype(float))
    unfiltered = np.repeat([True, False], [60_000, int(kept.sum())])
    _, quality = probe.cross_fit(features, unfiltered, np.arange(len(unfiltered)) % 5, 1.0)
    assert sum(one.images for one in quality.reliability) == len(unfiltered)
    assert all(one.predicted == pytest.approx(one.observed, abs=0.02) for one in quality.reliability)
    assert quality.reliability[-1].predicted - quality.reliability[0].predicted > 0.1
    assert quality.calibration_error < 0.01
