"""Stage `import_coco_masks`: true masks of a data set in MS COCO's layout, as VOC's, for scores alone."""

import math
import re
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from .errors import UserError, raise_problems
from .folder import MASKS
from .instances import Part, Picture, class_values, part_of, read_instances
from .palette import IGNORE, write_mask
from .pictures import MAX_PIXELS
from .settings import Dataset
from .store import fingerprint, remove_leftovers, write_text
from .threads import mapped

FARTHEST = 1e6
"""Pixels; a corner farther out is no corner, and its polygon would take all memory."""

Region = tuple[int, np.ndarray]
"""A class's value, and where it is: bool [H, W]."""


class ShapeError(ValueError):
    """A segmentation that is none: what is wrong, and the remedy."""


def run(settings: Dataset, *, part: str, root: Path, out: Path, threads: int = 1) -> None:
    """Write the true masks of a part's pictures under `root`, those of pictures without a tag too.

    The smaller of two instances lies over the larger, of equals the later. A region of a crowd
    (`iscrowd`), in which instances are not told apart, is ignored (255) where no instance is. What is no
    instance of the classes is background.

    Args:
        settings: of kind coco, with the classes.
        part: train or val.
        root: folder of the data set as it is laid out.
        out: table of the masks as CSV, written last: id, and a digest of the mask.
        threads: masks worked on at the same time.

    Raises:
        UserError: with a line for each mistake in the JSON, also each segmentation that is none; or
            pycocotools, the extra `coco`, is not installed.
    """
    _tools()  # before the file is read
    source = part_of(settings, part)
    instances = read_instances(source, with_shapes=True)
    values = class_values(source, instances, settings.classes)
    own = [
        (picture, [one for one in instances.annotations[picture.key] if one["category_id"] in values])
        for picture in instances.pictures
    ]
    with ThreadPoolExecutor(threads) as pool:
        results = list(mapped(pool, partial(_try_mask, source, values, root / MASKS), own))
    problems = [line for one in results if isinstance(one, list) for line in one]
    raise_problems(problems, "Some masks cannot be made:")
    remove_leftovers(root / MASKS)
    write_text(
        out, pd.DataFrame(results, columns=["id", "fingerprint"]).to_csv(index=False, lineterminator="\n")
    )
    print(f"import_coco_masks: {part}, {len(results)} masks")


def _tools() -> Any:
    """pycocotools, which nothing else needs."""
    try:
        from pycocotools import mask
    except ImportError as error:
        remedy = "install it (pip install pycocotools), or set score.train_masks and score.val_masks to null"
        raise UserError(f"masks in COCO's layout need pycocotools ({error}); {remedy}") from None
    return mask


def _try_mask(
    source: Part, values: dict[int, int], folder: Path, own: tuple[Picture, list[dict[str, Any]]]
) -> tuple[str, str] | list[str]:
    """Write a mask; the picture's id and a digest, or what is wrong with its annotations."""
    picture, annotations = own
    if not 0 < picture.width * picture.height <= MAX_PIXELS:
        found = f"{picture.width}×{picture.height} pixels"
        return [f"{source.instances}: {picture.name} has {found}; correct its width and height"]
    problems: list[str] = []
    crowds: list[Region] = []
    instances: list[Region] = []
    for one in annotations:
        try:
            region = region_of(one.get("segmentation"), picture.height, picture.width)
        except ShapeError as error:
            what = f"the segmentation of annotation {one.get('id')}, in {picture.name}"
            problems.append(f"{source.instances}: {what}, {error}")
            continue
        (crowds if one.get("iscrowd") else instances).append((values[one["category_id"]], region))
    if problems:
        return problems
    mask = painted(crowds, instances, picture.height, picture.width)
    return picture.id, fingerprint(write_mask(folder / f"{picture.id}.png", mask))


def painted(crowds: list[Region], instances: list[Region], height: int, width: int) -> np.ndarray:
    """The mask, uint8 [H, W], of crowds and instances (see `run` for what lies over what)."""
    mask = np.zeros((height, width), np.uint8)
    for _, region in crowds:
        mask[region] = IGNORE
    for value, region in sorted(instances, key=lambda one: -np.count_nonzero(one[1])):
        mask[region] = value
    return mask


def region_of(segmentation: Any, height: int, width: int) -> np.ndarray:
    """Where an instance is, bool [H, W]: of polygons, or of an RLE, compressed or not.

    Polygons of two corners or fewer, which COCO's tools pass over, have no pixel.

    Raises:
        ShapeError: it is none of these, or does not fit the picture.
    """
    if isinstance(segmentation, dict):
        rle = _checked_rle(segmentation, height, width)
    else:
        polygons = [polygon for polygon in _checked_polygons(segmentation) if len(polygon) >= 6]
        if not polygons:
            return np.zeros((height, width), bool)
        rle = _tools().merge(_tools().frPyObjects(polygons, height, width))
    return _tools().decode(rle).astype(bool)


def _checked_polygons(segmentation: Any) -> list[list[float]]:
    if not segmentation:
        raise ShapeError(
            "is not there (a box is no mask); set score.train_masks, score.val_masks and "
            "supervised.masks to null, or add it"
        )
    for polygon in segmentation if isinstance(segmentation, list) else [None]:
        if not isinstance(polygon, list) or not all(_is_place(number) for number in polygon):
            raise ShapeError("is no list of polygons [x1, y1, x2, y2, …] and no RLE; correct it")
        if len(polygon) % 2:
            raise ShapeError(f"has a polygon of {len(polygon)} numbers; correct it, each corner has two")
    return segmentation


def _is_place(number: Any) -> bool:
    return isinstance(number, int | float) and math.isfinite(number) and abs(number) < FARTHEST


def _checked_rle(segmentation: dict[str, Any], height: int, width: int) -> dict[str, Any]:
    """A compressed RLE whose runs are exactly the picture's pixels.

    Of shorter ones pycocotools leaves the rest of the pixels as the memory was.
    """
    size, counts = segmentation.get("size"), segmentation.get("counts")
    if size != [height, width]:
        raise ShapeError(f"is an RLE of the size {size}, not [{height}, {width}]; correct it")
    if isinstance(counts, list):
        if not all(isinstance(run, int) and run >= 0 for run in counts) or sum(counts) != height * width:
            raise ShapeError(f"is an RLE whose counts are not {height * width} pixels in all; correct it")
        return _tools().frPyObjects(segmentation, height, width)
    if not isinstance(counts, str) or not _RLE.fullmatch(counts) or not _are_whole(counts, height * width):
        raise ShapeError(f"is an RLE whose text is not of {height * width} pixels in all; correct it")
    return segmentation


_RLE = re.compile("[0-o]*[0-O]")
"""Five bits a sign; the last one of a number is of the lower half."""


def _are_whole(counts: str, pixels: int) -> bool:
    """Whether runs are of so many pixels: decoding refuses those that do not fit in."""
    return _fit(counts, pixels) and not _fit(counts, pixels - 1)


def _fit(counts: str, pixels: int) -> bool:
    try:
        _tools().decode({"size": [1, pixels], "counts": counts})
    except ValueError:
        return False
    return True
