"""The edits of docs/staleness.md, by the words of its rows."""

import ast
import re

import numpy as np
from edited_run import MADE, dump

from ecsnet.palette import read_mask, write_mask
from ecsnet.scenes import DEMO_CLASSES

TRAIN_IMAGE, VAL_IMAGE, SPARE = "demo_train_0003", "demo_val_0002", "demo_train_0009"
LIST = "data/ImageSets/Segmentation/some.txt"
ERASE_SHARD = "results/small/erase/1-of-2.npz"
TABLE = "results/small/filter_labels.csv"
LABEL = f"results/small/filter_labels/{TRAIN_IMAGE}.png"
WEIGHTS = "resources/weights/tf_efficientnet_lite0-package.safetensors"
COMPUTATION = "a computation in "

LITE = {"name": "tf_efficientnet_lite0", "level": -2}
SMALL = {"epochs": 1, "batch_size": 4, "crop_size": 65}
CONFIG = {
    "run": "small",
    "seed": 3,
    "shards": 2,
    "rounds": 2,
    "dataset": {
        "kind": "voc",
        "root": "data",
        "train_list": "some",
        "val_list": "val",
        "classes": list(DEMO_CLASSES),
        "difficult": True,
    },
    "train_cam": {
        **SMALL,
        "momentum": 0.9,
        "poly_power": 0.8,
        "backbone": {**LITE, "weights": "imagenet.safetensors", "mean": [0.5, 0.4, 0.3]},
    },
    "erase": {"scales": [1.0, 0.5], "flip": False},
    "evidence": {"conflict": 0.5, "margin": 0.1, "refine": {"rounds": 4}},
    "train_ecs": {**SMALL, "head_channels": 8, "head_dilation": 9},
    "ecs_labels": {"scales": [1.0], "flip": False, "margin": 0.1, "evidence_weight": 0.5},
    "filter_labels": {"drop_share": 0.1, "agreement": 0.8},
    "train_segmenter": {**SMALL, "atrous_rates": [6, 12], "backbone": {**LITE, "weights": "package"}},
    "predict": {"scales": [1.0], "flip": False},
    "score": {"train_list": "some"},
    "supervised": {"enabled": True, "masks": "SegmentationClass"},
    "figures": {"panels": 4, "columns": 3},
}


def setting(key, value):
    return lambda run: run.set(key, value)


def swapped(section, first, second):
    def edit(run):
        values = run.get(f"{section}.{first}"), run.get(f"{section}.{second}")
        run.set(f"{section}.{first}", values[1])
        run.set(f"{section}.{second}", values[0])

    return edit


def turned(key):
    """A list's entries in reverse order."""
    return lambda run: run.set(key, run.get(key)[::-1])


def both(*edits):
    def edit(run):
        for one in edits:
            one(run)

    return edit


def options(*arguments):
    """Nothing but other options of snakemake."""
    return lambda run: run.arguments.extend(arguments)


def rewritten(change):
    """The same configuration in another text."""

    def edit(run):
        before = run.path("config.yaml").read_text()
        run.write("config.yaml", change(run.config))
        assert run.path("config.yaml").read_text() != before

    return edit


def commented(config):
    return "# why\n\n" + dump(config).replace("\n", "  # so\n").replace("scales:", "\n\n  scales:")


def reordered(config):
    """Keys in reverse order, of sections too."""
    if not isinstance(config, dict):
        return config
    return {key: reordered(config[key]) for key in reversed(config)}


def spelled_otherwise(config):
    """Whole numbers for floats, floats for whole numbers, and defaults written out."""
    text = dump(config).replace("momentum: 0.9", "momentum: 9.0e-1").replace("epochs: 1", "epochs: 1.0")
    return text.replace("batch_size: 4", "batch_size: 4.0").replace("[1.0]", "[1]").replace(
        "poly_power:", "weight_decay: 1e-4\n  poly_power:"
    )  # fmt: skip


def modules(run):
    return [path.relative_to(run.folder).as_posix() for path in sorted(run.path("ecsnet").glob("*.py"))]


def computation(*names):
    def edit(run):
        for name in names:
            path = f"ecsnet/{name}.py"
            run.write(path, with_other_computation(run.path(path).read_text(), name))

    return edit


