"""What a user may bring by mistake, kind by kind: refused with one clear message, or read right.

Every case goes through the command line. A refusal has exit status 1 and one line that names the file
or key, says what is wrong, and what to do; nothing is left that looks finished.
"""

import itertools
import json
import os
import re
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from bad_files import (
    RED,
    SIZE,
    animated,
    encoded,
    flat_grey,
    png_header,
    rotated,
    saved,
    transparent_palette,
    wide_color,
    wide_grey,
    zeros,
)
from PIL import Image
from snakemake.common.configfile import load_configfile
from voc_folder import CLASSES, HEIGHT, WIDTH, make_voc, write_annotation, write_list, write_picture

from ecsnet import cli
from ecsnet.errors import UserError
from ecsnet.pictures import read_image
from ecsnet.settings import Config, Dataset, parse_config
from ecsnet.tables import ImageRecord, read_images, read_labels, write_classes, write_images

Spoil = Callable[[Path], Any]
Outcome = tuple[int, str, str]
"""Exit status, what stands on stdout, what on stderr."""


def cases(table: dict[str, Any]) -> pytest.MarkDecorator:
    return pytest.mark.parametrize("case", table.values(), ids=table.keys())


@pytest.fixture
def data(tmp_path: Path) -> Dataset:
    return make_voc(tmp_path / "voc")


@pytest.fixture
def out(tmp_path: Path) -> Path:
    return tmp_path / "out"


@pytest.fixture
def prepare(out: Path, capsys: pytest.CaptureFixture[str]) -> Callable[..., Outcome]:
    """Runs `ecsnet prepare` on a data set."""

    def run(data: Dataset, split: str = "train") -> Outcome:
        return (cli.main(prepare_words(data, out, split)), *capsys.readouterr())

    return run


def prepare_words(data: Dataset, out: Path, split: str = "train") -> list[str]:
    paths = ["--out", f"{out}/{split}.csv", "--out-problems", f"{out}/problems.csv"]
    return ["prepare", "--settings", json.dumps(vars(data)), "--split", split, *paths, "--threads", "2"]


def refused(outcome: Outcome, out: Path, where: str, problem: str, remedy: str) -> None:
    """Checks a refusal of `prepare` with one mistake."""
    status, printed, message = outcome
    assert status == 1
    assert "done in" not in printed
    assert "Traceback" not in message
    assert "0x" not in message  # an address in memory helps nobody and differs every time
    headline, line = message.strip().splitlines()
    assert headline.startswith("ecsnet prepare: The data set has 1 mistake (")
    assert re.fullmatch(rf"  - .*{where}(:\d+)?: .*{problem}.*; .*{remedy}.*", line), line
    assert [path.name for path in out.iterdir()] == ["problems.csv"]


# Pictures: the bytes of JPEGImages/a2.jpg

REPLACE = "replace the file, or take the id off the list"
NO_PICTURE = ("is neither a JPEG nor a PNG picture", "convert or replace the file")
BAD_PICTURES = {
    "zero bytes": (b"", r"is empty \(0 bytes\)", REPLACE),
    "cut JPEG": (encoded("JPEG")[:-300], r"is damaged or cut off \(.+\)", REPLACE),
    "JPEG of its header alone": (encoded("JPEG")[:30], "JPEG|cut off", "replace the file"),
    "cut PNG": (encoded("PNG")[:-40], r"is damaged or cut off \(.+\)", REPLACE),
    "PNG without pixels": (png_header(300, 300), r"is damaged or cut off \(.+\)", REPLACE),
    "HTML named .jpg": (b"<!DOCTYPE html><html>404</html>", *NO_PICTURE),
    "text named .jpg": ("Käfer\n".encode(), *NO_PICTURE),
    "zeros, as a crash of the machine leaves": (b"\0" * 5000, *NO_PICTURE),
    "GIF named .jpg": (encoded("GIF"), *NO_PICTURE),
    "animated GIF named .jpg": (animated("GIF"), *NO_PICTURE),
    "WebP named .jpg": (encoded("WEBP"), *NO_PICTURE),
    "TIFF named .jpg": (encoded("TIFF"), *NO_PICTURE),
    "BMP named .jpg": (encoded("BMP"), *NO_PICTURE),
    "HEIC of a telephone named .jpg": (b"\0\0\0\x18ftypheic" + b"\0" * 99, *NO_PICTURE),
    "16-bit grey": (wide_grey(*SIZE), "has the pixel format I;16", "convert it to 8 bits a channel"),
    "200 megapixels": (
        png_header(20_000, 10_000),
        "has 20000×10000 pixels, more than 128 megapixels",
        "make it smaller, and its mask alike if it has one",
    ),
    "one pixel above the limit": (png_header(128_000_001, 1), "more than 128 megapixels", "make it smaller"),
    "header of 4 terapixels": (png_header(2_000_000, 2_000_000), "more than 128 megapix", "make it smaller"),
    "decompression bomb": (zeros(30_000), "has 30000×30000 pixels, more than 128", "make it smaller"),
}


