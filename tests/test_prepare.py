"""The check of a whole data set: what it writes, and what it refuses."""

import re
import shutil
import time
from dataclasses import replace
from pathlib import Path

import pandas as pd
import pytest
from PIL import Image
from voc_folder import (
    CLASSES,
    HEIGHT,
    REAL_ROOT,
    WIDTH,
    make_voc,
    write_annotation,
    write_list,
    write_main_lists,
    write_picture,
)
from voc_folder import run_prepare as run

from ecsnet import prepare
from ecsnet.errors import UserError
from ecsnet.settings import Dataset
from ecsnet.store import fingerprint
from ecsnet.tables import ImageRecord, read_classes, read_images

needs_voc = pytest.mark.skipif(not REAL_ROOT.is_dir(), reason="needs VOC 2012 under data/")


@pytest.fixture
def data(tmp_path: Path) -> Dataset:
    return make_voc(tmp_path / "voc")


@pytest.fixture
def out(tmp_path: Path) -> Path:
    return tmp_path / "out"


def refused(data: Dataset, out: Path, split: str = "train") -> list[str]:
    """The lines of the refusal; checks that nothing else is left, and that the table says the same."""
    with pytest.raises(UserError) as caught:
        run(data, out, split)
    headline, *lines = str(caught.value).splitlines()
    assert headline.startswith(f"The data set has {len(lines)} mistake")
    assert f"{out}/{split}_problems.csv" in headline
    assert [path.name for path in out.iterdir()] == [f"{split}_problems.csv"]
    table = read_problems(out, split)
    assert set(table.severity) == {"error"}
    shown = [line.removeprefix("  - ") for line in lines]
    assert [f"{row.where}: {row.problem}; {row.remedy}" for row in table.itertuples()] == shown
    return shown


def read_problems(out: Path, split: str) -> pd.DataFrame:
    table = pd.read_csv(out / f"{split}_problems.csv", keep_default_na=False)
    assert list(table.columns) == ["severity", "where", "problem", "remedy"]
    return table


@pytest.mark.parametrize("name", ["", "voc/JPEGImages", "voc/ImageSets"])
def test_a_root_that_lies_near_is_named(data, out, tmp_path, name):
    meant = Path(data.root)
    [shown] = refused(replace(data, root=str(tmp_path / name)), out)
    assert shown == f"dataset.root: {tmp_path / name} has no JPEGImages; did you mean {meant}?"


def test_the_tables_of_a_good_data_set(data, out, capsys):
    run(data, out)
    digest = fingerprint((Path(data.root) / "JPEGImages/a2.jpg").read_bytes())
    assert read_classes(out / "classes.txt") == ["cat", "dog"]
    train = read_images(out / "train.csv", list(CLASSES))
    assert [record.id for record in train] == ["a1", "a2"]
    assert train[1] == ImageRecord("a2", "JPEGImages/a2.jpg", WIDTH, HEIGHT, (1, 2), digest)
    (val,) = read_images(out / "val.csv", list(CLASSES))
    assert (val.id, val.tags) == ("v1", (2,))
    assert read_problems(out, "train").empty
    assert read_problems(out, "val").empty
    train_progress, train_text, val_progress, val_text = capsys.readouterr().out.splitlines()
    assert train_text == (
        "prepare: 2 training images, 2 classes with 1 (dog) to 2 (cat) images each; warnings: 0"
    )
    assert val_text == "prepare: 1 validation images; warnings: 0"
    assert train_progress.startswith("prepare  2/2  100 %")
    assert val_progress.startswith("prepare  1/1  100 %")


def test_tables_do_not_depend_on_the_folder_or_the_threads(data, out, tmp_path):
    run(data, out, threads=1)
    moved = Path(data.root).rename(tmp_path / "moved")
    run(replace(data, root=str(moved)), tmp_path / "other", threads=3)
    for name in ("classes.txt", "train.csv", "val.csv", "train_problems.csv", "val_problems.csv"):
        assert (out / name).read_bytes() == (tmp_path / "other" / name).read_bytes()
        assert str(tmp_path).encode() not in (out / name).read_bytes()


def test_validation_images_need_no_tags(data, out):
    root = Path(data.root)
    write_list(root, "val", "v1\nv2\nv3\n")
    write_annotation(root, "v1", ("lorry", "dog"))
    for image_id in ("v2", "v3"):
        write_picture(root / "JPEGImages" / f"{image_id}.png")
    (root / "Annotations" / "v3.xml").write_text("<broken")
    run(data, out)
    assert [record.tags for record in read_images(out / "val.csv", list(CLASSES))] == [(2,), (), ()]


def test_no_mask_is_read(data, out):
    shutil.rmtree(Path(data.root) / "SegmentationClass")
    run(data, out)


def test_warnings_do_not_stop(data, out, capsys):
    write_list(Path(data.root), "val", "v1\na2\n")
    run(replace(data, classes=("cat", "dog", "cow")), out)
    train, val = read_problems(out, "train"), read_problems(out, "val")
    assert set(train.severity) == set(val.severity) == {"warning"}
    assert list(train["where"]) == ["dataset.classes", "dataset.train_list"]
    assert "no training image has the class cow" in train.problem[0]
    assert "1 of its 2 images are in dataset.val_list too (a2 is one)" in train.problem[1]
    assert list(val["where"]) == ["dataset.val_list"]
    assert "1 of its 2 images are in dataset.train_list too (a2 is one)" in val.problem[0]
    assert len(read_images(out / "val.csv", ["cat", "dog", "cow"])) == 2
    assert "warning: dataset.classes: no training image has the class cow" in capsys.readouterr().out


