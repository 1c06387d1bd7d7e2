"""What a run would find: its pictures, tags and true masks, looked at by the stages' own checks.

For `ecsnet check`. Nothing is written but into a temporary folder.
"""

import contextlib
import io
import sys
import tempfile
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from . import check_masks, import_masks, prepare
from .errors import UserError
from .folder import Photo, read_photos, split
from .import_coco import mistakes_of_headers, tagged
from .instances import PARTS, part_of
from .photographs import opened_photo, reduced
from .progress import Progress
from .report import Report, told
from .settings import Config, Dataset
from .tables import ImageRecord, write_classes, write_images
from .threads import mapped
from .voc import scan_list

FEW = 10
"""A class with fewer training images is worth a note."""
LABELS = "the labels from cam to filtered_labels"


@dataclass(frozen=True)
class Pictures:
    """The pictures of a run.

    Attributes:
        train, val: those that are in order.
        predicted: how many get a mask by the trained network.
        root: what their paths are relative to; None where they are not laid out as the stages see them.
    """

    train: list[ImageRecord]
    val: list[ImageRecord]
    predicted: int
    root: Path | None


def survey(
    config: Config, source: Dataset, photos: list[Photo], made: bool, threads: int, report: Report
) -> Pictures | None:
    """Report on pictures and tags; nothing comes back where none can be used.

    Args:
        config: with the data set as the stages see it.
        source: the data set as its user describes it.
        photos: those of a data set of kind folder.
        made: whether a data set that a rule makes is there.
    """
    if source.kind == "demo" and not made:
        return _survey_demo(config, report)
    if source.kind == "folder":
        pictures = _survey_folder(source, photos, threads, report)
    elif source.kind == "coco":
        pictures = _survey_coco(source, threads, report)
    else:
        pictures = _survey_lists(config.dataset, threads, report)
    if pictures and pictures.train:
        _report_classes(config.dataset, pictures.train, report)
    return pictures


def _survey_demo(config: Config, report: Report) -> Pictures:
    demo = config.demo
    report.ok("data", f"the run itself makes it: {demo.train_images} + {demo.val_images} pictures")
    # a picture in two has things of two classes
    records = [
        ImageRecord(f"demo_{number}", "", demo.width, demo.height, (1, 2)[: 1 + number % 2], "")
        for number in range(demo.train_images + demo.val_images)
    ]
    train, val = records[: demo.train_images], records[demo.train_images :]
    return Pictures(train, val, len(val), None)


def _survey_lists(dataset: Dataset, threads: int, report: Report) -> Pictures | None:
    found = {}
    for part, name in (("train", dataset.train_list), ("val", dataset.val_list)):
        with contextlib.redirect_stdout(sys.stderr):  # its progress is no part of the report
            records, problems = prepare.examined(dataset, part, threads)
        errors = [str(problem) for problem in problems if problem.severity == "error"]
        rest = "`snakemake prepare` writes the whole list"
        report.many("data", errors, rest)
        for problem in problems:
            if problem.severity != "error":
                report.note("data", str(problem))
        if not errors:
            report.ok("data", f"{part}: {len(records)} pictures of {name} can be read")
        elif errors[0].startswith("dataset.root:"):
            return None  # the same for the other list
        found[part] = records
    root = Path(dataset.root)
    return Pictures(found["train"], found["val"], len(found["val"]), root) if all(found.values()) else None


def _survey_folder(source: Dataset, photos: list[Photo], threads: int, report: Report) -> Pictures | None:
    parts = split(photos, source)
    progress = Progress("photographs", len(photos), "pictures")
    sizes: dict[str, tuple[int, int]] = {}
    problems = []
    with contextlib.redirect_stdout(sys.stderr), ThreadPoolExecutor(threads) as pool:
        for photo, found in zip(photos, mapped(pool, partial(_try_photo, source), photos), strict=True):
            progress.step()
            if isinstance(found, str):
                problems.append(found)
            else:
                sizes[photo.id] = found
    report.many("data", problems, "the stage import_folder lists all of them")
    rest = f", {len(parts['rest'])} without labels get masks alone" if parts["rest"] else ""
    text = (
        f"{len(photos)} photographs: {len(parts['train'])} to learn from, {len(parts['val'])} held back{rest}"
    )
    report.ok("data", text)
    index = {name: number for number, name in enumerate(source.classes, 1)}
    records = {
        photo.id: ImageRecord(photo.id, "", *sizes[photo.id], tuple(index[one] for one in photo.labels), "")
        for photo in photos
        if photo.id in sizes
    }
    train, val = ([records[one] for one in parts[part] if one in records] for part in ("train", "val"))
    return Pictures(train, val, len(records), None) if train and val else None


