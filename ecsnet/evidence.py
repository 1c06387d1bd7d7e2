"""Stage 3: evidence from both maps, refined, and labels for ECS-Net by the noise rule."""

from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from .ahead import in_order, read_ahead, side_threads
from .backbone import Features
from .device import choose_device
from .folding import load_folded
from .grids import resize_labels
from .labels import clean_labels, conflict_rule, evidence, label_values, residual_rule, with_background
from .networks import Classifier
from .palette import IGNORE
from .progress import Progress
from .refine import refine
from .settings import Evidence, Runtime
from .store import Shard, ShardReader, ShardWriter
from .tables import read_classes, read_images
from .walk import spread


def run(
    settings: Evidence,
    *,
    images: Path,
    classes: Path,
    root: Path,
    weights: Path,
    maps: Path,
    shard: Shard,
    out: Path,
    runtime: Runtime,
    threads: int,
) -> None:
    """Write refined evidence and labels of a shard's images.

    Per image: classes uint8 [K], scores float16 [1 + K, h, w] (refined evidence, background first),
    label uint8 [h, w] (255: the noise rule ignores it), cam_label uint8 [h, w] (from the refined CAM
    alone, to compare with).

    Args:
        weights: the classifier, whose features weigh the maps and lead the random walk.
    """
    device = choose_device(runtime, threads)
    reader = ShardReader([maps])
    records = read_images(images, read_classes(classes), shard)
    features = load_folded(weights, Classifier, device).features
    progress = Progress("evidence", len(records), "images")
    side = side_threads(device, threads)

    def calls() -> Iterator[tuple]:
        for [record], pictures in read_ahead(root, records, 1, device, side):
            used = used_maps(settings.residual, *(reader.get(record.id, name) for name in STORED))
            refined = refined_scores(used, pictures, features, settings)
            yield arrays_of_image, record.id, used, refined, settings

    with ShardWriter(out) as writer, torch.inference_mode():
        for image_id, arrays in in_order(calls(), side):
            writer.add(image_id, **arrays)
            progress.step()


STORED = ("classes", "cam", "erased_cam", "probability")
"""What is read of what erase stored of an image."""


class Used(NamedTuple):
    """An image's classes uint8 [K], A and what N1 leaves of A', float32 [K, h, w]."""

    classes: np.ndarray
    cam: np.ndarray
    erased_cam: np.ndarray


def used_maps(
    residual: float, classes: np.ndarray, cam: np.ndarray, erased_cam: np.ndarray, probability: np.ndarray
) -> Used:
    """The maps as erase stored them, [K, h, w], for use, with class probabilities [2, K]."""
    left = residual_rule(erased_cam.astype(np.float32), probability[1], residual)
    return Used(classes, cam.astype(np.float32), left)


def refined_scores(used: Used, pictures: Tensor, features: Features, settings: Evidence) -> Tensor:
    """Scores of the evidence and of the CAM alone, [2 (1 + K), h, w], of one image [1, 3, H, W]."""
    _, cam, erased_cam = used
    maps = np.concatenate([evidence(cam, erased_cam if settings.erased else None), cam])
    # what leads walk and refinement depends on the image alone: both go in one pass
    device = pictures.device
    maps = spread(torch.from_numpy(maps).to(device), pictures[0], features, settings).cpu().numpy()
    both = np.concatenate([with_background(part, settings.background_power) for part in np.split(maps, 2)])
    [refined] = refine([torch.from_numpy(both).to(device)], pictures, settings.refine)
    return refined


def arrays_of_image(
    image_id: str, used: Used, refined: Tensor, settings: Evidence
) -> tuple[str, dict[str, np.ndarray]]:
    """The image's id, and the arrays that `run` stores."""
    scores, cam_scores = np.split(refined.cpu().numpy(), 2)
    label = clean_labels(scores, used.classes, settings.margin, settings.speck)
    if settings.erased:
        conflicts = conflict_rule(used.cam, used.erased_cam, settings.conflict)
        label[resize_labels(conflicts, *label.shape)] = IGNORE
    return image_id, {
        "classes": used.classes,
        "scores": scores.astype(np.float16),
        "label": label,
        "cam_label": label_values(cam_scores, used.classes),
    }