@cases(BAD_PICTURES)
def test_a_bad_picture_is_refused(case, data, out, prepare):
    content, problem, remedy = case
    (Path(data.root) / "JPEGImages/a2.jpg").write_bytes(content)
    refused(prepare(data), out, "a2.jpg", f"({problem})", remedy)


def test_a_picture_far_too_large_is_not_even_read(data, out, prepare):
    with (Path(data.root) / "JPEGImages/a2.jpg").open("wb") as file:
        file.truncate(2 * 10**9)
    refused(prepare(data), out, "a2.jpg", "is 2.0 GB large", "no picture is: replace the file")


ABSENT = "add a2.jpg, or take the id off the list"
BAD_FILES = {
    "missing": (Path.unlink, "train.txt", "image a2 is not in .*JPEGImages", ABSENT),
    "a folder": (lambda path: (path.unlink(), path.mkdir()), "train.txt", "image a2 is not in", ABSENT),
    "a dangling link": (lambda path: (path.unlink(), path.symlink_to("x")), "train.txt", "image a2", ABSENT),
    "a pipe": (lambda path: (path.unlink(), os.mkfifo(path)), "train.txt", "image a2 is not in", ABSENT),
    "twice": (
        lambda path: write_picture(path.with_suffix(".png")),
        "JPEGImages",
        "a2.jpg and a2.png have the same id",
        "keep one",
    ),
    "in another case": (
        lambda path: path.rename(path.with_name("A2.jpg")),
        "train.txt",
        "image a2 is not in",
        r"did you mean A2\?",
    ),
}


@cases(BAD_FILES)
def test_a_picture_that_is_no_file_is_refused(case, data, out, prepare):
    spoil, where, problem, remedy = case
    spoil(Path(data.root) / "JPEGImages/a2.jpg")
    refused(prepare(data), out, where, problem, remedy)


# A picture's bytes, and the colour of its right half
GOOD_PICTURES = {
    "grey": (encoded("JPEG", "L"), (81, 81, 81)),
    "CMYK": (encoded("JPEG", "CMYK"), RED),
    "progressive": (encoded("JPEG", progressive=True), RED),
    "PNG named .jpg": (encoded("PNG"), RED),
    "black and white": (saved(Image.new("1", SIZE, 1)), (255, 255, 255)),
    "grey and alpha": (encoded("PNG", "LA"), (81, 81, 81)),
    "palette": (encoded("PNG", "P"), RED),
    "palette and alpha": (transparent_palette(), RED),
    "alpha": (saved(Image.new("RGBA", SIZE, (*RED, 0))), RED),
    "16-bit colour": (wide_color(*SIZE), RED),
    "EXIF-rotated JPEG": (rotated("JPEG"), RED),
    "EXIF-rotated PNG": (rotated("PNG"), RED),
    "animated PNG": (animated("PNG"), RED),
    "several pictures of a telephone (MPO)": (animated("MPO"), RED),
}


@cases(GOOD_PICTURES)
def test_an_unusual_picture_is_read_right(case, data, out, prepare, recwarn):
    content, color = case
    path = Path(data.root) / "JPEGImages/a1.jpg"
    path.write_bytes(content)
    assert prepare(data)[::2] == (0, "")
    # EXIF rotation is ignored: masks are drawn on the pixels as stored
    record = read_images(out / "train.csv", list(CLASSES))[0]
    assert (record.width, record.height) == SIZE
    picture = read_image(path)
    assert picture.shape == (SIZE[1], SIZE[0], 3)
    # JPEG and the web's palette are near the colour, not on it
    assert np.abs(picture[2:-2, -10:-2].astype(int) - color).max() <= 52
    assert np.abs(picture[2:-2, -10:-2].mean((0, 1)) - color).max() <= 25
    assert [str(warning.message) for warning in recwarn] == []


@pytest.mark.parametrize("size", [(1, 1), (1, 5000), (5000, 1), (10_000, 10_000)])
def test_extreme_sizes_are_taken(size, data, out, prepare, recwarn):
    content = zeros(10_000) if size == (10_000, 10_000) else encoded("JPEG", size=size)
    (Path(data.root) / "JPEGImages/a1.jpg").write_bytes(content)
    assert prepare(data)[::2] == (0, "")
    record = read_images(out / "train.csv", list(CLASSES))[0]
    assert (record.width, record.height) == size
    assert not recwarn.list


PEAK = """
import sys
from ecsnet.cli import main
status = main(sys.argv[1:])
print([line for line in open("/proc/self/status") if line.startswith("VmHWM")][0])
sys.exit(status)
"""


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="reads Linux's /proc")
def test_a_bomb_takes_no_memory_and_no_time(data, out):
    path = Path(data.root) / "JPEGImages/a2.jpg"
    path.write_bytes(zeros(30_000))
    assert path.stat().st_size < 500_000  # of 900 million pixels
    start = time.monotonic()
    words = [sys.executable, "-c", PEAK, *prepare_words(data, out)]
    result = subprocess.run(words, capture_output=True, text=True)
    assert result.returncode == 1
    assert int(result.stdout.split()[-2]) < 300_000  # kilobytes; pandas alone takes a third of it
    assert time.monotonic() - start < 20


