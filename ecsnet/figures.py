"""Stage `figures`: pictures of a run, from the first map to the last prediction."""

import os
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from . import filter_chart, plots
from .errors import UserError
from .examples import draw_examples
from .grids import argmax_labels
from .plots import Entry
from .score import WHATS
from .scoring import all_pixels, count_pixels, mean_iou, read_image_counts, read_score
from .settings import Figures
from .store import ShardReader
from .tables import ImageRecord, LabelTable, read_classes, read_images

PANEL_BOX = (152, 114)
PREDICTION_BOX = (200, 150)
CLASSES_SHOWN = 5  # as many as have room beside a prediction's caption


@dataclass(frozen=True)
class Stages:
    """What the stages made of the training images."""

    truth: LabelTable | None
    erase: ShardReader
    evidence: ShardReader
    ecs_labels: ShardReader | None
    filtered: LabelTable


def run(
    settings: Figures,
    *,
    images: Path,
    val_images: Path,
    classes: Path,
    root: Path,
    erase: list[Path],
    evidence: list[Path],
    ecs_labels: list[Path] | None,
    filtered: Path,
    kept: Path,
    predictions: Path,
    truth: Path | None,
    val_truth: Path | None,
    val_counts: Path | None,
    histories: list[Path],
    scores: list[Path] | None,
    out: Path,
) -> None:
    """Write panels, predictions, examples, curves, iou, confusion and filter .png into the folder `out`.

    Args:
        settings: section `figures`.
        images, val_images: image tables, their paths relative to `root`.
        classes: file with the class names.
        root: data root.
        erase, evidence, ecs_labels: shards of the stages of that name (of the last round); ecs_labels
            are None where the evidence itself is filtered.
        filtered, predictions: label tables, their paths relative to their own folders.
        kept: by class, what filter_labels kept.
        truth, val_truth: tables of true masks, relative to `root`; None leaves the truth out.
        val_counts: what `score` counted in each validation image; None without true masks.
        histories: history.csv of each training.
        scores: JSON files that `score` wrote; None where nothing could be scored.
        out: folder.
    """
    names = read_classes(classes)
    plots.use_fonts_for(names)
    stages = Stages(
        LabelTable(truth, root) if truth else None,
        ShardReader(erase),
        ShardReader(evidence),
        ShardReader(ecs_labels) if ecs_labels else None,
        LabelTable(filtered, filtered.parent),
    )
    records = read_images(images, names)
    filter_chart.draw_filter(out / "filter.png", filtered, kept, records, names)
    shown = [record for record in records if not stages.truth or record.id in stages.truth]
    panels = [_panel(record, root, stages) for record in spread(shown, settings.panels)]
    titles = ["image", *(["truth"] if truth else []), "CAM", "erased image", "CAM of the rest"]
    titles += ["evidence label", *(["ECS label"] if ecs_labels else []), "filtered label"]
    plots.draw_sheet(out / "panels.png", panels, titles, ["background", *names], PANEL_BOX)

    masks = LabelTable(val_truth, root) if val_truth else None
    found = LabelTable(predictions, predictions.parent)
    held_back = [record for record in read_images(val_images, names) if not masks or record.id in masks]
    chosen = spread(held_back, settings.columns)
    pairs = [_prediction(record, root, masks, found, len(names)) for record in chosen]
    titles = ["image", *(["truth"] if masks else []), "prediction"]
    plots.draw_sheet(out / "predictions.png", pairs, titles, ["background", *names], PREDICTION_BOX, across=2)

    if masks and val_counts:
        counts, own = read_image_counts(val_counts), {record.id: record for record in held_back}
        draw_examples(out / "examples.png", counts, own, root, masks, found, ["background", *names])
    else:
        plots.draw_note(out / "examples.png", "Nothing is scored: there are no true masks.")
    plots.draw_curves(out / "curves.png", read_histories(histories))
    scored = sorted(map(read_score, scores or []), key=lambda record: WHATS.index(record.what))
    plots.draw_iou(out / "iou.png", scored)
    plots.draw_confusion(out / "confusion.png", next((item for item in scored if item.what == "val"), None))


def spread(records: list[ImageRecord], count: int) -> list[ImageRecord]:
    """Up to `count` images, the classes taking turns; each takes its first that is still free.

    Those without tags come last.
    """
    queues = [
        [record for record in records if tag in record.tags]
        for tag in sorted({tag for record in records for tag in record.tags})
    ]
    chosen: dict[str, ImageRecord] = {}
    while len(chosen) < min(count, len(records)) and any(queues):
        for queue in queues:
            while queue and queue[0].id in chosen:
                queue.pop(0)
            if queue and len(chosen) < count:
                chosen[queue[0].id] = queue[0]
    for record in records:  # pictures of one's own may have no tags
        if len(chosen) < count:
            chosen.setdefault(record.id, record)
    return list(chosen.values())


def read_histories(paths: list[Path]) -> dict[str, pd.DataFrame]:
    """Loss tables by the stage's name, which is what their folders do not have in common.

    Raises:
        UserError: a table is missing or unreadable.
    """
    common = os.path.commonpath([path.parent.parent for path in paths]) if paths else ""
    tables = {}
    for path in paths:
        try:
            tables[os.path.relpath(path.parent, common).replace(os.sep, ", ")] = pd.read_csv(path)
        except (OSError, ValueError) as error:
            raise UserError(f"{path}: not a readable history ({error}); run the training again") from None
    return tables


def _panel(record: ImageRecord, root: Path, stages: Stages) -> Entry:
    """One training image as each stage sees it."""
    photo = plots.thumbnail(root / record.image, PANEL_BOX)
    pictures = [photo]
    if stages.truth:
        pictures.append(plots.label_overlay(photo, stages.truth.get(record.id)))
    pictures += [
        plots.heat_overlay(photo, stages.erase.get(record.id, "cam").max(0)),
        plots.erased_picture(photo, stages.erase.get(record.id, "region")),
        plots.heat_overlay(photo, stages.erase.get(record.id, "erased_cam").max(0)),
        plots.label_overlay(photo, stages.evidence.get(record.id, "label")),
    ]
    if stages.ecs_labels:
        scores, present = (stages.ecs_labels.get(record.id, name) for name in ("scores", "classes"))
        label = argmax_labels(scores, np.insert(present, 0, 0), record.height, record.width)
        pictures.append(plots.label_overlay(photo, label))
    pictures.append(plots.label_overlay(photo, stages.filtered.get(record.id)))
    return Entry(record.id, record.tags, pictures)


def _prediction(
    record: ImageRecord, root: Path, masks: LabelTable | None, predictions: LabelTable, classes: int
) -> Entry:
    """One validation image; the caption has its own mIoU and the classes of the largest areas."""
    photo = plots.thumbnail(root / record.image, PREDICTION_BOX)
    labels = predictions.get(record.id)
    areas = np.bincount(labels.ravel(), minlength=256)
    pictures, caption = [photo], record.id
    if masks:
        truth = masks.get(record.id)
        areas += np.bincount(truth.ravel(), minlength=256)
        pictures.append(plots.label_overlay(photo, truth))
        caption += f"  mIoU {mean_iou(all_pixels(count_pixels(truth, labels, classes))):.0f}"
    pictures.append(plots.label_overlay(photo, labels))
    largest = 1 + np.argsort(-areas[1 : classes + 1], kind="stable")[:CLASSES_SHOWN]
    return Entry(caption, [int(index) for index in np.sort(largest) if areas[index]], pictures)
