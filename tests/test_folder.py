"""Photographs of one's own: reading the tags, parts, ids, classes; laying them out."""

import csv
import dataclasses
import unicodedata

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from ecsnet import import_folder, import_masks, photographs
from ecsnet.errors import UserError
from ecsnet.folder import ENDINGS, Photo, laid_out, photo_id, read_photos, resolved, split, with_masks
from ecsnet.palette import read_mask, write_mask
from ecsnet.settings import VOC_CLASSES, Dataset, parse_config
from ecsnet.voc import read_list, read_tags

TAGS = {"a.jpg": "cat", "b c.JPG": "cat; dog", "sub/d.png": "dog;dog", "e.webp": "cat;dog", "f.jpg": ""}


@pytest.fixture
def place(tmp_path, monkeypatch):
    """A folder with five photographs and their tags, where snakemake would run."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "photos" / "sub").mkdir(parents=True)
    for number, name in enumerate([*TAGS, "g.jpg"]):
        save(tmp_path / "photos" / name, (40 + number, 30))
    write_tags(tmp_path / "tags.csv", TAGS)
    return tmp_path


def save(path, size, **options):
    generator = np.random.default_rng(size[0])
    Image.fromarray(generator.integers(0, 256, (size[1], size[0], 3), dtype=np.uint8)).save(path, **options)


def write_tags(path, tags, header=True):
    with path.open("w", newline="", encoding="utf-8") as file:
        rows = csv.writer(file)
        rows.writerows([*([["image", "labels"]] if header else []), *tags.items()])


def dataset(**values):
    return Dataset(**{"kind": "folder", "images": "photos", "tags": "tags.csv", **values})


def test_every_picture_is_found_with_its_labels(place):
    photos = {photo.name: photo for photo in read_photos(dataset())}
    assert {name: photo.labels for name, photo in photos.items()} == {
        "a.jpg": ("cat",),
        "b c.JPG": ("cat", "dog"),
        "e.webp": ("cat", "dog"),
        "f.jpg": (),
        "g.jpg": (),
        "sub/d.png": ("dog",),
    }
    assert [photos[name].id for name in ("b c.JPG", "sub/d.png")] == ["b_c", "sub_d"]


def test_a_table_without_header_and_of_another_system(place):
    (place / "tags.csv").write_bytes('\ufeffa.jpg,cat\r\n\r\nsub\\d.png,"dog; cat"\r\n'.encode())
    found = {photo.name: photo.labels for photo in read_photos(dataset()) if photo.labels}
    assert found == {"a.jpg": ("cat",), "sub/d.png": ("cat", "dog")}


@pytest.mark.parametrize(
    ("tags", "message"),
    [
        ("image,labels\nx.jpg,cat\n", r"tags\.csv: x\.jpg is not in photos; add the picture"),
        ("A.jpg,cat\n", r"A\.jpg is not in photos; did you mean a\.jpg\?"),
        ("a.jpg,cat,dog\n", r"tags\.csv:1: 3 columns; write image,labels with semicolons"),
        ("a.jpg\n", r"tags\.csv:1: 1 columns; write image,labels"),
        (
            "a.jpg;cat\ne.webp;dog\n",
            r"columns are separated by ;, expected ,; write image;labels as the first",
        ),
        ("a.jpg\tcat\ne.webp\tdog\n", r"columns are separated by tabs, expected ,"),
        (
            "picture no,what\na.jpg,cat\n",
            r"tags\.csv:1: 'picture no, what' is neither the header image,labels",
        ),
        ("what;who\na.jpg;cat\n", r"tags\.csv:1: 'what;who' is neither the header"),
        ("image,labels,note\na.jpg,cat,x\n", r"tags\.csv:1: more columns than two \(image, labels, note\)"),
        ("image;label;note\na.jpg;cat;x\n", r"tags\.csv:1: more columns than two"),
        (
            'a.jpg,"cat, dog"\ne.webp,cat|dog\n',
            r"'cat, dog' in line 1, 'cat\|dog' in line 2; write ; between",
        ),
        (
            "image\tlabels\na.jpg\tcat,dog\n",
            r"labels with a comma or \|: 'cat,dog' in line 2; write ; between",
        ),
        (",cat\n", r"tags\.csv:1: no picture's name"),
        ("a.jpg,cat\na.jpg,dog\n", r"tags\.csv:2: a\.jpg stands there before"),
        ("image,labels\n", r"tags\.csv: names no picture"),
        ('a.jpg,"cat\nb.jpg,dog\n', r"tags\.csv:2: no CSV \(.*\); is a quote missing\?"),
        ("a.jpg,-cat\n", r'tags\.csv: "-cat" is no name'),
        ("a.jpg,cat\ne.webp,Cat\n", r"tags\.csv: cat is written in 2 ways"),
        (b"a.jpg,\xff\n", r"tags\.csv: no readable UTF-8 text .* in Excel as the file type CSV UTF-8"),
        ("a.jpg,cat\n".encode("utf-16"), r"in Excel as the file type CSV UTF-8"),
        ("a.jpg,cat\n".encode("utf-16-le"), r"in Excel as the file type CSV UTF-8"),
    ],
)
def test_mistakes_in_the_table(place, tags, message):
    (place / "tags.csv").write_bytes(tags if isinstance(tags, bytes) else tags.encode())
    with pytest.raises(UserError, match=message) as raised:
        read_photos(dataset())
    assert len(str(raised.value).splitlines()) == 2


@pytest.mark.parametrize(
    "tags",
    [
        'image;labels\na.jpg;"cat;dog"\nsub/d.png;dog\n',
        "image;labels;;\na.jpg;cat;dog;\nsub/d.png;dog;;\n",
        '"image";"labels"\n"a.jpg";"cat;dog"\n"sub/d.png";"dog"\n',
        "image\tlabels\r\na.jpg\tcat;dog\r\nsub/d.png\tdog\r\n",
        'sep=;\nimage;labels\na.jpg;"cat;dog"\nsub/d.png;dog\n',
        "sep=;\r\na.jpg;cat;dog\r\nsub/d.png;dog\r\n",
        "sep=\t\na.jpg\tcat;dog\nsub/d.png\tdog\n",
        "\n,\nimage,labels\na.jpg,cat;dog\nsub/d.png,dog\n",
        ";\nimage;labels\na.jpg;cat;dog\nsub/d.png;dog\n",
        "image,labels,,\na.jpg,cat;dog,,\nsub/d.png,dog,,\n,,,\n",
        "image,labels;\na.jpg,cat;dog\nsub/d.png,dog;\n",
        "Filename,Tags\na.jpg,cat;dog\nsub/d.png,dog\n",
    ],
)
def test_tables_as_programs_write_them(place, tags):
    (place / "tags.csv").write_text(tags, newline="")
    found = {photo.name: photo.labels for photo in read_photos(dataset()) if photo.labels}
    assert found == {"a.jpg": ("cat", "dog"), "sub/d.png": ("dog",)}


def test_a_comma_in_a_class_that_is_given(place):
    write_tags(place / "tags.csv", {"a.jpg": "cat, big;dog"})
    [photo] = [one for one in read_photos(dataset(classes=("cat, big", "dog"))) if one.labels]
    assert photo.labels == ("cat, big", "dog")


@pytest.mark.parametrize(
    ("name", "near"),
    [
        ("A.JPG", "a.jpg"),
        ("a.png", "a.jpg"),
        ("a", "a.jpg"),
        ("photos/a.jpg", "a.jpg"),
        ("/home/me/photos/sub/d.png", "sub/d.png"),
        ("d.png", "sub/d.png"),
        ("d.jpeg", "sub/d.png"),
        ("other/b c.jpg", "b c.JPG"),
    ],
)
def test_names_that_are_nearly_right(place, name, near):
    write_tags(place / "tags.csv", {name: "cat"})
    with pytest.raises(UserError) as raised:
        read_photos(dataset())
    assert str(raised.value).endswith(f"tags.csv: {name} is not in photos; did you mean {near}?")


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"images": None}, r"kind folder needs images, .* and tags, a CSV file"),
        ({"tags": "auto"}, r"kind folder needs images, .* and tags, a CSV file"),
        ({"images": "nowhere"}, r"dataset\.images: there is no folder nowhere"),
        ({"tags": "nothing.csv"}, r"dataset\.tags: there is no file nothing\.csv"),
        ({"masks": "nowhere"}, r"dataset\.masks: there is no folder nowhere"),
        ({"classes": ("cat", "cow")}, r"'dog' \(3 pictures\) is none of dataset\.classes"),
        ({"images": "."}, r"dataset\.images: \. holds results, which are no photographs"),
    ],
)
def test_mistakes_in_the_configuration(place, values, message):
    (place / "results").mkdir()
    with pytest.raises(UserError, match=message):
        read_photos(dataset(**values))


def test_what_exiftool_writes_is_read(place):
    """`exiftool -csv -sep ';' -Subject .` within the folder of photographs."""
    rows = [f'./{name},"{labels}"' for name, labels in TAGS.items()]
    (place / "tags.csv").write_text("\n".join(["SourceFile,Subject", *rows]))
    assert {photo.name: photo.labels for photo in read_photos(dataset())}["sub/d.png"] == ("dog",)


def test_two_pictures_of_one_id_are_refused(place):
    save(place / "photos" / "a.png", (9, 9))
    with pytest.raises(UserError, match=r"a\.jpg and a\.png would be called the same, a; rename one"):
        read_photos(dataset())


def test_all_mistakes_are_told_at_once(place):
    write_tags(place / "tags.csv", {**TAGS, "x.jpg": "cat"})
    for name in ("y.ARW", "line\nend.jpg", "a.png"):
        (place / "photos" / name).write_bytes(b"")
    (place / "drawn").mkdir()
    for name in ("a", "b_c"):
        write_mask(place / "drawn" / f"{name}.PNG", np.zeros((3, 3), np.uint8))
    with pytest.raises(UserError) as raised:
        read_photos(dataset(masks="drawn", classes=("cat", "cow")))
    lines = str(raised.value).splitlines()[1:]
    for words in (
        "x.jpg is not in photos",
        "y.ARW: cannot be read; convert it to JPEG, or move it out of the folder",
        "has signs that no table can hold",
        "a.jpg and a.png would be called the same",
        "drawn/b_c.PNG: belongs to no picture",
        "'dog' (3 pictures)",
    ):
        assert [line for line in lines if words in line], words
    assert len(lines) == 6


@pytest.mark.parametrize(("written", "stored"), [("NFC", "NFD"), ("NFD", "NFC")])
def test_names_in_two_unicode_forms(place, written, stored):
    name = unicodedata.normalize(stored, "März.jpg")
    write_tags(place / "tags.csv", {unicodedata.normalize(written, name): "cat"})
    save(place / "photos" / name, (9, 9))
    [photo] = [one for one in read_photos(dataset()) if one.labels]
    assert photo.name == name
    (place / "held").write_text(unicodedata.normalize(written, name), encoding="utf-8")
    assert split([photo], dataset(val_list="held"))["val"] == [photo.id]


def test_names_of_other_scripts_keep_apart():
    assert len({photo_id("का.jpg"), photo_id("कि.jpg"), photo_id("😀.jpg"), photo_id("😁.jpg")}) == 4


def test_a_folder_of_something_else(place):
    (place / "empty").mkdir()
    with pytest.raises(UserError, match=r"empty: no picture \(\.jpg, "):
        read_photos(dataset(images="empty"))


@given(
    st.text(st.characters(blacklist_categories=["Cs"], blacklist_characters="\0"), min_size=1, max_size=30)
)
def test_an_id_can_stand_in_a_list(name):
    image_id = photo_id(f"x{name.replace('/', '_')}.jpg")
    assert image_id.split() == [image_id]
    assert image_id.isprintable()
    assert not image_id.lower().endswith((".jpg", ".jpeg", ".png"))
    assert "/" not in image_id
    assert "\\" not in image_id


def photos_of(*labels, masks=()):
    return [
        Photo(f"{number}.jpg", str(number), tuple(found.split()), f"{number}.png" if number in masks else "")
        for number, found in enumerate(labels)
    ]


@given(st.lists(st.sampled_from(["", "a", "b", "a b", "c"]), min_size=1, max_size=40), st.floats(0.01, 0.9))
def test_each_picture_is_in_one_part_and_every_class_is_learned(labels, share):
    photos = photos_of(*labels)
    parts = split(photos, Dataset(val_share=share))
    assert sorted(parts["train"] + parts["val"] + parts["rest"], key=int) == parts["all"]
    assert parts["rest"] == [photo.id for photo in photos if not photo.labels]
    learned = {label for photo in photos if photo.id in parts["train"] for label in photo.labels}
    assert learned == {label for photo in photos for label in photo.labels}
    assert len(parts["val"]) <= max(1, round(share * len([photo for photo in photos if photo.labels])))


def test_further_pictures_move_none_but_few():
    photos = photos_of(*["a"] * 100)
    before, after = (set(split(photos[:count], Dataset(val_share=0.2))["val"]) for count in (90, 100))
    assert len(before) == 18
    assert len(before - after) <= 3


def test_masks_change_no_part():
    labels, chosen = ["a"] * 20, Dataset(val_share=0.1)
    plain, masked = photos_of(*labels), photos_of(*labels, masks=(3, 7, 11))
    assert split(plain, chosen) == split(masked, chosen)
    lists = with_masks(masked, chosen)
    assert sorted(lists["train_masked"] + lists["val_masked"], key=int) == ["3", "7", "11"]


def test_a_list_says_what_is_held_back(place):
    (place / "held").write_text("a.jpg\nsub\\d\n\n")
    assert split(read_photos(dataset()), dataset(val_list="held"))["val"] == ["a", "sub_d"]
    for text, message in (("a.jpg\nx.jpg\n", r"held: x\.jpg is no picture"), ("", "names no picture")):
        (place / "held").write_text(text)
        with pytest.raises(UserError, match=message):
            split(read_photos(dataset()), dataset(val_list="held"))
    with pytest.raises(UserError, match=r"dataset\.val_list: other cannot be read"):
        split(read_photos(dataset()), dataset(val_list="other"))


def config(**values):
    given = {"kind": "folder", "images": "photos", "tags": "tags.csv", **values}
    supervised = {"enabled": given.pop("supervised", False)}
    return resolved(parse_config({"run": "mine", "dataset": given, "supervised": supervised}))[0]


def test_classes_are_those_of_the_tags_unless_others_are_given(place):
    assert config().dataset.classes == ("cat", "dog")
    assert config(classes=["dog", "cow", "cat"]).dataset.classes == ("dog", "cow", "cat")
    write_tags(place / "tags.csv", {"a.jpg": "a/b", "b c.JPG": "a/b"})
    with pytest.raises(UserError, match=r'"a/b" is no name'):
        config()


def test_what_has_masks_is_scored(place):
    found = config()
    assert (found.score.train_masks, found.score.val_masks, found.supervised.masks) == (None, None, None)
    (place / "masks").mkdir()
    for name in ("a", "b c"):
        write_mask(place / "masks" / f"{name}.png", np.zeros((30, 40), np.uint8))
    drawn = {"masks": "masks", "classes": ["cat", "dog"]}
    (place / "held.txt").write_text("a.jpg\n")
    found = config(**drawn, val_list="held.txt")
    assert (found.score.train_list, found.score.train_masks) == ("train_masked", "SegmentationClass")
    assert (found.score.val_masks, found.supervised.masks) == ("SegmentationClass", None)
    (place / "held.txt").write_text("a.jpg\nb c.JPG\n")
    assert config(**drawn, val_list="held.txt").score.train_masks is None
    with pytest.raises(UserError, match=r"supervised\.enabled: of 2 pictures to learn from, 0 have a mask"):
        config(**drawn, val_list="held.txt", supervised=True)


def test_masks_need_classes_in_their_order(place):
    (place / "masks").mkdir()
    write_tags(place / "tags.csv", {"a.jpg": "beetle", "e.webp": "beetle"})
    with pytest.raises(
        UserError, match=r"'beetle' \(2 pictures\) is none of dataset\.classes; .* in the order of"
    ):
        config(masks="masks")
    write_tags(place / "tags.csv", TAGS)  # all of them VOC's, whose values the masks need not have
    with pytest.raises(UserError, match=r"dataset\.masks: needs .*, write classes: \[cat, dog\]"):
        config(masks="masks")
    write_mask(place / "masks" / "a.png", np.full((30, 40), 8, np.uint8))  # VOC's own number of cat
    assert config(masks="masks").dataset.classes == tuple(VOC_CLASSES)


def test_the_users_folder(place, monkeypatch):
    monkeypatch.setenv("HOME", str(place))
    found = config(images="~/photos", tags="~/tags.csv").dataset
    assert (found.images, found.tags) == (f"{place}/photos", f"{place}/tags.csv")


def test_one_tagged_picture_is_enough_where_another_is_held_back(place):
    write_tags(place / "tags.csv", {"a.jpg": "cat"})
    with pytest.raises(UserError, match=r"nothing can be held back: .* tagged or not, in a text file"):
        config()
    found = config(val_list=untagged(place)).dataset
    assert split(read_photos(found), found) == {
        "train": ["a"],
        "val": ["g"],
        "rest": ["b_c", "e", "f", "sub_d"],
        "all": ["a", "b_c", "e", "f", "g", "sub_d"],
    }


def test_something_must_be_held_back_and_something_learned_from(place):
    write_tags(place / "tags.csv", {"a.jpg": "cat", "e.webp": "dog"})
    with pytest.raises(UserError, match=r"nothing can be held back: .* tag more"):
        config()
    (place / "held.txt").write_text("a.jpg\ne.webp\n")
    with pytest.raises(UserError, match="every tagged picture is held back"):
        config(val_list="held.txt")


def test_other_kinds_stay_as_they_are():
    plain = parse_config({})
    assert resolved(plain) == (plain, [])
    assert laid_out(plain.dataset, "x") is plain.dataset


def imported(place, part="train", **values):
    """Import a part; its table's rows by name, and the data set as it lies there."""
    source = config(**values).dataset
    out = place / "root" / f"{part}.csv"
    import_folder.run(source, part=part, root=place / "root", out=out)
    with out.open(encoding="utf-8", newline="") as file:
        rows = {row["image"]: row for row in csv.DictReader(file)}
    return rows, dataclasses.replace(laid_out(source, "mine"), root=str(place / "root"))


