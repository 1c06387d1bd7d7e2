"""SBD's class masks, MATLAB files, as palette PNGs.

scipy reads them, in a process of its own: tables within tables within tables, in a file of some hundred
kilobytes, overrun the stack of its reader, which ends the process without a word.
"""

import multiprocessing
import os
from collections.abc import Sequence
from multiprocessing.connection import Connection
from pathlib import Path

import numpy as np
from scipy.io import loadmat

from . import stopping
from .errors import UserError, explain
from .palette import write_mask
from .progress import Progress

MAX_BYTES = 1 << 20
"""Of one file: a mask has some kilobytes. What it unpacks to is bounded by this too, at a thousand times."""
MAX_CLASS = 20

Job = tuple[Path, Path]
"""A MATLAB file, and the PNG to write."""


def convert(jobs: Sequence[Job]) -> None:
    """Write each mask as a palette PNG.

    Raises:
        UserError: names the first file that is no class mask of SBD.
    """
    if not jobs:
        return
    context = multiprocessing.get_context("spawn")  # no lock of ours is handed on
    receiver, sender = context.Pipe(duplex=False)
    worker = context.Process(target=_work, args=(sender, list(jobs)), daemon=True)
    worker.start()
    sender.close()
    progress = Progress("convert SBD's masks", len(jobs), "masks")
    done = 0
    try:
        while not (problem := receiver.recv_bytes().decode()):
            done += 1
            progress.step()
    except EOFError:
        problem = ""
    worker.join()
    if problem:
        raise UserError(problem)
    if worker.exitcode or done < len(jobs):
        raise UserError(_mistake(jobs[done][0], f"its reader ended with the status {worker.exitcode}"))


def _work(sender: Connection, jobs: list[Job]) -> None:
    """In the process of its own: nothing for each mask that is written, a text for what ends it.

    With whoever listens gone, it ends by itself.
    """
    stopping.ignore_in_worker()
    for source, target in jobs:
        problem = ""
        try:
            write_mask(target, read_class_mask(source))
        except Exception as error:
            problem = str(error) if isinstance(error, UserError) else explain(error, "--cores") or ""
            if not problem:
                raise
        sender.send_bytes(problem.encode())


def read_class_mask(path: Path) -> np.ndarray:
    """Class indices, uint8 [H, W] in 0..20, of a file in SBD's folder cls.

    Raises:
        UserError: the file holds none.
    """
    if os.path.getsize(path) > MAX_BYTES:
        raise UserError(_mistake(path, f"it is larger than {MAX_BYTES:,} bytes"))
    try:
        mask = loadmat(path, variable_names=["GTcls"])["GTcls"][0]["Segmentation"][0]
    except Exception as error:  # scipy raises errors of all kinds on damaged bytes
        raise UserError(_mistake(path, str(error) or type(error).__name__)) from None
    if not (isinstance(mask, np.ndarray) and mask.dtype == np.uint8 and mask.ndim == 2 and mask.size):
        raise UserError(_mistake(path, "GTcls.Segmentation is no table of 8-bit numbers"))
    if mask.max() > MAX_CLASS:
        raise UserError(_mistake(path, f"{mask.max()} is no class of VOC"))
    return np.ascontiguousarray(mask)


def _mistake(path: Path, reason: str) -> str:
    return f"{path.name} of SBD's archive is no class mask ({reason}); take the archive from another source"
