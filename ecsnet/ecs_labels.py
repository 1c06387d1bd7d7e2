"""Stage 5: pixel labels, from ECS-Net's own segmentation and the evidence, refined together."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from .ahead import in_order, read_ahead, side_threads
from .cam import erase
from .copies import HostCopy, to_device, to_host
from .device import autocast, choose_device, inference_batch
from .folding import load_folded
from .labels import clean_labels
from .networks import EcsNet
from .progress import Progress
from .refine import refine, working_grid
from .segmentation import probabilities
from .settings import EcsLabels, Runtime
from .store import Shard, ShardReader, ShardWriter
from .tables import ImageRecord, read_images
from .views import picked, resize


def run(
    settings: EcsLabels,
    *,
    images: Path,
    root: Path,
    weights: Path,
    evidence: Path,
    regions: Path,
    shard: Shard,
    out: Path,
    runtime: Runtime,
    threads: int,
) -> None:
    """Write scores and labels of a shard's images.

    Per image: classes uint8 [K], scores float16 [1 + K, h, w] (sum to one; the best one is the label, its
    score the confidence), label uint8 [h, w] (255 where the noise rule ignores it, for a further round).
    """
    device = choose_device(runtime, threads)
    network = load_folded(weights, EcsNet, device)
    evidence_reader, region_reader = ShardReader([evidence]), ShardReader([regions])
    records = read_images(images, network.spec["classes"], shard)
    progress = Progress("ecs_labels", len(records), "images")
    side, size = side_threads(device, threads), inference_batch(runtime, device)

    def calls() -> Iterator[tuple]:
        for batch, pictures in read_ahead(root, records, size, device, side):
            with autocast(device, runtime):
                predicted = predict(network, pictures, batch, region_reader, settings)
            seen = [evidence_reader.get(record.id, "scores") for record in batch]
            refined = to_host(refined_scores(predicted, pictures, batch, seen, settings))
            for record, scores in zip(batch, refined, strict=True):
                yield arrays_of_image, record, scores, settings

    with ShardWriter(out) as writer, torch.inference_mode():
        for image_id, arrays in in_order(calls(), side, size):
            writer.add(image_id, **arrays)
            progress.step()


def predict(
    network: EcsNet, pictures: Tensor, batch: list[ImageRecord], regions: ShardReader, settings: EcsLabels
) -> Tensor:
    """ECS-Net's probabilities [B, 1 + C, h, w], absent classes zero (N4)."""
    absent = torch.ones(len(batch), len(network.spec["classes"]) + 1, dtype=torch.bool)
    for row, record in zip(absent, batch, strict=True):
        row[[0, *record.tags]] = False
    absent = to_device(absent, pictures.device)
    grid = working_grid(pictures, settings.refine.size)
    predicted = probabilities(network, pictures, settings, grid, absent)
    if settings.predict == "both":
        masks = torch.from_numpy(np.stack([regions.get(record.id, "region") for record in batch]))
        erased = erase(pictures, to_device(masks, pictures.device), network.features.mean)
        predicted = (predicted + probabilities(network, erased, settings, grid, absent)) / 2
    return predicted


def refined_scores(
    predicted: Tensor,
    pictures: Tensor,
    batch: list[ImageRecord],
    evidence: list[np.ndarray],
    settings: EcsLabels,
) -> list[Tensor]:
    """Each image's scores [1 + K, h, w].

    Args:
        predicted: [B, 1 + C, h, w].
        evidence: of each image [1 + K, ·, ·].
    """
    counts = [1 + len(record.tags) for record in batch]
    own = picked(predicted, [(0, *record.tags) for record in batch])
    seen = to_device(torch.from_numpy(np.concatenate(evidence)), pictures.device).float()
    seen = resize(seen.unsqueeze(0), (own.shape[1], own.shape[2]))[0]
    weight = settings.evidence_weight
    scores = (1 - weight) * own + weight * seen
    return refine(scores.split(counts), pictures, settings.refine)


def arrays_of_image(
    record: ImageRecord, scores: HostCopy, settings: EcsLabels
) -> tuple[str, dict[str, np.ndarray]]:
    """An image's id, and the arrays that `run` stores."""
    found, classes = scores.array(), np.array(record.tags, np.uint8)
    return record.id, {
        "classes": classes,
        "scores": found.astype(np.float16),
        "label": clean_labels(found, classes, settings.margin, settings.speck),
    }
