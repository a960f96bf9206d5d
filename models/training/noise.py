"""Draws random pictures of shapes, textures and text, on which an encoder learns to distinguish images.

Representations learned from such pictures work on photographs nearly as well as those learned from photographs, so the
shipped encoder needs no real images.

Source: Baradad Jurjo et al., "Learning to see by looking at noise", NeurIPS 2021: dead leaves and 1/f spectra.
"""

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFilter, ImageFont

Rng = np.random.Generator
Colour = tuple[int, int, int]

_CANVAS = 160
_LETTERS = "etaoinshrdlucmfwypvbgkjqxzETAOINSHRDLU0123456789&?!%"


def picture(seed: int, index: int, side: int) -> NDArray[np.uint8]:
    """Draws one picture.

    Args:
        seed: Seed of the whole set.
        index: Index of the picture in the set.
        side: Width and height, in pixels.

    Returns:
        uint8 of shape (side, side, 3), RGB; the same for the same arguments.

    Examples:
        >>> picture(0, 1, 64).shape
        (64, 64, 3)
        >>> bool((picture(0, 1, 64) == picture(0, 1, 64)).all()), bool((picture(0, 1, 64) == picture(0, 2, 64)).all())
        (True, False)
    """
    rng = np.random.default_rng([seed, index])
    image = _composition(rng)
    if rng.random() < 0.25:
        image = _blend(rng, image, _composition(rng))
    if rng.random() < 0.3:
        image = image.filter(ImageFilter.GaussianBlur(float(rng.uniform(0.3, 2.5))))
    image = _lit(rng, image) if rng.random() < 0.4 else image
    return np.asarray(image.resize((side, side), Image.Resampling.BILINEAR), dtype=np.uint8)


def pictures(seed: int, count: int, side: int) -> NDArray[np.uint8]:
    """Draws the first pictures of a set.

    Args:
        seed: Seed of the set.
        count: Number of pictures.
        side: Width and height, in pixels.

    Returns:
        uint8 of shape (count, side, side, 3).
    """
    return np.stack([picture(seed, index, side) for index in range(count)])


def _composition(rng: Rng) -> Image.Image:
    kinds: Sequence[Callable[[Rng], Image.Image]] = (_leaves, _graphic, _scene, _texture, _pattern, _page)
    return kinds[rng.choice(len(kinds), p=[0.3, 0.2, 0.25, 0.1, 0.08, 0.07])](rng)


def _leaves(rng: Rng) -> Image.Image:
    """Draws "dead leaves": shapes over shapes, with sizes from a power law."""
    palette = _palette(rng)
    image = _texture(rng) if rng.random() < 0.5 else Image.new("RGB", (_CANVAS, _CANVAS), _colour(rng, palette))
    smallest = rng.uniform(0.02, 0.1)
    count = int(np.exp(rng.uniform(np.log(8), np.log(120))))
    for size in np.minimum(smallest * rng.random(count) ** -0.6, 0.5):
        _place(rng, image, palette, float(size))
    return image


def _graphic(rng: Rng) -> Image.Image:
    """Draws a few large shapes on a plain or shaded background, like a drawing or logo."""
    palette = _palette(rng)
    image = Image.new("RGB", (_CANVAS, _CANVAS), "white" if rng.random() < 0.3 else _colour(rng, palette))
    if rng.random() < 0.4:
        image = _shade(rng, palette)
    for size in rng.uniform(0.04, 0.4, int(rng.integers(1, 9))):
        _place(rng, image, palette, float(size))
    return image


def _scene(rng: Rng) -> Image.Image:
    """Draws a ground, a background above it and some objects in front, like most photographs."""
    palette = _palette(rng)
    image = _shade(rng, palette) if rng.random() < 0.6 else _texture(rng)
    edge = rng.uniform(0.25, 0.8) + np.cumsum(rng.normal(0, rng.choice([0.002, 0.02, 0.05]), 17))
    ridge = [(float(x), float(y)) for x, y in zip(np.linspace(0, _CANVAS, 17), edge * _CANVAS, strict=True)]
    mask = Image.new("L", image.size)
    ImageDraw.Draw(mask).polygon([*ridge, (_CANVAS, _CANVAS), (0, _CANVAS)], fill=255)
    image.paste(_texture(rng) if rng.random() < 0.7 else _shade(rng, palette), (0, 0), mask)
    for size in np.minimum(0.06 * rng.random(int(rng.integers(1, 20))) ** -0.6, 0.35):
        _place(rng, image, palette, float(size))
    return image


