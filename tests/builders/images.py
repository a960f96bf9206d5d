"""Small picture sets, and a tiny image classifier in ONNX, for tests that run the real thing."""

import csv
from pathlib import Path

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper
from PIL import Image


def pattern(seed: int, side: int = 96) -> NDArray[np.uint8]:
    """A detailed picture that no other seed resembles: smooth random blobs."""
    generator = np.random.default_rng(seed)
    coarse = generator.integers(0, 256, (9, 9, 1), dtype=np.uint8).repeat(3, axis=2)
    return np.asarray(Image.fromarray(coarse).resize((side, side), Image.Resampling.BICUBIC))


def blobs(count: int, side: int, seed: int = 0) -> NDArray[np.uint8]:
    """Returns smooth coloured images, all different."""
    coarse = np.random.default_rng(seed).integers(0, 256, (count, 6, 6, 3), dtype=np.uint8)
    resized = [Image.fromarray(c).resize((side, side), Image.Resampling.BICUBIC) for c in coarse]
    return np.stack([np.asarray(image) for image in resized])


def bright_or_dark(folder: Path, count: int) -> tuple[Path, Path]:
    """Pictures of which every third is bright, every tenth a smaller copy of the one before; and random labels of all.

    Returns:
        The folder of pictures, and the label file.
    """
    folder.mkdir(parents=True)
    labels = folder.parent / "labels.csv"
    with (folder / "metadata.csv").open("w", newline="") as metadata, labels.open("w", newline="") as truth:
        captions, answers = csv.writer(metadata), csv.writer(truth)
        captions.writerow(["file_name", "text"])
        answers.writerow(["key", "category", "label", "origin"])
        for number in range(count):
            copy = number % 10 == 9
            source = number - 1 if copy else number
            bright = source % 3 == 0
            pixels = pattern(source) // 2 + (120 if bright else 0)
            image = Image.fromarray(pixels.astype(np.uint8))
            image.resize((72, 72)).save(folder / f"{number}.jpg") if copy else image.save(folder / f"{number}.png")
            who = "woman" if bright or number % 2 else "man"
            captions.writerow([f"{number}.jpg" if copy else f"{number}.png", f"a {who} in light number {number}"])
            answers.writerow([str(number), "bright", bright, "random"])
    return folder, labels


def numbered_images(folder: Path, numbers: range) -> None:
    """Writes PNG files with captions in text files, `7.png` and `7.txt`; the images of even numbers are bright.

    Args:
        folder: A new folder.
        numbers: The numbers of the images; no two images are alike.
    """
    folder.mkdir(parents=True)
    for number in numbers:
        pixels = pattern(number) // 2 + (120 if number % 2 == 0 else 0)
        Image.fromarray(pixels.astype(np.uint8)).save(folder / f"{number}.png")
        (folder / f"{number}.txt").write_text(f"a {'bright' if number % 2 == 0 else 'dark'} image, number {number}")


def brightness_model(folder: Path, size: int = 8) -> Path:
    """An ONNX image classifier whose score is the mean brightness: float32 NCHW in, one score out."""
    graph = helper.make_graph(
        [helper.make_node("ReduceMean", ["pixels", "axes"], ["score"], keepdims=0)],
        "brightness",
        [helper.make_tensor_value_info("pixels", TensorProto.FLOAT, ["n", 3, size, size])],
        [helper.make_tensor_value_info("score", TensorProto.FLOAT, ["n"])],
        [helper.make_tensor("axes", TensorProto.INT64, [3], [1, 2, 3])],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)
    path = folder / "brightness.onnx"
    onnx.save(model, path)
    return path


def brightness_settings(model: Path, size: int = 8) -> list[str]:
    """The category `bright`, judged by `brightness_model`."""
    return [
        'categories.bright.definition="Bright pictures."',
        "categories.bright.recall=0.9",
        f'categories.bright.model={{path="{model}",size=[{size},{size}]}}',
    ]


def channel_model(path: Path, layout: str = "NCHW", dtype: int = TensorProto.FLOAT, batch: int | str = "n") -> Path:
    """An ONNX model for 4 x 6 pixels with two outputs of three columns: each channel's mean (`means`), and 1 - it."""
    shape = [batch, 3, 4, 6] if layout == "NCHW" else [batch, 4, 6, 3]
    axes = [2, 3] if layout == "NCHW" else [1, 2]
    graph = helper.make_graph(
        [
            helper.make_node("Cast", ["pixels"], ["values"], to=TensorProto.FLOAT),
            helper.make_node("ReduceMean", ["values", "axes"], ["means"], keepdims=0),
            helper.make_node("Sub", ["one", "means"], ["others"]),
        ],
        "channels",
        [helper.make_tensor_value_info("pixels", dtype, shape)],
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, [batch, 3]) for name in ("means", "others")],
        [
            helper.make_tensor("axes", TensorProto.INT64, [2], axes),
            helper.make_tensor("one", TensorProto.FLOAT, [], [1.0]),
        ],
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10), path)
    return path
