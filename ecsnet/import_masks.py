"""Stage `import_masks`: true masks of one's own photographs, laid out as VOC's, for scores alone."""

from concurrent.futures import ThreadPoolExecutor
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


def run(settings: Dataset, *, root: Path, out: Path, threads: int = 1) -> None:
    """Write the masks under `root`, turned and reduced as their pictures are, without new values.

    Args:
        settings: of kind folder, with the classes.
        root: folder of the data set as it is laid out.
        out: table of the masks as CSV, written last: id, and a digest of the laid-out mask.
        threads: masks worked on at the same time.

    Raises:
        UserError: with a line for each mask that cannot be read, does not fit its picture, or has a value
            that is none of the classes.
    """
    photos = read_photos(settings)
    masked = [photo for photo in photos if photo.mask]
    with ThreadPoolExecutor(threads) as pool:
        results = list(mapped(pool, partial(_try_mask, settings, root), masked))
    raise_problems([one for one in results if isinstance(one, str)], "Some masks cannot be used:")
    remove_others(root / MASKS, {photo.id for photo in masked})
    lists = with_masks(photos, settings)
    write_lists(root, lists)
    write_text(
        out, pd.DataFrame(results, columns=["id", "fingerprint"]).to_csv(index=False, lineterminator="\n")
    )
    counts = ", ".join(f"{len(ids)} in {name}" for name, ids in lists.items())
    print(f"import_masks: {len(masked)} masks, {counts}")


def _try_mask(settings: Dataset, root: Path, photo: Photo) -> tuple[str, str] | str:
    """Write a mask; the photograph's id and a digest, or what is wrong."""
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
    return photo.id, fingerprint(content)
