"""Stage 4: train ECS-Net on pictures and erased pictures, against the noise-suppressed labels."""

from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from . import parallel
from .cam import erase
from .copies import to_device
from .images import RandomCrops
from .losses import segmentation_loss, tag_loss
from .networks import Classifier, EcsNet, load_network, new_network
from .settings import Backbone, Runtime, TrainEcs, parse
from .store import ShardReader
from .tables import ImageRecord, read_images
from .training import Batch, Job, train


def run(
    settings: TrainEcs,
    *,
    images: Path,
    root: Path,
    weights: Path,
    labels: list[Path],
    regions: list[Path],
    round: int,
    out: Path,
    history: Path,
    runtime: Runtime,
    threads: int,
    log: Path | None = None,
) -> None:
    """Train ECS-Net and write it.

    Args:
        weights: the classifier that it starts from; in a later round, the ECS-Net of the round before.
        labels: shards with `label`: those of evidence, later those of ecs_labels.
        regions: shards with `region`: what erase erased.
        round: number of the round, from 1.
    """
    network = start_network(settings, weights, round)
    records = read_images(images, network.spec["classes"])
    label_reader, region_reader = ShardReader(labels), ShardReader(regions)

    def maps(record: ImageRecord) -> dict[str, np.ndarray]:
        region = region_reader.get(record.id, "region").astype(np.uint8)
        return {"label": label_reader.get(record.id, "label"), "region": region}

    def loss(network: EcsNet, batch: Batch) -> dict[str, Tensor]:
        return ecs_loss(network, batch, settings)

    crops = RandomCrops(records, root, settings, network.features.mean, len(network.spec["classes"]), maps)
    inputs = [images, weights, *labels, *regions]
    job = Job("train_ecs", network, crops, loss, settings, runtime, threads, inputs, out, history, log)
    train(job)


def start_network(settings: TrainEcs, weights: Path, round: int) -> EcsNet:
    """ECS-Net on the classifier's backbone and class maps; in a later round, the one before it."""
    if round > 1:
        return load_network(weights, EcsNet)
    classifier = load_network(weights, Classifier)
    backbone = parse(Backbone, classifier.spec["backbone"], "backbone")
    network = new_network(
        lambda: EcsNet(backbone, classifier.spec["classes"], settings.head_channels, settings.head_dilation),
        settings.seed,
        None,
    )
    network.load_state_dict(classifier.state_dict(), strict=False)
    return network


def ecs_loss(network: EcsNet, batch: Batch, settings: TrainEcs) -> dict[str, Tensor]:
    """Tags of x, and the segmentation of x and of x' against the same labels.

    L = w softmargin(maps(x), Y) + CE(segmentation(x), labels) + CE(segmentation(x'), labels)

    With the views "erased" and "either" there is one picture only, x' or one of both, for all terms.
    """
    images, labels = batch["image"], batch["label"]
    # beyond the picture the region map is 255 too: there is nothing to erase
    erased = erase(images, batch["region"] == 1, network.features.mean)
    if settings.views == "either":
        draws = torch.rand(len(images) * parallel.size(), 1, 1, 1)
        keep = to_device(parallel.own_rows(draws), images.device) < 0.5
        erased = torch.where(keep, images, erased)
    if settings.views in ("both", "image"):
        maps, logits = network.both(images)
        terms = {
            "tag_loss": settings.tag_weight * tag_loss(maps, batch["tags"]),
            "image_loss": segmentation_loss(logits, labels, settings.balance),
        }
        if settings.views == "image":
            return terms
        erased_loss = segmentation_loss(network.segment(erased), labels, settings.balance)
        return terms | {"erased_loss": erased_loss}
    maps, logits = network.both(erased)
    return {
        "tag_loss": settings.tag_weight * tag_loss(maps, batch["tags"]),
        "erased_loss": segmentation_loss(logits, labels, settings.balance),
    }
