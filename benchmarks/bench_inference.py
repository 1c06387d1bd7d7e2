"""Stages that run a network over all images: their rate against the network's bare forward passes.

The limit is the same forward passes on ready tensors, at the batch size that is fastest on this device; what
the field does is a loop over single pictures, with the same views.
"""

import tempfile
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from finished import Finished
from PIL import Image
from timing import Row, least, seconds, side_by_side
from torch import Tensor
from torch.nn import functional
from torch.utils.flop_counter import FlopCounterMode

from ecsnet import ecs_labels, erase, predict
from ecsnet.device import autocast
from ecsnet.networks import Classifier, DeepLab, EcsNet, load_network
from ecsnet.settings import Views
from ecsnet.store import ShardWriter
from ecsnet.tables import ImageRecord
from ecsnet.views import aligned_side

BATCHES = {"cpu": (1, 2, 4), "cuda": (8, 16, 32, 64)}
"""Images in a forward pass that are tried, by device."""

Forward = Callable[[Tensor], Tensor]


@dataclass(frozen=True)
class Subject:
    """A stage, and the forward passes in it.

    Attributes:
        passes: how often each view of an image goes through the network (erase: picture and erased picture).
        run: the whole stage, writing into a folder.
    """

    stage: str
    forward: Forward
    stride: int
    views: Views
    passes: int
    records: list[ImageRecord]
    run: Callable[[Path], None]


def subjects(run: Finished) -> list[Subject]:
    return [erase_subject(run), ecs_subject(run), predict_subject(run)]


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
    left, right = (torch.rand(side, side, device=run.device) for _ in range(2))
    with torch.inference_mode(), autocast(run.device, run.runtime):
        left @ right
        taken = least(lambda: [left @ right for _ in range(repeats)])
    return 2 * side**3 * repeats / taken / 1e12


def erase_subject(run: Finished) -> Subject:
    weights = run.results / "train_cam" / "weights.safetensors"
    network = load_network(weights, Classifier, run.device)

    def stage(folder: Path) -> None:
        erase.run(
            run.config.erase, images=run.table("train"), root=run.root, weights=weights,
            shard=run.shard("train"), out=folder / "maps.npz", runtime=run.runtime, threads=run.threads,
        )  # fmt: skip

    views, stride = run.config.erase, network.features.stride
    return Subject("erase", network, stride, views, 2, run.records("train"), stage)


def ecs_subject(run: Finished) -> Subject:
    weights = run.results / "train_ecs" / f"round{run.config.rounds}" / "weights.safetensors"
    network, settings = load_network(weights, EcsNet, run.device), run.config.ecs_labels
    # one shard of all, as the run's own are others than the measured one
    joined = Path(tempfile.mkdtemp()) / "joined"
    for stage in ("evidence", "erase"):
        join(run.shards(stage), joined / f"{stage}.npz")

    def stage(folder: Path) -> None:
        ecs_labels.run(
            settings, images=run.table("train"), root=run.root, weights=weights,
            evidence=joined / "evidence.npz", regions=joined / "erase.npz", shard=run.shard("train"),
            out=folder / "labels.npz", runtime=run.runtime, threads=run.threads,
        )  # fmt: skip

    passes, stride = 2 if settings.predict == "both" else 1, network.features.stride
    return Subject("ecs_labels", network.segment, stride, settings, passes, run.records("train"), stage)


def predict_subject(run: Finished) -> Subject:
    weights = run.results / "train_segmenter" / "weights.safetensors"
    network = load_network(weights, DeepLab, run.device)

    def stage(folder: Path) -> None:
        predict.run(
            run.config.predict, images=run.table("val"), root=run.root, weights=weights,
            shard=run.shard("val"), folder=folder / "predict", out=folder / "predict.csv",
            runtime=run.runtime, threads=run.threads,
        )  # fmt: skip

    views, stride = run.config.predict, network.features.stride
    return Subject("predict", network.segment, stride, views, 1, run.records("val"), stage)


def join(paths: list[Path], out: Path) -> None:
    """Several shards' arrays as one shard."""
    with ShardWriter(out) as writer:
        for path in paths:
            arrays: dict[str, dict[str, np.ndarray]] = {}
            with np.load(path) as file:
                for member in file.files:
                    image_id, name = member.rsplit("/", 1)
                    arrays.setdefault(image_id, {})[name] = file[member]
            for image_id, found in arrays.items():
                writer.add(image_id, **found)


def row(run: Finished, subject: Subject) -> Row:
    batch = fastest_batch(run, subject)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        works = {
            "stage": lambda: subject.run(folder),
            "bare": lambda: bare(run, subject, batch),
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
    """Images/s of forward passes of one size."""
    pictures, repeats = ready_tensor(run, batch, *size), max(2, 16 // batch)
    subject.forward(pictures)
    return batch * repeats / seconds(lambda: [subject.forward(pictures) for _ in range(repeats)])


def loop(run: Finished, subject: Subject, folder: Path) -> None:
    """The usual way (IRN's make_cam): view by view, read, computed and written in turn."""
    mean, std = np.array([0.485, 0.456, 0.406]), np.array([0.229, 0.224, 0.225])
    for record in subject.records:
        with Image.open(run.root / record.image) as file:
            picture = file.convert("RGB")
        total: Tensor | float = 0.0
        for _ in range(subject.passes):
            for scale in subject.views.scales:
                size = (round(record.width * scale), round(record.height * scale))
                pixels = (np.asarray(picture.resize(size, Image.Resampling.BICUBIC)) / 255 - mean) / std
                view = torch.from_numpy(pixels.transpose(2, 0, 1).astype(np.float32))
                both = torch.stack([view, view.flip(-1)]) if subject.views.flip else view.unsqueeze(0)
                with torch.no_grad():
                    maps = subject.forward(both.to(run.device)).float().relu()
                maps = maps[0] + maps[1].flip(-1) if subject.views.flip else maps[0]
                shape = (record.height, record.width)
                total = total + functional.interpolate(maps[None], shape, mode="bilinear")[0]
        present = total[[tag - 1 for tag in record.tags]] if record.tags else total  # type: ignore[index]
        present = present / present.amax((1, 2), keepdim=True).clamp(min=1e-5)
        np.save(folder / f"{record.id}.npy", present.cpu().numpy())
