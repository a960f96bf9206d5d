"""Trains on the shards that `winnow export DIR --format webdataset` writes, with its importance weights.

    python docs/examples/loader.py DIR

Weights give back the balance that filtering took. There are two ways to use them, and each alone gives the same
expected gradient, so use one of them and never both:

- a weighted *loss*: every sample is seen once, and its loss counts `weight` times. Simple, and every picture is read;
- weighted *sampling*: a sample comes `weight` times on average, and its loss counts once. Batches stay alike in scale,
  which is kinder to large learning rates.

The model here is a toy, a linear map from the words of the caption to a tiny picture: replace it with yours.
"""

import io
import random
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, Literal
from zlib import crc32

import numpy as np
import torch
import webdataset as wds
from PIL import Image

SIZE = 8
WORDS = 512
_ENDINGS = ("jpg", "png", "webp", "gif", "bmp", "tif", "avif")

Example = tuple[torch.Tensor, torch.Tensor, float]
"""Words of the caption (WORDS,), picture (3, SIZE, SIZE) in [0, 1], weight."""


def examples(folder: str | Path, seed: int = 0) -> Iterator[Example]:
    """One pass over all shards, in an order of its own for each seed; nodes and workers share the shards."""
    shards = sorted(str(path) for path in Path(folder).glob("*.tar"))
    data = wds.WebDataset(shards, shardshuffle=len(shards), seed=seed, nodesplitter=wds.split_by_node)
    return iter(data.shuffle(1000, rng=random.Random(seed)).decode().map(example))


def example(sample: dict[str, Any]) -> Example:
    """Decodes a sample of a shard; a caption that is missing is an empty one."""
    data = next(sample[ending] for ending in _ENDINGS if ending in sample)
    picture = Image.open(io.BytesIO(data)).convert("RGB").resize((SIZE, SIZE))
    pixels = torch.from_numpy(np.asarray(picture, dtype=np.float32) / 255).permute(2, 0, 1)
    words = torch.zeros(WORDS)
    for word in sample.get("txt", "").lower().split():
        words[crc32(word.encode()) % WORDS] = 1
    return words, pixels, float(sample["json"]["weight"])


def resampled(found: Iterable[Example], seed: int = 0) -> Iterator[Example]:
    """Weighted sampling in one pass: each example comes `weight` times on average, its own weight then 1."""
    draw = random.Random(seed)
    for words, picture, weight in found:
        for _ in range(int(weight + draw.random())):
            yield words, picture, 1.0


def weighted_loss(predicted: torch.Tensor, pictures: torch.Tensor, weights: torch.Tensor) -> torch.Tensor:
    """The mean of the samples' losses, each times its weight; not divided by the weights' sum, whose mean is 1."""
    each = (predicted - pictures).square().mean(dim=(1, 2, 3))
    return (each * weights).mean()


def train(folder: str | Path, use: Literal["loss", "sampling"], epochs: int = 5, batch: int = 32) -> list[float]:
    """Trains the toy; returns the loss of each epoch."""
    torch.manual_seed(0)
    model = torch.nn.Sequential(torch.nn.Linear(WORDS, 3 * SIZE * SIZE), torch.nn.Unflatten(1, (3, SIZE, SIZE)))
    optimiser = torch.optim.Adam(model.parameters(), lr=0.01)
    history = []
    for epoch in range(epochs):
        found = examples(folder, epoch)
        losses = []
        for words, pictures, weights in batches(resampled(found, epoch) if use == "sampling" else found, batch):
            loss = weighted_loss(model(words), pictures, weights)
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
            losses.append(loss.item())
        history.append(sum(losses) / len(losses))
    return history


def batches(found: Iterable[Example], size: int) -> Iterator[tuple[torch.Tensor, torch.Tensor, torch.Tensor]]:
    """Examples stacked, the last batch as large as what is left."""
    waiting: list[Example] = []
    for one in found:
        waiting.append(one)
        if len(waiting) == size:
            yield _stacked(waiting)
            waiting = []
    if waiting:
        yield _stacked(waiting)


def _stacked(found: list[Example]) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    words, pictures, weights = zip(*found, strict=True)
    return torch.stack(words), torch.stack(pictures), torch.tensor(weights)


if __name__ == "__main__":
    for way in ("loss", "sampling"):
        print(way, [round(loss, 4) for loss in train(sys.argv[1], way)])
