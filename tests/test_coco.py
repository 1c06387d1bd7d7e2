"""Data sets in MS COCO's layout: categories, tags, masks, mistakes, and what makes them stale."""

import csv
import dataclasses
import json
import os
import shutil
import sys

import numpy as np
import pytest
from coco_folder import (
    CATEGORIES,
    DATASET,
    HEIGHT,
    MASKS,
    WIDTH,
    annotation,
    make_coco,
    rle,
    write_picture,
)
from hypothesis import given
from hypothesis import strategies as st
from test_workflow import CONFIG, planned, snakemake

from ecsnet import import_coco, import_coco_masks, instances, prepare
from ecsnet.coco import coco_contents, coco_masks_contents, resolved
from ecsnet.errors import UserError
from ecsnet.folder import laid_out
from ecsnet.palette import read_mask
from ecsnet.scenes import DEMO_CLASSES, draw_scene
from ecsnet.settings import VOC_CLASSES, Demo, parse_config
from ecsnet.voc import read_list, read_tags


@pytest.fixture
def place(tmp_path, monkeypatch):
    """A folder with the data set `coco`, where snakemake would run."""
    monkeypatch.chdir(tmp_path)
    make_coco(tmp_path / "coco")
    return tmp_path


def config(score=None, supervised=None, **values):
    given = {**dataclasses.asdict(DATASET), "classes": list(VOC_CLASSES), **values}
    return resolved(parse_config({"dataset": given, "score": score or {}, "supervised": supervised or {}}))


def edit(place, change, part="train"):
    """Change the content of a JSON file."""
    path = place / "coco" / f"{part}.json"
    content = json.loads(path.read_text())
    change(content)
    path.write_text(json.dumps(content))


# What follows from the configuration


def test_classes_are_the_categories_by_their_ids_unless_others_are_given(place):
    assert config().dataset == DATASET
    assert config(classes=["toothbrush", "cat"]).dataset.classes == ("toothbrush", "cat")
    found = laid_out(DATASET, "mine")
    assert (found.kind, found.root, found.train_list) == ("voc", "resources/coco/mine", "train")


def test_there_are_masks_unless_the_configuration_says_that_there_are_none(place):
    found = config()
    masks = (found.score.train_masks, found.score.val_masks, found.supervised.masks)
    assert masks == ("SegmentationClass",) * 3
    found = config(score={"train_masks": None}, supervised={"masks": None})
    masks = (found.score.train_masks, found.score.val_masks, found.supervised.masks)
    assert masks == (None, "SegmentationClass", None)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"images": None}, r"kind coco needs images and val_images, .* see config/coco\.yaml"),
        ({"images": "nowhere"}, r"dataset\.images: there is no folder nowhere"),
        ({"val_images": "nowhere"}, r"dataset\.val_images: there is no folder nowhere"),
        ({"train_list": "trainaug"}, r"dataset\.train_list: there is no file trainaug .* path of a JSON"),
        ({"val_list": "coco/val/a.jpg"}, r"dataset\.val_list: coco/val/a\.jpg: no categories in it"),
        ({"classes": ["cat", "Person"]}, r"coco/train\.json has no category Person; did you mean person\?"),
        ({"classes": ["tree"]}, r"coco/train\.json has no category tree; it has person, cat, toothbrush"),
        ({"tags": "tags.csv"}, r"a CSV file is for dataset\.kind: folder"),
    ],
)
def test_mistakes_in_the_configuration(place, values, message):
    with pytest.raises(UserError, match=message):
        config(**values)


def test_both_files_need_the_classes(place):
    edit(place, lambda content: content["categories"].pop(), part="val")
    with pytest.raises(UserError, match=r"coco/val\.json has no category toothbrush; it has person, cat"):
        config()


def test_names_of_categories_must_do_as_classes(place):
    edit(place, lambda content: content["categories"][0].update(name="a/b"))
    with pytest.raises(UserError, match=r'coco/train\.json: "a/b" is no name'):
        config()


