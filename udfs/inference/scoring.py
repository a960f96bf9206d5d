"""The scoring pass: decodes each image once for PDQ, the encoders and all image classifiers."""

import hashlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import islice

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray
from PIL import ImageOps
from pyspark import SparkFiles
from pyspark.sql.pandas.types import from_arrow_schema

from models.images import decoding
from models.images.edges import edge_map
from models.images.quality import QUALITY_SIDE, Quality, colourfulness, jpeg_quality, quality
from models.images.resizing import View, thumbnail_of_file
from models.inference import onnx_session
from models.inference.classifier import ImageModel, classify_each
from models.inference.encoder import Encoder
from models.inference.onnx_image_spec import ImageInput
from models.inference.row_faults import RowFault, Scored
from udfs.arrays.arrow import cells, lists
from udfs.hashes.pdq import PDQ_SIDE, pdq_of

_FAULT = pa.struct([("place", pa.int32()), ("reason", pa.string()), ("detail", pa.string())])
_ARROW = pa.schema(
    [
        ("image_id", pa.string()),
        ("pdq", pa.binary()),
        ("pdq_quality", pa.int32()),
        ("encoder", pa.string()),
        ("embedding", pa.list_(pa.float32())),
        ("embedding_hash", pa.binary()),
        ("content", pa.string()),
        ("thumbnail", pa.binary()),
        ("unframed", pa.float32()),
        ("sharpness", pa.float32()),
        ("noise", pa.float32()),
        ("colour", pa.float32()),
        ("jpeg_quality", pa.int32()),
        ("edges", pa.binary()),
        ("semantic", pa.string()),
        ("features", pa.list_(pa.float32())),
        ("mirror", pa.string()),
        ("mirror_pdq", pa.binary()),
        ("mirror_embedding", pa.list_(pa.float32())),
        ("mirror_hash", pa.binary()),
        ("scores", pa.list_(pa.float32())),
        ("faults", pa.list_(_FAULT)),
        ("reason", pa.string()),
        ("detail", pa.string()),
        ("part", pa.int32()),
    ]
)
SCORED = from_arrow_schema(_ARROW)
"""The results for each image: signals, features and scores, or the reason of a failure with its detail.

`semantic` is the digest of the semantic encoder, and `features` its embedding. `mirror` is the digest of the perceptual
encoder that hashed the mirror image, and null if it failed. What was not asked for is null.

`faults` says which models failed on the image (null if none did): `place` of the classifier, counted from 0, whose
score is then NaN; or null for the semantic encoder, and `features` is then null. If the perceptual encoder failed, the
image has a `reason`, as one that cannot be decoded has, and `encoder` is the digest of this encoder.
"""


# Inferences for each result batch: enough to make building columns cheap, few enough that pixels take only some MB.
_RUNS = 4

_GREY = View((decoding.GREY_SIDE, decoding.GREY_SIDE))


