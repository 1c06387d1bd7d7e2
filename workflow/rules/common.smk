"""What all rules share: the checked configuration, paths, and what makes a stage stale.

Nothing here imports torch: a dry run takes a second, not seven.
"""

import dataclasses
import json
import os
import shlex
import sys
from pathlib import Path

from snakemake.exceptions import WorkflowError

try:
    from ecsnet import coco, folder, instances, late, runs
    from ecsnet.contents import folder_contents, folder_masks_contents, mask_contents, table_contents
    from ecsnet.digest import code_digest
    from ecsnet.errors import UserError
    from ecsnet.settings import parse_config, section_json
    from ecsnet.variants import SOURCES, Variants
    from ecsnet.voc import tag_source
except ModuleNotFoundError as error:
    raise WorkflowError(
        f"{error}: this snakemake is of a Python without ecsnet. Run `make setup`, then .venv/bin/snakemake"
    ) from None

# The `ecsnet` command of this Python, also where its environment is not activated.
os.environ["PATH"] = os.path.dirname(sys.executable) + os.pathsep + os.environ["PATH"]


def checked(function, *arguments, **named):
    """What the function returns; a mistake of the user ends the run before any job."""
    try:
        return function(*arguments, **named)
    except UserError as error:
        raise WorkflowError(str(error)) from None


STOP = runs.Stop()
# A signal to the whole group must not end `tee` before the stage that has something to say.
# (A prefix takes the place of Snakemake's own, so strict mode is named here.)
shell.prefix("set -euo pipefail; trap '' INT TERM; ")

CONFIG, PHOTOS = checked(folder.resolved, checked(coco.resolved, checked(parse_config, config)))
# As its user describes it, and as it lies there for all stages: photographs of one's own, and data sets in
# COCO's layout, are laid out as VOC's.
SOURCE = CONFIG.dataset
CONFIG = dataclasses.replace(CONFIG, dataset=folder.laid_out(SOURCE, CONFIG.run))
RESULTS = f"results/{CONFIG.run}"
LOGS = f"logs/{CONFIG.run}"

# One job on cards at a time where nobody gives out cards or says how many there are; a cluster gives them out
# itself, and a limit would reach its jobs and fail there.
CARDS = CONFIG.runtime.gpus_per_training
if workflow.is_main_process and workflow.nodes is None and "gpu" not in workflow.global_resources:
    workflow.register_resource("gpu", CARDS)
if "gpu" in workflow.global_resources and workflow.global_resources["gpu"].value < CARDS:
    raise WorkflowError(
        f"runtime.gpus_per_training: {CARDS}, but --resources gpu={workflow.global_resources['gpu'].value}; "
        "lower the one or raise the other"
    )

if workflow.is_main_process:
    checked(runs.require_folders, [RESULTS, LOGS, ".snakemake"])
    runs.warn_without_records(RESULTS)
    checked(runs.begin, submits=workflow.nodes is not None)


def wait_for_late_files():
    """Have what Snakemake does not wait for waited for as long; only when jobs start is it known how long."""
    seconds = workflow.execution_settings.latency_wait
    os.environ[late.VARIABLE] = str(seconds)
    runs.wait_for_logs(workflow.scheduler._executor, seconds)


# In shell lines, but never in params: none of them changes a result.
ROOT = CONFIG.dataset.root
DATASET = section_json(CONFIG, "dataset")
DOWNLOAD = section_json(CONFIG, "download")
RUNTIME = json.dumps(dataclasses.asdict(CONFIG.runtime))
CONFIGURATION = json.dumps(
    dataclasses.asdict(dataclasses.replace(CONFIG, dataset=SOURCE)), ensure_ascii=False
)

# A data set that a rule makes has stamps; any other is watched by its files' contents.
FOLDER = SOURCE.kind == "folder"
COCO = SOURCE.kind == "coco"
MADE = FOLDER or COCO or SOURCE.kind == "demo"
PHOTOGRAPHS = json.dumps(dataclasses.asdict(SOURCE))


# The list of validation images that are scored: of one's own photographs, those with masks.
VAL_SCORED = "val_masked" if FOLDER else CONFIG.dataset.val_list


# The ablation's variants of the run go through the same rules, by the wildcard `variant`: empty for the run
# itself, else the folder of what is the variant's own.
VARIANTS = Variants(CONFIG)


def section(name):
    """A stage's settings, as one JSON text with sorted keys.

    Snakemake compares params as a set of values without names, so that two swapped values would go
    unnoticed if each were a param of its own.
    """
    return lambda wildcards: VARIANTS.settings(wildcards.get("variant", ""), name)


def made_by(stage, pattern):
    """Input: a result of a stage, in the folder of the variant that makes it for this one."""
    return lambda wildcards: made_for(wildcards, stage, pattern)


def shards_by(stage, pattern):
    """Input: all shards of a stage, as in `made_by`."""
    return lambda wildcards: shards_for(wildcards, stage, pattern)


