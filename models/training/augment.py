"""Augmentations that imitate near-duplicates, applied to a batch of images with random numbers for each image.

The steps are geometry, colour, sharpness, grain and overlays. Each step changes only some of the images, so that a
view has two or three changes, as real copies have, and sometimes none.
"""

import math
from dataclasses import dataclass

import numpy as np
import torch
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor
from torch.nn import functional

_OVERLAYS = 384
_MOST_CROPPED = 0.58  # 29 % of a side, in coordinates from -1 to 1.
_LETTERS = "abcdefghiklmnoprstuvwyABCDEHLMNRSTW   .:@0123456789"
_GREY = (0.299, 0.587, 0.114)


@dataclass(frozen=True)
class Chance:
    """The source of a batch's random numbers.

    Attributes:
        generator: The generator, on the device of the batch.
    """

    generator: torch.Generator

    def uniform(self, low: float, high: float, *shape: int) -> Tensor:
        """Returns float32 of the given shape, uniform in [low, high)."""
        device = self.generator.device
        return torch.rand(shape, generator=self.generator, device=device) * (high - low) + low

    def normal(self, *shape: int) -> Tensor:
        """Returns float32 of the given shape, standard normal."""
        return torch.randn(shape, generator=self.generator, device=self.generator.device)

    def some(self, share: float, count: int) -> Tensor:
        """Returns bool of shape (count,), true with probability `share`."""
        return self.uniform(0, 1, count) < share

    def pick(self, below: int, count: int) -> Tensor:
        """Returns int64 of shape (count,), uniform from 0 to `below` - 1."""
        return torch.randint(below, (count,), generator=self.generator, device=self.generator.device)


class Augmenter:
    """A maker of changed views of images.

    Args:
        side: Width and height of a view, in pixels.
        seed: Seed of all random numbers.
        device: Device on which the views are made.
    """

    def __init__(self, side: int, seed: int, device: torch.device) -> None:
        self.side = side
        self.chance = Chance(torch.Generator(device).manual_seed(seed))
        self._overlays = torch.from_numpy(_draw_overlays(side, seed)).to(device)

    def turned(self, images: Tensor, groups: Tensor) -> Tensor:
        """Mirrors images, or turns them by 90°, at random. The results are new images, not copies of the old ones.

        Args:
            images: uint8 of shape (n, s, s, 3).
            groups: int64 of shape (n,), each below n; images of one group are changed in the same way.

        Returns:
            float32 of shape (n, 3, s, s), 0 to 255.
        """
        pixels = images.permute(0, 3, 1, 2).contiguous().float()
        mirrored = self.chance.some(0.5, len(pixels))[groups].nonzero()[:, 0]
        pixels[mirrored] = pixels[mirrored].flip(3)
        transposed = self.chance.some(0.25, len(pixels))[groups].nonzero()[:, 0]
        pixels[transposed] = pixels[transposed].transpose(2, 3)
        return pixels

    def view(self, images: Tensor) -> Tensor:
        """Returns a changed copy of each image.

        Args:
            images: float32 of shape (n, 3, s, s), 0 to 255.

        Returns:
            float32 of shape (n, 3, side, side), whole numbers from 0 to 255.
        """
        pixels = moved(images, self.side, self.chance)
        pixels = recoloured(pixels, self.chance)
        pixels = refocused(pixels, self.chance)
        pixels = grained(pixels, self.chance)
        return self._overlaid(pixels).clamp(0, 255).round()

    def _overlaid(self, pixels: Tensor) -> Tensor:
        """Lays text, bars and frames over some of the images."""
        count = len(pixels)
        opacity = self.chance.uniform(0.5, 1.2, count).clamp(max=1) * self.chance.some(0.3, count)
        mask = self._overlays[self.chance.pick(len(self._overlays), count)].float() / 255 * opacity[:, None, None]
        return pixels + (_colours(self.chance, count) - pixels) * mask[:, None]


def moved(images: Tensor, side: int, chance: Chance) -> Tensor:
    """Applies crops, borders, shifts and small rotations, and resizes to `side`.

    Args:
        images: float32 of shape (n, 3, s, s).
        side: Side of the result, in pixels.
        chance: Random numbers.

    Returns:
        float32 of shape (n, 3, side, side).
    """
    count = len(images)
    edges = _frame(chance, count)
    turn = chance.normal(count) * math.radians(2.5) * chance.some(0.25, count)
    width, height = (edges[:, 1] - edges[:, 0]) / 2, (edges[:, 3] - edges[:, 2]) / 2
    x, y = (edges[:, 1] + edges[:, 0]) / 2, (edges[:, 3] + edges[:, 2]) / 2
    rows = (width * turn.cos(), -height * turn.sin(), x, width * turn.sin(), height * turn.cos(), y)
    # Some batches are sampled at twice the side and averaged: thumbnails are antialiased, other resizers' results not.
    fine = 2 if bool(chance.some(0.25, 1)) else 1
    theta = torch.stack(rows, dim=1).reshape(count, 2, 3)
    grid = functional.affine_grid(theta, [count, 3, side * fine, side * fine], align_corners=False)
    padding = "reflection" if bool(chance.some(0.2, 1)) else "border"
    pixels = functional.grid_sample(images, grid, mode="bilinear", padding_mode=padding, align_corners=False)
    outside = (grid.abs() > 1).any(dim=3)[:, None] & chance.some(0.75, count)[:, None, None, None]
    pixels = torch.where(outside, _colours(chance, count), pixels)
    return functional.avg_pool2d(pixels, fine) if fine > 1 else pixels


