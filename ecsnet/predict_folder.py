"""`ecsnet predict-folder`: masks of any photographs by a trained network, without the pipeline."""

import contextlib
import errno
import time
import warnings
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field, replace
from functools import cached_property
from itertools import islice
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from . import stopping
from .ahead import in_order, side_threads, stacked
from .copies import HostCopy, to_device
from .device import choose_device, inference_batch
from .errors import UserError, raise_problems
from .folder import UNREADABLE, readable_by
from .grids import argmax_labels
from .masklist import Row, find_photographs, read_rows, row_of, write_rows
from .overlay import draw_overlay
from .overwriting import Found, Places, find_earlier, is_of, key_of, refuse_overwriting
from .palette import read_mask, write_mask
from .photographs import opened_photo
from .pictures import PictureError, read_content
from .predict import segment
from .progress import Progress
from .segmenter import Segmenter, load_segmenter
from .settings import Predict, Refine, Runtime
from .store import fingerprint

WINDOW = 4
"""Batches of pictures among which those of equal shape go together."""
SECONDS = 10
"""Between two writings of the table, which a run that was killed goes on from."""
OF_THE_NAME = (errno.ENAMETOOLONG, errno.EISDIR, errno.ENOTDIR, errno.EEXIST, errno.EILSEQ)
"""Errors that concern one picture, and not the next."""
LEAST = 0.001
"""Share of the pixels from which on a class is named in the table."""


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
class Job(Places):
    """What is to be done, apart from the pictures."""

    segmenter: Segmenter
    earlier: Found = field(default_factory=Found)

    @cached_property
    def way(self) -> str:
        """Digest of the network, and of how it is used."""
        used = f"{self.segmenter.digest} {asdict(self.segmenter.predict)} {self.segmenter.longest_side}"
        return fingerprint(used.encode())


def run(
    *,
    model: Path,
    photos: Path,
    out: Path,
    overlays: Path | None = None,
    longest_side: int | None = None,
    fast: bool = False,
    force: bool = False,
    runtime: Runtime,
    threads: int,
) -> None:
    """Write <out>/<name>.png, a palette PNG of the photograph's own size, for each, and the table masks.csv.

    A picture whose mask is there already, by this network, is passed over; so a run that was stopped goes on.
    So is one whose mask was edited since. Masks of other pictures that an earlier run left stay, in the table
    too.

    Args:
        model: file by `pack_model`.
        photos: folder of photographs, folders within it included, or a single one.
        out: folder of the masks, outside that of the photographs. The table has the columns image, mask,
            width, height, labels (the classes in it, the largest first, with semicolons between them),
            percent (of its pixels, for each of them), folder (of photographs, from `out`), key (of picture,
            network, and how it was used), digest (of the mask), and overlay (digest of the one drawn of it).
        overlays: folder for pictures of mask and photograph; None for none.
        longest_side: larger pictures are segmented at this size in pixels; as in training where it is None.
        fast: one view and no refinement, a few times as fast and less exact.
        force: write over masks that were edited, and those of another folder's pictures.

    Raises:
        UserError: the model or the photographs are not there, or a file that is no earlier result is in the
            way; or, after all others, some pictures cannot be used.
    """
    warnings.filterwarnings("ignore", module="PIL")  # of metadata, without the picture's name
    folder, names = find_photographs(photos, [place for place in (out, overlays) if place])
    if runtime.device == "cuda" and not torch.cuda.is_available():
        raise UserError("--device cuda: torch sees no card; leave the option out, or check the driver")
    device = choose_device(runtime, threads)
    segmenter = adapted(load_segmenter(model, device), longest_side, fast)
    print(f"{model}: {', '.join(segmenter.names[1:])}")
    if segmenter.licence:
        print(f"licence: {segmenter.licence}")
    job = Job(folder, out, overlays, segmenter)
    before = read_rows(out / "masks.csv")
    refuse_overwriting(job, names, before, force)
    job.make()
    job = replace(job, earlier=find_earlier(job, names, before, force))
    rows, problems = segment_all(job, names, before, runtime, device, threads)
    print(f"{len(rows)} masks in {out}, listed in {out / 'masks.csv'}")
    kept = [name for name in job.earlier.edited & rows.keys() if rows[name]["key"] == before[name]["key"]]
    if kept:
        print(f"masks edited since: {len(kept)}; they are kept, and --force makes them again")
    raise_problems(problems, "Some pictures cannot be used:", limit=len(problems))


def adapted(segmenter: Segmenter, longest_side: int | None, fast: bool) -> Segmenter:
    """The network as it is to be used here."""
    quick = Predict(scales=(1.0,), flip=False, refine=Refine(rounds=0))
    return replace(
        segmenter,
        predict=quick if fast else segmenter.predict,
        longest_side=longest_side or segmenter.longest_side,
    )


def segment_all(
    job: Job,
    names: list[str],
    before: Mapping[str, Row],
    runtime: Runtime,
    device: torch.device,
    threads: int,
) -> tuple[dict[str, Row], list[str]]:
    """Write all masks and the table; its rows by picture, and what is wrong with the others.

    Args:
        before: rows of the table that an earlier run left.
    """
    table = job.out / "masks.csv"
    rows = {name: row for name, row in before.items() if (job.out / row["mask"]).exists()}
    # what is begun is known as ours, should this run end early
    begun = {name: before.get(name) or row_of(name, folder=job.source()) for name in names}
    # and what is written by then, but not listed, must not look edited
    unsure = {name: {**begun[name], "digest": ""} for name in names if _is_stale(job, name, begun[name])}
    write_rows(table, begun | rows | unsure)
    problems: list[str] = []
    progress = Progress("predict-folder", len(names), "pictures")
    side, size = side_threads(device, threads), inference_batch(runtime, device)
    calls = _calls(job, names, before, runtime, device, side)
    written = time.monotonic()
    try:
        with torch.inference_mode(), stopping.deferred():
            for name, result in in_order(calls, side, size):
                if isinstance(result, str):
                    problems.append(result)
                    begun.pop(name)
                else:
                    rows[name] = result
                unsure.pop(name, None)
                progress.step()
                if stopping.asked():
                    break
                if time.monotonic() - written > SECONDS:
                    write_rows(table, begun | rows | unsure)
                    written = time.monotonic()
    finally:
        with contextlib.suppress(OSError):  # where there is no space, what is wrong is being told
            write_rows(table, begun | rows | unsure)
    if stopping.asked():
        stopping.leave(f"{progress.done} of {len(names)} pictures are done; the same command goes on")
    return rows, problems


