"""Stage prepare: check a part of a data set at once, and write the table that all stages start from."""

import os
import unicodedata
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

import pandas as pd

from .errors import UserError, raise_problems
from .pictures import PictureError, decode_photograph, read_content
from .progress import Progress
from .settings import Dataset
from .store import fingerprint, write_text
from .tables import ImageRecord, write_classes, write_images
from .threads import mapped
from .voc import DataError, Problem, find_pictures, folded, list_path, read_tags, scan_list


class Picture(NamedTuple):
    """A picture that can be decoded: its path relative to the data root, size and digest."""

    image: str
    width: int
    height: int
    fingerprint: str


def run(
    settings: Dataset,
    *,
    split: str,
    out: Path,
    out_problems: Path,
    out_classes: Path | None = None,
    list_name: str | None = None,
    threads: int = 1,
) -> None:
    """Read and check a list, its pictures and tags, and write them as a table.

    Sizes are of the pixels as stored: EXIF rotation is ignored, because VOC's masks and boxes are
    drawn on the stored pixels.

    Args:
        settings: the data set.
        split: train or val: which of its lists; or other. Tags of other than training images are never used,
            only shown: mistakes in them do not matter.
        out: the table, written only if there is no error (see `ecsnet.tables`).
        out_problems: table severity,where,problem,remedy of all errors and warnings; always written.
        out_classes: the class names; likewise.
        list_name: of the split `other`, its list.
        threads: pictures decoded at a time.

    Raises:
        UserError: with one line for each error; `split` is none of them.
    """
    records, problems = examined(settings, split, threads, list_name)
    name = _list_of(settings, split, list_name)
    errors = [str(problem) for problem in problems if problem.severity == "error"]
    _write_problems(out_problems, problems)
    mistakes = "1 mistake" if len(errors) == 1 else f"{len(errors)} mistakes"
    raise_problems(errors, f"The data set has {mistakes} (the whole list is in {out_problems}):")
    classes = list(settings.classes)
    if out_classes:
        write_classes(out_classes, classes)
    write_images(out, records, classes)
    for problem in problems:
        print(f"warning: {problem}")
    print(_summary(settings, split, name, records, len(problems)))


def examined(
    settings: Dataset, split: str, threads: int = 1, list_name: str | None = None
) -> tuple[list[ImageRecord], list[Problem]]:
    """Records of a list's images that are in order, and all problems, with warnings if there is no error."""
    problems: list[Problem] = []
    name = _list_of(settings, split, list_name)
    records = _read(settings, split, name, threads, problems)
    if not any(problem.severity == "error" for problem in problems):
        problems += _warnings(settings, split, name, records)
    return records, problems


def _list_of(settings: Dataset, split: str, list_name: str | None = None) -> str:
    lists = {"train": settings.train_list, "val": settings.val_list, "other": list_name}
    if split not in lists:
        raise UserError(f"split {split!r}: expected train, val or other")
    name = lists[split]
    if name is None:
        raise UserError("split 'other': name its list with --list-name")
    return name


def _read(
    settings: Dataset, split: str, name: str, threads: int, problems: list[Problem]
) -> list[ImageRecord]:
    """Records of the images that are in order."""
    root = Path(settings.root)
    if not os.path.isdir(root):  # unlike Path.is_dir, false for names that are too long
        remedy = (
            "unpack the data there, or set dataset.root to the folder with JPEGImages and ImageSets; "
            "`snakemake download --cores 1` fetches VOC 2012"
        )
        problems.append(Problem("dataset.root", f"there is no folder {root}", remedy))
        return []
    meant = None if os.path.isdir(root / "JPEGImages") else _near_root(root)
    if meant:
        problems.append(Problem("dataset.root", f"{root} has no JPEGImages", f"did you mean {meant}?"))
        return []
    ids = scan_list(root, name, problems)
    files = _choose_files(root, list_path(root, name), ids, problems)
    pictures = _decode_all(root, files, threads, problems)
    tags = read_tags(settings, ids, problems if split == "train" else [])
    return [
        ImageRecord(id=image_id, tags=tags.get(image_id, ()), **pictures[image_id]._asdict())
        for image_id in ids
        if image_id in pictures
    ]


def _near_root(root: Path) -> Path | None:
    """A folder above or below that has pictures as VOC's, where the root has none."""
    patterns = ("*/JPEGImages", "*/*/JPEGImages")
    below = [found.parent for pattern in patterns for found in sorted(root.glob(pattern))]
    return next((place for place in (*below, root.parent) if os.path.isdir(place / "JPEGImages")), None)


