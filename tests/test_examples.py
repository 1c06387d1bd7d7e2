import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from tiny_run import CLASSES, TRUTH, make_run, write_counts

from ecsnet.examples import BOX, choose, draw_examples
from ecsnet.plots import CAPTION, GAP, HEAD
from ecsnet.scoring import ImageCounts, count_pixels, iou_per_class, read_image_counts
from ecsnet.tables import LabelTable, read_images


def counts_of(pairs, classes=2):
    """Counts of images given as (truth, label), each a list of values."""
    counts = [count_pixels(np.array([a], np.uint8), np.array([b], np.uint8), classes) for a, b in pairs]
    return ImageCounts("val", [f"i{number}" for number in range(len(pairs))], np.stack(counts))


def shown(rows):
    return [[(one.image_id, one.number, one.rank, round(one.iou)) for one in row] for row in rows]


def test_best_median_and_worst_by_hand():
    cat = [1, 1, 1, 1]
    pairs = [(cat, [1, 1, 0, 0]), (cat, cat), (cat, [0, 0, 0, 0]), (cat, [1, 1, 1, 0]), ([0, 0, 0, 0], cat)]
    assert shown(choose(counts_of(pairs))) == [
        [("i1", 1, "best", 100), ("i0", 1, "median", 50), ("i2", 1, "worst", 0)]
    ]
    assert shown(choose(counts_of(pairs[:2]))) == [[("i1", 1, "best", 100), ("i0", 1, "worst", 50)]]
    assert shown(choose(counts_of(pairs[:1]))) == [[("i0", 1, "best", 50)]]
    missed = [([1, 0, 0, 0], [0, 0, 0, 0]), (cat, [0, 0, 0, 0]), ([1, 1, 0, 0], [0, 0, 0, 0])]
    assert [one.image_id for one in choose(counts_of(missed))[0]] == ["i0", "i2", "i1"]
    assert choose(counts_of(pairs[4:])) == []  # no image has a class


@given(st.lists(st.lists(st.integers(0, 3), min_size=12, max_size=12), min_size=1, max_size=7))
def test_each_class_by_its_own_iou(images):
    pairs = [(image[:6], image[6:]) for image in images]
    counts = counts_of(pairs, classes=3)
    rows = choose(counts)
    assert [row[0].number for row in rows] == [c for c in (1, 2, 3) if any(c in truth for truth, _ in pairs)]
    for row in rows:
        assert [one.iou for one in row] == sorted((one.iou for one in row), reverse=True)
        assert len({one.image_id for one in row}) == len(row)
        for one in row:
            truth, label = pairs[int(one.image_id[1:])]
            own = count_pixels(np.array([truth], np.uint8), np.array([label], np.uint8), 3)
            assert one.iou == pytest.approx(iou_per_class(own[:, :-1])[one.number])


def test_a_line_for_each_class(tmp_path):
    run = make_run(tmp_path)
    masks = LabelTable(run.truth, run.root)
    found = run.write_labels("predict", {key: np.where(mask == 255, 0, mask) for key, mask in TRUTH.items()})
    records = {record.id: record for record in read_images(run.images, CLASSES)}
    counts = read_image_counts(write_counts(run))
    predictions = LabelTable(found, run.folder)
    draw_examples(tmp_path / "e.png", counts, records, run.root, masks, predictions, ["background", *CLASSES])
    with Image.open(tmp_path / "e.png") as sheet:
        # cat and dog are each in two of the images, cow is in none
        assert sheet.width == 3 * (3 * (BOX[0] + GAP) + GAP)
        assert HEAD + 2 * (CAPTION + GAP) < sheet.height <= HEAD + 2 * (CAPTION + GAP + BOX[1])
        assert np.asarray(sheet).std() > 5