def _survey_coco(source: Dataset, threads: int, report: Report) -> Pictures | None:
    """From the JSON files and the pictures' headers; the stage import_coco decodes each picture."""
    found: dict[str, list[ImageRecord]] = {}
    index = {name: number for number, name in enumerate(source.classes, 1)}
    for part in PARTS:
        try:
            own, labels, left = tagged(source, part)
        except UserError as error:
            report.many("data", *told(error))
            continue
        problems = mistakes_of_headers(source, part, own, threads)
        report.many("data", problems, "the stage import_coco lists all of them")
        rest = f", {left} without any instance left out" if left else ""
        if not problems:
            report.ok("data", f"{part}: {len(own)} pictures of {part_of(source, part).instances}{rest}")
        found[part] = [
            ImageRecord(one.id, "", one.width, one.height, tuple(index[name] for name in labels[one.key]), "")
            for one in own
        ]
    if not all(found.get(part) for part in PARTS):
        return None
    return Pictures(found["train"], found["val"], len(found["val"]), None)


def _try_photo(source: Dataset, photo: Photo) -> tuple[int, int] | str:
    """Width and height as the photograph is laid out, or what is wrong with it."""
    try:
        return reduced(opened_photo(Path(str(source.images), photo.name)).size, source.longest_side)
    except UserError as error:
        return str(error)


def _report_classes(dataset: Dataset, records: list[ImageRecord], report: Report) -> None:
    counts = Counter(dataset.classes[tag - 1] for record in records for tag in record.tags)
    ordered = sorted(dataset.classes, key=lambda name: counts[name])
    low, high = ordered[0], ordered[-1]
    text = f"{len(ordered)} classes, with {counts[low]} ({low}) to {counts[high]} ({high}) training pictures"
    report.ok("tags", text)
    few = [f"{name} {counts[name]}" for name in ordered if counts[name] < FEW]
    if few:
        shown = ", ".join(few[:8]) + (f" and {len(few) - 8} more" if few[8:] else "")
        report.note("tags", f"few training pictures, so that masks will be poor: {shown}")


def survey_masks(
    config: Config, source: Dataset, pictures: Pictures, wants_bound: bool, threads: int, report: Report
) -> None:
    """Report on the true masks, and what is not scored for want of them."""
    if source.kind == "folder" and source.masks:
        _survey_drawn(source, threads, report)
    score, dataset = config.score, config.dataset
    parts = [("score.train_masks", score.train_masks, pictures.train, score.train_list, LABELS)]
    parts += [("score.val_masks", score.val_masks, pictures.val, dataset.val_list, "the trained network")]
    if wants_bound:
        bound = "the supervised bound"
        parts += [("supervised.masks", config.supervised.masks, pictures.train, dataset.train_list, bound)]
    for key, masks, records, list_name, what in parts:
        if masks is None:
            remedy = "" if source.kind == "folder" else f" ({key} is null)"
            report.note("masks", f"none{remedy}: {what} will not be scored")
        elif pictures.root:
            _check_masks(key, config, pictures.root, records, masks, list_name, threads, report)
    if pictures.root is None and source.kind in ("demo", "coco"):
        report.ok("masks", "the run itself makes them")


def _survey_drawn(source: Dataset, threads: int, report: Report) -> None:
    """Masks of one's own photographs, by the stage's own check."""
    try:
        with tempfile.TemporaryDirectory() as name:
            found = import_masks.lay_out(source, read_photos(source), Path(name), threads)
    except UserError as error:
        report.many("masks", *told(error))
        return
    what, doubt = f"dataset.masks: {len(found)} masks in {source.masks}", import_masks.doubtful(found)
    if not found:
        report.note("masks", f"{what}; for the photograph a/b.jpg it is a/b.png")
    elif doubt:
        report.problem("masks", f"{what}: {doubt}")
    else:
        report.ok("masks", f"{what} are in order, {import_masks.values_of(found)}")


def _check_masks(
    key: str,
    config: Config,
    root: Path,
    records: list[ImageRecord],
    masks: str,
    list_name: str,
    threads: int,
    report: Report,
) -> None:
    """The stage's own check, on a table in a temporary folder."""
    with tempfile.TemporaryDirectory() as name:
        images, classes = Path(name, "images.csv"), Path(name, "classes.txt")
        names = list(config.dataset.classes)
        write_images(images, records, names)
        write_classes(classes, names)
        count = len(scan_list(root, list_name, []))
        run = partial(
            check_masks.run, None, images=images, classes=classes, root=root, masks=masks,
            list_name=list_name, out=Path(name, "masks.csv"), threads=threads,
        )  # fmt: skip
        _tell_masks(f"{key}: {count} masks in {masks}", run, report)


def _tell_masks(what: str, run: partial[None], report: Report) -> None:
    try:
        with contextlib.redirect_stdout(io.StringIO()):
            run()
    except UserError as error:
        report.many("masks", *told(error))
    else:
        report.ok("masks", f"{what} are in order")
