"""A shell's completion of the command line, as a script of its own: no Python starts at a tab."""

import argparse
from collections.abc import Iterator
from pathlib import Path


def script(shell: str) -> str:
    """The script, for bash, zsh or tcsh; names of files are completed where a file is wanted."""
    import shtab

    from .cli import make_parser

    parser = make_parser()
    for action in _actions(parser):
        if action.type is Path or action.metavar in ("FILE", "target"):
            action.complete = shtab.FILE  # type: ignore[attr-defined]
        if isinstance(action, argparse._SubParsersAction):
            action.help = "command"  # what is not in the help is not completed
    return shtab.complete(parser, shell=shell)


def _actions(parser: argparse.ArgumentParser) -> Iterator[argparse.Action]:
    for action in parser._actions:
        yield action
        if isinstance(action, argparse._SubParsersAction):
            for below in action.choices.values():
                yield from _actions(below)
