"""Files that a shared file system shows late: seconds after another machine has written them.

Snakemake waits for the files that a rule names (`--latency-wait`). What no rule names, a stage waits for
itself, as long: label images, which only their table names.
"""

import contextlib
import errno
import os
import time
from collections.abc import Callable
from pathlib import Path

VARIABLE = "ECSNET_LATENCY_WAIT"
"""Environment variable with the seconds; the Snakefile sets it, and schedulers hand it on to their jobs."""
PAUSE = 0.5
"""Seconds between two looks."""
_NOT_YET = {errno.ENOENT, errno.ESTALE}


def look_anew(folder: Path) -> None:
    """Let a client of a network file system ask its server what is in a folder.

    It remembers for up to a minute that a file was not there, until somebody opens the folder.
    """
    with contextlib.suppress(OSError), os.scandir(folder) as entries:
        next(entries, None)


class Patience:
    """Waits for late files, up to a moment: what is not there then is missing, and waited for no more.

    However many files are missing, the waits are short together, and there is none without need.
    """

    def __init__(self, seconds: float | None = None) -> None:
        """It begins now; without `seconds` it lasts as long as Snakemake waits for files that it knows."""
        self._seconds = float(os.environ.get(VARIABLE, 0)) if seconds is None else seconds
        self._end = time.monotonic() + self._seconds
        self._told = False

    def read(self, path: Path, is_right: Callable[[bytes], bool]) -> bytes | None:
        """A file's bytes; None where they are not the right ones: half of them, or those of an earlier file.

        Raises:
            OSError: it cannot be read.
        """
        while True:
            try:
                content = path.read_bytes()
                if is_right(content):
                    return content
                if self._is_over():
                    return None
            except OSError as error:
                if error.errno not in _NOT_YET or self._is_over():
                    raise
            self._pause(path)

    def _is_over(self) -> bool:
        return time.monotonic() >= self._end

    def _pause(self, path: Path) -> None:
        if not self._told:
            self._told = True
            wait = f"waiting for the file system, {self._seconds:g} s at most"
            # the line's end with it: other threads print too
            print(f"{path}: not there, or not whole, yet; {wait}\n", end="", flush=True)
        time.sleep(PAUSE)
        look_anew(path.parent)
