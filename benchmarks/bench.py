"""All measurements of speed, into Markdown tables: `make bench`.

    python benchmarks/bench.py [part …] --configfile config/minivoc.yaml

The pictures, networks and labels are those of a finished run of the configuration, so run that first. What is
compared took turns in this process, on whichever device is there, a card or the CPU; what has no use of a
card is measured on the CPU and filed there.
"""

import argparse
import os
import platform
import subprocess
from collections.abc import Callable
from pathlib import Path

import bench_arrays
import bench_growth
import bench_inference
import bench_runs
import bench_training
import torch
from finished import Finished, finished
from timing import Row, write

ON_CPU = {"decoding", "counting", "starting", "planning", "growth"}
"""Tables of what computes on the CPU, whatever is there."""


def parts(
    run: Finished, configfiles: list[Path], counts: tuple[int, int]
) -> dict[str, Callable[[], list[Row]]]:
    """The tables by name."""
    return {
        "ceiling": lambda: bench_inference.ceilings(run),
        "inference": lambda: bench_inference.measure(run),
        "precision": lambda: bench_inference.precision(run),
        "training": lambda: bench_training.measure(run),
        "refinement": lambda: bench_arrays.refinement(run),
        "decoding": lambda: bench_arrays.stages(run),
        "counting": lambda: bench_arrays.counting(run),
        "starting": lambda: bench_runs.starting(),
        "planning": lambda: bench_runs.planning(configfiles),
        "shares": lambda: bench_runs.shares(run),
        "growth": lambda: bench_growth.measure(run, *counts),
    }


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--configfile", type=Path, nargs="+", default=[Path("config/demo.yaml")])
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)))
    images = 1000 if torch.cuda.is_available() else 40
    parser.add_argument("--images", type=int, default=images, help=f"a stage is measured on (here: {images})")
    parser.add_argument(
        "--growth",
        type=int,
        nargs=2,
        default=(300, 3000),
        metavar=("LEAST", "MOST"),
        help="(default: 300 3000)",
    )
    parser.add_argument("--out", type=Path, help="folder of the tables (default: benchmarks/tables/DEVICE)")
    parser.add_argument("part", nargs="*", help="only these tables (default: all)")
    arguments = parser.parse_args()
    run = finished(arguments.configfile, arguments.threads, arguments.images)
    known = parts(run, arguments.configfile, tuple(arguments.growth))
    unknown = [part for part in arguments.part if part not in known]
    if unknown:
        parser.error(f"no table {unknown[0]}; known are {', '.join(known)}")
    for part in arguments.part or known:
        device = torch.device("cpu") if part in ON_CPU else run.device
        out = arguments.out or Path(__file__).parent / "tables" / device.type
        torch.set_num_threads(run.threads)  # a training sets its own
        write(known[part](), out / f"{part}.md", machine(run, device))


def machine(run: Finished, device: torch.device) -> str:
    """What is measured, on what."""
    card = torch.cuda.get_device_name(device) if device.type == "cuda" else "no GPU"
    command = ["git", "-C", Path(__file__).parent, "rev-parse", "--short", "HEAD"]
    commit = subprocess.run(command, text=True, capture_output=True).stdout
    return (
        f"run {run.config.run}, commit {commit.strip() or 'unknown'}, torch {torch.__version__}, "
        f"{run.threads} threads, {processor()}, {card}"
    )


def processor() -> str:
    """The processor's name."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor()
    names = [line.split(":")[1].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor()


if __name__ == "__main__":
    main()
