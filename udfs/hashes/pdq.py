"""Computes PDQ, a perceptual hash that needs no training.

Source: Facebook, "The TMK+PDQF video-hashing algorithm and the PDQ image-hashing algorithm", 2019.
"""

import numpy as np
import pandas as pd
import pdqhash
from PIL import Image
from pyspark.sql.functions import pandas_udf
from pyspark.sql.types import BinaryType, IntegerType, StructField, StructType

from models.images import decoding
from models.images.resizing import View, thumbnail

PDQ_SIDE = 256
"""Side of the image that is hashed, in pixels. PDQ reduces it to 64, so a larger one would only cost time."""

PDQ_DISTANCE = 31
"""Largest PDQ distance of near-duplicates, in bits of 256, as recommended by its authors."""


def pdq_of(image: Image.Image) -> tuple[bytes, int]:
    """Returns the PDQ hash of an image and its quality.

    Args:
        image: 8-bit RGB of any size and aspect ratio.

    Returns:
        The 256 bits as 32 bytes, and the quality: 0 (plain) to 100 (detailed).

    Examples:
        >>> pdq_of(Image.new("RGB", (64, 64), "white"))[1]
        0
    """
    bits, quality = pdqhash.compute(thumbnail(image, View((PDQ_SIDE, PDQ_SIDE))))
    return np.packbits(np.asarray(bits, dtype=np.uint8)).tobytes(), int(quality)


@pandas_udf(StructType([StructField("hash", BinaryType()), StructField("quality", IntegerType())]))
def pdq(image: pd.Series) -> pd.DataFrame:
    """Returns the PDQ of a column of encoded images: a struct of `hash` (32 bytes) and `quality`.

    Both are null if an image cannot be decoded or has more than `decoding.MAX_MEGAPIXELS`.
    """
    rows = [_pdq_or_none(data) for data in image]
    return pd.DataFrame(rows, columns=["hash", "quality"]).astype({"quality": "Int32"})


def _pdq_or_none(data: bytes | None) -> tuple[bytes | None, int | None]:
    try:
        return pdq_of(decoding.decode(bytes(data or b""), PDQ_SIDE, decoding.MAX_MEGAPIXELS))
    except decoding.ImageFault:
        return None, None
