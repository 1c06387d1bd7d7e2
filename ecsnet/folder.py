"""A data set of one's own: a folder of photographs and a CSV file with their tags.

Imports nothing heavy: the Snakefile reads the file before any job starts, because it names the classes.
"""

import contextlib
import dataclasses
import hashlib
import importlib.util
import os
import re
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from PIL import features

from .errors import UserError, raise_problems
from .settings import TAGS, VOC_CLASSES, Config, Dataset, changed_settings, class_checks
from .tagfile import absent, read_labels, same_form
from .voc import MAX_ID_BYTES, folded

HEIF = (".heic", ".heif", ".hif")
BUILT_IN = {"AVIF": (".avif",), "JPEG2000": (".jp2", ".j2k", ".j2c", ".jpc", ".jpf", ".jpx"), "HEIF": HEIF}
"""Of formats that Pillow reads where it was built with a library, or where pillow-heif is."""
BUILT = tuple(
    name
    for name, there in (
        ("AVIF", features.check("avif")),
        ("JPEG2000", features.check("jpg_2000")),
        ("HEIF", importlib.util.find_spec("pillow_heif") is not None),
    )
    if there
)
"""Those that it reads here."""
ENDINGS = (
    *(".jpg", ".jpeg", ".jfif", ".png", ".webp", ".bmp", ".tif", ".tiff", ".gif"),
    *(ending for name in BUILT for ending in BUILT_IN[name]),
)
"""Of photographs; all but JPEG and PNG are converted."""
UNREADABLE = (
    *(".jxl", ".dng", ".cr2", ".cr3", ".crw", ".nef", ".nrw", ".arw", ".sr2", ".srf", ".raf", ".orf"),
    *(".rw2", ".rwl", ".pef", ".srw", ".3fr", ".iiq", ".x3f"),
    *(ending for name in BUILT_IN if name not in BUILT for ending in BUILT_IN[name]),
)
"""Of photographs that are told, not passed over."""
PARTS = ("train", "val", "rest")
"""What is learned from, what is held back, and what nobody has tagged."""
OURS = ("results", "resources", "logs", ".snakemake")
"""Folders of the workflow, in which no photograph of one's own is looked for."""
LISTS = Path("ImageSets") / "Segmentation"
"""Where the lists are, in the data set as it is laid out."""
MASKS = "SegmentationClass"
"""Folder of the true masks in the data set as it is laid out."""


@dataclass(frozen=True)
class Photo:
    """One photograph.

    Attributes:
        name: path relative to the folder of pictures, with slashes.
        id: what it is called in the tables: the name without ending, fit for a list.
        labels: names of the classes in it; empty if nobody said.
        mask: path of its true mask, relative to the folder of masks; empty without one.
    """

    name: str
    id: str
    labels: tuple[str, ...]
    mask: str = ""


def resolved(config: Config) -> tuple[Config, list[Photo]]:
    """The configuration with what follows from a data set of kind folder, and its photographs.

    Any other is returned as it is.

    Classes are read from the tags where VOC's own, the default, stand in the configuration and there are no
    masks, whose values only their user can name. import_folder lays the data set out as VOC's.

    Raises:
        UserError: the tags, the pictures or the masks are not there, or have mistakes.
    """
    dataset = config.dataset
    if dataset.kind != "folder":
        return config, []
    dataset = _at_home(dataset)
    _refuse_keys_of_voc(config)
    photos = read_photos(dataset)
    _refuse_unordered_classes(photos, dataset)
    parts = split(photos, dataset)
    _refuse_empty(parts, dataset)
    masked = {photo.id for photo in photos if photo.mask}
    train, val = (MASKS if masked.intersection(parts[name]) else None for name in ("train", "val"))
    bound = MASKS if masked.issuperset(parts["train"]) else None
    if config.supervised.enabled and bound is None:
        count = len(masked.intersection(parts["train"]))
        found = f"of {len(parts['train'])} pictures to learn from, {count} have a mask in dataset.masks"
        raise UserError(f"supervised.enabled: {found}; set it to false, or draw the others")
    config = dataclasses.replace(
        config,
        dataset=dataclasses.replace(dataset, classes=classes_of(photos, dataset)),
        score=dataclasses.replace(config.score, train_list="train_masked", train_masks=train, val_masks=val),
        supervised=dataclasses.replace(config.supervised, masks=bound),
    )
    return config, photos