def test_a_missing_root(data, out):
    (shown,) = refused(replace(data, root="data/nowhere"), out)
    assert shown.startswith("dataset.root: there is no folder data/nowhere; unpack the data there, or set")


def test_an_empty_root(data, out):
    empty = out.with_name("empty")
    empty.mkdir()
    shown = refused(replace(data, root=str(empty)), out)
    assert f"{empty}/ImageSets/Segmentation/train.txt: no such list; give the name" in shown[0]
    assert f"{empty}/JPEGImages: no picture (.jpg, .jpeg, .png) in there; set dataset.root" in shown[1]
    assert f"{empty}/ImageSets/Main: no such folder; tags come from there" in shown[2]


def test_a_list_that_names_an_absent_image(data, out):
    path = write_list(Path(data.root), "val", "v1\nv7\n")
    (shown,) = refused(data, out, "val")
    folder = f"{data.root}/JPEGImages"
    assert shown == f"{path}: image v7 is not in {folder}; add v7.jpg, or take the id off the list"


def test_two_pictures_of_one_id(data, out):
    write_picture(Path(data.root) / "JPEGImages" / "a1.png")
    (shown,) = refused(data, out)
    assert shown.endswith("JPEGImages: a1.jpg and a1.png have the same id; keep one")


def test_another_split_is_refused(data, out):
    with pytest.raises(UserError, match="split 'test': expected train, val or other"):
        run(data, out, "test")
    with pytest.raises(UserError, match="split 'other': name its list with --list-name"):
        run(data, out, "other")


def test_images_of_any_list_are_prepared_without_tags(data, out, capsys):
    root = Path(data.root)
    write_list(root, "test", "x1\na1\n")
    write_picture(root / "JPEGImages" / "x1.jpg", size=(20, 10))
    prepare.run(
        data, split="other", list_name="test", out=out / "test.csv", out_problems=out / "test_problems.csv"
    )
    first, second = read_images(out / "test.csv", list(data.classes))
    assert (first.id, first.width, first.height, first.tags) == ("x1", 20, 10, ())
    assert (second.id, second.tags) == ("a1", (1,))
    assert capsys.readouterr().out.endswith("\nprepare: 2 images of the list test; warnings: 0\n")


def test_all_mistakes_come_at_once(data, out):
    root = Path(data.root)
    write_list(root, "train", "a1\na2\na3\na4\na5\na6\n../up\na1\n")
    for image_id in ("a2", "a3", "a4", "a5"):
        write_picture(root / "JPEGImages" / f"{image_id}.jpg")
    (root / "JPEGImages" / "a2.jpg").write_bytes(b"")
    write_annotation(root, "a3", ("lorry",))
    write_annotation(root, "a4", ())
    write_annotation(root, "a6", ("cat",))
    shown = refused(data, out)
    expected = [
        r"train\.txt:7: '\.\./up' is a path",
        r"train\.txt:8: a1 stands on line 1 already",
        r"train\.txt: image a6 is not in",
        r"a2\.jpg: is empty",
        r"a3\.xml: unknown class 'lorry'",
        r"a4\.xml: image without tags",
        r"a5\.xml: no such annotation",
    ]
    assert len(shown) == len(expected)
    for line, pattern in zip(shown, expected, strict=True):
        assert re.search(pattern, line)


def test_more_mistakes_than_a_screen_holds_are_all_in_the_table(data, out):
    write_list(Path(data.root), "train", "".join(f"x{number}\n" for number in range(70)))
    with pytest.raises(UserError, match="The data set has 140 mistakes"):
        run(data, out)
    assert len(read_problems(out, "train")) == 140


def test_tags_from_main_lists(data, out):
    root = Path(data.root)
    shutil.rmtree(root / "Annotations")
    write_main_lists(root, {"cat": "a1  1\na2 -1\nv1 -1\n", "dog": "a1  0\na2  1\nv1 -1\n"})
    run(data, out)
    assert [record.tags for record in read_images(out / "train.csv", list(CLASSES))] == [(1, 2), (2,)]
    assert read_images(out / "val.csv", list(CLASSES))[0].tags == ()


@needs_voc
def test_the_real_lists_are_prepared_in_seconds(out):
    lists = {"train_list": "config/lists/minitrain.txt", "val_list": "config/lists/minival.txt"}
    data = Dataset(root=str(REAL_ROOT), tags="main", **lists)
    start = time.perf_counter()
    run(data, out)
    assert time.perf_counter() - start < 10
    train = read_images(out / "train.csv", list(data.classes))
    assert (len(train), len(read_images(out / "val.csv", list(data.classes)))) == (321, 123)
    assert read_problems(out, "train").empty
    assert read_problems(out, "val").empty
    present = {name: set() for name in data.classes}
    for name in data.classes:
        for line in (REAL_ROOT / "ImageSets/Main" / f"{name}_trainval.txt").read_text().splitlines():
            image_id, flag = line.split()
            if flag != "-1":
                present[name].add(image_id)
    for record in train:
        names = tuple(name for name in data.classes if record.id in present[name])
        assert tuple(data.classes[tag - 1] for tag in record.tags) == names
        with Image.open(REAL_ROOT / record.image) as picture:
            assert picture.size == (record.width, record.height)
