"""Commands for people who have a trained network: `ecsnet predict-folder`, `ecsnet export`."""

import argparse
import importlib
import os
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from . import stopping
from .errors import UserError, explain
from .settings import Runtime


@dataclass(frozen=True)
class Command:
    """A command: what it does, an example, its arguments, and its module's `run` with them."""

    text: str
    example: str
    add: Callable[[argparse.ArgumentParser], None]
    call: Callable[[argparse.Namespace], dict[str, Any]]


def side(text: str) -> int:
    """A length in pixels that a network can see."""
    if not (text.isdecimal() and 32 <= int(text) <= 8192):
        raise argparse.ArgumentTypeError(f"{text!r}: expected a length of 32 to 8192 pixels")
    return int(text)


def _add_predict_folder(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("photos", type=Path, help="folder of photographs, or one photograph")
    _add_model(parser)
    parser.add_argument(
        "--out", type=Path, required=True, help="folder for the masks and their table, masks.csv"
    )
    parser.add_argument("--overlays", type=Path, help="folder for pictures of mask and photograph together")
    parser.add_argument(
        "--longest-side",
        type=side,
        metavar="PIXELS",
        help="segment larger pictures at this size; masks keep the photographs' (default: as in training)",
    )
    parser.add_argument("--fast", action="store_true", help="one view, no refinement: less exact")
    parser.add_argument("--device", choices=("auto", "cpu", "cuda"), default="auto", help="(default: auto)")
    cores = len(os.sched_getaffinity(0))
    parser.add_argument("--threads", type=int, default=cores, help="CPU threads (default: all cores)")


def _add_model(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--model", type=Path, required=True, help="trained network, results/<run>/segmenter.safetensors"
    )


def _predict_folder(parsed: argparse.Namespace) -> dict[str, Any]:
    names = ("photos", "model", "out", "overlays", "longest_side", "fast")
    values = {name: getattr(parsed, name) for name in names}
    return {**values, "runtime": Runtime(device=parsed.device), "threads": max(1, parsed.threads)}


def _add_export(parser: argparse.ArgumentParser) -> None:
    _add_model(parser)
    parser.add_argument(
        "--out", type=Path, required=True, help="file that ends in .onnx or .pt2 (torch.export)"
    )


def _export(parsed: argparse.Namespace) -> dict[str, Any]:
    return {"model": parsed.model, "out": parsed.out}


COMMANDS = {
    "predict-folder": Command(
        "masks of any photographs by a trained network",
        "ecsnet predict-folder --model segmenter.safetensors photos --out masks --overlays overlays",
        _add_predict_folder,
        _predict_folder,
    ),
    "export": Command(
        "a trained network for other programs",
        "ecsnet export --model segmenter.safetensors --out segmenter.onnx",
        _add_export,
        _export,
    ),
}


def add_to(parsers: Any) -> None:
    """Add a subcommand for each command."""
    for name, command in COMMANDS.items():
        parser = parsers.add_parser(
            name,
            help=command.text,
            description=f"{command.text[0].upper()}{command.text[1:]}.",
            epilog=f"example:\n  {command.example}",
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )
        command.add(parser)


def run(parsed: argparse.Namespace) -> int:
    """Run a command; the exit status is 1 for a mistake of the user."""
    name = parsed.stage
    os.environ.setdefault("CUDA_DEVICE_ORDER", "PCI_BUS_ID")
    try:
        with stopping.watching(name):
            module = importlib.import_module(f".{name.replace('-', '_')}", __package__)
            module.run(**COMMANDS[name].call(parsed))
    except Exception as error:
        text = str(error) if isinstance(error, UserError) else explain(error, "--threads or --longest-side")
        if text is None:
            raise
        print(f"ecsnet {name}: {text}", file=sys.stderr)
        return 1
    return 0
