"""A finished run as the material of the measurements: real pictures, trained networks, real labels."""

import sys
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import torch
import yaml
from snakemake.utils import update_config

from ecsnet.device import choose_device
from ecsnet.settings import Config, Runtime, parse_config
from ecsnet.store import Shard
from ecsnet.tables import ImageRecord, read_classes, read_images


@dataclass(frozen=True)
class Finished:
    """A run whose stages are measured.

    Attributes:
        threads: of each stage.
        images: about how many of its images a stage is measured on, as one shard.
    """

    config: Config
    threads: int
    images: int

    @property
    def results(self) -> Path:
        return Path("results") / self.config.run

    @property
    def root(self) -> Path:
        return Path(self.config.dataset.root)

    @property
    def runtime(self) -> Runtime:
        return self.config.runtime

    @property
    def with_ecs(self) -> bool:
        """Whether the run has an ECS-Net; else the evidence itself is filtered."""
        return self.config.filter_labels.source == "ecs_labels"

    @cached_property
    def device(self) -> torch.device:
        return choose_device(self.runtime, self.threads)

    @property
    def names(self) -> list[str]:
        return read_classes(self.results / "prepare" / "classes.txt")

    def table(self, split: str) -> Path:
        return self.results / "prepare" / f"{split}.csv"

    def shard(self, split: str) -> Shard:
        """The part of a split's images that is measured."""
        every = read_images(self.table(split), self.names)
        return Shard(1, max(1, len(every) // self.images))

    def records(self, split: str) -> list[ImageRecord]:
        return read_images(self.table(split), self.names, self.shard(split))

    def shards(self, *stage: str) -> list[Path]:
        """A stage's files of arrays, in their order."""
        paths = self.results.joinpath(*stage).glob("*-of-*.npz")
        return sorted(paths, key=lambda path: int(path.name.split("-")[0]))


def finished(configfiles: list[Path], threads: int, images: int) -> Finished:
    """The run of a configuration, later files over earlier ones; ends the process if it is not finished."""
    values: dict[str, object] = {}
    for path in configfiles:
        if not path.is_file():
            sys.exit(f"{path}: no such configuration; names of tables stand before --configfile")
        update_config(values, yaml.safe_load(path.read_text()))
    run = Finished(parse_config(values), threads, images)
    if not (run.results / "summary.csv").exists():
        files = " ".join(map(str, configfiles))
        sys.exit(f"{run.results}/summary.csv is not there: run snakemake --configfile {files} first")
    return run
