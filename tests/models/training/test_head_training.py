import numpy as np
import onnxruntime as ort
import pytest
import torch

from models.errors import ModelError
from models.inference.head import Head
from models.training import head
from models.training.head import (
    Basis,
    Examples,
    HeadOptions,
    fit,
    held_out_logits,
    platt,
    stratified_folds_in_order,
    train,
)

BASIS = Basis("boats", "abc")


def examples(n=200, noise=0.3, seed=3):
    """Returns unit embeddings whose first dimension decides the label; one in five is positive."""
    rng = np.random.default_rng(seed)
    labels = np.arange(n) % 5 == 0
    raw = rng.normal(size=(n, 8)) * noise
    raw[:, 0] += np.where(labels, 0.5, -0.5)
    return Examples((raw / np.linalg.norm(raw, axis=1, keepdims=True)).astype(np.float32), labels)


def ring(n=300):
    """Returns positives surrounded by negatives, which no straight line separates."""
    rng = np.random.default_rng(1)
    points = rng.normal(size=(n, 8)).astype(np.float32)
    points[:, 2:] = 0
    return Examples(points, np.hypot(points[:, 0], points[:, 1]) < 1)


@pytest.mark.parametrize("hidden", [0, 8])
def test_a_head_separates_separable_examples(hidden):
    data = examples()

    trained = train(data, BASIS, [HeadOptions(hidden=hidden)])

    scores = Head.load(trained.model, "abc", 8).score(examples(seed=4).embeddings)
    assert np.mean((scores > 0.5) == data.labels) > 0.93
    assert trained.metrics["auc"] > 0.95


def test_hidden_units_learn_what_a_line_cannot():
    straight, bent = (train(ring(), BASIS, [HeadOptions(hidden=hidden)]).metrics["auc"] for hidden in (0, 16))

    assert straight < 0.7 < 0.9 < bent


@pytest.mark.parametrize("hidden", [0, 8])
def test_same_examples_and_seed_give_the_same_bytes(hidden):
    first, second = (train(examples(), BASIS, [HeadOptions(hidden=hidden)]).model for _ in range(2))

    assert first == second


def test_another_seed_gives_another_hidden_layer():
    assert (
        train(ring(), BASIS, [HeadOptions(hidden=4)]).model
        != train(ring(), BASIS, [HeadOptions(hidden=4, seed=1)]).model
    )


def test_metadata_describe_the_training_data():
    session = ort.InferenceSession(train(examples(), BASIS, [HeadOptions()]).model)

    metadata = session.get_modelmeta().custom_metadata_map
    assert {k: metadata[k] for k in ("category", "encoder", "positives", "negatives")} == {
        "category": "boats",
        "encoder": "abc",
        "positives": "40",
        "negatives": "160",
    }
    assert 0.9 < float(metadata["auc"]) <= 1.0


def test_held_out_logits_come_from_models_not_trained_on_the_example():
    data = examples(noise=1.0)
    # One wrong label: a model trained on it follows it, a model not trained on it does not.
    labels = data.labels.copy()
    labels[1] = True
    wrong = Examples(data.embeddings, labels)

    options = HeadOptions(weight_decay=1e-6)

    held_out = held_out_logits(wrong, options)

    layer = fit(wrong, options)[0]
    seen = float(data.embeddings[1] @ layer.weight.numpy()[0] + layer.bias.numpy()[0])
    assert held_out[1] < seen


def test_a_single_positive_gives_no_cross_validation():
    data = Examples(np.eye(8, dtype=np.float32), np.arange(8) == 0)

    trained = train(data, BASIS, [HeadOptions()])

    assert trained.metrics == {}
    assert Head.load(trained.model, "abc", 8).score(data.embeddings).argmax() == 0


def test_each_fold_has_its_share_of_both_classes():
    labels = np.array([True] * 10 + [False] * 50)

    folds = stratified_folds_in_order(labels, 5)

    assert [int(labels[folds == f].sum()) for f in range(5)] == [2] * 5
    assert [int((~labels[folds == f]).sum()) for f in range(5)] == [10] * 5


def test_platt_corrects_overconfident_logits():
    rng = np.random.default_rng(0)
    logits = rng.normal(size=4000) * 2
    labels = rng.random(4000) < 1 / (1 + np.exp(-logits))

    slope, intercept = platt(logits * 3, labels)

    assert slope == pytest.approx(1 / 3, rel=0.15)
    assert intercept == pytest.approx(0, abs=0.15)


def test_platt_keeps_the_order_of_uninformative_logits():
    logits = np.linspace(-1, 1, 100)

    slope, _ = platt(logits, logits < 0)

    assert slope > 0


@pytest.mark.parametrize("label", [True, False])
def test_a_class_without_examples_is_refused(label):
    data = Examples(np.eye(8, dtype=np.float32), np.full(8, label))

    with pytest.raises(ModelError, match=r"boats has .* at least one of each"):
        train(data, BASIS, [HeadOptions()])


def test_embeddings_that_are_not_finite_are_refused():
    data = examples()
    data.embeddings[0, 0] = np.nan

    with pytest.raises(ModelError, match="not numbers"):
        train(data, BASIS, [HeadOptions()])


def test_scaling_a_head_scales_and_shifts_its_logits() -> None:
    torch.manual_seed(0)
    layers = (head._Layer(torch.randn(4, 3), torch.randn(4)), head._Layer(torch.randn(1, 4), torch.randn(1)))
    x = torch.randn(20, 3)

    scaled = head._logits(head._scaled(layers, 2.5, -0.75), x)

    torch.testing.assert_close(scaled, 2.5 * head._logits(layers, x) - 0.75)
