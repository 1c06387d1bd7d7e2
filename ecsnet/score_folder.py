"""`ecsnet score-folder`: label images of any method against true masks, by VOC's protocol."""

from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

import numpy as np

from . import scoring
from .errors import UserError, raise_problems
from .palette import IGNORE, read_mask
from .score import label_metrics
from .scoring import ScoreRecord
from .settings import VOC_CLASSES
from .store import write_text
from .tables import read_classes
from .threads import mapped
from .voc import read_list


def run(
    *, labels: Path, truth: Path, ids: Path | None, classes: Path | None, out: Path | None, threads: int
) -> None:
    """Print the IoU of each class, their mean, and what else `score` tells of a run's labels.

    Args:
        labels, truth: folders of palette or grey PNGs <id>.png, whose values are class numbers; 255 is not
            scored in the truth, and background in the labels.
        ids: list of the images, one id a line; without it all that have a true mask.
        classes: file with the class names, one a line, without the background; without it VOC's.
        out: JSON file for the record (`scoring.ScoreRecord`).

    Raises:
        UserError: with a line for each image that has no label, no true mask, or does not fit.
    """
    for option, folder in (("labels", labels), ("--truth", truth)):
        if not folder.is_dir():
            raise UserError(f"{option}: there is no folder {folder}")
    for option, file in (("--list", ids), ("--classes", classes)):
        if file and not file.is_file():
            raise UserError(f"{option}: there is no file {file}")
    names = read_classes(classes) if classes else list(VOC_CLASSES)
    if ids:  # as a path, however the file is called
        wanted = read_list(Path(), str(ids.absolute()))
    else:
        wanted = sorted(path.stem for path in truth.glob("[!.]*.png"))
    if not wanted:
        raise UserError(f"--truth: there is no mask <id>.png in {truth}")
    with ThreadPoolExecutor(threads) as pool:
        results = list(mapped(pool, partial(_count, labels, truth, len(names)), wanted))
    problems = [result for result in results if isinstance(result, str)]
    raise_problems(problems, f"{labels} cannot be scored:")
    counts = np.sum([result for result in results if not isinstance(result, str)], axis=0)
    if not counts.sum():
        raise UserError(f"{truth}: its masks have no pixel to score (all are 255)")
    metrics, confusion = label_metrics(counts, filtered=bool(counts[:, -1].any()))
    split = ids.stem if ids else truth.name
    record = scoring.make_record(labels.name, split, len(wanted), metrics, confusion, names)
    print(_text(record))
    if out:
        write_text(out, record.to_json())


def _count(labels: Path, truth: Path, classes: int, image_id: str) -> np.ndarray | str:
    """Counts of one image, or what is wrong with it."""
    try:
        masks = {folder: read_mask(folder / f"{image_id}.png") for folder in (truth, labels)}
    except UserError as error:
        return f"image {image_id}: {error}"
    problem = _misfit(masks[truth], masks[labels], classes)
    if problem:
        return f"image {image_id}: {problem}"
    return scoring.count_pixels(masks[truth], masks[labels], classes)


def _misfit(truth: np.ndarray, label: np.ndarray, classes: int) -> str:
    """What is wrong with a pair of a true mask and a label; empty if nothing is."""
    for kind, mask in (("true mask", truth), ("label", label)):
        unknown = mask[(mask > classes) & (mask != IGNORE)]
        if unknown.size:
            remedy = "name them with --classes, in the order of the values"
            return f"the {kind} has the value {unknown[0]}, but there are {classes} classes; {remedy}"
    if truth.shape != label.shape:
        sizes = [f"{mask.shape[1]}×{mask.shape[0]}" for mask in (label, truth)]
        return f"the label is {sizes[0]} pixels, its true mask {sizes[1]}; make labels of the pictures' sizes"
    return ""


def _text(record: ScoreRecord) -> str:
    """A line for each class, and for each number over all of them."""
    rows = [*record.iou.items(), *((NAMES[name], value) for name, value in record.metrics.items())]
    size = max(len(name) for name, _ in rows)
    lines = [f"{name:{size}}  {'–' if value is None else f'{value:.2f}':>6}" for name, value in rows]
    head = f"{record.what} on {record.split}, {record.images} images; IoU in percent"
    return "\n".join([head, *lines[: len(record.iou)], "", *lines[len(record.iou) :]])


NAMES = {
    "miou": "mIoU",
    "miou_kept": "mIoU without the pixels that are 255",
    "coverage": "pixels that have a label",
    "accuracy_kept": "pixels that are right, of these",
}
