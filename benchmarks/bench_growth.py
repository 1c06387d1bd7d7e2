"""Peak memory and time of each stage as the images grow in number: memory stays, time is a straight line.

Real pictures go through every stage, with a small untrained network and one small view each, so that what
each image costs beside the network shows. Trainings take as many steps at any number of images.
"""

import dataclasses
import json
import tempfile
from pathlib import Path

from finished import Finished
from processes import Used, run_stage
from timing import Row

from ecsnet.networks import Classifier, DeepLab, EcsNet, save_network
from ecsnet.settings import Backbone
from ecsnet.voc import read_list

STEPS, BATCH = 10, 8
BACKBONE = Backbone(name="tf_efficientnet_lite0", weights="none")
VIEW = {"scales": [0.25], "flip": False}
REFINE = {"rounds": 2, "size": 0.25, "dilations": [1, 2]}
LINE = (1, 2, 4)
"""Multiples of the least number of images, whose times should lie on a straight line."""


def measure(run: Finished, least: int, most: int) -> list[Row]:
    """A row for each stage: memory at the least and at the most images, and how straight the time grows.

    Where the training list is shorter, with as many images as there are. A stage that fails ends the process
    with what it said.
    """
    ids = read_list(run.root, run.config.dataset.train_list)
    most = min(most, len(ids))
    least = max(1, min(least, most // max(LINE)))
    counts = sorted({*(least * factor for factor in LINE), most})
    used = {count: chain(run, ids[:count]) for count in counts}
    return [row(stage, {count: stages[stage] for count, stages in used.items()}) for stage in used[least]]


def row(stage: str, used: dict[int, Used]) -> Row:
    """Of a straight line through the first and the last of 1×, 2×, 4×: how far 2× is off it."""
    least, most = min(used), max(used)
    first, middle, last = (used[least * factor].seconds for factor in LINE)
    expected = first + (last - first) / 3
    return {
        "stage": stage,
        **{f"MB at {count}": used[count].memory for count in (least, most)},
        **{f"s at {least * factor}": used[least * factor].seconds for factor in LINE},
        f"s at {most}": used[most].seconds,
        "2× off the line": middle / expected - 1,
    }


PICTURES = "--images {folder}/train.csv --root {root} --threads {threads}"
INFERS = f"{PICTURES} --runtime {{runtime}} --shard 1/1"
CLASSES = "--classes {folder}/classes.txt"
TRAINS = f"{PICTURES} --history {{folder}}/history.csv --runtime {{runtime}}"
COMMANDS = {
    "prepare": "--settings {dataset} --split train --threads {threads} --out {folder}/train.csv "
    "--out-classes {folder}/classes.txt --out-problems {folder}/problems.csv",
    "check_masks": f"{PICTURES} {CLASSES} --masks {{masks}} --out {{folder}}/masks.csv",
    "train_cam": f"{TRAINS} {CLASSES} --settings {{training}} --out {{folder}}/cam",
    "erase": f"{INFERS} --settings {{view}} --weights {{folder}}/classifier --out {{folder}}/maps.npz",
    "evidence": f"{INFERS} {CLASSES} --settings {{evidence}} --weights {{folder}}/classifier "
    "--maps {folder}/maps.npz --out {folder}/evidence.npz",
    "train_ecs": f"{TRAINS} --settings {{ecs_training}} --weights {{folder}}/classifier --round 1 "
    "--labels {folder}/evidence.npz --regions {folder}/maps.npz --out {folder}/ecs",
    "ecs_labels": f"{INFERS} --settings {{refined_view}} --weights {{folder}}/ecsnet "
    "--evidence {folder}/evidence.npz --regions {folder}/maps.npz --out {folder}/labels.npz",
    "filter_labels": f"--images {{folder}}/train.csv {CLASSES} --settings {{filter}} --threads {{threads}} "
    "--labels {folder}/labels.npz --evidence {folder}/evidence.npz --out {folder}/filtered.csv "
    "--kept {folder}/kept.csv",
    "train_segmenter": f"{TRAINS} {CLASSES} --settings {{training}} --labels {{folder}}/filtered.csv "
    "--label-root {folder} --out {folder}/segmenter",
    "predict": f"{INFERS} --settings {{refined_view}} --weights {{folder}}/deeplab "
    "--folder {folder}/predict --out {folder}/predict.csv",
    "score": f"{CLASSES} --root {{root}} --threads {{threads}} --what filtered_labels --split train "
    "--source {folder}/filtered.csv --truth {folder}/masks.csv --out {folder}/score.json "
    "--out-confusion {folder}/confusion.csv --out-counts {folder}/counts.npz",
}
"""The command line of each stage, in their order."""


def chain(run: Finished, ids: list[str]) -> dict[str, Used]:
    """What each stage takes on these images, as one shard, on the CPU."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "ids.txt").write_text("\n".join(ids))
        save_network(folder / "classifier", Classifier(BACKBONE, run.names))
        save_network(folder / "ecsnet", EcsNet(BACKBONE, run.names, 32, 6))
        save_network(folder / "deeplab", DeepLab(BACKBONE, run.names, (6, 12, 18)))
        values = {
            "folder": name,
            "root": run.root,
            "threads": run.threads,
            "masks": run.config.supervised.masks,
        }
        values |= settings(run, folder / "ids.txt", len(ids))
        return {
            stage: run_stage(stage, *(word.format(**values) for word in line.split()))
            for stage, line in COMMANDS.items()
        }


def settings(run: Finished, ids: Path, images: int) -> dict[str, str]:
    """The stages' settings as JSON."""
    backbone = {"name": BACKBONE.name, "weights": "none"}
    dataset = dataclasses.replace(run.config.dataset, train_list=str(ids), val_list=str(ids))
    schedule = {"crop_size": 65, "batch_size": BATCH, "epochs": STEPS * BATCH / images}
    values: dict[str, dict[str, object]] = {
        "dataset": dataclasses.asdict(dataset),
        "runtime": {"workers": 1, "device": "cpu"},
        "training": {**schedule, "backbone": backbone},
        "ecs_training": schedule,
        "view": VIEW,
        "refined_view": {**VIEW, "refine": REFINE},
        "evidence": {"refine": REFINE, "walk": {"cells": 8}},
        "filter": {"drop_image": False},
    }
    return {name: json.dumps(value) for name, value in values.items()}
