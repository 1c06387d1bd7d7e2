"""`ecsnet predict-folder`: masks of any photographs by a trained network, without the pipeline."""

import csv
import io
import time
import warnings
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from itertools import islice
from pathlib import Path, PurePosixPath

import numpy as np
import torch

from .ahead import in_order, side_threads
from .device import choose_device, inference_batch
from .errors import UserError, raise_problems
from .folder import ENDINGS, UNREADABLE, found_names
from .grids import argmax_labels
from .overlay import draw_overlay
from .palette import write_mask
from .photographs import opened_photo
from .predict import segment
from .progress import Progress
from .segmenter import Segmenter, load_segmenter
from .settings import Predict, Refine, Runtime
from .store import fingerprint, write_text

COLUMNS = ("image", "mask", "width", "height", "labels", "percent", "key")
WINDOW = 4
"""Batches of pictures among which those of equal shape go together."""
SECONDS = 10
"""Between two writings of the table, which a run that was stopped goes on from."""
LEAST = 0.001
"""Share of the pixels from which on a class is named in the table."""

Row = dict[str, str]


@dataclass(frozen=True)
class Picture:
    """A photograph that is to be segmented.

    Attributes:
        name: relative to its folder.
        key: digest of the file, of the network, and of how it is used.
        size: its own width and height.
        pixels: uint8 [h, w, 3], upright, reduced to what the network learned from.
    """

    name: str
    key: str
    size: tuple[int, int]
    pixels: np.ndarray


@dataclass(frozen=True)
class Job:
    """What is to be done, apart from the pictures."""

    folder: Path
    out: Path
    overlays: Path | None
    segmenter: Segmenter

    def mask(self, name: str) -> Path:
        return self.out / mask_name(name)

    def overlay(self, name: str) -> Path | None:
        return self.overlays / PurePosixPath(name).with_suffix(".jpg") if self.overlays else None


def run(
    *,
    model: Path,
    photos: Path,
    out: Path,
    overlays: Path | None = None,
    longest_side: int | None = None,
    fast: bool = False,
    runtime: Runtime,
    threads: int,
) -> None:
    """Write <out>/<name>.png, a palette PNG of the photograph's own size, for each, and the table masks.csv.

    A picture whose mask is there already, by this network, is passed over; so a run that was stopped goes on.

    Args:
        model: file by `pack_model`.
        photos: folder of photographs, folders within it included, or a single one.
        out: folder of the masks, outside that of the photographs. The table has the columns image, mask,
            width, height, labels (the classes in it, the largest first, with semicolons between them),
            percent (of its pixels, for each of them), and key.
        overlays: folder for pictures of mask and photograph; None for none.
        longest_side: larger pictures are segmented at this size in pixels; as in training where it is None.
        fast: one view and no refinement, a few times as fast and less exact.

    Raises:
        UserError: the model or the photographs are not there; or some cannot be read, after all others.
    """
    warnings.filterwarnings("ignore", module="PIL")  # of metadata, without the picture's name
    folder, names = find_photographs(photos, [place for place in (out, overlays) if place])
    device = choose_device(runtime, threads)
    segmenter = adapted(load_segmenter(model, device), longest_side, fast)
    print(f"{model}: {', '.join(segmenter.names[1:])}")
    if segmenter.licence:
        print(f"licence: {segmenter.licence}")
    job = Job(folder, out, overlays, segmenter)
    rows, problems = segment_all(job, names, runtime, device, threads)
    print(f"{len(rows)} masks in {out}, listed in {out / 'masks.csv'}")
    raise_problems(problems, "Some pictures cannot be read:")


def find_photographs(photos: Path, others: list[Path]) -> tuple[Path, list[str]]:
    """The folder of photographs and their names in it, sorted.

    Raises:
        UserError: there is none, two would have the same mask, or one of the other folders lies within.
    """
    if photos.is_file():
        return photos.parent, [photos.name]
    if not photos.is_dir():
        raise UserError(f"{photos}: no such folder or picture")
    place = photos.resolve()
    for other in others:
        if place in (other.resolve(), *other.resolve().parents):
            raise UserError(f"{other}: lies in the folder of photographs, {photos}; name one outside of it")
    names = sorted(found_names(photos, ENDINGS + UNREADABLE))
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


def mask_name(name: str) -> str:
    """The name of a photograph's mask."""
    return str(PurePosixPath(name).with_suffix(".png"))


def adapted(segmenter: Segmenter, longest_side: int | None, fast: bool) -> Segmenter:
    """The network as it is to be used here."""
    quick = Predict(scales=(1.0,), flip=False, refine=Refine(rounds=0))
    return replace(
        segmenter,
        predict=quick if fast else segmenter.predict,
        longest_side=longest_side or segmenter.longest_side,
    )