def test_the_data_set_has_vocs_layout(place):
    (place / "held.txt").write_text("a.jpg\n")
    rows, found = imported(place, val_list="held.txt")
    assert sorted(rows) == ["b c.JPG", "e.webp", "sub/d.png"]
    ids = read_list(place / "root", "train")
    problems = []
    assert read_tags(found, ids, problems) == {"b_c": (1, 2), "e": (1, 2), "sub_d": (2,)}
    assert problems == []
    assert read_list(place / "root", "all") == ["a", "b_c", "e", "f", "g", "sub_d"]
    pictures = place / "root" / "JPEGImages"
    assert {path.name: path.is_symlink() for path in pictures.iterdir()} == {
        "b_c.jpg": True,
        "e.jpg": False,
        "sub_d.png": True,
    }
    assert (rows["e.webp"]["width"], rows["e.webp"]["height"]) == ("43", "30")


def test_large_and_turned_pictures_are_written_anew(place):
    exif = Image.Exif()
    exif[photographs.ORIENTATION] = 6
    save(place / "photos" / "a.jpg", (80, 40), exif=exif)
    write_tags(place / "tags.csv", {"a.jpg": "cat", "sub/d.png": "cat"})
    rows, _ = imported(place, longest_side=32, val_list=untagged(place))
    assert (rows["a.jpg"]["width"], rows["a.jpg"]["height"]) == ("40", "80")
    with Image.open(place / "root" / "JPEGImages" / "a.jpg") as picture:
        assert picture.size == (16, 32)
    with Image.open(place / "root" / "JPEGImages" / "sub_d.jpg") as picture:
        assert picture.size == (32, 23)


