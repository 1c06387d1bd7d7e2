"""Stage `submission`: predictions of the test images, packed as VOC's evaluation server wants them.

The archive is read back before it has its name: what the server would refuse, or score as something else, is
better known here.
"""

import posixpath
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from .archives import kept_files
from .errors import raise_problems
from .packing import pack
from .palette import voc_palette
from .pictures import PictureError, decode
from .settings import VOC_CLASSES, Submission
from .store import atomic_path
from .tables import LabelTable, read_classes, read_images
from .testset import SERVER

TEST = 1456
"""Images of VOC 2012's list test."""
Size = tuple[int, int]
"""Width and height in pixels."""


def run(settings: Submission, *, images: Path, classes: Path, predictions: Path, out: Path) -> None:
    """Write the archive `out`, results/VOC2012/Segmentation/<competition>_test_cls/<id>.png in a tar.gz.

    The same predictions give the same bytes.

    Args:
        settings: which competition.
        images: table of the test images.
        classes: the class names, which should be VOC's.
        predictions: label table of all of them, its paths relative to its own folder.
        out: the archive.

    Raises:
        UserError: a prediction is missing or damaged, or the archive is not as it has to be (see `check`).
    """
    names = read_classes(classes)
    sizes = {record.id: (record.width, record.height) for record in read_images(images, names)}
    labels = LabelTable(predictions, predictions.parent)
    missing = [f"{image_id}: has no prediction" for image_id in sizes if image_id not in labels]
    raise_problems(missing, f"{predictions} is not of the test images; delete it, and run snakemake again:")
    folder = f"results/VOC2012/Segmentation/{settings.competition}_test_cls"
    files = ((f"{folder}/{image_id}.png", labels.content(image_id)) for image_id in sorted(sizes))
    with atomic_path(out) as temporary:
        pack(temporary, files)
        check(temporary, folder, sizes, len(names))
    if names != VOC_CLASSES:
        print(
            "warning: the classes are not VOC's in VOC's order; its server takes each value for one of VOC's"
        )
    if (settings.test_list, len(sizes)) != ("test", TEST):
        which = f"{len(sizes):,} images of {settings.test_list}"
        print(f"warning: VOC's server scores the {TEST:,} images of its list test; these are {which}")
    print(f"submission: {len(sizes):,} predictions in {out}, read back and found right")
    print(f"submission: upload it at {SERVER} as {settings.competition} of VOC2012's segmentation challenge")


def check(archive: Path, folder: str, sizes: dict[str, Size], classes: int) -> None:
    """Read an archive back.

    Args:
        folder: where its files have to be.
        sizes: size of each image, by id.
        classes: their number, without background.

    Raises:
        UserError: with a line for each file that is missing, not asked for, elsewhere, there twice, no PNG
            with VOC's palette, of another size than its picture, or with a value that is no class; or the
            archive is damaged.
    """
    wanted = {f"{folder}/{image_id}.png": size for image_id, size in sizes.items()}
    seen: set[str] = set()
    problems = []
    for name, blocks in kept_files(archive, lambda name: name):
        content = b"".join(blocks)
        if name in seen:
            problems.append(f"{name} is there twice")
        elif name not in wanted:
            problems.append(_stray(name, wanted))
        else:
            problems += [f"{name} {mistake}" for mistake in _mistakes(content, wanted[name], classes)]
        seen.add(name)
    problems += [f"{name} is missing" for name in wanted if name not in seen]
    raise_problems(problems, "VOC's server would not take the archive as it was read back:")


def _stray(name: str, wanted: dict[str, Size]) -> str:
    alike = [right for right in wanted if posixpath.basename(right) == posixpath.basename(name)]
    return f"{name} should be {alike[0]}" if alike else f"{name} is of no image on the list"


def _mistakes(content: bytes, size: Size, classes: int) -> Iterator[str]:
    """What is wrong with a label image's bytes."""
    try:
        picture = decode(content, ("PNG",))
    except PictureError as error:
        yield error.problem
        return
    if picture.mode != "P":
        yield f"has the pixel format {picture.mode}, without a palette"
    elif picture.getpalette() != voc_palette():
        yield "has another palette than VOC's"
    if picture.size != size:
        shown = [f"{width}×{height}" for width, height in (picture.size, size)]
        yield f"has {shown[0]} pixels, but its picture has {shown[1]}"
    if picture.mode in ("P", "L"):
        values = np.unique(np.asarray(picture))
        if values[-1] > classes:
            yield f"has the value {values[-1]}, but {classes} is the last class"
