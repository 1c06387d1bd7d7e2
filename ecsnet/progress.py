"""Progress that reads well on a terminal, where one line is rewritten, and as plain lines in a log."""

import contextlib
import sys
import time
from collections.abc import Iterator

from .terminal import is_terminal, width

OFTEN = 0.2
"""Seconds between two states of a line that is rewritten."""


class Progress:
    """Prints `name done/total percent … rate, time left`, at most every `interval` seconds.

    On a terminal one line is rewritten, several times a second; `say` prints another one meanwhile.
    """

    unfinished: "Progress | None" = None
    """Whose line is being rewritten."""

    vanishes = False
    """Whether nothing is left of a line when all is done."""

    def __init__(self, name: str, total: int, unit: str, done: int = 0, interval: float = 10.0) -> None:
        self.name, self.total, self.unit = name, total, unit
        self._rewrites = is_terminal(sys.stdout)
        self.interval = min(OFTEN, interval) if self._rewrites else interval
        self.done = self._first = done
        self._start = self._last = time.monotonic()

    def step(self, count: int = 1, note: str = "") -> None:
        """Count finished units; `note` stands in the line, a loss for instance."""
        self.done += count
        now = time.monotonic()
        if now - self._last >= self.interval or self.done >= self.total:
            self._last = now
            self._show(self.line(now, note))

    def _show(self, line: str) -> None:
        ends = self.done >= self.total
        if not self._rewrites:
            if not (ends and self.vanishes):
                print(line, flush=True)
            return
        Progress.unfinished = None if ends else self
        # cut to one row of the terminal, and what is left of an earlier, longer line erased
        shown = "" if ends and self.vanishes else line[: width() - 1]
        print(f"\r{shown}\x1b[K", end="\n" if ends and shown else "", flush=True)

    def line(self, now: float, note: str = "") -> str:
        """The line for a moment of the monotonic clock."""
        elapsed = max(now - self._start, 1e-6)
        rate = (self.done - self._first) / elapsed
        left = (self.total - self.done) / rate if rate else 0.0
        share = 100 * self.done / max(self.total, 1)
        done = f"{self.done:{len(str(self.total))}}/{self.total}"
        parts = [f"{self.name}  {done}  {share:3.0f} %", note, speed(rate, self.unit)]
        parts.append(f"{clock(left)} left" if self.done < self.total else f"took {clock(elapsed)}")
        return "  ".join(part for part in parts if part)


@contextlib.contextmanager
def vanishing() -> Iterator[None]:
    """Within the block nothing is left of a line when all is done."""
    Progress.vanishes = True
    try:
        yield
    finally:
        Progress.vanishes = False


def say(text: str) -> None:
    """Print a line, on a row of its own also where another one is being rewritten."""
    print("\n" * bool(Progress.unfinished) + text, flush=True)
    Progress.unfinished = None


def speed(rate: float, unit: str) -> str:
    """Units a second, or seconds a unit where these are the larger number."""
    if 0 < rate < 0.95:
        return f"{1 / rate:.1f} s/{unit.removesuffix('s')}"
    return f"{rate:.1f} {unit}/s"


def clock(seconds: float) -> str:
    """Seconds as m:ss or h:mm:ss."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"
