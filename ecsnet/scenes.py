"""Scenes of the generated demo data set: textured things on textured backgrounds.

Six classes, each a large body in muted colours and a small, vivid head (10-20 % of the thing):

- beetle: brown oval with six legs and lengthwise lines; head: orange and black stripes.
- cactus: olive barrel with upright ribs in a pot; on top a pink and purple flower.
- fish: teal ellipse with tail fins and scales; head: yellow and blue rings.
- gnome: mauve, pear-shaped, of four panels; cap: red and white stripes.
- rocket: steel-blue hull with fins and cross bands; nose: lime and black chevrons.
- snail: khaki shell with rings on a flat foot; head: cyan with dark dots.

The head alone tells the class, so a classifier trained on tags has no need to look further and its
maps stay small. The body tells it less well: shapes are alike (a cactus, a gnome and a rocket most), hue
and faint texture mostly borrowed from any class.
"""

import colorsys
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageDraw
from scipy import ndimage

from .palette import IGNORE
from .settings import Demo

Color = tuple[float, float, float]
Polygon = np.ndarray
"""Corners, float [n, 2]: x to the right, y down; of things, in units of their length."""
Field = Callable[[np.ndarray, np.ndarray], np.ndarray]
"""Pattern over x and y: [H, W] each, to values in [0, 1] that mix two colours."""

SPLITS = ("train", "val")
SUPERSAMPLING = 3
LENGTHS = (0.45, 0.8)  # of a thing, over the picture's short side
TURN = 30  # degrees
CONTRAST = 0.17  # least RGB distance of a body to all behind it, so that edges can be followed
OVERLAP = 0.1  # largest share of a thing that another one covers
INSIDE = 0.85  # smallest share of a thing within the picture
BORROWED_BODIES = 0.65  # share of bodies in colour and texture of any class: heads are the better clue
BODY_RELIEF = 0.93  # brightness of a body texture's dark parts over its bright ones
FADED_HEADS = 0.2  # share of heads in the body's colours: without any, bodies would go unlearned
HABITAT = 0.3  # share of pictures whose background suits the first thing


def _wave(phase: np.ndarray, softness: float = 0.25) -> np.ndarray:
    """Square wave of period 1 with soft edges, in [0, 1]."""
    return np.clip(0.5 + np.sin(2 * np.pi * phase) / (2 * softness), 0, 1)


