"""Ending at once and cleanly when asked to, by Ctrl-C (SIGINT) or SIGTERM: the side of a stage."""

import contextlib
import multiprocessing
import os
import signal
import time
from collections.abc import Iterator
from types import FrameType

from .store import remove_temporaries

SIGNALS = (signal.SIGINT, signal.SIGTERM)
STOPPED = frozenset(128 + number for number in SIGNALS)
"""Exit statuses of processes that were asked to stop."""

ANEW = "the same command does this job anew"


class _Stage:
    """The stage that this process runs, and whether it was asked to stop."""

    name = ""
    note = ""
    quiet = False
    process = 0
    deferred = False
    asked: int | None = None
    moment = 0.0


@contextlib.contextmanager
def watching(name: str, quiet: bool = False, note: str = ANEW) -> Iterator[None]:
    """Within the block a signal ends the process without half-written files; with one line, if not quiet.

    The line ends with the note: what the same command will do.

    Neither are there processes left that it has started, however it ends.
    """
    _Stage.name, _Stage.quiet, _Stage.process, _Stage.asked = name, quiet, os.getpid(), None
    _Stage.note = note
    before = {number: signal.signal(number, _handle) for number in SIGNALS}
    try:
        yield
    finally:
        _kill_children()
        for number, handler in before.items():
            signal.signal(number, handler)


@contextlib.contextmanager
def deferred() -> Iterator[None]:
    """Within the block a signal is only noted, for `asked`: the block ends by itself, soon.

    A second Ctrl-C, by a person who does not want to wait, ends the process at once all the same.
    """
    _Stage.deferred = True
    try:
        yield
    finally:
        _Stage.deferred = False


def asked() -> bool:
    """Whether a signal came in a `deferred` block."""
    return _Stage.asked is not None


def leave(note: str) -> None:
    """End the process as its signal would have, with a line that says how things stand."""
    number = _Stage.asked or signal.SIGTERM
    _kill_children()
    remove_temporaries()
    if note and not _Stage.quiet:
        _say(f"\necsnet {_Stage.name}: stopped by {signal.Signals(number).name}; {note}\n")
    # not sys.exit: it would wait for the threads of a pool, which may be at work for minutes
    os._exit(128 + number)


def _kill_children() -> None:
    """End data workers: they do not heed the SIGTERM with which Python ends them before it waits for them."""
    if children := multiprocessing.active_children():
        # torch's handler raises an error for each worker that is killed
        handler = signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        for child in children:
            child.kill()
            child.join(5)
        signal.signal(signal.SIGCHLD, handler)


def ignore_in_worker(_: int = 0) -> None:
    """Let a data worker outlive a signal to its whole group: the training that it serves ends it."""
    for number in SIGNALS:
        signal.signal(number, signal.SIG_IGN)


def _handle(number: int, _: FrameType | None) -> None:
    if os.getpid() != _Stage.process:  # a forked worker: whoever started it does the talking
        remove_temporaries()
        os._exit(128 + number)
    now = time.monotonic()
    # the same Ctrl-C arrives twice: from the terminal, and passed on by Snakemake's process
    again = _Stage.asked is not None and number == signal.SIGINT and now - _Stage.moment > 1
    if _Stage.asked is None:
        _Stage.asked, _Stage.moment = number, now
    if again or not _Stage.deferred:
        leave(f"nothing is half-written; {_Stage.note}")


def _say(text: str) -> None:
    with contextlib.suppress(OSError):  # a closed terminal
        os.write(2, text.encode())
