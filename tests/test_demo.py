"""The demo set must be a valid VOC data set, and must test what it is made to test."""

import re
import xml.etree.ElementTree as ET
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from ecsnet import demo
from ecsnet.errors import UserError
from ecsnet.palette import IGNORE, read_mask, voc_palette
from ecsnet.scenes import DEMO_CLASSES, draw_scene
from ecsnet.settings import Demo

SMALL = Demo(train_images=24, val_images=6, width=96, height=72)
TINY = Demo(train_images=3, val_images=2, width=64, height=64)


def write(settings, root):
    demo.run(settings, root=root, out=root / "demo.json")


@pytest.fixture(scope="module")
def root(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("demo") / "VOC2012"
    write(SMALL, folder)
    return folder


def lines(root: Path, name: str) -> list[str]:
    text = (root / "ImageSets" / f"{name}.txt").read_text()
    assert text.endswith("\n")
    return text.splitlines()


def contents(root: Path) -> dict[str, bytes]:
    return {str(p.relative_to(root)): p.read_bytes() for p in root.rglob("*") if p.is_file()}


def objects(root: Path, image_id: str) -> list[ET.Element]:
    return ET.parse(root / "Annotations" / f"{image_id}.xml").findall("object")


def tags(root: Path, image_id: str) -> set[str]:
    return {thing.findtext("name") for thing in objects(root, image_id)}


def test_lists_agree_with_each_other_and_with_the_files(root):
    train, val = lines(root, "Segmentation/train"), lines(root, "Segmentation/val")
    assert len(train) == 24
    assert len(val) == 6
    assert train[0] == "demo_train_0001"
    assert val[-1] == "demo_val_0006"
    assert lines(root, "Segmentation/trainval") == train + val
    for name in ("train", "val", "trainval"):
        assert lines(root, f"Main/{name}") == lines(root, f"Segmentation/{name}")
    for folder, ending in (("JPEGImages", "jpg"), ("Annotations", "xml"), ("SegmentationClass", "png")):
        assert {p.name for p in (root / folder).iterdir()} == {f"{name}.{ending}" for name in train + val}


def test_tags_masks_and_main_lists_name_the_same_classes(root):
    main = {}
    for name in DEMO_CLASSES:
        for line in lines(root, f"Main/{name}_trainval"):
            image_id, sign = re.fullmatch(r"(\w+) ( 1|-1)", line).groups()
            main.setdefault(image_id, set()).update({name} if sign == " 1" else ())
    assert list(main) == lines(root, "Main/trainval")
    for image_id, names in main.items():
        values = set(np.unique(read_mask(root / "SegmentationClass" / f"{image_id}.png")).tolist())
        assert names == tags(root, image_id)
        assert names == {DEMO_CLASSES[value - 1] for value in values - {0, IGNORE}}
        assert IGNORE in values
        assert 0 in values


def test_masks_are_palette_pngs_of_the_pictures_size(root):
    for image_id in lines(root, "Segmentation/trainval"):
        with Image.open(root / "JPEGImages" / f"{image_id}.jpg") as picture:
            assert (picture.mode, picture.size) == ("RGB", (96, 72))
        with Image.open(root / "SegmentationClass" / f"{image_id}.png") as mask:
            assert (mask.mode, mask.size) == ("P", (96, 72))
            assert mask.getpalette() == voc_palette()


def test_annotations_are_vocs_and_boxes_fit_the_visible_pixels(root):
    for index, image_id in enumerate(lines(root, "Segmentation/train")):
        tree = ET.parse(root / "Annotations" / f"{image_id}.xml")
        assert tree.findtext("filename") == f"{image_id}.jpg"
        assert tree.findtext("segmented") == "1"
        assert [tree.findtext(f"size/{key}") for key in ("width", "height", "depth")] == ["96", "72", "3"]
        scene = draw_scene(SMALL, "train", index)
        for number, thing in enumerate(objects(root, image_id), 1):
            box = [int(thing.findtext(f"bndbox/{key}")) for key in ("xmin", "ymin", "xmax", "ymax")]
            y, x = np.nonzero(scene.instances == number)
            assert box == [x.min() + 1, y.min() + 1, x.max() + 1, y.max() + 1]
            assert thing.findtext("difficult") == "0"
            assert thing.findtext("truncated") in ("0", "1")


def test_no_pixel_of_an_object_touches_another_label(root):
    for path in sorted((root / "SegmentationClass").iterdir()):
        mask = read_mask(path)
        views = [(mask[1:], mask[:-1]), (mask[:, 1:], mask[:, :-1]), (mask[1:, 1:], mask[:-1, :-1])]
        for one, other in views:
            assert not ((one != other) & (one != IGNORE) & (other != IGNORE)).any()


def test_every_class_is_in_a_tenth_of_the_training_images(root):
    found = [tags(root, image_id) for image_id in lines(root, "Segmentation/train")]
    assert all(sum(name in names for names in found) >= 0.1 * len(found) for name in DEMO_CLASSES)
    assert max(map(len, found)) > 1


def test_same_bytes_on_a_second_run_into_another_folder(root, tmp_path):
    write(SMALL, tmp_path / "other")
    assert contents(tmp_path / "other") == contents(root)


def test_smaller_rerun_leaves_nothing_of_the_larger_set(tmp_path):
    write(Demo(**{**vars(TINY), "train_images": 5, "seed": 1}), tmp_path / "a")
    write(TINY, tmp_path / "a")
    write(TINY, tmp_path / "b")
    assert contents(tmp_path / "a") == contents(tmp_path / "b")


def test_interrupted_run_leaves_no_lists(tmp_path, monkeypatch):
    write(TINY, tmp_path)
    monkeypatch.setattr(demo, "draw_scene", lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        write(TINY, tmp_path)
    assert not list((tmp_path / "ImageSets").rglob("*.txt"))


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("JPEGImages/2007_000032.jpg", ""),
        ("JPEGImages/demo_train_1.jpg", ""),
        ("SegmentationClass/cat.png", ""),
        ("ImageSets/Segmentation/train.txt", "demo_train_0001\n2007_000032\n"),
    ],
)
def test_foreign_data_set_is_refused_and_left_alone(tmp_path, name, text):
    write(TINY, tmp_path)
    (tmp_path / name).write_text(text)
    before = contents(tmp_path)
    with pytest.raises(UserError, match=r"(?s)data set:.*dataset\.root") as error:
        write(SMALL, tmp_path)
    assert name.split("/")[1] in str(error.value)
    assert contents(tmp_path) == before


def test_file_as_root_is_refused(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="is a file"):
        write(TINY, tmp_path / "file")
