"""How much time and space a run will take, from its settings, its pictures and what `speeds` measured."""

import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

import torch

from .machine import TRAININGS
from .networks import Classifier, DeepLab, EcsNet
from .plan import Jobs
from .settings import Config, Training
from .speeds import Speeds
from .stand_ins import megapixels
from .survey import Pictures
from .tables import ImageRecord
from .trial import PASSES

LIGHT_SECONDS, LIGHT_PER_MEGAPIXEL = 1.0, 0.01
"""Of a job without a network: a table, a score."""
FIGURES_SECONDS = 6.0
END_SECONDS = 2.0
"""Of a training or a pass: writing its results, and Snakemake's part."""
MEMBER_BYTES = 265
"""Heads of an array in a shard."""
PNG_BYTES, BLOCK_BYTES = 0.04, 4096
"""A label image's bytes for a pixel, and the least that a file takes on most disks."""
JPEG_BYTES = 0.5
OTHER_BYTES = 10e6
"""Figures, tables and logs."""
ASSUMPTION = "0.04 bytes for a pixel of a label image; with the trainings' states, which go at the end"


@dataclass(frozen=True)
class Cost:
    """What a rule will take: its jobs, what of them is counted, and seconds."""

    rule: str
    text: str
    seconds: float


def costs(
    config: Config, pictures: Pictures, jobs: Mapping[str, Jobs], speeds: Speeds, cards: int
) -> list[Cost]:
    """What each rule that has something to do will take, where it could be measured; the small ones together.

    Args:
        jobs: of each rule.
        cards: jobs on cards that run at the same time; 1 without any.
    """
    found, small = [], 0.0
    for rule, job in jobs.items():
        if job.stage in TRAININGS and job.stage in speeds.step:
            steps = steps_of(getattr(config, job.stage), len(pictures.train))
            each = speeds.start + END_SECONDS + steps * speeds.step[job.stage]
            text = f"{_times(job.todo)}{steps:,} steps, {speeds.step[job.stage]:.2f} s each"
            found.append(Cost(rule, text, job.todo * each))
        elif job.stage in speeds.image:
            images, area = images_of(rule, pictures)
            count = images * job.todo / config.shards
            seconds = count * area * speeds.image[job.stage] + job.todo * (speeds.start + END_SECONDS)
            text = f"{count:,.0f} pictures in {job.todo} jobs, {area * speeds.image[job.stage]:.2f} s each"
            found.append(Cost(rule, text, seconds / min(cards, job.todo)))
        elif job.stage not in (*TRAININGS, *PASSES):
            small += _light(job, pictures)
    return [*found, *([Cost("all others", "tables, scores, figures", small)] if small else [])]


def _times(count: int) -> str:
    return f"{count} × " if count > 1 else ""


def steps_of(settings: Training, images: int) -> int:
    """Steps of a training, as `training.Job` counts them."""
    return max(1, round(settings.epochs * images / settings.batch_size))


def images_of(rule: str, pictures: Pictures) -> tuple[int, float]:
    """Pictures that all shards of a rule have, and the megapixels of one."""
    records = pictures.val if rule.startswith("predict") else pictures.train
    count = pictures.predicted if rule == "predict" else len(records)
    return count, megapixels(records) / len(records)


def _light(job: Jobs, pictures: Pictures) -> float:
    area = megapixels(pictures.val if job.stage == "export_folder" else pictures.train)
    seconds = job.todo * (LIGHT_SECONDS + LIGHT_PER_MEGAPIXEL * area)
    return seconds + FIGURES_SECONDS * (job.stage == "figures")


def bytes_of(config: Config, pictures: Pictures, jobs: Mapping[str, Jobs]) -> float:
    """Bytes that the results of the jobs will take at most, while the run lasts."""
    sizes: dict[str, Callable[[], float]] = {
        "erase": lambda: sum(erase_bytes(one, config.erase.grid_stride) for one in pictures.train),
        "evidence": lambda: sum(
            scores_bytes(one, config.evidence.refine.size, labels=2) for one in pictures.train
        ),
        "ecs_labels": lambda: sum(
            scores_bytes(one, config.ecs_labels.refine.size, labels=1) for one in pictures.train
        ),
    }
    total = OTHER_BYTES
    for rule, job in jobs.items():
        if job.stage in sizes:
            total += sizes[job.stage]() * job.todo / config.shards
        elif job.stage in TRAININGS:
            total += job.todo * training_bytes(config, job.stage)
        elif job.stage == "filter_labels":
            total += (
                job.todo * len(pictures.train) * png_bytes(megapixels(pictures.train) / len(pictures.train))
            )
        elif job.stage == "predict":
            images, area = images_of(rule, pictures)
            total += png_bytes(area) * images * job.todo / config.shards
        elif job.stage in ("demo", "import_folder"):
            total += JPEG_BYTES * 1e6 * megapixels([*pictures.train, *pictures.val])
    return total


def png_bytes(area: float) -> float:
    """Bytes of a label image of so many megapixels."""
    return max(BLOCK_BYTES, PNG_BYTES * 1e6 * area)


def erase_bytes(record: ImageRecord, stride: int) -> int:
    """Bytes of an image in a shard of erase: two maps of each class as float16, a region of bytes."""
    cells, classes = math.ceil(record.height / stride) * math.ceil(record.width / stride), len(record.tags)
    return 4 * classes * cells + cells + 9 * classes + 5 * MEMBER_BYTES


def scores_bytes(record: ImageRecord, size: float, labels: int) -> int:
    """Bytes of an image in a shard of evidence or ecs_labels: scores as float16, and labels of bytes."""
    cells = max(2, round(record.height * size)) * max(2, round(record.width * size))
    classes = len(record.tags)
    return 2 * (1 + classes) * cells + labels * cells + classes + (2 + labels) * MEMBER_BYTES


def training_bytes(config: Config, stage: str) -> float:
    """Bytes of a training's weights and of its last state, which has the momentum, too."""
    with torch.device("meta"):
        network = _network(config, stage)
    return 3.0 * _bytes(network.state_dict().values())


def _network(config: Config, stage: str) -> Classifier | DeepLab:
    names = config.dataset.classes
    if stage == "train_segmenter":
        return DeepLab(config.train_segmenter.backbone, names, config.train_segmenter.atrous_rates)
    if stage == "train_ecs":
        settings = config.train_ecs
        return EcsNet(config.train_cam.backbone, names, settings.head_channels, settings.head_dilation)
    return Classifier(config.train_cam.backbone, names)


def _bytes(tensors: Iterable[torch.Tensor]) -> int:
    return sum(tensor.numel() * tensor.element_size() for tensor in tensors)