def _at_home(dataset: Dataset) -> Dataset:
    """With the user's folder for ~, which no shell replaces in a configuration."""
    paths = {"images": dataset.images, "tags": dataset.tags, "masks": dataset.masks}
    whole = {key: os.path.expanduser(path) for key, path in paths.items() if path}
    return dataclasses.replace(dataset, **whole)  # type: ignore[arg-type]


def _refuse_keys_of_voc(config: Config) -> None:
    """Keys that name VOC's lists and folders must not be thought to count here."""
    masks = _given(config, "score.train_list", "score.train_masks", "score.val_masks", "supervised.masks")
    why = "of kind folder all true masks are those in dataset.masks, and what has none is not scored"
    problems = [f"{', '.join(masks)}: {why}; take the keys out"] if masks else []
    places = _given(config, "dataset.root", "dataset.train_list")
    why = "of kind folder pictures are those in dataset.images, and those in dataset.tags are learned from"
    problems += [f"{', '.join(places)}: {why}; take the keys out"] if places else []
    if problems:
        raise UserError("\n".join(problems))


def _given(config: Config, *keys: str) -> list[str]:
    """Which of the keys are not the default."""
    changed = changed_settings(config)
    return [key for key in keys if key in changed]


def classes_of(photos: Iterable[Photo], dataset: Dataset) -> tuple[str, ...]:
    """The classes that are given, else those of the tags, sorted."""
    if dataset.masks or dataset.classes != tuple(VOC_CLASSES):
        return dataset.classes
    return tuple(sorted({label for photo in photos for label in photo.labels}))


def _refuse_unordered_classes(photos: Iterable[Photo], dataset: Dataset) -> None:
    """VOC's classes, the default, must not be taken for those of masks that were drawn for other tags."""
    labels = sorted({label for photo in photos for label in photo.labels})
    unsaid = dataset.masks and dataset.classes == tuple(VOC_CLASSES) and set(labels) != set(VOC_CLASSES)
    if unsaid and not _any_value_above(len(labels), photos, dataset):
        raise UserError(
            "dataset.masks: needs dataset.classes, as only you know what their values 1, 2, … stand for; "
            f"if these are in the order of the alphabet, write classes: [{', '.join(labels)}]"
        )


def _any_value_above(most: int, photos: Iterable[Photo], dataset: Dataset) -> bool:
    """Whether a mask has a class's number above `most`: then they may well be VOC's own numbers."""
    from .palette import read_mask  # nobody else here needs numpy

    for photo in photos:
        with contextlib.suppress(UserError):  # told when the masks are checked
            mask = read_mask(Path(str(dataset.masks), photo.mask)) if photo.mask else None
            if mask is not None and ((mask > most) & (mask < 255)).any():
                return True
    return False


def _refuse_empty(parts: dict[str, list[str]], dataset: Dataset) -> None:
    if not parts["train"] and not parts["val"]:
        raise UserError(f"{dataset.tags}: no picture has a label; without tags there is nothing to learn")
    if not parts["val"]:
        why = "each tagged picture is the last one of a class"
        remedy = "tag more, or name some pictures, tagged or not, in a text file as dataset.val_list"
        raise UserError(f"{dataset.tags}: nothing can be held back: {why}; {remedy}")
    if not parts["train"]:
        raise UserError(f"{dataset.val_list}: every tagged picture is held back; leave some to learn from")


def laid_out(dataset: Dataset, run: str) -> Dataset:
    """The data set as import_folder or import_coco leaves it, in VOC's layout; any other kind stays."""
    if dataset.kind not in ("folder", "coco"):
        return dataset
    return dataclasses.replace(
        dataset,
        kind="voc",
        root=f"resources/{dataset.kind}/{run}",
        train_list="train",
        val_list="val",
        tags="annotations",
        images=None,
        val_images=None,
        masks=None,
    )


def read_photos(dataset: Dataset) -> list[Photo]:
    """Every photograph of the folder, by name, with its labels and mask.

    Raises:
        UserError: with a line for each mistake.
    """
    if dataset.images is None or dataset.tags in TAGS:
        raise UserError(
            "dataset: kind folder needs images, the folder with the photographs, and tags, a CSV file with "
            "the columns image,labels; see config/folder.yaml"
        )
    photos, found = _scan(dataset.images, dataset.tags, dataset.masks, dataset.classes)
    problems = [*found, *_class_problems(photos, dataset)]
    raise_problems(problems, "The photographs, their tags or their masks have mistakes:")
    return list(photos)


