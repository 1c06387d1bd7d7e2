"""What a terminal can do that a file cannot: rewrite a line, show colours, tell its width."""

import os
import shutil
import textwrap
from typing import TextIO

COLOURS = {"red": 31, "green": 32, "yellow": 33}
WIDEST = 110
"""Longer lines are hard to read, however wide the terminal."""


def is_terminal(stream: TextIO) -> bool:
    """Whether a line that was written to the stream can be written over."""
    return stream.isatty() and os.environ.get("TERM") != "dumb"


def painted(text: str, colour: str, stream: TextIO) -> str:
    """The text in a colour where the stream shows some and NO_COLOR (no-color.org) does not forbid it."""
    if not is_terminal(stream) or os.environ.get("NO_COLOR"):
        return text
    return f"\x1b[{COLOURS[colour]}m{text}\x1b[0m"


def width() -> int:
    """Columns that a text should have."""
    return min(shutil.get_terminal_size((100, 24)).columns, WIDEST)


def listed(rows: list[tuple[str, str]], indent: int = 2) -> str:
    """Names and what they mean, aligned; texts that are too long go on below their beginning."""
    left = indent + max(len(name) for name, _ in rows) + 2
    return "\n".join(
        textwrap.fill(
            text,
            max(width(), left + 20),
            initial_indent=f"{'':{indent}}{name}".ljust(left),
            subsequent_indent=" " * left,
            break_on_hyphens=False,
            break_long_words=False,
        )
        for name, text in rows
    )
