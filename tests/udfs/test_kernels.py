"""The kernels in a user's own Spark code: on columns with nulls and broken images, and in SQL."""

import io
import re
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image
from pyspark.sql import functions as F

from jobs.lake import tables
from jobs.lake.recipe import Recipe
from models.errors import ModelError
from models.images import decoding
from models.images.resizing import View, thumbnail
from models.inference.classifier import ImageModel
from tests.builders.images import brightness_model, channel_model, pattern
from udfs import classify, hamming, minhash_bands, pdq
from udfs.hashes.hamming import HASH_BYTES
from udfs.hashes.minhash import Bands, band_keys
from udfs.hashes.pdq import pdq_of

PAGE = Path(__file__).parents[2] / "docs/spark.md"


def encoded(pixels: np.ndarray, fmt: str = "PNG") -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, fmt)
    return buffer.getvalue()


PIXELS = pattern(1)
ROWS = {
    "copy": encoded(PIXELS, "JPEG"),
    "good": encoded(PIXELS),
    "other": encoded(pattern(2)),
    "text": b"no image",
    "cut": encoded(PIXELS)[:200],
    "none": None,
}


@pytest.fixture(scope="module")
def pictures(spark):
    return spark.createDataFrame(list(ROWS.items()), "image_id string, image binary").repartition(2, "image_id")


def by_id(frame) -> dict:
    rows = {row[0]: row[1] for row in frame.collect()}
    assert rows.keys() == ROWS.keys()
    return rows


def test_pdq_equals_the_kernel_and_is_null_for_broken_images(pictures):
    found = by_id(pictures.select("image_id", pdq("image")))
    for name in ("copy", "good", "other"):
        image = decoding.decode(ROWS[name], 256)
        assert (bytes(found[name].hash), found[name].quality) == pdq_of(image)
    for name in ("text", "cut", "none"):
        assert found[name].hash is None and found[name].quality is None


def test_hamming_counts_bits_and_is_null_if_either_is_null(spark):
    zeros, ones, low = bytes(HASH_BYTES), b"\xff" * HASH_BYTES, bytes(HASH_BYTES - 1) + b"\x05"
    rows = [(zeros, zeros, 0), (zeros, ones, 256), (low, zeros, 2), (None, ones, None), (low, None, None)]
    frame = spark.createDataFrame(rows, "a binary, b binary, expected int")
    assert [tuple(r) for r in frame.select("expected", hamming("a", "b")).collect()] == [(r[2], r[2]) for r in rows]
    nothing = frame.where("a is null and b is null").select(hamming("a", "b"))
    assert nothing.collect() == []


def test_minhash_bands_equal_the_kernel_and_are_null_for_null(spark):
    hashes = np.random.default_rng(0).integers(0, 256, (3, HASH_BYTES), dtype=np.uint8)
    rows = [(n, h.tobytes()) for n, h in enumerate(hashes)] + [(3, None)]
    frame = spark.createDataFrame(rows, "n int, hash binary").repartition(2, "n")
    found = {r.n: r.keys for r in frame.select("n", minhash_bands("hash", bands=5, rows=4).alias("keys")).collect()}
    expected = band_keys(hashes, Bands(5, 4, 0)).view(np.int64)
    assert expected.shape == (3, 5)
    assert found == {0: expected[0].tolist(), 1: expected[1].tolist(), 2: expected[2].tolist(), 3: None}


def test_classify_scores_images_and_is_null_for_broken_images(pictures, tmp_path):
    model = ImageModel(str(brightness_model(tmp_path, size=16)), (16, 16))
    found = by_id(pictures.select("image_id", classify(model, batch=2)("image")))
    for name in ("copy", "good", "other"):
        # The scoring pass also decodes at 256 pixels, even if the model's input is smaller.
        small = thumbnail(decoding.decode(ROWS[name], 256), View((16, 16)))
        assert found[name] == pytest.approx(small.mean() / 255, abs=1e-5)
    assert found["text"] is found["cut"] is found["none"] is None


def test_two_models_with_the_same_file_name_do_not_clash(pictures, tmp_path):
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
    bright = ImageModel(str(brightness_model(tmp_path / "a")), (8, 8))
    channel_model(tmp_path / "b" / "brightness.onnx")
    channels = ImageModel(str(tmp_path / "b" / "brightness.onnx"), (4, 6), output="others")
    good = pictures.where("image_id = 'good'")
    first = good.select(classify(bright)("image")).collect()[0][0]
    second = good.select(classify(channels)("image")).collect()[0][0]
    assert first + second == pytest.approx(1, abs=0.03)


