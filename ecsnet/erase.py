"""Stage 2: class activation maps of each image, what they find erased, and the maps of the rest."""

from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from .cam import activation_maps, erase, erased_region, normalise
from .device import autocast, choose_device, inference_batch
from .images import batches_of_equal_shape, read_batch
from .networks import Classifier, load_network
from .progress import Progress
from .settings import Erase, Runtime
from .store import Shard, ShardWriter
from .tables import ImageRecord, read_images


def run(
    settings: Erase,
    *,
    images: Path,
    root: Path,
    weights: Path,
    shard: Shard,
    out: Path,
    runtime: Runtime,
    threads: int,
) -> None:
    """Write A, A', the erased region and the class probabilities of the shard's images.

    Per image: classes uint8 [K], cam and erased_cam float16 [K, h, w] in [0, 1], region bool [h, w],
    probability float32 [2, K] (of the picture and of the erased picture).
    """
    device = choose_device(runtime, threads)
    network = load_network(weights, Classifier, device)
    records = read_images(images, network.spec["classes"], shard)
    progress = Progress("erase", len(records), "images")
    with ShardWriter(out) as writer, torch.inference_mode(), autocast(device, runtime):
        for batch in batches_of_equal_shape(records, inference_batch(runtime, device)):
            arrays_of_images = maps_of_batch(network, read_batch(root, batch, device), batch, settings)
            for record, arrays in zip(batch, arrays_of_images, strict=True):
                writer.add(record.id, **arrays)
            progress.step(len(batch))


def maps_of_batch(
    network: Classifier, pictures: Tensor, batch: list[ImageRecord], settings: Erase
) -> list[dict[str, np.ndarray]]:
    """The arrays that `run` stores, for pictures [B, 3, H, W] of one shape."""
    height, width = (-(-side // settings.grid_stride) for side in pictures.shape[2:])
    grid = (height, width)
    maps, probability = activation_maps(network, pictures, settings, grid)
    present = [torch.tensor([tag - 1 for tag in record.tags], device=pictures.device) for record in batch]
    maxima = [maps[i, tags].amax((1, 2)) for i, tags in enumerate(present)]
    cams = [normalise(maps[i, tags], maxima[i]) for i, tags in enumerate(present)]
    regions = torch.stack([erased_region(cam, settings.threshold) for cam in cams])
    erased_pictures = erase(pictures, regions, network.features.mean)
    erased_maps, erased_probability = activation_maps(network, erased_pictures, settings, grid)
    erased_cams = [normalise(erased_maps[i, tags], maxima[i]) for i, tags in enumerate(present)]
    probability = torch.stack([probability, erased_probability])
    return [
        {
            "classes": np.array(record.tags, np.uint8),
            "cam": cams[i].half().cpu().numpy(),
            "erased_cam": erased_cams[i].half().cpu().numpy(),
            "region": regions[i].cpu().numpy(),
            "probability": probability[:, i, present[i]].cpu().numpy(),
        }
        for i, record in enumerate(batch)
    ]
