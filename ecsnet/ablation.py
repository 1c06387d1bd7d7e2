"""Stage `ablation`: what each step and each rule of the method is worth, in one table.

Reads the counts that `score` left of each image, and no mask. The CAM is cut where that is best for the
list as it is; the threshold is held in all resamples, so that its interval knows nothing of that choice.
"""

import functools
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from .errors import UserError, raise_problems
from .resampling import METRICS, class_iou, draws, interval, metrics, parts
from .scoring import ImageCounts, read_image_counts
from .settings import Ablation
from .store import write_text
from .summary import align
from .tables import read_classes
from .variants import ROWS

COLUMNS = (
    "row seed split metric value low high spread against change change_low change_high change_spread"
).split()

Counts = dict[str, dict[int, ImageCounts]]
"""Of each row, by its name, with each seed."""


@dataclass(frozen=True)
class Values:
    """A row's score with each seed, [S, 1 + R]: of the list itself, then of its resamples."""

    seeds: list[int]
    own: np.ndarray
    change: np.ndarray | None


def run(
    settings: Ablation, *, rows: list[str], counts: list[Path], classes: Path, out: Path, out_iou: Path
) -> None:
    """Write the table of all rows, that of their IoU by class, and print the first.

    Args:
        rows: name of a row and a seed, as cam/0, for each file of `counts`.
        counts: what `score` wrote of each image.
        classes: file with the class names.
        out: CSV file with the columns `COLUMNS`, in percent: a line for each row, metric and seed, and one
            with the seed "mean". `low` and `high` are a 95 % interval from resampling images, `spread` the
            standard deviation over the seeds. A change is the row's score less that of the row `against`,
            both on the same resamples; with the seed "mean", all seeds are on the same resamples.
        out_iou: CSV file with a line for each row and seed, and a column for each class.

    Raises:
        UserError: `rows` and `counts` do not fit, or a file is damaged.
    """
    found = read_rows(rows, counts)
    lines = [line for name in found for line in row_lines(name, found, settings.resamples)]
    table = pd.DataFrame(lines, columns=COLUMNS)
    write_text(out_iou, _csv(iou_table(found, ["background", *read_classes(classes)])))
    write_text(out, _csv(table))
    print(format_table(out))
    print(
        f"Intervals: the middle 95 % of {settings.resamples} resamplings of the images, a change's on the "
        "same ones as the row that it is against; ±: standard deviation over the seeds."
    )


def read_rows(rows: list[str], counts: list[Path]) -> Counts:
    """The counts of each row, in the table's order."""
    read = functools.cache(read_image_counts)  # rows may share a file
    given: Counts = {}
    if len(rows) != len(counts):
        raise UserError(f"--rows has {len(rows)} names, --counts {len(counts)} files; give one for each")
    for text, path in zip(rows, counts, strict=True):
        name, _, seed = text.partition("/")
        if not seed.isdecimal():
            raise UserError(f"--rows {text}: expected a row and a seed, as cam/0")
        given.setdefault(name, {})[int(seed)] = read(path)
    known = [row.name for row in ROWS]
    problems = [f"{name}: no such row; known are {', '.join(known)}" for name in given if name not in known]
    seeds = {tuple(one) for one in given.values()}
    if len(seeds) > 1:
        problems.append("the rows have different seeds; give each row with every seed, in the same order")
    raise_problems(problems, "--rows has mistakes:")
    return {name: given[name] for name in known if name in given}


def row_lines(name: str, found: Counts, resamples: int) -> list[dict[str, Any]]:
    """The lines of the table for a row: for each metric each seed, then their mean."""
    base = next(row.against for row in ROWS if row.name == name)
    if base not in found or _images(found[base]) != _images(found[name]):
        base = ""  # other images: a difference would say nothing
    own = _sampled(found[name], resamples)
    other = _sampled(found[base], resamples) if base else None
    head = {"row": name, "split": next(iter(found[name].values())).split, "against": base}
    lines = []
    for metric in METRICS:
        change = own[metric] - other[metric] if other else None
        values = Values(list(found[name]), own[metric], change)
        lines += [{**head, "metric": metric, **line} for line in _seed_lines(values)]
    return lines


