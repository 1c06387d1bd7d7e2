"""A run and its ablation in pieces, on a machine that is to be had for minutes at a time.

    python benchmarks/quality/run.py --configfile config/vocsubset.yaml --minutes 9 --out out -- --cores 16

Each call goes on where the last one stopped (finished stages are kept, a training resumes from its last
checkpoint) and leaves what there is so far in the folder `--out`: tables, pictures and the seconds of each
stage that is finished (of a training that was stopped, those of its last piece). Exits with snakemake's code,
0 when all is done, or with 3 when the time was over before. What follows -- goes to snakemake; on one GPU,
--cores 16 --resources gpu=1.
"""

import argparse
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pandas as pd
import yaml

from ecsnet.settings import Config

TARGETS = ("all", "ablation")
KEPT = ("summary.csv", "ablation.csv", "ablation_iou.csv", "figures/*.png")
MORE_TO_DO = 3
GRACE = 45
"""Seconds that trainings have to leave a checkpoint."""


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--configfile", type=Path, required=True, nargs="+")
    parser.add_argument("--minutes", type=float, required=True, help="that a call takes at most (2 or more)")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("snakemake", nargs="*", help="after --: arguments for snakemake")
    arguments = parser.parse_args()
    if arguments.minutes < 2:
        parser.error("--minutes: at least 2, of which the end is for checkpoints")
    for path in arguments.configfile:
        if not path.is_file():
            parser.error(f"{path}: no such file; name a configuration under config/")
    began = time.monotonic()
    run = run_name(arguments.configfile)
    words = ["snakemake", "--rerun-incomplete", *TARGETS, *arguments.snakemake]
    words += ["--configfile", *map(str, arguments.configfile)]
    code = run_for(words, 60 * arguments.minutes - GRACE)
    gather(run, arguments.out)
    print(f"{(time.monotonic() - began) / 60:.1f} minutes, exit code {code}", flush=True)
    return code


def run_for(words: list[str], seconds: float) -> int:
    """The exit code of a command; MORE_TO_DO if it had to be asked to stop, or killed."""
    process = subprocess.Popen(words)
    try:
        return process.wait(seconds)
    except subprocess.TimeoutExpired:
        process.send_signal(signal.SIGINT)
    try:
        return process.wait(GRACE) and MORE_TO_DO
    except subprocess.TimeoutExpired:
        process.kill()
        return MORE_TO_DO


def run_name(paths: list[Path]) -> str:
    """`run` of the last configuration that has it, else the default."""
    name = Config().run
    for path in paths:
        name = (yaml.safe_load(path.read_text()) or {}).get("run", name)
    return name


def gather(run: str, out: Path) -> None:
    """Copy a run's tables and pictures, and its benchmark files as one table, to a flat folder."""
    out.mkdir(parents=True, exist_ok=True)
    for pattern in KEPT:
        for path in Path("results", run).glob(pattern):
            shutil.copy(path, out / path.name)
    logs = Path("logs", run)
    rows = []
    for path in sorted(logs.rglob("*.benchmark.tsv")):
        name = path.relative_to(logs).as_posix().removesuffix(".benchmark.tsv")
        rows.append((name, pd.read_csv(path, sep="\t").s.sum()))
    pd.DataFrame(rows, columns=["stage", "seconds"]).to_csv(out / "seconds.tsv", sep="\t", index=False)


if __name__ == "__main__":
    sys.exit(main())
