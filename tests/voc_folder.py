"""Tiny data sets in VOC's layout, for tests of what reads them."""

import html
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from ecsnet import prepare
from ecsnet.errors import UserError
from ecsnet.palette import write_mask
from ecsnet.settings import Dataset

CLASSES = ("cat", "dog")
REAL_ROOT = Path("data/VOCdevkit/VOC2012")
TAGS = {"a1": ("cat",), "a2": ("dog", "cat"), "v1": ("dog",)}
WIDTH, HEIGHT = 12, 8


def run_prepare(data: Dataset, out: Path, *splits: str, threads: int = 2) -> None:
    """Run the stage for both splits or one, its tables into the folder `out`."""
    for split in splits or ("train", "val"):
        prepare.run(
            data,
            split=split,
            out=out / f"{split}.csv",
            out_classes=out / "classes.txt" if split == "train" else None,
            out_problems=out / f"{split}_problems.csv",
            threads=threads,
        )


def make_voc(root: Path) -> Dataset:
    """Write images a1, a2 (list train) and v1 (list val) with annotations and masks."""
    for number, (image_id, names) in enumerate(TAGS.items()):
        write_picture(root / "JPEGImages" / f"{image_id}.jpg", seed=number)
        write_annotation(root, image_id, names)
        mask = np.zeros((HEIGHT, WIDTH), np.uint8)
        mask[:2], mask[2] = 1 + CLASSES.index(names[0]), 255
        write_mask(root / "SegmentationClass" / f"{image_id}.png", mask)
    write_list(root, "train", "a1\na2\n")
    write_list(root, "val", "v1\n")
    return Dataset(root=str(root), train_list="train", val_list="val", classes=CLASSES)


def write_picture(path: Path, *, seed: int = 0, size: tuple[int, int] = (WIDTH, HEIGHT)) -> None:
    """Write noise; the ending decides the format."""
    path.parent.mkdir(parents=True, exist_ok=True)
    noise = np.random.default_rng(seed).integers(0, 256, (size[1], size[0], 3), np.uint8)
    Image.fromarray(noise).save(path)


def write_annotation(root: Path, image_id: str, names: tuple[str, ...], difficult: int = 0) -> None:
    """Write Annotations/<id>.xml with one object for each name."""
    objects = "".join(
        f"<object><name>{name}</name><difficult>{difficult}</difficult>"
        "<part><name>head</name></part></object>"
        for name in names
    )
    path = root / "Annotations" / f"{image_id}.xml"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"<annotation><filename>{html.escape(image_id)}.jpg</filename>{objects}</annotation>")


def write_list(root: Path, name: str, text: str | bytes) -> Path:
    """Write a list into ImageSets/Segmentation."""
    path = root / "ImageSets" / "Segmentation" / f"{name}.txt"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return path


def write_main_lists(root: Path, flags: dict[str, str]) -> None:
    """Write ImageSets/Main/<class>_trainval.txt with the given text for each class."""
    folder = root / "ImageSets" / "Main"
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in flags.items():
        (folder / f"{name}_trainval.txt").write_text(text)


def outcome(function: Callable[..., Any], *arguments: Any) -> Any:
    """What a function returns, or the `UserError` that it raises; any other error fails the test."""
    try:
        return function(*arguments)
    except UserError as error:
        return error