@pytest.mark.parametrize("first", [False, True])
@pytest.mark.parametrize("end", [300, 1 << 20])
def test_categories_are_found_wherever_they_stand(place, monkeypatch, first, end):
    def change(content):
        rest = {**content, "annotations": content["annotations"] * 20}
        found = {"categories": rest.pop("categories")}
        content.clear()
        content.update({**found, **rest} if first else {**rest, **found, "more": "x" * 900})

    edit(place, change)
    monkeypatch.setattr(instances, "END", end)
    assert instances.read_categories(place / "coco/train.json") == dict(sorted(CATEGORIES.items()))


# Tags


def imported(place, part="train", **values):
    """Import a part; its table's rows by name, and the data set as it lies there."""
    settings = dataclasses.replace(DATASET, **values)
    out = place / "root" / "import_coco" / f"{part}.csv"
    import_coco.run(settings, part=part, root=place / "root", out=out, threads=2)
    with out.open(encoding="utf-8", newline="") as file:
        rows = {row["image"]: row for row in csv.DictReader(file)}
    return rows, dataclasses.replace(laid_out(settings, "mine"), root=str(place / "root"))


def tags(place, **values):
    """Tags of the training pictures as all stages read them."""
    _, found = imported(place, **values)
    return read_tags(found, read_list(place / "root", "train"), [])


def test_tags_are_the_categories_in_the_picture(place, capsys):
    assert tags(place) == {"train_a": (1, 2), "train_b": (1,), "train_d": (3,), "train_sub_e": (2,)}
    assert capsys.readouterr().out == "import_coco: train, 4 pictures; left out for want of an instance: 1\n"
    assert read_list(place / "root", "train") == ["train_a", "train_b", "train_d", "train_sub_e"]


def test_a_subset_of_the_classes_in_its_own_order(place):
    assert tags(place, classes=("cat", "person")) == {
        "train_a": (1, 2),
        "train_b": (2,),
        "train_sub_e": (1,),
    }


def test_crowds_count_as_difficult_objects_do(place):
    assert tags(place, difficult=False) == {"train_a": (1, 2), "train_b": (1,), "train_sub_e": (2,)}


def test_validation_pictures_are_all_kept(place, capsys):
    rows, _ = imported(place, "val")
    assert {name: row["labels"] for name, row in rows.items()} == {"a.jpg": "toothbrush", "n.jpg": ""}
    assert read_list(place / "root", "val") == ["val_a", "val_n"]
    assert "left out for want of an instance: 0" in capsys.readouterr().out


def test_pictures_of_all_modes_are_linked_and_prepared(place):
    imported(place, "val")
    _, found = imported(place)
    pictures = list((place / "root" / "JPEGImages").iterdir())
    assert len(pictures) == 6
    assert all(path.is_symlink() for path in pictures)
    for split, count in (("train", 4), ("val", 2)):
        out = place / f"{split}.csv"
        prepare.run(found, split=split, out=out, out_problems=place / "problems.csv")
        assert len(out.read_text().splitlines()) == 1 + count


def test_pictures_of_one_folder_keep_their_names(place):
    shutil.copy(place / "coco/val/n.jpg", place / "coco/train")
    imported(place, val_images=None)
    imported(place, "val", val_images=None)
    assert read_list(place / "root", "train") == ["a", "b", "d", "sub_e"]
    assert read_list(place / "root", "val") == ["a", "n"]


@pytest.mark.parametrize("segmentation", [None, [["x"]], {"size": "?"}, [[1, 2, 3]], 7])
def test_where_instances_are_is_not_read_for_tags(place, segmentation):
    before = imported(place)
    edit(place, lambda content: content["annotations"][0].update(segmentation=segmentation, area=9))
    assert imported(place) == before


numbers = st.integers(0, 999) | st.floats(0, 1e6) | st.floats(0, 1e-9)
shapes = st.lists(st.lists(numbers, max_size=4), max_size=3) | st.fixed_dictionaries(
    {"counts": st.lists(numbers, max_size=4) | st.from_regex(r"\A[0-o]*\Z"), "size": st.just([4, 6])}
)


