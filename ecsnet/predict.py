"""Stage 8: the final network's label images."""

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from .ahead import in_order, one_behind, read_ahead, side_threads
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
        read = read_ahead(root, records, size, device, side)
        begun = ((batch, begin(network, pictures, settings, runtime)) for batch, pictures in read)
        # a CPU gains nothing, and holds the scores of one batch less
        for batch, predicted in one_behind(begun) if device.type == "cuda" else begun:
            for record, found in zip(batch, finish(predicted, settings), strict=True):
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
    return finish(begin(network, pictures, settings, runtime), settings)


class Predicted(NamedTuple):
    """Scores [B, 1 + C, h, w] of pictures [B, 3, H, W], and their maxima [B, 1 + C]."""

    pictures: Tensor
    scores: Tensor
    maxima: HostCopy


def begin(network: DeepLab, pictures: Tensor, settings: Predict, runtime: Runtime) -> Predicted:
    """The first half of `segment`, for which nobody waits."""
    with autocast(pictures.device, runtime):
        scores = probabilities(network, pictures, settings, working_grid(pictures, settings.refine.size))
    [maxima] = to_host([scores.amax((2, 3))])
    return Predicted(pictures, scores, maxima)


def finish(predicted: Predicted, settings: Predict) -> Iterable[tuple[HostCopy, np.ndarray]]:
    """The second half of `segment`: it waits for the first."""
    winners = [possible_winners(maxima) for maxima in predicted.maxima.array()]
    chosen = picked(predicted.scores, winners).split([len(classes) for classes in winners])
    return zip(to_host(refine(chosen, predicted.pictures, settings.refine)), winners, strict=True)


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
