"""Trains a category's head on labelled embeddings and exports it to ONNX."""

import itertools
import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

import numpy as np
import onnx
import torch
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper
from scipy.special import expit
from sklearn.metrics import average_precision_score, roc_auc_score

from models.errors import ModelError
from models.inference.head import INPUT, LOWEST_POSITIVE, OUTPUT, Head
from models.stats.batched_logistic import balanced_rows

FOLDS = 5

# Examples that choose among candidates. More would hardly change the choice, and take longer.
_CHOOSING = 5_000

# ONNX versions that every onnxruntime since 2022 reads.
_OPSET, _IR = 17, 8
# float32 against float64: the largest difference of a score that rounding explains.
_TOLERANCE = 1e-4
_CHECKED_ROWS = 4096


@dataclass(frozen=True)
class Examples:
    """A set of labelled embeddings.

    Attributes:
        embeddings: float32 of shape (n, dims).
        labels: bool of shape (n,); true for an image of the category.
    """

    embeddings: NDArray[np.float32]
    labels: NDArray[np.bool_]

    def take(self, rows: NDArray[np.bool_] | NDArray[np.int64]) -> "Examples":
        """Returns the examples for which `rows`, bool of shape (n,), is true, or those with these positions."""
        return Examples(self.embeddings[rows], self.labels[rows])


@dataclass(frozen=True)
class Basis:
    """The inputs of a head, stored in its metadata.

    Attributes:
        category: The category that it scores.
        encoder: Digest of the encoder whose embeddings it reads.
        labels: Digest of the labels that it was trained on; empty if there is none.
    """

    category: str
    encoder: str
    labels: str = ""


@dataclass(frozen=True)
class HeadOptions:
    """One candidate for the parameters of a head's training.

    Attributes:
        hidden: Number of hidden units; 0 is a logistic regression.
        weight_decay: Factor of half the squared weights (of standardised inputs) in the loss.
        epochs: Maximum number of L-BFGS steps, each a full pass over the examples.
        seed: Seed of a hidden layer's initial weights.
    """

    hidden: int = 0
    weight_decay: float = 1e-3
    epochs: int = 400
    seed: int = 0


