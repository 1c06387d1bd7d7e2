"""Trainings: steps/s with real crops against the same steps on ready tensors."""

import dataclasses
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from unittest import mock

import torch
from finished import Finished
from timing import Row, seconds, wait_for_card

from ecsnet import train_cam, train_ecs, train_segmenter, training
from ecsnet.training import Job, Learner, batches, start, workers

WARM, STEPS = 3, 60 if torch.cuda.is_available() else 15


def measure(run: Finished) -> list[Row]:
    """A row for each training: steps/s, and the share of a step's time that is not the network's."""
    names = ["train_cam", *(["train_ecs"] if run.with_ecs else []), "train_segmenter"]
    return [row(name, job(run, name), run) for name in names]


def job(run: Finished, name: str) -> Job:
    """The training as its stage sets it up."""
    results, folder = run.results, Path("not-written")
    common = {
        "images": run.table("train"), "root": run.root, "out": folder / "weights.safetensors",
        "history": folder / "history.csv", "runtime": run.runtime, "threads": run.threads,
    }  # fmt: skip
    classes = results / "prepare" / "classes.txt"
    labels = {"labels": results / "filter_labels.csv", "label_root": results}
    shards = {"labels": run.shards("evidence"), "regions": run.shards("erase"), "round": 1}
    weights = results / "train_cam" / "weights.safetensors"
    stages: dict[str, tuple[object, Callable[[], None]]] = {
        "train_cam": (
            train_cam,
            lambda: train_cam.run(run.config.train_cam, classes=classes, imagenet=None, **common),
        ),
        "train_ecs": (
            train_ecs,
            lambda: train_ecs.run(run.config.train_ecs, weights=weights, **shards, **common),
        ),
        "train_segmenter": (
            train_segmenter,
            lambda: train_segmenter.run(
                run.config.train_segmenter, classes=classes, imagenet=None, **labels, **common
            ),
        ),
    }
    module, stage = stages[name]
    with mock.patch.object(module, "train") as train:
        stage()
    found = train.call_args.args[0]
    # long enough for all steps that are measured
    return dataclasses.replace(found, settings=dataclasses.replace(found.settings, epochs=1000.0))


def row(name: str, job: Job, run: Finished) -> Row:
    """Ready steps before and after the real ones, so that a machine that slows down is not taken for data."""
    device, learner = start(job)
    stream = batches(job, 0, device)
    batch = next(stream)
    stream.close()
    first = ready_steps(learner, batch)
    stream = batches(job, 0, device)
    # what the workers made ready while nobody asked would hide that they are slow
    for number in range(WARM + 2 * workers(job)):
        learner.step(number, next(stream))
    waited, taken = real_steps(learner, stream)
    stream.close()
    ready = min(first, ready_steps(learner, batch))
    return {
        "training": name,
        "batch": f"{job.settings.batch_size} × {job.settings.crop_size}²",
        "steps/s": STEPS / taken,
        "on ready tensors": STEPS / ready,
        # a card goes on computing while the next batch is asked for
        "share of time waiting for data": waited / taken if device.type == "cpu" else None,
        "share of time beyond a ready step": 1 - ready / taken,
    }


def ready_steps(learner: Learner, batch: training.Batch) -> float:
    """Seconds of steps on one batch that is there."""
    learner.step(0, batch)
    return seconds(lambda: [learner.step(number, batch) for number in range(STEPS)])


def real_steps(learner: Learner, stream: Iterator[training.Batch]) -> tuple[float, float]:
    """Seconds of waiting for batches, and of all, for as many steps."""
    waited = 0.0
    wait_for_card()
    begun = time.perf_counter()
    for number in range(STEPS):
        asked = time.perf_counter()
        batch = next(stream)
        waited += time.perf_counter() - asked
        learner.step(number, batch)
    wait_for_card()
    return waited, time.perf_counter() - begun
