"""Join the label tables of shards, and clear label images that belong to none."""

from pathlib import Path

from .palette import remove_others
from .tables import read_labels, write_labels


def run(settings: None, *, tables: list[Path], folder: Path, out: Path) -> None:
    """Write the joined table `out`; PNGs in `folder` of other images, left by an earlier run, go."""
    records = [record for table in tables for record in read_labels(table)]
    remove_others(folder, {record.id for record in records})
    write_labels(out, records)
