"""Stages that run a network over all images: their rate against the network's bare forward passes.

The limit is the same forward passes on ready tensors, at the batch size that is fastest on this device, of
the network as it was trained and of the one with batch norm folded, which is what the stages run. What the
field does is a loop over single pictures, with the same views.
"""

import tempfile
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from finished import Finished
from PIL import Image
from timing import Row, least, side_by_side
from torch import Tensor
from torch.nn import functional
from torch.utils.data import DataLoader, Dataset
from torch.utils.flop_counter import FlopCounterMode

from ecsnet import ecs_labels, erase, predict
from ecsnet.device import autocast
from ecsnet.folding import load_folded
from ecsnet.networks import Classifier, DeepLab, EcsNet, load_network
from ecsnet.settings import Views as ViewSettings
from ecsnet.store import ShardReader, ShardWriter
from ecsnet.tables import ImageRecord
from ecsnet.views import aligned_side

BATCHES = {"cpu": (1, 2, 4), "cuda": (8, 16, 32, 64)}
"""Images in a forward pass that are tried, by device."""

MEAN = np.array([0.485, 0.456, 0.406], np.float32)
STD = np.array([0.229, 0.224, 0.225], np.float32)

Forward = Callable[[Tensor], Tensor]


@dataclass(frozen=True)
class Subject:
    """A stage, and the forward passes in it.

    Attributes:
        forward, folded: of the network as it was trained, and with batch norm folded.
        passes: how often each view of an image goes through the network (erase: picture and erased picture).
        run: the whole stage, writing into a folder.
        prepare: writes what it needs there.
    """

    stage: str
    forward: Forward
    folded: Forward
    stride: int
    views: ViewSettings
    passes: int
    records: list[ImageRecord]
    run: Callable[[Path], None]
    prepare: Callable[[Path], None] = lambda folder: None


def subjects(run: Finished) -> list[Subject]:
    return [erase_subject(run), *([ecs_subject(run)] if run.with_ecs else []), predict_subject(run)]


def measure(run: Finished) -> list[Row]:
    """A row for each stage: images/s, and the shares of the limit and of the usual loop."""
    return [row(run, subject) for subject in subjects(run)]


def ceilings(run: Finished) -> list[Row]:
    """What the device multiplies in a second, and how much of that the bare forward passes reach."""
    product = matrix_rate(run)
    rows: list[Row] = [{"what": "matrix product", "GFLOP an image": None, "TFLOP/s": product, "share": 1.0}]
    for subject in subjects(run):
        with FlopCounterMode(display=False) as counter:
            bare(run, subject, 1)
        batch, flops = fastest_batch(run, subject), counter.get_total_flops()
        reached = flops / least(lambda subject=subject, batch=batch: bare(run, subject, batch), 2) / 1e12
        per_image = flops / len(subject.records) / 1e9
        rows.append(
            {
                "what": subject.stage,
                "GFLOP an image": per_image,
                "TFLOP/s": reached,
                "share": reached / product,
            }
        )
    return rows


def matrix_rate(run: Finished) -> float:
    """TFLOP/s of products of large square matrices in the precision of the stages."""
    side, repeats = (8192, 20) if run.device.type == "cuda" else (2048, 5)
    with torch.inference_mode(), autocast(run.device, run.runtime):
        product = torch.rand(8, 8, device=run.device) @ torch.rand(8, 8, device=run.device)
        left, right = (torch.rand(side, side, device=run.device, dtype=product.dtype) for _ in range(2))
        left @ right
        taken = least(lambda: [left @ right for _ in range(repeats)])
    return 2 * side**3 * repeats / taken / 1e12


