"""A surface twice as fine as the picture, and a pen that draws on it in an object's own coordinates."""

import math
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path

import matplotlib
import numpy as np
from PIL import Image, ImageDraw, ImageFont

Colour = tuple[int, ...]
"""Red, green and blue from 0 to 255; a fourth number is the opacity."""
Point = tuple[float, float]

FONTS = ("Sans", "Sans-Bold", "Serif", "Serif-Bold", "SansMono-Bold", "Sans-BoldOblique")
_CIRCLE = [(math.cos(t), math.sin(t)) for t in np.linspace(0, 2 * math.pi, 28, endpoint=False)]


class Canvas:
    """A picture while it is drawn, `scale` times finer than it ends; coordinates are its pixels, y down.

    Args:
        size: Width and height of the finished picture, pixels.
        fill: Its first colour.
        scale: Canvas pixels for each picture pixel.
    """

    def __init__(self, size: tuple[int, int], fill: Colour = (255, 255, 255), scale: int = 2) -> None:
        self.w, self.h = size[0] * scale, size[1] * scale
        self.scale = scale
        self.ink: Colour | None = None
        self.paint(Image.new("RGB", (self.w, self.h), fill))

    @property
    def unit(self) -> int:
        """The shorter side, by which line widths go."""
        return min(self.w, self.h)

    def paint(self, image: Image.Image) -> None:
        """Replaces all that is drawn by an image of the same size."""
        self.image = image
        self._solid = ImageDraw.Draw(image)
        self._glaze = ImageDraw.Draw(image, "RGBA")

    def finish(self) -> Image.Image:
        """The picture at its own size, antialiased."""
        return self.image.reduce(self.scale) if self.scale > 1 else self.image

    def polygon(self, points: Sequence[Point], fill: Colour) -> None:
        """A filled polygon, inked around if the canvas has an ink."""
        draw = self._glaze if len(fill) == 4 else self._solid
        draw.polygon(points, fill=fill)
        if self.ink is not None and len(fill) == 3:
            self._solid.line([*points, points[0]], fill=self.ink, width=max(2, self.unit // 120), joint="curve")

    def ellipse(self, x: float, y: float, rx: float, ry: float, fill: Colour) -> None:
        """A filled ellipse around (x, y)."""
        box = (x - rx, y - ry, x + rx, y + ry)
        if len(fill) == 4:
            self._glaze.ellipse(box, fill=fill)
        elif self.ink is None:
            self._solid.ellipse(box, fill=fill)
        else:
            self._solid.ellipse(box, fill=fill, outline=self.ink, width=max(2, self.unit // 120))

    def rectangle(self, box: tuple[float, float, float, float], fill: Colour, radius: float = 0.0) -> None:
        """A filled rectangle from (left, top) to (right, bottom), which may come in any order."""
        left, right = sorted((box[0], box[2]))
        top, bottom = sorted((box[1], box[3]))
        draw = self._glaze if len(fill) == 4 else self._solid
        inked = self.ink if len(fill) == 3 else None
        width = max(2, self.unit // 120) if inked is not None else 1
        if radius:
            radius = min(radius, (right - left) / 2, (bottom - top) / 2)
            draw.rounded_rectangle((left, top, right, bottom), radius, fill=fill, outline=inked, width=width)
        else:
            draw.rectangle((left, top, right, bottom), fill=fill, outline=inked, width=width)

    def line(self, points: Sequence[Point], width: float, fill: Colour) -> None:
        """A line with round joints and ends."""
        draw = self._glaze if len(fill) == 4 else self._solid
        thick = max(1, round(width))
        draw.line(list(points), fill=fill, width=thick, joint="curve" if len(points) > 2 else None)
        if thick > 4 and len(fill) == 3:
            for x, y in (points[0], points[-1]):
                draw.ellipse((x - thick / 2, y - thick / 2, x + thick / 2, y + thick / 2), fill=fill)

    def text(self, at: Point, words: str, height: float, fill: Colour, font: str = "Sans-Bold") -> None:
        """Words centred on a point, about `height` pixels high."""
        self._solid.text(at, words, fill=fill, font=load_font(font, max(8, round(height / 4) * 4)), anchor="mm")

    def arc(
        self, box: tuple[float, float, float, float], span: tuple[float, float], width: float, fill: Colour
    ) -> None:
        """An arc of the ellipse in a box, `span` in degrees clockwise from the right."""
        self._solid.arc(box, span[0], span[1], fill=fill, width=max(1, round(width)))


class Pen:
    """Draws an object in its own coordinates: its foot at (0, 0), y up, its height about 1.

    Args:
        canvas: Where to draw.
        at: The foot on the canvas, pixels.
        size: Canvas pixels for one unit.
        mirror: -1 draws it the other way round.
        tilt: Degrees that it leans to the right.
    """

    def __init__(self, canvas: Canvas, at: Point, size: float, mirror: int = 1, tilt: float = 0.0) -> None:
        self.canvas = canvas
        self.size = size
        self._x, self._y = at
        self._mirror = mirror
        self._cos, self._sin = math.cos(math.radians(tilt)), math.sin(math.radians(tilt))

    def at(self, x: float, y: float) -> Point:
        """A point of the object on the canvas."""
        x *= self._mirror
        return (
            self._x + (x * self._cos + y * self._sin) * self.size,
            self._y - (y * self._cos - x * self._sin) * self.size,
        )

    def polygon(self, points: Sequence[Point], fill: Colour) -> None:
        """A filled polygon."""
        self.canvas.polygon([self.at(x, y) for x, y in points], fill)

    def ellipse(self, centre: Point, rx: float, ry: float, fill: Colour) -> None:
        """A filled ellipse."""
        if self._sin and rx != ry:
            self.polygon([(centre[0] + rx * c, centre[1] + ry * s) for c, s in _CIRCLE], fill)
        else:
            self.canvas.ellipse(*self.at(*centre), rx * self.size, ry * self.size, fill)

    def circle(self, centre: Point, radius: float, fill: Colour) -> None:
        """A filled circle."""
        self.ellipse(centre, radius, radius, fill)

    def rectangle(self, low: Point, high: Point, fill: Colour) -> None:
        """A filled rectangle between two corners."""
        self.polygon([low, (high[0], low[1]), high, (low[0], high[1])], fill)

    def line(self, points: Sequence[Point], width: float, fill: Colour) -> None:
        """A line with round ends."""
        self.canvas.line([self.at(x, y) for x, y in points], width * self.size, fill)

    def text(self, at: Point, words: str, height: float, fill: Colour, font: str = "Sans-Bold") -> None:
        """Words centred on a point; they are never mirrored."""
        self.canvas.text(self.at(*at), words, height * self.size, fill, font)


@lru_cache(maxsize=256)
def load_font(name: str, size: int) -> ImageFont.FreeTypeFont:
    """A font that is on every machine, since matplotlib brings it."""
    file = Path(matplotlib.get_data_path()) / "fonts" / "ttf" / f"DejaVu{name}.ttf"
    return ImageFont.truetype(str(file), size)