@given(
    st.lists(st.tuples(shapes, numbers, st.just([1, 2.5, 3, 4]), st.text(max_size=4)), max_size=3),
    st.sampled_from([None, 1]),
    st.sampled_from([(",", ":"), (", ", ": "), (" ,\n", " :\t")]),
)
def test_all_but_shapes_is_left(annotations, indent, separators):
    def content(*shown):
        found = [
            {"name": text, "segmentation": shape, "area": area, "bbox": box, "id": 1}
            for shape, area, box, text in annotations
        ]
        return [{**one, **dict.fromkeys(shown)} for one in found]

    text = json.dumps({"annotations": content()}, indent=indent, separators=separators).encode()
    left = json.loads(instances.without_shapes(text))
    assert left == {"annotations": content("segmentation", "area", "bbox")}


# Mistakes


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda it: it.pop("annotations"), r"no list annotations in it; give the JSON file of the instances"),
        (lambda it: it.update(images={}), r"no list images in it"),
        (lambda it: it["images"][0].pop("width"), r"images\[0\] has no width that is right"),
        (lambda it: it["images"][1].update(file_name="."), r"images\[1\] has no file_name that is right"),
        (lambda it: it["images"][1].update(file_name="a\nb"), r"images\[1\] has no file_name that is right"),
        (lambda it: it["annotations"][2].update(image_id=5), r"annotation 3: unknown image_id 5; correct it"),
        (lambda it: it["annotations"][2].update(category_id=2), r"annotation 3: unknown category_id 2"),
        (lambda it: it["images"][1].update(id=7), r"images with the id 7 stand 2 times; keep one"),
        (lambda it: it["images"][1].update(file_name="a.jpg"), r"the file_name 'a\.jpg' stand 2 times"),
        (lambda it: it["images"][1].update(file_name="A.png"), r"a\.jpg and A\.png would be called the same"),
        (lambda it: it["images"][1].update(file_name="../b.jpg"), r"'\.\./b\.jpg' leaves coco/train"),
        (lambda it: it["images"][1].update(file_name="x" * 300), r"the name x+ is too long"),
        (lambda it: it["images"][1].update(file_name="z.jpg"), r"z\.jpg is not in coco/train; add the"),
        (lambda it: it["images"][0].update(width=9), r"a\.jpg: has 6×4 pixels, but .* says 9×4; correct the"),
        (lambda it: it["images"][0].update(width=4, height=6), r"says 4×6; if it is turned by EXIF"),
        (lambda it: it["categories"][0].update(name="dog"), r"has no category cat; correct dataset\.classes"),
        (lambda it: it["categories"].append({"id": 1, "name": "x"}), r"categories with the id 1 stand 2"),
        (lambda it: it["annotations"].clear(), r"no picture in it has an instance of dataset\.classes"),
        (
            lambda it: [one.update(file_name=f"x/{one['file_name']}") for one in it["images"]],
            r"none of its 4 pictures \(x/a\.jpg is one\) is in coco/train; give a folder",
        ),
    ],
)
def test_mistakes_in_the_file(place, change, message):
    edit(place, change)
    with pytest.raises(UserError, match=message):
        imported(place)


def test_what_is_no_json(place):
    path = place / "coco/train.json"
    for content in (path.read_bytes()[:-40], b"", b"\xff\xfe", b"[" * 100_000):
        path.write_bytes(content)
        with pytest.raises(UserError, match=r"coco/train\.json: no JSON, or cut off \(.*fetch or export it"):
            imported(place)


def test_all_mistakes_are_told_at_once(place):
    (place / "coco/train/a.jpg").write_bytes(b"no picture")
    (place / "coco/train/b.jpg").unlink()
    write_picture(place / "coco/train/d.jpg", 0, size=(9, 9))
    with pytest.raises(UserError) as raised:
        imported(place)
    assert len(str(raised.value).splitlines()) == 4


# Masks


def masks(place, part="train", **values):
    settings = dataclasses.replace(DATASET, **values)
    import_coco_masks.run(settings, part=part, root=place / "root", out=place / "root" / f"{part}.csv")
    return {path.stem: read_mask(path) for path in (place / "root" / "SegmentationClass").iterdir()}


def test_masks_of_polygons_of_both_kinds_of_rle_and_of_crowds(place):
    masks(place, "val")
    found = masks(place)
    assert {name: mask.tolist() for name, mask in found.items()} == MASKS


