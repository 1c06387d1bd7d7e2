"""Stage `score`: one kind of label against the true masks, each picture at its own size.

The list of true masks decides what is scored: an image of it without a label is an error, never
skipped, because a score over fewer images cannot be compared with anything.
"""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from threading import Lock

import numpy as np
import pandas as pd

from . import scoring
from .errors import UserError, raise_problems
from .grids import argmax_labels, resize_labels, resize_maps
from .settings import Score
from .store import Shard, ShardReader, write_text
from .tables import LabelTable, read_classes

WHATS = ("cam", "cam_refined", "ecs_labels", "filtered_labels", "val", "supervised")
"""What can be scored, in the order of the pipeline."""

CAM_THRESHOLDS = np.arange(1, 41) / 50
"""Background scores 0.02, 0.04 … 0.80 that the best one for the CAM seed is sought among."""

Counter = Callable[[str, np.ndarray], np.ndarray]
"""From an image's id and true mask [H, W] to its pixel counts, which add up over images."""


def run(
    settings: Score,
    *,
    what: str,
    split: str,
    source: list[Path],
    truth: Path,
    classes: Path,
    root: Path,
    out: Path,
    out_confusion: Path,
    threads: int = 1,
) -> None:
    """Score `what` and write its record as JSON and its confusion matrix as CSV.

    Args:
        settings: section `score`.
        what: one of `WHATS`.
        split: name of the list of images, for the record.
        source: shards of erase (cam), of evidence (cam_refined) or of ecs_labels, else one label
            table, whose paths are relative to its own folder.
        truth: label table of the true masks, its paths relative to `root`.
        classes: file with the class names.
        root: data root.
        out: JSON file (`scoring.ScoreRecord`).
        out_confusion: CSV file; rows are the true class, columns the given one.
        threads: images worked on at the same time; any number gives the same result.

    Raises:
        UserError: with a line for each image without label, of another size, or with a changed file.
    """
    assert what in WHATS, what
    names = read_classes(classes)
    masks = LabelTable(truth, root)
    thresholds = np.unique([*CAM_THRESHOLDS, settings.cam_threshold]).astype(np.float32)
    sharded = what in ("cam", "cam_refined", "ecs_labels")
    labels = ShardReader(source) if sharded else LabelTable(source[0], source[0].parent)
    _refuse_missing(what, masks, labels, source[0], truth)
    counts = _sum_over_images(masks, _counter(what, labels, thresholds, len(names)), threads)
    if not counts.sum():
        raise UserError(f"{truth}: its masks have no pixel to score (all are 255, or there is no mask)")
    if what == "cam":
        metrics, confusion = _cam_metrics(counts, thresholds, settings.cam_threshold)
    else:
        metrics, confusion = _label_metrics(counts, what == "filtered_labels")
    record = scoring.make_record(what, split, len(masks.ids()), metrics, confusion, names)
    write_text(out_confusion, _confusion_csv(confusion, list(record.iou)))
    write_text(out, record.to_json())
    print(f"{what} on {split}, {record.images} images:", _line(record.metrics))


def _refuse_missing(
    what: str, masks: LabelTable, labels: ShardReader | LabelTable, source: Path, truth: Path
) -> None:
    remedy = "delete that and run snakemake again"
    if what not in ("val", "supervised"):
        remedy = "add it to dataset.train_list, or take it off score.train_list"
    problems = [
        f"image {image_id}: has a true mask in {truth} but no label in {source}; {remedy}"
        for image_id in masks.ids()
        if image_id not in labels
    ]
    raise_problems(problems, f"{what} cannot be scored:")


def _counter(what: str, labels: ShardReader | LabelTable, thresholds: np.ndarray, classes: int) -> Counter:
    """The function that counts one image's pixels."""
    if isinstance(labels, LabelTable):
        return lambda image_id, truth: scoring.count_pixels(truth, labels.get(image_id), classes)
    read = partial(_read, labels, Lock())

    def count_cam(image_id: str, truth: np.ndarray) -> np.ndarray:
        cam, present = read(image_id, "cam", "classes")
        return scoring.count_thresholds(truth, resize_maps(cam, *truth.shape), present, thresholds, classes)

    def count_refined(image_id: str, truth: np.ndarray) -> np.ndarray:
        (label,) = read(image_id, "cam_label")
        return scoring.count_pixels(truth, resize_labels(label, *truth.shape), classes)

    def count_ecs(image_id: str, truth: np.ndarray) -> np.ndarray:
        scores, present = read(image_id, "scores", "classes")
        return scoring.count_pixels(truth, argmax_labels(scores, present, *truth.shape), classes)

    return {"cam": count_cam, "cam_refined": count_refined, "ecs_labels": count_ecs}[what]


def _read(shards: ShardReader, lock: Lock, image_id: str, *names: str) -> list[np.ndarray]:
    with lock:  # zipfile counts its open members without one
        return [shards.get(image_id, name) for name in names]


def _sum_over_images(masks: LabelTable, count: Counter, threads: int) -> np.ndarray:
    """Counts of all images. Each thread adds up its own part, so memory does not grow with them."""
    parts = [Shard(index + 1, threads).select(masks.ids()) for index in range(threads)]
    with ThreadPoolExecutor(threads) as pool:
        results = list(pool.map(lambda part: _sum_part(part, masks, count), parts))
    raise_problems([line for _, problems in results for line in problems], "Some images cannot be scored:")
    return sum((total for total, _ in results), start=np.zeros(1, np.int64))


def _sum_part(image_ids: list[str], masks: LabelTable, count: Counter) -> tuple[np.ndarray, list[str]]:
    total = np.zeros(1, np.int64)  # takes the counts' shape with the first image; a part may have none
    problems = []
    for image_id in image_ids:
        try:
            total = total + count(image_id, masks.get(image_id))
        except UserError as error:
            problems.append(f"image {image_id}: {error}")
    return total, problems


def _cam_metrics(
    counts: np.ndarray, thresholds: np.ndarray, fixed: float
) -> tuple[dict[str, float], np.ndarray]:
    """Metrics at the fixed and at the best threshold, and the confusion matrix at the best."""
    confusions = scoring.threshold_confusions(counts)
    mious = [scoring.mean_iou(confusion) for confusion in confusions]
    best = int(np.argmax(mious))
    metrics = {
        "miou": mious[int(np.searchsorted(thresholds, np.float32(fixed)))],
        "miou_best": mious[best],
        "best_threshold": float(thresholds[best]),
        "coverage": 100.0,
        "accuracy_kept": scoring.accuracy(confusions[best]),
    }
    return metrics, confusions[best]


def _label_metrics(counts: np.ndarray, filtered: bool) -> tuple[dict[str, float], np.ndarray]:
    """Metrics over all pixels and over the kept ones, and the confusion matrix over all."""
    confusion, kept = scoring.all_pixels(counts), scoring.kept_pixels(counts)
    metrics = {"miou": scoring.mean_iou(confusion)}
    if filtered:
        metrics["miou_kept"] = scoring.mean_iou(kept)
    metrics |= {"coverage": scoring.coverage(counts), "accuracy_kept": scoring.accuracy(kept)}
    return metrics, confusion


def _confusion_csv(confusion: np.ndarray, names: list[str]) -> str:
    return pd.DataFrame(confusion, index=names, columns=names).to_csv(
        index_label="truth", lineterminator="\n"
    )


def _line(metrics: dict[str, float | None]) -> str:
    return ", ".join(f"{name} {value:.2f}" for name, value in metrics.items() if value is not None)