def _images(counts: dict[int, ImageCounts]) -> list[list[str]]:
    return [one.ids for one in counts.values()]


def _sampled(counts: dict[int, ImageCounts], resamples: int) -> dict[str, np.ndarray]:
    """Each metric with each seed, [S, 1 + R]."""
    by_seed = [metrics(draws(len(one.ids), resamples), parts(one.counts)) for one in counts.values()]
    return {metric: np.stack([values[metric] for values in by_seed]) for metric in METRICS}


def _seed_lines(values: Values) -> list[dict[str, Any]]:
    rows = [(seed, slice(index, index + 1)) for index, seed in enumerate(values.seeds)]
    return [
        {
            "seed": seed,
            **_described(values.own[within], ""),
            **({} if values.change is None else _described(values.change[within], "change")),
        }
        for seed, within in [*rows, ("mean", slice(None))]
    ]


def _described(values: np.ndarray, name: str) -> dict[str, float]:
    """Mean over the seeds of [S, 1 + R] values, its interval, and the standard deviation over the seeds."""
    low, high = interval(values.mean(0))
    prefix = name and f"{name}_"
    line = {name or "value": float(values[:, 0].mean()), f"{prefix}low": low, f"{prefix}high": high}
    if len(values) > 1:
        line[f"{prefix}spread"] = float(values[:, 0].std(ddof=1))
    return line


def iou_table(found: Counts, names: list[str]) -> pd.DataFrame:
    """IoU by class in percent of each row with each seed, and the mean over the seeds."""
    lines = []
    for name, counts in found.items():
        values = [class_iou(draws(len(one.ids), 0), parts(one.counts))[0] for one in counts.values()]
        split = next(iter(counts.values())).split
        for seed, value in zip([*counts, "mean"], [*values, np.mean(values, 0)], strict=True):
            lines.append([name, seed, split, *value])
    return pd.DataFrame(lines, columns=["row", "seed", "split", *names])


def format_table(path: Path) -> str:
    """A table that `run` wrote, as aligned text: one line for each row, the mean over the seeds.

    Raises:
        UserError: the file is missing or is not such a table.
    """
    try:
        table = pd.read_csv(path, dtype=str, keep_default_na=False)
        table = table[table.seed == "mean"][COLUMNS]
    except (OSError, ValueError, KeyError, AttributeError) as error:
        raise UserError(f"{path}: not a readable ablation ({error}); run snakemake to write it") from None
    lines = [["row", "split", "miou", "95 %", "change", "95 %", "against", *METRICS[1:]]]
    for name, metric_rows in table.groupby("row", sort=False):
        by_metric = {row["metric"]: row for row in metric_rows.to_dict("records")}
        first = by_metric["miou"]
        lines.append(
            [
                str(name),
                first["split"],
                _with_spread(first["value"], first["spread"]),
                _between(first["low"], first["high"]),
                _with_spread(_signed(first["change"]), first["change_spread"]),
                _between(_signed(first["change_low"]), _signed(first["change_high"])),
                first["against"] or "–",
                *(by_metric[metric]["value"] or "–" for metric in METRICS[1:]),
            ]
        )
    return align(lines)


def _with_spread(value: str, spread: str) -> str:
    return f"{value} ± {spread}" if value and spread else value or "–"


def _between(low: str, high: str) -> str:
    return f"{low} to {high}" if low and high else "–"


def _signed(text: str) -> str:
    return f"+{text}" if text and not text.startswith("-") else text


def _csv(table: pd.DataFrame) -> str:
    return table.to_csv(index=False, float_format="%.2f", lineterminator="\n")
