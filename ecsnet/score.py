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

WHATS = ("cam", "cam_refined", "evidence", "ecs_labels", "filtered_labels", "val", "supervised")
"""What can be scored, in the order of the pipeline."""

CAM_THRESHOLDS = np.arange(1, 41) / 50
"""Background scores 0.02, 0.04 … 0.80 that the best one for the CAM seed is sought among."""

WITH_IGNORED = ("evidence", "filtered_labels")
"""Kinds in which a rule sets pixels to 255."""

Counter = Callable[[str, np.ndarray], np.ndarray]
"""From an image's id and true mask [H, W] to its pixel counts, which add up over images."""

Sparse = tuple[np.ndarray, np.ndarray]
"""One image's counts: the places, in the flat array, of those that are not 0, and their values."""


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
    out_counts: Path,
    threads: int = 1,
) -> None:
    """Score `what` and write its record as JSON, its confusion matrix as CSV, each image's counts.

    Args:
        settings: section `score`.
        what: one of `WHATS`.
        split: name of the list of images, for the record.
        source: shards of erase (cam), of evidence (cam_refined, evidence) or of ecs_labels, else one
            label table, whose paths are relative to its own folder.
        truth: label table of the true masks, its paths relative to `root`.
        classes: file with the class names.
        root: data root.
        out: JSON file (`scoring.ScoreRecord`).
        out_confusion: CSV file; rows are the true class, columns the given one.
        out_counts: what resampling the images needs (`scoring.write_image_counts`); for cam, at the
            best threshold of all images.
        threads: images worked on at the same time; any number gives the same result.

    Raises:
        UserError: with a line for each image without label, of another size, or with a changed file.
    """
    assert what in WHATS, what
    names = read_classes(classes)
    masks = LabelTable(truth, root)
    thresholds = np.unique([*CAM_THRESHOLDS, settings.cam_threshold]).astype(np.float32)
    sharded = what in ("cam", "cam_refined", "evidence", "ecs_labels")
    labels = ShardReader(source) if sharded else LabelTable(source[0], source[0].parent)
    _refuse_missing(what, masks, labels, source[0], truth)
    shape, found = _count_images(masks, _counter(what, labels, thresholds, len(names)), threads)
    if not sum(values.sum() for _, values in found):
        raise UserError(f"{truth}: its masks have no pixel to score (all are 255, or there is no mask)")
    if what == "cam":
        metrics, confusion, best = _cam_metrics(_total(shape, found), thresholds, settings.cam_threshold)
        images = _at_threshold(shape, found, best)
    else:
        metrics, confusion = label_metrics(_total(shape, found), what in WITH_IGNORED)
        images = np.stack([_dense(shape, one, np.int32) for one in found])
    record = scoring.make_record(what, split, len(masks.ids()), metrics, confusion, names)
    scoring.write_image_counts(out_counts, split, masks.ids(), images)
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

    def count_grid(name: str, image_id: str, truth: np.ndarray) -> np.ndarray:
        (label,) = read(image_id, name)
        return scoring.count_pixels(truth, resize_labels(label, *truth.shape), classes)

    def count_ecs(image_id: str, truth: np.ndarray) -> np.ndarray:
        scores, present = read(image_id, "scores", "classes")
        return scoring.count_pixels(
            truth, argmax_labels(scores, np.insert(present, 0, 0), *truth.shape), classes
        )

    counters: dict[str, Counter] = {
        "cam": count_cam,
        "cam_refined": partial(count_grid, "cam_label"),
        "evidence": partial(count_grid, "label"),
        "ecs_labels": count_ecs,
    }
    return counters[what]


def _read(shards: ShardReader, lock: Lock, image_id: str, *names: str) -> list[np.ndarray]:
    with lock:  # zipfile counts its open members without one
        return [shards.get(image_id, name) for name in names]


def _count_images(masks: LabelTable, count: Counter, threads: int) -> tuple[tuple[int, ...], list[Sparse]]:
    """The shape of an image's counts, and those of each image in the masks' order.

    Sparse, for an image has few of the classes: counts at all thresholds would be a hundred times as large.
    """
    parts = [Shard(index + 1, threads).select(masks.ids()) for index in range(threads)]
    with ThreadPoolExecutor(threads) as pool:
        results = list(pool.map(lambda part: _count_part(part, masks, count), parts))
    raise_problems([line for *_, problems in results for line in problems], "Some images cannot be scored:")
    shapes = [shape for shape, *_ in results if shape]
    return shapes[0] if shapes else (), [one for _, found, _ in results for one in found]


def _count_part(
    image_ids: list[str], masks: LabelTable, count: Counter
) -> tuple[tuple[int, ...], list[Sparse], list[str]]:
    shape: tuple[int, ...] = ()  # a part may have no image
    found, problems = [], []
    for image_id in image_ids:
        try:
            counts = count(image_id, masks.get(image_id))
        except UserError as error:
            problems.append(f"image {image_id}: {error}")
            continue
        shape = counts.shape
        places = np.flatnonzero(counts)
        found.append((places, counts.ravel()[places]))
    return shape, found, problems


def _dense(shape: tuple[int, ...], counts: Sparse, kind: type = np.int64) -> np.ndarray:
    dense: np.ndarray = np.zeros(shape, kind)
    dense.flat[counts[0]] = counts[1]
    return dense


def _total(shape: tuple[int, ...], found: list[Sparse]) -> np.ndarray:
    """The sum over all images, int64."""
    total = np.zeros(shape, np.int64)
    for places, values in found:
        total.flat[places] += values
    return total


def _at_threshold(shape: tuple[int, ...], found: list[Sparse], index: int) -> np.ndarray:
    """Counts of each image as of `scoring.count_pixels`, int32, with the CAM cut at one threshold."""
    confusions = [scoring.threshold_confusions(_dense(shape, one))[index] for one in found]
    return np.pad(np.stack(confusions).astype(np.int32), ((0, 0), (0, 0), (0, 1)))


def _cam_metrics(
    counts: np.ndarray, thresholds: np.ndarray, fixed: float
) -> tuple[dict[str, float], np.ndarray, int]:
    """Metrics at the fixed and at the best threshold; the confusion matrix at the best, and its number."""
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
    return metrics, confusions[best], best


def label_metrics(counts: np.ndarray, filtered: bool) -> tuple[dict[str, float], np.ndarray]:
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