def erase_subject(run: Finished) -> Subject:
    weights = run.results / "train_cam" / "weights.safetensors"
    network, folded = (load(weights, Classifier, run.device) for load in (load_network, load_folded))

    def stage(folder: Path) -> None:
        erase.run(
            run.config.erase, images=run.table("train"), root=run.root, weights=weights,
            shard=run.shard("train"), out=folder / "maps.npz", runtime=run.runtime, threads=run.threads,
        )  # fmt: skip

    views, stride = run.config.erase, network.features.stride
    return Subject("erase", network, folded, stride, views, 2, run.records("train"), stage)


def ecs_subject(run: Finished) -> Subject:
    weights = run.results / "train_ecs" / f"round{run.config.rounds}" / "weights.safetensors"
    network, folded = (load(weights, EcsNet, run.device) for load in (load_network, load_folded))
    settings = run.config.ecs_labels
    evidence, regions = ShardReader(run.shards("evidence")), ShardReader(run.shards("erase"))

    def stage(folder: Path) -> None:
        ecs_labels.run(
            settings, images=run.table("train"), root=run.root, weights=weights,
            evidence=folder / "evidence.npz", regions=folder / "erase.npz", shard=run.shard("train"),
            out=folder / "labels.npz", runtime=run.runtime, threads=run.threads,
        )  # fmt: skip

    def prepare(folder: Path) -> None:
        """One shard of the measured images, as the run's own are others."""
        with ShardWriter(folder / "evidence.npz") as first, ShardWriter(folder / "erase.npz") as second:
            for record in run.records("train"):
                first.add(record.id, scores=evidence.get(record.id, "scores"))
                second.add(record.id, region=regions.get(record.id, "region"))

    passes, stride = 2 if settings.predict == "both" else 1, network.features.stride
    return Subject(
        "ecs_labels", network.segment, folded.segment, stride, settings, passes, run.records("train"), stage,
        prepare,
    )  # fmt: skip


def predict_subject(run: Finished) -> Subject:
    weights = run.results / "train_segmenter" / "weights.safetensors"
    network, folded = (load(weights, DeepLab, run.device) for load in (load_network, load_folded))

    def stage(folder: Path) -> None:
        predict.run(
            run.config.predict, images=run.table("val"), root=run.root, weights=weights,
            shard=run.shard("val"), folder=folder / "predict", out=folder / "predict.csv",
            runtime=run.runtime, threads=run.threads,
        )  # fmt: skip

    views, stride = run.config.predict, network.features.stride
    records = run.records("val")
    return Subject("predict", network.segment, folded.segment, stride, views, 1, records, stage)


def row(run: Finished, subject: Subject) -> Row:
    batch = fastest_batch(run, subject)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        subject.prepare(folder)
        works = {
            "stage": lambda: subject.run(folder),
            "bare": lambda: bare(run, subject, batch),
            "folded": lambda: bare(run, replace(subject, forward=subject.folded), batch),
            "loop": lambda: loop(run, subject, folder),
        }
        taken = side_by_side(works, repeats=2)
    count = len(subject.records)
    return {
        "stage": subject.stage,
        "images": count,
        "views": len(sizes(subject, 100, 100)) * subject.passes,
        "images/s": count / taken["stage"],
        "bare forward, images/s": count / taken["bare"],
        "its batch": batch,
        "share of bare": taken["bare"] / taken["stage"],
        "bare and folded, images/s": count / taken["folded"],
        "share of folded": taken["folded"] / taken["stage"],
        "loop, images/s": count / taken["loop"],
        "times the loop": taken["loop"] / taken["stage"],
    }


def sizes(subject: Subject, height: int, width: int) -> list[tuple[int, int]]:
    """The size of each view of a picture, a mirrored one's among them."""
    found = [
        (aligned_side(height * scale, subject.stride), aligned_side(width * scale, subject.stride))
        for scale in subject.views.scales
    ]
    return [size for size in found for _ in range(1 + subject.views.flip)]