@dataclass(frozen=True)
class TrainedHead:
    """A trained head and its metrics.

    Attributes:
        model: The ONNX file. The same examples, options and category give the same bytes.
        options: The candidate that generalised best.
        metrics: Cross-validated `auc` and `average_precision`; empty if a class has fewer than two examples.
    """

    model: bytes
    options: HeadOptions
    metrics: dict[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class _Layer:
    """A linear layer: weight of shape (out, in), bias of shape (out,), float64."""

    weight: torch.Tensor
    bias: torch.Tensor


_Layers = tuple[_Layer, ...]


def train(examples: Examples, basis: Basis, candidates: Sequence[HeadOptions]) -> TrainedHead:
    """Trains a head by the candidate that generalises best, calibrates its scores and exports it.

    Both classes have the same weight in the loss, whatever their number of labels. The logits of held-out examples in
    cross-validation give the metrics, and by Platt scaling they turn scores into probabilities (for classes of equal
    size). Near-duplicates among the examples may be on both sides of a fold and make the metrics too good.

    Args:
        examples: The examples, in an order that does not depend on their content, since it decides their folds.
        basis: The inputs of the head.
        candidates: One or more parameters of the training; `best_of` chooses.

    Raises:
        ModelError: A class has no example, an embedding is not finite, or the exported model returns other scores than
            the trained one.

    Source:
        Platt (1999), "Probabilistic outputs for support vector machines".

    Examples:
        >>> examples = Examples(np.eye(4, dtype=np.float32), np.array([True, True, False, False]))
        >>> trained = train(examples, Basis("boats", "e"), [HeadOptions()])
        >>> Head.load(trained.model, encoder="e", dims=4).score(examples.embeddings) > 0.5
        array([ True,  True, False, False])
    """
    _check(examples, basis)
    with _one_thread():
        options = best_of(examples, candidates)
        layers = fit(examples, options)
        held_out = held_out_logits(examples, options)
        metrics = {} if held_out is None else _metrics(examples.labels, held_out)
        metadata = _metadata(examples.labels, basis, metrics, options)
        if held_out is not None:
            slope, intercept = platt(held_out, examples.labels)
            layers = _scaled(layers, slope, intercept)
            lowest = float(held_out[examples.labels].min()) * slope + intercept
            metadata[LOWEST_POSITIVE] = f"{expit(lowest):.6g}"
        model = _export(layers, metadata)
        _compare(model, layers, examples.embeddings[:_CHECKED_ROWS], basis)
    return TrainedHead(model, options, metrics)


def best_of(examples: Examples, candidates: Sequence[HeadOptions]) -> HeadOptions:
    """Returns the candidate with the best average precision in cross-validation; the first one if several are equal.

    The average precision is that of one order of all held-out examples. So the logits of several folds must be
    comparable, as those of new images must.

    Args:
        examples: At least one of each class; 5,000 of them choose (`balanced_rows`).
        candidates: One or more; the first is also the choice if a class has fewer than two examples.
    """
    some = examples.take(balanced_rows(examples.labels, _CHOOSING))
    best, best_precision = candidates[0], -1.0
    for options in candidates if len(candidates) > 1 else ():
        logits = held_out_logits(some, options)
        if logits is None:
            break
        precision = round(float(average_precision_score(some.labels, logits)), 4)
        if precision > best_precision:
            best, best_precision = options, precision
    return best


def fit(examples: Examples, options: HeadOptions) -> _Layers:
    """Fits a head's layers by full-batch L-BFGS in float64. The first layer includes the inputs' standardisation.

    Args:
        examples: At least one of each class.
        options: The parameters of the training.
    """
    x = torch.from_numpy(examples.embeddings.astype(np.float64))
    centre, spread = x.mean(0), x.std(0, unbiased=False)
    # A constant input has no information; dividing it by almost 0 would amplify rounding.
    spread = torch.where(spread > 1e-6, spread, torch.ones_like(spread))
    standardised, y = (x - centre) / spread, torch.from_numpy(examples.labels.astype(np.float64))
    layers = _first_layers(x.shape[1], options)

    def loss() -> torch.Tensor:
        penalty = sum((layer.weight**2).sum() for layer in layers)
        return _balanced_loss(_logits(layers, standardised), y, y) + options.weight_decay / 2 * penalty

    _minimise(loss, [t for layer in layers for t in (layer.weight, layer.bias)], options.epochs)
    trained = tuple(_Layer(layer.weight.detach(), layer.bias.detach()) for layer in layers)
    weight = trained[0].weight / spread
    return (_Layer(weight, trained[0].bias - weight @ centre), *trained[1:])


def held_out_logits(examples: Examples, options: HeadOptions) -> NDArray[np.float64] | None:
    """Returns the logits of each example from a model that was not trained on it, by stratified cross-validation.

    Returns:
        Logits, float64 of shape (n,); None if a class has fewer than two examples.
    """
    smaller = int(min(examples.labels.sum(), (~examples.labels).sum()))
    if smaller < 2:
        return None
    folds = stratified_folds_in_order(examples.labels, min(FOLDS, smaller))
    logits = np.empty(len(folds))
    for fold in np.unique(folds):
        out = folds == fold
        layers = fit(examples.take(~out), options)
        logits[out] = _logits(layers, torch.from_numpy(examples.embeddings[out].astype(np.float64))).numpy()
    return logits


def stratified_folds_in_order(labels: NDArray[np.bool_], folds: int) -> NDArray[np.int64]:
    """Assigns the examples of each class to the folds in turn, so that every fold has its share of both classes.

    Examples:
        >>> stratified_folds_in_order(np.array([True, False, True, False, False]), 2)
        array([0, 0, 1, 1, 0])
    """
    turn = np.where(labels, np.cumsum(labels) - 1, np.cumsum(~labels) - 1)
    return turn % folds


def platt(logits: NDArray[np.float64], labels: NDArray[np.bool_]) -> tuple[float, float]:
    """Returns slope and intercept that turn logits into those of calibrated probabilities, for classes of equal weight.

    The targets are Platt's: they differ from 0 and 1 depending on the number of examples, so that perfect separation
    does not lead to an infinite slope. The slope is positive, so the order of scores does not change.

    Args:
        logits: Logits of examples that the model was not trained on, shape (n,).
        labels: Labels of the same examples, shape (n,).

    Source:
        Platt (1999), section 2.2.
    """
    z, y = torch.from_numpy(logits), torch.from_numpy(labels.astype(np.float64))
    positives, negatives = float(y.sum()), float((1 - y).sum())
    target = torch.where(y > 0, (positives + 1) / (positives + 2), 1 / (negatives + 2))
    log_slope, intercept = (torch.zeros((), dtype=torch.float64, requires_grad=True) for _ in range(2))

    def loss() -> torch.Tensor:
        # If the held-out order is no better than chance, the slope would go to 0 and make all scores equal.
        return _balanced_loss(log_slope.exp() * z + intercept, target, y) + 1e-3 * log_slope**2

    _minimise(loss, [log_slope, intercept], 100)
    return math.exp(log_slope.item()), intercept.item()


def _check(examples: Examples, basis: Basis) -> None:
    positives = int(examples.labels.sum())
    negatives = len(examples.labels) - positives
    if not positives or not negatives:
        found = f"{positives} positive and {negatives} negative"
        raise ModelError(f"{basis.category} has {found} labels to train on: at least one of each is needed")
    if not np.isfinite(examples.embeddings).all():
        raise ModelError(f"embeddings of encoder {basis.encoder} are not numbers: fit or choose another encoder")


@contextmanager
def _one_thread() -> Iterator[None]:
    # The rounding of sums depends on the number of threads. One thread gives the same bits on every machine.
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _first_layers(dims: int, options: HeadOptions) -> _Layers:
    generator = torch.Generator().manual_seed(options.seed)
    sizes = (dims, options.hidden, 1) if options.hidden else (dims, 1)
    layers = []
    for inputs, outputs in itertools.pairwise(sizes):
        # A logistic regression has a single optimum, so it may start at zero.
        scale = math.sqrt(2 / inputs) if options.hidden else 0.0
        weight = torch.randn((outputs, inputs), generator=generator, dtype=torch.float64) * scale
        layers.append(_Layer(weight.requires_grad_(), torch.zeros(outputs, dtype=torch.float64, requires_grad=True)))
    return tuple(layers)


def _logits(layers: _Layers, x: torch.Tensor) -> torch.Tensor:
    for layer in layers[:-1]:
        x = torch.relu(x @ layer.weight.T + layer.bias)
    return (x @ layers[-1].weight.T + layers[-1].bias).squeeze(1)


def _balanced_loss(logits: torch.Tensor, target: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
    weight = torch.where(y > 0, 0.5 / y.sum(), 0.5 / (1 - y).sum())
    losses = torch.nn.functional.binary_cross_entropy_with_logits(logits, target, reduction="none")
    return (weight * losses).sum()


def _minimise(loss: Callable[[], torch.Tensor], parameters: Sequence[torch.Tensor], steps: int) -> None:
    optimiser = torch.optim.LBFGS(
        parameters, max_iter=steps, tolerance_grad=1e-8, tolerance_change=1e-12, line_search_fn="strong_wolfe"
    )

    def closure() -> torch.Tensor:
        optimiser.zero_grad()
        value = loss()
        value.backward()
        return value

    optimiser.step(closure)


def _metrics(labels: NDArray[np.bool_], logits: NDArray[np.float64]) -> dict[str, float]:
    return {
        "auc": round(float(roc_auc_score(labels, logits)), 4),
        "average_precision": round(float(average_precision_score(labels, logits)), 4),
    }


def _scaled(layers: _Layers, slope: float, intercept: float) -> _Layers:
    last = layers[-1]
    return (*layers[:-1], _Layer(last.weight * slope, last.bias * slope + intercept))


def _metadata(
    labels: NDArray[np.bool_], basis: Basis, metrics: dict[str, float], options: HeadOptions
) -> dict[str, str]:
    # No date: the same labels must give the same bytes and the same digest, and imported labels may have no time.
    counts = {"positives": str(int(labels.sum())), "negatives": str(int((~labels).sum()))}
    return {
        "category": basis.category,
        "encoder": basis.encoder,
        "labels": basis.labels,
        "hidden": str(options.hidden),
        "weight_decay": f"{options.weight_decay:g}",
        **counts,
        **{k: f"{v:.4f}" for k, v in metrics.items()},
    }


def _export(layers: _Layers, metadata: dict[str, str]) -> bytes:
    nodes, weights, value = [], [], INPUT
    for i, layer in enumerate(layers):
        for name, array in ((f"weight{i}", layer.weight), (f"bias{i}", layer.bias)):
            weights.append(numpy_helper.from_array(array.numpy().astype(np.float32), name))
        nodes.append(helper.make_node("Gemm", [value, f"weight{i}", f"bias{i}"], [f"linear{i}"], transB=1))
        value = f"linear{i}"
        if i < len(layers) - 1:
            nodes.append(helper.make_node("Relu", [value], [f"hidden{i}"]))
            value = f"hidden{i}"
    weights.append(numpy_helper.from_array(np.array([1], dtype=np.int64), "axes"))
    nodes.append(helper.make_node("Sigmoid", [value], ["probability"]))
    nodes.append(helper.make_node("Squeeze", ["probability", "axes"], [OUTPUT]))
    return _model(nodes, weights, metadata, dims=layers[0].weight.shape[1])


def _model(nodes: list[onnx.NodeProto], weights: list[onnx.TensorProto], metadata: dict[str, str], dims: int) -> bytes:
    inputs = [helper.make_tensor_value_info(INPUT, TensorProto.FLOAT, ["N", dims])]
    outputs = [helper.make_tensor_value_info(OUTPUT, TensorProto.FLOAT, ["N"])]
    graph = helper.make_graph(nodes, "head", inputs, outputs, weights)
    opset = helper.make_opsetid("", _OPSET)
    model = helper.make_model(graph, producer_name="winnow", opset_imports=[opset], ir_version=_IR)
    helper.set_model_props(model, metadata)
    onnx.checker.check_model(model)
    return bytes(model.SerializeToString(deterministic=True))


def _compare(model: bytes, layers: _Layers, embeddings: NDArray[np.float32], basis: Basis) -> None:
    expected = torch.sigmoid(_logits(layers, torch.from_numpy(embeddings.astype(np.float64)))).numpy()
    worst = float(np.abs(Head.load(model, basis.encoder, embeddings.shape[1]).score(embeddings) - expected).max())
    if worst > _TOLERANCE:
        raise ModelError(
            f"the exported head of {basis.category} differs from the trained one by {worst:.2g}, "
            f"more than {_TOLERANCE:g}: raise train.weight_decay"
        )
