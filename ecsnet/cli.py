"""The command line: one subcommand for each stage, the same that the workflow runs, and `commands`.

    ecsnet erase --settings '{"threshold": 0.5}' --images train.csv --root data --weights w.safetensors \\
        --shard 3/16 --out 3-of-16.npz

Stage modules are imported only when their stage runs, so that help is instant.
"""

import argparse
import contextlib
import importlib
import inspect
import os
import shlex
import sys
import textwrap
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from . import __version__, launch, settings, stopping
from .commands import COMMANDS, add_commands, count, overview, run_command
from .errors import UserError, explain
from .progress import clock
from .schema import describe, show
from .store import Shard, remove_leftovers
from .terminal import width


@dataclass(frozen=True)
class Argument:
    """A command line argument: its meaning and type, and whether it is a list."""

    text: str
    kind: Callable[[str], Any] = Path
    many: bool = False


def shard(text: str) -> Shard:
    """`Shard.parse` for argparse, which puts a text of its own in the place of any other error's."""
    try:
        return Shard.parse(text)
    except UserError as error:
        raise argparse.ArgumentTypeError(str(error)) from None


ARGUMENTS = {
    "images": Argument("table of images, by prepare"),
    "val_images": Argument("table of validation images, by prepare"),
    "classes": Argument("class names, by prepare"),
    "root": Argument("data root; the tables' picture paths are relative to it"),
    "imagenet": Argument("ImageNet weights of the backbone (safetensors); random without"),
    "weights": Argument("trained network (safetensors)"),
    "maps": Argument("the shard's maps, by erase"),
    "labels": Argument("shards of labels, or a label table", many=True),
    "label_root": Argument("folder that the label table's paths are relative to"),
    "regions": Argument("shards with the erased regions, by erase", many=True),
    "evidence": Argument("shards of evidence", many=True),
    "erase": Argument("shards of maps, by erase", many=True),
    "ecs_labels": Argument("shards of ECS-Net's labels", many=True),
    "filtered": Argument("table of filtered labels"),
    "predictions": Argument("table of predictions"),
    "predict": Argument("settings of predict, which go into the file", str),
    "photos": Argument("tables of photographs, by import_folder", many=True),
    "part": Argument("train, val or rest: which pictures", str),
    "truth": Argument("table of true masks, by check_masks"),
    "val_truth": Argument("table of the validation images' true masks"),
    "val_counts": Argument("pixel counts of the validation images, by score"),
    "histories": Argument("loss tables of trainings", many=True),
    "scores": Argument("score files", many=True),
    "config": Argument("the run's whole configuration, as JSON", str),
    "pictures": Argument("figures of the run", many=True),
    "logs": Argument("folder of the run's logs"),
    "rows": Argument("row of the table and seed, as cam/0, for each file of counts", str, many=True),
    "counts": Argument("pixel counts of images, by score", many=True),
    "tables": Argument("label tables of shards", many=True),
    "masks": Argument("folder of true masks under the data root", str),
    "list_name": Argument("only the images of this list; for prepare, the list of the split other", str),
    "what": Argument(
        "what is scored: cam, cam_refined, evidence, ecs_labels, filtered_labels, val, supervised", str
    ),
    "split": Argument("train, val or other; for score, the name of the list that is scored", str),
    "source": Argument("what is scored: shards or a label table", many=True),
    "name": Argument("timm's name of the network", str),
    "source_name": Argument("timm or package", str),
    "round": Argument("number of the round, from 1", count),
    "shard": Argument("part of the images, as 3/16", shard),
    "folder": Argument("folder of label images"),
    "out": Argument("file to write"),
    "history": Argument("table of losses to write"),
    "log": Argument(
        "the job's log; TensorBoard's files, where runtime asks for them, go to the folder of its name"
    ),
    "kept": Argument("table of what was kept by class; filter_labels writes it"),
    "out_classes": Argument("class names to write"),
    "out_problems": Argument("table of problems to write"),
    "out_confusion": Argument("confusion matrix to write"),
    "out_counts": Argument("pixel counts of each image to write"),
    "out_iou": Argument("table of IoU by class to write"),
}


@dataclass(frozen=True)
class Stage:
    """A stage: its section of settings (None without), what it does, the names of its arguments."""

    section: type | None
    text: str
    arguments: str
    runtime: bool = False