def _is_stale(job: Job, name: str, row: Row) -> bool:
    """Whether a picture's mask is to be made again for what is known without the picture."""
    kept, done = name in job.earlier.edited, name in job.earlier.whole
    return not kept and not (done and row["key"].endswith(f"-{job.way}"))


def _calls(
    job: Job, names: list[str], rows: Mapping[str, Row], runtime: Runtime, device: torch.device, threads: int
) -> Iterator[tuple]:
    """What is left to do for each picture once the network has seen it."""
    size = inference_batch(runtime, device)
    found = in_order(((_read, job, name, rows.get(name)) for name in names), threads)
    while window := list(islice(found, size * WINDOW if size > 1 else 1)):
        pictures = [one for one in window if isinstance(one, Picture)]
        yield from ((_as_it_is, one) for one in window if not isinstance(one, Picture))
        for batch in of_equal_shape(pictures, size):
            pixels = to_device(stacked([picture.pixels for picture in batch]), device).float() / 255
            segmented = segment(job.segmenter.network, pixels, job.segmenter.predict, runtime)
            yield from ((_finish, job, *each) for each in zip(batch, segmented, strict=True))


def _as_it_is(result: tuple[str, Row | str]) -> tuple[str, Row | str]:
    return result


def of_equal_shape(pictures: list[Picture], size: int) -> Iterator[list[Picture]]:
    """The pictures by shape, at most `size` together."""
    shapes: dict[tuple[int, ...], list[Picture]] = {}
    for picture in pictures:
        shapes.setdefault(picture.pixels.shape, []).append(picture)
    for alike in shapes.values():
        yield from (alike[start : start + size] for start in range(0, len(alike), size))


def _read(job: Job, name: str, row: Row | None) -> Picture | tuple[str, Row | str]:
    """A picture; or its row, if its mask is there already; or what is wrong with it."""
    path = job.folder / name
    try:
        if not name.isprintable():  # what is no UTF-8 is none either
            shown = name.encode("utf-8", "backslashreplace").decode()
            raise UserError(f"{job.folder}: {shown!r} has signs that no table can hold; rename it")
        if name.lower().endswith(UNREADABLE):
            raise UserError(f"{path}: cannot be read; {readable_by(name)}")
        if not path.is_file():
            raise UserError(f"{path}: is no file (a link that leads nowhere, or a pipe)")
        content = read_content(path)
        key = key_of(content, job.way)
        if row and row["key"] == key and name in job.earlier.whole:
            return name, {**row, "folder": job.source()}
        if row and name in job.earlier.edited and is_of(row, content):
            return name, _kept(job, name, row, content)
        opened = opened_photo(path, content)
    except UserError as error:
        return name, str(error)
    except PictureError as error:
        return name, f"{path}: {error}"
    except FileNotFoundError:
        return name, f"{path}: is gone"
    return Picture(name, key, opened.size, np.array(opened.reduced(job.segmenter.longest_side)))


def _kept(job: Job, name: str, row: Row, content: bytes) -> Row:
    """The row of a mask that was edited; the overlay is drawn of what it is now."""
    drawn = row["overlay"]
    if place := job.overlay(name):
        pixels = opened_photo(job.folder / name, content).reduced(job.segmenter.longest_side)
        mask = Image.fromarray(read_mask(job.mask(name))).resize(pixels.size, Image.Resampling.NEAREST)
        drawn = fingerprint(draw_overlay(place, np.array(pixels), np.array(mask), job.segmenter.names))
    return {**row, "folder": job.source(), "overlay": drawn}


def _finish(job: Job, picture: Picture, segmented: tuple[HostCopy, np.ndarray]) -> tuple[str, Row | str]:
    """Write a picture's mask, and its overlay; its row of the table, or what is in the way."""
    (width, height), (found, classes) = picture.size, segmented
    scores = found.array()
    labels = argmax_labels(scores, classes, height, width)
    drawn = b""
    try:
        if place := job.overlay(picture.name):
            small = argmax_labels(scores, classes, *picture.pixels.shape[:2])
            drawn = draw_overlay(place, picture.pixels, small, job.segmenter.names)
        content = write_mask(job.mask(picture.name), labels)
    except OSError as error:
        if error.errno not in OF_THE_NAME:
            raise
        return picture.name, f"{job.mask(picture.name)}: cannot be written ({error.strerror})"
    names = job.segmenter.names
    shares = np.bincount(labels.ravel(), minlength=len(names)) / labels.size
    order = [number for number in np.argsort(-shares, kind="stable") if number and shares[number] >= LEAST]
    return picture.name, row_of(
        picture.name,
        width=str(width),
        height=str(height),
        labels=";".join(names[number] for number in order),
        percent=";".join(f"{100 * shares[number]:.1f}" for number in order),
        folder=job.source(),
        key=picture.key,
        digest=fingerprint(content),
        overlay=fingerprint(drawn) if drawn else "",
    )