# Masks: the bytes of SegmentationClass/a2.png

GREY = Image.new("L", (WIDTH, HEIGHT), 1)
VALUES = np.zeros((HEIGHT, WIDTH), np.uint8)
VALUES[0, :3] = 3, 254, 255
NO_MASK = ("is no PNG picture", "convert or replace the file")
COLORED = "a mask holds one class index per pixel", "convert it to a palette or 8-bit grey PNG"
BAD_MASKS = {
    "RGB": (saved(Image.new("RGB", (WIDTH, HEIGHT))), "this is a RGB picture, but " + COLORED[0], COLORED[1]),
    "RGBA": (saved(Image.new("RGBA", (WIDTH, HEIGHT))), "this is a RGBA picture, but", COLORED[1]),
    "grey and alpha": (saved(Image.new("LA", (WIDTH, HEIGHT))), "this is a LA picture, but", COLORED[1]),
    "16-bit": (wide_grey(WIDTH, HEIGHT), "this is a I;16 picture, but", COLORED[1]),
    "1-bit": (flat_grey(WIDTH, HEIGHT, 1, 1), "this is a 1 picture, but", COLORED[1]),
    "2-bit grey": (flat_grey(WIDTH, HEIGHT, 2, 1), "is a 2-bit grey PNG", "8 bits or with a palette"),
    "4-bit grey": (flat_grey(WIDTH, HEIGHT, 4, 1), "is a 4-bit grey PNG", "8 bits or with a palette"),
    "turned": (
        saved(GREY.resize((8, 12))),
        "is 8×12, but its picture is 12×8",
        "on the picture's own pixels",
    ),
    "one row more": (saved(GREY.resize((12, 9))), "is 12×9, but its picture is 12×8", "draw the mask"),
    "wrong values": (
        saved(Image.fromarray(VALUES)),
        "has the values 3, 254, but 2 classes allow 0 to 2 and 255",
        "correct the mask, or dataset.classes",
    ),
    "all values": (
        saved(Image.fromarray(np.arange(96, dtype=np.uint8).reshape(HEIGHT, WIDTH))),
        "has the values 3, 4, 5, 6, 7, …, but",
        "correct the mask",
    ),
    "zero bytes": (b"", r"is empty \(0 bytes\)", "replace the file"),
    "cut": (saved(GREY)[:-20], r"is damaged or cut off \(.+\)", "replace the file"),
    "JPEG": (saved(GREY, "JPEG"), *NO_MASK),
    "GIF": (saved(GREY, "GIF"), *NO_MASK),
    "HTML": (b"<html>", *NO_MASK),
    "MATLAB file": (b"MATLAB 5.0 MAT-file", *NO_MASK),
    "200 megapixels": (png_header(20_000, 10_000), "has 20000×10000 pixels, more than 128", "make it small"),
    "decompression bomb": (
        zeros(30_000),
        "has 30000×30000 pixels, more than 128 megapixels",
        "make it small",
    ),
}


