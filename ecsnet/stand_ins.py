"""What a trial of the stages works on: some of a run's images, and stand-ins for what is not there yet."""

import dataclasses
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from .palette import IGNORE
from .tables import ImageRecord


def sample(records: Sequence[ImageRecord], count: int, same_shape: bool) -> list[ImageRecord]:
    """Some images that stand for all: a middle size first; or those of the commonest shape."""
    if same_shape:
        shapes = [(record.height, record.width) for record in records]
        commonest = max(set(shapes), key=shapes.count)
        return [one for one, shape in zip(records, shapes, strict=True) if shape == commonest][:count]
    ordered = sorted(records, key=lambda one: one.width * one.height * (1 + len(one.tags)))
    count = min(count, len(ordered))
    chosen = [ordered[(2 * place + 1) * len(ordered) // (2 * count)] for place in range(count)]
    return [chosen[place] for place in sorted(range(count), key=lambda place: abs(place - count // 2))]


def megapixels(records: Sequence[ImageRecord]) -> float:
    """Millions of pixels of all pictures together."""
    return sum(record.width * record.height for record in records) / 1e6


def draw(record: ImageRecord, folder: Path) -> ImageRecord:
    """Write a picture of an image's size, of smooth noise, which takes as long to read as a photograph."""
    path = folder / "JPEGImages" / f"{record.id}.jpg"
    path.parent.mkdir(exist_ok=True)
    size = (max(2, record.width // 8), max(2, record.height // 8))
    noise = np.random.default_rng(0).integers(0, 256, (size[1], size[0], 3), np.uint8)
    picture = Image.fromarray(noise).resize((record.width, record.height), Image.Resampling.BICUBIC)
    picture.save(path, quality=95)
    return dataclasses.replace(record, image=f"JPEGImages/{path.name}")


def maps(record: ImageRecord) -> dict[str, np.ndarray]:
    """A label and a region to erase, as of the stages before: a patch of each class, and a border."""
    height, width = max(4, record.height // 2), max(4, record.width // 2)
    label = np.zeros((height, width), np.uint8)
    for place, tag in enumerate(record.tags):
        left = place * width // len(record.tags)
        label[height // 4 : -height // 4, left : left + width // 3] = tag
    label[height // 4] = IGNORE
    return {"label": label, "region": (label > 0).astype(np.uint8)}
