"""Stage 7: train DeepLab on label images; on the true masks, it is the supervised bound."""

from functools import partial
from pathlib import Path

import numpy as np
from torch import Tensor

from .errors import UserError
from .images import RandomCrops
from .losses import segmentation_loss
from .networks import DeepLab, new_network
from .palette import IGNORE
from .settings import Runtime, TrainSegmenter
from .tables import ImageRecord, LabelTable, read_classes, read_images
from .training import Batch, Job, train


def run(
    settings: TrainSegmenter,
    *,
    images: Path,
    classes: Path,
    root: Path,
    labels: Path,
    label_root: Path,
    imagenet: Path | None,
    out: Path,
    history: Path,
    runtime: Runtime,
    threads: int,
    log: Path | None = None,
) -> None:
    """Train on every image of the table `images` that the table `labels` has a label for.

    Args:
        labels: label table; its paths are relative to `label_root`.

    Raises:
        UserError: there is no label at all, or one is not of its picture's size.
    """
    names = read_classes(classes)
    table = LabelTable(labels, label_root)
    kept = set(table.kept())
    records = [record for record in read_images(images, names) if record.id in kept]
    if not records:
        raise UserError(f"{labels}: no label for any image; loosen filter_labels.drop_share and agreement")
    network = new_network(
        lambda: DeepLab(settings.backbone, names, settings.atrous_rates), settings.seed, imagenet
    )

    def maps(record: ImageRecord) -> dict[str, np.ndarray]:
        return {"label": read_label(table, record, len(names))}

    crops = RandomCrops(records, root, settings, network.features.mean, len(names), maps)
    inputs = [images, classes, labels, *([imagenet] if imagenet else [])]
    own_loss = partial(loss, settings=settings)
    train(
        Job(
            "train_segmenter", network, crops, own_loss, settings, runtime, threads, inputs, out, history, log
        )
    )


def loss(network: DeepLab, batch: Batch, settings: TrainSegmenter) -> dict[str, Tensor]:
    """The loss of a batch of images and labels, by name."""
    logits = network.segment(batch["image"])
    return {"segmentation_loss": segmentation_loss(logits, batch["label"], settings.balance)}


def read_label(table: LabelTable, record: ImageRecord, num_classes: int) -> np.ndarray:
    """A label image, checked against the table, its picture's size and the classes."""
    path, label = table.path(record.id), table.get(record.id)
    if label.shape != (record.height, record.width):
        found, wanted = f"{label.shape[1]}×{label.shape[0]}", f"{record.width}×{record.height}"
        raise UserError(f"{path}: {found} pixels, its picture has {wanted}; rerun the stage that wrote it")
    if ((label > num_classes) & (label != IGNORE)).any():
        raise UserError(f"{path}: values outside 0…{num_classes} and 255; rerun the stage that wrote it")
    return label
