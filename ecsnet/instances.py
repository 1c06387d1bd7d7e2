"""MS COCO's layout: folders of pictures, and JSON files with the instances in them.

Imports nothing heavy: the Snakefile asks for the categories while it plans.
"""

import json
import os
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from .errors import UserError, raise_problems
from .folder import Photo, bad_names, photo_id, same_ids
from .settings import Dataset

PARTS = ("train", "val")
EXAMPLE = "as instances_train2017.json"
END = 4 << 20
"""Categories stand at one end of the file, behind or before all else, and take some kilobytes."""

SHAPES = re.compile(rb'("(?:segmentation|bbox|area)"\s*:\s*)(?:\[[^"{}]*\]|\{[^{}]*\}|[-+.\deE]+)')
"""What says of an instance where it is: polygons, an RLE, a box, a number of pixels."""

FIELDS: dict[str, dict[str, Any]] = {
    "images": {"id": int | str, "file_name": str, "width": int, "height": int},
    "annotations": {"image_id": int | str, "category_id": int},
    "categories": {"id": int, "name": str},
}
"""Lists of the layout, and what their entries must have."""


@dataclass(frozen=True)
class Part:
    """One of `PARTS` of a data set of kind coco.

    Attributes:
        instances: JSON file.
        images: folder of its pictures.
        prefix: what its pictures' ids begin with, so that those of two folders are told apart.
    """

    instances: Path
    images: str
    prefix: str


@dataclass(frozen=True)
class Picture:
    """A picture as the JSON has it.

    Attributes:
        key: COCO's id of it.
        name: path relative to the folder of pictures, with slashes.
        id: what it is called in the tables: the name without ending, fit for a list.
        width, height: in pixels.
    """

    key: int | str
    name: str
    id: str
    width: int
    height: int


@dataclass(frozen=True)
class Instances:
    """The content of a JSON file.

    Attributes:
        pictures: in the file's order.
        annotations: of each picture, by its key, in the file's order.
        categories: names by COCO's ids, which have gaps.
    """

    pictures: list[Picture]
    annotations: dict[int | str, list[dict[str, Any]]]
    categories: dict[int, str]


def part_of(settings: Dataset, name: str) -> Part:
    """The part `name` (train or val) of a data set of kind coco."""
    images = str(settings.images)
    others = settings.val_images or images
    return Part(
        instances=Path(settings.train_list if name == "train" else settings.val_list),
        images=images if name == "train" else others,
        prefix="" if images == others else f"{name}_",
    )


def without_shapes(content: bytes) -> bytes:
    """The JSON text with null for all that says where an instance is; a fifth of it is left.

    Tags are read from this alone, and a change of anything else concerns no training.
    """
    return SHAPES.sub(rb"\1null", content)


def read_categories(path: Path) -> dict[int, str]:
    """Names by COCO's ids, ascending, without reading the whole file.

    Raises:
        UserError: there is no such file, or nothing like categories in it.
    """
    try:
        size = os.path.getsize(path)
        with path.open("rb") as file:
            for start, length in ((max(0, size - END), END), (0, END), (0, size)):
                file.seek(start)
                found = _categories_in(file.read(length))
                if found:
                    return dict(sorted(found.items()))
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror}); make it a readable file") from None
    remedy = f"give the JSON file of the instances, {EXAMPLE}, whole"
    raise UserError(f"{path}: no categories in it, so it is another file, or cut off; {remedy}")


def _categories_in(content: bytes) -> dict[int, str]:
    for match in reversed(list(re.finditer(rb'"categories"\s*:\s*(?=\[)', content))):
        text = content[match.end() : match.end() + END].decode("utf-8", "replace")
        try:
            entries, _ = json.JSONDecoder().raw_decode(text)
        except (ValueError, RecursionError):
            continue
        if not any(_lacking(entry, FIELDS["categories"]) for entry in entries):
            return {entry["id"]: entry["name"] for entry in entries}
    return {}