def test_classify_refuses_a_wrong_model_before_reading_rows(spark, tmp_path):
    with pytest.raises(ModelError, match="size and layout give"):
        classify(ImageModel(str(brightness_model(tmp_path)), (9, 9)))


def test_classify_with_a_path_expects_a_head(spark, tmp_path):
    path = tmp_path / "wrong.onnx"
    path.write_bytes(brightness_model(tmp_path).read_bytes())
    with pytest.raises(ModelError):
        classify(str(path))


@pytest.mark.slow
def test_the_code_of_the_documents_works(spark, pictures, lake, tmp_path):
    snippet = next(
        code for code in re.findall(r"```python\n(.*?)```", PAGE.read_text(), re.S) if "from winnow import" in code
    )
    # Columns that the snippet does not use are null.
    images = pictures.withColumns({f.name: F.lit(None) for f in tables.IMAGES.schema if f.name not in pictures.columns})
    lake.replace(tables.IMAGES, images, Recipe("ingest"))
    lake.replace(tables.SOURCES, spark.createDataFrame([], tables.SOURCES.schema), Recipe("ingest"))
    model = brightness_model(tmp_path, size=224)
    assert '"lake"' in snippet and '"nsfw.onnx"' in snippet
    shown: dict = {}
    code = snippet.replace('"lake"', repr(lake.uri)).replace('"nsfw.onnx"', repr(str(model)))
    exec(compile(code, "spark.md", "exec"), shown)
    hashes = by_id(shown["hashed"])
    assert bytes(hashes["good"].hash) == pdq_of(decoding.decode(ROWS["good"], 256))[0]
    scores = by_id(shown["scored"])
    assert scores["good"] == pytest.approx(PIXELS.mean() / 255, abs=0.01) and scores["text"] is None
    bands = by_id(shown["bands"].select("image_id", "keys"))
    assert len(bands["good"]) == 16 and bands["none"] is None
    # Each near pair appears once, as if all pairs were compared.
    hashed = shown["hashed"].select("image_id", "pdq.hash")
    a, b = hashed.alias("a"), hashed.alias("b")
    near = (F.col("a.image_id") < F.col("b.image_id")) & (hamming("a.hash", "b.hash") <= 31)
    by_all_pairs = a.crossJoin(b).where(near).select("a.image_id", "b.image_id").collect()
    assert [tuple(row) for row in by_all_pairs] == [("copy", "good")]
    assert shown["pairs"].collect() == shown["pairs_by_sql"].collect() and shown["pairs"].columns == ["a_id", "b_id"]
    assert [tuple(row) for row in shown["pairs"].collect()] == [("copy", "good")]
    spark.udf.register("pdq", pdq)
    registered = spark.sql("SELECT pdq(image).quality AS quality FROM {frame} ORDER BY image_id", frame=pictures)
    assert [row.quality is None for row in registered.collect()] == [False, True, False, True, False, True]
    shown["hashed"].unpersist()
    spark.catalog.dropTempView("keys")


def test_the_join_by_bands_gives_each_near_pair_once(spark):
    """Keys of different bands must not match, and a pair must not appear once for each common band."""
    generator = np.random.default_rng(0)
    base = generator.integers(0, 256, (40, HASH_BYTES), dtype=np.uint8)
    copies = base.copy()
    copies[:, 0] ^= 0b101
    rows = [(f"{n:03d}", row.tobytes()) for n, row in enumerate(np.concatenate([base, copies]))]
    snippet = next(
        code for code in re.findall(r"```python\n(.*?)```", PAGE.read_text(), re.S) if "from winnow import" in code
    )
    code = "from pyspark.sql import functions as F\nfrom winnow import hamming, minhash_bands\n"
    code += "bands = hashed.select('image_id', 'hash', minhash_bands('hash', bands=16, rows=14).alias('keys'))\n"
    code += snippet[snippet.index("# Images that share") :]
    shown: dict = {
        "hashed": spark.createDataFrame(rows, "image_id string, hash binary"),
        "lake": SimpleNamespace(session=spark),
    }
    exec(compile(code, "spark.md", "exec"), shown)

    expected = [(f"{n:03d}", f"{n + 40:03d}") for n in range(40)]
    assert sorted(tuple(row) for row in shown["pairs"].collect()) == expected
    assert sorted(tuple(row) for row in shown["pairs_by_sql"].collect()) == expected
    spark.catalog.dropTempView("keys")


def test_hashes_of_another_length_are_refused(spark):
    frame = spark.createDataFrame([(b"short", bytes(HASH_BYTES))], "a binary, b binary")
    with pytest.raises(Exception, match="every hash must have 32 bytes"):
        frame.select(hamming("a", "b")).collect()
    assert frame.select(F.length("b")).collect()[0][0] == HASH_BYTES
