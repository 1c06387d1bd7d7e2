"""The CSV file with the tags of one's own photographs: a line `image,labels` for each."""

import csv
import io
import os
import re
import unicodedata
from collections.abc import Collection, Iterable, Iterator
from pathlib import Path, PurePosixPath

from .voc import folded

SEPARATORS = ",;\t"
IMAGE = ("image", "images", "picture", "photo", "file", "filename", "file_name", "name", "path", "sourcefile")
"""Headers of the first column."""
LABELS = ("labels", "label", "tags", "tag", "classes", "class", "keywords", "subject")
"""Headers of the second one."""
SHOWN = 3
"""Of lines with the same mistake so many are shown."""


def read_labels(path: Path, problems: list[str], classes: Collection[str] = ()) -> dict[str, tuple[str, ...]]:
    """Labels, sorted, by picture (in Unicode's form NFC); mistakes are added to `problems`, a line each.

    Labels are separated by semicolons; a picture may have none. A first line image,labels is a header, and
    says by what the columns are separated. A label holds no comma, unless it is one of `classes`.
    """
    labels: dict[str, tuple[str, ...]] = {}
    lists: dict[int, str] = {}
    before = len(problems)
    for number, row in _rows(path, problems):
        where = f"{path}:{number}"
        if len(row) != 2 or not row[0].strip():
            mistake = f"{len(row)} columns" if len(row) != 2 else "no picture's name"
            problems.append(f"{where}: {mistake}; write image,labels with semicolons between labels")
            continue
        name = same_form(str(PurePosixPath(row[0].strip().replace("\\", "/"))))
        if name in labels:
            problems.append(f"{where}: {name} stands there before; put its labels on one line")
        found = sorted({label.strip() for label in row[1].split(";") if label.strip()})
        wrong = [label for label in found if re.search("[,|]", label) and label not in classes]
        if wrong:
            lists[number] = wrong[0]
        labels[name] = tuple(label for label in found if label not in wrong)
    if lists:
        problems.append(_told_lists(path, lists))
    if not labels and len(problems) == before:
        problems.append(f"{path}: names no picture; write a line image,labels for each")
    return labels


def same_form(name: str) -> str:
    """A name as it is compared: file systems and tables of one name may differ in its Unicode form."""
    return unicodedata.normalize("NFC", name)


def absent(labels: Iterable[str], names: Iterable[str], table: Path, folder: Path) -> list[str]:
    """Problems of lines whose picture is not among the `names` of files."""
    there = {same_form(name): name for name in names}
    known = _findable(there.values())
    problems = []
    for name in labels:
        if name not in there:
            near = _near(name, known)
            remedy = f"did you mean {near}?" if near else "add the picture, or take the line out"
            problems.append(f"{table}: {name} is not in {folder}; {remedy}")
    return problems


def _findable(names: Iterable[str]) -> dict[str, str]:
    """Names by what they may have been called: with or without ending and folder, the whole name first."""
    names = sorted(names)
    known: dict[str, str] = {}
    for form in (str, _without_ending, _base, lambda name: _without_ending(_base(name))):
        for name in names:
            known.setdefault(folded(form(name)), name)
    return known


def _near(name: str, known: dict[str, str]) -> str | None:
    parts = name.split("/")
    for start in range(len(parts)):  # a folder before it may be too much
        tail = "/".join(parts[start:])
        for form in (tail, _without_ending(tail)):
            if folded(form) in known:
                return known[folded(form)]
    return None


def _base(name: str) -> str:
    return name.rsplit("/", 1)[-1]


def _without_ending(name: str) -> str:
    return os.path.splitext(name)[0]


def _told_lists(path: Path, lists: dict[int, str]) -> str:
    shown = ", ".join(f"{label!r} in line {number}" for number, label in list(lists.items())[:SHOWN])
    more = f" and {len(lists) - SHOWN} more" if len(lists) > SHOWN else ""
    remedy = "write ; between labels (a class whose name has such a sign must stand in dataset.classes)"
    return f"{path}: labels with a comma or |: {shown}{more}; {remedy}"