def with_other_computation(source, name):
    """Source in which the first number within a function is another, or a statement more.

    The latter for what the Snakefile itself imports and so must go on working.
    """
    if name not in PLANNING:
        for function in ast.walk(ast.parse(source)):
            for node in ast.walk(function) if isinstance(function, ast.FunctionDef) else ():
                if isinstance(node, ast.Constant) and type(node.value) in (int, float):
                    lines = source.splitlines(keepends=True)
                    line = lines[node.lineno - 1].encode()
                    number = str(node.value + 1).encode()
                    line = line[: node.col_offset] + number + line[node.end_col_offset :]
                    lines[node.lineno - 1] = line.decode()
                    return "".join(lines)
    return source + "\nANOTHER = True\n"


PLANNING = {
    "changes",
    "contents",
    "digest",
    "errors",
    "plan",
    "runs",
    "schema",
    "settings",
    "stopping",
    "variants",
    "voc",
    "why",
}


def new_docstrings(run):
    """Each docstring another one."""
    for name in modules(run):
        tree = ast.parse(run.path(name).read_text())
        for node in ast.walk(tree):
            if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef) and ast.get_docstring(node):
                node.body[0].value.value = "Said otherwise."
        run.write(name, ast.unparse(tree))


def new_comments(run):
    for name in modules(run):
        text = run.path(name).read_text()
        run.write(name, "# why\n" + re.sub(r"^( +)return ", r"\1# so\n\1return ", text, flags=re.MULTILINE))


def new_layout(run):
    """Each module as a program would write it: other line breaks, quotes and brackets, no comment."""
    for name in modules(run):
        run.write(name, ast.unparse(ast.parse(run.path(name).read_text())))


def with_old_time(run):
    computation("cam")(run)
    run.age("ecsnet/cam.py")


def other_digests(name):
    return lambda run: run.write(
        name, re.sub(r"digest_size=\d+", "digest_size=5", run.path(name).read_text())
    )


def other_bytes(name):
    """Another file of the same size in the place of a file; of a picture, a few pixels differ."""

    def edit(run):
        content = bytearray(run.path(name).read_bytes())
        content[-20] ^= 1
        run.write(name, bytes(content))

    return edit


def same_bytes(name):
    return lambda run: run.touch([run.path(name)])


def other_tag(image_id):
    def edit(run):
        name = f"data/Annotations/{image_id}.xml"
        tag = re.search(r"<name>(\w+)", run.path(name).read_text())[1]
        run.replace(name, tag, next(other for other in DEMO_CLASSES if other != tag))

    return edit


def other_mask(name):
    def edit(run):
        run.keep(run.path(name))
        labels = read_mask(run.path(name))
        labels[:4] = np.where(labels[:4] == 1, 0, 1)
        write_mask(run.path(name), labels)

    return edit


def removed(name):
    return lambda run: run.remove(name)


def appended(name, text):
    return lambda run: run.append(name, text)


def replaced(name, old, new):
    return lambda run: run.replace(name, old, new)


def touched(*patterns):
    return lambda run: run.touch(run.files(*patterns))


def edited_label_table(run):
    """A row of the table says that its image is not to be trained on."""
    lines = run.path(TABLE).read_text().splitlines()
    cells = lines[1].split(",")
    cells[lines[0].split(",").index("dropped")] = "looks wrong"
    run.write(TABLE, "\n".join([lines[0], ",".join(cells), *lines[2:]]) + "\n")


def forgotten(run):
    """Snakemake's own records gone."""
    run.set_aside(".snakemake")


EVERY_RUNTIME = {
    "device": "cpu",
    "workers": 1,
    "gpus_per_training": 2,
    "inference_batch": 3,
    "precision": "float32",
    "checkpoint_seconds": 1,
    "tensorboard": True,
}

