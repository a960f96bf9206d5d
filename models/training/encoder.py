"""Fits the perceptual encoder to images, without labels."""

import json
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
import onnx
import torch
from onnx import helper
from torch import Tensor

from models.inference.encoder import Encoder, projection
from models.training import contrast
from models.training.augment import Augmenter
from models.training.batches import Batches
from models.training.measure import COLLISIONS, MeasuredEncoder, Thumbs, measure, planar, reduced, signs
from models.training.network import Floats, Hyperplanes, Network, from_onnx, to_onnx

SIDE = 64
"""Side of the encoder's input, in pixels."""

SOURCE_SIDE = 96
"""Side of the training images, in pixels: larger than the encoder's input, so that crops keep detail."""

_HELD_OUT = 0.1
_HELD_OUT_MOST = 2000
_CENTRED_ON = 4000
_WARM_UP = 50
_REPORTS = 10
_LEAST_SHARE = 1e-30


@dataclass(frozen=True)
class TrainingPlan:
    """The parameters of a training.

    Attributes:
        minutes: Time for the training, including its preparation. The learning rate follows the elapsed time.
        batch: Images in a batch; each gives two views.
        seed: Seed of all random numbers.
        dims: Length of an embedding.
        steps: Number of batches; None uses `minutes`. Only a number of batches gives the same weights in every run.
        rate: Highest learning rate of AdamW.
        temperature: Temperature of InfoNCE.
        crowding: Weight of the term that separates nearest images.
        near: Share of a batch in groups of images that the start encoder finds near each other.
        same_within: Largest distance, in bits, at which the start encoder's hashes count as copies; copies do not count
            as different images. None if the set has no copies.
        collisions: Share of the pairs of different images that may be within the fitted encoder's `max_distance`.
    """

    minutes: float
    batch: int
    seed: int
    dims: int = 256
    steps: int | None = None
    rate: float = 2e-3
    temperature: float = 0.07
    crowding: float = 2.0
    near: float = 0.5
    same_within: int | None = None
    collisions: float = COLLISIONS


Report = Callable[[float, float], None]
"""A callback for the progress: the completed share of the training, 0 to 1, and the loss."""


@dataclass(frozen=True)
class Fitted:
    """A fitted encoder.

    Attributes:
        model: The ONNX file.
        measured: Its measurements on held-out images.
    """

    model: bytes
    measured: MeasuredEncoder


def fit(thumbs: Thumbs, plan: TrainingPlan, report: Report, start: bytes | None = None) -> Fitted:
    """Fits an encoder to images.

    Its `max_distance` is measured on a held-out tenth of the images, against each other and up to 2,000 training
    images. It is the largest distance at which the share of colliding pairs is allowed (see `models.training.measure`),
    or the distance within which 99.9 % of the changed copies are, if that is smaller.

    Args:
        thumbs: uint8 of shape (n, 96, 96, 3), RGB.
        plan: The parameters of the training.
        report: Receives the progress.
        start: A fitted encoder that gives the initial weights, and whose hashes show which images are copies. None
            starts from random weights and treats all images as different.

    Raises:
        ModelError: Training cannot start from `start`.
    """
    schedule = _Schedule(plan)
    training, _ = split(thumbs, plan.seed)
    torch.manual_seed(plan.seed)
    network = from_onnx(start) if start is not None else Network(SIDE, plan.dims)
    codes = None
    if start is not None and plan.same_within is not None:
        codes = signs(Encoder.load(start, torch.get_num_threads()), training)
    draws = torch.Generator().manual_seed(plan.seed)
    batches = Batches(len(training), plan.batch, plan.near, draws, codes, plan.same_within or 0)
    _train(network, torch.from_numpy(training), batches, plan, schedule, report)
    # Random hyperplanes: a rotation learned on these images (ITQ) finds fewer copies among other images.
    centre = _embed(network, training[:_CENTRED_ON]).mean(axis=0)
    planes = Hyperplanes(centre, projection(network.dims))
    properties = {"size": str(SIDE), "resize": "bilinear", "trained_on": f"{len(training)} pictures"}
    model = to_onnx(network, planes, properties)
    result = measured(model, thumbs, plan)
    card = {"max_distance": str(result.max_distance)}
    if result.strangers is not None:
        card["strangers"] = json.dumps(np.log10(np.maximum(result.strangers, _LEAST_SHARE)).round(2).tolist())
    return Fitted(with_properties(model, card), result)


