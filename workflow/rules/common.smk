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
    import ecsnet
    from ecsnet import coco, curves, folder, instances, late, runs, testset
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
os.environ.update(PATH=os.pathsep.join([os.path.dirname(sys.executable), os.environ.get("PATH", os.defpath)]))
# For envs/ecsnet.post-deploy.sh.
os.environ.update(ECSNET_PACKAGE=os.path.dirname(ecsnet.__file__))


def checked(function, *arguments, **named):
    """What the function returns; a mistake of the user ends the run before any job."""
    try:
        return function(*arguments, **named)
    except UserError as error:
        raise WorkflowError(str(error)) from None


STOP = runs.Stop()
# Another workflow may use this one as a module; what is the whole run's affair is then left to that one.
IS_MODULE = not workflow.modifier.is_main_snakefile()
if workflow.modifier.path_modifier.prefix:
    raise WorkflowError("a module of ecsnet takes no prefix; its setting `run` names its folders")

# A signal to the whole group must not end `tee` before the stage that has something to say.
# (A prefix takes the place of Snakemake's own, so strict mode is named here. It is before the commands of all
# rules, and only those of stages are meant: the pattern is of what stands after it.)
shell.prefix("set -euo pipefail; [[ $BASH_EXECUTION_STRING != *'ecsnet '[a-z]* ]] || trap '' INT TERM; ")

CONFIG, PHOTOS = checked(folder.resolved, checked(coco.resolved, checked(parse_config, config)))
checked(curves.require_package, CONFIG.runtime)
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
if workflow.is_main_process and not IS_MODULE:  # a lock may be of a run without this module
    checked(runs.begin, submits=workflow.nodes is not None)


def aside(value):
    """A param that makes nothing stale: where things are, and how to run, changes no result.

    What a function of params makes of the output, or could, Snakemake takes for derived from it, and does not
    compare. (Nor may a command name a variable from here: in a module it would be unknown.)
    """
    return lambda wildcards, output: value


# In params by `aside` alone.
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


def download_settings():
    """What of the section `download` shows in what it leaves: from where it came, and how, does not."""
    download = CONFIG.download
    settings = {name: getattr(download, name) for name in ("voc_md5", "sbd_md5", "masks", "trainaug_count")}
    return json.dumps(settings)


LISTS = {
    "train": CONFIG.dataset.train_list,
    "val": CONFIG.dataset.val_list,
    "all": "all",  # of one's own photographs
    "submission": CONFIG.submission.test_list,
}


def table_settings(split):
    """What of the section `dataset` shows in a table of images; the list and the tags are in its contents."""
    dataset = CONFIG.dataset
    settings = {"classes": dataset.classes, "difficult": dataset.difficult}
    if MADE:  # its lists and tags may not be there yet
        settings |= {"tags": dataset.tags, "list": LISTS[split]}
    else:
        settings |= {"tags": tag_source(dataset)}
    return json.dumps(settings)


def contents_of(split):
    """What makes a table of images stale. A dry run need not read a million pictures for one that is missing.

    Functions of params that ask for `output` do not count: Snakemake takes what they give for derived.
    """
    if MADE or (workflow.dryrun and not os.path.exists(f"{RESULTS}/prepare/{split}.csv")):
        return ""
    return table_contents(CONFIG.dataset, LISTS[split])


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


def growing(amount):
    """A resource that grows with each attempt, for where jobs that failed are retried (`retries` of a profile)."""
    return lambda wildcards, attempt: attempt * amount


def code(stage):
    """Digests of the modules of a stage: Snakemake does not look into what a command imports."""
    return code_digest(stage)


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