def untagged(place):
    """A list that holds back a picture without labels, so that all others are learned from."""
    (place / "held.txt").write_text("g.jpg\n")
    return "held.txt"


def test_what_is_no_more_goes(place):
    imported(place, val_list=untagged(place))
    (place / "photos" / "e.webp").unlink()
    save(place / "photos" / "e.png", (20, 20))  # another ending
    (place / "photos" / "b c.JPG").unlink()
    write_tags(place / "tags.csv", {"a.jpg": "cat", "e.png": "cat"})
    imported(place, val_list=untagged(place))
    root = place / "root"
    assert sorted(path.name for path in (root / "JPEGImages").iterdir()) == ["a.jpg", "e.png", "sub_d.png"]
    assert sorted(path.stem for path in (root / "Annotations").iterdir()) == ["a", "e", "sub_d"]


def test_pictures_that_cannot_be_read_are_all_named(place):
    (place / "photos" / "a.jpg").write_bytes(b"no picture")
    (place / "photos" / "e.webp").write_bytes(b"")
    with pytest.raises(UserError) as raised:
        imported(place, val_list=untagged(place))
    assert "a.jpg: is no JPEG or PNG or WEBP or BMP or TIFF or GIF" in str(raised.value)
    assert "e.webp: is empty (0 bytes); replace the file, or move it out of the folder" in str(raised.value)


