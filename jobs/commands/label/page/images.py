"""Images of the label page: read from the lake ahead of time, converted for browsers, kept in memory only."""

import io
import threading
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from pyspark.errors import AnalysisException
from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F

from jobs.lake import tables
from jobs.lake.lake import Lake
from models.images import decoding
from models.images.decoding import ImageFault

_MEDIA = {fmt: f"image/{fmt.lower()}" for fmt in ("JPEG", "PNG", "WEBP", "GIF", "BMP", "AVIF")}
_JPEG_QUALITY = 90
# Larger files are made smaller even if their sides are short: the network may be slow.
_MOST_BYTES = 1 << 20
_CAPTION_CHARACTERS = 600
# How many answered images stay in memory, so that undo shows one at once.
_KEPT = 60


@dataclass(frozen=True)
class PageImage:
    """An image as the page shows it.

    Attributes:
        media_type: Media type of `data`.
        data: An image file that every browser can show.
        caption: The start of its caption.
        key: Its key in the source.
        width: Width of the original in pixels.
        height: Height of the original in pixels.
    """

    media_type: str
    data: bytes
    caption: str
    key: str
    width: int
    height: int


def for_browser(image: bytes, side: int) -> tuple[str, bytes] | None:
    """Returns an image as a file of moderate size that every browser can show.

    A small file in a format that browsers know stays as it is. A larger one becomes a smaller JPEG. A format that
    browsers do not show (TIFF) becomes a PNG.

    Args:
        image: The bytes of an image file.
        side: Longest side in pixels.

    Returns:
        Media type and bytes; None if the image cannot be decoded.

    Examples:
        >>> from PIL import Image
        >>> buffer = io.BytesIO()
        >>> Image.new("RGB", (64, 32), "red").save(buffer, "TIFF")
        >>> for_browser(buffer.getvalue(), side=48)[0]
        'image/png'
        >>> for_browser(b"no image", side=48) is None
        True
    """
    try:
        info = decoding.check(image, max_megapixels=float("inf"))
        known = _MEDIA.get(info.format)
        if known and max(info.width, info.height) <= side and len(image) <= _MOST_BYTES:
            return known, image
        decoded = decoding.decode(image, min_side=side)
    except ImageFault:
        return None
    decoded.thumbnail((side, side))
    buffer = io.BytesIO()
    if known:
        decoded.save(buffer, "JPEG", quality=_JPEG_QUALITY)
        return "image/jpeg", buffer.getvalue()
    decoded.save(buffer, "PNG")
    return "image/png", buffer.getvalue()


def browser_files(rows: DataFrame, side: int) -> DataFrame:
    """Converts images for browsers.

    Args:
        rows: Rows of the table images.
        side: Longest side in pixels.

    Returns:
        image_id, caption (its start), key, width, height, shown struct of media_type and data (null if the image
        cannot be decoded).
    """
    caption = F.substring("caption", 1, _CAPTION_CHARACTERS).alias("caption")
    return rows.select("image_id", caption, "key", "width", "height", _for_browser(side)(F.col("image")).alias("shown"))


def _for_browser(side: int) -> Callable[[Column], Column]:
    import pandas as pd

    def convert(image: pd.Series) -> pd.DataFrame:
        made = [for_browser(bytes(data), side) if data is not None else None for data in image]
        return pd.DataFrame([one or (None, None) for one in made], columns=["media_type", "data"])

    wrapped: Callable[[Column], Column] = F.pandas_udf(convert, "media_type string, data binary")
    return wrapped


class PageImages:
    """The images that people will see next.

    They stay in memory: people label images that nobody wants on their disk.

    Args:
        lake: The lake with the table images.
        side: Longest side in pixels.
    """

    def __init__(self, lake: Lake, side: int) -> None:
        self._lake, self._side = lake, side
        self._files: dict[str, str] = {}
        self._loaded: dict[str, PageImage] = {}
        self._changed = threading.Condition()
        self._urgent: set[str] = set()

    def has(self, image_id: str) -> bool:
        """Returns whether the image can be shown at once."""
        return image_id in self._loaded

    def located(self, image_id: str) -> bool:
        """Returns whether the image is one of those that were passed to `locate`, and is in the lake."""
        return image_id in self._files

    def facts(self, image_id: str) -> dict[str, Any]:
        """Returns what the page says of a queued image; nothing if it is not read yet."""
        image = self._loaded.get(image_id)
        return {"caption": image.caption, "key": image.key, "size": [image.width, image.height]} if image else {}

    def get(self, image_id: str, wait: float = 0.0) -> PageImage | None:
        """Returns an image; waits up to `wait` seconds until it is read from the lake, else returns None."""
        with self._changed:
            if image_id not in self._loaded and wait:
                self._urgent.add(image_id)
                self._changed.wait_for(lambda: image_id in self._loaded, wait)
                self._urgent.discard(image_id)
            return self._loaded.get(image_id)

    @property
    def urgent(self) -> set[str]:
        """Ids of images that a request is waiting for."""
        with self._changed:
            return set(self._urgent)

    def locate(self, image_ids: Iterable[str]) -> list[str]:
        """Finds the files in which the images are, and returns the ids that are not in the lake."""
        unknown = [i for i in image_ids if i not in self._files]
        if unknown:
            ids = self._lake.spark.createDataFrame([(i,) for i in unknown], "image_id string")
            named = self._lake.read(tables.IMAGES).select("image_id", F.col("_metadata.file_path").alias("file"))
            found = named.join(F.broadcast(ids), "image_id", "left_semi")
            self._files.update({row.image_id: row.file for row in found.collect()})
        return [i for i in unknown if i not in self._files]

    def fetch(self, image_ids: Iterable[str]) -> list[str]:
        """Reads images, and returns the ids of those that cannot be shown.

        Args:
            image_ids: A bounded number, passed to `locate` before.
        """
        located = [i for i in image_ids if i in self._files]
        if not located:
            return []
        try:
            rows = self._lake.read_files(tables.IMAGES, sorted({self._files[i] for i in located}))
            found = self._read(rows, located)
        except AnalysisException:
            # The table was rewritten since then: its files have other names now.
            found = self._read(self._lake.read(tables.IMAGES), located)
        with self._changed:
            self._loaded.update(found)
            self._changed.notify_all()
        return [i for i in located if i not in found]

    def keep(self, image_ids: Iterable[str]) -> None:
        """Drops all images except these and the others that were read last."""
        with self._changed:
            kept = set(image_ids)
            others = [i for i in self._loaded if i not in kept]
            for image_id in others[:-_KEPT]:
                del self._loaded[image_id]

    def _read(self, rows: DataFrame, image_ids: list[str]) -> Mapping[str, PageImage]:
        found = browser_files(rows.where(F.col("image_id").isin(image_ids)), self._side).collect()
        return {
            row.image_id: PageImage(
                row.shown.media_type, bytes(row.shown.data), row.caption or "", row.key or "", row.width, row.height
            )
            for row in found
            if row.shown is not None and row.shown.data is not None
        }
