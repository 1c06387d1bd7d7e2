"""Peak memory of `ecsnet erase` on 300 and on 3,000 images: it does not grow with their number.

    python benchmarks/memory.py [--root data/VOCdevkit/VOC2012] [--list trainaug] [300 3000]

One view at half size keeps it short; what is measured is growth, not the peak of a real run (Snakemake's
benchmark files under logs/<run>/ have that).
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

from ecsnet.networks import Classifier, save_network
from ecsnet.settings import VOC_CLASSES, Backbone
from ecsnet.voc import read_list

MEASURE = """
import resource, subprocess, sys
status = subprocess.run(sys.argv[1:], stdout=subprocess.DEVNULL).returncode
usage = resource.getrusage(resource.RUSAGE_CHILDREN)
print(usage.ru_maxrss / 1024, usage.ru_utime + usage.ru_stime)
sys.exit(status)
"""


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--root", type=Path, default=Path("data/VOCdevkit/VOC2012"))
    parser.add_argument("--list", default="trainaug")
    parser.add_argument("counts", type=int, nargs="*", default=[300, 3000])
    arguments = parser.parse_args()
    ids = read_list(arguments.root, arguments.list)
    print("| images | peak memory in MB | CPU seconds |\n|---|---|---|")
    for count in arguments.counts:
        with tempfile.TemporaryDirectory() as folder:
            memory, seconds = measure(arguments.root, ids[:count], Path(folder))
        print(f"| {min(count, len(ids))} | {memory:.0f} | {seconds:.0f} |", flush=True)


def measure(root: Path, ids: list[str], folder: Path) -> tuple[float, float]:
    """Peak resident memory in MB, and seconds, of erase as one shard on these images."""
    listed = folder / "ids.txt"
    listed.write_text("\n".join(ids))
    dataset = {"root": str(root), "train_list": str(listed), "val_list": str(listed)}
    run_stage(
        "prepare", "--settings", json.dumps(dataset), "--split", "train", "--out", folder / "train.csv",
        "--out-problems", folder / "problems.csv",
    )  # fmt: skip
    save_network(
        folder / "weights", Classifier(Backbone(name="tf_efficientnet_lite0", weights="none"), VOC_CLASSES)
    )
    return run_stage(
        "erase", "--settings", json.dumps({"scales": [0.5], "flip": False}), "--images", folder / "train.csv",
        "--root", root, "--weights", folder / "weights", "--shard", "1/1", "--out", folder / "maps.npz",
        "--threads", os.cpu_count(),
    )  # fmt: skip


def run_stage(*arguments: object) -> tuple[float, float]:
    """Run a stage in a process of its own; its peak resident memory in MB and its user and system time."""
    return run_process([sys.executable, "-m", "ecsnet", *map(str, arguments)])


def run_process(words: list[str], environment: dict[str, str] | None = None) -> tuple[float, float]:
    """Run a command to its end; its peak resident memory in MB and its user and system time."""
    # through a small process: memory of this one would count as the command's
    result = subprocess.run(
        [sys.executable, "-c", MEASURE, *words], env=environment, text=True, capture_output=True
    )
    if result.returncode:
        sys.exit(f"failed: {' '.join(words)}\n{result.stderr}")
    memory, seconds = result.stdout.split()
    return float(memory), float(seconds)


if __name__ == "__main__":
    main()
