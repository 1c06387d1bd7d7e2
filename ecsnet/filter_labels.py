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
from .store import ShardReader, fingerprint, write_text
from .tables import ImageRecord, LabelRecord, read_classes, read_images, write_labels

BINS = 1000


@dataclass(frozen=True)
class Sources:
    """Where an image's scores are, and how they are filtered."""

    labels: ShardReader
    evidence: ShardReader
    settings: FilterLabels
    thresholds: np.ndarray
    folder: Path


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
    """
    names = read_classes(classes)
    records = read_images(images, names)
    readers = ShardReader(labels), ShardReader(evidence)
    folder = out.with_suffix("")
    folder.mkdir(parents=True, exist_ok=True)
    with ProcessPoolExecutor(threads) as pool:
        histograms = pool.map(partial(_confidences, readers[0], len(names)), records, chunksize=32)
        histogram = np.sum(list(histograms), axis=0)
        thresholds = class_thresholds(histogram, settings)
        sources = Sources(*readers, settings, thresholds, folder)
        progress = Progress("filter_labels", len(records), "images")
        rows = []
        for row in pool.map(partial(_filter_one, sources, names), records, chunksize=32):
            rows.append(row)
            progress.step()
    remove_others(folder, {record.id for record in records})
    write_labels(out, [record for record, _ in rows], [note for _, note in rows])
    _write_kept(kept, names, histogram, thresholds)
    dropped = sum(bool(record.dropped) for record, _ in rows)
    share = np.mean([note["kept"] for _, note in rows])
    print(f"kept {100 * share:.1f} % of the pixels; {dropped} of {len(rows)} images dropped", flush=True)


def class_thresholds(histogram: np.ndarray, settings: FilterLabels) -> np.ndarray:
    """Lowest confidence [1 + C] that is kept, from histograms [1 + C, BINS] of confidence in [0, 1]."""
    cumulated = histogram.cumsum(1)
    wanted = settings.drop_share * cumulated[:, -1:]
    quantiles = (cumulated <= wanted).sum(1) / BINS
    return np.maximum(quantiles, settings.min_confidence)


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
        thresholds: lowest confidence by class [1 + C].
    """
    values = label_values(scores, classes)
    labels = values.copy()
    taken = {"confidence": scores.max(0) < thresholds[values]}
    labels[taken["confidence"]] = IGNORE
    contradicted = (evidence.max(0) >= settings.agreement) & (label_values(evidence, classes) != values)
    taken["agreement"] = contradicted & (labels != IGNORE) & (settings.agreement < 1)
    labels[taken["agreement"]] = IGNORE
    taken["speck"] = speck_rule(labels, settings.speck)
    labels[taken["speck"]] = IGNORE
    return labels, taken


def _confidences(reader: ShardReader, num_classes: int, record: ImageRecord) -> np.ndarray:
    scores, classes = reader.get(record.id, "scores"), reader.get(record.id, "classes")
    bins = np.minimum((scores.max(0).astype(np.float32) * BINS).astype(int), BINS - 1)
    cells = label_values(scores, classes).astype(int) * BINS + bins
    return np.bincount(cells.ravel(), minlength=(num_classes + 1) * BINS).reshape(-1, BINS)


def _filter_one(
    sources: Sources, names: list[str], record: ImageRecord
) -> tuple[LabelRecord, dict[str, float]]:
    scores, classes = sources.labels.get(record.id, "scores"), sources.labels.get(record.id, "classes")
    scores = scores.astype(np.float32)
    evidence = resize_maps(sources.evidence.get(record.id, "scores"), *scores.shape[1:])
    labels, taken = reliable(scores, classes, evidence, sources.thresholds, sources.settings)
    missing = [names[tag - 1] for tag in record.tags if not (labels == tag).any()]
    dropped = f"no reliable pixel of {', '.join(missing)}" if missing and sources.settings.drop_image else ""
    full = argmax_labels(scores, classes, record.height, record.width)
    ignored = resize_labels(labels == IGNORE, record.height, record.width)
    full[ignored | bool(dropped)] = IGNORE
    path = sources.folder / f"{record.id}.png"
    write_mask(path, full)
    note = {"kept": round(float((full != IGNORE).mean()), 4)}
    note |= {rule: round(float(mask.mean()), 4) for rule, mask in taken.items()}
    label = f"{sources.folder.name}/{record.id}.png"
    return LabelRecord(record.id, label, fingerprint(path.read_bytes()), dropped), note


def _write_kept(path: Path, names: list[str], histogram: np.ndarray, thresholds: np.ndarray) -> None:
    pixels = histogram.sum(1)
    below = [row[: round(limit * BINS)].sum() for row, limit in zip(histogram, thresholds, strict=True)]
    table = pd.DataFrame(
        {
            "class": ["background", *names],
            "labelled_cells": pixels,
            "threshold": thresholds.round(4),
            "confident_share": ((pixels - below) / np.maximum(pixels, 1)).round(4),
        }
    )
    write_text(path, table.to_csv(index=False, lineterminator="\n"))