def split(thumbs: Thumbs, seed: int) -> tuple[Thumbs, Thumbs]:
    """Returns the training images and the held-out images, the same for the same seed."""
    held_out = min(int(len(thumbs) * _HELD_OUT), _HELD_OUT_MOST)
    order = np.random.default_rng(seed).permutation(len(thumbs))
    return thumbs[order[held_out:]], thumbs[order[:held_out]]


def measured(model: bytes, thumbs: Thumbs, plan: TrainingPlan) -> MeasuredEncoder:
    """Measures an encoder on the images that `fit` holds out, against each other and some training images.

    Args:
        model: The ONNX file.
        thumbs: As given to `fit`.
        plan: As given to `fit`.
    """
    training, unseen = split(thumbs, plan.seed)
    return measure(
        Encoder.load(model, torch.get_num_threads()), unseen, plan.seed, training[:_HELD_OUT_MOST], plan.collisions
    )


def with_properties(model: bytes, properties: Mapping[str, str]) -> bytes:
    """Returns an ONNX file with properties added or replaced in its `metadata_props`."""
    loaded = onnx.load_from_string(model)
    merged = {entry.key: entry.value for entry in loaded.metadata_props} | dict(properties)
    del loaded.metadata_props[:]
    helper.set_model_props(loaded, merged)
    return bytes(loaded.SerializeToString())


def _train(
    network: Network, pictures: Tensor, batches: Batches, plan: TrainingPlan, schedule: "_Schedule", report: Report
) -> None:
    """Trains the network in place."""
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    network.to(device, memory_format=torch.channels_last).train()
    augmenter = Augmenter(network.side, plan.seed, device)
    optimizer = torch.optim.AdamW(network.parameters(), plan.rate, weight_decay=0.02)
    while (done := schedule.done()) < 1:
        for group in optimizer.param_groups:
            group["lr"] = plan.rate * schedule.factor(done)
        batch = batches.draw()
        sources = augmenter.turned(pictures[batch.chosen].to(device), batch.groups.to(device))
        pixels = torch.cat([augmenter.view(sources), augmenter.view(sources)])
        with torch.autocast(device.type, torch.bfloat16, enabled=_has_fast_bfloat16(device)):
            views = network(pixels)
        loss = _loss(views, batch.repeats.to(device), plan)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
        if schedule.to_report(done):
            report(done, loss.item())
    network.to("cpu").eval()


def _loss(views: Tensor, repeats: Tensor, plan: TrainingPlan) -> Tensor:
    first, second = views.chunk(2)
    nce = contrast.info_nce(first, second, plan.temperature, repeats)
    return nce + plan.crowding * contrast.crowding(first, second, repeats)


class _Schedule:
    """The progress of the training, by steps or by time, and the learning rate."""

    def __init__(self, plan: TrainingPlan) -> None:
        self._plan = plan
        self._began = time.monotonic()
        self._steps = 0
        self._reports = 0

    def done(self) -> float:
        """Returns the completed share of the training, 0 to 1."""
        if self._plan.steps is not None:
            return self._steps / self._plan.steps
        return (time.monotonic() - self._began) / (60 * self._plan.minutes)

    def factor(self, done: float) -> float:
        """Returns the factor of the learning rate: it rises in the first steps, then falls as half a cosine."""
        return min(1.0, (self._steps + 1) / _WARM_UP) * 0.5 * (1 + float(np.cos(np.pi * done)))

    def step(self) -> None:
        self._steps += 1

    def to_report(self, done: float) -> bool:
        """Returns whether the next progress report is due."""
        due = int(done * _REPORTS) >= self._reports
        self._reports += due
        return due


def _has_fast_bfloat16(device: torch.device) -> bool:
    """Returns whether the device computes bfloat16 natively. Emulated, it is slower than float32."""
    return device.type == "cuda" or bool(torch.cpu.get_capabilities().get("amx_bf16", False))


def _embed(network: Network, thumbs: Thumbs) -> Floats:
    with torch.inference_mode():
        parts = [network(reduced(planar(thumbs[i : i + 512]), network.side)) for i in range(0, len(thumbs), 512)]
    return np.concatenate([part.numpy() for part in parts])
