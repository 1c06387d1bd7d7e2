"""A run and its ablation in pieces, on a machine that is to be had for minutes at a time.

    python benchmarks/quality/run.py --configfile config/vocsubset.yaml --minutes 9 --out out

Each call goes on where the last one stopped (finished stages are kept, a training resumes from its last
checkpoint) and leaves what there is so far in the folder `--out`: tables, pictures and the time of each
stage. Exits 0 when all is done, 3 when there is more to do. What follows -- goes to snakemake: on one GPU,
-- --cores 16 --resources gpu=1.
"""

import argparse
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import yaml

TARGETS = ("all", "ablation")
KEPT = ("summary.csv", "ablation.csv", "ablation_iou.csv", "figures/*.png")
MORE_TO_DO = 3
GRACE = 45  # seconds that trainings have to leave a checkpoint


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--configfile", type=Path, required=True, nargs="+")
    parser.add_argument("--minutes", type=float, required=True, help="after which it stops, at the latest")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("snakemake", nargs="*", help="after --: arguments for snakemake")
    arguments = parser.parse_args()
    began = time.monotonic()
    words = ["snakemake", "--rerun-incomplete", *TARGETS, *arguments.snakemake]
    words += ["--configfile", *map(str, arguments.configfile)]
    code = run_until(words, began + 60 * arguments.minutes - GRACE)
    gather(run_name(arguments.configfile), arguments.out)
    print(f"{(time.monotonic() - began) / 60:.1f} minutes, snakemake's exit code {code}", flush=True)
    return code


def run_until(words: list[str], deadline: float) -> int:
    """The exit code of a command; when the time is over, it is asked to stop, and the code is MORE_TO_DO."""
    process = subprocess.Popen(words)
    try:
        return process.wait(max(1, deadline - time.monotonic()))
    except subprocess.TimeoutExpired:
        process.send_signal(signal.SIGINT)
        process.wait()
        return MORE_TO_DO


def run_name(paths: list[Path]) -> str:
    """`run` of the last configuration that has it."""
    return [run for path in paths if (run := yaml.safe_load(path.read_text()).get("run"))][-1]


def gather(run: str, out: Path) -> None:
    """Copy a run's tables and pictures, and its benchmark files as one table, to a flat folder."""
    out.mkdir(parents=True, exist_ok=True)
    for pattern in KEPT:
        for path in Path("results", run).glob(pattern):
            shutil.copy(path, out / path.name)
    lines = ["stage\tseconds"]
    for path in sorted(Path("logs", run).rglob("*.benchmark.tsv")):
        name = path.relative_to(Path("logs", run)).as_posix().removesuffix(".benchmark.tsv")
        lines.append(f"{name}\t{path.read_text().splitlines()[1].split()[0]}")
    (out / "seconds.tsv").write_text("\n".join(lines) + "\n")


if __name__ == "__main__":
    sys.exit(main())
