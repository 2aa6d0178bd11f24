"""Pictures of coloured shapes in a row or a column, with captions: a world small enough to be captioned without error.

In every picture for validation or test there is a shape in a colour and size, or a pair of such, that is nowhere in training:
a model must take sizes, colours and shapes apart and put them together anew.
"""

import colorsys
import math
from io import BytesIO
from itertools import accumulate, combinations, product
from random import Random
from typing import NamedTuple

from PIL import Image, ImageDraw

from .vocabulary import Word

SIDE = 48
"""Width and height of a picture in pixels."""
FINER = 4
"""Pictures are drawn so many times larger and averaged, which makes edges smooth."""


def _corners(*distances: float, turn: float = 0.0) -> list[tuple[float, float]]:
    """Corners at even angles, clockwise from the top: so far from the centre each, and turned by a part of a circle."""
    angles = [2 * math.pi * (turn + number / len(distances)) for number in range(len(distances))]
    return [(far * math.sin(angle), -far * math.cos(angle)) for far, angle in zip(distances, angles, strict=True)]


SIZES = {Word("큰", "large"): (7.6, 8.6), Word("작은", "small"): (4.8, 5.4)}
"""The least and the greatest radius in pixels."""
COLOURS = {
    Word("빨간", "red"): 0,
    Word("주황", "orange"): 28,
    Word("노란", "yellow"): 56,
    Word("초록", "green"): 125,
    Word("파란", "blue"): 215,
    Word("보라", "purple"): 285,
}
"""Hues in degrees."""
SHAPES = {
    Word("동그라미", "circle"): _corners(*[1.0] * 60),
    Word("네모", "square"): _corners(*[1.2] * 4, turn=1 / 8),
    Word("세모", "triangle"): _corners(*[1.25] * 3),
    Word("별", "star"): _corners(*[1.3, 0.5] * 5),
}
"""Corners (right, down) of the outline where the radius is 1."""
REACH = 1.3
"""How far an outline goes, in radii."""
MOST = 2
"""So many things fit in a row or a column."""
COLUMN, ROW = Word("위에서부터", "above"), Word("왼쪽부터", "left of")
"""The two orders of things: the word that the Korean caption begins with, and the one between two things in English."""


class Thing(NamedTuple):
    """A shape in a colour and size."""

    size: Word
    colour: Word
    shape: Word

    @property
    def en(self) -> str:
        return f"a {self.size.en} {self.colour.en} {self.shape.en}"

    @property
    def ko(self) -> str:
        return f"{self.size.ko} {self.colour.ko} {self.shape.ko}"


THINGS = tuple(Thing(*words) for words in product(SIZES, COLOURS, SHAPES))


def _held_out(first: int) -> frozenset[Thing]:
    """One thing of every colour, no two of the same size and shape, so that training shows every two words together."""
    kinds = list(product(SIZES, SHAPES))
    chosen = [kinds[(first + 3 * number) % len(kinds)] for number in range(len(COLOURS))]
    return frozenset(Thing(size, colour, shape) for colour, (size, shape) in zip(COLOURS, chosen, strict=True))


HELD_OUT = {"test": _held_out(0), "validation": _held_out(5)}
"""Things that no other split shows."""


class Scene(NamedTuple):
    """What a picture shows: things in a column from the top, or in a row from the left."""

    things: tuple[Thing, ...]
    order: Word

    @property
    def en(self) -> str:
        return f" {self.order.en} ".join(thing.en for thing in self.things)

    @property
    def ko(self) -> str:
        start = f"{self.order.ko} " if len(self.things) > 1 else ""
        return start + ", ".join(thing.ko for thing in self.things)

    def pairs(self) -> list[str]:
        """The pairs of things, in English, wherever they stand."""
        return [" and ".join(pair) for pair in combinations(sorted(thing.en for thing in self.things), 2)]


def draw_scene(rng: Random, number: int) -> Scene:
    """A scene of so many things, no two of them alike."""
    return Scene(tuple(rng.sample(THINGS, number)), rng.choice((COLUMN, ROW)))


def draw_picture(scene: Scene, rng: Random) -> Image.Image:
    """An RGB picture of a scene; places, sizes, angles and shades vary."""
    paper = _rgb(rng.random(), 0.05, rng.uniform(0.85, 1))
    picture = Image.new("RGB", (SIDE * FINER, SIDE * FINER), paper)
    canvas = ImageDraw.Draw(picture)
    radii = [rng.uniform(*SIZES[thing.size]) for thing in scene.things]
    reaches = [REACH * radius for radius in radii]
    line = rng.uniform(max(reaches) + 2.5, SIDE - max(reaches) - 2.5)
    for thing, radius, along in zip(scene.things, radii, _places(reaches, rng), strict=True):
        across = line + rng.uniform(-2.5, 2.5)
        x, y = (across, along) if scene.order == COLUMN else (along, across)
        angle = rng.uniform(-0.15, 0.15)
        outline = [
            (
                FINER * (x + radius * (right * math.cos(angle) - down * math.sin(angle))),
                FINER * (y + radius * (right * math.sin(angle) + down * math.cos(angle))),
            )
            for right, down in SHAPES[thing.shape]
        ]
        hue = (COLOURS[thing.colour] + rng.uniform(-6, 6)) / 360
        canvas.polygon(outline, fill=_rgb(hue, rng.uniform(0.8, 1), rng.uniform(0.8, 1)))
    return picture.reduce(FINER)


def _places(reaches: list[float], rng: Random) -> list[float]:
    """Centres along the picture so that nothing overlaps: what is free is shared out at random."""
    free = SIDE - 2 * sum(reaches)
    cuts = sorted(rng.uniform(0, free) for _ in reaches)
    before = accumulate(reaches, initial=0.0)
    return [2 * start + reach + cut for start, reach, cut in zip(before, reaches, cuts, strict=False)]


def _rgb(hue: float, saturation: float, value: float) -> tuple[int, ...]:
    return tuple(round(255 * channel) for channel in colorsys.hsv_to_rgb(hue % 1, saturation, value))


def png(picture: Image.Image) -> bytes:
    """The content of a PNG file."""
    file = BytesIO()
    picture.save(file, format="PNG")
    return file.getvalue()
