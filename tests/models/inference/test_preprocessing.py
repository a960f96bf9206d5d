"""Networks with different shapes and preprocessing, each against a plain script of Pillow, numpy and ONNX Runtime."""

import io
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper
from PIL import Image

from models.images.decoding import Decoder
from models.images.resizing import thumbnail_of_file
from models.inference import classifier, onnx_session
from models.inference.classifier import ImageModel
from tests.builders.images import blobs

TYPES = {"float32": TensorProto.FLOAT, "float16": TensorProto.FLOAT16}
DECODED_SIDE = 256
LARGEST_DIFFERENCE = 0.005


def files() -> list[bytes]:
    """Returns JPEG and PNG files of several sides; the last is decoded at half its size."""
    made = []
    for number, (sides, fmt) in enumerate(
        [((500, 375), "JPEG"), ((225, 464), "PNG"), ((90, 41), "PNG"), ((401, 300), "JPEG"), ((1000, 621), "JPEG")]
    ):
        buffer = io.BytesIO()
        Image.fromarray(blobs(1, 64, number)[0]).resize(sides, Image.Resampling.BICUBIC).save(buffer, fmt)
        made.append(buffer.getvalue())
    return made


def network(
    path: Path, shape: Sequence[int], dtype: str, nodes: Sequence[onnx.NodeProto], **outputs: Sequence[int]
) -> str:
    """Writes a network whose `logits` are three weighted sums of all input values; `nodes` compute what follows."""
    count = int(np.prod(shape))
    weights = np.random.default_rng(count).normal(size=(count, 3)) / np.sqrt(count)
    sums = [helper.make_node("Flatten", ["in"], ["flat"]), helper.make_node("MatMul", ["flat", "weights"], ["logits"])]
    constants = [
        numpy_helper.from_array(weights.astype(dtype), "weights"),
        numpy_helper.from_array(np.array([-1, 1, 3, 1]), "four_axes"),
    ]
    values = [helper.make_tensor_value_info(name, TYPES[dtype], ["n", *axes]) for name, axes in outputs.items()]
    image = helper.make_tensor_value_info("in", TYPES[dtype], ["n", *shape])
    graph = helper.make_graph([*sums, *nodes], "net", [image], values, constants)
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10), path)
    return str(path)


def mobile_net(path: Path) -> tuple[ImageModel, Callable[[Image.Image], NDArray[Any]], Callable[[Any], float]]:
    """NCHW, bicubic, 7/8 of the shorter side, values of about -1 to 1, logits for softmax."""
    file = network(path, (3, 56, 56), "float32", [], logits=[3])
    model = ImageModel(
        file, (56, 56), fit="crop", crop_pct=0.875, resample="bicubic", scale=1.0, mean=(127.0,), std=(128.0,), index=2,
        activation="softmax",
    )  # fmt: skip

    def prepared(image: Image.Image) -> NDArray[Any]:
        width, height = image.size
        shorter = min(image.size)
        resized = image.resize((int(64 * width / shorter), int(64 * height / shorter)), Image.Resampling.BICUBIC)
        left, top = round((resized.width - 56) / 2), round((resized.height - 56) / 2)
        pixels = np.asarray(resized.crop((left, top, left + 56, top + 56)), np.float32)
        return ((pixels - 127) / 128).transpose(2, 0, 1)

    def score(logits: NDArray[Any]) -> float:
        return float(np.exp(logits[2]) / np.exp(logits).sum())

    return model, prepared, score


