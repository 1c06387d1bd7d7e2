"""The check of a whole data set: what it writes, and what it refuses."""

import io
import re
import shutil
import time
import warnings
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from voc_folder import (
    CLASSES,
    HEIGHT,
    REAL_ROOT,
    WIDTH,
    make_voc,
    outcome,
    png_header,
    write_annotation,
    write_list,
    write_main_lists,
    write_picture,
)

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


def run(data: Dataset, out: Path, threads: int = 2) -> None:
    prepare.run(
        data,
        out_classes=out / "classes.txt",
        out_train=out / "train.csv",
        out_val=out / "val.csv",
        out_problems=out / "problems.csv",
        threads=threads,
    )


def refused(data: Dataset, out: Path) -> list[str]:
    """The lines of the refusal; checks that nothing else is left, and that the table says the same."""
    with pytest.raises(UserError) as caught:
        run(data, out)
    headline, *lines = str(caught.value).splitlines()
    assert headline.startswith(f"The data set has {len(lines)} mistake")
    assert f"{out}/problems.csv" in headline
    assert [path.name for path in out.iterdir()] == ["problems.csv"]
    table = read_problems(out)
    assert set(table.severity) == {"error"}
    shown = [line.removeprefix("  - ") for line in lines]
    assert [f"{row.where}: {row.problem}; {row.remedy}" for row in table.itertuples()] == shown
    return shown


def read_problems(out: Path) -> pd.DataFrame:
    table = pd.read_csv(out / "problems.csv", keep_default_na=False)
    assert list(table.columns) == ["severity", "where", "problem", "remedy"]
    return table


def test_the_tables_of_a_good_data_set(data, out, capsys):
    run(data, out)
    digest = fingerprint((Path(data.root) / "JPEGImages/a2.jpg").read_bytes())
    assert read_classes(out / "classes.txt") == ["cat", "dog"]
    train = read_images(out / "train.csv", list(CLASSES))
    assert [record.id for record in train] == ["a1", "a2"]
    assert train[1] == ImageRecord("a2", "JPEGImages/a2.jpg", WIDTH, HEIGHT, (1, 2), digest)
    (val,) = read_images(out / "val.csv", list(CLASSES))
    assert (val.id, val.tags) == ("v1", (2,))
    assert read_problems(out).empty
    assert capsys.readouterr().out == (
        "prepare: 2 training and 1 validation images, 2 classes with 1 (dog) to 2 (cat) training images "
        "each; warnings: 0\n"
    )


def test_tables_do_not_depend_on_the_folder_or_the_threads(data, out, tmp_path):
    run(data, out, threads=1)
    moved = Path(data.root).rename(tmp_path / "moved")
    run(replace(data, root=str(moved)), tmp_path / "other", threads=3)
    for name in ("classes.txt", "train.csv", "val.csv", "problems.csv"):
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
    table = read_problems(out)
    assert list(table.severity) == ["warning", "warning"]
    assert list(table["where"]) == ["dataset.classes", "dataset.val_list"]
    assert "no training image has the class cow" in table.problem[0]
    assert "1 of its 2 images are in dataset.train_list too (a2 is one)" in table.problem[1]
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
    assert f"{empty}/JPEGImages: no picture (.jpg, .jpeg, .png) in there; set dataset.root" in shown[2]
    assert f"{empty}/ImageSets/Main: no such folder; tags come from there" in shown[3]


def test_a_list_that_names_an_absent_image(data, out):
    path = write_list(Path(data.root), "val", "v1\nv7\n")
    (shown,) = refused(data, out)
    folder = f"{data.root}/JPEGImages"
    assert shown == f"{path}: image v7 is not in {folder}; add v7.jpg, or take the id off the list"


def test_two_pictures_of_one_id(data, out):
    write_picture(Path(data.root) / "JPEGImages" / "a1.png")
    (shown,) = refused(data, out)
    assert shown.endswith("JPEGImages: a1.jpg and a1.png have the same id; keep one")


def test_a_mistake_in_a_list_used_twice_is_told_once(data, out):
    write_list(Path(data.root), "train", "a1\na2\na1\n")
    (shown,) = refused(replace(data, val_list="train"), out)
    assert shown.endswith("train.txt:3: a1 stands on line 1 already; keep one of the two")


def encoded(format_name: str, mode: str = "RGB", size: tuple[int, int] = (40, 30), **options) -> bytes:
    noise = np.random.default_rng(0).integers(0, 256, (size[1], size[0], 3), np.uint8)
    stream = io.BytesIO()
    picture = Image.fromarray(noise)
    if mode == "I;16":
        picture = Image.fromarray(noise[..., 0].astype(np.uint16) * 257)
    elif mode != "RGB":
        picture = picture.convert(mode)
    picture.save(stream, format_name, **options)
    return stream.getvalue()