def _frame(chance: Chance, count: int) -> Tensor:
    """Returns the left, right, top and bottom edge of the frame; the image itself extends from -1 to 1."""
    whole = torch.tensor([-1.0, 1.0, -1.0, 1.0], device=chance.generator.device)
    inwards = torch.tensor([1.0, -1.0, 1.0, -1.0], device=chance.generator.device)
    # A crop of 20 % leaves 0.8 of the side, the removed part split between the two edges at random.
    part = chance.uniform(0, 1, count, 2)
    split = torch.stack([part[:, 0], 1 - part[:, 0], part[:, 1], 1 - part[:, 1]], dim=1)
    total = chance.uniform(0, _MOST_CROPPED, count, 2).repeat_interleave(2, dim=1)
    # Crops are the hardest change for an encoder, so they are the most frequent. Some are small, as most real ones are.
    smaller = torch.where(chance.some(0.3, count)[:, None], total / _MOST_CROPPED, torch.ones_like(total))
    crop = split * total * smaller
    border = -chance.uniform(0, 0.24, count, 1) * chance.uniform(0.7, 1.0, count, 4)
    shift = (chance.uniform(-0.18, 0.18, count, 2).repeat_interleave(2, dim=1)) * inwards
    kind = chance.uniform(0, 1, count)[:, None]
    change = torch.where(kind < 0.6, crop, torch.where(kind < 0.75, border, torch.where(kind < 0.95, shift, 0.0)))
    return whole + inwards * change


def recoloured(pixels: Tensor, chance: Chance) -> Tensor:
    """Changes brightness, contrast, gamma, saturation, hue and tint.

    Args:
        pixels: float32 of shape (n, 3, h, w), 0 to 255.
        chance: Random numbers.

    Returns:
        float32 of the same shape, 0 to 255.
    """
    count = len(pixels)
    turned = chance.some(0.2, count).nonzero()[:, 0]
    pixels = pixels.index_copy(0, turned, _hue_turned(pixels[turned], chance.uniform(0, 6, len(turned))))
    saturation = 1 + chance.some(0.3, count) * chance.uniform(-1, 0.8, count)
    saturation = (saturation * ~chance.some(0.1, count))[:, None, None]
    grey = torch.tensor(_GREY, device=pixels.device).expand(3, 3)
    matrix = saturation * torch.eye(3, device=grey.device) + (1 - saturation) * grey
    gain = (chance.normal(count, 1) * 0.2 * chance.some(0.5, count)[:, None]).exp()
    tint = (chance.normal(count, 3) * 0.1 * chance.some(0.3, count)[:, None]).exp()
    matrix = matrix * (gain * tint)[:, :, None]
    flat = torch.bmm(matrix, pixels.flatten(2))
    contrast = (chance.normal(count) * 0.25 * chance.some(0.5, count)).exp()[:, None, None]
    lift = (chance.normal(count) * 20 * chance.some(0.4, count))[:, None, None]
    mean = flat.mean(dim=(1, 2), keepdim=True)
    flat = ((flat - mean) * contrast + mean + lift).clamp(0, 255)
    gamma = (chance.normal(count) * 0.25 * chance.some(0.25, count)).exp()[:, None, None]
    return (255 * (flat / 255 + 1e-4).pow(gamma)).clamp(0, 255).view_as(pixels)


def _hue_turned(pixels: Tensor, turn: Tensor) -> Tensor:
    """Rotates all hues, as in HSV, by `turn` sixths of the circle (0 to 6, shape (n,))."""
    red, green, blue = pixels.unbind(1)
    value, least = pixels.amax(dim=1), pixels.amin(dim=1)
    chroma = value - least
    by = chroma.clamp(min=1e-3)
    sector = torch.where(value == green, (blue - red) / by + 2, (red - green) / by + 4)
    sector = torch.where(value == red, (green - blue) / by, sector) + turn[:, None, None]
    shares = [((n + sector) % 6) for n in (5, 3, 1)]
    return torch.stack([value - chroma * torch.minimum(k, 4 - k).clamp(0, 1) for k in shares], dim=1)


