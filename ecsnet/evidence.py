"""Stage 3: evidence from both maps, refined, and labels for ECS-Net by the noise rule."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from .ahead import in_order, read_ahead, side_threads
from .backbone import Features
from .copies import HostCopy, to_device, to_host
from .device import choose_device, inference_batch
from .folding import load_folded
from .grids import resize_labels
from .labels import clean_labels, conflict_rule, evidence, label_values, residual_rule
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
    side, size = side_threads(device, threads), inference_batch(runtime, device)

    def calls() -> Iterator[tuple]:
        for batch, pictures in read_ahead(root, records, size, device, side):
            stored = [[reader.get(record.id, name) for name in STORED] for record in batch]
            used = [used_maps(settings.residual, *arrays) for arrays in stored]
            refined = to_host(refined_scores(used, pictures, features, settings))
            for record, *each in zip(batch, used, refined, strict=True):
                yield arrays_of_image, record.id, *each, settings

    with ShardWriter(out) as writer, torch.inference_mode():
        for image_id, arrays in in_order(calls(), side, size):
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


def refined_scores(
    used: Sequence[Used], pictures: Tensor, features: Features, settings: Evidence
) -> list[Tensor]:
    """Scores of the evidence and of the CAM alone, [2 (1 + K), h, w], of each of some images [B, 3, H, W]."""
    # what leads walk and refinement depends on the image alone: both go in one pass
    maps = [
        part
        for _, cam, erased_cam in used
        for part in (evidence(cam, erased_cam if settings.erased else None), cam)
    ]
    counts = [2 * len(one.classes) for one in used]
    of_images = to_device(torch.from_numpy(np.concatenate(maps)), pictures.device).split(counts)
    power = settings.background_power
    both = [
        torch.cat([with_background(part, power) for part in one.chunk(2)])
        for one in spread(of_images, pictures, features, settings)
    ]
    return refine(both, pictures, settings.refine)


def with_background(maps: Tensor, power: float) -> Tensor:
    """Scores [1 + K, h, w] in [0, 1] that sum to one: (1 − max_c M_c)^α before the maps M [K, h, w]."""
    scores = torch.cat([(1 - maps.amax(0, keepdim=True)) ** power, maps])
    return scores / scores.sum(0).clamp(min=1e-6)


def arrays_of_image(
    image_id: str, used: Used, refined: HostCopy, settings: Evidence
) -> tuple[str, dict[str, np.ndarray]]:
    """The image's id, and the arrays that `run` stores."""
    scores, cam_scores = np.split(refined.array(), 2)
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
