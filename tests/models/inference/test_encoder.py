from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper
from PIL import Image

from models.errors import ModelError
from models.images.resizing import View, thumbnail
from models.inference import encoder, onnx_session
from models.inference.encoder import Encoder, projection
from models.inference.onnx_image_spec import ImageInput
from tests.builders.exported_models import CLIP_MEAN, CLIP_STD, SIZE, image_tower, quarters
from tests.builders.images import blobs

MEGABYTES = 6


def tiny(hash_bits: int | None = None, embedding: str = "embedding", dtype: int = TensorProto.UINT8) -> bytes:
    """Returns an ONNX file whose embedding is four pixels of an 8×8 image, without unit length."""
    weights = np.zeros((192, 4), np.float32)
    weights[[0, 50, 100, 150], range(4)] = 1
    stored = [numpy_helper.from_array(weights, "w")]
    nodes = [
        helper.make_node("Cast", ["image"], ["x"], to=TensorProto.FLOAT),
        helper.make_node("Flatten", ["x"], ["flat"]),
        helper.make_node("MatMul", ["flat", "w"], [embedding]),
    ]
    outputs = [helper.make_tensor_value_info(embedding, TensorProto.FLOAT, ["n", 4])]
    if hash_bits:
        stored.append(numpy_helper.from_array(np.ones((4, hash_bits), np.float32), "planes"))
        nodes.append(helper.make_node("MatMul", [embedding, "planes"], ["hash"]))
        outputs.append(helper.make_tensor_value_info("hash", TensorProto.FLOAT, ["n", hash_bits]))
    image = helper.make_tensor_value_info("image", dtype, ["n", 8, 8, 3])
    graph = helper.make_graph(nodes, "tiny", [image], outputs, stored)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
    return bytes(model.SerializeToString())


@pytest.fixture(scope="module")
def shipped() -> Encoder:
    return Encoder.load(encoder.shipped())


def test_the_shipped_encoder_is_small_and_has_metadata(shipped: Encoder) -> None:
    assert len(encoder.shipped()) <= MEGABYTES * 1_000_000
    assert shipped.digest == onnx_session.digest(encoder.shipped())
    assert shipped.properties["size"] == str(shipped.size[0])
    assert 0 < shipped.max_distance < 100


def test_embeddings_have_unit_length_and_hashes_32_bytes(shipped: Encoder) -> None:
    embedding, hashes = shipped.encode(blobs(5, shipped.size[0]))

    assert embedding.shape == (5, shipped.dims) and embedding.dtype == np.float32
    assert hashes.shape == (5, 32) and hashes.dtype == np.uint8
    np.testing.assert_allclose(np.linalg.norm(embedding, axis=1), 1, atol=1e-5)


def test_no_images_give_no_rows(shipped: Encoder) -> None:
    embedding, hashes = shipped.encode(blobs(1, shipped.size[0])[:0])

    assert embedding.shape == (0, shipped.dims) and hashes.shape == (0, 32)


@pytest.mark.parametrize("batch", [1, 8, 32])
def test_results_do_not_depend_on_other_images_order_or_batch(shipped: Encoder, batch: int) -> None:
    thumbs = blobs(70, shipped.size[0])
    together = shipped.encode(thumbs)
    other = Encoder.load(encoder.shipped(), batch=batch)

    for chosen in (np.arange(70)[::-1], np.arange(3, 70), np.array([41]), np.array([0, 0, 69])):
        for expected, found in zip(together, other.encode(thumbs[chosen]), strict=True):
            np.testing.assert_array_equal(found, expected[chosen])


def test_crops_are_within_the_distance_and_different_images_are_not(shipped: Encoder) -> None:
    large = blobs(40, 200)
    whole = np.stack([thumbnail(Image.fromarray(p), View(shipped.size)) for p in large])
    cropped = [Image.fromarray(p).crop((10, 6, 194, 198)) for p in large]
    copies = np.stack([thumbnail(p, View(shipped.size)) for p in cropped])

    hashes, copy_hashes = (np.unpackbits(shipped.encode(thumbs)[1], axis=1) for thumbs in (whole, copies))

    distances = (hashes[:, None] != copy_hashes[None]).sum(axis=2)
    assert (np.diag(distances) <= shipped.max_distance).mean() >= 0.95
    assert (distances[~np.eye(40, dtype=bool)] > shipped.max_distance).all()