def refocused(pixels: Tensor, chance: Chance) -> Tensor:
    """Blurs or sharpens: moves images towards or away from a blurred copy.

    Args:
        pixels: float32 of shape (n, 3, h, w), 0 to 255.
        chance: Random numbers.

    Returns:
        float32 of the same shape, 0 to 255.
    """
    count = len(pixels)
    chosen = chance.some(0.3, count).nonzero()[:, 0]
    amount = torch.where(chance.some(0.6, count), chance.uniform(0.2, 1.0, count), chance.uniform(-1.5, -0.2, count))
    wide = chance.some(0.4, count)[chosen].nonzero()[:, 0]
    sharp = pixels[chosen]
    blurred = _blurred(sharp)
    blurred[wide] = _blurred(blurred[wide])
    mixed = sharp + (blurred - sharp) * amount[chosen, None, None, None]
    return pixels.index_copy(0, chosen, mixed.clamp(0, 255))


def _blurred(pixels: Tensor) -> Tensor:
    """Applies the binomial filter 1 4 6 4 1 along both axes, about a Gaussian of one pixel."""
    # Sums of shifted images: five times as fast on a CPU as a convolution of one channel.
    for axis in (2, 3):
        pad = (0, 0, 2, 2) if axis == 2 else (2, 2, 0, 0)
        wide, length = functional.pad(pixels, pad, mode="replicate"), pixels.shape[axis]
        parts = [wide.narrow(axis, start, length) for start in range(5)]
        pixels = parts[2] * 0.375 + (parts[1] + parts[3]) * 0.25 + (parts[0] + parts[4]) * 0.0625
    return pixels


def grained(pixels: Tensor, chance: Chance) -> Tensor:
    """Imitates strong compression: grain, coarse colour and steps of brightness.

    Args:
        pixels: float32 of shape (n, 3, h, w), 0 to 255; h and w multiples of 4.
        chance: Random numbers.

    Returns:
        float32 of the same shape.
    """
    count = len(pixels)
    coarse = chance.some(0.2, count).nonzero()[:, 0]
    pixels = pixels.index_copy(0, coarse, _coarsely_coloured(pixels[coarse]))
    stepped = chance.some(0.1, count).nonzero()[:, 0]
    step = chance.uniform(4, 32, len(stepped), 1, 1, 1)
    pixels = pixels.index_copy(0, stepped, (pixels[stepped] / step).round() * step)
    noisy = chance.some(0.15, count).nonzero()[:, 0]
    noise = chance.normal(len(noisy), *pixels.shape[1:]) * chance.uniform(1, 14, len(noisy), 1, 1, 1)
    return pixels.index_add(0, noisy, noise)


def _coarsely_coloured(pixels: Tensor) -> Tensor:
    luma = (pixels * torch.tensor(_GREY, device=pixels.device)[:, None, None]).sum(dim=1, keepdim=True)
    chroma = functional.avg_pool2d(pixels - luma, 4)
    return luma + functional.interpolate(chroma, scale_factor=4, mode="nearest")


def _colours(chance: Chance, count: int) -> Tensor:
    """Returns a colour for each image, often black or white, of shape (n, 3, 1, 1)."""
    plain = (chance.some(0.5, count).float() * 255)[:, None].expand(count, 3)
    colours = torch.where(chance.some(0.5, count)[:, None], plain, chance.uniform(0, 255, count, 3))
    return colours[:, :, None, None]


def _draw_overlays(side: int, seed: int) -> np.ndarray[tuple[int, ...], np.dtype[np.uint8]]:
    """Returns the masks of overlays, uint8 of shape (k, side, side); 255 is opaque."""
    rng = np.random.default_rng([seed, 7])
    return np.stack([_draw_overlay(rng, side) for _ in range(_OVERLAYS)])


def _draw_overlay(rng: np.random.Generator, side: int) -> np.ndarray[tuple[int, ...], np.dtype[np.uint8]]:
    canvas = side * 4
    image = Image.new("L", (canvas, canvas))
    draw = ImageDraw.Draw(image)
    kind = rng.random()
    if kind < 0.6:
        for _ in range(int(rng.integers(1, 4))):
            text = "".join(
                rng.choice(list("abcdefghiklmnoprstuvwyABCDEHLMNRSTW   .:@0123456789"), int(rng.integers(4, 26)))
            )
            font = ImageFont.load_default(int(canvas * rng.uniform(0.05, 0.16)))
            draw.text((canvas * rng.uniform(-0.05, 0.6), canvas * rng.uniform(0, 0.92)), text, font=font, fill=255)
    elif kind < 0.75:
        width = int(canvas * rng.uniform(0.01, 0.07))
        draw.rectangle((0, 0, canvas - 1, canvas - 1), outline=255, width=max(width, 2))
    elif kind < 0.87:
        top, thick = canvas * rng.choice([0.0, rng.uniform(0, 0.9)]), canvas * rng.uniform(0.03, 0.14)
        draw.rectangle((0, top, canvas, top + thick), fill=255)
    else:
        for _ in range(int(rng.integers(1, 4))):
            x, y = rng.uniform(0, 0.9, 2) * canvas
            w, h = rng.uniform(0.05, 0.25, 2) * canvas
            draw.rectangle((x, y, x + w, y + h), fill=255)
    return np.asarray(image.resize((side, side), Image.Resampling.BOX), dtype=np.uint8)
