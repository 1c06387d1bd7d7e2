"""The photographs of `ecsnet predict-folder`, and the table of masks that it writes and goes on from."""

import csv
import io
from pathlib import Path, PurePosixPath

from .errors import UserError, raise_problems
from .folder import ENDINGS, UNREADABLE, found_names, without_twins
from .store import write_text

COLUMNS = ("image", "mask", "width", "height", "labels", "percent", "folder", "key", "digest", "overlay")

Row = dict[str, str]


def mask_name(name: str) -> str:
    """The name of a photograph's mask."""
    return str(PurePosixPath(name).with_suffix(".png"))


def find_photographs(photos: Path, others: list[Path]) -> tuple[Path, list[str]]:
    """The folder of photographs and their names in it, sorted.

    Raises:
        UserError: there is none, two would have the same mask, or one of the other folders lies within.
    """
    if photos.is_file():
        if photos.parent.resolve() in [other.resolve() for other in others]:
            raise UserError(
                f"{photos.parent}: is where the photograph is; name another folder for the result"
            )
        return photos.parent, [photos.name]
    if not photos.is_dir():
        raise UserError(f"{photos}: no such folder or picture")
    place = photos.resolve()
    for other in others:
        if place in (other.resolve(), *other.resolve().parents):
            raise UserError(f"{other}: lies in the folder of photographs, {photos}; name one outside of it")
    names = sorted(without_twins(found_names(photos, ENDINGS + UNREADABLE)))
    if not names:
        raise UserError(f"{photos}: no picture ({', '.join(ENDINGS)}) in it")
    seen: dict[str, str] = {}
    same = [(seen.setdefault(mask_name(name), name), name) for name in names]
    raise_problems(
        [
            f"{photos}: {first} and {name} would have the same mask; rename one"
            for first, name in same
            if first != name
        ],
        "Some names stand for two pictures:",
    )
    return photos, names


def row_of(name: str, **values: str) -> Row:
    """A row of the table; without values, of a picture that is still to be done."""
    return {**dict.fromkeys(COLUMNS, ""), "image": name, "mask": mask_name(name), **values}


def read_rows(table: Path) -> dict[str, Row]:
    """Rows of an earlier table by picture; none where there is no such file.

    Raises:
        UserError: the file is no such table, or no longer one.
    """
    try:
        # spreadsheets put a mark before the first sign
        reader = csv.DictReader(io.StringIO(table.read_text(encoding="utf-8-sig")))
        rows = list(reader)
        known = set(reader.fieldnames or ()) == set(COLUMNS)
    except FileNotFoundError:
        return {}
    except (ValueError, csv.Error):
        known = False
    if not known or any(None in (*row, *row.values()) for row in rows):
        problem = "is not, or no longer, the table that this command wrote"
        raise UserError(f"{table}: {problem}; restore it, or write to another folder")
    return {row["image"]: row for row in rows}


def write_rows(table: Path, rows: dict[str, Row]) -> None:
    """Write the table, by name."""
    text = io.StringIO()
    writer = csv.DictWriter(text, COLUMNS, lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows[name] for name in sorted(rows) if name.isprintable())
    write_text(table, text.getvalue())