def test_an_encoder_from_a_file_gives_the_same_results(shipped: Encoder, tmp_path: object) -> None:
    path = f"{tmp_path}/encoder.onnx"
    with open(path, "wb") as file:  # noqa: PTH123
        file.write(encoder.shipped())
    thumbs = blobs(3, shipped.size[0])

    opened = Encoder.open(path, 1, onnx_session.CPU, 32)

    assert opened.digest == shipped.digest
    assert opened is Encoder.open(path, 1, onnx_session.CPU, 32)
    np.testing.assert_array_equal(opened.encode(thumbs)[1], shipped.encode(thumbs)[1])


def test_a_file_without_hash_gets_bits_from_projections() -> None:
    own = Encoder.load(tiny())

    embedding, hashes = own.encode(blobs(6, 8))

    np.testing.assert_allclose(np.linalg.norm(embedding, axis=1), 1, atol=1e-6)
    np.testing.assert_array_equal(hashes, np.packbits(embedding @ projection(4) > 0, axis=1))
    assert own.max_distance is None and own.presumed_distance == 31


def test_projections_are_orthogonal_for_more_dimensions_than_bits() -> None:
    planes = projection(300)

    assert planes.shape == (300, 256)
    np.testing.assert_allclose(planes.T @ planes, np.eye(256), atol=1e-5)


@pytest.mark.parametrize(
    ("model", "fault"),
    [
        (
            tiny(embedding="features"),
            r"no output 'embedding', only features: describe .* in a table \[encoder\.model\] or",
        ),
        (tiny(hash_bits=64), r"hash has shape .*, not \[n, 256\]"),
        (tiny(dtype=TensorProto.FLOAT), r"input is tensor\(float\) .*, not uint8"),
        (b"no model", "can load"),
    ],
)
def test_the_error_for_a_wrong_encoder_names_the_fault(model: bytes, fault: str) -> None:
    with pytest.raises(ModelError, match=fault):
        Encoder.load(model)


def test_the_error_names_several_faults() -> None:
    model = onnx.load_from_string(tiny(embedding="features", dtype=TensorProto.FLOAT)).SerializeToString()

    with pytest.raises(ModelError, match=r"not uint8 .*, and its outputs are features"):
        Encoder.load(model)


def described(path: Path, **fields: Any) -> ImageInput:
    """Returns the description of an encoder with the image tower's normalisation and the given fields."""
    whole: dict[str, Any] = {"mean": CLIP_MEAN, "std": CLIP_STD, "output": "image_embeds", **fields}
    return ImageInput(str(path), SIZE, **whole)


def loaded(model: ImageInput, batch: int = 4) -> Encoder:
    return Encoder.load(Path(model.path).read_bytes(), batch=batch, described=model)


@pytest.mark.parametrize("batch", ["batch", 1, 8])
@pytest.mark.parametrize(("dtype", "name"), [(TensorProto.FLOAT, "float32"), (TensorProto.FLOAT16, "float16")])
def test_a_described_image_tower_works_as_an_encoder(tmp_path: Path, batch: int | str, dtype: int, name: str) -> None:
    model = described(image_tower(tmp_path / "clip.onnx", batch, dtype), dtype=name)
    pictures = blobs(11, 48)[:, :32]

    own = loaded(model)
    embedding, hashes = own.encode(pictures)

    expected = quarters(pictures, CLIP_MEAN, CLIP_STD)
    expected /= np.linalg.norm(expected, axis=1, keepdims=True)
    assert (own.size, own.dims, embedding.dtype) == (SIZE, 8, np.float32)
    np.testing.assert_allclose(embedding, expected, atol=1e-5 if name == "float32" else 1e-2)
    np.testing.assert_array_equal(hashes, np.packbits(embedding @ projection(8) > 0, axis=1))
    opened = Encoder.open(model, 1, onnx_session.CPU, 4)
    assert opened.digest == own.digest
    np.testing.assert_array_equal(opened.encode(pictures)[0], embedding)