EDITS = {
    # the configuration
    "`run` changed": setting("run", "other"),
    "`seed` changed": setting("seed", 4),
    "`shards` changed": setting("shards", 3),
    "`rounds` raised": setting("rounds", 3),
    "`rounds` lowered": setting("rounds", 1),
    "`dataset.difficult` changed": setting("dataset.difficult", False),
    "`dataset.classes`: two entries swapped": turned("dataset.classes"),
    "`dataset.val_list` changed": setting("dataset.val_list", LIST),
    "`dataset.tags` changed from auto to what that means here": setting("dataset.tags", "annotations"),
    "`demo.width` changed, though `dataset.kind` is voc": setting("demo.width", 128),
    "`train_cam.momentum` and `train_cam.poly_power` swapped": swapped("train_cam", "momentum", "poly_power"),
    "`train_cam.backbone.mean`: entries swapped": turned("train_cam.backbone.mean"),
    "`erase.threshold` changed": setting("erase.threshold", 0.4),
    "`erase.scales`: entries swapped": turned("erase.scales"),
    "`evidence.conflict` and `evidence.margin` swapped": swapped("evidence", "conflict", "margin"),
    "`evidence.refine.rounds` changed": setting("evidence.refine.rounds", 5),
    "`train_ecs.head_channels` and `train_ecs.head_dilation` swapped": swapped(
        "train_ecs", "head_channels", "head_dilation"
    ),
    "`ecs_labels.margin` and `ecs_labels.evidence_weight` swapped": swapped(
        "ecs_labels", "margin", "evidence_weight"
    ),
    "`filter_labels.drop_share` and `filter_labels.agreement` swapped": swapped(
        "filter_labels", "drop_share", "agreement"
    ),
    "`filter_labels.source` changed to evidence": setting("filter_labels.source", "evidence"),
    "`train_segmenter.atrous_rates`: entries swapped": turned("train_segmenter.atrous_rates"),
    "`predict.scales` changed": setting("predict.scales", [1.5]),
    "`pack_model.licence` changed": setting("pack_model.licence", "CC0"),
    "`score.cam_threshold` changed": setting("score.cam_threshold", 0.2),
    "`score.train_list` changed": both(
        lambda run: run.write("few.txt", f"{TRAIN_IMAGE}\n"), setting("score.train_list", "few.txt")
    ),
    "`score.val_masks` changed": setting("score.val_masks", "Masks"),
    "`supervised.masks` changed": setting("supervised.masks", "Masks"),
    "`supervised.enabled` switched off": setting("supervised.enabled", False),
    "`supervised.masks` changed, with `supervised.enabled` off": both(
        setting("supervised.enabled", False), setting("supervised.masks", "Masks")
    ),
    "`figures.panels` and `figures.columns` swapped": swapped("figures", "panels", "columns"),
    "`ablation.rows`, `ablation.seeds` and `ablation.resamples` changed": setting(
        "ablation", {"rows": ["cam"], "seeds": [0, 3], "resamples": 50}
    ),
    "`submission.test_list` and `submission.competition` changed": setting(
        "submission", {"test_list": "val", "competition": "comp5"}
    ),
    "every key of `runtime` changed": setting("runtime", EVERY_RUNTIME),
    "comments and blank lines": rewritten(commented),
    "the order of keys and sections": rewritten(lambda config: dump(reordered(config))),
    "numbers spelled otherwise, defaults written out": rewritten(spelled_otherwise),
    "a default in `config/config.yaml`, here of `evidence.residual`, that the run leaves out": replaced(
        "config/config.yaml", "residual: 0.5", "residual: 0.2"
    ),
    "a default in `ecsnet/settings.py` (`config/config.yaml` names them all)": replaced(
        "ecsnet/settings.py",
        "residual: float = setting(\n        0.5",
        "residual: float = setting(\n        0.2",
    ),
    # code
    "a docstring in every module of `ecsnet/`": new_docstrings,
    "a comment in every module": new_comments,
    "the layout of every module: line breaks, quotes, brackets": new_layout,
    "`ecsnet/cam.py` edited, its time older than all results": with_old_time,
    "digests of code made another way in `ecsnet/digest.py`": other_digests("ecsnet/digest.py"),
    "digests of data made another way in `ecsnet/contents.py`": other_digests("ecsnet/contents.py"),
    "comments, memory and time limits in `workflow/rules/labels.smk`": both(
        replaced("workflow/rules/labels.smk", "growing(8000)", "growing(9000)"),
        replaced("workflow/rules/labels.smk", "growing(720)", "growing(800)"),
        appended("workflow/rules/labels.smk", "# why\n"),
    ),
    "the command of a rule, here of `figures`": replaced(
        "workflow/rules/results.smk", "ecsnet figures --settings", "nice ecsnet figures --settings"
    ),
    # data
    "a training picture replaced in place by one of the same size": other_bytes(
        f"data/JPEGImages/{TRAIN_IMAGE}.jpg"
    ),
    "a validation picture replaced": other_bytes(f"data/JPEGImages/{VAL_IMAGE}.jpg"),
    "a picture touched": same_bytes(f"data/JPEGImages/{TRAIN_IMAGE}.jpg"),
    "all pictures, annotations and masks touched": touched(
        "data/JPEGImages/*", "data/Annotations/*", "data/SegmentationClass/*"
    ),
    "the data copied elsewhere, all times new, and `dataset.root` changed": both(
        lambda run: run.copy_folder("data", "elsewhere"), setting("dataset.root", "elsewhere")
    ),
    "a picture that is on no list replaced": other_bytes(f"data/JPEGImages/{SPARE}.jpg"),
    "a picture with its annotation added to the training list": appended(LIST, f"{SPARE}\n"),
    "a picture taken off the training list": replaced(LIST, f"{TRAIN_IMAGE}\n", ""),
    "a tag of a training picture changed": other_tag(TRAIN_IMAGE),
    "a tag of a validation picture changed": other_tag(VAL_IMAGE),
    "a list of tags in `ImageSets/Main`, where `Annotations` are in use": appended(
        "data/ImageSets/Main/fish_trainval.txt", f"{SPARE} 1\n"
    ),
    "the true mask of a training picture changed": other_mask(f"data/SegmentationClass/{TRAIN_IMAGE}.png"),
    "the true mask of a validation picture changed": other_mask(f"data/SegmentationClass/{VAL_IMAGE}.png"),
    "ImageNet weights in a file of one's own replaced by others": other_bytes("imagenet.safetensors"),
    "the same weights copied there again": same_bytes("imagenet.safetensors"),
    "the weights that `fetch_weights` made deleted": removed(WEIGHTS),
    # results
    "a shard of `erase` deleted": removed(ERASE_SHARD),
    "a shard of `erase` deleted, and `figures.panels` changed": both(
        removed(ERASE_SHARD), setting("figures.panels", 5)
    ),
    "a shard of `erase` deleted and made again by its name, and `figures.panels` changed": both(
        removed(ERASE_SHARD), lambda run: run.execute(ERASE_SHARD), setting("figures.panels", 5)
    ),
    "a shard of `evidence` overwritten with other bytes": other_bytes("results/small/evidence/1-of-2.npz"),
    "a label image of `filter_labels` edited by hand": other_mask(LABEL),
    "a label image of `filter_labels` deleted": removed(LABEL),
    "the table `filter_labels.csv` edited by hand": edited_label_table,
    "the table `filter_labels.csv` deleted": removed(TABLE),
    "the table `filter_labels.csv` deleted, and `train_segmenter.epochs` changed": both(
        removed(TABLE), setting("train_segmenter.epochs", 2)
    ),
    "`summary.csv` deleted": removed("results/small/summary.csv"),
    "logs and benchmarks deleted": lambda run: run.remove(
        *(str(path.relative_to(run.folder)) for path in run.files("logs/**/*"))
    ),
    "the folder `.snakemake` deleted": forgotten,
    "the folder `.snakemake` deleted, and `erase.threshold` changed": both(
        forgotten, setting("erase.threshold", 0.4)
    ),
    # times, places, ways to run
    "every result touched, in the order they were made": lambda run: run.touch(run.files(*MADE)),
    "every result touched, in the reverse order": lambda run: run.touch(run.files(*MADE)[::-1]),
    "code, workflow, profile and configuration touched": touched(
        "ecsnet/*", "Snakefile", "workflow/**/*", "profiles/**/*", "config/**/*", "config.yaml"
    ),
    "lists touched": touched("data/ImageSets/**/*"),
    "the project moved to another folder": lambda run: run.move("moved"),
    "the project copied with `cp -r`, all times new": lambda run: run.copy("copied"),
    "`--cores`, `--set-threads`, `--set-resources`": options(
        "--cores", "1", "--set-threads", "train_cam=1", "--set-resources", "erase:mem_mb=100"
    ),
    "`--resources gpu=4`": options("--resources", "gpu=4"),
    "no profile, another profile": both(
        lambda run: run.write("other/config.yaml", "keep-going: true\nresources:\n  gpu: 3\n"),
        options("--workflow-profile", "none", "--profile", "other"),
    ),
}


def edit_of(words):
    """The function that performs a row's edit."""
    if words.startswith(COMPUTATION):
        return computation(*re.findall(r"`ecsnet/(\w+)\.py`", words))
    return EDITS[words]
