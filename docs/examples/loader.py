"""Train on the shards that `winnow export DIR --format webdataset` writes, with their importance weights.

    python docs/examples/loader.py DIR

The weights restore the balance that filtering changed. There are two ways to use them. Both give the same expected
gradient, so use one of them and never both:

- a weighted *loss*: each sample is read once, and its loss is multiplied by `weight`. This is simple, and reads every
  image;
- weighted *sampling*: each sample is read `weight` times on average, and its loss counts once. The loss of all batches
  has a similar scale, which suits large learning rates better.

The model here is a toy: a linear map from the words of the caption to a tiny image. Replace it with your own model.
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
OPEN = 8  # shards that are read at once
BUFFER = 1000  # samples that are mixed; more need more memory
_ENDINGS = ("jpg", "png", "webp", "gif", "bmp", "tif", "avif")

Example = tuple[torch.Tensor, torch.Tensor, float]
"""Words of the caption (WORDS,), image (3, SIZE, SIZE) in [0, 1], weight."""


def examples(folder: str | Path, seed: int = 0) -> Iterator[Example]:
    """Yields each sample of all shards once, in an order set by the seed; nodes and workers share the shards.

    A shard mixes the images of one part of the lake, such as those of a few sources. So the shards are shuffled,
    several are read at once, and a buffer mixes their samples.
    """
    draw = random.Random(seed)
    shards = sorted(str(path) for path in Path(folder).glob("*.tar"))
    draw.shuffle(shards)
    streams = [
        wds.WebDataset(shards[first::OPEN], shardshuffle=False, nodesplitter=wds.split_by_node, empty_check=False)
        for first in range(min(OPEN, len(shards)))
    ]
    mixed = wds.shuffle(BUFFER, rng=draw)(in_turn([iter(stream.decode()) for stream in streams]))
    return map(example, mixed)


def in_turn(streams: list[Iterator[dict[str, Any]]]) -> Iterator[dict[str, Any]]:
    """Yields a sample of each stream in turn until all have ended."""
    while streams:
        for stream in list(streams):
            try:
                yield next(stream)
            except StopIteration:
                streams.remove(stream)


def example(sample: dict[str, Any]) -> Example:
    """Decodes one sample of a shard; a missing caption counts as empty."""
    data = next(sample[ending] for ending in _ENDINGS if ending in sample)
    picture = Image.open(io.BytesIO(data)).convert("RGB").resize((SIZE, SIZE))
    pixels = torch.from_numpy(np.asarray(picture, dtype=np.float32) / 255).permute(2, 0, 1)
    words = torch.zeros(WORDS)
    for word in sample.get("txt", "").lower().split():
        words[crc32(word.encode()) % WORDS] = 1
    return words, pixels, float(sample["json"]["weight"])


def resampled(found: Iterable[Example], seed: int = 0) -> Iterator[Example]:
    """Samples by weight in one pass: yields each example `weight` times on average, with weight 1."""
    draw = random.Random(seed)
    for words, picture, weight in found:
        for _ in range(int(weight + draw.random())):
            yield words, picture, 1.0


def weighted_loss(predicted: torch.Tensor, pictures: torch.Tensor, weights: torch.Tensor) -> torch.Tensor:
    """Returns the mean of loss × weight over the samples; the weights average 1, so no division by their sum."""
    each = (predicted - pictures).square().mean(dim=(1, 2, 3))
    return (each * weights).mean()


def train(folder: str | Path, use: Literal["loss", "sampling"], epochs: int = 5, batch: int = 32) -> list[float]:
    """Trains the toy model and returns the loss of each epoch."""
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
    """Stacks examples into batches; the last batch holds the rest."""
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