def made_for(wildcards, stage, pattern, **values):
    """A file by its pattern; without a round, that of the last one."""
    values = {"round": CONFIG.rounds, **dict(wildcards.items()), **values}
    owner = VARIANTS.owner(values["variant"], stage, int(values["round"]))
    return str(pattern).format(**{**values, "variant": owner})


def shards_for(wildcards, stage, pattern, **values):
    return gather.shard(made_for(wildcards, stage, pattern, scatteritem="{scatteritem}", **values))


def download_settings():
    """What of the section `download` shows in what it leaves: from where it came, and how, does not."""
    download = CONFIG.download
    settings = {name: getattr(download, name) for name in ("voc_md5", "sbd_md5", "masks", "trainaug_count")}
    return json.dumps(settings)


def require_voc_root(wildcards):
    """No input, but a last look before VOC is fetched: has it a place to go to?"""
    if MADE:
        raise WorkflowError(
            f"dataset.kind: {SOURCE.kind}, but `download` is for VOC 2012; set it to voc, with a root of its own"
        )
    checked(runs.require_folders, [ROOT])
    return []


def list_of_split(split):
    """The name of a list of images: train, val, or all of one's own photographs."""
    return {"train": CONFIG.dataset.train_list, "val": CONFIG.dataset.val_list, "all": "all"}[split]


def table_settings(split):
    """What of the section `dataset` shows in a table of images; the list and the tags are in its contents."""
    dataset = CONFIG.dataset
    settings = {"classes": dataset.classes, "difficult": dataset.difficult}
    if MADE:  # its lists and tags may not be there yet
        settings |= {"tags": dataset.tags, "list": list_of_split(split)}
    else:
        settings |= {"tags": tag_source(dataset)}
    return json.dumps(settings)


def contents_of(split):
    """What makes a table of images stale. A dry run need not read a million pictures for one that is missing.

    Functions of params that ask for `output` do not count: Snakemake takes what they give for derived.
    """
    if MADE or (workflow.dryrun and not os.path.exists(f"{RESULTS}/prepare/{split}.csv")):
        return ""
    return table_contents(CONFIG.dataset, list_of_split(split))


def contents_of_part(part):
    """What makes a part of one's own photographs stale; nothing in a dry run, if it is missing anyway."""
    if not FOLDER or (workflow.dryrun and not os.path.exists(f"{ROOT}/{part}.csv")):
        return ""
    ids = set(folder.split(PHOTOS, SOURCE)[part])
    return folder_contents(SOURCE, [photo for photo in PHOTOS if photo.id in ids])


def coco_settings(part, **more):
    """What of the section `dataset` shows in a part of a data set in COCO's layout."""
    prefix = instances.part_of(SOURCE, part).prefix
    return json.dumps({"classes": SOURCE.classes, "prefix": prefix, **more})


def contents_of_coco(contents, stage, part):
    """What makes a part in COCO's layout stale, as `contents_of_part`."""
    if not COCO or (workflow.dryrun and not os.path.exists(f"{ROOT}/{stage}/{part}.csv")):
        return ""
    return contents(SOURCE, part)


def contents_of_masks(masks, list_name):
    """What makes a table of true masks stale."""
    return "" if MADE else mask_contents(CONFIG.dataset, masks, list_name)


def masks_to_check(part):
    """The folder of true masks that scores need."""
    masks = MASKS[part][1]
    if masks is None:
        raise WorkflowError(
            f"there are no true masks ({part}), so there is nothing to score with; set score.train_masks and "
            "score.val_masks, or for a folder of your own dataset.masks"
        )
    return masks


def growing(amount):
    """A resource that grows with each attempt, for where jobs that failed are retried (`retries` of a profile)."""
    return lambda wildcards, attempt: attempt * amount


def code(stage):
    """Digests of the modules of a stage: Snakemake does not look into what a command imports."""
    return code_digest(stage)


def weights_of(backbone):
    """The file with a backbone's ImageNet weights; nothing where it starts from random ones."""
    if backbone.weights == "none":
        return []
    if backbone.weights in ("timm", "package"):
        return f"resources/weights/{backbone.name}-{backbone.weights}.safetensors"
    if not os.path.isfile(backbone.weights):  # Path.is_file fails on names that are too long
        raise WorkflowError(
            f"backbone.weights of {backbone.name}: there is no file {backbone.weights} (relative to where "
            "snakemake runs); give timm, package, none, or the path of a .safetensors file"
        )
    return backbone.weights


def imagenet_option(files):
    """The command line option for `weights_of`."""
    return f"--imagenet {shlex.quote(str(files))}" if files else ""


def list_option(name):
    """The option that restricts true masks to a list."""
    return f"--list-name {shlex.quote(name)}" if name else ""


def option(name, files):
    """A command line option with files; nothing without them."""
    words = [files] if isinstance(files, str) else list(files)
    return shlex.join([name, *map(str, words)]) if words else ""