def segment_all(
    job: Job, names: list[str], runtime: Runtime, device: torch.device, threads: int
) -> tuple[dict[str, Row], list[str]]:
    """Write all masks and the table; its rows by picture, and what is wrong with the others."""
    table = job.out / "masks.csv"
    before = read_rows(table)
    rows = {name: before[name] for name in names if name in before}  # of others, nothing is said any more
    problems: list[str] = []
    progress = Progress("predict-folder", len(names), "pictures")
    side = side_threads(device, threads)
    written = time.monotonic()
    with torch.inference_mode():
        for name, result in in_order(_calls(job, names, rows, runtime, device, side), side):
            if isinstance(result, str):
                problems.append(result)
                rows.pop(name, None)
            else:
                rows[name] = result
            progress.step()
            if time.monotonic() - written > SECONDS:
                write_rows(table, rows)
                written = time.monotonic()
    write_rows(table, rows)
    return rows, problems


def _calls(
    job: Job, names: list[str], rows: dict[str, Row], runtime: Runtime, device: torch.device, threads: int
) -> Iterator[tuple]:
    """What is left to do for each picture once the network has seen it."""
    size = inference_batch(runtime, device)
    way = f"{job.segmenter.digest} {asdict(job.segmenter.predict)} {job.segmenter.longest_side}"
    found = in_order(((_read, job, name, way, rows.get(name)) for name in names), threads)
    while window := list(islice(found, size * WINDOW if size > 1 else 1)):
        pictures = [one for one in window if isinstance(one, Picture)]
        yield from ((_as_it_is, one) for one in window if not isinstance(one, Picture))
        for batch in of_equal_shape(pictures, size):
            pixels = np.stack([picture.pixels for picture in batch]).transpose(0, 3, 1, 2)
            tensor = torch.from_numpy(np.ascontiguousarray(pixels)).to(device).float() / 255
            segmented = segment(job.segmenter.network, tensor, job.segmenter.predict, runtime)
            for picture, (scores, classes) in zip(batch, segmented, strict=True):
                yield _finish, job, picture, scores.cpu().numpy(), classes


def _as_it_is(result: tuple[str, Row | str]) -> tuple[str, Row | str]:
    return result


def of_equal_shape(pictures: list[Picture], size: int) -> Iterator[list[Picture]]:
    """The pictures by shape, at most `size` together."""
    shapes: dict[tuple[int, ...], list[Picture]] = {}
    for picture in pictures:
        shapes.setdefault(picture.pixels.shape, []).append(picture)
    for alike in shapes.values():
        yield from (alike[start : start + size] for start in range(0, len(alike), size))


def _read(job: Job, name: str, way: str, row: Row | None) -> Picture | tuple[str, Row | str]:
    """A picture; or its row, if its mask is there already; or what is wrong with it."""
    path = job.folder / name
    try:
        if name.lower().endswith(UNREADABLE):
            raise UserError(f"{path}: cannot be read; convert it to JPEG")
        key = fingerprint(path.read_bytes() + way.encode())
        wanted = [job.mask(name), job.overlay(name)]
        if row and row["key"] == key and all(one.exists() for one in wanted if one):
            return name, row
        opened = opened_photo(path)
    except UserError as error:
        return name, str(error)
    except OSError as error:
        return name, f"{path}: cannot be read ({error.strerror})"
    return Picture(name, key, opened.size, np.array(opened.reduced(job.segmenter.longest_side)))


def _finish(job: Job, picture: Picture, scores: np.ndarray, classes: np.ndarray) -> tuple[str, Row]:
    """Write a picture's mask, and its overlay; its row of the table."""
    width, height = picture.size
    labels = argmax_labels(scores, classes, height, width)
    if place := job.overlay(picture.name):
        small = argmax_labels(scores, classes, *picture.pixels.shape[:2])
        draw_overlay(place, picture.pixels, small, job.segmenter.names)
    write_mask(job.mask(picture.name), labels)
    shares = np.bincount(labels.ravel(), minlength=len(job.segmenter.names)) / labels.size
    order = [number for number in np.argsort(-shares, kind="stable") if number and shares[number] >= LEAST]
    values = (
        picture.name,
        mask_name(picture.name),
        str(width),
        str(height),
        ";".join(job.segmenter.names[number] for number in order),
        ";".join(f"{100 * shares[number]:.1f}" for number in order),
        picture.key,
    )
    return picture.name, dict(zip(COLUMNS, values, strict=True))


def read_rows(table: Path) -> dict[str, Row]:
    """Rows of an earlier table by picture; none where there is no such table."""
    try:
        text = table.read_text(encoding="utf-8")
        rows = list(csv.DictReader(io.StringIO(text)))
    except (OSError, ValueError, csv.Error):
        return {}
    return {row["image"]: row for row in rows if set(row) == set(COLUMNS) and None not in row.values()}


def write_rows(table: Path, rows: dict[str, Row]) -> None:
    """Write the table, by name."""
    text = io.StringIO()
    writer = csv.DictWriter(text, COLUMNS, lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows[name] for name in sorted(rows))
    write_text(table, text.getvalue())
