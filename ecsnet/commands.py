"""Commands for people, beside the stages that the workflow runs. Their modules are imported when they run."""

import argparse
import contextlib
import os
import sys
import textwrap
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from . import stopping
from .errors import UserError, explain
from .progress import vanishing
from .settings import Runtime
from .terminal import listed, width
from .threads import usable_cores


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
    # before torch looks at the cards: numbers as nvidia-smi has them
    os.environ.setdefault("CUDA_DEVICE_ORDER", "PCI_BUS_ID")
    try:
        return COMMANDS[parsed.stage].run(parsed)
    except UserError as error:
        print(f"ecsnet {parsed.stage}: {error}", file=sys.stderr)
        return 1
    except BrokenPipeError:  # `| head` has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except KeyboardInterrupt:
        print(f"\necsnet {parsed.stage}: stopped", file=sys.stderr)
        return 130


def _add_run(parser: argparse.ArgumentParser) -> None:
    """What snakemake is given to run."""
    parser.add_argument(
        "targets",
        nargs="*",
        metavar="target",
        help="rule or file, as for snakemake (default: all); what ends in .yaml is a configuration",
    )
    parser.add_argument(
        "--configfile",
        nargs="+",
        action="extend",
        default=[],
        metavar="FILE",
        help="configuration of the run, as for snakemake (default: config/config.yaml)",
    )
    parser.add_argument(
        "--snakefile",
        type=Path,
        metavar="FILE",
        help="ecsnet's Snakefile, from another folder than its own, as for snakemake",
    )


def _add_check(parser: argparse.ArgumentParser) -> None:
    _add_run(parser)
    parser.add_argument(
        "--no-timing", action="store_true", help="no trial of the stages: no estimate of times, in seconds"
    )


def _add_completion(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "shell",
        choices=("bash", "zsh", "tcsh"),
        help="of which the script is (zsh reads it after compinit, tcsh from a file)",
    )


def count(text: str) -> int:
    """A whole number from 1."""
    if not (text.isdecimal() and int(text) > 0):
        raise argparse.ArgumentTypeError(f"{text!r}: expected a whole number of 1 or more")
    return int(text)


def side(text: str) -> int:
    """A length in pixels that a network can see."""
    if not (text.isdecimal() and 32 <= int(text) <= 8192):
        raise argparse.ArgumentTypeError(f"{text!r}: expected a length of 32 to 8192 pixels")
    return int(text)


def _add_model(parser: argparse.ArgumentParser, out: str) -> None:
    """What it works with, and where the result goes."""
    model = "trained network, results/<run>/segmenter.safetensors"
    parser.add_argument("--model", type=Path, required=True, help=model)
    parser.add_argument("--out", type=Path, required=True, help=out)


def _add_threads(parser: argparse.ArgumentParser) -> None:
    cores = usable_cores()
    parser.add_argument("--threads", type=count, default=cores, help="CPU threads (default: all cores)")


