"""Textures and gradients: pictures without things, whose large structure still differs from one to the next."""

import math
from collections.abc import Callable
from types import MappingProxyType

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from jobs.commands.generate.pictures.motifs.backdrops import blob, gradient, wave
from jobs.commands.generate.pictures.primitives.canvas import Canvas
from jobs.commands.generate.pictures.primitives.palette import Palette, mix, shade
from jobs.commands.generate.pictures.primitives.randomness import Rng, between, chance, pick

Texture = Callable[[Canvas, Rng, Palette], None]


def spectral(rng: Rng, shape: tuple[int, int], exponent: float) -> NDArray[np.float64]:
    """Noise whose amplitude falls with frequency to a power, as in photographs (exponent near 1).

    Args:
        rng: Decides it.
        shape: Height and width.
        exponent: 0 is white, 2 is cloudy.

    Returns:
        float64 of that shape, from 0 to 1.

    Examples:
        >>> spectral(np.random.default_rng(0), (4, 6), 1.0).shape
        (4, 6)
    """
    height, width = shape
    rows, columns = np.fft.fftfreq(height)[:, None], np.fft.rfftfreq(width)[None, :]
    frequency = np.hypot(rows, columns)
    frequency[0, 0] = np.inf
    phases = np.exp(2j * math.pi * rng.random(frequency.shape))
    noise = np.fft.irfft2(phases * frequency ** -(exponent + 0.5), s=shape)
    low, high = noise.min(), noise.max()
    scaled: NDArray[np.float64] = (noise - low) / max(high - low, 1e-12)
    return scaled


def _coloured(canvas: Canvas, values: NDArray[np.float64], palette: Palette, rng: Rng) -> None:
    ends = [
        shade(pick(rng, (*palette.accents, *palette.sky)), between(rng, 0.3, 0.7)),
        pick(rng, palette.accents),
        palette.light,
    ]
    if chance(rng, 0.4):
        ends.reverse()
    table = np.stack(
        [np.interp(np.arange(256), (0, 128, 255), [end[k] for end in ends]) for k in range(3)], axis=1
    ).astype(np.uint8)
    image = Image.fromarray(table[(values * 255).astype(np.uint8)])
    canvas.paint(image.resize((canvas.w, canvas.h), Image.Resampling.BILINEAR))


