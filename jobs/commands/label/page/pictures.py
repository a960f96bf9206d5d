"""Pictures for the label page: read from the lake ahead of time, made fit for a browser, kept in memory only."""

import io
import threading
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

import pandas as pd
from pyspark.errors import AnalysisException
from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F

from jobs.lake import tables
from jobs.lake.lake import Lake
from models.images import decoding
from models.images.decoding import ImageFault

_MEDIA = {fmt: f"image/{fmt.lower()}" for fmt in ("JPEG", "PNG", "WEBP", "GIF", "BMP", "AVIF")}
_JPEG_QUALITY = 90
# Files beyond this are made smaller even if their sides are short: a loopback is fast, a house network is not.
_MOST_BYTES = 1 << 20
_CAPTION_CHARACTERS = 600
# How many answered pictures stay, so that an undo shows one at once.
_KEPT = 60


@dataclass(frozen=True)
class Picture:
    """A picture as the page shows it.

    Attributes:
        media_type: Of `data`.
        data: An image file that every browser shows.
        caption: The start of its caption.
        key: Its name in the source.
        width: Of the original, in pixels.
        height: Of the original, in pixels.
    """

    media_type: str
    data: bytes
    caption: str
    key: str
    width: int
    height: int


def for_browser(image: bytes, side: int) -> tuple[str, bytes] | None:
    """An image as a file that every browser shows, of moderate size.

    A file that browsers know and that is small enough stays as it is; a larger one becomes a smaller JPEG, and what
    browsers do not show (TIFF) a PNG.

    Args:
        image: The bytes of an image file.
        side: Longest side in pixels.

    Returns:
        Media type and bytes; None where it cannot be decoded.

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
        picture = decoding.decode(image, min_side=side)
    except ImageFault:
        return None
    picture.thumbnail((side, side))
    buffer = io.BytesIO()
    if known:
        picture.save(buffer, "JPEG", quality=_JPEG_QUALITY)
        return "image/jpeg", buffer.getvalue()
    picture.save(buffer, "PNG")
    return "image/png", buffer.getvalue()


def shown(rows: DataFrame, side: int) -> DataFrame:
    """Images made fit for a browser.

    Args:
        rows: Of the table images.
        side: Longest side in pixels.

    Returns:
        image_id, caption (its start), key, width, height, shown struct of media_type and data (null where the image
        cannot be decoded).
    """
    caption = F.substring("caption", 1, _CAPTION_CHARACTERS).alias("caption")
    return rows.select("image_id", caption, "key", "width", "height", _for_browser(side)(F.col("image")).alias("shown"))


def _for_browser(side: int) -> Callable[[Column], Column]:
    def convert(image: pd.Series) -> pd.DataFrame:
        made = [for_browser(bytes(data), side) if data is not None else None for data in image]
        return pd.DataFrame([one or (None, None) for one in made], columns=["media_type", "data"])

    wrapped: Callable[[Column], Column] = F.pandas_udf(convert, "media_type string, data binary")
    return wrapped


class PagePictures:
    """The pictures that people will see next.

    They never touch the disk: many of them are such that nobody wants to find them there.

    Args:
        lake: Where the table images lies.
        side: Longest side in pixels.
    """

    def __init__(self, lake: Lake, side: int) -> None:
        self._lake, self._side = lake, side
        self._files: dict[str, str] = {}
        self._there: dict[str, Picture] = {}
        self._changed = threading.Condition()
        self._urgent: set[str] = set()

    def has(self, image_id: str) -> bool:
        """Whether the picture can be shown at once."""
        return image_id in self._there

    def get(self, image_id: str, wait: float = 0.0) -> Picture | None:
        """A picture; with `wait`, seconds that it may take to be read from the lake."""
        with self._changed:
            if image_id not in self._there and wait:
                self._urgent.add(image_id)
                self._changed.wait_for(lambda: image_id in self._there, wait)
                self._urgent.discard(image_id)
            return self._there.get(image_id)

    @property
    def urgent(self) -> set[str]:
        """Pictures that somebody waits for."""
        with self._changed:
            return set(self._urgent)

    def locate(self, image_ids: Iterable[str]) -> list[str]:
        """Finds out in which files the pictures lie, and returns those that the lake has not."""
        wanted = [i for i in image_ids if i not in self._files]
        if wanted:
            ids = self._lake.spark.createDataFrame([(i,) for i in wanted], "image_id string")
            named = self._lake.read(tables.IMAGES).select("image_id", F.col("_metadata.file_path").alias("file"))
            found = named.join(F.broadcast(ids), "image_id", "left_semi")
            self._files.update({row.image_id: row.file for row in found.collect()})
        return [i for i in wanted if i not in self._files]

    def fetch(self, image_ids: Iterable[str]) -> list[str]:
        """Reads pictures, and returns those that cannot be shown.

        Args:
            image_ids: A bounded number, located before.
        """
        wanted = [i for i in image_ids if i in self._files]
        if not wanted:
            return []
        try:
            rows = self._lake.read_files(tables.IMAGES, sorted({self._files[i] for i in wanted}))
            found = self._read(rows, wanted)
        except AnalysisException:
            # The table was rewritten since: its files have other names now.
            found = self._read(self._lake.read(tables.IMAGES), wanted)
        with self._changed:
            self._there.update(found)
            self._changed.notify_all()
        return [i for i in wanted if i not in found]

    def keep(self, image_ids: Iterable[str]) -> None:
        """Forgets all pictures but these and the last ones that were read before them."""
        with self._changed:
            wanted = set(image_ids)
            others = [i for i in self._there if i not in wanted]
            for image_id in others[:-_KEPT]:
                del self._there[image_id]

    def _read(self, rows: DataFrame, image_ids: list[str]) -> Mapping[str, Picture]:
        found = shown(rows.where(F.col("image_id").isin(image_ids)), self._side).collect()
        return {
            row.image_id: Picture(
                row.shown.media_type, bytes(row.shown.data), row.caption or "", row.key or "", row.width, row.height
            )
            for row in found
            if row.shown is not None and row.shown.data is not None
        }
