"""What a run prints at its end beside its scores: how long its stages took, and where everything is."""

import csv
import textwrap
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from .progress import clock
from .terminal import listed, width


class Taken(NamedTuple):
    """What a stage took: seconds of all its jobs, how many there are, MB of the largest (0: unknown)."""

    seconds: float = 0.0
    jobs: int = 0
    memory: float = 0.0


def stage_times(logs: Path) -> dict[str, Taken]:
    """What each stage took, from Snakemake's benchmark files below the run's folder of logs.

    Those of a job are of its last run. What belongs to `supervised` or to `ablation` counts as that.
    """
    times: dict[str, Taken] = {}
    order = sorted(logs.rglob("*.benchmark.tsv"), key=lambda path: path.stat().st_mtime)
    for path in order:
        stage = path.relative_to(logs).parts[0].removesuffix(".benchmark.tsv")
        before = times.get(stage, Taken())
        for seconds, memory in _rows(path):
            before = Taken(before.seconds + seconds, before.jobs + 1, max(before.memory, memory))
            times[stage] = before
    return times


def _rows(path: Path) -> Iterator[tuple[float, float]]:
    """Seconds and MB of a job; nothing of one whose file is just being written."""
    with path.open(encoding="utf-8", newline="") as file:
        for row in csv.DictReader(file, delimiter="\t"):
            memory = row.get("max_rss", "-")
            # a job that was too short to be looked at has none
            yield float(row["s"]), float(memory) if memory.replace(".", "", 1).isdigit() else 0.0


def times_text(times: dict[str, Taken]) -> str:
    """One text for all stages that took a second or more, and their sum; empty without any."""
    if not times:
        return ""
    total = sum(taken.seconds for taken in times.values())
    parts = [
        f"{stage} {clock(seconds)}" + (f" ({jobs} jobs)" if jobs > 1 else "")
        for stage, (seconds, jobs, _) in times.items()
        if seconds >= 1
    ]
    text = f"Time, all jobs added up: {clock(total)}: {', '.join(parts)}"
    return textwrap.fill(text, width(), subsequent_indent="  ", break_on_hyphens=False)


def places_text(results: Path, report: str) -> str:
    """Where a run's results are, of those that are there; `report` is a command that makes a page of them."""
    places = {
        "overview.html": "all of it on one page: scores, pictures, times, settings",
        "summary.csv": "scores",
        "figures": "pictures of every stage, loss curves, IoU by class",
        "masks": "masks of your photographs, under their names; masks.csv lists them",
        "filter_labels": "masks that the network learned from, of the training pictures",
        "predict": "masks by the network",
        "segmenter.safetensors": "the network, for ecsnet predict-folder and export",
    }
    rows = [(name, text) for name, text in places.items() if (results / name).exists()]
    rows.append(("Snakemake's report", report))
    return f"Results in {results}:\n{listed(rows)}"
