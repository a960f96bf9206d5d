"""Thumbnails in a page: made on the executors, collected in a bounded number, embedded as data URIs."""

import base64
import io
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

from PIL import Image
from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F

from models.images import decoding
from models.images.decoding import ImageFault

QUALITY = 70
_CAPTION_CHARACTERS, _KEY_CHARACTERS = 240, 80


@dataclass(frozen=True)
class Thumbnail:
    """A thumbnail of the page.

    Attributes:
        uri: The thumbnail as a `data:` URI; None if the image cannot be decoded or the page has no room left.
        caption: The start of the caption; None if there is none.
        width: Of the original, in pixels.
        height: Of the original, in pixels.
        key: The start of the key; None if there is no such image.
    """

    uri: str | None
    caption: str | None
    width: int | None
    height: int | None
    key: str | None = None


def data_uri(image: bytes, side: int) -> str | None:
    """Returns the thumbnail of an image; the aspect ratio is kept.

    Args:
        image: The bytes of an image file.
        side: Longest side of the thumbnail in pixels; a smaller image is not enlarged.

    Returns:
        A WebP file as a `data:` URI; None if the bytes are not an image.

    Examples:
        >>> buffer = io.BytesIO()
        >>> Image.new("RGB", (640, 320), "red").save(buffer, "PNG")
        >>> uri = data_uri(buffer.getvalue(), side=64)
        >>> Image.open(io.BytesIO(base64.b64decode(uri.partition(",")[2]))).size
        (64, 32)
    """
    file = webp(image, side)
    return None if file is None else "data:image/webp;base64," + base64.b64encode(file).decode("ascii")


def webp(image: bytes, side: int, quality: int = QUALITY, method: int = 4) -> bytes | None:
    """Returns the thumbnail of an image as a WebP file; None if the bytes are not an image.

    Args:
        image: The bytes of an image file.
        side: Longest side of the thumbnail in pixels; a smaller image is not enlarged.
        quality: Of WebP, 0 to 100.
        method: Effort of the encoder, 0 (fast) to 6 (small files).
    """
    try:
        picture = decoding.decode(image, min_side=side)
    except ImageFault:
        return None
    picture.thumbnail((side, side), Image.Resampling.LANCZOS)
    buffer = io.BytesIO()
    picture.save(buffer, "WEBP", quality=quality, method=method)
    return buffer.getvalue()


def data_uris(side: int) -> Callable[[Column], Column]:
    """Returns `data_uri` as a UDF from an image column to a string column.

    Args:
        side: Longest side in pixels.
    """
    import pandas as pd

    def convert(image: pd.Series) -> pd.Series:
        return image.map(lambda data: data_uri(bytes(data), side))

    wrapped: Callable[[Column], Column] = F.pandas_udf(convert, "string")
    return wrapped


def thumbnails(rows: DataFrame, wanted: DataFrame, side: int) -> DataFrame:
    """Returns the wanted rows of `images` with thumbnails.

    Args:
        rows: The table `images`.
        wanted: image_id; few enough rows for a broadcast.
        side: Longest side in pixels.

    Returns:
        image_id, key (its start), caption (its start), width, height, uri.
    """
    chosen = rows.join(F.broadcast(wanted), "image_id", "left_semi")
    caption = F.substring("caption", 1, _CAPTION_CHARACTERS).alias("caption")
    key = F.substring("key", 1, _KEY_CHARACTERS).alias("key")
    return chosen.select("image_id", key, caption, "width", "height", data_uris(side)(F.col("image")).alias("uri"))


def fetch(rows: DataFrame, image_ids: Iterable[str], side: int, budget: int) -> Mapping[str, Thumbnail]:
    """Returns thumbnails by image_id.

    Args:
        rows: The table `images`.
        image_ids: A bounded number of ids, the most important first.
        side: Longest side in pixels.
        budget: Largest total size of the URIs in bytes; the least important images get none.
    """
    order = list(dict.fromkeys(image_ids))
    if not order:
        return {}
    wanted = rows.sparkSession.createDataFrame([(i,) for i in order], "image_id string")
    found = {row.image_id: row for row in thumbnails(rows, wanted, side).collect()}
    made = {}
    for image_id in order:
        row = found.get(image_id)
        size = len(row.uri) if row and row.uri else 0
        uri = row.uri if row and size <= budget else None
        budget -= size if uri else 0
        made[image_id] = Thumbnail(uri, row and row.caption, row and row.width, row and row.height, row and row.key)
    return made
