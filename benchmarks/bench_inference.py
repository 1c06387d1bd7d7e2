"""Stages that run a network over all images: their rate against the network's bare forward passes.

The limit is the same forward passes on ready tensors, each size of view in the batches that are fastest on
this device, of the network as it was trained and of the one with batch norm folded, which is what the stages
run. What the field does is a loop over single pictures, with the same views. Loading the network is
taken away.
"""

import dataclasses
import math
import tempfile
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from unittest import mock

import numpy as np
import torch
from finished import Finished
from PIL import Image
from timing import Row, in_turns, least, seconds
from torch import Tensor
from torch.nn import functional
from torch.utils.data import DataLoader, Dataset
from torch.utils.flop_counter import FlopCounterMode

from ecsnet import ecs_labels, erase, predict
from ecsnet.ahead import read_ahead
from ecsnet.device import autocast, half_type
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
        load: what of the stage is there once for all images.
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
    load: Callable[[], object]
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
            limit(run, subject, subject.forward, batches=(1,))
        flops = counter.get_total_flops()
        reached = flops / limit(run, subject, subject.forward) / 1e12
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
    load = partial(load_folded, weights, Classifier, run.device)
    network, folded = load_network(weights, Classifier, run.device), load()

    def stage(folder: Path) -> None:
        erase.run(
            run.config.erase, images=run.table("train"), root=run.root, weights=weights,
            shard=run.shard("train"), out=folder / "maps.npz", runtime=run.runtime, threads=run.threads,
        )  # fmt: skip

    views, stride = run.config.erase, network.features.stride
    return Subject("erase", network, folded, stride, views, 2, run.records("train"), load, stage)


def ecs_subject(run: Finished) -> Subject:
    weights = run.results / "train_ecs" / f"round{run.config.rounds}" / "weights.safetensors"
    load = partial(load_folded, weights, EcsNet, run.device)
    network, folded = load_network(weights, EcsNet, run.device), load()
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
        "ecs_labels", network.segment, folded.segment, stride, settings, passes, run.records("train"), load,
        stage, prepare,
    )  # fmt: skip


def predict_subject(run: Finished) -> Subject:
    weights = run.results / "train_segmenter" / "weights.safetensors"
    load = partial(load_folded, weights, DeepLab, run.device)
    network, folded = load_network(weights, DeepLab, run.device), load()

    def stage(folder: Path) -> None:
        predict.run(
            run.config.predict, images=run.table("val"), root=run.root, weights=weights,
            shard=run.shard("val"), folder=folder / "predict", out=folder / "predict.csv",
            runtime=run.runtime, threads=run.threads,
        )  # fmt: skip

    views, stride = run.config.predict, network.features.stride
    records = run.records("val")
    return Subject("predict", network.segment, folded.segment, stride, views, 1, records, load, stage)


def row(run: Finished, subject: Subject) -> Row:
    on_card = run.device.type == "cuda"
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        subject.prepare(folder)
        taken = in_turns(
            {
                "stage": lambda: seconds(lambda: subject.run(folder)),
                "loading": lambda: seconds(subject.load),
                "bare": lambda: limit(run, subject, subject.forward),
                "folded": lambda: limit(run, subject, subject.folded),
                "loop": lambda: seconds(lambda: loop(run, subject, folder)),
                **({"single": lambda: seconds(lambda: loop(run, subject, folder, False))} if on_card else {}),
            },
            repeats=2,
        )
    # the network is loaded once for a shard, of which only some images are measured
    stage = taken["stage"] - taken["loading"]
    count = len(subject.records)
    return {
        "stage": subject.stage,
        "images": count,
        "views": len(sizes(subject, 100, 100)) * subject.passes,
        "loading, s": taken["loading"],
        "images/s": count / stage,
        "bare forward, images/s": count / taken["bare"],
        "share of bare": taken["bare"] / stage,
        "bare and folded, images/s": count / taken["folded"],
        "share of folded": taken["folded"] / stage,
        "loop, images/s": count / taken["loop"],
        "its workers": loop_workers(run),
        "times the loop": taken["loop"] / stage,
        # as IRN runs it
        "loop in float32, images/s": count / taken["single"] if on_card else None,
    }