@pytest.fixture
def check_masks(data: Dataset, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Callable[[], Outcome]:
    """Runs `ecsnet check_masks` on the training images, into masks.csv."""
    record = ImageRecord("a1", "JPEGImages/a1.jpg", WIDTH, HEIGHT, (1,), "0")
    write_images(tmp_path / "train.csv", [record, replace(record, id="a2")], list(CLASSES))
    write_classes(tmp_path / "classes.txt", CLASSES)
    words = ["check_masks", "--root", data.root, "--masks", "SegmentationClass"]
    for option, name in (("images", "train.csv"), ("classes", "classes.txt"), ("out", "masks.csv")):
        words += [f"--{option}", str(tmp_path / name)]
    return lambda: (cli.main(words), *capsys.readouterr())


def refused_mask(outcome: Outcome, folder: Path, problem: str, remedy: str) -> None:
    status, _, message = outcome
    assert status == 1
    assert "Traceback" not in message
    headline, line = message.strip().splitlines()
    assert re.fullmatch(
        r"ecsnet check_masks: The true masks in .*SegmentationClass have 1 mistake:", headline
    )
    assert re.fullmatch(rf"  - .*a2\.png: {problem}.*; .*{remedy}.*", line), line
    assert not (folder / "masks.csv").exists()


@cases(BAD_MASKS)
def test_a_bad_mask_is_refused(case, data, tmp_path, check_masks):
    content, problem, remedy = case
    (Path(data.root) / "SegmentationClass/a2.png").write_bytes(content)
    refused_mask(check_masks(), tmp_path, problem, remedy)


BAD_MASK_FILES = {
    "missing": (Path.unlink, "no such mask", "every scored image needs one; add it"),
    "a folder": (lambda path: (path.unlink(), path.mkdir()), "cannot be read", "make it a readable file"),
    "far too large": (lambda path: os.truncate(path, 2 * 10**9), "is 2.0 GB large", "replace the file"),
}


@cases(BAD_MASK_FILES)
def test_a_mask_that_is_no_file_is_refused(case, data, tmp_path, check_masks):
    spoil, problem, remedy = case
    spoil(Path(data.root) / "SegmentationClass/a2.png")
    refused_mask(check_masks(), tmp_path, problem, remedy)


def paletted(**options) -> bytes:
    picture = GREY.copy()
    picture.putpalette([0, 0, 0, 255, 255, 255, 9, 9, 9])
    return saved(picture, **options)


GOOD_MASKS = {
    "grey, without palette": saved(GREY),
    "a palette that is not VOC's": paletted(),
    "a palette of 4 bits": paletted(bits=4),
    "a palette of 1 bit": paletted(bits=1),
    "transparent": paletted(transparency=1),
    "ignored throughout": saved(Image.new("L", (WIDTH, HEIGHT), 255)),
}


@cases(GOOD_MASKS)
def test_an_unusual_mask_is_taken(case, data, tmp_path, check_masks):
    (Path(data.root) / "SegmentationClass/a2.png").write_bytes(case)
    assert check_masks()[::2] == (0, "")
    assert [label.id for label in read_labels(tmp_path / "masks.csv")] == ["a1", "a2"]


# Lists and ids: the content of the training list

BAD_LISTS = {
    "empty": ("", "holds no image id", "write one id a line"),
    "blank lines alone": ("\n \r\n\t\n", "holds no image id", "write one id a line"),
    "byte order mark alone": (b"\xef\xbb\xbf", "holds no image id", "write one id a line"),
    "duplicate": ("a1\n\na2\na1\n", "a1 stands on line 1 already", "keep one of the two"),
    "UTF-16": ("a1\na2\n".encode("utf-16"), "is not UTF-8 text", "save it as UTF-8"),
    "Latin-1": ("a1\nKäfer\n".encode("latin-1"), "is not UTF-8 text", "save it as UTF-8"),
    "binary": (encoded("PNG"), "is not UTF-8 text", "save it as UTF-8"),
    "id above the folder": ("a1\n../x\n", "'../x' is a path", "the picture's name alone"),
    "absolute id": ("a1\n/etc/passwd\n", "'/etc/passwd' is a path", "the picture's name alone"),
    "paths of two pictures": ("a1\n/JPEGImages/a.jpg /Seg/b.png\n", "is a path", "without folder and ending"),
    "path of another folder": ("a1\n/img/a.jpg /Seg/a.png\n", "is a path", "without folder and ending"),
    "Windows path": ("a1\nJPEGImages\\a2\n", "is a path", "the picture's name alone"),
    "id ..": ("a1\n..\n", r"'\.\.' starts with a dot", "rename the picture"),
    "hidden file": ("a1\n.hidden\n", "starts with a dot", "rename the picture"),
    "space in an id": ("a1\nmy cat\n", "'my cat' is more than one id", "an id has no spaces"),
    "several ids on a line": ("a1 a2\n", "'a1 a2' is more than one id", "write one id a line"),
    "ids with commas between": ("a1, a2\n", "'a1, a2' is more than one id", "write one id a line"),
    "unknown flag": ("a1 2\n", "'a1 2' is more than one id", "write one id a line"),
    "id with an ending": ("a1\na2.JPG\n", r"'a2\.JPG' has a picture's ending", "write it without"),
    "zero byte": ("a1\na\x002\n", "has an unprintable character", "save the list as plain UTF-8 text"),
    "zero-width space": ("a1\na2\u200b\n", "has an unprintable character", "save the list as plain UTF-8"),
    "id of 300 characters": ("a1\n" + "x" * 300, "is 300 bytes long", "rename the picture; 200 are the most"),
    "id without a picture": ("a1\nb7\n", "image b7 is not in .*JPEGImages", r"add b7\.jpg, or take the id"),
    "id in another case": ("a1\nA2\n", "image A2 is not in .*JPEGImages", r"did you mean a2\?"),
}


@cases(BAD_LISTS)
def test_a_bad_list_is_refused(case, data, out, prepare):
    content, problem, remedy = case
    for image_id in ("A2", "b7"):
        write_annotation(Path(data.root), image_id, ("cat",))
    write_list(Path(data.root), "train", content)
    refused(prepare(data), out, r"train\.txt", problem, remedy)


def test_an_id_in_another_unicode_form_is_told_apart(data, out, prepare):
    folder = Path(data.root) / "JPEGImages"
    (folder / "a2.jpg").rename(folder / "ka\u0308fer.jpg")  # as macOS writes it
    (Path(data.root) / "Annotations/a2.xml").rename(Path(data.root) / "Annotations/k\xe4fer.xml")
    write_list(Path(data.root), "train", "a1\nk\xe4fer\n")
    refused(prepare(data), out, r"train\.txt", "image käfer is not in", "in another Unicode form: rename")


LIST = "give the name of a list in ImageSets/Segmentation"
BAD_LIST_FILES = {
    "missing": ("other", "no such list", LIST + r" \(train, val\) or the path of a \.txt file"),
    "missing trainaug": (
        "trainaug",
        "no such list",
        LIST + ".*; `snakemake download --cores 1`, with .*, makes trainaug",
    ),
    "missing path": ("nowhere/mine.txt", "no such list", LIST),
    "a folder": ("./voc", "is no file, but a folder or a device; a list is wanted here", LIST),
    "a device": ("/dev/zero", "is no file, but a folder or a device", LIST),
    "a pipe": ("./pipe", "is no file, but a folder or a device", LIST),
    "a name of 5,000 letters": ("x" * 5000, r"cannot be read \(File name too long\)", "make it a readable"),
}


@cases(BAD_LIST_FILES)
def test_a_list_that_is_no_file_is_refused(case, data, out, prepare, monkeypatch):
    name, problem, remedy = case
    monkeypatch.chdir(out.parent)
    os.mkfifo("pipe")
    refused(prepare(replace(data, train_list=name)), out, r"\S*", problem, remedy)


GOOD_LISTS = {
    "Unix line ends": ("a2\na1\n", ["a2", "a1"]),
    "no line end at the end": ("a2\na1", ["a2", "a1"]),
    "Windows line ends": ("a2\r\na1\r\n", ["a2", "a1"]),
    "line ends of old Macs": ("a2\ra1", ["a2", "a1"]),
    "byte order mark": (b"\xef\xbb\xbfa2\na1\n", ["a2", "a1"]),
    "blank lines and spaces": ("\n\na2\n \n a1 \n\n", ["a2", "a1"]),
    "flags of ImageSets/Main": ("a2  1\na1 -1\n", ["a2", "a1"]),
    "Unicode": ("Käfer\n猫\n", ["Käfer", "猫"]),
    "in case alone apart": ("Cat\ncat\n", ["Cat", "cat"]),
    "words of a shell": (
        "$(id)\n`a`;b\n'a&b'\n\"a\"\n*\n-r\n",
        ["$(id)", "`a`;b", "'a&b'", '"a"', "*", "-r"],
    ),
    "words of a table": ('a,b\nnan\n007\nNone\n"a\n', ["a,b", "nan", "007", "None", '"a']),
    "200 letters": ("x" * 200, ["x" * 200]),
}


@cases(GOOD_LISTS)
def test_an_unusual_list_is_read_right(case, data, out, prepare):
    content, ids = case
    root = Path(data.root)
    for image_id in ids:
        write_picture(root / "JPEGImages" / f"{image_id}.jpg")
        write_annotation(root, image_id, ("cat",))
    write_list(root, "train", content)
    assert prepare(data)[::2] == (0, "")
    assert [record.id for record in read_images(out / "train.csv", list(CLASSES))] == ids


def test_ids_in_case_alone_apart_are_warned_of(data, prepare):
    for image_id in ("Cat", "cat"):
        write_picture(Path(data.root) / "JPEGImages" / f"{image_id}.jpg")
    write_list(Path(data.root), "val", "Cat\ncat\n")
    warning = "warning: dataset.val_list: Cat and cat are one name where case is not told apart"
    assert warning in prepare(data, "val")[1]


# Annotations: the bytes of Annotations/a2.xml

BOMB = (
    '<!DOCTYPE a [<!ENTITY a "ha"><!ENTITY b "&a;&a;&a;&a;&a;&a;&a;&a;&a;">]>'
    "<annotation><object><name>&b;</name></object></annotation>"
)
OUTSIDE = (
    '<?xml version="1.0"?><!DOCTYPE a [<!ENTITY x SYSTEM "file:///etc/passwd">]>'
    "<annotation><object><name>&x;</name></object></annotation>"
)
ENTITIES = ("declares a document type or entities", "delete the declaration")
BROKEN = "repair or replace the file"
NAMELESS = ("has an object without a name", "give it the name of its class")


def objects(*names: str) -> str:
    inside = "".join(f"<object><name>{name}</name></object>" for name in names)
    return f"<annotation>{inside}</annotation>"


BAD_ANNOTATIONS = {
    "empty": ("", r"broken XML \(no element found", BROKEN),
    "cut": (objects("cat")[:-20], r"broken XML \(", BROKEN),
    "mismatched tags": ("<annotation><object></annotation>", r"broken XML \(mismatched tag", BROKEN),
    "zero byte": ("<annotation>\x00</annotation>", r"broken XML \(", BROKEN),
    "JSON": ('{"objects": ["cat"]}', r"broken XML \(", BROKEN),
    "entity bomb": (BOMB, *ENTITIES),
    "entity bomb in UTF-16": (BOMB.encode("utf-16"), "is not UTF-8 text", "save it as UTF-8"),
    "external entity": (OUTSIDE, *ENTITIES),
    "external document type": ('<!DOCTYPE a SYSTEM "http://x/y.dtd"><annotation/>', *ENTITIES),
    "undefined entity": ("<annotation>&b;</annotation>", r"broken XML \(undefined entity", BROKEN),
    "UTF-16": (objects("cat").encode("utf-16"), "is not UTF-8 text", "save it as UTF-8"),
    "Latin-1": (objects("Käfer").encode("latin-1"), "is not UTF-8 text", "save it as UTF-8"),
    "HTML": ("<html/>", "its root is <html>", "a VOC annotation starts with <annotation>"),
    "nameless object": ("<annotation><object/></annotation>", *NAMELESS),
    "blank name": (objects(" "), *NAMELESS),
    "no object": (objects(), "image without tags: no object", "add one, or take the id off the list"),
    "class in another case": (objects("Cat", "dog"), "unknown class 'Cat'", r"did you mean cat\?"),
    "unknown class": (objects("lorry"), "unknown class 'lorry'", "correct it, or add it to dataset.classes"),
    "name of a million letters": (objects("x" * 10**6), "unknown class 'x{59}…'", "correct it, or add it"),
}


@cases(BAD_ANNOTATIONS)
def test_a_bad_annotation_is_refused(case, data, out, prepare):
    content, problem, remedy = case
    path = Path(data.root) / "Annotations/a2.xml"
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    refused(prepare(data), out, r"a2\.xml", problem, remedy)


ADD = "add it, take the id off the list, or read the tags from ImageSets/Main"
BAD_ANNOTATION_FILES = {
    "missing": (Path.unlink, "no such annotation", ADD),
    "a folder": (lambda path: (path.unlink(), path.mkdir()), "is no file, but a folder", ADD),
    "a pipe": (lambda path: (path.unlink(), os.mkfifo(path)), "is no file, but a folder or a device", ADD),
}


@cases(BAD_ANNOTATION_FILES)
def test_an_annotation_that_is_no_file_is_refused(case, data, out, prepare):
    spoil, problem, remedy = case
    spoil(Path(data.root) / "Annotations/a2.xml")
    refused(prepare(data), out, r"a2\.xml", problem, remedy)


def test_an_image_of_difficult_objects_alone_is_refused_where_they_do_not_count(data, out, prepare):
    write_annotation(Path(data.root), "a2", ("cat",), difficult=1)
    outcome = prepare(replace(data, difficult=False))
    refused(outcome, out, r"a2\.xml", "all its objects are difficult", "set dataset.difficult: true")


GOOD_ANNOTATIONS = {
    "byte order mark": b"\xef\xbb\xbf" + objects("dog").encode(),
    "Windows line ends": objects("dog").replace("><", ">\r\n<").encode(),
    "declared Latin-1, but plain": b"<?xml version='1.0' encoding='ISO-8859-1'?>" + objects("dog").encode(),
    "comments and CDATA": objects("<!-- a --><![CDATA[dog]]>").encode(),
    "character references": objects("&#100;og").encode(),
    "an object in an object": objects("dog</name><object><name>cat</name></object><name>").encode(),
    "many objects": objects(*["dog"] * 5000).encode(),
    "nested 100,000 deep": objects("dog</name>" + "<a>" * 10**5 + "</a>" * 10**5 + "<name>").encode(),
}


@cases(GOOD_ANNOTATIONS)
def test_an_unusual_annotation_is_read_right(case, data, out, prepare):
    (Path(data.root) / "Annotations/a2.xml").write_bytes(case)
    assert prepare(data)[::2] == (0, "")
    assert read_images(out / "train.csv", list(CLASSES))[1].tags == (2,)


# The configuration: YAML as a user writes it

NO_TEXT = "it must not be empty, begin with a dash, or hold braces or control characters"
BAD_CONFIGS = {
    "typo": ("erase: {treshold: 0.4}", "erase.treshold", "unknown setting 'treshold'", "mean threshold"),
    "unknown section": ("erease: {flip: true}", "erease", "unknown setting 'erease'", "did you mean erase"),
    "nothing like it": ("zzzz: 4", "zzzz", "unknown setting 'zzzz'", "known are run, seed, shards"),
    "number for a key": ("3: 4", "3", "unknown setting '3'", "known are run, seed"),
    "null for a key": ("~: 4", "null", "unknown setting 'null'", "known are run, seed"),
    "empty section": ("erase:", "erase", "expected a section of settings, found null", "or take it out"),
    "number for a section": ("erase: 5", "erase", "expected a section of settings, found 5", "below it"),
    "list for a section": ("erase: [5]", "erase", r"expected a section of settings, found \[5\]", "below it"),
    "null for a value": ("seed: null", "seed", "expected a whole number, found null", "give 0 to 4294967295"),
    "list for a number": ("seed: [0]", "seed", r"expected a whole number, found \[0\]", "give 0 to"),
    "section for a number": ("seed: {a: 1}", "seed", 'expected a whole number, found {"a": 1}', "give 0 to"),
    "number for a list": ("erase: {scales: 1}", "erase.scales", "expected a list, found 1", r"write \[1\]"),
    "empty list": ("erase: {scales: []}", "erase.scales", "expected a list of one or more", "at least one"),
    "list too long": ("train_cam: {scale: [1, 2, 3]}", "train_cam.scale", "a list of 2 values", "that many"),
    "list in a list": ("erase: {scales: [[1]]}", r"erase.scales\[0\]", r"a number, found \[1\]", "give 0.1"),
    "list turned": ("train_cam: {scale: [2, 1]}", "train_cam.scale", "2.0 is larger than 1.0", "smaller one"),
    "text for a number": ("shards: many", "shards", 'whole number, found "many"', "give 1 to 10000"),
    "number in quotes": ("shards: '4'", "shards", 'whole number, found "4"', "give 1 to 10000"),
    "fraction for a whole number": ("shards: 1.5", "shards", "whole number, found 1.5", "give 1 to 10000"),
    "true for a number": ("shards: yes", "shards", "whole number, found true", "give 1 to 10000"),
    "number for true": ("erase: {flip: 1}", "erase.flip", "true or false, found 1", "without quotes"),
    "text for true": ("erase: {flip: 'on'}", "erase.flip", 'true or false, found "on"', "without quotes"),
    "not a number": ("erase: {threshold: .nan}", "erase.threshold", "a number, found NaN", "give 0.01 to 1"),
    "infinity": ("erase: {threshold: .inf}", "erase.threshold", "a number, found Infinity", "give 0.01 to 1"),
    "minus infinity": ("seed: -.inf", "seed", "a whole number, found -Infinity", "give 0 to"),
    "1e400": ("erase: {threshold: 1e400}", "erase.threshold", 'a number, found "1e400"', "give 0.01 to 1"),
    "comma for a point": ("erase: {threshold: '0,5'}", "erase.threshold", 'found "0,5"', "give 0.01 to 1"),
    "per cent": ("erase: {threshold: 50%}", "erase.threshold", 'found "50%"', "give 0.01 to 1"),
    "too high": ("erase: {threshold: 1.5}", "erase.threshold", "1.5 is out of range", "give 0.01 to 1"),
    "too low": ("shards: 0", "shards", "0 is out of range", "give 1 to 10000"),
    "minus one": ("seed: -1", "seed", "-1 is out of range", "give 0 to 4294967295"),
    "number of 5,000 digits": (f"seed: 0x1{'0' * 5000}", "seed", ".*type int is out of range", "give 0 to"),
    "unknown choice": ("dataset: {kind: voc07}", "dataset.kind", 'unknown value "voc07"', "did you mean voc"),
    "choice among numbers": (
        "train_cam: {backbone: {output_stride: 12}}",
        "train_cam.backbone.output_stride",
        "unknown value 12",
        "(did you mean|known are) ",
    ),
    "crop that does not fit the stride": (
        "train_cam: {crop_size: 512}",
        "train_cam.crop_size",
        "512 is no multiple of",
        "the nearest are 497 and 513",
    ),
    "seed in a section": ("train_cam: {seed: 1}", "train_cam.seed", "for all trainings", "at the top level"),
    "number for text": ("run: 2", "run", "expected text, found 2", "put it in quotes"),
    "date for text": ("run: 2024-05-01", "run", 'expected text, found "2024-05-01"', "put it in quotes"),
    "the class no": ("dataset: {classes: [no]}", r"dataset.classes\[0\]", "text, found false", "in quotes"),
    "one class without brackets": (
        "dataset: {classes: cat}",
        "dataset.classes",
        'expected a list, found "cat"',
        r'write \["cat"\]',
    ),
    "class twice": ("dataset: {classes: [a, b, a]}", "dataset.classes", "a stand more than once", "keep one"),
    "background as a class": (
        "dataset: {classes: [background, a]}",
        "dataset.classes",
        "background is always class 0",
        "take it out",
    ),
    "class with semicolon": ("dataset: {classes: [a;b]}", "dataset.classes", '"a;b" is no name', "leave out"),
    "class with a slash": ("dataset: {classes: [x/a]}", "dataset.classes", '"x/a" is no name', "leave out"),
    "300 classes": (
        f"dataset: {{classes: {[f'c{number}' for number in range(300)]}}}",
        "dataset.classes",
        "300 classes, but a palette PNG holds 254",
        "leave some out",
    ),
    "empty root": ("dataset: {root: ''}", "dataset.root", '"" is no usable text', NO_TEXT),
    "root that looks like an option": ("dataset: {root: -x}", "dataset.root", '"-x" is no usable', NO_TEXT),
    "root with a wildcard": ("dataset: {root: 'a/{b}'}", "dataset.root", '"a/{b}" is no usable', NO_TEXT),
    "root with a zero byte": (r'dataset: {root: "a\0b"}', "dataset.root", "is no usable text", NO_TEXT),
    "root with a line end": (r'dataset: {root: "a\nb"}', "dataset.root", "is no usable text", NO_TEXT),
    "half a character": (r'dataset: {root: "\uD800"}', "dataset.root", r'text, found "\\ud800"', "in quotes"),
    "run that leaves its folder": ("run: ../x", "run", r'"\.\./x" must be a folder name', "letters, digits"),
    "run with a space": ("run: my run", "run", '"my run" must be a folder name', "letters, digits"),
    "run of 300 letters": (f"run: {'x' * 300}", "run", '"x+… must be a folder name', "1 to 100 letters"),
    "backbone that timm cannot have": (
        "train_cam: {backbone: {name: 'hf_hub:x/y'}}",
        "train_cam.backbone.name",
        '"hf_hub:x/y" is no name that timm has',
        r"timm\.list_models\(\) lists them",
    ),
    "an alias that holds itself": ("seed: &a [*a]", "seed", "found something of the type list", "give 0 to"),
    "aliases that blow up": (
        "seed:\n- &a [1, 1, 1]\n"
        + "".join(f"- &{y} [{', '.join([f'*{x}'] * 9)}]\n" for x, y in itertools.pairwise("abcdefghi")),
        "seed",
        r"expected a whole number, found \[\[1, 1, 1\], \[\[1, 1",
        "give 0 to",
    ),
    "a function": ("seed: !!python/name:os.system", "seed", 'found "<built-in function', "give 0 to"),
}


@cases(BAD_CONFIGS)
def test_a_bad_configuration_is_refused(case, tmp_path):
    text, key, problem, remedy = case
    (tmp_path / "config.yaml").write_text(text)
    values = load_configfile(str(tmp_path / "config.yaml"))  # as Snakemake reads it
    start = time.monotonic()
    with pytest.raises(UserError) as caught:
        parse_config(values)
    assert time.monotonic() - start < 1
    headline, line = str(caught.value).splitlines()
    assert headline == "The configuration has mistakes:"
    assert re.fullmatch(rf"  - {key}: .*{problem}.*; .*{remedy}.*", line), line
    assert len(line) < 500


GOOD_CONFIGS = {
    "nothing": ("{}", Config()),
    "1e-4, which is text in YAML 1.1": (
        "train_cam: {learning_rate: 1e-4}",
        parse_config({"train_cam": {"learning_rate": 0.0001}}),
    ),
    "2.0 for 2": ("shards: 2.0", parse_config({"shards": 2})),
    "2 for 2.0": ("predict: {scales: [2]}", parse_config({"predict": {"scales": [2.0]}})),
    "JSON": ('{"shards": 2}', parse_config({"shards": 2})),
    "null where it means something": ("runtime: {workers: null}", Config()),
}


@cases(GOOD_CONFIGS)
def test_an_unusual_configuration_is_read_right(case, tmp_path):
    text, config = case
    (tmp_path / "config.yaml").write_text(text)
    assert parse_config(load_configfile(str(tmp_path / "config.yaml"))) == config


@pytest.mark.parametrize("option", ["root", "masks", "images", "classes", "list-name", "out"])
def test_names_that_are_too_long_are_told(option, tmp_path, check_masks, capsys):
    words = ["check_masks", "--root", str(tmp_path / "voc"), "--masks", "SegmentationClass"]
    for name, file in (("images", "train.csv"), ("classes", "classes.txt"), ("out", "masks.csv")):
        words += [f"--{name}", str(tmp_path / file)]
    assert cli.main([*words, f"--{option}", str(tmp_path / ("x" * 300))]) == 1
    message = capsys.readouterr().err
    assert re.search(r"x{300}.*(; .+|too long)", message)
    assert len(message.strip().splitlines()) <= 2


# The command line of every stage, with every key of its settings wrong

WRONG: tuple[Any, ...] = ({"x": 1}, None, "", "\x00", [[]], [], 1e300, True, 10**400)


@pytest.mark.parametrize("stage", [name for name, stage in cli.STAGES.items() if stage.section])
@pytest.mark.parametrize("value", WRONG, ids=lambda value: repr(value)[:9])
def test_every_key_that_is_wrong_is_named(stage, value, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    section = cli.STAGES[stage].section
    assert section is not None
    words = [stage, "--settings", json.dumps(dict.fromkeys(section.__dataclass_fields__, value))]
    for key in cli.STAGES[stage].arguments.split():
        words += [f"--{key.replace('_', '-')}", "1/2" if key == "shard" else "1" if key == "round" else "x"]
    assert cli.main(words) == 1
    headline, *lines = capsys.readouterr().err.strip().splitlines()
    assert headline == f"ecsnet {stage}: The settings of {stage} have mistakes:"
    assert all(re.match(rf"  - {stage}\.\w+", line) and "; " in line for line in lines)
    named = {re.split(r"[.:[]", line)[1] for line in lines}
    accepted = {
        name
        for name, item in section.__dataclass_fields__.items()
        if (value is True and item.type is bool) or (value is None and "None" in str(item.type))
    }
    assert named == set(section.__dataclass_fields__) - accepted
    assert list(tmp_path.iterdir()) == []


def test_there_are_many_kinds():
    tables = [table for name, table in globals().items() if re.fullmatch(r"(BAD|GOOD)_\w+", name)]
    assert sum(map(len, tables)) >= 180