def _choose_files(root: Path, where: Path, ids: list[str], problems: list[Problem]) -> dict[str, str]:
    """Path relative to `root` of the picture of each image on the list `where`."""
    found = find_pictures(root)
    folder = root / "JPEGImages"
    if not found:
        remedy = "set dataset.root to the folder that holds JPEGImages and ImageSets"
        problems.append(Problem(str(folder), "no picture (.jpg, .jpeg, .png) in there", remedy))
        return {}
    alike = {folded(image_id): image_id for image_id in found}
    chosen = {}
    for image_id in ids:
        files = found.get(image_id, [])
        if not files:
            remedy = _absent_remedy(image_id, alike.get(folded(image_id)))
            problems.append(Problem(str(where), f"image {image_id} is not in {folder}", remedy))
        elif len(files) > 1:
            problems.append(Problem(str(folder), f"{' and '.join(files)} have the same id", "keep one"))
        else:
            chosen[image_id] = f"JPEGImages/{files[0]}"
    return chosen


def _absent_remedy(image_id: str, alike: str | None) -> str:
    if alike is None:
        return f"add {image_id}.jpg, or take the id off the list"
    if unicodedata.normalize("NFC", alike) == unicodedata.normalize("NFC", image_id):
        return "the same name is there in another Unicode form: rename the file to what the list says"
    return f"did you mean {alike}?"


def _decode_all(
    root: Path, files: dict[str, str], threads: int, problems: list[Problem]
) -> dict[str, Picture]:
    pictures = {}
    progress = Progress("prepare", len(files), "pictures")
    with ThreadPoolExecutor(threads) as pool:
        results = mapped(pool, lambda image: _try_picture(root, image), list(files.values()))
        for image_id, result in zip(files, results, strict=True):
            progress.step()
            if isinstance(result, Problem):
                problems.append(result)
            else:
                pictures[image_id] = result
    return pictures


def _try_picture(root: Path, image: str) -> Picture | Problem:
    try:
        return read_picture(root, image)
    except DataError as error:
        return error.problem


def read_picture(root: Path, image: str) -> Picture:
    """Decode a picture to its last pixel.

    Raises:
        DataError: it is unreadable, empty, damaged, cut off, too large, neither JPEG nor PNG, or
            of a pixel format that has no plain conversion to 8-bit RGB.
    """
    path = root / image
    try:
        content = read_content(path)
        picture = decode_photograph(content)
    except FileNotFoundError:
        raise DataError(path, "is gone", "start again when nothing else moves files there") from None
    except PictureError as error:
        raise DataError(path, error.problem, f"{error.remedy}, or take the id off the list") from None
    return Picture(image, picture.width, picture.height, fingerprint(content))


def _warnings(settings: Dataset, split: str, name: str, records: list[ImageRecord]) -> list[Problem]:
    result = []
    for number, count in tag_counts(settings, records).items() if split == "train" else ():
        if not count:
            problem = (
                f"no training image has the class {settings.classes[number - 1]}, so it is never predicted"
            )
            remedy = "add images of it, or leave it out of the classes"
            result.append(Problem("dataset.classes", problem, remedy, "warning"))
    twins = " and ".join(_twins(records))
    if twins:
        problem = f"{twins} are one name where case is not told apart (macOS, Windows)"
        remedy = "rename one, or one's label images overwrite the other's there"
        where = f"the list {name}" if split == "other" else f"dataset.{split}_list"
        result.append(Problem(where, problem, remedy, "warning"))
    if split == "other":
        return result
    other = "val" if split == "train" else "train"
    # the other list alone is read, and only to warn: it changes nothing in this table
    both = {record.id for record in records}.intersection(
        scan_list(Path(settings.root), _list_of(settings, other), [])
    )
    if both:
        problem = f"{len(both)} of its {len(records)} images are in dataset.{other}_list too"
        remedy = "take them off one list, or the validation score means nothing"
        result.append(Problem(f"dataset.{split}_list", f"{problem} ({min(both)} is one)", remedy, "warning"))
    return result


def _twins(records: list[ImageRecord]) -> list[str]:
    """The first ids of a list that some file systems take for one; empty where there are none."""
    seen: dict[str, str] = {}
    for record in records:
        other = seen.setdefault(folded(record.id), record.id)
        if other != record.id:
            return [other, record.id]
    return []


def tag_counts(settings: Dataset, records: list[ImageRecord]) -> dict[int, int]:
    counts = dict.fromkeys(range(1, len(settings.classes) + 1), 0)
    for record in records:
        for tag in record.tags:
            counts[tag] += 1
    return counts


def _write_problems(path: Path, problems: list[Problem]) -> None:
    columns = ["severity", "where", "problem", "remedy"]
    table = pd.DataFrame([vars(problem) for problem in problems], columns=columns)
    write_text(path, table.to_csv(index=False, lineterminator="\n"))


def _summary(settings: Dataset, split: str, name: str, records: list[ImageRecord], count: int) -> str:
    if split != "train":
        kind = "validation images" if split == "val" else f"images of the list {name}"
        return f"prepare: {len(records)} {kind}; warnings: {count}"
    counts = tag_counts(settings, records)
    low, high = min(counts, key=counts.__getitem__), max(counts, key=counts.__getitem__)
    return (
        f"prepare: {len(records)} training images, {len(counts)} classes with {counts[low]} "
        f"({settings.classes[low - 1]}) to {counts[high]} ({settings.classes[high - 1]}) images each; "
        f"warnings: {count}"
    )
