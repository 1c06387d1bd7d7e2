"""Tiny data sets in MS COCO's layout, for tests of what reads them."""

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from ecsnet.settings import Dataset

WIDTH, HEIGHT = 6, 4
CATEGORIES = {17: "cat", 1: "person", 90: "toothbrush"}
"""Out of order and with gaps: by their ids person is 1, cat 2, toothbrush 3."""
TRAIN = {7: "a.jpg", 9: "b.jpg", 11: "c.jpg", 12: "d.jpg", 13: "sub/e.jpg"}
VAL = {7: "a.jpg", 8: "n.jpg"}
MODES = {"b.jpg": "L", "sub/e.jpg": "CMYK"}


def annotation(number: int, image: int, category: int, segmentation: Any, iscrowd: int = 0) -> dict[str, Any]:
    return {
        "id": number, "image_id": image, "category_id": category, "iscrowd": iscrowd,
        "segmentation": segmentation, "area": 4.5, "bbox": [0, 0, 2.5, 2],
    }  # fmt: skip


def rle(counts: list[int] | str) -> dict[str, Any]:
    return {"counts": counts, "size": [HEIGHT, WIDTH]}


TRAIN_ANNOTATIONS = [
    # a row that lies over a rectangle, and is smaller
    annotation(1, 7, 1, [[2, 1, 6, 1, 6, 2, 2, 2]]),
    annotation(2, 7, 17, [[0, 0, 4, 0, 4, 3, 0, 3]]),
    # RLEs go down the columns: two pixels in each of two columns, before a crowd of three columns
    annotation(3, 9, 1, rle([8, 2, 2, 2, 10])),
    annotation(4, 9, 1, rle([0, 12, 12]), iscrowd=1),
    annotation(5, 12, 90, rle([20, 4]), iscrowd=1),
    # [5, 2, 2, 2, 13], of which the last two are differences to the second before: 0 and 11
    annotation(6, 13, 17, rle("5220;")),
]
VAL_ANNOTATIONS = [annotation(1, 7, 90, [[0, 0, 6, 0, 6, 1, 0, 1]])]

MASKS = {
    "train_a": [[2, 2, 2, 2, 0, 0], [2, 2, 1, 1, 1, 1], [2, 2, 2, 2, 0, 0], [0] * 6],
    "train_b": [[255, 255, 1, 1, 0, 0], [255, 255, 1, 1, 0, 0], *[[255] * 3 + [0] * 3] * 2],
    "train_c": [[0] * 6] * 4,
    "train_d": [[0, 0, 0, 0, 0, 255]] * 4,
    "train_sub_e": [[0] * 6, *[[0, 2, 2, 0, 0, 0]] * 2, [0] * 6],
    "val_a": [[3] * 6, *[[0] * 6] * 3],
    "val_n": [[0] * 6] * 4,
}
"""By hand."""


DATASET = Dataset(
    kind="coco",
    images="coco/train",
    val_images="coco/val",
    train_list="coco/train.json",
    val_list="coco/val.json",
    classes=("person", "cat", "toothbrush"),
)
"""Settings for the folder that holds the data set's, coco."""


def make_coco(root: Path) -> None:
    """Write the data set."""
    for part, names, annotations in (("train", TRAIN, TRAIN_ANNOTATIONS), ("val", VAL, VAL_ANNOTATIONS)):
        for number, name in names.items():
            write_picture(root / part / name, number, MODES.get(name, "RGB"))
        write_instances(root / f"{part}.json", names, annotations)


def write_picture(path: Path, seed: int, mode: str = "RGB", size: tuple[int, int] = (WIDTH, HEIGHT)) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    noise = np.random.default_rng(seed).integers(0, 256, (size[1], size[0], 3), np.uint8)
    Image.fromarray(noise).convert(mode).save(path)


def write_instances(path: Path, names: dict[int, str], annotations: Iterable[dict[str, Any]]) -> None:
    """In the order of the published files: categories last."""
    content = {
        "info": {"description": "made for a test"},
        "images": [
            {"file_name": name, "height": HEIGHT, "width": WIDTH, "id": key} for key, name in names.items()
        ],
        "annotations": list(annotations),
        "categories": [{"supercategory": "x", "id": key, "name": name} for key, name in CATEGORIES.items()],
    }
    path.write_text(json.dumps(content))
