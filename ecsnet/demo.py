"""Stage `demo`: the generated data set of `scenes`, in VOC's layout on disk."""

import json
import re
import xml.etree.ElementTree as ET
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path

from PIL import Image
from scipy import ndimage

from .errors import UserError, raise_problems
from .palette import write_mask
from .scenes import DEMO_CLASSES, SPLITS, Scene, draw_scene
from .settings import Demo
from .store import atomic_path, fingerprint, remove_leftovers, write_text

FOLDERS = {"JPEGImages": ".jpg", "Annotations": ".xml", "SegmentationClass": ".png"}


def run(settings: Demo, *, root: Path, out: Path) -> None:
    """Write the data set under `root`, in place of an earlier one of this generator.

    Images are JPEGImages/demo_<train|val>_<number>.jpg; the lists in ImageSets come after them, so
    that an interrupted run leaves nothing that looks whole. Last comes `out`, the set's stamp: its
    settings and a digest of all pictures, masks and annotations.

    Raises:
        UserError: `root` holds files of another data set.
    """
    counts = {"train": settings.train_images, "val": settings.val_images}
    ids = {
        split: [f"demo_{split}_{number:04d}" for number in range(1, counts[split] + 1)] for split in SPLITS
    }
    _refuse_foreign(root)
    _remove(root, {image_id for names in ids.values() for image_id in names})
    tags = {}
    for split, names in ids.items():
        for index, image_id in enumerate(names):
            scene = draw_scene(settings, split, index)
            _write_image(root, image_id, scene)
            tags[image_id] = set(scene.classes)
    _write_lists(root, ids, tags)
    files = sorted(path for folder, ending in FOLDERS.items() for path in (root / folder).glob(f"*{ending}"))
    content = fingerprint("".join(fingerprint(path.read_bytes()) for path in files).encode())
    write_text(out, json.dumps({"settings": asdict(settings), "content": content}, indent=2) + "\n")


def _list_paths(root: Path) -> Iterator[Path]:
    for folder in ("Segmentation", "Main"):
        for name in (*SPLITS, "trainval"):
            yield root / "ImageSets" / folder / f"{name}.txt"
    for name in DEMO_CLASSES:
        yield root / "ImageSets" / "Main" / f"{name}_trainval.txt"


def _is_ours(image_id: str) -> bool:
    return re.fullmatch(r"demo_(train|val)_\d{4,5}", image_id) is not None


def _refuse_foreign(root: Path) -> None:
    remedy = "give the demo set a folder of its own as dataset.root"
    if root.exists() and not root.is_dir():
        raise UserError(f"{root}: is a file; {remedy}")
    problems = []
    for folder in FOLDERS:
        names = sorted(path.name for path in (root / folder).glob("[!.]*") if not _is_ours(path.stem))
        if names:
            problems.append(f"{root / folder}: {len(names)} foreign files, the first {names[0]}; {remedy}")
    for path in _list_paths(root):
        lines = path.read_text(errors="replace").splitlines() if path.exists() else []
        if any(not _is_ours(line.split(maxsplit=1)[0]) for line in lines if line.strip()):
            problems.append(f"{path}: lists images of another data set; {remedy}")
    raise_problems(problems, "The demo set would mix with, or overwrite, another data set:")


def _remove(root: Path, wanted: set[str]) -> None:
    """Remove the lists of an earlier set, half-written files, and images that are not to be written anew."""
    for folder in (*FOLDERS, "ImageSets/Segmentation", "ImageSets/Main"):
        remove_leftovers(root / folder)
    for path in _list_paths(root):
        path.unlink(missing_ok=True)
    for folder, ending in FOLDERS.items():
        for path in (root / folder).glob(f"demo_*{ending}"):
            if _is_ours(path.stem) and path.stem not in wanted:
                path.unlink()


def _write_image(root: Path, image_id: str, scene: Scene) -> None:
    with atomic_path(root / "JPEGImages" / f"{image_id}.jpg") as temporary:
        Image.fromarray(scene.picture).save(temporary, format="JPEG", quality=92, subsampling=0)
    write_mask(root / "SegmentationClass" / f"{image_id}.png", scene.labels(), durable=True)
    write_text(root / "Annotations" / f"{image_id}.xml", _annotation(image_id, scene))


def _annotation(image_id: str, scene: Scene) -> str:
    """VOC's XML; boxes hold the visible pixels, counted from 1, both ends included."""
    height, width = scene.instances.shape
    tree = ET.Element("annotation")
    _add(tree, folder="demo", filename=f"{image_id}.jpg")
    _add(ET.SubElement(tree, "source"), database="ecsnet demo")
    _add(ET.SubElement(tree, "size"), width=width, height=height, depth=3)
    _add(tree, segmented=1)
    boxes = ndimage.find_objects(scene.instances)
    for (rows, columns), number, truncated in zip(boxes, scene.classes, scene.truncated, strict=True):
        thing = ET.SubElement(tree, "object")
        _add(thing, name=DEMO_CLASSES[number - 1], pose="Unspecified", truncated=int(truncated), difficult=0)
        box = ET.SubElement(thing, "bndbox")
        _add(box, xmin=columns.start + 1, ymin=rows.start + 1, xmax=columns.stop, ymax=rows.stop)
    ET.indent(tree, "\t")
    return ET.tostring(tree, encoding="unicode") + "\n"


def _add(parent: ET.Element, **children: object) -> None:
    for name, value in children.items():
        ET.SubElement(parent, name).text = str(value)


def _write_lists(root: Path, ids: dict[str, list[str]], tags: dict[str, set[int]]) -> None:
    """ImageSets; the class lists as VOC has them: `<id>  1` where present, `<id> -1` elsewhere."""
    lists = {**ids, "trainval": [image_id for split in SPLITS for image_id in ids[split]]}
    for number, name in enumerate(DEMO_CLASSES, 1):
        lines = [f"{image_id} {1 if number in tags[image_id] else -1:2d}" for image_id in lists["trainval"]]
        write_text(root / "ImageSets" / "Main" / f"{name}_trainval.txt", "\n".join(lines) + "\n")
    for folder in ("Main", "Segmentation"):
        for name, names in lists.items():
            write_text(root / "ImageSets" / folder / f"{name}.txt", "\n".join(names) + "\n")