STAGES = {
    "demo": Stage(settings.Demo, "write the generated data set", "root out"),
    "download": Stage(settings.Download, "fetch and unpack VOC 2012, derive trainaug", "root out"),
    "import_folder": Stage(settings.Dataset, "lay out photographs of your own as VOC's", "part root out"),
    "import_masks": Stage(settings.Dataset, "lay out their true masks, for scores", "root out"),
    "import_coco": Stage(
        settings.Dataset, "lay out a part of a data set in COCO's layout as VOC's", "part root out"
    ),
    "import_coco_masks": Stage(settings.Dataset, "lay out its true masks, for scores", "part root out"),
    "fetch_weights": Stage(None, "download or convert ImageNet weights", "name source_name out"),
    "prepare": Stage(
        settings.Dataset, "check pictures and tags, list them", "split list_name out out_problems out_classes"
    ),
    "check_masks": Stage(None, "check true masks, list them", "images classes root masks list_name out"),
    "train_cam": Stage(
        settings.TrainCam,
        "train the classifier on the tags",
        "images classes root imagenet out history log",
        True,
    ),
    "erase": Stage(
        settings.Erase,
        "find class activation maps, erase what they find",
        "images root weights shard out",
        True,
    ),
    "evidence": Stage(
        settings.Evidence,
        "combine and refine the maps, apply the noise rule",
        "images classes root weights maps shard out",
        True,
    ),
    "train_ecs": Stage(
        settings.TrainEcs,
        "train ECS-Net on pictures and erased pictures",
        "images root weights labels regions round out history log",
        True,
    ),
    "ecs_labels": Stage(
        settings.EcsLabels,
        "make pixel labels with it",
        "images root weights evidence regions shard out",
        True,
    ),
    "filter_labels": Stage(
        settings.FilterLabels, "keep the reliable ones", "images classes labels evidence out kept"
    ),
    "train_segmenter": Stage(
        settings.TrainSegmenter,
        "train DeepLab on labels",
        "images classes root labels label_root imagenet out history log",
        True,
    ),
    "predict": Stage(
        settings.Predict, "segment pictures with it", "images root weights shard folder out", True
    ),
    "pack_model": Stage(
        settings.PackModel, "the trained network in one file, to pass on", "predict images weights out"
    ),
    "gather_labels": Stage(None, "join the label tables of shards", "tables folder out"),
    "export_folder": Stage(None, "write the masks of your own photographs", "photos predictions folder out"),
    "score": Stage(
        settings.Score,
        "score labels or predictions",
        "what split source truth classes root out out_confusion out_counts",
    ),
    "summary": Stage(None, "gather the scores in one table", "scores out"),
    "figures": Stage(
        settings.Figures,
        "draw pictures of a run",
        "images val_images classes root erase evidence ecs_labels filtered kept predictions truth val_truth "
        "val_counts histories scores out",
    ),
    "overview": Stage(
        None, "gather a run on one page", "config images val_images classes scores pictures logs out"
    ),
    "ablation": Stage(
        settings.Ablation,
        "compare the steps of the method, with intervals",
        "rows counts classes out out_iou",
    ),
    "submission": Stage(
        settings.Submission,
        "pack predictions for VOC's test server",
        "images classes predictions out",
    ),
}

SINGLE = {("train_segmenter", "labels"), ("ecs_labels", "evidence"), ("ecs_labels", "regions")}
"""Arguments that are lists elsewhere, but one file for this stage."""

OPTIONAL = {
    ("prepare", "list_name"),
    ("prepare", "out_classes"),
    ("check_masks", "list_name"),
    ("train_cam", "imagenet"),
    ("train_segmenter", "imagenet"),
    *((stage, "log") for stage in ("train_cam", "train_ecs", "train_segmenter")),
    ("summary", "scores"),
    ("figures", "ecs_labels"),
    ("figures", "truth"),
    ("figures", "val_truth"),
    ("figures", "val_counts"),
    ("figures", "scores"),
    ("overview", "scores"),
}
"""Arguments that may be left out; the stage gets None."""