def test_formats_that_only_some_pillows_read_are_converted(place):
    names = [name for name in ("h.avif", "i.jp2", "j.heic") if name.endswith(ENDINGS)]
    for name in names:
        save(place / "photos" / name, (44, 30))
    write_tags(place / "tags.csv", {"a.jpg": "cat", **dict.fromkeys(names, "cat")})
    rows, _ = imported(place, val_list=untagged(place))
    assert set(names) <= set(rows)
    for name in names:
        with Image.open(place / "root" / "JPEGImages" / f"{name[0]}.jpg") as picture:
            assert (picture.format, picture.size) == ("JPEG", (44, 30))


def test_damaged_exif_is_no_reason_to_refuse_a_picture(place):
    exif = Image.Exif()
    exif[photographs.ORIENTATION] = 6
    save(place / "photos" / "a.jpg", (40, 30), exif=exif)
    content = bytearray((place / "photos" / "a.jpg").read_bytes())
    start = content.index(b"Exif")
    generator = np.random.default_rng(0)
    for _ in range(50):
        damaged = content.copy()
        for place_of in generator.integers(start + 6, start + 32, 4):
            damaged[place_of] = generator.integers(0, 256)
        (place / "photos" / "a.jpg").write_bytes(damaged)
        opened = photographs.opened_photo(place / "photos" / "a.jpg")
        assert sorted(opened.seen.size) == [30, 40]


