"""Data sets in VOC's layout: id lists, image tags, and where the pictures are.

Imports nothing heavy: the Snakefile needs it for `contents`. Masks are no business of this module, but
for `mask_name`.
"""

import difflib
import os
import re
import stat
import unicodedata
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from xml.etree import ElementTree

from .errors import UserError, raise_problems
from .settings import Dataset

PICTURE_ENDINGS = (".jpg", ".jpeg", ".png")
PATH_IN_LIST = re.compile(r"/?JPEGImages/([^/\\]+)\.(?:jpg|jpeg|png)", re.IGNORECASE)
TRAINAUG = (
    "`snakemake download --cores 1`, with the run's --configfile, makes trainaug of VOC's archive and SBD's; "
    "without them, give the path of train_aug.txt of DeepLab, PSA or SEAM, which is the same"
)
"""What makes the list that most are asked for and VOC does not have."""
FLAGS = ("1", "-1", "0")
"""Second column of a list in ImageSets/Main: present, absent, present but difficult."""
MAX_ID_BYTES = 200
"""File systems take names of 255 bytes; endings and temporary names need some of them."""


@dataclass(frozen=True)
class Problem:
    """One thing wrong with a data set: where (file, line or key), what, and the remedy."""

    where: str
    problem: str
    remedy: str
    severity: str = "error"

    def __str__(self) -> str:
        return f"{self.where}: {self.problem}; {self.remedy}"


class DataError(UserError):
    """A `UserError` about one file; its parts are in `problem`, for a table of problems."""

    def __init__(self, where: Path, problem: str, remedy: str) -> None:
        self.problem = Problem(str(where), problem, remedy)
        super().__init__(str(self.problem))


def list_path(root: Path, name: str) -> Path:
    """File of an id list: `name` is a list in ImageSets/Segmentation, or a path with '/' or .txt."""
    if "/" in name or name.endswith(".txt"):
        return Path(name)
    return root / "ImageSets" / "Segmentation" / f"{name}.txt"


def mask_name(masks: str, image_id: str) -> str:
    """Path, relative to the data root, of an image's mask in the folder `masks`."""
    return f"{masks}/{image_id}.png"


def read_list(root: Path, name: str) -> list[str]:
    """Image ids of a list, in its order (see `list_path` for `name`).

    One id a line. Blank lines, a byte order mark and Windows line ends are fine, and so is a
    second column of 1, -1 or 0 as in ImageSets/Main, which is ignored: the list names images.
    So are lines /JPEGImages/<id>.jpg /<folder>/<id>.png, as in DeepLab's and PSA's train_aug.txt; which masks
    count is said by the settings.

    Raises:
        UserError: with one line for each problem: no such file, no id in it, a duplicate id, an
            id that cannot be a file name.
    """
    problems: list[Problem] = []
    ids = scan_list(root, name, problems)
    raise_problems([str(problem) for problem in problems], f"The image list {name} has mistakes:")
    return ids


def scan_list(root: Path, name: str, problems: list[Problem]) -> list[str]:
    """The good ids of a list, each once, as `read_list`; what is wrong is added to `problems`."""
    path = list_path(root, name)
    first_line: dict[str, int] = {}
    try:
        text = _read_text(path, "list", _list_remedy(root, name))
    except DataError as error:
        problems.append(error.problem)
        return []
    found = False
    for number, line, columns in rows(text):
        found = True
        image_id = columns[0]
        mistake = _id_mistake(image_id) or _column_mistake(line, columns)
        if not mistake and image_id in first_line:
            mistake = f"{image_id} stands on line {first_line[image_id]} already", "keep one of the two"
        if mistake:
            problems.append(Problem(f"{path}:{number}", *mistake))
        else:
            first_line[image_id] = number
    if not found:
        problems.append(Problem(str(path), "holds no image id", "write one id a line"))
    return list(first_line)


def _list_remedy(root: Path, name: str) -> str:
    known = sorted(path.stem for path in (root / "ImageSets" / "Segmentation").glob("*.txt"))
    names = f" ({', '.join(known)})" if known else ""
    made = f"; {TRAINAUG}" if name == "trainaug" else ""
    return f"give the name of a list in ImageSets/Segmentation{names} or the path of a .txt file{made}"


