"""Commands for people, beside the stages that the workflow runs. Their modules are imported when they run."""

import argparse
import sys
import textwrap
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from .errors import UserError
from .progress import vanishing
from .terminal import listed, width


@dataclass(frozen=True)
class Command:
    """A command.

    Attributes:
        text: what it does.
        example: a line to type.
        add: gives its parser its arguments.
        run: from what was parsed to the exit status; a `UserError` is printed, and is 1.
    """

    text: str
    example: str
    add: Callable[[argparse.ArgumentParser], None]
    run: Callable[[argparse.Namespace], int]


def add_commands(subparsers: Any) -> None:
    """Add a parser for each command."""
    for name, command in COMMANDS.items():
        parser = subparsers.add_parser(
            name,
            help=command.text,
            description=textwrap.fill(f"{command.text[0].upper()}{command.text[1:]}.", width()),
            epilog=f"example:\n  {command.example}",
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )
        command.add(parser)


def run_command(parsed: argparse.Namespace) -> int:
    """Run the command that was parsed; the exit status."""
    try:
        return COMMANDS[parsed.stage].run(parsed)
    except UserError as error:
        print(f"ecsnet {parsed.stage}: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print(f"\necsnet {parsed.stage}: stopped", file=sys.stderr)
        return 130


def _add_run(parser: argparse.ArgumentParser) -> None:
    """What snakemake is given to run."""
    parser.add_argument(
        "targets", nargs="*", metavar="target", help="rule or file, as for snakemake (default: all)"
    )
    parser.add_argument(
        "--configfile",
        nargs="+",
        action="extend",
        default=[],
        metavar="FILE",
        help="configuration of the run, as for snakemake (default: config/config.yaml)",
    )


def _add_check(parser: argparse.ArgumentParser) -> None:
    _add_run(parser)
    parser.add_argument(
        "--no-timing", action="store_true", help="no trial of the stages: no estimate of times, in seconds"
    )


def _add_completion(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("shell", choices=("bash", "zsh", "tcsh"), help="of which the script is")


def _check(parsed: argparse.Namespace) -> int:
    from . import check  # imports Snakemake

    with vanishing():  # its report says it all
        return 0 if check.run(parsed.targets, parsed.configfile, timing=not parsed.no_timing) else 1


def _why(parsed: argparse.Namespace) -> int:
    from . import why  # imports Snakemake

    why.run(parsed.targets, parsed.configfile)
    return 0


def _completion(parsed: argparse.Namespace) -> int:
    from . import completion

    print(completion.script(parsed.shell))
    return 0


COMMANDS = {
    "check": Command(
        "tell what is wrong with a run before it starts, and what it will cost; runs nothing",
        "ecsnet check --configfile config/mine.yaml",
        _add_check,
        _check,
    ),
    "why": Command(
        "tell why stages are stale, in plain words; runs nothing",
        "ecsnet why --configfile config/mine.yaml",
        _add_run,
        _why,
    ),
    "completion": Command(
        "print a script that completes this command in a shell",
        'eval "$(ecsnet completion bash)"    # in ~/.bashrc',
        _add_completion,
        _completion,
    ),
}


def overview(stages: list[tuple[str, str]]) -> str:
    """What the commands are, and where to begin, as text for `--help`; `stages` by name with what they do."""
    commands = [(name, command.text) for name, command in COMMANDS.items()]
    examples = ("check --configfile config/demo.yaml", "why --configfile config/demo.yaml", "erase --help")
    parts = [
        "a whole run:\n  snakemake --cores 8 --configfile config/demo.yaml",
        f"commands for people:\n{listed(commands)}",
        f"stages, in the order of the pipeline, which snakemake runs:\n{listed(stages)}",
        "examples:\n" + "\n".join(f"  ecsnet {example}" for example in examples),
        textwrap.fill(
            "README.md tells how to begin, config/config.yaml explains every setting, docs/method.md every "
            "stage, docs/staleness.md what runs again after which change.",
            width(),
        ),
    ]
    return "\n\n".join(parts)
