"""Stage check_masks: are the true masks whole, before anything is scored against them?

Only scoring and the supervised bound depend on it; no other stage reads a mask.
"""

import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path, PurePath

import numpy as np

from .errors import UserError, raise_problems
from .palette import IGNORE, decode_mask
from .pictures import PictureError, read_content
from .store import fingerprint
from .tables import ImageRecord, LabelRecord, read_classes, read_images, write_labels
from .threads import mapped
from .voc import DataError, mask_name, read_list


def run(
    settings: None,
    *,
    images: Path,
    classes: Path,
    root: Path,
    masks: str,
    list_name: str | None,
    out: Path,
    threads: int = 1,
) -> None:
    """Check the true mask of every image, and write the table of them.

    Args:
        settings: this stage has none.
        images, classes: image table and class names of `prepare`.
        root: the data root.
        masks: folder of the masks `<id>.png`, relative to `root`.
        list_name: only the images of this list (as `dataset.train_list`); all of them must be in
            the image table. None: every image of the table.
        out: label table; the paths in it are relative to `root`.
        threads: masks decoded at a time.

    Raises:
        UserError: with one line for each image whose mask is missing, unreadable, of another size
            than the picture or has values outside 0..C and 255.
    """
    folder = root / masks
    if not os.path.isdir(folder):
        raise UserError(
            f"{folder}: no such folder of true masks under the data root; put the masks there, or set "
            "score.train_masks, score.val_masks and supervised.masks"
        )
    if PurePath(masks).is_absolute():
        raise UserError(
            f"{masks}: true masks are named relative to the data root {root}; make a link to them there"
        )
    count = len(read_classes(classes))
    problems: list[str] = []
    records = _select(read_images(images, read_classes(classes)), images, root, list_name, problems)
    with ThreadPoolExecutor(threads) as pool:
        results = list(mapped(pool, lambda record: _try_mask(root, masks, record, count), records))
    problems += [result for result in results if isinstance(result, str)]
    mistakes = "1 mistake" if len(problems) == 1 else f"{len(problems)} mistakes"
    raise_problems(problems, f"The true masks in {folder} have {mistakes}:")
    write_labels(out, [result for result in results if isinstance(result, LabelRecord)])
    print(f"check_masks: {len(records)} masks in {folder} are in order")


def _select(
    records: list[ImageRecord], images: Path, root: Path, list_name: str | None, problems: list[str]
) -> list[ImageRecord]:
    """The records of the list, in the list's order."""
    if list_name is None:
        return records
    by_id = {record.id: record for record in records}
    ids = read_list(root, list_name)
    absent = [image_id for image_id in ids if image_id not in by_id]
    if absent:
        some = ", ".join(absent[:3]) + (", …" if len(absent) > 3 else "")
        problems.append(
            f"list {list_name}: {len(absent)} of its {len(ids)} images are not in {images} ({some}); "
            "choose a list that lies within the images of the run"
        )
    return [by_id[image_id] for image_id in ids if image_id in by_id]


def _try_mask(root: Path, masks: str, record: ImageRecord, count: int) -> LabelRecord | str:
    label = mask_name(masks, record.id)
    try:
        return LabelRecord(record.id, label, _check(root / label, record, count))
    except UserError as error:
        return str(error)


def _check(path: Path, record: ImageRecord, count: int) -> str:
    """Digest of a mask that fits its picture and the `count` classes."""
    try:
        content = read_content(path)
        labels = decode_mask(content)
    except FileNotFoundError:
        remedy = "every scored image needs one; add it, or choose another list"
        raise DataError(path, "no such mask", remedy) from None
    except PictureError as error:
        raise DataError(path, error.problem, error.remedy) from None
    height, width = labels.shape
    if (width, height) != (record.width, record.height):
        problem = f"is {width}×{height}, but its picture is {record.width}×{record.height}"
        raise DataError(path, problem, "draw the mask on the picture's own pixels")
    present = np.flatnonzero(np.bincount(labels.ravel(), minlength=256))
    wrong = [int(value) for value in present if count < value < IGNORE]
    if wrong:
        some = ", ".join(map(str, wrong[:5])) + (", …" if len(wrong) > 5 else "")
        problem = f"has the values {some}, but {count} classes allow 0 to {count} and {IGNORE} (ignore)"
        raise DataError(path, problem, "correct the mask, or dataset.classes")
    return fingerprint(content)