def test_what_is_no_instance_of_the_classes_is_background(place):
    found = masks(place, classes=("cat",))
    assert found["train_a"].tolist() == [*[[1, 1, 1, 1, 0, 0]] * 3, [0] * 6]
    assert not found["train_b"].any()


def test_of_equal_instances_the_later_lies_above(place):
    square = [[0, 0, 2, 0, 2, 2, 0, 2]]
    for first, second in ((1, 17), (17, 1)):
        edit(place, lambda it, pair=(first, second): it.update(
            annotations=[annotation(number, 7, category, square) for number, category in enumerate(pair)]
        ))  # fmt: skip
        assert masks(place)["train_a"][0, 0] == {17: 2, 1: 1}[second]


def test_polygons_of_two_corners_have_no_pixel(place):
    edit(place, lambda it: it["annotations"][0].update(segmentation=[[0, 0, 6, 4]]))
    assert masks(place)["train_a"].tolist() == [*[[2, 2, 2, 2, 0, 0]] * 3, [0] * 6]


@pytest.mark.parametrize(
    ("segmentation", "message"),
    [
        ([], r"is not there \(a box is no mask\); set score\.train_masks"),
        (None, r"is not there"),
        ("1", r"no list of polygons \[x1, y1, x2, y2, …\] and no RLE"),
        ([[1, 2, "x", 4, 5, 6]], r"no list of polygons"),
        ([[1, 2, 1e12, 4, 5, 6]], r"no list of polygons"),
        ([[1, 2, float("nan"), 4, 5, 6]], r"no list of polygons"),
        ([[1, 2, 3, 4, 5, 6, 7]], r"has a polygon of 7 numbers; correct it"),
        ({"counts": [24], "size": [6, 4]}, r"is an RLE of the size \[6, 4\], not \[4, 6\]"),
        (rle([8, 2, 2, 2, 9]), r"counts are not 24 pixels in all"),
        (rle([8, 2, 2, 2, 11]), r"counts are not 24 pixels in all"),
        (rle([-8, 32]), r"counts are not 24 pixels in all"),
        (rle("5220:"), r"an RLE whose text is not of 24 pixels in all"),
        (rle("5220<"), r"an RLE whose text is not of 24 pixels in all"),
        (rle("522o"), r"an RLE whose text is not of"),
        (rle("~"), r"an RLE whose text is not of"),
        (rle(None), r"an RLE whose text is not of"),
    ],
)
def test_segmentations_that_are_none(place, segmentation, message):
    edit(place, lambda it: it["annotations"][0].update(segmentation=segmentation))
    with pytest.raises(UserError, match=rf"the segmentation of annotation 1, in a\.jpg, .*{message}"):
        masks(place)


@given(st.lists(st.booleans(), min_size=HEIGHT * WIDTH, max_size=HEIGHT * WIDTH))
def test_an_rle_is_read_as_it_was_written(pixels):
    from pycocotools import mask as tools

    region = np.asfortranarray(np.array(pixels, np.uint8).reshape(HEIGHT, WIDTH))
    text = rle(tools.encode(region)["counts"].decode())
    assert np.array_equal(import_coco_masks.region_of(text, HEIGHT, WIDTH), region)


def test_masks_without_pycocotools(place, monkeypatch):
    monkeypatch.setitem(sys.modules, "pycocotools", None)
    with pytest.raises(UserError, match=r"need pycocotools \(.*\); install it \(pip install pycocotools\)"):
        masks(place)
    assert imported(place)


# What makes it stale


def seen(part="train"):
    """What the digests of tags, and of masks, are made of."""
    return json.loads(coco_contents(DATASET, part)), coco_masks_contents(DATASET, part)


def test_where_an_instance_is_concerns_masks_alone(place):
    tags, masks = seen()
    shape = {"segmentation": [[0, 0, 1, 0, 1, 1]], "area": 1, "bbox": [0, 0, 1, 1]}
    edit(place, lambda it: it["annotations"][0].update(shape))
    assert seen()[0] == tags
    assert seen()[1] != masks


