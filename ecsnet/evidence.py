"""Stage 3: evidence from both maps, refined, and labels for ECS-Net by the noise rule."""

from pathlib import Path

import numpy as np
import torch

from .backbone import Features
from .device import choose_device
from .grids import resize_labels
from .images import to_tensor
from .labels import clean_labels, conflict_rule, evidence, label_values, residual_rule, with_background
from .networks import Classifier, load_network
from .palette import IGNORE
from .pictures import read_image
from .progress import Progress
from .refine import refine
from .settings import Evidence, Runtime
from .store import Shard, ShardReader, ShardWriter
from .tables import ImageRecord, read_classes, read_images
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
    features = load_network(weights, Classifier, device).features
    progress = Progress("evidence", len(records), "images")
    with ShardWriter(out) as writer, torch.inference_mode():
        for record in records:
            image = to_tensor(read_image(root / record.image)).to(device)
            writer.add(record.id, **labels_of_image(reader, record, image, features, settings))
            progress.step()


def labels_of_image(
    reader: ShardReader, record: ImageRecord, image: torch.Tensor, features: Features, settings: Evidence
) -> dict[str, np.ndarray]:
    """The arrays that `run` stores, for one image [3, H, W] and its maps."""
    names = ("classes", "cam", "erased_cam", "probability")
    classes, cam, erased_cam, probability = (reader.get(record.id, name) for name in names)
    cam = cam.astype(np.float32)
    erased_cam = residual_rule(erased_cam.astype(np.float32), probability[1], settings.residual)
    maps = np.concatenate([evidence(cam, erased_cam if settings.erased else None), cam])
    # what leads walk and refinement depends on the image alone: both go in one pass
    maps = spread(torch.from_numpy(maps).to(image.device), image, features, settings).cpu().numpy()
    both = [with_background(part, settings.background_power) for part in np.split(maps, 2)]
    refined = refine(torch.from_numpy(np.concatenate(both)).to(image.device), image, settings.refine)
    scores, cam_scores = np.split(refined.cpu().numpy(), 2)
    label = clean_labels(scores, classes, settings.margin, settings.speck)
    if settings.erased:
        label[resize_labels(conflict_rule(cam, erased_cam, settings.conflict), *label.shape)] = IGNORE
    return {
        "classes": classes,
        "scores": scores.astype(np.float16),
        "label": label,
        "cam_label": label_values(cam_scores, classes),
    }