@dataclass(frozen=True)
class Scoring:
    """The models of the pass. Their paths are the file names that `distribute_model` returned.

    Attributes:
        encoder: File name of the perceptual encoder, or its description; None: no signals.
        semantic: File name of the semantic encoder, or its description; None: no features.
        classifiers: Descriptions of the image classifiers.
        batch: Images in one inference.
        threads: ONNX Runtime threads.
        providers: ONNX Runtime execution providers.
        mirror: File name or description of the perceptual encoder, to hash the mirror image of each image too; None:
            no mirror images.
    """

    encoder: str | ImageInput | None
    semantic: str | ImageInput | None
    classifiers: tuple[ImageModel, ...]
    batch: int
    threads: int
    providers: tuple[str, ...]
    mirror: str | ImageInput | None = None

    def __call__(self, batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        """Scores Arrow batches of (image_id, part, image): the function for `mapInArrow` with schema `SCORED`.

        The part is passed through; rows with a reason lack it.
        """
        encoders = _Encoders(*(self._opened(one) for one in (self.encoder, self.semantic, self.mirror)))
        views = sorted({*encoders.views, *(model.view for model in self.classifiers)})
        rows = (
            (image_id.as_py(), part.as_py(), _read(data, views, encoders))
            for batch in batches
            for image_id, part, data in zip(*map(batch.column, ("image_id", "part", "image")), strict=True)
        )
        # Models run on full batches of images, whatever the size of Arrow's batches.
        while some := list(islice(rows, _RUNS * self.batch)):
            yield from self._score(encoders, views, some)

    def _score(
        self,
        encoders: "_Encoders",
        views: Sequence[View],
        rows: Sequence[tuple[str, int | None, "_Decoded | decoding.ImageFault"]],
    ) -> Iterator[pa.RecordBatch]:
        ids, images = pa.array([image_id for image_id, _, _ in rows], pa.string()), [image for *_, image in rows]
        parts = pa.array([part for _, part, _ in rows], pa.int32())
        good = [image for image in images if isinstance(image, _Decoded)]
        thumbnails = {view: _stack([p.thumbnails[view] for p in good], view.size) for view in views}
        is_good = pa.array([isinstance(image, _Decoded) for image in images])
        columns, faults = {"image_id": ids.filter(is_good), "part": parts.filter(is_good)}, _Faults(len(good))
        unhashed: Mapping[int, RowFault] = {}
        if encoders.perceptual:
            signals, unhashed = _signals(encoders.perceptual, good, thumbnails)
            columns |= signals
        if encoders.semantic:
            columns |= _features(encoders.semantic, thumbnails, faults)
        if encoders.mirror:
            columns |= _mirrored(encoders.mirror, good, thumbnails)
        if self.classifiers:
            columns["scores"] = lists(self._classify(thumbnails, faults))
        columns["faults"] = faults.column()
        decoded = _batch(columns)
        yield decoded.filter(pa.array([row not in unhashed for row in range(len(good))])) if unhashed else decoded
        if encoders.perceptual and unhashed:
            yield _unhashed(encoders.perceptual, columns["image_id"], unhashed)
        if len(good) < len(images):
            unread = [image for image in images if isinstance(image, decoding.ImageFault)]
            yield _failed(ids.filter(pc.invert(is_good)), unread)

    def _opened(self, encoder: str | ImageInput | None) -> Encoder | None:
        """Returns an encoder from its file on this worker."""
        if encoder is None:
            return None
        local = SparkFiles.get(encoder if isinstance(encoder, str) else encoder.path)
        model = local if isinstance(encoder, str) else replace(encoder, path=local)
        return Encoder.open(model, self.threads, self.providers, self.batch)

    def _classify(self, thumbnails: Mapping[View, NDArray[np.uint8]], faults: "_Faults") -> NDArray[np.float32]:
        """Returns scores of shape (n, classifiers), and notes faults. Classifiers with the same inference share it."""
        scores = np.zeros((len(next(iter(thumbnails.values()))), len(self.classifiers)), np.float32)
        for inference in dict.fromkeys(model.inference for model in self.classifiers):
            places = [place for place, model in enumerate(self.classifiers) if model.inference == inference]
            session = onnx_session.session_of_file(SparkFiles.get(inference.path), self.threads, self.providers)
            models = [self.classifiers[place] for place in places]
            found = classify_each(session, thumbnails[inference.view], models, self.batch)
            scores[:, places] = found.scores
            faults.add(found, places)
        return scores


class _Faults:
    """The faults of models other than the perceptual encoder, by image."""

    def __init__(self, images: int) -> None:
        self._images = images
        self._by_image: dict[int, list[dict[str, int | str | None]]] = {}

    def add(self, found: Scored, places: Sequence[int]) -> None:
        """Adds the faults of classifiers, given the place of each in the pass."""
        for (row, number), fault in found.faults.items():
            self._add(row, places[number], fault)

    def add_semantic(self, found: Mapping[int, RowFault]) -> None:
        """Adds the faults of the semantic encoder."""
        for row, fault in found.items():
            self._add(row, None, fault)

    def column(self) -> pa.Array:
        """Returns the column `faults`."""
        return pa.array([self._by_image.get(row) for row in range(self._images)], pa.list_(_FAULT))

    def _add(self, row: int, place: int | None, fault: RowFault) -> None:
        of_image = self._by_image.setdefault(row, [])
        of_image.append({"place": place, "reason": fault.reason, "detail": fault.detail})


@dataclass(frozen=True)
class _Encoders:
    perceptual: Encoder | None
    semantic: Encoder | None
    mirror: Encoder | None

    @property
    def views(self) -> set[View]:
        """The views of the thumbnails that signals, features and hashes of mirror images need."""
        views = {encoder.input.view for encoder in (self.perceptual, self.semantic, self.mirror) if encoder}
        return views | {_GREY} if self.perceptual else views


@dataclass(frozen=True)
class _Decoded:
    """An image after its decode; only the thumbnails are needed if no signals are."""

    thumbnails: Mapping[View, NDArray[np.uint8]]
    hashed: "_Hashed | None"
    mirror_pdq: bytes | None = None


@dataclass(frozen=True)
class _Hashed:
    """What signals hold of an image besides what an encoder makes of its thumbnail."""

    pdq: bytes
    pdq_quality: int
    content: str
    quality: Quality
    jpeg_quality: int | None
    edges: bytes | None

    @classmethod
    def of(cls, data: bytes, decoder: decoding.Decoder) -> "_Hashed":
        bits, plain = pdq_of(decoder.at_least(PDQ_SIDE))
        luma, tables, content = decoder.luma(QUALITY_SIDE), decoder.jpeg_tables, hashlib.sha256(data).hexdigest()[:32]
        measured, edges = quality(luma, decoder.size), edge_map(luma)
        saved = jpeg_quality(tables) if tables else None
        return cls(bits, plain, content, measured, saved, None if edges is None else edges.tobytes())


def _read(cell: pa.BinaryScalar, views: Iterable[View], encoders: _Encoders) -> _Decoded | decoding.ImageFault:
    """Returns the results of one decode, or the reason why it failed.

    The image is decoded again only for a view that needs more pixels than PDQ does. So the thumbnail of one view never
    depends on the other views, and signals do not depend on which classifiers run.
    """
    data = cell.as_py() or b""
    try:
        decoder = decoding.Decoder(data)
        signals = _Hashed.of(data, decoder) if encoders.perceptual else None
        mirror = pdq_of(ImageOps.mirror(decoder.at_least(PDQ_SIDE)))[0] if encoders.mirror else None
        return _Decoded({view: thumbnail_of_file(decoder, view, PDQ_SIDE) for view in views}, signals, mirror)
    except decoding.ImageFault as fault:
        return fault


def _stack(pixels: list[NDArray[np.uint8]], size: tuple[int, int]) -> NDArray[np.uint8]:
    return np.stack(pixels) if pixels else np.zeros((0, *size, 3), dtype=np.uint8)


def _signals(
    encoder: Encoder, images: Sequence[_Decoded], thumbnails: Mapping[View, NDArray[np.uint8]]
) -> tuple[dict[str, pa.Array], Mapping[int, RowFault]]:
    """Returns the signals of images, and the images on which the encoder failed."""
    embedded, hashes = encoder.encode_each(thumbnails[encoder.input.view])
    hashed = [image.hashed for image in images if image.hashed]
    signals = {
        "pdq": pa.array([one.pdq for one in hashed], pa.binary()),
        "pdq_quality": pa.array([one.pdq_quality for one in hashed], pa.int32()),
        "content": pa.array([one.content for one in hashed], pa.string()),
        "unframed": pa.array([one.quality.unframed for one in hashed], pa.float32()),
        "sharpness": pa.array([one.quality.sharpness for one in hashed], pa.float32()),
        "noise": pa.array([one.quality.noise for one in hashed], pa.float32()),
        "colour": pa.array(colourfulness(thumbnails[_GREY]), pa.float32()),
        "jpeg_quality": pa.array([one.jpeg_quality for one in hashed], pa.int32()),
        "edges": pa.array([one.edges for one in hashed], pa.binary()),
        "encoder": pa.array([encoder.digest] * len(images), pa.string()),
        "embedding": lists(embedded.embeddings),
        "embedding_hash": cells(hashes),
        "thumbnail": cells(decoding.grey(thumbnails[_GREY]).reshape(len(images), decoding.GREY_SIDE**2)),
    }
    return signals, embedded.faults


def _features(encoder: Encoder, thumbnails: Mapping[View, NDArray[np.uint8]], faults: _Faults) -> dict[str, pa.Array]:
    """Returns the features of images, null where the encoder failed, and notes where."""
    found = encoder.embed_each(thumbnails[encoder.input.view])
    faults.add_semantic(found.faults)
    count = len(found.embeddings)
    places = pa.array([None if row in found.faults else row for row in range(count)], pa.int32())
    embeddings = lists(found.embeddings)
    return {
        "semantic": pa.array([encoder.digest] * count, pa.string()),
        "features": embeddings.take(places) if found.faults else embeddings,
    }


def _mirrored(
    encoder: Encoder, images: Sequence[_Decoded], thumbnails: Mapping[View, NDArray[np.uint8]]
) -> dict[str, pa.Array]:
    """Returns the hashes of the mirror images of images, null where the encoder failed."""
    flipped = np.ascontiguousarray(thumbnails[encoder.input.view][:, :, ::-1])
    embedded, hashes = encoder.encode_each(flipped)
    failed = pa.array([row in embedded.faults for row in range(len(images))], pa.bool_())
    columns = {
        "mirror": pa.array([encoder.digest] * len(images), pa.string()),
        "mirror_pdq": pa.array([image.mirror_pdq for image in images], pa.binary()),
        "mirror_embedding": lists(embedded.embeddings),
        "mirror_hash": cells(hashes),
    }
    return {name: pc.if_else(failed, pa.scalar(None, column.type), column) for name, column in columns.items()}


def _unhashed(encoder: Encoder, ids: pa.Array, found: Mapping[int, RowFault]) -> pa.RecordBatch:
    """Returns the rows of images on which the perceptual encoder failed."""
    texts = {
        "encoder": [encoder.digest] * len(found),
        "reason": [fault.reason for fault in found.values()],
        "detail": [f"encoder {encoder.digest}: {fault.detail}" for fault in found.values()],
    }
    columns = {name: pa.array(column, pa.string()) for name, column in texts.items()}
    return _batch({"image_id": ids.take(pa.array(list(found), pa.int32())), **columns})


def _failed(ids: pa.Array, faults: list[decoding.ImageFault]) -> pa.RecordBatch:
    """Returns the rows of images that cannot be decoded."""
    reasons = {"reason": [fault.reason for fault in faults], "detail": [fault.detail for fault in faults]}
    return _batch({"image_id": ids, **{name: pa.array(texts, pa.string()) for name, texts in reasons.items()}})


def _batch(columns: Mapping[str, pa.Array]) -> pa.RecordBatch:
    """Returns rows of `SCORED` with the given columns; the others are null. Columns are faster than row objects."""
    count = len(columns["image_id"])
    arrays = [columns[field.name] if field.name in columns else pa.nulls(count, field.type) for field in _ARROW]
    return pa.RecordBatch.from_arrays(arrays, schema=_ARROW)