def rows(text: str) -> Iterator[tuple[int, str, list[str]]]:
    """Line number from 1, line and columns of each line that is not blank."""
    # not splitlines: it also cuts at form feeds and the like
    lines = text.replace("\r\n", "\n").replace("\r", "\n").split("\n")
    for number, line in enumerate(lines, 1):
        columns = line.split()
        if columns:
            yield number, line.strip(), _plain(columns)


def _plain(columns: list[str]) -> list[str]:
    """The id alone, of the paths of a picture and its mask that DeepLab's and PSA's lists have on a line."""
    picture = PATH_IN_LIST.fullmatch(columns[0])
    if picture and (len(columns) == 1 or (len(columns) == 2 and columns[1].endswith(f"/{picture[1]}.png"))):
        return [picture[1]]
    return columns


def _id_mistake(image_id: str) -> tuple[str, str] | None:
    """Problem and remedy of an id that cannot be a file name, here or in the results."""
    shown = _short(image_id)
    if "/" in image_id or "\\" in image_id:
        return f"{shown} is a path", "write the picture's name alone, without folder and ending"
    if image_id.startswith("."):
        return f"{shown} starts with a dot", "rename the picture"
    if image_id.lower().endswith(PICTURE_ENDINGS):
        return f"{shown} has a picture's ending", "write it without"
    if not image_id.isprintable():
        return f"{shown} has an unprintable character", "save the list as plain UTF-8 text"
    size = len(image_id.encode())
    if size > MAX_ID_BYTES:
        return f"{shown} is {size} bytes long", f"rename the picture; {MAX_ID_BYTES} are the most"
    return None


def _column_mistake(line: str, columns: list[str]) -> tuple[str, str] | None:
    if len(columns) == 1 or (len(columns) == 2 and columns[1] in FLAGS):
        return None
    return f"{_short(line)} is more than one id", "write one id a line; an id has no spaces"


def _short(text: str) -> str:
    return repr(text if len(text) <= 60 else text[:59] + "…")


def find_pictures(root: Path) -> dict[str, list[str]]:
    """File names in JPEGImages by image id; usually one for each id. Empty without the folder."""
    pictures: dict[str, list[str]] = {}
    for image_id, entry in scan(root / "JPEGImages", PICTURE_ENDINGS):
        if entry.is_file():
            pictures.setdefault(image_id, []).append(entry.name)
    return {image_id: sorted(names) for image_id, names in pictures.items()}


def folded(image_id: str) -> str:
    """The same text for ids that some file system or person takes for one: case and Unicode form aside."""
    return unicodedata.normalize("NFC", image_id).casefold()


def scan(folder: Path, endings: tuple[str, ...]) -> Iterator[tuple[str, os.DirEntry[str]]]:
    """Id and entry of each file with one of the endings in a folder; nothing where it cannot be read."""
    try:
        with os.scandir(folder) as entries:
            for entry in entries:
                stem, ending = os.path.splitext(entry.name)
                if ending.lower() in endings:
                    yield stem, entry
    except (OSError, ValueError):  # ValueError: a zero byte in the name
        return


def tag_source(settings: Dataset) -> str:
    """annotations or main: where the tags of this data set are read from."""
    if settings.tags != "auto":
        return settings.tags
    return "annotations" if os.path.isdir(Path(settings.root) / "Annotations") else "main"


def read_tags(settings: Dataset, ids: Iterable[str], problems: list[Problem]) -> dict[str, tuple[int, ...]]:
    """Class indices of each image, ascending, from 1; images without tags are left out.

    What is wrong is added to `problems`: a source that is missing or unreadable, an unknown class,
    an image without tags. Tags that can be read are returned all the same.
    """
    root = Path(settings.root)
    if tag_source(settings) == "main":
        return _tags_from_main(settings, ids, problems)
    folder = root / "Annotations"
    if not folder.is_dir():
        problems.append(Problem(str(folder), "no such folder", "set dataset.tags to main, or put it there"))
        return {}
    index = {name: number for number, name in enumerate(settings.classes, 1)}
    tags = {}
    for image_id in ids:
        try:
            objects = read_annotation(folder / f"{image_id}.xml")
        except DataError as error:
            problems.append(error.problem)
            continue
        names = {name for name, difficult in objects if settings.difficult or not difficult}
        _check_names(folder / f"{image_id}.xml", names, len(objects), settings.classes, problems)
        present = sorted(index[name] for name in names if name in index)
        if present:
            tags[image_id] = tuple(present)
    return tags


