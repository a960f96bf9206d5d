from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from models.inference.classifier import ImageModel
from models.inference.onnx_image_spec import ImageInput, preprocess

SPEC = ImageInput("m.onnx", (4, 6))
PIXELS = np.random.default_rng(0).integers(0, 256, (3, 4, 6, 3), dtype=np.uint8)


@pytest.mark.parametrize(
    ("model", "digest"),
    [
        (ImageInput("m.onnx", (224, 224)), "b73a1a641d17f722"),
        (
            ImageInput("m.onnx", (224, 224), fit="crop", channels="BGR", mean=(0.5, 0.25, 0.75), std=(0.5, 0.5, 0.5)),
            "42de6b7cb3f7e823",
        ),
        (ImageModel("m.onnx", (224, 224), index=1, activation="softmax"), "8578ad18d5af4584"),
    ],
)
def test_descriptions_keep_the_digests_that_lakes_have(model: ImageInput, digest: str) -> None:
    assert model.digest(b"") == digest


@pytest.mark.parametrize(
    "change",
    [
        {"crop_pct": 0.875},
        {"resample": "bicubic"},
        {"antialias": False},
        {"fit": "pad"},
        {"fit": "pad", "pad_colour": (114, 114, 114)},
        {"channels": "grey"},
        {"jpeg": True},
    ],
)
def test_every_part_of_the_preprocessing_changes_the_digest(change: dict[str, object]) -> None:
    assert replace(SPEC, **change).digest(b"") != SPEC.digest(b"")


def test_one_value_for_all_channels_is_the_same_description() -> None:
    one, three = replace(SPEC, mean=(0.5,), std=(0.25,)), replace(SPEC, mean=(0.5,) * 3, std=(0.25,) * 3)

    assert one.digest(b"") == three.digest(b"")
    np.testing.assert_array_equal(preprocess(PIXELS, one), preprocess(PIXELS, three))


@pytest.mark.parametrize(("layout", "axis"), [("NCHW", 1), ("NHWC", 3)])
def test_grey_is_the_luma_of_pillow_in_one_channel(layout: str, axis: int) -> None:
    model = replace(SPEC, channels="grey", layout=layout, scale=1 / 51, mean=(2.0,), std=(4.0,))
    luma = np.stack([np.asarray(Image.fromarray(pixels).convert("L")) for pixels in PIXELS])

    values = preprocess(PIXELS, model)

    assert values.dtype == np.float32 and values.shape[axis] == 1
    np.testing.assert_allclose(values.squeeze(axis), (luma / 51 - 2) / 4, atol=1e-6)
