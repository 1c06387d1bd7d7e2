"""Stage `import_folder`: photographs of one's own, laid out as VOC's, which all other stages read."""

import contextlib
import os
import warnings
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from xml.sax.saxutils import escape

import pandas as pd

from .errors import UserError, raise_problems
from .folder import LISTS, Photo, read_photos, split
from .photographs import Opened, opened_photo
from .settings import Dataset
from .store import atomic_path, fingerprint, remove_leftovers, write_text
from .threads import mapped

KEPT = {"JPEG": ".jpg", "PNG": ".png"}
"""Formats that stay as they are where a picture has the right size and stands upright."""
QUALITY = 95
COLUMNS = ["image", "id", "width", "height", "labels", "fingerprint"]

Row = tuple[str, str, int, int, str, str]
"""Of the table: `COLUMNS`."""


def run(settings: Dataset, *, part: str, root: Path, out: Path, threads: int = 1) -> None:
    """Write a part of the data set under `root`: its pictures, tags and lists.

    Pictures are linked where they can be read as they are; others (another format, turned by EXIF, larger
    than `longest_side`) are written anew as JPEG.

    Args:
        settings: of kind folder.
        part: train, val or rest (see `folder.split`).
        root: folder of the data set as it is laid out, of this workflow alone.
        out: table of the part's photographs as CSV: image (its name), id, width and height (as it is seen,
            in its own pixels), labels, and a digest of the laid-out picture.
        threads: pictures worked on at the same time.

    Raises:
        UserError: with a line for each picture that cannot be read.
    """
    warnings.filterwarnings("ignore", module="PIL")  # of metadata, without the picture's name
    photos = read_photos(settings)
    parts = split(photos, settings)
    wanted = set(parts[part])
    own = [photo for photo in photos if photo.id in wanted]
    with ThreadPoolExecutor(threads) as pool:
        results = list(mapped(pool, partial(_try_import, settings, root), own))
    raise_problems([one for one in results if isinstance(one, str)], "Some pictures cannot be used:")
    ids = {photo.id for photo in photos}
    for folder in ("JPEGImages", "Annotations"):
        remove_others(root / folder, ids)
    write_lists(root, parts)  # every part writes all of them, alike: none is that of an earlier state
    write_text(out, pd.DataFrame(results, columns=COLUMNS).to_csv(index=False, lineterminator="\n"))
    print(f"import_folder: {part}, {len(own)} pictures")


def _try_import(settings: Dataset, root: Path, photo: Photo) -> Row | str:
    """The photograph's row in the table, or what is wrong with it."""
    folder = str(settings.images)
    try:
        opened = opened_photo(Path(folder, photo.name))
    except UserError as error:
        return str(error)
    width, height = opened.size
    target = _lay_out(folder, photo, opened, root, settings.longest_side)
    write_annotation(root, photo.id, photo.labels)
    return photo.name, photo.id, width, height, ";".join(photo.labels), fingerprint(target.read_bytes())


def _lay_out(folder: str, photo: Photo, opened: Opened, root: Path, longest: int) -> Path:
    """The picture's place in the data set, linked or written."""
    fits = max(opened.stored.size) <= longest and opened.turn is None
    kept = KEPT.get(str(opened.stored.format)) if fits else None
    with placed(root, photo.id, kept or ".jpg") as (target, temporary):
        if kept:
            temporary.symlink_to(link_to(folder, photo.name, target.parent))
        else:
            small = opened.reduced(longest)
            small.save(temporary, format="JPEG", quality=QUALITY, subsampling=0)
    return target


@contextlib.contextmanager
def placed(root: Path, image_id: str, ending: str) -> Iterator[tuple[Path, Path]]:
    """A picture's place in the data set, and where to write or link it first; one of another ending goes."""
    target = root / "JPEGImages" / f"{image_id}{ending}"
    for other in KEPT.values():
        if other != ending:
            target.with_name(f"{image_id}{other}").unlink(missing_ok=True)
    with atomic_path(target, durable=False) as temporary:
        yield target, temporary


def link_to(folder: str, name: str, place: Path) -> str:
    """What a link in `place` to a photograph says: as `folder` is given, relative or not.

    So that a project that is moved as a whole keeps its links.
    """
    path = os.path.join(os.path.realpath(folder), name)
    return path if os.path.isabs(folder) else os.path.relpath(path, os.path.realpath(place))


def write_annotation(root: Path, image_id: str, labels: Iterable[str]) -> None:
    """Write a picture's tags."""
    objects = "".join(f"<object><name>{escape(label)}</name></object>" for label in labels)
    with atomic_path(root / "Annotations" / f"{image_id}.xml", durable=False) as temporary:
        temporary.write_text(f"<annotation>{objects}</annotation>\n", encoding="utf-8")


def write_lists(root: Path, lists: dict[str, list[str]]) -> None:
    """Write lists of ids by name."""
    remove_leftovers(root / LISTS)
    for name, ids in lists.items():
        write_text(root / LISTS / f"{name}.txt", "".join(f"{image_id}\n" for image_id in ids))


def remove_others(folder: Path, ids: set[str]) -> None:
    """Remove what an earlier import left of pictures that are no more, or was killed over."""
    remove_leftovers(folder)
    for path in folder.glob("[!.]*"):
        if path.stem not in ids:
            path.unlink(missing_ok=True)
