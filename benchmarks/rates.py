"""How long a data set of another size would take: from the measured stages of a finished run.

    python benchmarks/rates.py --configfile config/minivoc.yaml

Reads Snakemake's benchmark files under logs/<run>/. A training's work is its pictures times its epochs, that
of any other stage its pictures; start-up counts as work, so that short runs give too low a rate. A training
that was resumed has the time of its last part alone: measure an undisturbed run. The hours are of one device
like the one that was measured; shards on N of them take the Nth part.
"""

import argparse
from collections.abc import Iterator
from pathlib import Path

import pandas as pd
import yaml

from ecsnet.settings import Config, Training, parse_config

SIZES = {"VOC 2012": (10_582, 1_449), "COCO 2017": (118_287, 5_000), "1 M": (1_000_000, 5_000)}
"""Training and validation images."""
STAGES = (
    *("prepare", "train_cam", "erase", "evidence", "train_ecs", "ecs_labels"),
    *("filter_labels", "train_segmenter", "predict", "score"),
)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--configfile", type=Path, default=Path("config/config.yaml"))
    arguments = parser.parse_args()
    config = parse_config(yaml.safe_load(arguments.configfile.read_text()))
    sizes = count_images(Path("results") / config.run)
    print(f"Hours on one device, from the run {config.run} of {sizes[0]} + {sizes[1]} images:\n")
    print("| stage | images/s |", " | ".join(SIZES), "|\n|---|---|" + "---|" * len(SIZES))
    totals = [0.0] * len(SIZES)
    for stage, rate, hours in rows(config, sizes):
        totals = [total + hour for total, hour in zip(totals, hours, strict=True)]
        print_row(stage, f"{rate:.1f}", hours)
    print_row("all", "", totals)


def print_row(stage: str, rate: str, hours: list[float]) -> None:
    print(f"| {stage} | {rate} |", " | ".join(f"{hour:.1f}" for hour in hours), "|")


def count_images(results: Path) -> tuple[int, int]:
    """Training and validation images of a run."""
    train, val = (len(pd.read_csv(results / "prepare" / f"{split}.csv")) for split in ("train", "val"))
    return train, val


def rows(config: Config, sizes: tuple[int, int]) -> Iterator[tuple[str, float, list[float]]]:
    """For each stage its rate and the hours for each size."""
    for stage in STAGES:
        taken = stage_seconds(Path("logs") / config.run, stage)
        if taken:
            rate = work(config, stage, sizes) / taken
            yield stage, rate, [work(config, stage, size) / rate / 3600 for size in SIZES.values()]


def work(config: Config, stage: str, sizes: tuple[int, int]) -> float:
    """Pictures that a stage looks at."""
    section = getattr(config, stage, None)
    images = {"predict": sizes[1], "prepare": sum(sizes)}.get(stage, sizes[0])
    rounds = config.rounds if stage in ("train_ecs", "ecs_labels") else 1
    return images * rounds * (section.epochs if isinstance(section, Training) else 1)


def stage_seconds(logs: Path, stage: str) -> float:
    """Seconds of all jobs of a stage, one after the other."""
    files = [*logs.glob(f"{stage}.benchmark.tsv"), *logs.glob(f"{stage}/**/*.benchmark.tsv")]
    return sum(pd.read_csv(path, sep="\t").s.sum() for path in files)


if __name__ == "__main__":
    main()
