import pytest

from ecsnet.errors import UserError
from ecsnet.tables import (
    ImageRecord,
    LabelRecord,
    read_classes,
    read_images,
    read_labels,
    write_classes,
    write_images,
    write_labels,
)

CLASSES = ["cat", "None", "007"]
IMAGES = [
    ImageRecord("0001", "JPEGImages/0001.jpg", 320, 240, (1, 3), "ab"),
    ImageRecord("nan", "JPEGImages/nan.jpg", 1, 1, (), "00"),
    ImageRecord("a,b", 'JPEGImages/"a,b".jpg', 2, 3, (2,), "1e5"),
]


def test_images_come_back_as_they_were(tmp_path):
    write_images(tmp_path / "images.csv", IMAGES, CLASSES)
    assert read_images(tmp_path / "images.csv", CLASSES) == IMAGES


def test_an_empty_table_keeps_its_columns(tmp_path):
    write_images(tmp_path / "images.csv", [], CLASSES)
    assert read_images(tmp_path / "images.csv", CLASSES) == []


def test_a_class_that_is_no_longer_configured_is_named(tmp_path):
    write_images(tmp_path / "images.csv", IMAGES, CLASSES)
    with pytest.raises(UserError, match="image 0001 has the unknown class '007'"):
        read_images(tmp_path / "images.csv", ["cat", "None"])


def test_labels_come_back_and_notes_stand_beside_them(tmp_path):
    records = [LabelRecord("a", "predict/a.png", "12"), LabelRecord("b", "predict/b.png", "34", "no pixel")]
    path = tmp_path / "labels.csv"
    write_labels(path, records, [{"kept": 0.5}, {"kept": 0.0}])
    assert read_labels(path) == records
    assert path.read_text().splitlines()[0] == "id,label,fingerprint,dropped,kept"


@pytest.mark.parametrize("content", [b"", b"id,label\n1,2\n", b"\xff\xfe\x00", b'a,b\n"'])
def test_a_file_that_is_no_such_table_is_named(tmp_path, content):
    (tmp_path / "labels.csv").write_bytes(content)
    with pytest.raises(UserError, match=r"labels\.csv: "):
        read_labels(tmp_path / "labels.csv")


def test_a_missing_table_is_named(tmp_path):
    with pytest.raises(UserError, match="no such table"):
        read_labels(tmp_path / "labels.csv")


def test_classes(tmp_path):
    write_classes(tmp_path / "classes.txt", CLASSES)
    assert read_classes(tmp_path / "classes.txt") == CLASSES
