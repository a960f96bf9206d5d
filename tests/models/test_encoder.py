import numpy as np
import onnx
import pytest
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper
from PIL import Image

from models import encoder, images, runtime
from models.encoder import Encoder, projection
from models.errors import ModelError

MEGABYTES = 5


def blobs(count: int, side: int, seed: int = 0) -> NDArray[np.uint8]:
    """Smooth coloured pictures, each unlike the others."""
    coarse = np.random.default_rng(seed).integers(0, 256, (count, 6, 6, 3), dtype=np.uint8)
    resized = [Image.fromarray(c).resize((side, side), Image.Resampling.BICUBIC) for c in coarse]
    return np.stack([np.asarray(image) for image in resized])


def tiny(hash_bits: int | None = None, embedding: str = "embedding", dtype: int = TensorProto.UINT8) -> bytes:
    """An ONNX file whose embedding is four pixels of an 8×8 picture, not of unit length."""
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


def test_shipped_is_small_and_says_what_it_is(shipped: Encoder) -> None:
    assert len(encoder.shipped()) <= MEGABYTES * 1_000_000
    assert shipped.digest == runtime.digest(encoder.shipped())
    assert shipped.properties["size"] == str(shipped.size)
    assert 0 < shipped.strict_distance < shipped.max_distance < 100


def test_embeddings_have_unit_length_and_hashes_32_bytes(shipped: Encoder) -> None:
    embedding, hashes = shipped.encode(blobs(5, shipped.size))

    assert embedding.shape == (5, shipped.dims) and embedding.dtype == np.float32
    assert hashes.shape == (5, 32) and hashes.dtype == np.uint8
    np.testing.assert_allclose(np.linalg.norm(embedding, axis=1), 1, atol=1e-5)


def test_no_pictures_give_no_rows(shipped: Encoder) -> None:
    embedding, hashes = shipped.encode(blobs(1, shipped.size)[:0])

    assert embedding.shape == (0, shipped.dims) and hashes.shape == (0, 32)


@pytest.mark.parametrize("batch", [1, 8, 32])
def test_a_result_depends_on_neither_neighbours_nor_place_nor_batch(shipped: Encoder, batch: int) -> None:
    thumbs = blobs(70, shipped.size)
    together = shipped.encode(thumbs)
    other = Encoder.load(encoder.shipped(), batch=batch)

    for chosen in (np.arange(70)[::-1], np.arange(3, 70), np.array([41]), np.array([0, 0, 69])):
        for expected, found in zip(together, other.encode(thumbs[chosen]), strict=True):
            np.testing.assert_array_equal(found, expected[chosen])


def test_a_crop_is_found_and_different_pictures_are_not(shipped: Encoder) -> None:
    large = blobs(40, 200)
    whole = np.stack([images.thumbnail(Image.fromarray(p), (shipped.size, shipped.size)) for p in large])
    cropped = [Image.fromarray(p).crop((10, 6, 194, 198)) for p in large]
    copies = np.stack([images.thumbnail(p, (shipped.size, shipped.size)) for p in cropped])

    hashes, of_copies = (np.unpackbits(shipped.encode(thumbs)[1], axis=1) for thumbs in (whole, copies))

    distances = (hashes[:, None] != of_copies[None]).sum(axis=2)
    assert (np.diag(distances) <= shipped.max_distance).mean() >= 0.95
    assert (distances[~np.eye(40, dtype=bool)] > shipped.max_distance).all()


def test_opened_from_a_file_it_is_the_same(shipped: Encoder, tmp_path: object) -> None:
    path = f"{tmp_path}/encoder.onnx"
    with open(path, "wb") as file:  # noqa: PTH123
        file.write(encoder.shipped())
    thumbs = blobs(3, shipped.size)

    opened = Encoder.open(path, 1, runtime.CPU, 32)

    assert opened.digest == shipped.digest
    assert opened is Encoder.open(path, 1, runtime.CPU, 32)
    np.testing.assert_array_equal(opened.encode(thumbs)[1], shipped.encode(thumbs)[1])


def test_a_file_without_hash_gets_bits_from_projections() -> None:
    own = Encoder.load(tiny())

    embedding, hashes = own.encode(blobs(6, 8))

    np.testing.assert_allclose(np.linalg.norm(embedding, axis=1), 1, atol=1e-6)
    np.testing.assert_array_equal(hashes, np.packbits(embedding @ projection(4) > 0, axis=1))
    assert own.max_distance == 31


def test_projections_are_orthogonal_for_more_dimensions_than_bits() -> None:
    planes = projection(300)

    assert planes.shape == (300, 256)
    np.testing.assert_allclose(planes.T @ planes, np.eye(256), atol=1e-5)


@pytest.mark.parametrize(
    ("model", "fault"),
    [
        (tiny(embedding="features"), "none is called embedding"),
        (tiny(hash_bits=64), r"hash has shape .*, not \[n, 256\]"),
        (tiny(dtype=TensorProto.FLOAT), r"input is tensor\(float\) .*, not uint8"),
        (b"no model", "can load"),
    ],
)
def test_what_is_no_encoder_is_refused_by_its_fault(model: bytes, fault: str) -> None:
    with pytest.raises(ModelError, match=fault):
        Encoder.load(model)


def test_several_faults_are_named_at_once() -> None:
    model = onnx.load_from_string(tiny(embedding="features", dtype=TensorProto.FLOAT)).SerializeToString()

    with pytest.raises(ModelError, match=r"uint8.*; .*none is called embedding"):
        Encoder.load(model)
