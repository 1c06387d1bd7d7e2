"""Refinement, scoring and filtering: against plainly written formulas, and against reading the PNGs alone."""

import tempfile
from pathlib import Path

import numpy as np
import torch
from finished import Finished
from timing import Row, side_by_side
from torch import Tensor
from torch.nn import functional

from ecsnet import filter_labels, score, scoring
from ecsnet.palette import read_mask
from ecsnet.pictures import read_image
from ecsnet.refine import NEIGHBOURS, affinity, refine, working_grid
from ecsnet.settings import Refine
from ecsnet.tables import LabelTable
from ecsnet.views import resize


def refinement(run: Finished) -> list[Row]:
    """Our refinement against the same formula written naively, with 3 and with all classes."""
    settings = run.config.evidence.refine
    record = run.records("train")[0]
    picture = torch.from_numpy(read_image(run.root / record.image)).permute(2, 0, 1).float() / 255
    picture, rows = picture.to(run.device), []
    for count in (3, 1 + len(run.names)):
        scores = torch.rand(count, *working_grid(picture, settings.size), device=run.device).softmax(0)
        with torch.inference_mode():
            taken = side_by_side(
                {
                    "ours": lambda scores=scores: refine([scores], picture[None], settings),
                    "naive": lambda scores=scores: naive_refine(scores, picture, settings),
                },
                repeats=5,
            )
            apart = (
                refine([scores], picture[None], settings)[0] - naive_refine(scores, picture, settings)
            ).abs()
        rows.append(
            {
                "scores": " × ".join(map(str, scores.shape)),
                "ours, ms": 1000 * taken["ours"],
                "naive, ms": 1000 * taken["naive"],
                "times faster": taken["naive"] / taken["ours"],
                "largest difference": float(apart.max()),
            }
        )
    return rows


def naive_refine(scores: Tensor, picture: Tensor, settings: Refine) -> Tensor:
    """Each round as it is written down: all neighbours stacked, times their weights, summed."""
    weights = affinity(resize(picture[None], tuple(scores.shape[1:])), settings)[:, 0]
    reach, (height, width) = max(settings.dilations), scores.shape[1:]
    for _ in range(settings.rounds):
        padded = functional.pad(scores, (reach,) * 4, mode="replicate")
        stacked = torch.stack(
            [
                padded[:, reach + y * d : reach + y * d + height, reach + x * d : reach + x * d + width]
                for d in settings.dilations
                for y, x in NEIGHBOURS
            ]
        )
        scores = (stacked * weights[:, None]).sum(0)
    return scores


def stages(run: Finished) -> list[Row]:
    """`score` of all kinds of label and `filter_labels`, on one core, against decoding the PNGs."""
    with tempfile.TemporaryDirectory() as name:
        return [*(score_row(run, what, Path(name)) for what in kinds(run)), filter_row(run, Path(name))]


def kinds(run: Finished) -> dict[str, tuple[str, list[Path]]]:
    """The split and the files of each kind of label."""
    found = {
        "cam": ("train", run.shards("erase")),
        "cam_refined": ("train", run.shards("evidence")),
        "ecs_labels": ("train", labels_of(run)),
        "filtered_labels": ("train", [run.results / "filter_labels.csv"]),
        "val": ("val", [run.results / "predict.csv"]),
    }
    return {what: files for what, files in found.items() if what != "ecs_labels" or run.with_ecs}


def labels_of(run: Finished) -> list[Path]:
    """What is filtered."""
    return run.shards(*(["ecs_labels", f"round{run.config.rounds}"] if run.with_ecs else ["evidence"]))


def score_row(run: Finished, what: str, folder: Path) -> Row:
    split, source = kinds(run)[what]
    truth = run.results / "check_masks" / f"{split}.csv"
    masks = LabelTable(truth, run.root)
    paths = [masks.path(image_id) for image_id in masks.ids()]
    if len(source) == 1 and source[0].suffix == ".csv":
        labels = LabelTable(source[0], source[0].parent)
        paths += [labels.path(image_id) for image_id in masks.ids()]

    def stage() -> None:
        score.run(
            run.config.score, what=what, split=split, source=source, truth=truth,
            classes=run.results / "prepare" / "classes.txt", root=run.root, out=folder / "score.json",
            out_confusion=folder / "confusion.csv", out_counts=folder / "counts.npz", threads=1,
        )  # fmt: skip

    return against_decoding(f"score {what}", len(masks.ids()), stage, paths)


def filter_row(run: Finished, folder: Path) -> Row:
    """On the labels' own PNGs, which it writes."""
    labels = LabelTable(run.results / "filter_labels.csv", run.results)

    def stage() -> None:
        filter_labels.run(
            run.config.filter_labels, images=run.table("train"),
            classes=run.results / "prepare" / "classes.txt",
            labels=labels_of(run), evidence=run.shards("evidence"),
            out=folder / "filter_labels.csv", kept=folder / "kept.csv", threads=1,
        )  # fmt: skip

    paths = [labels.path(image_id) for image_id in labels.ids()]
    return against_decoding("filter_labels", len(labels.ids()), stage, paths)


def against_decoding(name: str, images: int, stage, paths: list[Path]) -> Row:
    """Both in a process with one thread, after a first run that reads the files into memory."""
    works = {"stage": stage, "decoding": lambda: [read_mask(path) for path in paths]}
    works["stage"]()
    taken = side_by_side(works)
    return {
        "stage": name,
        "images": images,
        "images/s": images / taken["stage"],
        "PNGs": len(paths),
        "decoding them, images/s": images / taken["decoding"],
        "times decoding": taken["stage"] / taken["decoding"],
    }


def counting(run: Finished) -> list[Row]:
    """Counting pixels of decoded label images against torchmetrics' confusion matrix."""
    from torchmetrics.classification import MulticlassConfusionMatrix

    masks = LabelTable(run.results / "check_masks" / "val.csv", run.root)
    labels = LabelTable(run.results / "predict.csv", run.results)
    pairs = [(masks.get(image_id), labels.get(image_id)) for image_id in masks.ids()]
    classes = len(run.names)
    metric = MulticlassConfusionMatrix(classes + 1, ignore_index=255, validate_args=False)
    tensors = [(torch.from_numpy(truth).long(), torch.from_numpy(label).long()) for truth, label in pairs]

    def ours() -> np.ndarray:
        return sum(scoring.all_pixels(scoring.count_pixels(*pair, classes)) for pair in pairs)

    def theirs() -> np.ndarray:
        metric.reset()
        for truth, label in tensors:
            metric.update(label, truth)
        return metric.compute().numpy()

    assert np.array_equal(ours(), theirs())
    taken = side_by_side({"ours": ours, "theirs": theirs})
    return [
        {
            "label images": len(pairs),
            "ours, images/s": len(pairs) / taken["ours"],
            "torchmetrics, images/s": len(pairs) / taken["theirs"],
            "times faster": taken["theirs"] / taken["ours"],
        }
    ]
