"""A data set in MS COCO's layout, as the Snakefile looks at it: its classes, and digests of its contents.

Imports nothing heavy, and parses no JSON file: one of COCO 2017 has 450 MB.
"""

import dataclasses
import difflib
import json
import os
import re
from collections.abc import Iterator
from pathlib import Path

from .contents import digest_of, named, read_digest, remembered, stamp_of
from .errors import UserError, raise_problems
from .folder import MASKS
from .instances import part_of, read_categories, without_shapes
from .settings import VOC_CLASSES, Config, Dataset, class_checks

_FILE_NAME = re.compile(rb'"file_name"\s*:\s*("(?:[^"\\]|\\.)*")')


def resolved(config: Config) -> Config:
    """The configuration with what follows from a data set of kind coco; any other is returned as it is.

    Classes are all categories of the training instances, by their ids, where VOC's own, the default, stand in
    the configuration. Every picture has a true mask, unless the configuration says that there are none.

    Raises:
        UserError: folders or files are not there, or have not the classes.
    """
    dataset = config.dataset
    if dataset.kind != "coco":
        return config
    if dataset.images is None:
        raise UserError(
            "dataset: kind coco needs images and val_images, folders of pictures, and train_list and "
            "val_list, the JSON files of their instances; see config/coco.yaml"
        )
    train, val = _categories(dataset)
    given = dataset.classes != tuple(VOC_CLASSES)
    classes = dataset.classes if given else tuple(train.values())
    problems = [] if given else class_checks(classes, dataset.train_list)
    shared = tuple(name for name in classes if name in train.values())
    problems += _unknown(classes, train, dataset.train_list) + _unknown(shared, val, dataset.val_list)
    raise_problems(problems, "The classes have mistakes:")
    bound = config.supervised.masks and MASKS
    return dataclasses.replace(
        config,
        dataset=dataclasses.replace(dataset, classes=classes),
        score=dataclasses.replace(
            config.score,
            train_masks=config.score.train_masks and MASKS,
            val_masks=config.score.val_masks and MASKS,
        ),
        supervised=dataclasses.replace(config.supervised, masks=bound),
    )


def _categories(dataset: Dataset) -> list[dict[int, str]]:
    """Those of the training and of the validation instances."""
    problems, found = [], []
    for key, folder in (("images", dataset.images), ("val_images", dataset.val_images)):
        if folder is not None and not os.path.isdir(folder):
            problems.append(f"dataset.{key}: there is no folder {folder} (relative to where snakemake runs)")
    for key, name in (("train_list", dataset.train_list), ("val_list", dataset.val_list)):
        if not os.path.isfile(name):
            remedy = "of kind coco it is the path of a JSON file, such as annotations/instances_val2017.json"
            problems.append(
                f"dataset.{key}: there is no file {name} (relative to where snakemake runs); {remedy}"
            )
            continue
        try:
            found.append(read_categories(Path(name)))
        except UserError as error:
            problems.append(f"dataset.{key}: {error}")
    raise_problems(problems, "The data set has mistakes:")
    return found


def _unknown(classes: tuple[str, ...], categories: dict[int, str], path: str) -> list[str]:
    names = list(categories.values())
    return [
        f"dataset.classes: {path} has no category {name}; {_near(name, names)}"
        for name in classes
        if name not in names
    ]


def _near(name: str, names: list[str]) -> str:
    near = difflib.get_close_matches(name, names, 1)
    return f"did you mean {near[0]}?" if near else f"it has {', '.join(names)}"


def coco_contents(settings: Dataset, name: str) -> str:
    """Digests of what `import_coco` reads of a part; never raises.

    JSON text as of `contents.table_contents`. Where in a picture its instances are does not count.
    """
    part = part_of(settings, name)
    tags, *names = json.loads(_of_file(part.instances, "tags"))
    return json.dumps({"pictures": digest_of(named(part.images, names)), "tags": tags})


def coco_masks_contents(settings: Dataset, name: str) -> str:
    """Digest of the instances, which `import_coco_masks` reads, as `coco_contents`."""
    return json.dumps({"masks": _of_file(part_of(settings, name).instances, "masks")})


def _of_file(path: Path, what: str) -> str:
    """What `_tags` or `_masks` tells of a JSON file, as it was when the file was read last."""
    key = f"{path.name} {what}"
    read = {"tags": _tags, "masks": _masks}[what]
    return remembered(path.parent, {key: stamp_of(path)}, lambda _: read(path))[key]


def _tags(path: Path) -> str:
    """JSON list: a digest of all but where instances are, and the pictures' names."""
    try:
        content = without_shapes(path.read_bytes())
    except OSError:
        return json.dumps(["0 absent"])
    names = sorted(set(_names(content)))
    return json.dumps([digest_of([content], len(names)), *names])


def _names(content: bytes) -> Iterator[str]:
    """The file names that a table can hold; `import_coco` refuses others."""
    for quoted in _FILE_NAME.findall(content):
        try:
            name = json.loads(quoted)
        except ValueError:
            continue
        if name.isprintable():
            yield name.replace("\\", "/")


def _masks(path: Path) -> str:
    return f"1 {read_digest(str(path))}"
