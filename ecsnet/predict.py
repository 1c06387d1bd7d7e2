"""Stage 8: the final network's label images."""

from pathlib import Path

import numpy as np
import torch

from .device import autocast, choose_device, inference_batch
from .grids import argmax_labels
from .images import batches_of_equal_shape, read_batch
from .networks import DeepLab, load_network
from .palette import write_mask
from .progress import Progress
from .refine import refine, working_grid
from .segmentation import probabilities
from .settings import Predict, Runtime
from .store import Shard, fingerprint
from .tables import LabelRecord, read_images, write_labels


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
    network = load_network(weights, DeepLab, device)
    classes = np.arange(1, len(network.spec["classes"]) + 1)
    records = read_images(images, network.spec["classes"], shard)
    progress = Progress("predict", len(records), "images")
    written = []
    with torch.inference_mode():
        for batch in batches_of_equal_shape(records, inference_batch(runtime, device)):
            pictures = read_batch(root, batch, device)
            grid = working_grid(pictures, settings.refine.size)
            with autocast(device, runtime):
                predicted = probabilities(network, pictures, settings, grid)
            for record, picture, scores in zip(batch, pictures, predicted, strict=True):
                refined = refine(scores, picture, settings.refine).cpu().numpy()
                path = folder / f"{record.id}.png"
                write_mask(path, argmax_labels(refined, classes, record.height, record.width))
                label = f"{folder.name}/{record.id}.png"
                written.append(LabelRecord(record.id, label, fingerprint(path.read_bytes())))
            progress.step(len(batch))
    write_labels(out, written)
