"""Stage 2: class activation maps of each image, what they find erased, and the maps of the rest."""

from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from .ahead import in_order, read_ahead, side_threads
from .cam import activation_maps, erase, erased_region, normalise
from .copies import HostCopy, to_host
from .device import autocast, choose_device, inference_batch
from .folding import load_folded
from .networks import Classifier
from .progress import Progress
from .settings import Erase, Runtime
from .store import Shard, ShardWriter
from .tables import ImageRecord, read_images
from .views import picked


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
    network = load_folded(weights, Classifier, device)
    records = read_images(images, network.spec["classes"], shard)
    progress = Progress("erase", len(records), "images")
    side, size = side_threads(device, threads), inference_batch(runtime, device)

    def calls() -> Iterator[tuple]:
        for batch, pictures in read_ahead(root, records, size, device, side):
            maps = maps_of_batch(network, pictures, batch, settings)
            yield arrays_of_batch, batch, to_host(maps)

    with ShardWriter(out) as writer, torch.inference_mode(), autocast(device, runtime):
        for done in in_order(calls(), side):
            for image_id, arrays in done.items():
                writer.add(image_id, **arrays)
            progress.step(len(done))


class ClassMaps(NamedTuple):
    """What the classifier says of some pictures; of present classes one image's after the other's, S in all.

    Attributes:
        cam, erased_cam: A and A', float32 [S, h, w] in [0, 1].
        regions: E, bool [B, h, w].
        probability: of the picture and of the erased picture, float32 [2, S].
    """

    cam: Tensor
    erased_cam: Tensor
    regions: Tensor
    probability: Tensor


def maps_of_batch(
    network: Classifier, pictures: Tensor, batch: list[ImageRecord], settings: Erase
) -> ClassMaps:
    """The maps of pictures [B, 3, H, W] of one shape."""
    height, width = (-(-side // settings.grid_stride) for side in pictures.shape[2:])
    grid = (height, width)
    present = [[tag - 1 for tag in record.tags] for record in batch]
    maps, probability = activation_maps(network, pictures, settings, grid)
    maps = picked(maps, present)
    maxima = maps.amax((1, 2))
    cam = normalise(maps, maxima)
    of_images = cam.split([len(record.tags) for record in batch])
    regions = torch.stack([erased_region(one, settings.threshold) for one in of_images])
    erased_pictures = erase(pictures, regions, network.features.mean)
    erased_maps, erased_probability = activation_maps(network, erased_pictures, settings, grid)
    erased_cam = normalise(picked(erased_maps, present), maxima)
    both = torch.stack([picked(scores, present) for scores in (probability, erased_probability)])
    return ClassMaps(cam, erased_cam, regions, both)


def arrays_of_batch(batch: list[ImageRecord], maps: list[HostCopy]) -> dict[str, dict[str, np.ndarray]]:
    """The arrays that `run` stores, by image id, from those of `ClassMaps`."""
    ends = np.cumsum([len(record.tags) for record in batch])[:-1]
    cam, erased_cam, regions, probability = (one.array() for one in maps)
    parts = zip(
        batch,
        np.split(cam.astype(np.float16), ends),
        np.split(erased_cam.astype(np.float16), ends),
        regions,
        np.split(probability, ends, axis=1),
        strict=True,
    )
    names = ("cam", "erased_cam", "region", "probability")
    return {
        record.id: {"classes": np.array(record.tags, np.uint8), **dict(zip(names, arrays, strict=True))}
        for record, *arrays in parts
    }