def test_links_stay_right_where_the_project_moves(place):
    project = place / "project"
    (project / "root" / "JPEGImages").mkdir(parents=True)
    save(project / "b.jpg", (9, 9))
    images = project / "photos"
    images.symlink_to(place / "photos")
    target = import_folder.link_to(str(images), "a.jpg", project / "root" / "JPEGImages")
    assert target == str((place / "photos" / "a.jpg").resolve())
    relative = import_folder.link_to("photos", "a.jpg", place / "root" / "JPEGImages")
    (place / "root" / "JPEGImages").mkdir(parents=True)
    (place / "root" / "JPEGImages" / "a.jpg").symlink_to(relative)
    place.rename(place.with_name("moved"))
    assert (place.with_name("moved") / "root" / "JPEGImages" / "a.jpg").exists()


def test_masks_are_named_in_one_place(place):
    elsewhere = {"val_masks": None, "train_list": "all"}
    with pytest.raises(
        UserError, match=r"score\.train_list, score\.val_masks: of kind folder all true masks"
    ):
        resolved(parse_config({"dataset": {"kind": "folder"}, "score": elsewhere}))


def test_keys_of_other_kinds_are_refused(place):
    with pytest.raises(UserError, match=r"^dataset\.root, dataset\.train_list: .*; take the keys out$"):
        config(root="photos", train_list="train.txt")