def read_annotation(path: Path) -> list[tuple[str, bool]]:
    """Objects of an annotation: class name, and whether it is marked difficult.

    Parts of an object (a person's head) have names of their own and do not count.

    Raises:
        UserError: no such file, broken XML, a document type (entities can blow a file up or pull
            others in; VOC has none), another root than <annotation>, an object without a name.
    """
    text = _read_text(
        path, "annotation", "add it, take the id off the list, or read the tags from ImageSets/Main"
    )
    # the very text that is searched is parsed, so no encoding can hide a declaration
    if "<!DOCTYPE" in text or "<!ENTITY" in text:
        raise DataError(path, "declares a document type or entities", "delete the declaration")
    try:
        tree = ElementTree.fromstring(text)
    except ElementTree.ParseError as error:
        raise DataError(path, f"broken XML ({error})", "repair or replace the file") from None
    if tree.tag != "annotation":
        raise DataError(path, f"its root is <{tree.tag}>", "a VOC annotation starts with <annotation>")
    objects = [
        ((item.findtext("name") or "").strip(), (item.findtext("difficult") or "").strip() == "1")
        for item in tree.findall("object")
    ]
    if not all(name for name, _ in objects):
        raise DataError(path, "has an object without a name", "give it the name of its class")
    return objects


def _check_names(
    path: Path, names: set[str], objects: int, classes: tuple[str, ...], problems: list[Problem]
) -> None:
    for name in sorted(names.difference(classes)):
        near = difflib.get_close_matches(name, classes, 1, 0.6)
        remedy = f"did you mean {near[0]}?" if near else "correct it, or add it to dataset.classes"
        problems.append(Problem(str(path), f"unknown class {_short(name)}", remedy))
    if not objects:
        remedy = "add one, or take the id off the list"
        problems.append(Problem(str(path), "image without tags: no object", remedy))
    elif not names:
        remedy = "set dataset.difficult: true, or take the id off the list"
        problems.append(Problem(str(path), "image without tags: all its objects are difficult", remedy))


def _tags_from_main(
    settings: Dataset, ids: Iterable[str], problems: list[Problem]
) -> dict[str, tuple[int, ...]]:
    folder = Path(settings.root) / "ImageSets" / "Main"
    if not folder.is_dir():
        remedy = "tags come from there or from Annotations; put one of them there"
        problems.append(Problem(str(folder), "no such folder", remedy))
        return {}
    present = set(FLAGS) - {"-1"} if settings.difficult else {"1"}
    tags: dict[str, dict[int, None]] = {}
    before = len(problems)
    for index, name in enumerate(settings.classes, 1):
        for image_id, flag in _read_main_list(folder / f"{name}_trainval.txt", problems):
            if flag in present:
                tags.setdefault(image_id, {})[index] = None
    missing = [image_id for image_id in ids if image_id not in tags]
    if len(problems) == before:  # else the missing ones follow from what is reported already
        remedy = "add its classes there (1, or 0 with dataset.difficult), or take the id off the list"
        problems += [Problem(str(folder), f"image {image_id} without tags", remedy) for image_id in missing]
    return {image_id: tuple(tags[image_id]) for image_id in ids if image_id in tags}


def _read_main_list(path: Path, problems: list[Problem]) -> list[tuple[str, str]]:
    """Ids and flags of one class; one problem for the whole file if lines of it are malformed."""
    try:
        text = _read_text(path, "list", "put it there, or correct dataset.classes")
    except DataError as error:
        problems.append(error.problem)
        return []
    found = list(rows(text))
    bad = [row for row in found if len(row[2]) != 2 or row[2][1] not in FLAGS]
    if bad:
        number, line, _ = bad[0]
        problem = f"{_short(line)} ({len(bad)} such lines)"
        problems.append(Problem(f"{path}:{number}", problem, "write an id and 1, -1 or 0 on each line"))
    return [(columns[0], columns[1]) for _, _, columns in found if len(columns) == 2]


def _read_text(path: Path, what: str, remedy: str) -> str:
    try:
        if not stat.S_ISREG(path.stat().st_mode):  # a pipe would be waited for without end
            raise DataError(path, f"is no file, but a folder or a device; a {what} is wanted here", remedy)
        return path.read_bytes().decode("utf-8-sig")
    except FileNotFoundError:
        raise DataError(path, f"no such {what}", remedy) from None
    except UnicodeDecodeError:
        raise DataError(path, "is not UTF-8 text", "save it as UTF-8") from None
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise DataError(path, f"cannot be read ({reason})", "make it a readable file") from None
