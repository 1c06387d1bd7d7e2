"""A report for a person: lines that are in order, worth a note, or a problem."""

import sys
import textwrap

from .terminal import is_terminal, painted, width

COLOURS = {"ok": "green", "note": "yellow", "problem": "red"}
SECTION = 7
"""Width of the sections' names."""
FIRST = 10
"""Of many problems of one kind so many are shown."""


class Report:
    """Prints lines as they come, and counts those that are problems."""

    def __init__(self) -> None:
        self.problems = 0
        self._section = ""

    def ok(self, section: str, text: str) -> None:
        self._print("ok", section, text)

    def note(self, section: str, text: str) -> None:
        self._print("note", section, text)

    def problem(self, section: str, text: str) -> None:
        self.problems += 1
        self._print("problem", section, text)

    def many(self, section: str, texts: list[str], rest: str) -> None:
        """Problems of one kind: the first ones, and where the others are told."""
        for text in texts[:FIRST]:
            self.problem(section, text)
        left = len(texts) - FIRST
        if left > 0:
            self.problems += left
            self._print("problem", section, f"… and {left} more; {rest}")

    def _print(self, status: str, section: str, text: str) -> None:
        # once for each section where a person looks, on each line for grep
        shown = "" if section == self._section and is_terminal(sys.stdout) else section
        self._section = section
        head = f"{painted(f'{status:<7}', COLOURS[status], sys.stdout)}  {shown:<{SECTION}}  "
        left = 7 + 2 + SECTION + 2
        wraps = is_terminal(sys.stdout)
        lines = textwrap.wrap(text, max(width() - left, 30), break_on_hyphens=False) if wraps else [text]
        print(f"\n{' ' * left}".join([head + lines[0], *lines[1:]]), flush=True)


def told(error: Exception) -> tuple[list[str], str]:
    """The lines of an error that lists problems, without its headline, and that; else its text."""
    head, *lines = str(error).splitlines()
    problems = list(getattr(error, "problems", ())) or [line.strip().removeprefix("- ") for line in lines]
    return problems or [head], head.removesuffix(":")


def size(count: float) -> str:
    """A number of bytes for a person."""
    for unit in ("kB", "MB"):
        count /= 1000
        if count < 999.5:
            return f"{count:.0f} {unit}"
    return f"{count / 1000:.1f} GB"
