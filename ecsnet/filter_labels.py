"""Stage 6: the noise rule on ECS-Net's labels: which pixels are reliable enough to train on."""

from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd

from .grids import argmax_labels, resize_labels, resize_maps
from .labels import label_values, speck_rule
from .palette import IGNORE, remove_others, write_mask
from .progress import Progress
from .settings import FilterLabels
from .store import Shard, ShardReader, fingerprint, write_text
from .tables import ImageRecord, LabelRecord, read_classes, read_images, write_labels

BINS = 1000


@dataclass(frozen=True)
class Part:
    """One shard's work: its images and the shards with their labels and evidence."""

    records: list[ImageRecord]
    labels: Path
    evidence: Path


def run(
    settings: FilterLabels,
    *,
    images: Path,
    classes: Path,
    labels: list[Path],
    evidence: list[Path],
    out: Path,
    kept: Path,
    threads: int,
) -> None:
    """Write palette PNGs <out without ending>/<id>.png, the label table `out` and, by class, `kept`.

    A class's threshold is the `drop_share` quantile of the confidence of its own pixels, over all images,
    so that a class of low confidence throughout does not vanish. In `out`, `kept` is the share of an
    image's pixels that stay; confidence, agreement and speck are the shares that each rule took, in this
    order, so that they add up.

    Args:
        labels, evidence: the shards of all images, in the same order.
    """
    names = read_classes(classes)
    records = read_images(images, names)
    parts = [
        Part(Shard(index, len(labels)).select(records), *paths)
        for index, paths in enumerate(zip(labels, evidence, strict=True), 1)
    ]
    folder = out.with_suffix("")
    folder.mkdir(parents=True, exist_ok=True)
    progress = Progress("filter_labels", len(records), "images")
    rows = []
    with ProcessPoolExecutor(threads) as pool:
        histogram = np.sum(list(pool.map(partial(_confidences, len(names)), parts)), axis=0)
        thresholds = class_thresholds(histogram, settings)
        for done in pool.map(partial(_filter_part, settings, names, thresholds, folder), parts):
            rows += done
            progress.step(len(done))
    remove_others(folder, {record.id for record in records})
    write_labels(out, [record for record, _ in rows], [note for _, note in rows])
    _write_kept(kept, names, histogram, thresholds)
    dropped = sum(bool(record.dropped) for record, _ in rows)
    share = np.mean([note["kept"] for _, note in rows])
    print(f"kept {100 * share:.1f} % of the pixels; {dropped} of {len(rows)} images dropped", flush=True)


def class_thresholds(histogram: np.ndarray, settings: FilterLabels) -> np.ndarray:
    """Lowest confidence [1 + C] that is kept, in bins, from histograms [1 + C, BINS] of the confidence."""
    cumulated = histogram.cumsum(1)
    wanted = settings.drop_share * cumulated[:, -1:]
    quantiles = (cumulated <= wanted).sum(1)
    # the last bin holds a confidence of 1
    return np.maximum(quantiles, min(round(settings.min_confidence * BINS), BINS - 1))


def confidence_bins(scores: np.ndarray) -> np.ndarray:
    """The confidence, the best of scores [1 + K, h, w] in [0, 1], as bin numbers 0 … BINS − 1."""
    return np.minimum((scores.max(0).astype(np.float32) * BINS).astype(int), BINS - 1)


def reliable(
    scores: np.ndarray,
    classes: np.ndarray,
    evidence: np.ndarray,
    thresholds: np.ndarray,
    settings: FilterLabels,
) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    """Labels uint8 [h, w], 255 where unreliable, and for each rule what it took, bool [h, w].

    Args:
        scores, evidence: [1 + K, h, w], background first.
        thresholds: lowest confidence by class [1 + C], in bins.
    """
    values = label_values(scores, classes)
    labels = values.copy()
    taken = {"confidence": confidence_bins(scores) < thresholds[values]}
    labels[taken["confidence"]] = IGNORE
    contradicted = (evidence.max(0) >= settings.agreement) & (label_values(evidence, classes) != values)
    taken["agreement"] = contradicted & (labels != IGNORE) & (settings.agreement < 1)
    labels[taken["agreement"]] = IGNORE
    taken["speck"] = speck_rule(labels, settings.speck)
    labels[taken["speck"]] = IGNORE
    return labels, taken


def _confidences(num_classes: int, part: Part) -> np.ndarray:
    """Histogram [1 + C, BINS] of the labels' confidence, by label, over a part's images."""
    reader = ShardReader([part.labels])
    counts = np.zeros((num_classes + 1) * BINS, np.int64)
    for record in part.records:
        scores, classes = (reader.get(record.id, name) for name in ("scores", "classes"))
        scores = scores.astype(np.float32)
        cells = label_values(scores, classes).astype(int) * BINS + confidence_bins(scores)
        counts += np.bincount(cells.ravel(), minlength=len(counts))
    return counts.reshape(-1, BINS)


def _filter_part(
    settings: FilterLabels, names: list[str], thresholds: np.ndarray, folder: Path, part: Part
) -> list[tuple[LabelRecord, dict[str, float]]]:
    """Write the label images of a part; their table rows, and what each rule took."""
    labels_reader, evidence_reader = ShardReader([part.labels]), ShardReader([part.evidence])
    rows = []
    for record in part.records:
        scores, classes = (labels_reader.get(record.id, name) for name in ("scores", "classes"))
        scores = scores.astype(np.float32)
        evidence = resize_maps(evidence_reader.get(record.id, "scores"), *scores.shape[1:])
        labels, taken = reliable(scores, classes, evidence, thresholds, settings)
        missing = [names[tag - 1] for tag in record.tags if not (labels == tag).any()]
        dropped = f"no reliable pixel of {', '.join(missing)}" if missing and settings.drop_image else ""
        full = argmax_labels(scores, np.insert(classes, 0, 0), record.height, record.width)
        full[resize_labels(labels == IGNORE, record.height, record.width) | bool(dropped)] = IGNORE
        path = folder / f"{record.id}.png"
        content = write_mask(path, full)
        note = {"kept": round(float((full != IGNORE).mean()), 4)}
        note |= {rule: round(float(mask.mean()), 4) for rule, mask in taken.items()}
        label = LabelRecord(record.id, f"{folder.name}/{record.id}.png", fingerprint(content), dropped)
        rows.append((label, note))
    return rows


def _write_kept(path: Path, names: list[str], histogram: np.ndarray, thresholds: np.ndarray) -> None:
    pixels = histogram.sum(1)
    below = [row[:limit].sum() for row, limit in zip(histogram, thresholds, strict=True)]
    table = pd.DataFrame(
        {
            "class": ["background", *names],
            "labelled_cells": pixels,
            "threshold": thresholds / BINS,
            "confident_share": ((pixels - below) / np.maximum(pixels, 1)).round(4),
        }
    )
    write_text(path, table.to_csv(index=False, lineterminator="\n"))
