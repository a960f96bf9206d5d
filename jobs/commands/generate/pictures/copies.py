"""The changes that make a near-duplicate, as by uploading again, resizing and editing."""

from collections.abc import Callable
from types import MappingProxyType

from PIL import Image, ImageColor, ImageDraw, ImageEnhance, ImageFilter, ImageOps

from jobs.commands.generate.pictures.motifs.styles import grain
from jobs.commands.generate.pictures.primitives.canvas import load_font
from jobs.commands.generate.pictures.primitives.randomness import Rng, between, chance, pick, pick_weighted

Change = Callable[[Image.Image, Rng], Image.Image]


def same(image: Image.Image, rng: Rng) -> Image.Image:
    """Changes nothing; the file is encoded again, at any quality."""
    return image


def resize(image: Image.Image, rng: Rng) -> Image.Image:
    """Resizes to 0.4 to 1.6 times the size."""
    factor = pick(rng, (between(rng, 0.4, 0.9), between(rng, 1.1, 1.6)))
    return image.resize(
        (max(16, round(image.width * factor)), max(16, round(image.height * factor))), Image.Resampling.BICUBIC
    )


def crop(image: Image.Image, rng: Rng) -> Image.Image:
    """Crops up to 10 % of the width and height."""
    left, top = between(rng, 0, 0.05), between(rng, 0, 0.05)
    right, bottom = 1 - between(rng, 0.0, 0.05), 1 - between(rng, 0.0, 0.05)
    return image.crop(
        (round(left * image.width), round(top * image.height), round(right * image.width), round(bottom * image.height))
    )


def shift(image: Image.Image, rng: Rng) -> Image.Image:
    """Shifts by up to 6 %, and fills the gap with one colour or the picture's edge."""
    dx, dy = (round(between(rng, -0.06, 0.06) * side) for side in image.size)
    moved = Image.new("RGB", image.size, _plain(rng)) if chance(rng, 0.5) else image.copy()
    moved.paste(image, (dx, dy))
    return moved


def brightness(image: Image.Image, rng: Rng) -> Image.Image:
    """Darkens or brightens."""
    return ImageEnhance.Brightness(image).enhance(pick(rng, (between(rng, 0.7, 0.92), between(rng, 1.08, 1.3))))


def contrast(image: Image.Image, rng: Rng) -> Image.Image:
    """Lowers or raises the contrast."""
    return ImageEnhance.Contrast(image).enhance(pick(rng, (between(rng, 0.65, 0.9), between(rng, 1.1, 1.4))))


def hue(image: Image.Image, rng: Rng) -> Image.Image:
    """Rotates all hues by up to a sixth of the circle."""
    turn = int(rng.integers(10, 42)) * pick(rng, (-1, 1))
    hue_band, saturation, value = image.convert("HSV").split()
    turned = hue_band.point([(level + turn) % 256 for level in range(256)])
    return Image.merge("HSV", (turned, saturation, value)).convert("RGB")


def grey(image: Image.Image, rng: Rng) -> Image.Image:
    """Removes the colour."""
    return ImageOps.grayscale(image).convert("RGB")


def text(image: Image.Image, rng: Rng) -> Image.Image:
    """Adds a line of text at the top, the middle or the bottom."""
    changed = image.copy()
    draw = ImageDraw.Draw(changed)
    words = pick(rng, ("SALE", "stock image", "www.example.com", "preview", "free download", "NEW", "sample"))
    size = max(10, round(min(image.height * 0.08, image.width * 1.2 / len(words)) * between(rng, 0.7, 1.0)))
    at = (image.width * between(rng, 0.35, 0.65), image.height * pick(rng, (0.07, 0.5, 0.93)))
    fill, rim = pick(rng, (("white", "black"), ("black", "white"), ("#ffd54a", "black")))
    draw.text(
        at,
        words,
        fill=fill,
        stroke_fill=rim,
        stroke_width=max(1, size // 14),
        font=load_font("Sans-Bold", size),
        anchor="mm",
    )
    return changed


def border(image: Image.Image, rng: Rng) -> Image.Image:
    """Adds a frame of one colour, up to 8 % of the shorter side."""
    width = max(1, round(min(image.size) * between(rng, 0.02, 0.08)))
    return ImageOps.expand(image, border=width, fill=_plain(rng))


def sharpen(image: Image.Image, rng: Rng) -> Image.Image:
    """Sharpens edges."""
    return image.filter(ImageFilter.UnsharpMask(radius=2, percent=int(rng.integers(80, 200)), threshold=2))


def blur(image: Image.Image, rng: Rng) -> Image.Image:
    """Blurs slightly."""
    return image.filter(ImageFilter.GaussianBlur(min(image.size) / 200 * between(rng, 0.6, 1.6)))


def noise(image: Image.Image, rng: Rng) -> Image.Image:
    """Adds mild grain."""
    return grain(image, rng, between(rng, 4, 10))


CHANGES: MappingProxyType[str, Change] = MappingProxyType(
    {
        "reencode": same,
        "resize": resize,
        "crop": crop,
        "shift": shift,
        "brightness": brightness,
        "contrast": contrast,
        "hue": hue,
        "grey": grey,
        "text": text,
        "border": border,
        "sharpen": sharpen,
        "blur": blur,
        "noise": noise,
    }
)
_WEIGHTS = MappingProxyType({name: 2.0 if name in ("reencode", "resize", "crop") else 1.0 for name in CHANGES})
# Two changes that both move or hide parts of the picture could make more than a near-duplicate.
_MOVES = ("crop", "shift", "border")


def choose(rng: Rng) -> tuple[str, ...]:
    """Returns the names of one or two random changes."""
    first = pick_weighted(rng, _WEIGHTS)
    if chance(rng, 0.8):
        return (first,)
    others = {
        name: weight for name, weight in _WEIGHTS.items() if name != first and not (first in _MOVES and name in _MOVES)
    }
    return (first, pick_weighted(rng, others))


def apply(image: Image.Image, names: tuple[str, ...], rng: Rng) -> Image.Image:
    """Returns a changed copy of a picture.

    Args:
        image: 8-bit RGB.
        names: Keys of `CHANGES`, applied in order.
        rng: Random numbers for their strength.

    Returns:
        8-bit RGB, of another size after some changes.
    """
    for name in names:
        image = CHANGES[name](image, rng)
    return image


def _plain(rng: Rng) -> tuple[int, ...]:
    return ImageColor.getrgb(pick(rng, ("white", "black", "#808080", "#c04040", "#305080", "#e8e0d0")))