def _rows(path: Path, problems: list[str]) -> list[tuple[int, list[str]]]:
    """Line number and cells, two where nothing is wrong, of each line that is neither blank nor a header."""
    text = _text(path, problems)
    separator = _separator(text)
    lines = [(number, _cells(row, separator)) for number, row in _lines(text, separator, path, problems)]
    if lines and lines[0][1][0].lower().startswith("sep="):  # Excel's
        del lines[0]
    if not lines:
        return []
    wrong = _wrong_header(lines[0][1])
    if wrong:
        problems.append(f"{path}:{lines[0][0]}: {wrong}")
        return []
    if _is_header(lines[0][1]):
        del lines[0]
    wrong = _wrong_separator([row for _, row in lines])
    if wrong:
        problems.append(f"{path}: {wrong}")
        return []
    return lines


def _text(path: Path, problems: list[str]) -> str:
    if not os.path.isfile(path):
        remedy = "give a CSV file with the columns image,labels"
        problems.append(f"dataset.tags: there is no file {path} (relative to where snakemake runs); {remedy}")
        return ""
    try:
        text = path.read_bytes().decode("utf-8-sig")
        if "\0" in text:
            raise UnicodeError("it holds zeros")
    except (OSError, UnicodeError) as error:
        remedy = "save it in UTF-8, in Excel as the file type CSV UTF-8"
        problems.append(f"{path}: no readable UTF-8 text ({error}); {remedy}")
        return ""
    return text


def _lines(text: str, separator: str, path: Path, problems: list[str]) -> Iterator[tuple[int, list[str]]]:
    """Line number and cells of each line that is not blank."""
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=separator, strict=True)
    try:
        for row in reader:
            if any(cell.strip() for cell in row):
                yield reader.line_num, row
    except csv.Error as error:
        problems.append(f"{path}:{reader.line_num}: no CSV ({error}); is a quote missing?")


def _separator(text: str) -> str:
    """What the first line says that columns are separated by; a comma where it does not say."""
    first = next((line for line in text.splitlines() if line.strip(SEPARATORS + " ")), "")
    named = re.match(rf'"?sep=([{SEPARATORS}])', first, re.IGNORECASE)
    if named:
        return named[1]
    return next((sign for sign in SEPARATORS if _is_header(_cells(first.split(sign), sign))), ",")


def _cells(row: list[str], separator: str) -> list[str]:
    """Cells of a line without empty columns at its end.

    Where semicolons separate columns, labels are columns of their own unless quotes are around them.
    """
    cells = list(row)
    while len(cells) > 2 and not cells[-1].strip():
        cells.pop()
    if separator == ";" and len(cells) > 2:
        cells = [cells[0], ";".join(cells[1:])]
    return cells


def _is_header(cells: list[str]) -> bool:
    names = [cell.strip('"; ').lower() for cell in cells]
    return len(names) > 1 and names[0] in IMAGE and names[1].split(";")[0] in LABELS


def _wrong_header(cells: list[str]) -> str | None:
    """What is wrong with a first line that is no picture's, as its name without ending shows."""
    if _is_header(cells):
        if len(cells) == 2 and ";" not in cells[1].strip("; "):
            return None
        return f"more columns than two ({', '.join(cells)}); leave image,labels alone"
    name = cells[0].strip()
    if not name or PurePosixPath(name).suffix:
        return None
    found = f"{', '.join(cells)!r} is neither the header image,labels nor a picture with its labels"
    return f"{found}; write image,labels there"


def _wrong_separator(rows: list[list[str]]) -> str | None:
    """What is wrong where all lines are one column, and the first one has another sign in it."""
    for sign, name in ((";", ";"), ("\t", "tabs")):
        if rows and sign in rows[0][0] and all(len(row) == 1 for row in rows):
            header = f"image{sign}labels" if sign == ";" else "image and labels with a tab between"
            return f"columns are separated by {name}, expected ,; write {header} as the first line, or commas"
    return None
