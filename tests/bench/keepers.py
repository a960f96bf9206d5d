"""Measures which image of a group `dedup` keeps: the original, or a copy that is worse.

    python -m tests.bench.keepers --images FOLDER_OR_TAR... [--limit N] [--quality 90]

Every image is changed in each of the ways below and saved as JPEG. Original and copy make a group of two; the last row
has groups of an original with all of its copies. The values that decide are those that `score` measures, and the groups
go through `near_duplicates`. Only the hashes are made up, so that each copy is found.
"""

import argparse
import hashlib
import io
import itertools
import tempfile
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFilter, ImageFont, ImageOps

from jobs.commands.dedup.near_duplicates import NearDuplicateConfig, near_duplicates
from jobs.matching.rule import Rule
from jobs.runtime import config
from jobs.runtime.scratch import Scratch
from jobs.runtime.session import get_session
from models.images import decoding
from models.images.edges import edge_map
from models.images.quality import QUALITY_SIDE, colourfulness, jpeg_quality, quality
from models.images.resizing import View, thumbnail
from tests.bench.copies import CHANGES, Change, Rng, files
from udfs.hashes.pdq import PDQ_DISTANCE, PDQ_SIDE

ALL = "all of these"
_BITS = 9  # between a copy and its original


def _letterboxed(image: Image.Image, rng: Rng) -> Image.Image:
    wide = image.width > image.height
    sides = (image.width, image.height * 4 // 3) if wide else (image.width * 4 // 3, image.height)
    return ImageOps.pad(image, sides, color="black")


def _framed_within(image: Image.Image, rng: Rng) -> Image.Image:
    frame = max(int(0.05 * min(image.size)), 1)
    inner = image.resize((max(image.width - 2 * frame, 8), max(image.height - 2 * frame, 8)))
    return ImageOps.expand(inner, frame, ("black", "white", "#b03020")[int(rng.integers(3))])


def _watermarked(image: Image.Image, rng: Rng) -> Image.Image:
    layer = Image.new("RGBA", image.size, (0, 0, 0, 0))
    font = ImageFont.load_default(max(image.height // 8, 10))
    for top in range(0, image.height, max(image.height // 3, 1)):
        place = (image.width * 0.1, top + image.height * 0.08)
        ImageDraw.Draw(layer).text(place, "stock photo", font=font, fill=(255, 255, 255, 110))
    return Image.alpha_composite(image.convert("RGBA"), layer).convert("RGB")


def _with_logo(image: Image.Image, rng: Rng) -> Image.Image:
    copy, (width, height) = image.copy(), image.size
    draw = ImageDraw.Draw(copy)
    draw.rectangle((width * 0.75, height * 0.85, width * 0.97, height * 0.96), fill="#204080")
    draw.text((width * 0.77, height * 0.86), "LOGO", font=ImageFont.load_default(max(height // 12, 8)), fill="white")
    return copy


def _with_strip(image: Image.Image, rng: Rng) -> Image.Image:
    strip = max(int(0.12 * image.height), 8)
    page = Image.new("RGB", (image.width, image.height + strip), "white")
    page.paste(image)
    font = ImageFont.load_default(max(int(strip * 0.6), 8))
    place = (image.width * 0.05, image.height + strip * 0.15)
    ImageDraw.Draw(page).text(place, "when it is Monday again", font=font, fill="black")
    return page


def _noise(sigma: float) -> Change:
    def change(image: Image.Image, rng: Rng) -> Image.Image:
        pixels = np.asarray(image, np.float32) + rng.normal(0, sigma, (image.height, image.width, 3))
        return Image.fromarray(pixels.clip(0, 255).astype(np.uint8))

    return change


def _enlarged(by: float, how: Image.Resampling) -> Change:
    return lambda image, rng: image.resize((int(image.width * by), int(image.height * by)), how)


def _reduced_and_enlarged(image: Image.Image, rng: Rng) -> Image.Image:
    half = image.resize((max(image.width // 2, 8), max(image.height // 2, 8)), Image.Resampling.LANCZOS)
    return half.resize(image.size, Image.Resampling.BICUBIC)


_How = Image.Resampling
KINDS: dict[str, Change] = {
    "frame of 4 %": CHANGES["border 4 %"],
    "frame of 8 %": CHANGES["border 8 %"],
    "frame, same size": _framed_within,
    "letterbox": _letterboxed,
    "text": CHANGES["text"],
    "watermark": _watermarked,
    "logo": _with_logo,
    "strip with text": _with_strip,
    "enlarged 1.6 ×, bicubic": _enlarged(1.6, _How.BICUBIC),
    "enlarged 2 ×, bilinear": _enlarged(2, _How.BILINEAR),
    "enlarged 2 ×, Lanczos": _enlarged(2, _How.LANCZOS),
    "enlarged 3 ×, bicubic": _enlarged(3, _How.BICUBIC),
    "halved and enlarged": _reduced_and_enlarged,
    "blur 1 px": lambda image, rng: image.filter(ImageFilter.GaussianBlur(1)),
    "blur 2 px": CHANGES["blur 2 px"],
    "sharpen 100 %": lambda image, rng: image.filter(ImageFilter.UnsharpMask(2, 100, 3)),
    "sharpen 200 %": CHANGES["sharpen"],
    "noise 6": _noise(6),
    "noise 12": _noise(12),
    "noise 25": _noise(25),
    "JPEG quality 50": CHANGES["JPEG quality 50"],
    "JPEG quality 20": CHANGES["JPEG quality 20"],
    "resize 0.7": lambda image, rng: image.resize((max(int(image.width * 0.7), 8), max(int(image.height * 0.7), 8))),
    "resize 0.4": CHANGES["resize 0.4"],
    "resize 0.95": lambda image, rng: image.resize((max(int(image.width * 0.95), 8), max(int(image.height * 0.95), 8))),
    "JPEG quality 75": lambda image, rng: image,
    "grey": CHANGES["grey"],
}


def saved(image: Image.Image, quality: int) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=quality)
    return buffer.getvalue()


def signals(data: bytes) -> tuple[object, ...]:
    """Returns what `score` measures of an image: width, height, thumbnail and the values that rank it."""
    decoder = decoding.Decoder(data)
    small = decoder.at_least(PDQ_SIDE)
    side = (decoding.GREY_SIDE, decoding.GREY_SIDE)
    rgb = thumbnail(small, View(side))[None]
    luma, jpeg = decoder.luma(QUALITY_SIDE), decoder.jpeg_tables
    found, edges = quality(luma, decoder.size), edge_map(luma)
    grey, colour = decoding.grey(rgb)[0].tobytes(), float(colourfulness(rgb)[0])
    values = (found.unframed, found.sharpness, found.noise, colour, jpeg_quality(jpeg) if jpeg else None)
    return (*decoder.size, grey, *values, None if edges is None else edges.tobytes())


def members(numbered: tuple[int, bytes], copies: int) -> list[tuple[str, str, tuple[object, ...]]]:
    """Returns kind, image_id and signals of an original and of its copies."""
    number, data = numbered
    image = decoding.decode(data, 1 << 15)
    found = [("original", data)]
    for kind, change in KINDS.items():
        changed = change(image, np.random.default_rng([7, number]))
        # The tables of these kinds are what is measured.
        found.append((kind, saved(changed, int(kind.split()[-1]) if kind.startswith("JPEG") else copies)))
    return [(kind, hashlib.sha256(one).hexdigest()[:32], signals(one)) for kind, one in found]


def rows_of(groups: list[list[tuple[str, str, tuple[object, ...]]]], seed: int) -> Iterator[tuple[object, ...]]:
    """Returns a row for each image of each group, with a hash near the others of its group."""
    rng = np.random.default_rng(seed)
    for number, group in enumerate(groups):
        original = group[0]
        sets = [(kind, [original, one]) for kind, *_ in group[1:] for one in group[1:] if one[0] == kind]
        for name, own in [*sets, (ALL, group)]:
            base = rng.integers(0, 256, 32, dtype=np.uint8)
            for kind, image_id, values in own:
                # An original is in many groups, so its id is made of that of the group too.
                unique = hashlib.sha256(f"{name} {number} {image_id}".encode()).hexdigest()[:32]
                yield name, number, kind, unique, _near(base, rng), *values


def _near(base: NDArray[np.uint8], rng: Rng) -> bytes:
    bits = np.unpackbits(base)
    bits[rng.choice(256, _BITS, replace=False)] ^= 1
    return bytes(np.packbits(bits))


def main() -> None:
    """Prints how many originals are kept, for each kind of change."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--images", nargs="+", type=Path, required=True)
    parser.add_argument("--limit", type=int)
    parser.add_argument("--quality", type=int, default=90, help="JPEG quality of the copies")
    parser.add_argument("--rank", nargs="+", help="`dedup.rank`; the default without it")
    given = parser.parse_args()
    data = list(itertools.islice(itertools.chain.from_iterable(files(place) for place in given.images), given.limit))
    with ProcessPoolExecutor() as pool:
        groups = list(pool.map(partial(members, copies=given.quality), enumerate(data), chunksize=8))
    names = ["set", "number", "kind", "image_id", "pdq", "width", "height", "thumbnail", "unframed", "sharpness"]
    names += ["noise", "colour", "jpeg_quality", "edges"]
    table = pa.Table.from_pylist([dict(zip(names, row, strict=True)) for row in rows_of(groups, 0)])
    kept = originals_kept(table, given.rank)
    print(f"{len(data)} images; share of the groups whose original is kept\n\n| copy | originals kept, % |\n|---|---:|")
    for name in [*KINDS, ALL]:
        print(f"| {name} | {100 * kept[name] / len(data):.1f} |")


def originals_kept(table: pa.Table, rank: list[str] | None) -> dict[str, int]:
    """Returns the number of originals that `near_duplicates` keeps, for each set."""
    spark = get_session(config.load().spark)
    frame = spark.createDataFrame(table.to_pandas()).selectExpr(
        "*", "'encoder' as encoder", "100 as pdq_quality", "pdq as embedding_hash", "array(1f) as embedding",
        "image_id as content", "'a caption' as caption",
    ).cache()  # fmt: skip
    chosen = {} if rank is None else {"rank": rank}
    settings = NearDuplicateConfig.with_defaults(Rule("pdq", "encoder", PDQ_DISTANCE, 50), recall=0.999, **chosen)
    images = frame.select("image_id", "width", "height", "caption")
    with tempfile.TemporaryDirectory() as folder, Scratch(spark, folder) as scratch:
        found = near_duplicates(frame, images, settings, scratch)
        lost = {row.removed_id for row in found.removed.select("removed_id").collect()}
    originals = table.filter(pc.equal(table["kind"], "original")).to_pylist()
    counts = dict.fromkeys([*KINDS, ALL], 0)
    for row in originals:
        counts[row["set"]] += row["image_id"] not in lost
    return counts


if __name__ == "__main__":
    main()
