"""Measures which copies of real images PDQ, pHash and an encoder find, by change.

    python tests/bench/copies.py --images FOLDER_OR_TAR... [--encoder FILE.onnx] [--limit 200]

Every image is changed in each of the ways below. A copy is found if its hash is within a distance of its original's
hash: the method's own threshold, or the distance at which one in a million pairs of different images collide.
"""

import argparse
import io
import itertools
import tarfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import imagehash
import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageEnhance, ImageFilter, ImageFont, ImageOps

from models.images import decoding
from models.images.resizing import View, thumbnail
from models.inference import encoder
from models.training.measure import COLLISIONS, distance_at
from models.training.ship import originals
from udfs.hashes.pdq import PDQ_DISTANCE, pdq_of

Rng = np.random.Generator
Change = Callable[[Image.Image, Rng], Image.Image]
Bits = NDArray[np.uint8]

ENDINGS = (".jpg", ".jpeg", ".png", ".webp")
PHASH_DISTANCE = 10
"""The usual threshold of imagededup and fastdup for the 64 bits of pHash."""


def _recoded(quality: int) -> Change:
    def change(image: Image.Image, rng: Rng) -> Image.Image:
        buffer = io.BytesIO()
        image.save(buffer, "JPEG", quality=quality)
        return Image.open(buffer).convert("RGB")

    return change


def _resized(scale: float) -> Change:
    return lambda image, rng: image.resize((max(int(image.width * scale), 8), max(int(image.height * scale), 8)))


def _cropped(share: float) -> Change:
    def change(image: Image.Image, rng: Rng) -> Image.Image:
        cut_x, cut_y = image.width * share, image.height * share
        x, y = rng.uniform(0, cut_x), rng.uniform(0, cut_y)
        return image.crop((int(x), int(y), int(x + image.width - cut_x), int(y + image.height - cut_y)))

    return change


def _shifted(share: float) -> Change:
    def change(image: Image.Image, rng: Rng) -> Image.Image:
        x, y = (rng.choice([-1, 1], 2) * share * np.array(image.size)).astype(int)
        ground = Image.new("RGB", image.size, "white")
        ground.paste(image, (int(x), int(y)))
        return ground

    return change


def _bordered(share: float) -> Change:
    def change(image: Image.Image, rng: Rng) -> Image.Image:
        colour = ("black", "white", "#b03020")[int(rng.integers(3))]
        return ImageOps.expand(image, int(share * min(image.size)), colour)

    return change