def _scan(
    images: str, tags: str, masks: str | None, classes: tuple[str, ...]
) -> tuple[tuple[Photo, ...], tuple[str, ...]]:
    """The photographs, and what is wrong with them."""
    problems: list[str] = []
    labels = read_labels(Path(tags), problems, classes)
    for key, folder in (("images", images), ("masks", masks)):
        if folder is not None and not os.path.isdir(folder):
            problems.append(f"dataset.{key}: there is no folder {folder} (relative to where snakemake runs)")
    if problems and not os.path.isdir(images):
        return (), tuple(problems)
    problems += _within(images, masks)
    names = sorted(without_twins(found_names(Path(images), ENDINGS + UNREADABLE)))
    problems += [
        f"{images}/{name}: cannot be read; {readable_by(name)}, or move it out of the folder"
        for name in names
        if name.lower().endswith(UNREADABLE)
    ]
    if not names:
        problems.append(f"{images}: no picture ({', '.join(ENDINGS)}) in it; correct dataset.images")
    problems += absent(labels, names, Path(tags), Path(images)) + bad_names(names, images)
    drawn = _by_stem(found_names(Path(masks), (".png",))) if masks else {}
    photos = tuple(
        Photo(name, photo_id(name), labels.get(same_form(name), ()), drawn.pop(_stem(name), ""))
        for name in names
    )
    problems += [
        f"{masks}/{mask}: belongs to no picture; for a/b.jpg it is a/b.png" for mask in drawn.values()
    ]
    return photos, tuple(problems + same_ids(photos, images))


def found_names(folder: Path, endings: tuple[str, ...]) -> Iterator[str]:
    """Paths, relative to a folder and with slashes, of the files below it with one of the endings.

    Hidden files and folders are left out, and those of systems that keep small copies of pictures.
    """
    seen: set[tuple[int, int]] = set()
    for place, folders, files in os.walk(folder, followlinks=True):
        status = os.stat(place)
        if (status.st_dev, status.st_ino) in seen:  # by a link to a folder above it
            folders.clear()
            continue
        seen.add((status.st_dev, status.st_ino))
        folders[:] = [name for name in folders if not name.startswith((".", "@", "__MACOSX"))]
        for name in files:
            if not name.startswith(".") and name.lower().endswith(endings):
                yield Path(place, name).relative_to(folder).as_posix()


def readable_by(name: str) -> str:
    """What makes a picture readable whose ending is one of `UNREADABLE`."""
    convert = "convert it to JPEG"
    return f"pip install pillow-heif, or {convert}" if name.lower().endswith(HEIF) else convert


def without_twins(names: Iterable[str]) -> list[str]:
    """Names without those of the same picture in a format that is harder to read.

    Cameras write pairs of a raw picture and a JPEG, telephones of HEIC and JPEG, alike but for the ending.
    """

    def rank(name: str) -> int:
        ending = name.lower()
        return 2 if ending.endswith(UNREADABLE) else 1 if ending.endswith(HEIF) else 0

    names, best = list(names), dict[str, int]()
    for name in names:
        best[_stem(name)] = min(rank(name), best.get(_stem(name), 2))
    return [name for name in names if rank(name) in (0, best[_stem(name)])]


def photo_id(name: str) -> str:
    """A picture's name without ending, with _ for slashes and spaces, fit for a list.

    Where other signs had to go, some digits of a digest tell names apart that would be the same.
    """
    stem = str(PurePosixPath(name).with_suffix(""))
    plain = re.sub(r"[^\w.+/ -]", "_", stem)
    digits = "" if plain == stem else f"_{_draw(name).hex()[:6]}"
    plain = re.sub(r"[/ ]", "_", plain)
    return re.sub(r"\.(?=jpe?g$|png$)", "_", plain, flags=re.IGNORECASE) + digits  # a list holds no endings


def _stem(name: str) -> str:
    return folded(str(PurePosixPath(name).with_suffix("")))


def _by_stem(names: Iterable[str]) -> dict[str, str]:
    return {_stem(name): name for name in sorted(names)}


def _within(images: str, masks: str | None) -> list[str]:
    """Folders of other pictures that lie within that of the photographs."""
    place = os.path.realpath(images)
    others = [folder for folder in (*OURS, *([masks] if masks else [])) if os.path.isdir(folder)]
    return [
        f"dataset.images: {images} holds {folder}, which are no photographs; give these a folder of their own"
        for folder in others
        if os.path.commonpath([place, os.path.realpath(folder)]) == place
    ]