def _texture(rng: Rng) -> Image.Image:
    """Draws noise whose power falls with frequency, as in nature, coloured by a palette or at random."""
    steepness = rng.uniform(0.9, 2.3)
    free = rng.random() < 0.4
    fields = np.stack([_field(rng, steepness) for _ in range(3 if free else 1)], axis=-1)
    if free:
        pixels = fields @ rng.normal(0, 0.6, (3, 3)) + rng.uniform(0.2, 0.8, 3)
    else:
        stops = np.array(_palette(rng)) / 255
        height = np.clip(0.5 + 0.3 * fields[..., 0], 0, 1)
        pixels = np.stack([np.interp(height, np.linspace(0, 1, len(stops)), stop) for stop in stops.T], axis=-1)
    return Image.fromarray((np.clip(pixels, 0, 1) * 255).astype(np.uint8))


def _field(rng: Rng, steepness: float) -> NDArray[np.float64]:
    rows, columns = np.fft.fftfreq(_CANVAS)[:, None], np.fft.rfftfreq(_CANVAS)[None, :]
    stretch = np.exp(rng.normal(0, 0.4))
    power = np.sqrt((rows * stretch) ** 2 + (columns / stretch) ** 2) + 1 / _CANVAS
    spectrum = (rng.normal(size=power.shape) + 1j * rng.normal(size=power.shape)) / power**steepness
    spectrum[0, 0] = 0
    field = np.fft.irfft2(spectrum, (_CANVAS, _CANVAS))
    return np.asarray(field / (field.std() + 1e-9))


def _pattern(rng: Rng) -> Image.Image:
    """Draws stripes, checks, rings or dots."""
    y, x = np.mgrid[0 : 1 : _CANVAS * 1j, 0 : 1 : _CANVAS * 1j]
    angle, rate = rng.uniform(0, np.pi), np.exp(rng.uniform(np.log(2), np.log(14)))
    u, v = x * np.cos(angle) + y * np.sin(angle), y * np.cos(angle) - x * np.sin(angle)
    centre = rng.uniform(0, 1, 2)
    waves = (
        np.sin(2 * np.pi * rate * u),
        np.sign(np.sin(2 * np.pi * rate * u) * np.sin(2 * np.pi * rate * v)),
        np.sin(2 * np.pi * rate * np.hypot(x - centre[0], y - centre[1])),
        np.sin(2 * np.pi * rate * u) + np.sin(2 * np.pi * rate * v),
    )
    wave = waves[rng.integers(len(waves))]
    wave = np.sign(wave - rng.uniform(-0.6, 0.6)) if rng.random() < 0.5 else wave
    ends = np.array(_palette(rng)[:2], dtype=np.float64)
    pixels = ends[0] + (ends[1] - ends[0]) * np.clip(wave * 0.5 + 0.5, 0, 1)[..., None]
    image = Image.fromarray(pixels.astype(np.uint8))
    for size in rng.uniform(0.05, 0.3, int(rng.integers(0, 5))):
        _place(rng, image, _palette(rng), float(size))
    return image


def _page(rng: Rng) -> Image.Image:
    """Draws lines of text, with up to two shapes."""
    palette = _palette(rng)
    dark = rng.random() < 0.25
    image = Image.new("RGB", (_CANVAS, _CANVAS), _colour(rng, palette) if dark else (250, 250, 248))
    draw = ImageDraw.Draw(image)
    y = rng.uniform(0, 20)
    while y < _CANVAS:
        size = int(rng.choice([8, 10, 14, 24, 36]))
        draw.text((rng.uniform(0, 30), y), _words(rng), font=_font(size), fill=_colour(rng, palette))
        y += size * rng.uniform(1.0, 2.2)
    for size_of in rng.uniform(0.08, 0.25, int(rng.integers(0, 3))):
        _place(rng, image, palette, float(size_of))
    return image


def _shade(rng: Rng, palette: Sequence[Colour]) -> Image.Image:
    """Draws a smooth gradient between two colours."""
    y, x = np.mgrid[0 : 1 : _CANVAS * 1j, 0 : 1 : _CANVAS * 1j]
    angle = rng.choice([np.pi / 2, rng.uniform(0, 2 * np.pi)])
    along = (x - 0.5) * np.cos(angle) + (y - 0.5) * np.sin(angle) + 0.5
    if rng.random() < 0.3:
        along = np.hypot(x - rng.uniform(), y - rng.uniform())
    ends = np.array([_colour(rng, palette), _colour(rng, palette)], dtype=np.float64)
    return Image.fromarray((ends[0] + (ends[1] - ends[0]) * np.clip(along, 0, 1)[..., None]).astype(np.uint8))