def _captioned(image: Image.Image, rng: Rng) -> Image.Image:
    image = image.copy()
    font = ImageFont.load_default(max(image.height // 9, 8))
    place = (image.width * rng.uniform(0, 0.3), image.height * rng.uniform(0, 0.85))
    ImageDraw.Draw(image).text(place, "winnow.example", font=font, fill="white", stroke_width=1, stroke_fill="black")
    return image


def _rehued(image: Image.Image, rng: Rng) -> Image.Image:
    hue, saturation, value = image.convert("HSV").split()
    hue = hue.point(lambda level: (level + 20) % 256)
    return Image.merge("HSV", (hue, saturation, value)).convert("RGB")


def _noisy(image: Image.Image, rng: Rng) -> Image.Image:
    pixels = np.asarray(image, dtype=np.float32) + rng.normal(0, 12, (image.height, image.width, 3))
    return Image.fromarray(pixels.clip(0, 255).astype(np.uint8))


def _rotated(image: Image.Image, rng: Rng) -> Image.Image:
    return image.rotate(float(rng.choice([-2, 2])), Image.Resampling.BILINEAR)


def _enhanced(enhancer: Callable[[Image.Image], ImageEnhance._Enhance], factor: float) -> Change:
    return lambda image, rng: enhancer(image).enhance(factor)


def _filtered(kernel: ImageFilter.Filter) -> Change:
    return lambda image, rng: image.filter(kernel)


CHANGES: dict[str, Change] = {
    "JPEG quality 90": _recoded(90),
    "JPEG quality 50": _recoded(50),
    "JPEG quality 20": _recoded(20),
    "resize 0.4": _resized(0.4),
    "resize 1.6": _resized(1.6),
    "crop 5 %": _cropped(0.05),
    "crop 10 %": _cropped(0.10),
    "crop 20 %": _cropped(0.20),
    "shift 4 %": _shifted(0.04),
    "shift 6 %": _shifted(0.06),
    "border 4 %": _bordered(0.04),
    "border 8 %": _bordered(0.08),
    "text": _captioned,
    "brightness +30 %": _enhanced(ImageEnhance.Brightness, 1.3),
    "brightness −30 %": _enhanced(ImageEnhance.Brightness, 0.7),
    "contrast +40 %": _enhanced(ImageEnhance.Contrast, 1.4),
    "contrast −40 %": _enhanced(ImageEnhance.Contrast, 0.6),
    "saturation +60 %": _enhanced(ImageEnhance.Color, 1.6),
    "hue +28°": _rehued,
    "grey": lambda image, rng: ImageOps.grayscale(image).convert("RGB"),
    "blur 2 px": _filtered(ImageFilter.GaussianBlur(2)),
    "sharpen": _filtered(ImageFilter.UnsharpMask(2, 200, 2)),
    "noise 12": _noisy,
    "rotate 2°": _rotated,
    # These results are different images, not copies. They should not be found.
    "mirrored": lambda image, rng: ImageOps.mirror(image),
    "rotate 90°": lambda image, rng: image.transpose(Image.Transpose.ROTATE_90),
}
# Real copies often have more than one change; these are examples of two.
GEOMETRY = ("crop 5 %", "crop 10 %", "shift 4 %", "border 4 %", "border 8 %", "rotate 2°", "resize 0.4")
TOUCH = ("JPEG quality 20", "text", "brightness −30 %", "contrast +40 %", "hue +28°", "grey", "blur 2 px", "noise 12")


def _twice(image: Image.Image, rng: Rng) -> Image.Image:
    first, second = rng.choice(GEOMETRY), rng.choice(TOUCH)
    return CHANGES[str(second)](CHANGES[str(first)](image, rng), rng)


@dataclass(frozen=True)
class Method:
    """A hash to compare.

    Attributes:
        name: In the table.
        bits: Hashes pictures, n of them, to 0 and 1 of shape (n, bits).
        threshold: Its recommended distance.
    """

    name: str
    bits: Callable[[list[Image.Image]], Bits]
    threshold: int


def methods(model: bytes) -> list[Method]:
    """Returns PDQ, pHash and the encoder."""
    own = encoder.Encoder.load(model)

    def embed(pictures: list[Image.Image]) -> Bits:
        thumbs = np.stack([thumbnail(picture, View(own.size)) for picture in pictures])
        return np.unpackbits(own.encode(thumbs)[1], axis=1)

    def pdq(pictures: list[Image.Image]) -> Bits:
        return np.unpackbits(np.stack([np.frombuffer(pdq_of(p)[0], np.uint8) for p in pictures]), axis=1)

    def phash(pictures: list[Image.Image]) -> Bits:
        return np.stack([imagehash.phash(picture).hash.ravel() for picture in pictures]).astype(np.uint8)

    return [
        Method("PDQ", pdq, PDQ_DISTANCE),
        Method("pHash", phash, PHASH_DISTANCE),
        Method("encoder", embed, own.presumed_distance),
    ]


def different_pairs(bits: Bits) -> NDArray[np.float32]:
    """Returns the distances of all pairs, of shape (n (n - 1) / 2,)."""
    signs = bits.astype(np.float32) * 2 - 1
    return ((bits.shape[1] - signs @ signs.T) / 2)[np.triu_indices(len(bits), 1)]


def distances(methods: list[Method], pictures: list[Image.Image]) -> Iterator[tuple[str, list[NDArray[np.int64]]]]:
    """Returns, for each change and method, the distance of every copy from its original."""
    originals = [method.bits(pictures) for method in methods]
    for name, change in [*CHANGES.items(), ("two changes", _twice)]:
        copies = [change(picture, np.random.default_rng([7, i])) for i, picture in enumerate(pictures)]
        pairs = zip(methods, originals, strict=True)
        yield name, [(m.bits(copies) != bits).sum(axis=1).astype(np.int64) for m, bits in pairs]


def load(places: list[Path], limit: int | None) -> list[Image.Image]:
    """Returns the images of folders and tar files, in the order of their names; of a generated set, the originals."""
    found = itertools.chain.from_iterable(files(place) for place in places)
    return [decoding.decode(data, 512) for data in itertools.islice(found, limit)]


def files(place: Path) -> Iterator[bytes]:
    if (place / "truth.parquet").exists():
        yield from (file.read_bytes() for file in originals(place))
        return
    if place.is_dir():
        yield from (file.read_bytes() for file in sorted(place.rglob("*")) if file.suffix.lower() in ENDINGS)
        return
    with tarfile.open(place) as tar:
        members = sorted((m for m in tar.getmembers() if m.name.lower().endswith(ENDINGS)), key=lambda m: m.name)
        for member in members:
            file = tar.extractfile(member)
            if file is not None:
                yield file.read()


def main() -> None:
    parser = argparse.ArgumentParser(description="Recall of copies by change.")
    parser.add_argument("--images", nargs="+", type=Path, required=True, help="folders or tar files")
    parser.add_argument("--encoder", type=Path, help="ONNX file; the shipped one without it")
    parser.add_argument("--limit", type=int, help="maximum number of images")
    arguments = parser.parse_args()
    model = arguments.encoder.read_bytes() if arguments.encoder else encoder.shipped()
    pictures = load(arguments.images, arguments.limit)
    compared = methods(model)
    different = [different_pairs(method.bits(pictures)) for method in compared]
    free = [distance_at(pairs, COLLISIONS) for pairs in different]
    print(f"{len(pictures)} pictures, {len(different[0])} different pairs")
    for method, pairs in zip(compared, different, strict=True):
        lowest = ", ".join(f"{d:.0f}" for d in np.sort(pairs)[:10:2])
        near = (pairs <= method.threshold).sum()
        print(f"{method.name}: nearest different pairs at {lowest} bits; {near} pairs too near")
    heads = [f"{m.name} ≤ {d}" for m, f in zip(compared, free, strict=True) for d in (m.threshold, f)]
    print(f"\n| change | {' | '.join(heads)} | encoder median | 99 % |\n|---|{'---:|' * (len(heads) + 2)}")
    for name, by_method in distances(compared, pictures):
        shares = [(d <= t).mean() for d, m, f in zip(by_method, compared, free, strict=True) for t in (m.threshold, f)]
        cells = " | ".join(f"{100 * share:.1f}" for share in shares)
        print(
            f"| {name} | {cells} | {np.median(by_method[-1]):.0f} | {np.quantile(by_method[-1], 0.99):.0f} |",
            flush=True,
        )


if __name__ == "__main__":
    main()