def test_the_digest_depends_on_the_description(tmp_path: Path) -> None:
    file = image_tower(tmp_path / "clip.onnx")

    digests = [loaded(described(file, **fields)).digest for fields in ({}, {"channels": "BGR"}, {"mean": (0, 0, 0)})]

    assert len({*digests, onnx_session.digest(file.read_bytes())}) == 4


def test_free_sides_of_a_file_come_from_the_description(tmp_path: Path) -> None:
    assert loaded(described(image_tower(tmp_path / "clip.onnx", size=("height", "width")))).size == SIZE


@pytest.mark.filterwarnings("ignore:overflow:RuntimeWarning")
@pytest.mark.parametrize(
    ("fields", "fault"),
    [
        ({"output": None}, "outputs are last_hidden_state, image_embeds, and none is called embedding: set output"),
        ({"output": "pooled"}, "no output 'pooled', only last_hidden_state, image_embeds"),
        ({"output": 0}, r"'last_hidden_state' has shape \['n', 3, 4\], not \[n, dims\]: set output to one of"),
        ({"layout": "NHWC"}, r"shape \['batch', 3, 32, 48\], but size and layout give \['N', 32, 48, 3\]"),
        ({"dtype": "float16"}, r"input is tensor\(float\), but dtype is float16"),
        ({"scale": 1e38, "std": (1e-30,) * 3}, "the encoder returned nan or infinity"),
    ],
)
def test_the_error_for_a_wrong_description_names_the_fault(tmp_path: Path, fields: dict[str, Any], fault: str) -> None:
    with pytest.raises(ModelError, match=fault):
        loaded(described(image_tower(tmp_path / "clip.onnx"), **fields))


def test_the_shipped_semantic_encoder_is_the_one_of_its_card() -> None:
    data = encoder.shipped_semantic()
    model = Encoder.load(data)
    card = Path("models/semantic_encoder_card.md").read_text()

    assert len(data) <= 10_000_000 and 128 <= model.dims <= 512
    assert f"digest `{model.digest}`" in card and f"float32 (n, {model.dims})" in card
    assert model.input.view == View((224, 224), "crop", resample="bicubic")


def test_a_semantic_embedding_does_not_depend_on_its_batch() -> None:
    model = Encoder.load(encoder.shipped_semantic())
    images = np.random.default_rng(0).integers(0, 256, (5, *model.size, 3), dtype=np.uint8)

    whole = model.embed(images)

    assert np.array_equal(whole, np.concatenate([model.embed(image[None]) for image in images]))
    assert np.array_equal(whole, model.encode(images)[0])
    np.testing.assert_allclose(np.linalg.norm(whole, axis=1), 1, atol=1e-6)


def test_a_file_may_say_how_its_images_are_resized() -> None:
    proto = onnx.load_model_from_string(tiny())
    helper.set_model_props(proto, {"view": '{"fit": "pad", "resample": "lanczos"}'})

    view = Encoder.load(proto.SerializeToString()).input.view

    assert (view.fit, view.resample) == ("pad", "lanczos")
    for wrong in ("{", '{"fits": "pad"}', "3"):
        helper.set_model_props(proto, {"view": wrong})
        with pytest.raises(ModelError, match=r"metadata view = .*, not a JSON object of fields"):
            Encoder.load(proto.SerializeToString())
    helper.set_model_props(proto, {"view": '{"fit": "pad", "pad_colour": [255, 0, 0]}'})
    assert {Encoder.load(proto.SerializeToString()).input.view: 1}  # scoring keeps thumbnails by view
    helper.set_model_props(proto, {"view": '{"fit": "stretch"}'})
    with pytest.raises(ModelError, match="fit is 'stretch', but must be one of squeeze, crop, pad"):
        Encoder.load(proto.SerializeToString())
