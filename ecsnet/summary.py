"""Stage `summary`: every score of a run in one table, as a file and in print."""

from pathlib import Path

import pandas as pd

from .errors import UserError
from .score import WHATS
from .scoring import ScoreRecord, read_score
from .store import write_text

METRICS = ("miou", "miou_best", "miou_kept", "coverage", "accuracy_kept")
"""Metrics of the table, in the order of its columns in print."""

MEANINGS = {
    "cam": "activation maps",
    "cam_refined": "refined maps",
    "ecs_labels": "ECS-Net's labels",
    "filtered_labels": "reliable labels",
    "val": "DeepLab on them",
    "supervised": "DeepLab on masks",
}
"""What the kinds of labels are, for a person."""

HEADINGS = ("miou", "best", "kept", "share", "acc.")
"""Short names of `METRICS`, so that the table fits a terminal."""

LEGEND = (
    "In percent. miou: of all pixels, ignored ones as background.\n"
    "best: at the best threshold of the maps.\n"
    "kept, share, acc.: mIoU, share and accuracy of the pixels not ignored."
)

RATIO = "ratio_to_supervised"
"""Metric of `val`: its mIoU in percent of that of the same network trained on true masks."""


def run(settings: None, *, scores: list[Path] | None, out: Path) -> None:
    """Gather the records of `score` in a CSV file and print them.

    Args:
        settings: none; the stage has no section.
        scores: JSON files that `score` wrote, in any order; None where nothing could be scored.
        out: CSV file with the columns what, split, metric, value; values in percent, two decimals.
    """
    records = sorted(map(read_score, scores or []), key=lambda record: WHATS.index(record.what))
    rows = [row for record in records for row in _rows(record)] + _ratio(records)
    # stable: each kind keeps the order of its metrics, and the ratio comes after them
    rows.sort(key=lambda row: WHATS.index(row["what"]))
    table = pd.DataFrame(rows, columns=["what", "split", "metric", "value"])
    write_text(out, table.to_csv(index=False, float_format="%.2f", lineterminator="\n"))
    print(format_table(out))


def format_table(path: Path) -> str:
    """An existing summary as aligned text: one line for each kind of label, then the ratio.

    Raises:
        UserError: the file is missing or is not a summary.
    """
    try:
        table = pd.read_csv(path, dtype=str, keep_default_na=False)
        rows = list(table[["what", "split", "metric", "value"]].itertuples(index=False, name=None))
    except (OSError, ValueError, KeyError) as error:
        raise UserError(f"{path}: not a readable summary ({error}); run snakemake to write it") from None
    values = {(what, metric): value for what, _, metric, value in rows}
    if not values:
        return "Nothing is scored: there are no true masks."
    lines = [["what", "", "split", *HEADINGS]]
    for what, split in dict.fromkeys((row[0], row[1]) for row in rows):
        numbers = (values.get((what, metric)) or "–" for metric in METRICS)
        lines.append([what, MEANINGS.get(what, ""), split, *numbers])
    text = f"{align(lines, left=3)}\n{LEGEND}"
    if ("val", RATIO) in values:
        text += f"\nval reaches {values['val', RATIO]} % of supervised"
    return text


def _rows(record: ScoreRecord) -> list[dict[str, str | float | None]]:
    return [
        {"what": record.what, "split": record.split, "metric": metric, "value": record.metrics[metric]}
        for metric in METRICS
        if metric in record.metrics
    ]


def _ratio(records: list[ScoreRecord]) -> list[dict[str, str | float | None]]:
    mious = {record.what: record.metrics["miou"] for record in records}
    found, bound = mious.get("val"), mious.get("supervised")
    if found is None or not bound:
        return []
    split = next(record.split for record in records if record.what == "val")
    return [{"what": "val", "split": split, "metric": RATIO, "value": 100 * found / bound}]


def align(lines: list[list[str]], left: int = 2) -> str:
    """Columns of equal width: the first ones, of text, to the left, numbers to the right."""
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    return "\n".join(
        "  ".join(
            cell.ljust(width) if column < left else cell.rjust(width)
            for column, (cell, width) in enumerate(zip(line, widths, strict=True))
        ).rstrip()
        for line in lines
    )
