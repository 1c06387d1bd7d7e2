"""Digests of data sets by content: they see every change of what is read, and nothing else."""

import json
import os
import shutil
import time
from dataclasses import replace
from pathlib import Path

import pytest
from voc_folder import make_voc, write_annotation, write_list, write_main_lists, write_picture

from ecsnet import contents
from ecsnet.contents import mask_contents, table_contents
from ecsnet.settings import Dataset


@pytest.fixture
def data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Dataset:
    """A data set; the current folder is another one."""
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    return make_voc(tmp_path / "voc")


def settle(root: Path) -> None:
    """Give every file a time long ago: what changed just now is read again at each look."""
    for path in root.rglob("*"):
        os.utime(path, (10**9, 10**9))


@pytest.fixture
def settled(data: Dataset, monkeypatch: pytest.MonkeyPatch) -> Dataset:
    """A data set that was looked at when its files were old; the clock is that of a later day."""
    settle(Path(data.root))
    later = time.time_ns() + 10**13
    monkeypatch.setattr(time, "time_ns", lambda: later)
    table_contents(data, "train")
    return data


def touch(path: Path) -> None:
    os.utime(path)


def same_size(path: Path) -> None:
    """Change a file's last bytes, and none of its times that can be set."""
    status = path.stat()
    content = bytearray(path.read_bytes())
    content[-3] ^= 1
    path.write_bytes(content)
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))


CHANGES = [
    lambda root: write_picture(root / "JPEGImages" / "a1.jpg", seed=9, size=(20, 20)),
    lambda root: same_size(root / "JPEGImages" / "a2.jpg"),
    lambda root: same_size(root / "Annotations" / "a1.xml"),
    lambda root: (root / "JPEGImages" / "a1.jpg").unlink(),
    lambda root: (root / "JPEGImages" / "a1.jpg").rename(root / "JPEGImages" / "a1.jpeg"),
    lambda root: write_list(root, "train", "a1\n"),
    lambda root: write_list(root, "train", "a2\na1\n"),
    lambda root: write_annotation(root, "a1", ("dog", "cat")),
    lambda root: shutil.rmtree(root / "Annotations"),
    lambda root: (root / "ImageSets/Segmentation/train.txt").unlink(),
]


@pytest.mark.parametrize("change", CHANGES)
def test_every_change_is_seen(data, change):
    before = table_contents(data, "train")
    change(Path(data.root))
    assert table_contents(data, "train") != before


@pytest.mark.parametrize("change", CHANGES)
def test_every_change_is_seen_by_who_remembers_the_files(settled, change):
    before = table_contents(settled, "train")
    change(Path(settled.root))
    assert table_contents(settled, "train") != before


@pytest.mark.parametrize(
    ("change", "parts"),
    [
        (lambda root: same_size(root / "JPEGImages" / "a1.jpg"), {"pictures"}),
        (lambda root: same_size(root / "Annotations" / "a1.xml"), {"tags"}),
        (lambda root: (root / "ImageSets/Segmentation/train.txt").write_text("a1\r\na2\n"), {"lists"}),
        (lambda root: write_list(root, "train", "a1\n"), {"lists", "pictures", "tags"}),
    ],
)
def test_it_tells_what_changed(data, change, parts):
    before = json.loads(table_contents(data, "train"))
    change(Path(data.root))
    after = json.loads(table_contents(data, "train"))
    assert list(after) == ["lists", "pictures", "tags"]
    assert {part for part in after if after[part] != before[part]} == parts


def test_nothing_changes_where_nothing_that_is_read_does(data, tmp_path):
    root = Path(data.root)
    before = table_contents(data, "train")
    write_picture(root / "JPEGImages" / "unlisted.jpg")
    write_annotation(root, "unlisted", ("cat",))
    same_size(root / "JPEGImages" / "v1.jpg")
    write_list(root, "val", "v1\na1\n")
    shutil.rmtree(root / "SegmentationClass")
    for path in root.rglob("*"):
        touch(path)
    assert table_contents(data, "train") == before
    shutil.copy(root / "ImageSets/Segmentation/train.txt", root / "ImageSets/Segmentation/other.txt")
    assert table_contents(data, "other") == before
    moved = root.rename(tmp_path / "moved")
    assert table_contents(replace(data, root=str(moved)), "train") == before
    shutil.copytree(moved, tmp_path / "copied", copy_function=shutil.copyfile)
    assert table_contents(replace(data, root=str(tmp_path / "copied")), "train") == before