def sizes(subject: Subject, height: int, width: int) -> list[tuple[int, int]]:
    """The size of each view of a picture, a mirrored one's among them."""
    found = [
        (aligned_side(height * scale, subject.stride), aligned_side(width * scale, subject.stride))
        for scale in subject.views.scales
    ]
    return [size for size in found for _ in range(1 + subject.views.flip)]


def limit(run: Finished, subject: Subject, forward: Forward, batches: Sequence[int] = ()) -> float:
    """Seconds of a stage's forward passes on ready tensors, each size of view in its fastest batches."""
    views: Counter[tuple[int, int]] = Counter()
    for record in subject.records:
        for size in sizes(subject, record.height, record.width):
            views[size] += subject.passes
    with torch.inference_mode(), autocast(run.device, run.runtime):
        return sum(
            min(passes(run, forward, size, count, batch) for batch in batches or BATCHES[run.device.type])
            for size, count in views.items()
        )


def passes(run: Finished, forward: Forward, size: tuple[int, int], count: int, batch: int) -> float:
    """Seconds of forward passes of `count` views of one size, `batch` together; inf without the memory."""
    parts = [batch] * (count // batch) + [count % batch] * (count % batch > 0)
    try:
        ready = {part: ready_tensor(run, part, *size) for part in set(parts)}
        return seconds(lambda: [forward(ready[part]) for part in parts])
    except torch.OutOfMemoryError:
        return math.inf


def ready_tensor(run: Finished, count: int, height: int, width: int) -> Tensor:
    pictures = torch.rand(count, 3, height, width, device=run.device)
    return pictures.contiguous(memory_format=torch.channels_last)


def loop(run: Finished, subject: Subject, folder: Path, half: bool = True) -> None:
    """The usual way, as IRN's make_cam: one picture after the other, its views one after the other.

    Pictures come from a loader's workers, in all scales already; the maps are summed at the picture's size
    and written. No refinement, no label images: what the stages do beyond that counts against them.

    Args:
        half: in the precision of the stages; else in float32.
    """
    stages = DataLoader(
        Views(run, subject), batch_size=None, num_workers=loop_workers(run), multiprocessing_context="fork",
        pin_memory=run.device.type == "cuda",
    )  # fmt: skip
    runtime = run.runtime if half else dataclasses.replace(run.runtime, precision="float32")
    with torch.no_grad(), autocast(run.device, runtime):
        for record, views in zip(subject.records, stages, strict=True):
            total: Tensor | float = 0.0
            for view in views * subject.passes:
                maps = subject.forward(view.to(run.device, non_blocking=True)).float().relu()
                maps = maps[0] + maps[1].flip(-1) if len(maps) == 2 else maps[0]
                size = (record.height, record.width)
                total = total + functional.interpolate(maps[None], size, mode="bilinear")[0]
            present = total[[tag - 1 for tag in record.tags]] if record.tags else total  # type: ignore[index]
            present = present / present.amax((1, 2), keepdim=True).clamp(min=1e-5)
            np.save(folder / f"{record.id}.npy", present.cpu().numpy())


def loop_workers(run: Finished) -> int:
    """One core is left to the loop itself."""
    return max(1, run.threads - 1)


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


def precision(run: Finished) -> list[Row]:
    """How many labels are the same in half precision, which cards compute in by default, and in single."""
    weights = run.results / "train_segmenter" / "weights.safetensors"
    network, same = load_folded(weights, DeepLab, run.device), []
    half = torch.bfloat16 if run.device.type == "cpu" else half_type()
    with torch.inference_mode():
        for _, pictures in read_ahead(run.root, run.records("val"), 1, run.device):
            labels = [labels_in(dtype, network, pictures, run) for dtype in (torch.float32, half)]
            same.append((labels[0] == labels[1]).mean())
    return [
        {
            "stage": "predict", "against float32": str(half).removeprefix("torch."), "images": len(same),
            "same labels": f"{100 * np.mean(same):.2f} %", "in the worst image": f"{100 * min(same):.2f} %",
        }
    ]  # fmt: skip


def labels_in(dtype: torch.dtype, network: DeepLab, pictures: Tensor, run: Finished) -> np.ndarray:
    """Labels of one picture by a network that computes in a precision."""
    context = torch.autocast(run.device.type, dtype, enabled=dtype != torch.float32)
    with mock.patch.object(predict, "autocast", return_value=context):
        [(scores, classes)] = predict.segment(network, pictures, run.config.predict, run.runtime)
    return classes[scores.array().argmax(0)]
