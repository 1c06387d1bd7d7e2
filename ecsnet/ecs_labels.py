"""Stage 5: pixel labels, from ECS-Net's own segmentation and the evidence, refined together."""

from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from .backbone import Features
from .cam import erase
from .device import autocast, choose_device, inference_batch
from .images import batches_of_equal_shape, read_batch
from .labels import clean_labels
from .networks import EcsNet, load_network
from .progress import Progress
from .refine import refine, working_grid
from .segmentation import probabilities
from .settings import EcsLabels, Runtime
from .store import Shard, ShardReader, ShardWriter
from .tables import ImageRecord, read_images
from .views import resize
from .walk import walk


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
    network = load_network(weights, EcsNet, device)
    evidence_reader, region_reader = ShardReader([evidence]), ShardReader([regions])
    records = read_images(images, network.spec["classes"], shard)
    progress = Progress("ecs_labels", len(records), "images")
    with ShardWriter(out) as writer, torch.inference_mode():
        for batch in batches_of_equal_shape(records, inference_batch(runtime, device)):
            pictures = read_batch(root, batch, device)
            with autocast(device, runtime):
                predicted = predict(network, pictures, batch, region_reader, settings)
            for record, picture, scores in zip(batch, pictures, predicted, strict=True):
                seen = torch.from_numpy(evidence_reader.get(record.id, "scores")).float().to(device)
                arrays = labels_of_image(record, picture, scores, seen, network.features, settings)
                writer.add(record.id, **arrays)
            progress.step(len(batch))


def predict(
    network: EcsNet, pictures: Tensor, batch: list[ImageRecord], regions: ShardReader, settings: EcsLabels
) -> Tensor:
    """ECS-Net's probabilities [B, 1 + C, h, w], absent classes zero (N4)."""
    absent = torch.ones(len(batch), len(network.spec["classes"]) + 1, dtype=torch.bool)
    for row, record in zip(absent, batch, strict=True):
        row[[0, *record.tags]] = False
    absent = absent.to(pictures.device)
    grid = working_grid(pictures, settings.refine.size)
    predicted = probabilities(network, pictures, settings, grid, absent)
    if settings.predict == "both":
        masks = torch.from_numpy(np.stack([regions.get(record.id, "region") for record in batch]))
        erased = erase(pictures, masks.to(pictures.device), network.features.mean)
        predicted = (predicted + probabilities(network, erased, settings, grid, absent)) / 2
    return predicted


def labels_of_image(
    record: ImageRecord,
    picture: Tensor,
    predicted: Tensor,
    evidence: Tensor,
    features: Features,
    settings: EcsLabels,
) -> dict[str, np.ndarray]:
    """The arrays that `run` stores, from one image's prediction [1 + C, h, w] and evidence [1 + K, ·, ·]."""
    own = predicted[[0, *record.tags]]
    seen = resize(evidence.unsqueeze(0), tuple(own.shape[1:]))[0]
    weight = settings.evidence_weight
    walked = walk((1 - weight) * own + weight * seen, picture, features, settings.walk)
    scores = refine(walked, picture, settings.refine).cpu().numpy()
    classes = np.array(record.tags, np.uint8)
    return {
        "classes": classes,
        "scores": scores.astype(np.float16),
        "label": clean_labels(scores, classes, settings.margin, settings.speck),
    }
