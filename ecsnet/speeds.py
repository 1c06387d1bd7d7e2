"""How fast this machine is: each stage of a run in a trial of some seconds. For `ecsnet check`."""

import contextlib
import io
import resource
import subprocess
import sys
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import torch

from .machine import TRAININGS
from .progress import Progress
from .settings import Config
from .survey import Pictures
from .trial import PASSES, Trial, timed


@dataclass
class Speeds:
    """What was measured.

    Attributes:
        step: seconds of a step by training.
        image: seconds for a megapixel of pictures by stage.
        start: seconds until a job begins to work.
        memory: bytes at most.
        errors: what a stage ended with, where it did not work.
    """

    step: dict[str, float] = field(default_factory=dict)
    image: dict[str, float] = field(default_factory=dict)
    start: float = 0.0
    memory: float = 0.0
    errors: dict[str, Exception] = field(default_factory=dict)


def measure(config: Config, pictures: Pictures, stages: set[str], folder: Path, threads: int) -> Speeds:
    """Time trainings and passes over the images.

    Args:
        stages: those that would run.
        folder: an empty one, for what they write.
        threads: of each stage.
    """
    needed = [stage for stage in (*TRAININGS, *PASSES) if stages.intersection(_followers(stage))]
    if not needed:
        return Speeds()
    speeds = Speeds(start=_start_seconds())
    # random weights make some numbers so small that processors take a hundred times as long for them
    torch.set_flush_denormal(True)
    try:
        with _quiet():
            trial = Trial(config, pictures, folder, threads)
        _measure(trial, needed, speeds)
    finally:
        torch.set_flush_denormal(False)
    speeds.memory = _peak_memory(trial.device)
    return speeds


def _followers(stage: str) -> tuple[str, ...]:
    """A stage, and those of a trial that read what it writes."""
    chain = ("erase", "evidence", "ecs_labels")
    return chain[chain.index(stage) :] if stage in chain else (stage,)


def _measure(trial: Trial, stages: list[str], speeds: Speeds) -> None:
    """Time stages until one fails; what is at work is told beside the report."""
    with contextlib.redirect_stdout(sys.stderr):
        progress = Progress("timing", len(stages), "stages")
        for stage in stages:
            progress.step(0, stage)
            try:
                with _quiet():
                    if stage in TRAININGS:
                        speeds.step[stage] = trial.step_seconds(stage)
                    else:
                        speeds.image[stage] = trial.image_seconds(stage)
            except Exception as error:
                speeds.errors[stage] = error
                return
            progress.step(1)


def _quiet() -> contextlib.AbstractContextManager[Any]:
    return contextlib.redirect_stdout(io.StringIO())


def _start_seconds() -> float:
    """Seconds until a new process has imported what a stage with a network needs."""
    words = [sys.executable, "-c", "import ecsnet.predict, ecsnet.training"]
    return timed(partial(subprocess.run, words, check=True))


def _peak_memory(device: torch.device) -> float:
    """Bytes that were used at most: of a card, else of this process."""
    if device.type == "cuda":
        return float(torch.cuda.max_memory_allocated(device))
    unit = 1 if sys.platform == "darwin" else 1024
    return float(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit)
