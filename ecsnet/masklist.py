"""The table of masks that `ecsnet predict-folder` writes, and goes on from."""

import csv
import io
from pathlib import Path, PurePosixPath

from .store import write_text

COLUMNS = ("image", "mask", "width", "height", "labels", "percent", "key", "digest")

Row = dict[str, str]


def mask_name(name: str) -> str:
    """The name of a photograph's mask."""
    return str(PurePosixPath(name).with_suffix(".png"))


def row_of(name: str, *values: str) -> Row:
    """A row of the table; without values, of a picture that is still to be done."""
    cells = [name, mask_name(name), *(values or [""] * (len(COLUMNS) - 2))]
    return dict(zip(COLUMNS, cells, strict=True))


def read_rows(table: Path) -> dict[str, Row]:
    """Rows of an earlier table by picture; none where there is no such table."""
    try:
        text = table.read_text(encoding="utf-8")
        rows = list(csv.DictReader(io.StringIO(text)))
    except (OSError, ValueError, csv.Error):
        return {}
    return {row["image"]: row for row in rows if set(row) == set(COLUMNS) and None not in row.values()}


def write_rows(table: Path, rows: dict[str, Row]) -> None:
    """Write the table, by name."""
    text = io.StringIO()
    writer = csv.DictWriter(text, COLUMNS, lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows[name] for name in sorted(rows) if name.isprintable())
    write_text(table, text.getvalue())