def _checks(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    return 0.5 + 2 * (_wave(x) - 0.5) * (_wave(y) - 0.5)


def _dots(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    return np.clip(0.3 + 2 * np.cos(2 * np.pi * x) * np.cos(2 * np.pi * y), 0, 1)


def _petals(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    return _wave(6 * np.arctan2(y, x) / (2 * np.pi)) * np.clip(24 * np.hypot(x, y) - 1, 0, 1)


def _ellipse(x: float, y: float, width: float, height: float) -> Polygon:
    angles = np.linspace(0, 2 * np.pi, 40, endpoint=False)
    return np.stack([x + width * np.cos(angles), y + height * np.sin(angles)], axis=1)


def _polygon(*corners: tuple[float, float]) -> Polygon:
    return np.array(corners, dtype=float)


def _rectangle(left: float, top: float, right: float, bottom: float) -> Polygon:
    return _polygon((left, top), (right, top), (right, bottom), (left, bottom))


@dataclass(frozen=True)
class Thing:
    """How a class is drawn, about 1 long, upright or facing right."""

    name: str
    body: tuple[Polygon, ...]
    body_color: Color  # hue, saturation, value
    texture: Field
    head: Polygon
    head_colors: tuple[Color, Color]  # RGB
    pattern: Field  # around the head's centre
    habitat: str  # key of BACKGROUNDS


THINGS = (
    Thing(
        "beetle",
        (
            _ellipse(-0.1, 0, 0.38, 0.25),
            *(_rectangle(x - 0.03, -0.36, x + 0.03, 0.36) for x in (-0.3, -0.1, 0.1)),
        ),
        (0.05, 0.30, 0.50),
        lambda x, y: _wave(7 * y, 1),
        _ellipse(0.34, 0, 0.15, 0.16),
        ((1.0, 0.5, 0.0), (0.05, 0.05, 0.05)),
        lambda x, y: _wave(11 * x),
        "blobs",
    ),
    Thing(
        "cactus",
        (
            _ellipse(0, 0.06, 0.26, 0.36),
            _polygon((-0.2, 0.2), (0.2, 0.2), (0.15, 0.5), (-0.15, 0.5)),
        ),
        (0.28, 0.30, 0.52),
        lambda x, y: _wave(12 * x, 1),
        _ellipse(0, -0.36, 0.16, 0.14),
        ((1.0, 0.35, 0.85), (0.3, 0.0, 0.4)),
        _petals,
        "gradient",
    ),
    Thing(
        "fish",
        (
            _ellipse(0.06, 0, 0.38, 0.22),
            _polygon((-0.2, 0), (-0.5, -0.24), (-0.42, 0), (-0.5, 0.24)),
            _polygon((-0.1, -0.15), (0.02, -0.34), (0.16, -0.15)),
        ),
        (0.49, 0.30, 0.52),
        lambda x, y: _dots(6 * x, 6 * y),
        _ellipse(0.33, 0, 0.15, 0.15),
        ((1.0, 0.9, 0.1), (0.1, 0.15, 0.8)),
        lambda x, y: _wave(8 * np.hypot(x, y) + 0.25),
        "stripes",
    ),
    Thing(
        "gnome",
        (_ellipse(0, -0.02, 0.22, 0.36), _ellipse(0, 0.22, 0.29, 0.28)),
        (0.82, 0.24, 0.56),
        lambda x, y: _checks(np.clip(4 * x, -0.25, 0.25), np.clip(4 * y + 0.3, -0.25, 0.25)),
        _ellipse(0, -0.34, 0.2, 0.14),
        ((0.95, 0.1, 0.1), (1.0, 1.0, 1.0)),
        lambda x, y: _wave(9 * y + 0.25, 0.5),
        "clouds",
    ),
    Thing(
        "rocket",
        (
            _ellipse(0, 0.05, 0.24, 0.4),
            _polygon((-0.2, 0.15), (-0.32, 0.5), (0, 0.4)),
            _polygon((0.2, 0.15), (0.32, 0.5), (0, 0.4)),
        ),
        (0.63, 0.26, 0.56),
        lambda x, y: _wave(4 * y, 0.7),
        _polygon((-0.17, -0.2), (-0.1, -0.4), (0, -0.5), (0.1, -0.4), (0.17, -0.2)),
        ((0.5, 1.0, 0.1), (0.05, 0.05, 0.05)),
        lambda x, y: _wave(10 * (y + 0.7 * abs(x))),
        "weave",
    ),
    Thing(
        "snail",
        (_ellipse(-0.1, -0.06, 0.32, 0.32), _polygon((-0.5, 0.34), (-0.3, 0.18), (0.3, 0.12), (0.42, 0.34))),
        (0.14, 0.34, 0.54),
        lambda x, y: _wave(7 * np.hypot(x + 0.1, y + 0.06), 1),
        _ellipse(0.36, 0.04, 0.13, 0.17),
        ((0.05, 0.85, 0.95), (0.4, 0.0, 0.1)),
        lambda x, y: _dots(7 * x, 7 * y),
        "noise",
    ),
)

DEMO_CLASSES = tuple(thing.name for thing in THINGS)
"""Class names of the demo set, in the order of the mask values 1, 2, …"""


@dataclass(frozen=True)
class Scene:
    """One drawn picture.

    Attributes:
        picture: RGB, uint8 [H, W, 3].
        instances: uint8 [H, W], 0 background, k the k-th object in drawing order (later ones cover).
        heads: bool [H, W], the visible heads of all objects.
        classes: class index (from 1) of each object.
        truncated: whether the picture's frame cuts the object.
    """

    picture: np.ndarray
    instances: np.ndarray
    heads: np.ndarray
    classes: list[int]
    truncated: list[bool]

    def labels(self) -> np.ndarray:
        """Class indices, uint8 [H, W], with 255 on 2 pixels wide borders around the objects."""
        labels = np.array([0, *self.classes], dtype=np.uint8)[self.instances]
        border = ndimage.maximum_filter(self.instances, 3) != ndimage.minimum_filter(self.instances, 3)
        return np.where(border, np.uint8(IGNORE), labels)


@dataclass(frozen=True)
class _Placed:
    """A thing at its place: coverage of body and head in [0, 1], [H, W], and its own coordinates."""

    number: int
    body: np.ndarray
    head: np.ndarray
    x: np.ndarray
    y: np.ndarray
    inside: float

    @property
    def mask(self) -> np.ndarray:
        return np.maximum(self.body, self.head) >= 0.5


def draw_scene(settings: Demo, split: str, index: int) -> Scene:
    """Draw one picture; it depends on its arguments alone (number of images: no influence)."""
    rng = np.random.default_rng([settings.seed, SPLITS.index(split), index])
    size = (settings.height, settings.width)
    things = _arrange(rng, index, size)
    donors = [_donor(rng, thing.number) for thing in things]
    bodies = [_jittered(rng, donor.body_color) for donor in donors]
    picture = _background(rng, things[0].number, bodies, size)
    for _ in range(rng.integers(0, 4)):
        _paint_distractor(rng, picture, bodies)
    instances = np.zeros(size, dtype=np.uint8)
    heads = np.zeros(size, dtype=bool)
    for order, (thing, color, donor) in enumerate(zip(things, bodies, donors, strict=True), 1):
        _paint_thing(rng, picture, thing, color, donor.texture)
        instances[thing.mask] = order
        heads[thing.mask] = thing.head[thing.mask] >= 0.5
    picture = picture * rng.uniform(0.8, 1.15) * rng.uniform(0.97, 1.03, 3) + rng.normal(
        0, 0.02, picture.shape
    )
    pixels = np.rint(np.clip(picture, 0, 1) * 255).astype(np.uint8)
    classes = [thing.number + 1 for thing in things]
    return Scene(pixels, instances, heads, classes, [thing.inside < 0.999 for thing in things])


def _arrange(rng: np.random.Generator, index: int, size: tuple[int, int]) -> list[_Placed]:
    """One to three things that hardly overlap; the first one's class goes round, for balance."""
    placed: list[_Placed] = []
    numbers = [index % len(THINGS), *rng.integers(0, len(THINGS), rng.choice(3, p=(0.35, 0.4, 0.25)))]
    for number in numbers:
        for _ in range(25):
            thing = _place(rng, int(number), size)
            covered = [(thing.mask & other.mask).sum() / other.mask.sum() for other in placed]
            if thing.inside >= INSIDE and sum(covered) <= OVERLAP:
                placed.append(thing)
                break
    return placed or _arrange(rng, index, size)


def _place(rng: np.random.Generator, number: int, size: tuple[int, int]) -> _Placed:
    height, width = size
    length = rng.uniform(*LENGTHS) * min(height, 0.7 * width)
    angle = math.radians(rng.uniform(-TURN, TURN))
    turn = np.array([[math.cos(angle), math.sin(angle)], [-math.sin(angle), math.cos(angle)]])
    matrix = length * np.diag([rng.choice([-1, 1]), 1]) @ turn
    centre = np.array([rng.uniform(0.15, 0.85) * width, rng.uniform(0.2, 0.8) * height])
    spec = THINGS[number]
    body, head = [polygon @ matrix + centre for polygon in spec.body], spec.head @ matrix + centre
    offsets = np.stack(_pixel_centres(size), axis=-1) - centre
    x, y = np.moveaxis(offsets @ np.linalg.inv(matrix), -1, 0)
    # area with a margin on all sides, of which the picture is the middle
    whole = _cover([np.add(part, (width, height)) for part in [*body, head]], (3 * height, 3 * width), 1)
    inside = whole[height : 2 * height, width : 2 * width].sum() / whole.sum()
    return _Placed(number, _cover(body, size), _cover([head], size), x, y, float(inside))


def _pixel_centres(size: tuple[int, int]) -> tuple[np.ndarray, np.ndarray]:
    y, x = np.mgrid[: size[0], : size[1]] + 0.5
    return x, y


def _cover(polygons: Sequence[Polygon], size: tuple[int, int], factor: int = SUPERSAMPLING) -> np.ndarray:
    """Share of each pixel, float [H, W] in [0, 1], that lies in any of the polygons."""
    canvas = Image.new("L", (size[1] * factor, size[0] * factor))
    for polygon in polygons:
        # Pillow counts from the centre of the first pixel
        ImageDraw.Draw(canvas).polygon([tuple(corner) for corner in polygon * factor - 0.5], fill=255)
    return np.asarray(canvas.reduce(factor), dtype=float) / 255


def _paint(picture: np.ndarray, cover: np.ndarray, color: np.ndarray | Color) -> None:
    """Lay a colour, RGB [3] or [H, W, 3], over the picture in place."""
    picture += cover[..., None] * (np.asarray(color) - picture)


def _mix(share: np.ndarray, first: Color | np.ndarray, second: Color | np.ndarray) -> np.ndarray:
    return share[..., None] * np.asarray(first) + (1 - share[..., None]) * np.asarray(second)


def _paint_thing(
    rng: np.random.Generator, picture: np.ndarray, thing: _Placed, color: Color, texture: Field
) -> None:
    spec = THINGS[thing.number]
    light = 1 + rng.uniform(-0.12, 0.12) * thing.x + rng.uniform(-0.12, 0.12) * thing.y
    _paint(
        picture,
        thing.body,
        light[..., None] * _mix(texture(thing.x, thing.y), color, BODY_RELIEF * np.array(color)),
    )
    x, y = spec.head.mean(axis=0)
    pattern = _mix(spec.pattern(thing.x - x, thing.y - y), *spec.head_colors)
    if rng.random() < FADED_HEADS:
        pattern = np.array(color) + 0.12 * (pattern - 0.5)
    _paint(picture, thing.head, pattern)


def _donor(rng: np.random.Generator, number: int) -> Thing:
    """The class whose colour and texture a body of class `number` has."""
    return THINGS[int(rng.integers(len(THINGS))) if rng.random() < BORROWED_BODIES else number]


def _jittered(rng: np.random.Generator, color: Color) -> Color:
    hue, saturation, value = np.array(color) + rng.uniform(-1, 1, 3) * (0.02, 0.05, 0.07)
    return colorsys.hsv_to_rgb(hue % 1, saturation, value)


def _dull_color(rng: np.random.Generator, bodies: Sequence[Color], near: Color | None = None) -> Color:
    """A muted RGB colour that can be told from the bodies; with `near`, only so far from that one."""
    while True:
        color = colorsys.hsv_to_rgb(rng.random(), rng.uniform(0.05, 0.35), rng.uniform(0.3, 0.8))
        if near is not None:
            color = tuple(0.45 * np.array(color) + 0.55 * np.array(near))
        if min(math.dist(color, body) for body in bodies) >= CONTRAST:
            return color


def _clouds(rng: np.random.Generator, size: tuple[int, int], cells: float, octaves: int = 1) -> np.ndarray:
    """Smooth noise, [H, W] in [0, 1], of so many cells along the short side and finer ones."""
    total = np.zeros(size)
    for octave in range(octaves):
        across = [max(2, round(cells * 2**octave * side / min(size))) for side in size]
        coarse = Image.fromarray(rng.standard_normal(across).astype(np.float32))
        total += np.asarray(coarse.resize(size[::-1], Image.Resampling.BICUBIC)) / 1.6**octave
    return (total - total.min()) / (total.max() - total.min())


def _stripes(rng: np.random.Generator, size: tuple[int, int], softness: float = 0.8) -> np.ndarray:
    x, y = _pixel_centres(size)
    angle, count = rng.uniform(0, math.pi), rng.uniform(4, 12)
    along = (x * math.cos(angle) + y * math.sin(angle)) / min(size)
    return _wave(count * along + 0.6 * _clouds(rng, size, 3), softness)


BACKGROUNDS: dict[str, Callable[[np.random.Generator, tuple[int, int]], np.ndarray]] = {
    "clouds": lambda rng, size: _clouds(rng, size, 2, 3),
    "noise": lambda rng, size: _clouds(rng, size, 16, 3),
    "stripes": _stripes,
    "weave": lambda rng, size: (_stripes(rng, size, 1) + _stripes(rng, size, 1)) / 2,
    "gradient": lambda rng, size: 0.8 * _clouds(rng, size, 1) + 0.2 * _clouds(rng, size, 30),
    "blobs": lambda rng, size: np.clip(8 * _clouds(rng, size, rng.uniform(4, 9)) - 3.5, 0, 1),
}
"""Background families: each gives a field [H, W] in [0, 1] that mixes two muted colours."""


def _background(
    rng: np.random.Generator, first: int, bodies: Sequence[Color], size: tuple[int, int]
) -> np.ndarray:
    family = rng.choice(list(BACKGROUNDS))
    if rng.random() < HABITAT:
        family = THINGS[first].habitat
    base = _dull_color(rng, bodies)
    # the second colour is near the first so that objects, not textures, make the strongest edges
    other = _dull_color(rng, bodies, near=base)
    share = BACKGROUNDS[family](rng, size)
    grain = 0.06 * (_clouds(rng, size, 40) - 0.5)
    return _mix(share, base, other) + grain[..., None]


def _paint_distractor(rng: np.random.Generator, picture: np.ndarray, bodies: Sequence[Color]) -> None:
    """A shape of no class: dull and as large as a body, or vivid and as small as a head."""
    height, width = picture.shape[:2]
    dull = rng.random() < 0.5
    radius = rng.uniform(*((0.12, 0.25) if dull else (0.03, 0.07))) * min(height, width)
    angles = np.linspace(0, 2 * np.pi, rng.choice([3, 4, 5, 40]), endpoint=False) + rng.uniform(0, 6)
    outline = np.stack([np.cos(angles), rng.uniform(0.4, 1) * np.sin(angles)], axis=1)
    cover = _cover([radius * outline + rng.uniform(0, 1, 2) * (width, height)], (height, width))
    vivid = colorsys.hsv_to_rgb(rng.random(), rng.uniform(0.8, 1), rng.uniform(0.8, 1))
    _paint(picture, cover, _dull_color(rng, bodies) if dull else vivid)
