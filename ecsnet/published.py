"""Published results on PASCAL VOC 2012, and whether a run may be compared with them."""

from dataclasses import dataclass
from pathlib import Path

from .settings import VOC_CLASSES, Config

TRAIN, VAL, TRAINAUG = 1464, 1449, 10582
"""Images of VOC's lists."""


@dataclass(frozen=True)
class Published:
    """mIoU in percent of a method: CAM and labels on train, network on val and test; None: not known here."""

    method: str
    cam: float | None
    labels: float | None
    val: float
    test: float
    network: str


METHODS = (
    Published("AffinityNet (PSA), 2018", 48.0, 61.0, 61.7, 63.7, "ResNet38"),
    Published("IRN, 2019", 48.3, 66.5, 63.5, 64.8, "ResNet-50, DeepLab v2"),
    Published("SEAM, 2020", 55.4, None, 64.5, 65.7, "ResNet38"),
    Published("ECS-Net, 2021", None, None, 66.6, 67.6, "ResNet38, DeepLab"),
    Published("OC-CSE, 2021", 56.0, 66.9, 68.4, 68.2, "ResNet38"),
    Published("AdvCAM, 2021", 55.6, 69.9, 68.1, 68.0, "ResNet-101, DeepLab v2"),
    Published("AMN, 2022", 62.1, 72.2, 69.5, 69.6, "ResNet-101, DeepLab v2"),
    Published("MCTformer, 2022", 61.7, 69.1, 71.9, 71.6, "ResNet38"),
    Published("CLIP-ES, 2023 (with CLIP)", 70.8, 75.0, 73.8, 73.9, "ResNet-101, DeepLab v2"),
    Published("fully supervised", None, None, 78.1, 78.2, "ResNet38"),
)
"""From image-level labels alone, but for the last; as the papers report them."""


def differences(config: Config, train: int, scored: dict[str, int]) -> list[str]:
    """Why a run may not be compared with `METHODS`; empty if it may.

    Args:
        train: number of training images.
        scored: number of images that a score is of, by its kind, as cam or val.
    """
    found = []
    if config.dataset.kind != "voc" or config.dataset.classes != tuple(VOC_CLASSES):
        found.append("it is not of PASCAL VOC's classes and pictures")
    if train != TRAINAUG:
        found.append(f"it learned from {train} images, not from the {TRAINAUG} of trainaug")
    elif Path(config.dataset.train_list).stem not in ("trainaug", "train_aug"):
        found.append(f"it learned from as many images as trainaug has, but of {config.dataset.train_list}")
    for wanted in (TRAIN, VAL):
        whats = [what for what in scored if (what in ("val", "supervised")) == (wanted == VAL)]
        for count in sorted({scored[what] for what in whats} - {wanted}):
            names = ", ".join(what for what in whats if scored[what] == count)
            found.append(f"scored on {count} images, not on {wanted}: {names}")
    found += _scored_otherwise(config, scored)
    if not scored:
        found.append("nothing of it is scored, for want of true masks")
    return found


def _scored_otherwise(config: Config, scored: dict[str, int]) -> list[str]:
    """Lists of the right length, and masks, that are not VOC's by their names."""
    score, found = config.score, []
    for name, masks, wanted, count in (
        (score.train_list, score.train_masks, "train", TRAIN),
        (config.dataset.val_list, score.val_masks, "val", VAL),
    ):
        if masks and count in scored.values() and Path(name).stem != wanted:
            found.append(f"scored on as many images as {wanted} has, but of {name}")
        if masks and scored and Path(masks).name != "SegmentationClass":
            found.append(f"scored on {wanted} with the masks of {masks}, not with VOC's SegmentationClass")
    return found