def test_main_lists_count_with_the_rows_of_the_list(data):
    root = Path(data.root)
    data = replace(data, tags="main")
    write_main_lists(root, {"cat": "a1 1\nv1 1\n", "dog": "a1 -1\nv1 -1\n"})
    train, val = table_contents(data, "train"), table_contents(data, "val")
    write_annotation(root, "a1", ("dog",))
    assert table_contents(data, "train") == train
    write_main_lists(root, {"cat": "a1 -1\nv1 1\n", "dog": "a1 1\nv1 -1\n"})
    assert table_contents(data, "train") != train
    assert table_contents(data, "val") == val
    write_main_lists(root, {"cat": "a1 -1\nv1 1\nnobody knows\n"})
    assert table_contents(data, "val") != val  # `prepare` will refuse the row


def test_missing_data_is_told_and_stays_the_same(tmp_path, data):
    assert table_contents(replace(data, root=str(tmp_path / "nothing")), "train") == "absent"
    assert table_contents(replace(data, root="a\x00b"), "train") == "absent"
    assert mask_contents(replace(data, root="nowhere"), "SegmentationClass", "val") == "absent"
    empty = tmp_path / "empty"
    empty.mkdir()
    digests = {table_contents(replace(data, root=str(empty)), "a\x00/b") for _ in range(2)}
    assert len(digests) == 1


def test_a_dangling_link_counts_as_missing(data):
    picture = Path(data.root) / "JPEGImages" / "a1.jpg"
    picture.unlink()
    missing = table_contents(data, "train")
    picture.symlink_to("nowhere")
    assert table_contents(data, "train") == missing


@pytest.mark.timeout(10)
def test_what_is_no_file_is_not_waited_for(settled):
    picture = Path(settled.root) / "JPEGImages" / "a1.jpg"
    picture.unlink()
    os.mkfifo(picture)
    one = table_contents(settled, "train")
    assert table_contents(settled, "train") == one
    picture.unlink()
    picture.symlink_to("/dev/zero")
    assert table_contents(settled, "train") == one


def test_a_mask_replaced_and_another_list_are_seen_and_nothing_else(data):
    root = Path(data.root)
    before = mask_contents(data, "SegmentationClass", "val")
    same_size(root / "JPEGImages" / "v1.jpg")
    touch(root / "SegmentationClass" / "v1.png")
    assert mask_contents(data, "SegmentationClass", "val") == before
    assert mask_contents(data, "SegmentationClass", "train") != before
    same_size(root / "SegmentationClass" / "v1.png")
    assert mask_contents(data, "SegmentationClass", "val") != before


@pytest.fixture
def reads(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Names of the files that are read."""
    names: list[str] = []
    read = contents.read_digest
    monkeypatch.setattr(contents, "read_digest", lambda path: names.append(Path(path).name) or read(path))
    return names


def test_only_what_looks_changed_is_read_again(settled, reads):
    before = table_contents(settled, "train")
    assert reads == []
    touch(Path(settled.root) / "JPEGImages" / "a2.jpg")
    assert table_contents(settled, "train") == before
    assert reads == ["a2.jpg"]
    assert table_contents(settled, "val")
    assert sorted(reads[1:]) == ["v1.jpg", "v1.xml"]
    assert table_contents(settled, "train") == before  # another list forgets nothing
    assert len(reads) == 3


def test_what_changed_just_now_is_read_again(data, reads):
    for _ in range(2):
        table_contents(data, "train")
    assert sorted(reads) == sorted(["a1.jpg", "a2.jpg", "a1.xml", "a2.xml"] * 2)
    assert not contents.MEMORY.exists()


@pytest.mark.parametrize("damage", ["", "x", "1 2 3\n", "\t\t\n", "\udcff\t1\ta1.jpg\n"])
def test_a_damaged_memory_is_no_matter(settled, damage, reads):
    before = table_contents(settled, "train")
    for path in contents.MEMORY.iterdir():
        path.write_bytes(damage.encode("utf-8", "surrogateescape"))
    assert table_contents(settled, "train") == before
    assert len(reads) == 4


def test_a_memory_that_cannot_be_written_is_no_matter(settled):
    before = table_contents(settled, "train")
    shutil.rmtree(contents.MEMORY)
    contents.MEMORY.write_text("in the way")
    assert table_contents(settled, "train") == before


def test_thousands_of_images_are_looked_at_fast(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    ids = [f"2007_{number:06}" for number in range(3000)]
    for folder, ending in (("JPEGImages", "jpg"), ("Annotations", "xml")):
        (tmp_path / folder).mkdir()
        for image_id in ids:
            os.mknod(tmp_path / folder / f"{image_id}.{ending}")
    write_list(tmp_path, "train", "\n".join(ids))
    data = Dataset(root=str(tmp_path), train_list="train", val_list="train")
    monkeypatch.setattr(contents, "SETTLED_NS", 0)
    table_contents(data, "train")
    assert "Reading 3,000 files of " in capsys.readouterr().err
    times = []
    for _ in range(3):
        start = time.perf_counter()
        table_contents(data, "train")
        times.append(time.perf_counter() - start)
    # a tenth of this on a machine with nothing else to do
    assert min(times) < 0.3
    assert capsys.readouterr().err == ""
