"""The tables that stages hand to each other: images with tags, and label images, as CSV."""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from .errors import UserError
from .late import Patience
from .palette import decode_mask
from .pictures import PictureError
from .store import Shard, fingerprint, write_text


@dataclass(frozen=True, slots=True)
class ImageRecord:
    """One image of a data set.

    Attributes:
        id: its name without folder and ending.
        image: path relative to the data root.
        width, height: in pixels.
        tags: indices of the classes present, ascending, 1 being the first class (0 is background).
        fingerprint: digest of the file's content.
    """

    id: str
    image: str
    width: int
    height: int
    tags: tuple[int, ...]
    fingerprint: str


@dataclass(frozen=True, slots=True)
class LabelRecord:
    """One label image.

    Attributes:
        id: the image's id.
        label: path of the mask.
        fingerprint: digest of the mask's content.
        dropped: why the image is not to be trained on; empty if it is.
    """

    id: str
    label: str
    fingerprint: str
    dropped: str = ""


def write_images(path: Path, records: Sequence[ImageRecord], classes: list[str]) -> None:
    """Write an image table; tags stand in it by name, separated by semicolons."""
    columns = _columns(records, ImageRecord)
    columns["tags"] = [";".join(classes[tag - 1] for tag in tags) for tags in columns["tags"]]
    _write(path, columns)


def read_images(path: Path, classes: list[str], shard: Shard | None = None) -> list[ImageRecord]:
    """Read an image table, or the rows of a shard of it.

    Raises:
        UserError: the file is not such a table, or names a class that is not in `classes`.
    """
    index = {name: number for number, name in enumerate(classes, 1)}
    records = []
    for row in _read(path, ImageRecord, shard):
        names = row["tags"].split(";") if row["tags"] else []
        unknown = [name for name in names if name not in index]
        if unknown:
            raise UserError(f"{path}: image {row['id']} has the unknown class {unknown[0]!r}; rerun prepare")
        row |= {"tags": tuple(index[name] for name in names)}
        for side in ("width", "height"):
            if not re.fullmatch("[1-9][0-9]{0,8}", row[side]):
                raise UserError(f"{path}: image {row['id']} has the {side} {row[side]!r}; rerun prepare")
            row[side] = int(row[side])
        records.append(ImageRecord(**{name: row[name] for name in ImageRecord.__annotations__}))
    return records


def write_labels(path: Path, records: Sequence[LabelRecord], notes: Sequence[dict] = ()) -> None:
    """Write a label table; `notes` are further columns, a dict for each record."""
    columns = _columns(records, LabelRecord)
    for name in notes[0] if notes else ():
        columns[name] = [note[name] for note in notes]
    _write(path, columns)


def read_labels(path: Path) -> list[LabelRecord]:
    """Read a label table; raises `UserError` if the file is not one."""
    rows = _read(path, LabelRecord)
    return [LabelRecord(**{name: row[name] for name in LabelRecord.__annotations__}) for row in rows]


class LabelTable:
    """The label maps that a table lists, read one by one and checked against the table."""

    def __init__(self, table: Path, folder: Path) -> None:
        """`folder` is what the paths in the table are relative to."""
        self._table = table
        self._folder = folder
        # label images of our own, of which the table stands beside the folder, may come after it; whose true
        # masks are gone is told so at once
        self._patience = Patience(None if folder == table.parent else 0)
        self._records = {record.id: record for record in read_labels(table)}

    def __contains__(self, image_id: str) -> bool:
        return image_id in self._records

    def ids(self) -> list[str]:
        """Image ids in the table's order."""
        return list(self._records)

    def kept(self) -> list[str]:
        """Ids of the images that are to be trained on."""
        return [record.id for record in self._records.values() if not record.dropped]

    def path(self, image_id: str) -> Path:
        """File of one label map."""
        return self._folder / self._records[image_id].label

    def get(self, image_id: str) -> np.ndarray:
        """One label map, uint8 [H, W].

        Raises:
            UserError: as `content`; or the file is no label map.
        """
        try:
            return decode_mask(self.content(image_id))
        except PictureError as error:
            raise UserError(f"{self.path(image_id)}: {error}") from None

    def content(self, image_id: str) -> bytes:
        """The bytes of one label map's file.

        Raises:
            UserError: the file is gone, unreadable, or another one than when the table was written.
        """
        path, wanted = self.path(image_id), self._records[image_id].fingerprint
        remedy = f"delete {self._table} and run snakemake again"
        try:
            content = self._patience.read(path, lambda content: fingerprint(content) == wanted)
        except OSError as error:
            raise UserError(f"{path}: {error.strerror}, but {self._table} lists it; {remedy}") from None
        if content is None:
            raise UserError(f"{path}: was changed after the stage wrote {self._table}; {remedy}")
        return content


def read_classes(path: Path) -> list[str]:
    """Class names without background, one a line; mask value 1 is the first."""
    try:
        return path.read_text(encoding="utf-8").split("\n")[:-1]
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{path}: no readable class names ({error}); run prepare") from None


def write_classes(path: Path, classes: Iterable[str]) -> None:
    """Write the class names (see `read_classes`)."""
    write_text(path, "".join(f"{name}\n" for name in classes))


def _columns(records: Sequence[Any], kind: type) -> dict[str, list]:
    """Values by the names of a record's fields: a million rows as dicts would take gigabytes."""
    return {name: [getattr(record, name) for record in records] for name in kind.__annotations__}


def _write(path: Path, columns: dict[str, list]) -> None:
    write_text(path, pd.DataFrame(columns).to_csv(index=False, lineterminator="\n"))


def _read(path: Path, kind: type, shard: Shard | None = None) -> list[dict]:
    try:
        # text throughout, and no NaN: an id or a class may be called 007 or "None"
        table = pd.read_csv(path, dtype=str, na_filter=False)
    except FileNotFoundError:
        raise UserError(f"{path}: no such table; run the stage that writes it") from None
    except (ValueError, OSError) as error:
        raise UserError(f"{path}: not a readable table ({error}); rerun the stage that writes it") from None
    if not isinstance(table.index, pd.RangeIndex):  # pandas takes the first columns for row names then
        raise UserError(f"{path}: its rows are longer than its header; rerun the stage that writes it")
    missing = [name for name in kind.__annotations__ if name not in table.columns]
    if missing:
        raise UserError(f"{path}: the column {missing[0]} is missing; rerun the stage that writes it")
    return (table.iloc[shard.within(len(table))] if shard else table).to_dict("records")
