"""True masks that fit their pictures are listed; all others are refused, by name."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from voc_folder import CLASSES, HEIGHT, REAL_ROOT, WIDTH, make_voc, run_prepare, write_list

from ecsnet import check_masks
from ecsnet.errors import UserError
from ecsnet.palette import write_mask
from ecsnet.settings import Dataset
from ecsnet.store import fingerprint
from ecsnet.tables import ImageRecord, LabelRecord, read_labels, write_classes, write_images

needs_voc = pytest.mark.skipif(not REAL_ROOT.is_dir(), reason="needs VOC 2012 under data/")
RECORD = ImageRecord("a1", "JPEGImages/a1.jpg", WIDTH, HEIGHT, (1,), "0")


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A data set, with the tables that prepare makes of it beside it."""
    make_voc(tmp_path / "voc")
    write_classes(tmp_path / "classes.txt", CLASSES)
    records = [replace(RECORD, id=image_id, tags=(1,)) for image_id in ("a1", "a2")]
    write_images(tmp_path / "train.csv", records, list(CLASSES))
    return tmp_path / "voc"


def run(root: Path, list_name: str | None = None, masks: str = "SegmentationClass", threads: int = 2) -> Path:
    out = root.parent / "masks.csv"
    check_masks.run(
        None,
        images=root.parent / "train.csv",
        classes=root.parent / "classes.txt",
        root=root,
        masks=masks,
        list_name=list_name,
        out=out,
        threads=threads,
    )
    return out


def refused(root: Path, list_name: str | None = None) -> list[str]:
    with pytest.raises(UserError) as caught:
        run(root, list_name)
    assert not (root.parent / "masks.csv").exists()
    headline, *lines = str(caught.value).splitlines()
    assert headline.startswith(f"The true masks in {root}/SegmentationClass have {len(lines)} mistake")
    return [line.removeprefix("  - ") for line in lines]


def test_the_table_of_good_masks(root, capsys):
    name = "SegmentationClass/a1.png"
    labels = read_labels(run(root))
    assert labels[0] == LabelRecord("a1", name, fingerprint((root / name).read_bytes()))
    assert [label.id for label in labels] == ["a1", "a2"]
    assert capsys.readouterr().out == f"check_masks: 2 masks in {root}/SegmentationClass are in order\n"


def test_the_bytes_do_not_depend_on_folder_and_threads(root, tmp_path):
    before = run(root, threads=1).read_bytes()
    assert run(root.rename(tmp_path / "moved"), threads=2).read_bytes() == before


def test_a_list_restricts_the_images(root):
    (root / "SegmentationClass" / "a1.png").unlink()
    write_list(root, "some", "a2\n")
    assert [label.id for label in read_labels(run(root, "some"))] == ["a2"]


def test_a_list_beyond_the_table_is_refused(root):
    write_list(root, "some", "a2\nw1\nw2\nw3\nw4\n")
    (shown,) = refused(root, "some")
    assert "list some: 4 of its 5 images are not in " in shown
    assert "train.csv (w1, w2, w3, …); choose a list that lies within" in shown


def test_a_bad_list_is_refused(root):
    write_list(root, "some", "a2\na2\n")
    with pytest.raises(UserError, match=r"some\.txt:2: a2 stands on line 1 already; keep one"):
        run(root, "some")


@pytest.mark.parametrize(
    ("masks", "words"),
    [
        ("Nothing", r"no such folder of true masks under the data root; put .*score\."),
        ("/nothing", r"no such folder of true masks under the data root; put .*score\."),
        ("/", r"/: true masks are named relative to the data root .*; make a link to them there"),
    ],
)
def test_a_missing_or_absolute_folder_is_refused(root, masks, words):
    with pytest.raises(UserError, match=words):
        run(root, masks=masks)


def test_all_mistakes_come_at_once(root):
    folder = root / "SegmentationClass"
    (folder / "a1.png").unlink()
    write_mask(folder / "a2.png", np.zeros((3, 3), np.uint8))
    first, second = refused(root)
    remedy = "every scored image needs one; add it, or choose another list"
    assert first == f"{folder}/a1.png: no such mask; {remedy}"
    assert "a2.png: is 3×3" in second


@needs_voc
def test_real_masks_of_a_list(tmp_path):
    lists = {"train_list": "config/lists/minitrain.txt", "val_list": "config/lists/minival.txt"}
    run_prepare(Dataset(root=str(REAL_ROOT), **lists), tmp_path)
    for table, folder in (("val", "SegmentationClass"), ("train", "SegmentationClassAug")):
        check_masks.run(
            None,
            images=tmp_path / f"{table}.csv",
            classes=tmp_path / "classes.txt",
            root=REAL_ROOT,
            masks=folder,
            list_name=None,
            out=tmp_path / "masks.csv",
            threads=2,
        )
        assert len(read_labels(tmp_path / "masks.csv")) == {"val": 123, "train": 321}[table]
