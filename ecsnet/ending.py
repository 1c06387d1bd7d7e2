"""What a run prints at its end beside its scores: how long its stages took, and where everything is."""

import csv
import textwrap
from pathlib import Path

from .progress import clock
from .terminal import listed, width


def stage_times(logs: Path) -> dict[str, tuple[float, int]]:
    """Seconds and jobs of each stage, from Snakemake's benchmark files below the run's folder of logs.

    Those of a job are of its last run. What belongs to `supervised` or to `ablation` counts as that.
    """
    times: dict[str, tuple[float, int]] = {}
    order = sorted(logs.rglob("*.benchmark.tsv"), key=lambda path: path.stat().st_mtime)
    for path in order:
        stage = path.relative_to(logs).parts[0].removesuffix(".benchmark.tsv")
        seconds, jobs = times.get(stage, (0.0, 0))
        times[stage] = seconds + _seconds(path), jobs + 1
    return times


def _seconds(path: Path) -> float:
    with path.open(encoding="utf-8", newline="") as file:
        return sum(float(row["s"]) for row in csv.DictReader(file, delimiter="\t"))


def times_text(times: dict[str, tuple[float, int]]) -> str:
    """One text for all stages that took a second or more, and their sum; empty without any."""
    if not times:
        return ""
    total = sum(seconds for seconds, _ in times.values())
    parts = [
        f"{stage} {clock(seconds)}" + (f" ({jobs} jobs)" if jobs > 1 else "")
        for stage, (seconds, jobs) in times.items()
        if seconds >= 1
    ]
    text = f"Time, all jobs added up: {clock(total)}: {', '.join(parts)}"
    return textwrap.fill(text, width(), subsequent_indent="  ", break_on_hyphens=False)


def places_text(results: Path, report: str) -> str:
    """Where a run's results are, of those that are there; `report` is a command that makes a page of them."""
    places = {
        "summary.csv": "scores",
        "figures": "pictures of every stage, loss curves, IoU by class",
        "masks": "masks of your photographs, under their names; masks.csv lists them",
        "filter_labels": "masks that the network learned from, of the training pictures",
        "predict": "masks by the network",
        "train_segmenter/weights.safetensors": "the network",
    }
    rows = [(name, text) for name, text in places.items() if (results / name).exists()]
    rows.append(("a page of it all", report))
    return f"Results in {results}:\n{listed(rows)}"