def _add_predict_folder(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("photos", type=Path, help="folder of photographs, or one photograph")
    _add_model(parser, "folder for the masks and their table, masks.csv")
    parser.add_argument("--overlays", type=Path, help="folder for pictures of mask and photograph together")
    parser.add_argument(
        "--longest-side",
        type=side,
        metavar="PIXELS",
        help="segment larger pictures at this size; masks keep the photographs' (default: as in training)",
    )
    parser.add_argument("--fast", action="store_true", help="one view, no refinement: less exact")
    parser.add_argument(
        "--force",
        action="store_true",
        help="write over masks that were edited, and those of another folder's pictures of the same names",
    )
    parser.add_argument("--device", choices=("auto", "cpu", "cuda"), default="auto", help="(default: auto)")
    _add_threads(parser)


def _add_score_folder(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("labels", type=Path, help="folder of label images, PNGs <id>.png of class numbers")
    parser.add_argument("--truth", type=Path, required=True, help="folder of the true masks, <id>.png")
    parser.add_argument(
        "--list", type=Path, dest="ids", metavar="FILE", help="images to score, an id a line (default: all)"
    )
    parser.add_argument(
        "--classes",
        type=Path,
        metavar="FILE",
        help="names of the classes, one a line, as results/<run>/prepare/classes.txt (default: VOC's)",
    )
    parser.add_argument("--out", type=Path, metavar="FILE", help="write the scores as JSON, too")
    _add_threads(parser)


def _add_export(parser: argparse.ArgumentParser) -> None:
    _add_model(parser, "file that ends in .onnx or .pt2 (torch.export)")


def _check(parsed: argparse.Namespace) -> int:
    from . import check  # imports Snakemake

    with vanishing():  # its report says it all
        good = check.run(parsed.targets, parsed.configfile, parsed.snakefile, not parsed.no_timing)
        return 0 if good else 1


def _why(parsed: argparse.Namespace) -> int:
    from . import why  # imports Snakemake

    why.run(parsed.targets, parsed.configfile, parsed.snakefile)
    return 0


def _predict_folder(parsed: argparse.Namespace) -> int:
    from . import predict_folder

    names = ("model", "photos", "out", "overlays", "longest_side", "fast", "force", "threads")
    values = {name: getattr(parsed, name) for name in names}
    with _ending_well(parsed.stage, "--threads or --longest-side", "the same command goes on"):
        predict_folder.run(**values, runtime=Runtime(device=parsed.device))
    return 0


def _score_folder(parsed: argparse.Namespace) -> int:
    from . import score_folder

    names = ("labels", "truth", "ids", "classes", "out", "threads")
    with _ending_well(parsed.stage, "--threads", stopping.ANEW):
        score_folder.run(**{name: getattr(parsed, name) for name in names})
    return 0


def _export(parsed: argparse.Namespace) -> int:
    from . import export

    with _ending_well(parsed.stage, "the size of the network", stopping.ANEW):
        export.run(model=parsed.model, out=parsed.out)
    return 0


@contextlib.contextmanager
def _ending_well(name: str, memory: str, note: str) -> Iterator[None]:
    """What the system refuses is told in a line, and a signal leaves nothing half-written.

    Args:
        memory: what to lower where memory does not suffice.
        note: what the same command will do after a signal.
    """
    try:
        with stopping.watching(name, note=note):
            yield
    except UserError:
        raise
    except Exception as error:
        text = explain(error, memory)
        if text is None:
            raise
        raise UserError(text) from None


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
    "predict-folder": Command(
        "write masks of any photographs by a trained network",
        "ecsnet predict-folder --model segmenter.safetensors photos --out masks --overlays overlays",
        _add_predict_folder,
        _predict_folder,
    ),
    "score-folder": Command(
        "score label images of any method, or drawn by hand, by VOC's protocol",
        "ecsnet score-folder masks --truth SegmentationClass --list val.txt",
        _add_score_folder,
        _score_folder,
    ),
    "export": Command(
        "write a trained network for other programs, as ONNX or torch.export",
        "ecsnet export --model segmenter.safetensors --out segmenter.onnx",
        _add_export,
        _export,
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
    examples = (
        "check --configfile config/demo.yaml",
        "why --configfile config/demo.yaml",
        "predict-folder --model results/demo/segmenter.safetensors photos --out masks",
        "erase --help",
    )
    parts = [
        "a whole run:\n  snakemake --cores 8 --configfile config/demo.yaml",
        f"commands for people:\n{listed(commands)}",
        f"stages, in the order of the pipeline, which snakemake runs:\n{listed(stages)}",
        "examples:\n" + "\n".join(f"  ecsnet {example}" for example in examples),
        textwrap.fill(
            "README.md tells how to begin, docs/own-data.md what to do with photographs of your own, "
            "config/config.yaml explains every setting, docs/method.md every stage, docs/staleness.md what "
            "runs again after which change.",
            width(),
        ),
    ]
    return "\n\n".join(parts)