def letterbox_net(path: Path) -> tuple[ImageModel, Callable[[Image.Image], NDArray[Any]], Callable[[Any], float]]:
    """NHWC, blue first, a grey border, boxes beside the scores, which the network activates itself."""
    boxes = helper.make_node("Reshape", ["logits", "four_axes"], ["boxes"])
    nodes = [boxes, helper.make_node("Sigmoid", ["logits"], ["scores"])]
    file = network(path, (64, 64, 3), "float32", nodes, boxes=[1, 3, 1], scores=[3])
    model = ImageModel(
        file, (64, 64), layout="NHWC", channels="BGR", fit="pad", pad_colour=(114, 114, 114), output="scores", index=1
    )

    def prepared(image: Image.Image) -> NDArray[Any]:
        ratio = 64 / max(image.size)
        resized = image.resize([round(side * ratio) for side in image.size], Image.Resampling.BILINEAR)
        canvas = Image.new("RGB", (64, 64), (114, 114, 114))
        canvas.paste(resized, ((64 - resized.width) // 2, (64 - resized.height) // 2))
        return np.asarray(canvas, np.float32)[..., ::-1] / 255

    return model, prepared, lambda scores: float(scores[1])


def grey_net(path: Path) -> tuple[ImageModel, Callable[[Image.Image], NDArray[Any]], Callable[[Any], float]]:
    """One channel, squeezed without antialiasing, one logit chosen for sigmoid."""
    file = network(path, (1, 48, 96), "float32", [], logits=[3])
    model = ImageModel(
        file, (48, 96), channels="grey", antialias=False, mean=(0.449,), std=(0.226,), activation="sigmoid"
    )

    def prepared(image: Image.Image) -> NDArray[Any]:
        steps = (image.width / 96, 0, 0, 0, image.height / 48, 0)
        sampled = image.transform((96, 48), Image.Transform.AFFINE, steps, Image.Resampling.BILINEAR)
        return (np.asarray(sampled.convert("L"), np.float32)[None] / 255 - 0.449) / 0.226

    return model, prepared, lambda logits: float(1 / (1 + np.exp(-logits[0])))


def half_net(path: Path) -> tuple[ImageModel, Callable[[Image.Image], NDArray[Any]], Callable[[Any], float]]:
    """float16, an oblong size, Lanczos, the second of two outputs by its position."""
    nodes = [helper.make_node("Relu", ["logits"], ["features"])]
    file = network(path, (64, 32, 3), "float16", nodes, features=[3], logits=[3])
    model = ImageModel(
        file, (64, 32), layout="NHWC", dtype="float16", fit="crop", resample="lanczos", output=1, activation="softmax",
        mean=(0.5, 0.4, 0.3), std=(0.25, 0.25, 0.5),
    )  # fmt: skip

    def prepared(image: Image.Image) -> NDArray[Any]:
        ratio = max(32 / image.width, 64 / image.height)
        sides = max(32, int(image.width * ratio + 1e-9)), max(64, int(image.height * ratio + 1e-9))
        left, top = round((sides[0] - 32) / 2), round((sides[1] - 64) / 2)
        pixels = np.asarray(image.resize(sides, Image.Resampling.LANCZOS).crop((left, top, left + 32, top + 64)))
        return (pixels / 255 - (0.5, 0.4, 0.3)) / (0.25, 0.25, 0.5)

    def score(logits: NDArray[Any]) -> float:
        values = np.exp(logits.astype(np.float64))
        return float(values[0] / values.sum())

    return model, prepared, score


@pytest.mark.parametrize("net", [mobile_net, letterbox_net, grey_net, half_net])
def test_scores_are_those_of_a_plain_script(net: Callable[[Path], Any], tmp_path: Path) -> None:
    model, prepared, score = net(tmp_path / "net.onnx")
    classifier.check(onnx_session.read(model.path), model)

    pixels = np.stack([thumbnail_of_file(Decoder(file), model.view, DECODED_SIDE) for file in files()])
    found = classifier.classify_thumbnails(onnx_session.start(model.path), pixels, model, 4)

    session = onnx_session.start(model.path)
    inputs = [prepared(Image.open(io.BytesIO(file)).convert("RGB"))[None].astype(model.dtype) for file in files()]
    name = model.output if isinstance(model.output, str) else "logits"
    expected = [score(session.run([name], {"in": one})[0][0]) for one in inputs]
    print(f"{net.__name__}: largest difference {np.abs(found - expected).max():.5f}")  # shown with `pytest -s`
    assert np.abs(found - expected).max() <= LARGEST_DIFFERENCE
    assert np.ptp(expected) > 5 * LARGEST_DIFFERENCE


def test_the_preprocessing_matters(tmp_path: Path) -> None:
    model, _, _ = mobile_net(tmp_path / "net.onnx")
    plain = ImageModel(model.path, model.size, scale=1.0, mean=(127.0,), std=(128.0,), index=2, activation="softmax")
    session = onnx_session.start(model.path)

    scores = []
    for described in (model, plain):
        pixels = np.stack([thumbnail_of_file(Decoder(file), described.view, DECODED_SIDE) for file in files()])
        scores.append(classifier.classify_thumbnails(session, pixels, described, 4))

    assert np.abs(scores[0] - scores[1]).max() > 10 * LARGEST_DIFFERENCE
