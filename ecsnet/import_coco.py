"""Stage `import_coco`: a data set in MS COCO's layout, laid out as VOC's, which all other stages read."""

import warnings
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

import pandas as pd

from .errors import UserError, raise_problems
from .import_folder import COLUMNS, Row, link_to, placed, write_annotation, write_lists
from .instances import Instances, Part, Picture, class_values, part_of, read_instances
from .pictures import PictureError, decode_photograph, header_size, read_content
from .settings import Dataset
from .store import fingerprint, remove_leftovers, write_text
from .threads import mapped


def run(settings: Dataset, *, part: str, root: Path, out: Path, threads: int = 1) -> None:
    """Write a part of the data set under `root`: links to its pictures, tags and the list of them.

    A picture's tags are the classes of its instances. Crowds count as any other instance where
    `dataset.difficult` is set, which is the field's custom, and not at all else; categories that are none of
    the classes never do. Training pictures without a tag are left out, as there is nothing to learn from
    them; validation pictures are all kept, for what is predicted on them is scored.

    Args:
        settings: of kind coco, with the classes.
        part: train or val.
        root: folder of the data set as it is laid out, of this workflow alone.
        out: table of the part's pictures as CSV: image (file_name), id, width and height in pixels, labels,
            and a digest of the picture.
        threads: pictures worked on at the same time.

    Raises:
        UserError: with a line for each mistake in the JSON, a class that it does not have, or a picture that
            is missing, unreadable or of another size than the JSON says.
    """
    warnings.filterwarnings("ignore", module="PIL")  # of metadata, without the picture's name
    source = part_of(settings, part)
    own, labels, left = tagged(settings, part)
    _refuse_elsewhere(own, source)
    with ThreadPoolExecutor(threads) as pool:
        results = list(mapped(pool, partial(_try_import, source, root, labels), own))
    raise_problems([one for one in results if isinstance(one, str)], "Some pictures cannot be used:")
    for folder in ("JPEGImages", "Annotations"):
        remove_leftovers(root / folder)
    write_lists(root, {part: [picture.id for picture in own]})
    write_text(out, pd.DataFrame(results, columns=COLUMNS).to_csv(index=False, lineterminator="\n"))
    print(f"import_coco: {part}, {len(own)} pictures; left out for want of an instance: {left}")


def tagged(settings: Dataset, part: str) -> tuple[list[Picture], dict[int | str, tuple[str, ...]], int]:
    """A part's pictures, the labels of each by its key, and how many are left out for want of one.

    Raises:
        UserError: with a line for each mistake in the JSON, or a class that it does not have.
    """
    source = part_of(settings, part)
    instances = read_instances(source, with_shapes=False)
    labels = _labels(source, instances, settings)
    own = [picture for picture in instances.pictures if labels[picture.key] or part == "val"]
    return own, labels, len(instances.pictures) - len(own)


def _labels(source: Part, instances: Instances, settings: Dataset) -> dict[int | str, tuple[str, ...]]:
    """The classes in each picture, in their order, by its key."""
    values = class_values(source, instances, settings.classes)
    labels = {}
    for key, annotations in instances.annotations.items():
        counted = [one for one in annotations if settings.difficult or not one.get("iscrowd")]
        found = {values.get(one["category_id"]) for one in counted}
        labels[key] = tuple(name for value, name in enumerate(settings.classes, 1) if value in found)
    return labels


def _refuse_elsewhere(pictures: list[Picture], source: Part) -> None:
    """Refuse a wrong folder, or file, in one line rather than with one for each picture."""
    if not pictures:
        problem = "no picture in it has an instance of dataset.classes"
        raise UserError(f"{source.instances}: {problem}; without tags there is nothing to learn")
    if not any(Path(source.images, picture.name).exists() for picture in pictures):
        found = f"none of its {len(pictures)} pictures ({pictures[0].name} is one) is in {source.images}"
        raise UserError(f"{source.instances}: {found}; give a folder and a JSON file that belong together")


def mistakes_of_headers(settings: Dataset, part: str, pictures: list[Picture], threads: int) -> list[str]:
    """What `run` would refuse, as far as it shows without decoding a picture: missing, or of another size."""
    source = part_of(settings, part)
    try:
        _refuse_elsewhere(pictures, source)
    except UserError as error:
        return [str(error)]
    with ThreadPoolExecutor(threads) as pool:
        return [one for one in mapped(pool, partial(_mistake_of_header, source), pictures) if one]


def _mistake_of_header(source: Part, picture: Picture) -> str:
    path = Path(source.images, picture.name)
    try:
        size = header_size(path)
    except FileNotFoundError:
        return _missing(picture, source)
    except PictureError as error:
        return f"{path}: {error}, or take it out of {source.instances}"
    return "" if size == (picture.width, picture.height) else _other_size(path, size, picture, source)


def _missing(picture: Picture, source: Part) -> str:
    remedy = "add the picture, or take it out of the JSON"
    return f"{source.instances}: {picture.name} is not in {source.images}; {remedy}"


def _try_import(
    source: Part, root: Path, labels: dict[int | str, tuple[str, ...]], picture: Picture
) -> Row | str:
    """The picture's row in the table, or what is wrong with it."""
    path = Path(source.images, picture.name)
    try:
        content = read_content(path)
        decoded = decode_photograph(content)
    except FileNotFoundError:
        return _missing(picture, source)
    except PictureError as error:
        return f"{path}: {error}, or take it out of {source.instances}"
    if decoded.size != (picture.width, picture.height):
        return _other_size(path, decoded.size, picture, source)
    write_annotation(root, picture.id, labels[picture.key])
    ending = ".png" if decoded.format == "PNG" else ".jpg"  # several in one file are MPO
    with placed(root, picture.id, ending) as (target, temporary):
        temporary.symlink_to(link_to(source.images, picture.name, target.parent))
    joined = ";".join(labels[picture.key])
    return picture.name, picture.id, picture.width, picture.height, joined, fingerprint(content)


def _other_size(path: Path, size: tuple[int, int], picture: Picture, source: Part) -> str:
    wanted = (picture.width, picture.height)
    remedy = "correct the one or the other"
    if size == wanted[::-1]:
        remedy = "if it is turned by EXIF, save it upright"
    found, said = (f"{width}×{height}" for width, height in (size, wanted))
    return f"{path}: has {found} pixels, but {source.instances} says {said}; {remedy}"