def read_instances(part: Part, with_shapes: bool) -> Instances:
    """Read and check a JSON file.

    Args:
        part: what to read.
        with_shapes: also where the instances are; else `segmentation`, `bbox` and `area` are None.

    Raises:
        UserError: with a line for each mistake: the file is no JSON or of another layout, an entry lacks what
            it must have, ids or file names stand twice, an annotation is of an unknown image or category.
    """
    path = part.instances
    content = _parsed(path, with_shapes)
    raise_problems(list(_misfits(path, content)), f"{path} has mistakes:")
    pictures = [_picture(entry, part.prefix) for entry in content["images"]]
    annotations: dict[int | str, list[dict[str, Any]]] = {picture.key: [] for picture in pictures}
    categories = {entry["id"]: entry["name"] for entry in content["categories"]}
    problems = [*_twice(path, content), *_name_problems(part, pictures)]
    for number, entry in enumerate(content["annotations"]):
        for key, known in (("image_id", annotations), ("category_id", categories)):
            if entry[key] not in known:
                where = f"{path}: annotation {entry.get('id', f'number {number}')}"
                problems.append(f"{where}: unknown {key} {entry[key]!r}; correct it, or take it out")
        annotations.get(entry["image_id"], []).append(entry)
    raise_problems(problems, f"{path} has mistakes:")
    return Instances(pictures, annotations, categories)


def class_values(part: Part, instances: Instances, classes: Sequence[str]) -> dict[int, int]:
    """Mask values of the classes, from 1, by COCO's ids of them; other categories are background."""
    unknown = sorted(set(classes).difference(instances.categories.values()))
    if unknown:
        found = f"has no category {' and none '.join(unknown)}"
        raise UserError(f"{part.instances}: {found}; correct dataset.classes, or the file")
    values = {name: value for value, name in enumerate(classes, 1)}
    return {key: values[name] for key, name in instances.categories.items() if name in values}


def _parsed(path: Path, with_shapes: bool) -> dict[str, list]:
    try:
        text = path.read_bytes()
        content = json.loads(text if with_shapes else without_shapes(text))
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror}); make it a readable file") from None
    except (ValueError, RecursionError) as error:
        reason = getattr(error, "msg", str(error))  # without the place, which is not that in the file
        raise UserError(f"{path}: no JSON, or cut off ({reason}); fetch or export it again") from None
    lists = content if isinstance(content, dict) else {}
    missing = [name for name in FIELDS if not isinstance(lists.get(name), list)]
    if missing:
        found = f"no list {' and no list '.join(missing)} in it"
        raise UserError(f"{path}: {found}; give the JSON file of the instances, {EXAMPLE}")
    return lists


def _misfits(path: Path, content: dict[str, list]) -> Iterator[str]:
    for name, fields in FIELDS.items():
        for number, entry in enumerate(content[name]):
            lacking = _lacking(entry, fields)
            if lacking:
                remedy = f"write the file {EXAMPLE} is written"
                yield f"{path}: {name}[{number}] has no {', '.join(lacking)} that is right; {remedy}"


def _lacking(entry: Any, fields: dict[str, Any]) -> list[str]:
    """Fields that an entry does not have, or with a value that is none."""
    if not isinstance(entry, dict):
        return list(fields)
    return [name for name, kind in fields.items() if not _is_right(entry.get(name), kind)]


def _is_right(value: Any, kind: Any) -> bool:
    if isinstance(value, str):
        return isinstance(value, kind) and value.isprintable() and value.strip("/.") != ""
    return isinstance(value, kind)


def _picture(entry: dict[str, Any], prefix: str) -> Picture:
    name = str(PurePosixPath(entry["file_name"].replace("\\", "/")))
    return Picture(entry["id"], name, prefix + photo_id(name), entry["width"], entry["height"])


def _twice(path: Path, content: dict[str, list]) -> Iterator[str]:
    for name, key in (("images", "id"), ("images", "file_name"), ("categories", "id")):
        for value, count in Counter(entry[key] for entry in content[name]).items():
            if count > 1:
                yield f"{path}: {name} with the {key} {value!r} stand {count} times; keep one"


def _name_problems(part: Part, pictures: Iterable[Picture]) -> list[str]:
    """What is wrong with the pictures' names, each of them looked at once."""
    photos = [Photo(name, photo_id(name), ()) for name in dict.fromkeys(picture.name for picture in pictures)]
    names = [photo.name for photo in photos]
    outside = [name for name in names if name.startswith("/") or ".." in name.split("/")]
    remedy = "write it relative to that folder"
    problems = [
        f"{part.instances}: the file_name {name!r} leaves {part.images}; {remedy}" for name in outside
    ]
    return problems + bad_names(names, part.images) + same_ids(photos, part.images)
