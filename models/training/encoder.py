"""Fits the perceptual encoder to pictures, without labels."""

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
"""Pixels a side of what the encoder sees."""

SOURCE_SIDE = 96
"""Pixels a side of the pictures it is trained on: more than it sees, so that crops still have detail."""

_HELD_OUT = 0.1
_HELD_OUT_MOST = 2000
_CENTRED_ON = 4000
_WARM_UP = 50
_REPORTS = 10


@dataclass(frozen=True)
class TrainingPlan:
    """How an encoder is trained.

    Attributes:
        minutes: Time for training and what it needs; the learning rate follows it.
        batch: Pictures in a batch, of which each gives two views.
        seed: Of everything random.
        dims: Length of an embedding.
        steps: Batches to train for, whatever time they take; None goes by `minutes`. Only this gives the same weights
            on every run.
        rate: Highest learning rate of AdamW.
        temperature: Of InfoNCE.
        crowding: Weight of the term that keeps nearest pictures apart.
        near: Share of a batch that is groups of pictures which the encoder to start from finds near each other.
        same_within: Bits within which the hashes of the encoder to start from call two pictures copies, so that they do
            not count as different, and beyond which they are near and worth telling apart; None where no picture is in
            the set twice.
        collisions: Share of the pairs of different pictures that may lie within the fitted encoder's `max_distance`.
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
"""Called now and then with the share of the training that is done, 0 to 1, and the loss."""


@dataclass(frozen=True)
class Fitted:
    """An encoder that was fitted to pictures.

    Attributes:
        model: The ONNX file.
        measured: What it does on the pictures that were held out.
    """

    model: bytes
    measured: MeasuredEncoder


def fit(thumbs: Thumbs, plan: TrainingPlan, report: Report, start: bytes | None = None) -> Fitted:
    """An encoder fitted to pictures.

    Its `max_distance` is measured on a tenth of the pictures, which it is not trained on, told from each other and from
    up to 2,000 that it is: the distance at which no more pairs of different pictures collide than may (see
    `models.training.measure`), or where 99.9 % of the changed copies are found, if that is nearer.

    Args:
        thumbs: uint8 of shape (n, 96, 96, 3), RGB.
        plan: How to train.
        report: Told of the progress.
        start: A fitted encoder whose weights to start from, and by whose hashes copies among the pictures are known.
            None starts from random weights and takes all as different.

    Raises:
        ModelError: `start` is no encoder that training can start from.
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
    # Random hyperplanes: a rotation learned on these pictures (ITQ) gives fewer copies on others.
    centre = _embed(network, training[:_CENTRED_ON]).mean(axis=0)
    planes = Hyperplanes(centre, projection(network.dims))
    properties = {"size": str(SIDE), "resize": "bilinear", "trained_on": f"{len(training)} pictures"}
    model = to_onnx(network, planes, properties)
    found = measured(model, thumbs, plan)
    return Fitted(with_properties(model, {"max_distance": str(found.max_distance)}), found)


def split(thumbs: Thumbs, seed: int) -> tuple[Thumbs, Thumbs]:
    """The pictures to train on and those held out to measure on, the same for the same seed."""
    held_out = min(int(len(thumbs) * _HELD_OUT), _HELD_OUT_MOST)
    order = np.random.default_rng(seed).permutation(len(thumbs))
    return thumbs[order[held_out:]], thumbs[order[:held_out]]


def measured(model: bytes, thumbs: Thumbs, plan: TrainingPlan) -> MeasuredEncoder:
    """What an encoder does on the pictures that `fit` holds out, told from each other and from some it is fitted to.

    Args:
        model: The ONNX file.
        thumbs: As given to `fit`.
        plan: Likewise.
    """
    training, unseen = split(thumbs, plan.seed)
    return measure(
        Encoder.load(model, torch.get_num_threads()), unseen, plan.seed, training[:_HELD_OUT_MOST], plan.collisions
    )


def with_properties(model: bytes, properties: Mapping[str, str]) -> bytes:
    """An ONNX file that says more of itself, or something else, in its `metadata_props`."""
    loaded = onnx.load_from_string(model)
    said = {entry.key: entry.value for entry in loaded.metadata_props} | dict(properties)
    del loaded.metadata_props[:]
    helper.set_model_props(loaded, said)
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
    """How far the training is, by steps or by the clock, and what that means for the learning rate."""

    def __init__(self, plan: TrainingPlan) -> None:
        self._plan = plan
        self._began = time.monotonic()
        self._steps = 0
        self._reports = 0

    def done(self) -> float:
        """The share of the training that is done, 0 to 1."""
        if self._plan.steps is not None:
            return self._steps / self._plan.steps
        return (time.monotonic() - self._began) / (60 * self._plan.minutes)

    def factor(self, done: float) -> float:
        """Up in the first steps, then down as half a cosine."""
        return min(1.0, (self._steps + 1) / _WARM_UP) * 0.5 * (1 + float(np.cos(np.pi * done)))

    def step(self) -> None:
        self._steps += 1

    def to_report(self, done: float) -> bool:
        """Whether it is time to say how far it is."""
        due = int(done * _REPORTS) >= self._reports
        self._reports += due
        return due


def _has_fast_bfloat16(device: torch.device) -> bool:
    """Elsewhere half precision is emulated and slower than float32."""
    return device.type == "cuda" or bool(torch.cpu.get_capabilities().get("amx_bf16", False))


def _embed(network: Network, thumbs: Thumbs) -> Floats:
    with torch.inference_mode():
        parts = [network(reduced(planar(thumbs[i : i + 512]), network.side)) for i in range(0, len(thumbs), 512)]
    return np.concatenate([part.numpy() for part in parts])
