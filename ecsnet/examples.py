"""Of each class the images on which a network did best, middling and worst, as a sheet of pictures."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from . import plots
from .plots import Entry
from .resampling import class_iou, parts
from .scoring import ImageCounts
from .tables import ImageRecord, LabelTable

BOX = (132, 99)
BLANK = np.full((1, 1, 3), 255, np.uint8)
RANKS = ("best", "median", "worst")


@dataclass(frozen=True)
class Example:
    """An image by how well a class was found in it: its own IoU in percent, and the rank that this is."""

    image_id: str
    number: int
    rank: str
    iou: float


def choose(counts: ImageCounts) -> list[list[Example]]:
    """For each class, of the images with it, the best, median and worst one by the class's IoU in the image.

    Of equal ones the one with more pixels of the class is the worse. Fewer where there are not three such
    images; a class that no image has is left out.
    """
    area = counts.counts.sum(2)
    iou = class_iou(np.eye(len(counts.ids)), parts(counts.counts))
    rows = []
    for number in range(1, area.shape[1]):
        images = np.flatnonzero(area[:, number])
        # of those that are equally bad, the one where there is most to be seen
        order = images[np.lexsort((area[images, number], -iou[images, number]))]
        # of two the second is the worst, a single one the best
        ranks = {len(order) // 2: "median", len(order) - 1: "worst", 0: "best"} if len(order) else {}
        row = [(order[place], rank) for place, rank in sorted(ranks.items())]
        rows.append([Example(counts.ids[one], number, rank, float(iou[one, number])) for one, rank in row])
    return [row for row in rows if row]


def draw_examples(
    out: Path,
    counts: ImageCounts,
    records: dict[str, ImageRecord],
    root: Path,
    masks: LabelTable,
    predictions: LabelTable,
    names: list[str],
) -> None:
    """Draw them with their true masks and predictions, a line for each class.

    Args:
        records: of the images, by id, their paths relative to `root`.
        masks: true masks.
        names: of the classes, background first.
    """
    entries = []
    for row in choose(counts):
        for example in row:
            photo = plots.thumbnail(root / records[example.image_id].image, BOX)
            labels = [table.get(example.image_id) for table in (masks, predictions)]
            pictures = [photo, *(plots.label_overlay(photo, label) for label in labels)]
            caption = f"{example.rank}: {example.iou:.0f} %  {example.image_id}"
            entries.append(Entry(caption, [example.number], pictures))
        entries += [Entry("", [], [BLANK] * 3)] * (len(RANKS) - len(row))
    plots.draw_sheet(out, entries, ["image", "truth", "prediction"], names, BOX, across=len(RANKS))