def _grid(canvas: Canvas) -> tuple[int, int]:
    return max(8, canvas.h // canvas.scale), max(8, canvas.w // canvas.scale)


def clouds(canvas: Canvas, rng: Rng, palette: Palette) -> None:
    """1/f noise: smoke, clouds, marble."""
    values = spectral(rng, _grid(canvas), between(rng, 0.8, 1.7))
    if chance(rng, 0.4):
        values = np.abs(np.sin(values * math.pi * between(rng, 1.5, 4)))
    _coloured(canvas, values, palette, rng)


def dead_leaves(canvas: Canvas, rng: Rng, palette: Palette) -> None:
    """Overlapping shapes of all sizes, which have the statistics of photographs."""
    canvas.rectangle((0, 0, canvas.w, canvas.h), palette.dark)
    shape = pick(rng, ("disc", "box", "leaf"))
    count = int(rng.integers(120, 320))
    sizes = np.sort(canvas.unit * 0.025 * rng.random(count) ** -0.6)[::-1]
    for size, (x, y) in zip(
        np.minimum(sizes, canvas.unit * 0.35).tolist(), rng.random((count, 2)).tolist(), strict=True
    ):
        fill = shade(pick(rng, (*palette.accents, *palette.ground, *palette.sky)), between(rng, 0.4, 1.6))
        at = (x * canvas.w, y * canvas.h)
        if shape == "disc":
            canvas.ellipse(*at, size, size, fill)
        elif shape == "box":
            canvas.rectangle((at[0] - size, at[1] - size * 0.7, at[0] + size, at[1] + size * 0.7), fill)
        else:
            canvas.polygon(blob(rng, at, size, 0.35, 14), fill)


def voronoi(canvas: Canvas, rng: Rng, palette: Palette) -> None:
    """Cells around random points, as stone or mosaic."""
    height, width = (side // 2 for side in _grid(canvas))
    count = int(rng.integers(8, 60))
    points = rng.random((count, 2)) * (height, width)
    rows, columns = np.mgrid[0:height, 0:width]
    far = (rows[..., None] - points[:, 0]) ** 2 + (columns[..., None] - points[:, 1]) ** 2
    nearest = far.argmin(axis=-1)
    fills = np.array(
        [
            shade(pick(rng, (*palette.accents, *palette.ground, palette.light)), between(rng, 0.4, 1.5))
            for _ in range(count)
        ]
    )
    image = fills[nearest]
    if chance(rng, 0.6):
        edge = (np.diff(nearest, axis=0, prepend=nearest[:1]) != 0) | (
            np.diff(nearest, axis=1, prepend=nearest[:, :1]) != 0
        )
        image[edge] = palette.dark
    canvas.paint(Image.fromarray(image.astype(np.uint8)).resize((canvas.w, canvas.h), Image.Resampling.BILINEAR))


def ripples(canvas: Canvas, rng: Rng, palette: Palette) -> None:
    """Rings from a few centres that meet."""
    height, width = _grid(canvas)
    rows, columns = np.mgrid[0:height, 0:width] / min(height, width)
    values = np.zeros((height, width))
    for _ in range(int(rng.integers(1, 4))):
        y, x = (
            between(rng, -0.2, height / min(height, width) + 0.2),
            between(rng, -0.2, width / min(height, width) + 0.2),
        )
        values += np.sin(np.hypot(rows - y, columns - x) * between(rng, 8, 26) + between(rng, 0, 6.3))
    values = (values - values.min()) / (values.max() - values.min())
    _coloured(canvas, values, palette, rng)


def weave(canvas: Canvas, rng: Rng, palette: Palette) -> None:
    """Stripes over stripes, as cloth, wavy and unequal."""
    canvas.rectangle((0, 0, canvas.w, canvas.h), palette.light)
    for vertical in (True, False):
        at, end = 0.0, float(canvas.w if vertical else canvas.h)
        while at < end:
            width = canvas.unit * between(rng, 0.01, 0.12)
            fill = (*shade(pick(rng, palette.accents), between(rng, 0.5, 1.3)), int(rng.integers(90, 230)))
            box = (at, 0.0, at + width, float(canvas.h)) if vertical else (0.0, at, float(canvas.w), at + width)
            canvas.rectangle(box, fill)
            at += width * between(rng, 1.1, 2.6)


def bricks(canvas: Canvas, rng: Rng, palette: Palette) -> None:
    """A wall of bricks with stains of light and dark."""
    mortar, brick = shade(palette.light, 0.8), pick(rng, palette.accents)
    canvas.rectangle((0, 0, canvas.w, canvas.h), mortar)
    tall = canvas.unit / between(rng, 5, 16)
    wide = tall * between(rng, 1.6, 3.2)
    stain = spectral(rng, (48, 48), 1.2)
    for row in range(int(canvas.h / tall) + 1):
        for column in range(-1, int(canvas.w / wide) + 1):
            x, y = (column + (row % 2) / 2) * wide, row * tall
            light = stain[min(47, int(48 * y / canvas.h)), min(47, max(0, int(48 * x / canvas.w)))]
            canvas.rectangle((x, y, x + wide * 0.93, y + tall * 0.88), shade(brick, 0.25 + 1.3 * float(light)))


def waves(canvas: Canvas, rng: Rng, palette: Palette) -> None:
    """Wavy layers over each other, as cut paper."""
    canvas.rectangle((0, 0, canvas.w, canvas.h), palette.sky[1])
    layers = int(rng.integers(4, 11))
    for layer in range(layers):
        level = canvas.h * (layer + between(rng, 0.1, 0.9)) / layers
        top = wave(rng, canvas.w, level, canvas.h * between(rng, 0.03, 0.16), between(rng, 0.4, 3))
        fill = shade(pick(rng, (*palette.accents, *palette.sky, *palette.ground)), between(rng, 0.5, 1.5))
        canvas.polygon([*top, (canvas.w, canvas.h), (0, canvas.h)], fill)


def camouflage(canvas: Canvas, rng: Rng, palette: Palette) -> None:
    """Noise cut into few tones: stains, maps, camouflage."""
    values = spectral(rng, _grid(canvas), between(rng, 1.0, 1.8))
    tones = int(rng.integers(2, 6))
    edges = np.quantile(values, np.linspace(0, 1, tones + 1)[1:-1])
    _coloured(canvas, np.digitize(values, edges) / (tones - 1), palette, rng)


def patchwork(canvas: Canvas, rng: Rng, palette: Palette) -> None:
    """Squares of a quilt, each with its own pattern."""
    down = int(rng.integers(2, 6))
    across = max(2, round(down * canvas.w / canvas.h))
    dx, dy = canvas.w / across, canvas.h / down
    for i in range(across):
        for j in range(down):
            left, top = i * dx, j * dy
            first, second = (
                shade(pick(rng, (*palette.accents, *palette.ground)), between(rng, 0.4, 1.6)) for _ in range(2)
            )
            canvas.rectangle((left, top, left + dx, top + dy), first)
            half = pick(rng, ("corner", "disc", "bar", "plain"))
            if half == "corner":
                corners = [(left, top), (left + dx, top), (left + dx, top + dy), (left, top + dy)]
                start = int(rng.integers(4))
                canvas.polygon([corners[(start + k) % 4] for k in range(3)], second)
            elif half == "disc":
                canvas.ellipse(left + dx / 2, top + dy / 2, dx * 0.35, dy * 0.35, second)
            elif half == "bar":
                canvas.rectangle((left + dx * 0.3, top, left + dx * 0.7, top + dy), second)


def soft_gradient(canvas: Canvas, rng: Rng, palette: Palette) -> None:
    """A gradient with large soft lights, a horizon or folds, so that no two look alike."""
    rows, columns = np.mgrid[0:48, 0:48] / 47
    turn = between(rng, 0, 2 * math.pi)
    values = np.cos(turn) * columns + np.sin(turn) * rows
    for _ in range(int(rng.integers(2, 6))):
        y, x, size = float(rng.random()), float(rng.random()), between(rng, 0.08, 0.35)
        values = values + between(rng, -1.3, 1.3) * np.exp(-((rows - y) ** 2 + (columns - x) ** 2) / (2 * size**2))
    if chance(rng, 0.5):
        values = np.sin(values * between(rng, 2, 6))
    values = (values - values.min()) / (values.max() - values.min())
    _coloured(canvas, values, palette, rng)


def stepped_gradient(canvas: Canvas, rng: Rng, palette: Palette) -> None:
    """Bands of a gradient behind a large shape with a gradient of its own."""
    steps, first, last = int(rng.integers(4, 12)), pick(rng, palette.accents), palette.sky[0]
    slant = between(rng, -0.9, 0.9) * canvas.h
    for k in range(steps):
        x = canvas.w * 1.9 * k / steps - canvas.w * 0.45
        far = canvas.w * 2
        canvas.polygon([(x, 0), (far, 0), (far, canvas.h), (x + slant, canvas.h)], mix(first, last, k / steps))
    for _ in range(int(rng.integers(1, 4))):
        left, top = between(rng, -0.1, 0.7) * canvas.w, between(rng, -0.1, 0.7) * canvas.h
        right, bottom = left + between(rng, 0.2, 0.6) * canvas.w, top + between(rng, 0.2, 0.6) * canvas.h
        if chance(rng, 0.5):
            gradient(
                canvas,
                (max(0, left), max(0, top), min(right, canvas.w), min(bottom, canvas.h)),
                (palette.dark, pick(rng, palette.accents)),
            )
        else:
            canvas.ellipse(
                (left + right) / 2,
                (top + bottom) / 2,
                (right - left) / 2,
                (bottom - top) / 2,
                shade(last, between(rng, 0.4, 1.5)),
            )


TEXTURES: MappingProxyType[str, Texture] = MappingProxyType(
    {
        "clouds of smoke": clouds,
        "fallen leaves": dead_leaves,
        "stones": voronoi,
        "ripples": ripples,
        "woven cloth": weave,
        "bricks": bricks,
        "cut paper waves": waves,
        "camouflage": camouflage,
        "a patchwork quilt": patchwork,
    }
)
GRADIENTS: MappingProxyType[str, Texture] = MappingProxyType({"soft": soft_gradient, "stepped": stepped_gradient})