def masks(place, **values):
    chosen = {"masks": "masks", "classes": ["cat", "dog"], "val_list": untagged(place)}
    import_masks.run(
        config(**chosen, **values).dataset, root=place / "root", out=place / "root" / "masks.csv"
    )
    return read_list(place / "root", "train_masked")


def test_masks_are_laid_out_as_their_pictures(place):
    (place / "masks" / "sub").mkdir(parents=True)
    values = np.kron(np.array([[0, 1], [2, 255]], np.uint8), np.ones((15, 20), np.uint8))
    write_mask(place / "masks" / "a.png", values)
    assert masks(place, longest_side=32) == ["a"]
    small = read_mask(place / "root" / "SegmentationClass" / "a.png")
    assert small.shape == (24, 32)
    assert set(np.unique(small)) == {0, 1, 2, 255}
    write_mask(place / "masks" / "sub" / "d.png", values)
    with pytest.raises(UserError, match=r"d\.png: 40×30 pixels, its picture has 42×30"):
        masks(place)
    write_mask(place / "masks" / "sub" / "d.png", np.full((30, 42), 3, np.uint8))
    with pytest.raises(UserError, match=r"sub/d\.png: has the value 3, but there are only 2 classes"):
        masks(place)


def test_a_mask_of_the_stored_pixels_is_turned_with_the_picture(place):
    exif = Image.Exif()
    exif[photographs.ORIENTATION] = 6  # to be turned clockwise
    save(place / "photos" / "a.jpg", (40, 30), exif=exif)
    stored = np.zeros((30, 40), np.uint8)
    stored[:, 0] = 1  # the left becomes the top
    (place / "masks").mkdir()
    for mask in (stored, np.rot90(stored, -1).copy()):
        write_mask(place / "masks" / "a.png", mask)
        masks(place)
        seen = read_mask(place / "root" / "SegmentationClass" / "a.png")
        assert seen.shape == (40, 30)
        assert seen[0].all()
        assert not seen[1:].any()


def test_masks_that_can_only_score_nonsense(place, capsys):
    (place / "masks").mkdir()
    write_mask(place / "masks" / "a.png", np.full((30, 40), 255, np.uint8) * (np.arange(40) > 9))
    masks(place)
    assert "warning: masks: no mask has any class: 0 is background, 255 means" in capsys.readouterr().out
    write_mask(place / "masks" / "b c.png", np.ones((30, 41), np.uint8))
    masks(place)
    text = capsys.readouterr().out
    assert "warning" not in text
    assert "2 masks, 2 in train_masked, 0 in val_masked, values 0, 1, 255" in text