def forwards(subject: Subject, batch: int) -> Iterator[tuple[int, int, int]]:
    """The batch and size of each forward pass, with as many views of one size together as go into a batch."""
    views: Counter[tuple[int, int]] = Counter()
    for record in subject.records:
        for size in sizes(subject, record.height, record.width):
            views[size] += subject.passes
    for size, count in views.items():
        for start in range(0, count, batch):
            yield min(batch, count - start), *size


def bare(run: Finished, subject: Subject, batch: int) -> None:
    """All forward passes of the stage on ready tensors."""
    ready: dict[tuple[int, int, int], Tensor] = {}
    with torch.inference_mode(), autocast(run.device, run.runtime):
        for shape in forwards(subject, batch):
            if shape not in ready:
                ready = {shape: ready_tensor(run, *shape)}  # one at a time: a thousand would not fit
            subject.forward(ready[shape])


def ready_tensor(run: Finished, count: int, height: int, width: int) -> Tensor:
    pictures = torch.rand(count, 3, height, width, device=run.device)
    return pictures.contiguous(memory_format=torch.channels_last)


def fastest_batch(run: Finished, subject: Subject) -> int:
    """The batch size with the best rate on the commonest picture shape."""
    shapes = Counter((record.height, record.width) for record in subject.records)
    [(shape, _)] = shapes.most_common(1)
    size = max(sizes(subject, *shape))
    with torch.inference_mode(), autocast(run.device, run.runtime):
        rates = {batch: rate(run, subject, batch, size) for batch in BATCHES[run.device.type]}
    return max(rates, key=rates.__getitem__)


def rate(run: Finished, subject: Subject, batch: int, size: tuple[int, int]) -> float:
    """Images/s of forward passes of one size; 0 where memory does not do."""
    repeats = max(2, 16 // batch)
    try:
        pictures = ready_tensor(run, batch, *size)
        subject.forward(pictures)
        return batch * repeats / least(lambda: [subject.forward(pictures) for _ in range(repeats)], 2)
    except torch.OutOfMemoryError:
        return 0.0


def loop(run: Finished, subject: Subject, folder: Path) -> None:
    """The usual way, as IRN's make_cam: one picture after the other, its views one after the other.

    Pictures come from a loader's worker, already in all scales; the maps are summed at the picture's size and
    written. No refinement, no label images: what the stages do beyond that counts against them.
    """
    stages = DataLoader(Views(run, subject), batch_size=None, num_workers=1, multiprocessing_context="fork")
    with torch.no_grad(), autocast(run.device, run.runtime):
        for record, views in zip(subject.records, stages, strict=True):
            total: Tensor | float = 0.0
            for view in views * subject.passes:
                maps = subject.forward(view.to(run.device)).float().relu()
                maps = maps[0] + maps[1].flip(-1) if len(maps) == 2 else maps[0]
                size = (record.height, record.width)
                total = total + functional.interpolate(maps[None], size, mode="bilinear")[0]
            present = total[[tag - 1 for tag in record.tags]] if record.tags else total  # type: ignore[index]
            present = present / present.amax((1, 2), keepdim=True).clamp(min=1e-5)
            np.save(folder / f"{record.id}.npy", present.cpu().numpy())


class Views(Dataset):
    """All scales of each picture, each as a batch of it and its mirror image."""

    def __init__(self, run: Finished, subject: Subject) -> None:
        self.run, self.subject = run, subject

    def __len__(self) -> int:
        return len(self.subject.records)

    def __getitem__(self, index: int) -> list[Tensor]:
        record, views = self.subject.records[index], self.subject.views
        with Image.open(self.run.root / record.image) as file:
            picture = file.convert("RGB")
        found = []
        for scale in views.scales:
            size = (round(record.width * scale), round(record.height * scale))
            pixels = np.asarray(picture.resize(size, Image.Resampling.BICUBIC), np.float32) / 255
            view = torch.from_numpy(((pixels - MEAN) / STD).transpose(2, 0, 1))
            found.append(torch.stack([view, view.flip(-1)]) if views.flip else view.unsqueeze(0))
        return found