EXAMPLE = "example: the first line of the stage's log in logs/<run>/ is a whole command line"


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; the exit status is 1 for a mistake of the user."""
    arguments = list(sys.argv[1:] if arguments is None else arguments)
    parsed = make_parser().parse_args(arguments)
    if parsed.stage in COMMANDS:
        return run_command(parsed)
    # before torch looks at the cards: numbers as nvidia-smi has them, not the fastest first
    os.environ.setdefault("CUDA_DEVICE_ORDER", "PCI_BUS_ID")
    launch.stay_with_launcher()
    if not launch.is_worker():
        print(shlex.join(["ecsnet", *arguments]), flush=True)
    start = time.monotonic()
    try:
        with stopping.watching(parsed.stage, quiet=not launch.is_first()):
            prepare_files(parsed)
            run_stage(parsed, arguments)
    except Exception as error:
        text = str(error) if isinstance(error, UserError) else explain(error, memory_setting(parsed.stage))
        if text is None and launch.is_loss_of_another(error):
            launch.report(parsed.stage, str(error).splitlines()[0], lost=True)
            return launch.LOST
        if text is None:
            raise
        launch.report(parsed.stage, text)
        return 1
    if not launch.is_worker():
        print(f"{parsed.stage}: done in {clock(time.monotonic() - start)}", flush=True)
    return 0


def prepare_files(parsed: argparse.Namespace) -> None:
    """Clear what a killed process left half-written, and date inputs that come from the future.

    After the clock jumped back, outputs would be older than their inputs: Snakemake refuses such.
    """
    values = [getattr(parsed, name) for name in STAGES[parsed.stage].arguments.split()]
    paths = [path for value in values for path in (value if isinstance(value, list) else [value])]
    paths = [path for path in paths if isinstance(path, Path)]
    for path in paths:
        if path.is_file() and path.stat().st_mtime > time.time() + 1:
            print(f"{path}: its date lies in the future (did the clock jump?); it is dated now", flush=True)
            with contextlib.suppress(OSError):  # another user's
                os.utime(path)
    for folder in {folder for path in paths for folder in (path, path.parent)}:
        remove_leftovers(folder)


def memory_setting(stage: str) -> str:
    """The settings to lower where a stage runs out of memory."""
    section = STAGES[stage].section
    if section is not None and issubclass(section, settings.Training):
        return f"{stage}.batch_size or {stage}.crop_size, or runtime.workers where it is the machine's memory"
    if stage == "evidence":
        return "runtime.inference_batch, evidence.walk.cells or evidence.refine.size, or --cores"
    if stage in ("erase", "ecs_labels", "predict"):
        return "runtime.inference_batch, or --cores so that fewer jobs run at once"
    return "--cores, so that fewer work at once"


def run_stage(parsed: argparse.Namespace, arguments: Sequence[str]) -> None:
    """Call the stage's `run` with the parsed arguments; a training on several cards, in several processes."""
    stage = STAGES[parsed.stage]
    values = {name: getattr(parsed, name) for name in stage.arguments.split()}
    if "source_name" in values:
        values["source"] = values.pop("source_name")
    section = settings.parse_json(stage.section, parsed.settings, parsed.stage) if stage.section else None
    runtime = settings.parse_json(settings.Runtime, parsed.runtime, "runtime") if stage.runtime else None
    if runtime and isinstance(section, settings.Training) and launch.processes(runtime) > 1:
        launch.train(arguments, runtime)
        return
    module = importlib.import_module(f".{parsed.stage}", __package__)
    if runtime:
        values["runtime"] = runtime
    if "threads" in inspect.signature(module.run).parameters:
        values["threads"] = parsed.threads
    module.run(section, **values)


def make_parser() -> argparse.ArgumentParser:
    """The parser, with a subcommand for each stage and each command for people."""
    parser = argparse.ArgumentParser(
        prog="ecsnet",
        usage="ecsnet [-h] [--version] command ...",
        description="From image tags to pixel masks.",
        epilog=overview([(name, stage.text) for name, stage in STAGES.items()]),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"ecsnet {__version__}")
    # `overview` lists them, in two groups
    commands = parser.add_subparsers(
        dest="stage", prog="ecsnet", required=True, metavar="command", help=argparse.SUPPRESS
    )
    add_commands(commands)
    for name, stage in STAGES.items():
        _add_stage(commands, name, stage)
    return parser


def _add_stage(stages: Any, name: str, stage: Stage) -> None:
    parser = stages.add_parser(
        name,
        help=stage.text,
        description=f"{stage.text[0].upper()}{stage.text[1:]}.",
        epilog=f"{settings_help(stage)}\n\n{EXAMPLE}".strip(),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    if stage.section:
        parser.add_argument("--settings", metavar="JSON", default="{}", help="settings, see below")
    for key in stage.arguments.split():
        argument = ARGUMENTS[key]
        parser.add_argument(
            f"--{'source' if key == 'source_name' else key.replace('_', '-')}",
            dest=key,
            type=argument.kind,
            required=(name, key) not in OPTIONAL,
            nargs="+" if argument.many and (name, key) not in SINGLE else None,
            help=argument.text,
        )
    if stage.runtime:
        parser.add_argument("--runtime", metavar="JSON", default="{}", help="how to run; changes no result")
    parser.add_argument("--threads", type=count, default=1, help="CPU threads (default: 1)")


def settings_help(stage: Stage) -> str:
    """The settings of a stage, and of how it is run, as text for `--help`."""
    parts = []
    for title, section in (
        ("settings", stage.section),
        ("runtime", settings.Runtime if stage.runtime else None),
    ):
        for index, (key, default, text) in enumerate(describe(section) if section else []):
            if index == 0:
                parts.append(f"{title} (name, default, meaning):")
            parts.append(f"  {key}  {show(default)}")
            parts.append(textwrap.fill(text, width(), initial_indent=" " * 6, subsequent_indent=" " * 6))
    return "\n".join(parts)
