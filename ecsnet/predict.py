"""Stage 8: the final network's label images."""

from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from .ahead import in_order, read_ahead, side_threads
from .copies import HostCopy, to_host
from .device import autocast, choose_device, inference_batch
from .errors import UserError
from .folding import load_folded
from .grids import argmax_labels
from .networks import DeepLab
from .palette import write_mask
from .progress import Progress
from .refine import refine, working_grid
from .segmentation import probabilities
from .settings import Predict, Runtime
from .store import Shard, fingerprint
from .tables import ImageRecord, LabelRecord, read_images, write_labels
from .views import picked

ROUNDING = 1e-3
"""More than the sum of an image's scores is off one."""


def run(
    settings: Predict,
    *,
    images: Path,
    root: Path,
    weights: Path,
    shard: Shard,
    folder: Path,
    out: Path,
    runtime: Runtime,
    threads: int,
) -> None:
    """Write a palette PNG <folder>/<id>.png of each of the shard's images, and their label table `out`."""
    device = choose_device(runtime, threads)
    network = load_folded(weights, DeepLab, device)
    records = read_images(images, network.spec["classes"], shard)
    progress = Progress("predict", len(records), "images")
    side, size = side_threads(device, threads), inference_batch(runtime, device)

    def calls() -> Iterator[tuple]:
        for batch, pictures in read_ahead(root, records, size, device, side):
            for record, found in zip(batch, segment(network, pictures, settings, runtime), strict=True):
                yield write_label, folder, record, *found

    written = {}
    with torch.inference_mode():
        for label in in_order(calls(), side, size):
            written[label.id] = label
            progress.step()
    write_labels(out, [written[record.id] for record in records])


def segment(
    network: DeepLab, pictures: Tensor, settings: Predict, runtime: Runtime
) -> Iterable[tuple[HostCopy, np.ndarray]]:
    """Refined scores [K, h, w] of pictures [B, 3, H, W] in [0, 1], and the K classes that each is of.

    Classes are numbers, 0 the background; those that are the best one nowhere are left out.

    Raises:
        UserError: a score is not finite.
    """
    grid = working_grid(pictures, settings.refine.size)
    with autocast(pictures.device, runtime):
        predicted = probabilities(network, pictures, settings, grid)
    winners = [possible_winners(maxima) for maxima in predicted.amax((2, 3)).cpu().numpy()]
    chosen = picked(predicted, winners).split([len(classes) for classes in winners])
    return zip(to_host(refine(chosen, pictures, settings.refine)), winners, strict=True)


def possible_winners(maxima: np.ndarray) -> np.ndarray:
    """The classes that may be the best one somewhere, ascending, from each one's best score [1 + C] anywhere.

    Scores sum to one, so that the best one of n is 1/n or more everywhere, after a refinement by weighted
    means, too. A class that reaches that nowhere can be left out, and what is left sums to one less its best
    score, at least: so the least are left out one by one. No label changes, and less is refined.

    Raises:
        UserError: a score is not finite.
    """
    if not np.isfinite(maxima).all():
        raise UserError(
            "predict: the network's scores are not finite; set runtime.precision to float32, or train again "
            "with a lower train_segmenter.learning_rate"
        )
    order = np.argsort(maxima, kind="stable")
    rest, left = 1.0, len(maxima)
    for index in order:
        if maxima[index] * left >= rest - ROUNDING:
            break
        rest, left = rest - maxima[index], left - 1
    return np.sort(order[len(maxima) - left :])


def write_label(folder: Path, record: ImageRecord, scores: HostCopy, classes: np.ndarray) -> LabelRecord:
    """Write an image's label <folder>/<id>.png from scores [K, h, w] of classes [K]."""
    path = folder / f"{record.id}.png"
    content = write_mask(path, argmax_labels(scores.array(), classes, record.height, record.width))
    return LabelRecord(record.id, f"{folder.name}/{record.id}.png", fingerprint(content))