@pytest.mark.parametrize(
    ("content", "problem", "remedy"),
    [
        (b"", "is empty (0 bytes)", "replace the file, or take the id off the list"),
        (encoded("JPEG")[:-600], "damaged or cut off (", "replace the file"),
        (encoded("JPEG")[:30], "", "replace"),
        (encoded("PNG")[:-600], "damaged or cut off (", "replace the file"),
        (b"<!DOCTYPE html><html>404</html>", "is neither a JPEG nor a PNG picture", "convert or replace it"),
        (encoded("GIF"), "is neither a JPEG nor a PNG picture", "convert"),
        (encoded("WEBP"), "is neither a JPEG nor a PNG picture", "convert"),
        (b"\0" * 5000, "is neither a JPEG nor a PNG picture", "convert"),
        (encoded("PNG", "I;16"), "has the pixel format I;16", "convert it to 8 bits a channel"),
        (png_header(20_000, 10_000), "has more than 89 megapixels", "make it smaller"),
        (png_header(12_000, 10_000), "has more than 89 megapixels", "make it smaller"),
        (png_header(2_000_000, 2_000_000), "has more than 89 megapixels", "make it smaller"),
        (png_header(300, 300), "damaged or cut off (", "replace the file"),
    ],
    ids=[
        "empty",
        "cut jpeg",
        "jpeg header alone",
        "cut png",
        "html",
        "gif",
        "webp",
        "zeros",
        "16 bit",
        "200 megapixels",
        "120 megapixels",
        "bomb",
        "no pixels",
    ],
)
def test_a_bad_picture_is_named(data, out, content, problem, remedy):
    path = Path(data.root) / "JPEGImages" / "a2.jpg"
    path.write_bytes(content)
    (shown,) = refused(data, out)
    assert shown.startswith(f"{path}: {problem}")
    assert remedy in shown.split("; ")[1]
    assert "0x" not in shown  # an address in memory helps nobody and differs every time


def rotated() -> bytes:
    exif = Image.Exif()
    exif[0x0112] = 6  # turn by 90 degrees to show it
    return encoded("JPEG", exif=exif)


def animated() -> bytes:
    frame = Image.new("RGB", (40, 30))
    return encoded("PNG", save_all=True, append_images=[frame, frame])


@pytest.mark.parametrize(
    "content",
    [
        encoded("JPEG", "L"),
        encoded("JPEG", "CMYK"),
        encoded("JPEG", progressive=True),
        encoded("PNG", "1"),
        encoded("PNG", "LA"),
        encoded("PNG", "P"),
        encoded("PNG", "RGBA"),
        rotated(),
        animated(),
    ],
    ids=["grey", "cmyk", "progressive", "bits", "grey+alpha", "palette", "alpha", "exif", "animated"],
)
def test_unusual_pictures_are_taken_with_the_size_of_their_stored_pixels(data, out, content):
    (Path(data.root) / "JPEGImages" / "a1.jpg").write_bytes(content)
    run(data, out)
    record = read_images(out / "train.csv", list(CLASSES))[0]
    assert (record.width, record.height) == (40, 30)


@pytest.mark.parametrize("size", [(1, 1), (1, 5000), (5000, 1)])
def test_extreme_shapes_are_taken(data, out, size):
    write_picture(Path(data.root) / "JPEGImages" / "a1.jpg", size=size)
    run(data, out)
    record = read_images(out / "train.csv", list(CLASSES))[0]
    assert (record.width, record.height) == size


JPEG, PNG = encoded("JPEG"), encoded("PNG", "P")


@given(
    st.sampled_from([JPEG, PNG]),
    st.lists(st.tuples(st.integers(0, 400), st.integers(0, 255)), max_size=8),
    st.integers(1, 2000),
)
def test_damaged_bytes_are_decoded_or_a_user_error(tmp_path_factory, content, changes, length):
    damaged = bytearray(content)
    for position, value in changes:
        damaged[position] = value
    folder = tmp_path_factory.getbasetemp()
    (folder / "any.jpg").write_bytes(damaged[:length])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        picture = outcome(prepare.read_picture, folder, "any.jpg")
    if isinstance(picture, UserError):
        assert "any.jpg: " in str(picture)
    else:
        assert picture.width > 0
        assert picture.height > 0


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
    assert len(read_problems(out)) == 140


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
    assert read_problems(out).empty
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
