"""The CSV file with the tags of one's own photographs: a line `image,labels` for each."""

import csv
import io
import os
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

HEADER = ["image", "labels"]


def read_labels(path: Path, problems: list[str]) -> dict[str, tuple[str, ...]]:
    """Labels, sorted, by picture; mistakes are added to `problems`, a line each.

    Labels are separated by semicolons; a picture may have none. A first line image,labels is a header.
    """
    labels: dict[str, tuple[str, ...]] = {}
    before = len(problems)
    for number, row in _rows(path, problems):
        if number == 1 and [cell.strip().lower() for cell in row] == HEADER:
            continue
        where = f"{path}:{number}"
        if len(row) != 2 or not row[0].strip():
            found = f"{len(row)} columns" if len(row) != 2 else "no picture's name"
            problems.append(f"{where}: {found}; write image,labels with semicolons between labels")
            continue
        name = str(PurePosixPath(row[0].strip().replace("\\", "/")))
        if name in labels:
            problems.append(f"{where}: {name} stands there before; put its labels on one line")
        labels[name] = tuple(sorted({label.strip() for label in row[1].split(";") if label.strip()}))
    if not labels and len(problems) == before:
        problems.append(f"{path}: names no picture; write a line image,labels for each")
    return labels


def _rows(path: Path, problems: list[str]) -> Iterator[tuple[int, list[str]]]:
    """Line number and cells of each line that is not blank."""
    if not os.path.isfile(path):
        remedy = "give a CSV file with the columns image,labels"
        problems.append(f"dataset.tags: there is no file {path} (relative to where snakemake runs); {remedy}")
        return
    try:
        text = path.read_bytes().decode("utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        problems.append(f"{path}: no readable UTF-8 text ({error}); save it as CSV in UTF-8")
        return
    reader = csv.reader(io.StringIO(text, newline=""), strict=True)
    try:
        for row in reader:
            if any(cell.strip() for cell in row):
                yield reader.line_num, row
    except csv.Error as error:
        problems.append(f"{path}:{reader.line_num}: no CSV ({error}); is a quote missing?")