def _place(rng: Rng, image: Image.Image, palette: Sequence[Colour], size: float) -> None:
    """Draws one object on the picture; `size` is its radius as a share of the picture's side."""
    centre, radius = rng.uniform(-0.05, 1.05, 2) * _CANVAS, max(size * _CANVAS, 1.5)
    colour = _colour(rng, palette)
    if rng.random() < 0.12:
        start = (centre[0] - radius, centre[1] - radius / 2)
        ImageDraw.Draw(image).text(start, _words(rng)[:12], font=_font(max(6, int(radius))), fill=colour)
        return
    outline = _outline(rng, centre, radius)
    if radius > 8 and rng.random() < 0.25:
        mask = Image.new("L", image.size)
        ImageDraw.Draw(mask).polygon(outline, fill=int(rng.integers(150, 256)))
        image.paste(_texture(rng) if rng.random() < 0.5 else _shade(rng, palette), (0, 0), mask)
        return
    draw = ImageDraw.Draw(image)
    if rng.random() < 0.25:
        draw.line([*outline, outline[0]], fill=colour, width=max(1, int(radius * rng.uniform(0.05, 0.3))))
    else:
        draw.polygon(outline, fill=colour, outline=(0, 0, 0) if rng.random() < 0.15 else None)


def _outline(rng: Rng, centre: NDArray[np.float64], radius: float) -> list[tuple[float, float]]:
    """Returns the outline of a polygon, ellipse, bar or smooth blob, at any angle and aspect ratio."""
    kind = rng.random()
    if kind < 0.3:
        corners = int(rng.integers(3, 8))
        angles, radii = np.sort(rng.uniform(0, 2 * np.pi, corners)), rng.uniform(0.5, 1, corners)
    elif kind < 0.55:
        angles, radii = np.linspace(0, 2 * np.pi, 24, endpoint=False), np.ones(24)
    elif kind < 0.75:
        angles, radii = np.array([1, 3, 5, 7]) * np.pi / 4, np.ones(4)
    else:
        angles = np.linspace(0, 2 * np.pi, 28, endpoint=False)
        waves = [rng.normal(0, 0.35 / k) * np.cos(k * angles + rng.uniform(0, 7)) for k in range(2, 6)]
        radii = 0.7 + np.sum(waves, axis=0)
    points = np.stack([np.cos(angles), np.sin(angles)]) * radii
    points[1] *= np.exp(rng.normal(0, 0.6))
    turn = rng.uniform(0, np.pi) if rng.random() < 0.7 else 0.0
    turned = np.array([[np.cos(turn), -np.sin(turn)], [np.sin(turn), np.cos(turn)]]) @ points
    return [(float(x), float(y)) for x, y in (turned * radius).T + centre]


def _blend(rng: Rng, below: Image.Image, above: Image.Image) -> Image.Image:
    """Blends two pictures, along a soft or hard edge or transparently."""
    if rng.random() < 0.4:
        return Image.blend(below, above, float(rng.uniform(0.2, 0.8)))
    height = _field(rng, rng.uniform(1.5, 3.0)) + rng.normal(0, 0.5)
    mask = np.clip(0.5 + height * rng.choice([0.5, 4.0, 50.0]), 0, 1)
    return Image.composite(below, above, Image.fromarray((mask * 255).astype(np.uint8)))


def _lit(rng: Rng, image: Image.Image) -> Image.Image:
    """Adds light from one side, lower contrast and grain."""
    light = 1 + 0.25 * _field(rng, 3.0)[..., None] * rng.random()
    pixels = np.asarray(image, dtype=np.float64) * light
    pixels = pixels + rng.normal(0, rng.choice([0, 3, 10]), pixels.shape)
    mean = pixels.mean()
    return Image.fromarray(np.clip(mean + (pixels - mean) * rng.uniform(0.5, 1.2), 0, 255).astype(np.uint8))


def _palette(rng: Rng) -> list[Colour]:
    """Returns a few colours: muted or bright, with similar or arbitrary hues."""
    count = int(rng.integers(2, 8))
    hue = rng.uniform(0, 1) + rng.normal(0, rng.choice([0.05, 0.15, 1.0]), count)
    saturation = np.clip(rng.uniform(0, 1) + rng.normal(0, 0.2, count), 0, 1)
    value = rng.uniform(0.05, 1, count)
    spread = np.abs((hue[:, None] * 6 + np.array([0, 4, 2])) % 6 - 3) - 1
    rgb = value[:, None] * (1 + saturation[:, None] * (np.clip(spread, 0, 1) - 1))
    return [(int(r), int(g), int(b)) for r, g, b in rgb * 255]


def _colour(rng: Rng, palette: Sequence[Colour]) -> Colour:
    shift = rng.normal(0, 12, 3)
    base = palette[int(rng.integers(len(palette)))]
    red, green, blue = (int(np.clip(c + s, 0, 255)) for c, s in zip(base, shift, strict=True))
    return red, green, blue


def _words(rng: Rng) -> str:
    lengths = rng.integers(1, 9, int(rng.integers(1, 6)))
    return " ".join("".join(_LETTERS[i] for i in rng.integers(len(_LETTERS), size=n)) for n in lengths)


def _font(size: int) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    return ImageFont.load_default(size)
