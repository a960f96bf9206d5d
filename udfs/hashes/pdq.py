"""PDQ, the perceptual hash that needs no training.

Source: Facebook, "The TMK+PDQF video-hashing algorithm and the PDQ image-hashing algorithm", 2019.
"""

import numpy as np
import pandas as pd
import pdqhash
from PIL import Image
from pyspark.sql.functions import pandas_udf
from pyspark.sql.types import BinaryType, IntegerType, StructField, StructType

from models.images import decoding

PDQ_SIDE = 256
"""Pixels a side of the picture that is hashed: PDQ itself reduces it to 64, so that more only costs time."""

PDQ_DISTANCE = 31
"""Bits of 256 within which PDQ calls two pictures the same, as its authors recommend."""


def pdq_of(image: Image.Image) -> tuple[bytes, int]:
    """The PDQ hash of a picture and its quality.

    Args:
        image: 8-bit RGB of any size; its aspect does not count.

    Returns:
        The 256 bits as 32 bytes, and the quality: 0 (plain) to 100 (detailed).

    Examples:
        >>> pdq_of(Image.new("RGB", (64, 64), "white"))[1]
        0
    """
    bits, quality = pdqhash.compute(decoding.thumbnail(image, (PDQ_SIDE, PDQ_SIDE)))
    return np.packbits(np.asarray(bits, dtype=np.uint8)).tobytes(), int(quality)


@pandas_udf(StructType([StructField("hash", BinaryType()), StructField("quality", IntegerType())]))
def pdq(image: pd.Series) -> pd.DataFrame:
    """PDQ of a column of encoded images: a struct of `hash` (32 bytes) and `quality`.

    Both are null where an image does not decode or has more than `images.MAX_MEGAPIXELS`.
    """
    rows = [_pdq_or_none(data) for data in image]
    return pd.DataFrame(rows, columns=["hash", "quality"]).astype({"quality": "Int32"})


def _pdq_or_none(data: bytes | None) -> tuple[bytes | None, int | None]:
    try:
        return pdq_of(decoding.decode(bytes(data or b""), PDQ_SIDE, decoding.MAX_MEGAPIXELS))
    except decoding.ImageFault:
        return None, None
