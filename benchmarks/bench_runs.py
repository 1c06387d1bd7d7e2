"""What a run costs beside its stages' work: starting each stage, planning, finding nothing to do."""

import subprocess
import sys
from pathlib import Path

from finished import Finished
from rates import stage_seconds
from timing import Row, least

STAGES = (
    *("prepare", "check_masks", "train_cam", "erase", "evidence", "train_ecs", "ecs_labels"),
    *("filter_labels", "train_segmenter", "predict", "score", "summary", "figures"),
)


def starting() -> list[Row]:
    """Seconds until a stage's process has loaded all its code; the empty process first."""
    empty = least(lambda: python("-c", ""))
    rows: list[Row] = [{"process": "python, no stage", "seconds": empty}]
    for stage in STAGES:
        command = f"import ecsnet.{stage}"
        rows.append({"process": stage, "seconds": least(lambda command=command: python("-c", command))})
    return rows


def planning(configfiles: list[Path]) -> list[Row]:
    """Seconds of a plan of everything, of a plan with nothing to do, and of a run with nothing to do."""
    snakefile = Path(__file__).parent.parent / "Snakefile"
    command = [
        "-m",
        "snakemake",
        "--snakefile",
        str(snakefile),
        "--cores",
        "1",
        "--configfile",
        *map(str, configfiles),
    ]
    if "Nothing to be done" not in python(*command, "--dry-run"):
        print("the run is not up to date with code and settings: no time of a run with nothing to do")
        ways = {"plan of the whole run": ["--dry-run", "--quiet", "all", "--forceall"]}
    else:
        ways = {
            "plan of the whole run": ["--dry-run", "--quiet", "all", "--forceall"],
            "plan with nothing to do": ["--dry-run"],
            "run with nothing to do": [],
        }
    return [
        {"snakemake": name, "seconds": least(lambda options=options: python(*command, *options))}
        for name, options in ways.items()
    ]


def python(*words: str) -> str:
    """What a new Python process prints."""
    command = [sys.executable, "-P", *words]  # see processes.run_stage
    return subprocess.run(command, check=True, text=True, capture_output=True).stdout


def shares(run: Finished) -> list[Row]:
    """Seconds of each stage in the run, from Snakemake's benchmark files, and its share of all."""
    logs = Path("logs") / run.config.run
    taken = {stage: stage_seconds(logs, stage) for stage in (*STAGES, "supervised")}
    whole = sum(taken.values())
    rows: list[Row] = [
        {"stage": stage, "seconds": value, "share": value / whole} for stage, value in taken.items() if value
    ]
    return [*rows, {"stage": "all", "seconds": whole, "share": 1.0}]
