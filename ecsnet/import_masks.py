"""Stage `import_masks`: true masks of one's own photographs, laid out as VOC's, for scores alone."""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
from PIL import Image

from .errors import UserError, raise_problems
from .folder import MASKS, Photo, read_photos, with_masks
from .grids import resize_labels
from .import_folder import remove_others, write_lists
from .palette import IGNORE, read_mask, write_mask
from .photographs import opened_photo, reduced
from .settings import Dataset
from .store import fingerprint, write_text
from .threads import mapped


@dataclass(frozen=True)
class Mask:
    """A mask that is laid out: its photograph's id, a digest, and the values in it."""

    id: str
    fingerprint: str
    values: tuple[int, ...]


def run(settings: Dataset, *, root: Path, out: Path, threads: int = 1) -> None:
    """Write the masks under `root`, turned and reduced as their pictures are, without new values.

    Args:
        settings: of kind folder, with the classes.
        root: folder of the data set as it is laid out.
        out: table of the masks as CSV, written last: id, and a digest of the laid-out mask.
        threads: masks worked on at the same time.

    Raises:
        UserError: as `lay_out`.
    """
    photos = read_photos(settings)
    found = lay_out(settings, photos, root, threads)
    remove_others(root / MASKS, {mask.id for mask in found})
    lists = with_masks(photos, settings)
    write_lists(root, lists)
    rows = [(mask.id, mask.fingerprint) for mask in found]
    write_text(
        out, pd.DataFrame(rows, columns=["id", "fingerprint"]).to_csv(index=False, lineterminator="\n")
    )
    doubt = doubtful(found)
    if doubt:
        print(f"warning: {settings.masks}: {doubt}")
    counts = ", ".join(f"{len(ids)} in {name}" for name, ids in lists.items())
    print(f"import_masks: {len(found)} masks, {counts}, {values_of(found)}")


def lay_out(settings: Dataset, photos: Sequence[Photo], root: Path, threads: int) -> list[Mask]:
    """Write the masks of photographs that have one.

    Raises:
        UserError: with a line for each mask that cannot be read, does not fit its picture, or has a value
            that is none of the classes.
    """
    masked = [photo for photo in photos if photo.mask]
    with ThreadPoolExecutor(threads) as pool:
        results = list(mapped(pool, partial(_try_mask, settings, root), masked))
    raise_problems([one for one in results if isinstance(one, str)], "Some masks cannot be used:")
    return [one for one in results if isinstance(one, Mask)]


def values_of(masks: Sequence[Mask]) -> str:
    """The values that occur, for a person."""
    found = sorted({value for mask in masks for value in mask.values})
    return f"values {', '.join(map(str, found)) or 'none'}"


def doubtful(masks: Sequence[Mask]) -> str | None:
    """Why masks, each of which is in order, can only score nonsense; None where nothing speaks for it."""
    values = {value for mask in masks for value in mask.values}
    if not values or values - {0, IGNORE}:
        return None
    remedy = "write 1 for the first of dataset.classes, 2 for the second and so on"
    return f"no mask has any class: 0 is background, 255 means ignore ({values_of(masks)} alone); {remedy}"


def _try_mask(settings: Dataset, root: Path, photo: Photo) -> Mask | str:
    """Write a mask; what it is, or what is wrong."""
    path = Path(str(settings.masks), photo.mask)
    try:
        opened = opened_photo(Path(str(settings.images), photo.name))
        mask = Image.fromarray(read_mask(path))
    except UserError as error:
        return str(error)
    seen = opened.size
    if mask.size != seen and mask.size == opened.stored.size and opened.turn is not None:
        mask = mask.transpose(opened.turn)  # drawn on the pixels as they are stored
    if mask.size != seen:
        found, wanted = (f"{width}×{height}" for width, height in (mask.size, seen))
        return f"{path}: {found} pixels, its picture has {wanted}; draw it at the picture's size"
    values = np.array(mask)
    unknown = values[(values > len(settings.classes)) & (values != IGNORE)]
    if len(unknown):
        return f"{path}: has the value {unknown.min()}, but there are only {len(settings.classes)} classes"
    width, height = reduced(seen, settings.longest_side)
    content = write_mask(root / MASKS / f"{photo.id}.png", resize_labels(values, height, width))
    return Mask(photo.id, fingerprint(content), tuple(map(int, np.unique(values))))