@pytest.mark.parametrize(
    ("change", "parts"),
    [
        (lambda it: it["annotations"][0].update(category_id=17), {"tags"}),
        (lambda it: it["annotations"][0].update(iscrowd=1), {"tags"}),
        (lambda it: it["annotations"].pop(), {"tags"}),
        (lambda it: it["images"].pop(2), {"tags", "pictures"}),
        (lambda it: it["categories"].pop(), {"tags"}),
    ],
)
def test_every_change_of_tags_is_seen(place, change, parts):
    before = seen()[0]
    edit(place, change)
    after = seen()[0]
    assert {part for part in after if after[part] != before[part]} == parts


def test_pictures_count_by_content(place):
    before, other = seen()[0], seen("val")
    for path in (place / "coco").rglob("*"):
        os.utime(path)
    write_picture(place / "coco/train/unlisted.jpg", 0)
    assert seen()[0] == before
    write_picture(place / "coco/train/sub/e.jpg", 99)
    assert {part for part, digest in seen()[0].items() if digest != before[part]} == {"pictures"}
    (place / "coco/train/a.jpg").unlink()
    (place / "coco/train.json").unlink()
    assert seen()[0]["tags"] == "0 absent"
    assert seen("val") == other


# The real Snakefile


def make_scenes(root):
    """Eight and four of the demo's scenes in COCO's layout; a picture without annotation in each part."""
    from pycocotools import mask as tools

    for part, count in (("train", 8), ("val", 4)):
        names, annotations = {}, []
        for number in range(count):
            scene = draw_scene(Demo(width=96, height=64), part, number)
            names[number] = f"{number:012}.jpg"
            for index, value in enumerate(scene.classes, 1):
                region = np.asfortranarray(scene.instances == index).astype(np.uint8)
                text = {"size": [64, 96], "counts": tools.encode(region)["counts"].decode()}
                annotations.append(annotation(len(annotations), number, 10 * value, text))
            save(root / part / names[number], scene.picture)
        names[count] = "empty.jpg"
        save(root / part / "empty.jpg", np.full((64, 96), 90, np.uint8))
        content = {
            "images": [
                {"id": key, "file_name": name, "width": 96, "height": 64} for key, name in names.items()
            ],
            "annotations": annotations,
            "categories": [{"id": 10 * value, "name": name} for value, name in enumerate(DEMO_CLASSES, 1)],
        }
        (root / f"{part}.json").write_text(json.dumps(content))


def save(path, picture):
    from PIL import Image

    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(picture).save(path)


@pytest.mark.long
@pytest.mark.timeout(900)
def test_a_run_from_end_to_end(tmp_path):
    make_scenes(tmp_path / "coco")
    dataset = {
        name: getattr(DATASET, name) for name in ("kind", "images", "val_images", "train_list", "val_list")
    }
    run = {**CONFIG, "rounds": 1, "dataset": dataset, "supervised": {"enabled": False}}
    result = snakemake(tmp_path, config=run)
    assert result.returncode == 0, result.stdout
    assert "filtered_labels" in result.stdout
    assert "8 pictures; left out for want of an instance: 1" in result.stdout
    assert planned(tmp_path, run) == set()
    masks = tmp_path / "resources/coco/tiny/SegmentationClass"
    for number in range(8):
        scene = draw_scene(Demo(width=96, height=64), "train", number)
        truth = np.array([0, *scene.classes], np.uint8)[scene.instances]
        assert np.array_equal(read_mask(masks / f"train_{number:012}.png"), truth)
    predicted = {path.stem for path in (tmp_path / "results/tiny/predict").glob("*.png")}
    assert predicted == {*(f"val_{number:012}" for number in range(4)), "val_empty"}
    scored = {"import_coco_masks", "check_masks", "score", "summary", "figures", "overview"}
    before = (tmp_path / "coco/train.json").read_text()
    edit(tmp_path, lambda it: it["annotations"][0].update(segmentation=[[0, 0, 9, 0, 9, 9]]))
    assert planned(tmp_path, run) == scored
    (tmp_path / "coco/train.json").write_text(before)
    assert planned(tmp_path, run) == set()
    edit(tmp_path, lambda it: it["annotations"][0].update(category_id=10))
    edit(tmp_path, lambda it: it["annotations"][1].update(category_id=20))
    learned = {"import_coco", "prepare_train", "train_cam", "train_ecs", "train_segmenter"}
    assert learned | scored <= planned(tmp_path, run)
