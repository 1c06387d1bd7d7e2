"""Stage 1: train the classifier whose class activation maps everything rests on."""

from pathlib import Path

from torch import Tensor

from .images import RandomCrops
from .losses import tag_loss
from .networks import Classifier, new_network
from .settings import Runtime, TrainCam
from .tables import read_classes, read_images
from .training import Batch, Job, train


def run(
    settings: TrainCam,
    *,
    images: Path,
    classes: Path,
    root: Path,
    imagenet: Path | None,
    out: Path,
    history: Path,
    runtime: Runtime,
    threads: int,
    log: Path | None = None,
) -> None:
    """Train on the tags of all images of the table and write the classifier.

    Loss: multi-label soft margin on the globally averaged class maps (`losses.tag_loss`).
    """
    names = read_classes(classes)
    records = read_images(images, names)
    network = new_network(lambda: Classifier(settings.backbone, names), settings.seed, imagenet)
    crops = RandomCrops(records, root, settings, network.features.mean, len(names))
    inputs = [images, classes, *([imagenet] if imagenet else [])]
    job = Job("train_cam", network, crops, loss, settings, runtime, threads, inputs, out, history, log)
    train(job)


def loss(network: Classifier, batch: Batch) -> dict[str, Tensor]:
    """The tags' loss."""
    return {"tag_loss": tag_loss(network(batch["image"]), batch["tags"])}