def bad_names(names: list[str], folder: str) -> list[str]:
    """Problems of names that no table or no file system can hold."""
    problems = []
    for name in names:
        if not name.isprintable():  # what is no UTF-8 is none either
            shown = name.encode("utf-8", "backslashreplace").decode()
            problems.append(f"{folder}: {shown!r} has signs that no table can hold; rename it")
        elif max(len(photo_id(name).encode()), len(PurePosixPath(name).name.encode())) > MAX_ID_BYTES:
            problems.append(f"{folder}: the name {name} is too long; {MAX_ID_BYTES} bytes are the most")
    return problems


def same_ids(photos: Iterable[Photo], folder: str) -> list[str]:
    """Problems of photographs that would be called the same, here or where case is not told apart."""
    names: dict[str, list[Photo]] = {}
    for photo in photos:
        names.setdefault(folded(photo.id), []).append(photo)
    problems = []
    for found in names.values():
        if len(found) > 1:
            shown = " and ".join(photo.name for photo in found[:3])
            problems.append(f"{folder}: {shown} would be called the same, {found[0].id}; rename one")
    return problems


def _class_problems(photos: Iterable[Photo], dataset: Dataset) -> list[str]:
    """What is wrong with the labels: as names of classes, or by those that are given."""
    counts = Counter(label for photo in photos for label in photo.labels)
    classes = classes_of(photos, dataset)
    if classes != dataset.classes:
        return class_checks(classes, dataset.tags)
    remedy = "correct it, or add it there"
    if dataset.masks:
        remedy += " (with dataset.masks, the classes stand in the order of the masks' values)"
    return [
        f"{dataset.tags}: {label!r} ({count} pictures) is none of dataset.classes; {remedy}"
        for label, count in sorted(counts.items())
        if label not in classes
    ]


def split(photos: Iterable[Photo], dataset: Dataset) -> dict[str, list[str]]:
    """Ids of each of `PARTS`, and of all, in the photographs' order.

    Held back are the pictures that the text file `dataset.val_list` names, else a share `dataset.val_share`
    of those with labels. Drawn by a digest of the name, so that further pictures move few of the others; and
    none that is the last one of a class. A picture without labels is not learned from.

    Raises:
        UserError: with a line for each mistake in `dataset.val_list`.
    """
    labelled = [photo for photo in photos if photo.labels]
    drawn = dataset.val_list == Dataset().val_list
    held = _drawn(labelled, dataset.val_share) if drawn else _listed(photos, Path(dataset.val_list))
    return {
        "train": [photo.id for photo in labelled if photo.id not in held],
        "val": [photo.id for photo in photos if photo.id in held],
        "rest": [photo.id for photo in photos if photo.id not in held and not photo.labels],
        "all": [photo.id for photo in photos],
    }


def with_masks(photos: Iterable[Photo], dataset: Dataset) -> dict[str, list[str]]:
    """Ids of the pictures learned from and of those held back that have a mask, by the name of their list."""
    masked = {photo.id for photo in photos if photo.mask}
    parts = split(photos, dataset)
    return {f"{part}_masked": [one for one in parts[part] if one in masked] for part in ("train", "val")}


def _drawn(labelled: list[Photo], share: float) -> set[str]:
    wanted = max(1, round(share * len(labelled)))
    left = Counter(label for photo in labelled for label in photo.labels)
    held: set[str] = set()
    for photo in sorted(labelled, key=lambda photo: _draw(photo.name)):
        if len(held) < wanted and all(left[label] > 1 for label in photo.labels):
            left.subtract(photo.labels)
            held.add(photo.id)
    return held


def _draw(name: str) -> bytes:
    return hashlib.blake2b(name.encode("utf-8", "surrogateescape"), digest_size=8).digest()


def _listed(photos: Iterable[Photo], path: Path) -> set[str]:
    """Ids of the pictures that a text file names, one a line, with or without ending."""
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"dataset.val_list: {path} cannot be read ({error}); name a text file") from None
    known = {same_form(photo.name): photo.id for photo in photos}
    known |= {str(PurePosixPath(name).with_suffix("")): image_id for name, image_id in known.items()}
    named = [same_form(line.strip().replace("\\", "/")) for line in lines if line.strip()]
    problems = [f"{path}: {line} is no picture of dataset.images" for line in named if line not in known]
    if not named:
        problems.append(f"{path}: names no picture; write one a line")
    raise_problems(problems, "The validation list has mistakes:")
    return {known[line] for line in named}
