import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from ecsnet import scoring
from ecsnet.errors import UserError

TRUTH = np.array([[0, 0, 1, 1], [2, 2, 255, 255]], np.uint8)
LABELS = np.array([[0, 1, 1, 255], [2, 0, 2, 3]], np.uint8)
COUNTS = np.array([[1, 1, 0, 0, 0], [0, 1, 0, 0, 1], [1, 0, 1, 0, 0], [0, 0, 0, 0, 0]])
"""Of TRUTH and LABELS with three classes, by hand: the two pixels whose truth is 255 are left out."""


def test_counts_by_hand():
    counts = scoring.count_pixels(TRUTH, LABELS, 3)
    assert counts.dtype == np.int64
    np.testing.assert_array_equal(counts, COUNTS)


@given(st.data())
def test_counts_are_those_of_single_pixels(data):
    size = data.draw(st.tuples(st.integers(1, 6), st.integers(1, 6)))
    values = arrays.arrays(np.uint8, size, elements=st.sampled_from([0, 1, 2, 3, 255]))
    truth, labels = data.draw(values), data.draw(values)
    expected = np.zeros((4, 5), int)
    for row, column in zip(truth.ravel().tolist(), labels.ravel().tolist(), strict=True):
        if row != 255:
            expected[row, min(column, 4)] += 1
    np.testing.assert_array_equal(scoring.count_pixels(truth, labels, 3), expected)


def test_ignored_labels_are_background_when_all_pixels_are_scored():
    confusion = scoring.all_pixels(COUNTS)
    np.testing.assert_array_equal(confusion, [[1, 1, 0, 0], [1, 1, 0, 0], [1, 0, 1, 0], [0, 0, 0, 0]])
    np.testing.assert_allclose(scoring.iou_per_class(confusion), [100 / 4, 100 / 3, 100 / 2, np.nan])
    assert scoring.mean_iou(confusion) == pytest.approx((100 / 4 + 100 / 3 + 100 / 2) / 3)
    assert scoring.accuracy(confusion) == pytest.approx(100 * 3 / 6)


def test_kept_pixels_by_hand():
    kept = scoring.kept_pixels(COUNTS)
    np.testing.assert_allclose(scoring.iou_per_class(kept), [100 / 3, 100 / 2, 100 / 2, np.nan])
    assert scoring.mean_iou(kept) == pytest.approx((100 / 3 + 100 / 2 + 100 / 2) / 3)
    assert scoring.coverage(COUNTS) == pytest.approx(100 * 5 / 6)
    assert scoring.accuracy(kept) == pytest.approx(100 * 3 / 5)


def test_class_only_in_the_labels_counts_as_zero():
    counts = scoring.count_pixels(np.array([[0, 0]], np.uint8), np.array([[0, 2]], np.uint8), 2)
    np.testing.assert_allclose(scoring.iou_per_class(scoring.all_pixels(counts)), [50, np.nan, 0])
    assert scoring.mean_iou(scoring.all_pixels(counts)) == pytest.approx(25)


def test_nothing_to_score_is_undefined():
    nothing = np.zeros((3, 3), int)
    assert np.isnan(scoring.mean_iou(nothing))
    assert np.isnan(scoring.accuracy(nothing))


def test_254_classes_fill_the_palette():
    values = np.array([[0, 254, 255]], np.uint8)
    counts = scoring.count_pixels(values, values, 254)
    assert counts.shape == (255, 256)
    assert np.trace(counts) == counts.sum() == 2


@pytest.mark.parametrize(
    ("truth", "labels", "message"),
    [
        ([[0, 1]], [[0], [1]], "the label is 1×2 pixels, its true mask 2×1"),
        ([[0, 1]], [[0, 7]], "the label has the value 7, but there are only 2 classes"),
        ([[9, 255]], [[0, 0]], "the true mask has the value 9"),
        ([[255]], [[3]], "the label has the value 3"),
    ],
)
def test_masks_that_cannot_be_compared(truth, labels, message):
    with pytest.raises(UserError, match=message):
        scoring.count_pixels(np.array(truth, np.uint8), np.array(labels, np.uint8), 2)


@given(st.data())
def test_one_pass_over_all_thresholds_equals_an_argmax_for_each(data):
    size = data.draw(st.tuples(st.integers(1, 5), st.integers(1, 5)))
    truth = data.draw(arrays.arrays(np.uint8, size, elements=st.sampled_from([0, 1, 2, 3, 255])))
    present = np.array(data.draw(st.lists(st.integers(1, 3), min_size=1, unique=True).map(sorted)), np.uint8)
    # values on the thresholds themselves, so that ties between map and threshold occur
    values = st.sampled_from([0.0, 0.1, 0.2, 0.3, 0.35, 0.9, 1.0])
    cam = data.draw(arrays.arrays(np.float32, (len(present), *size), elements=values.map(np.float32)))
    thresholds = np.array([0.1, 0.2, 0.3, 0.9], np.float32)
    confusions = scoring.threshold_confusions(scoring.count_thresholds(truth, cam, present, thresholds, 3))
    assert len(confusions) == len(thresholds)
    for threshold, confusion in zip(thresholds, confusions, strict=True):
        scores = np.concatenate([np.full((1, *size), threshold), cam])
        labels = np.array([0, *present], np.uint8)[scores.argmax(0)]
        np.testing.assert_array_equal(confusion, scoring.all_pixels(scoring.count_pixels(truth, labels, 3)))


def test_record_survives_json(tmp_path):
    confusion = scoring.all_pixels(COUNTS)
    metrics = {"miou": 100 / 3, "miou_kept": float("nan")}
    record = scoring.make_record("val", "minival", 2, metrics, confusion, ["cat", "dog", "cow"])
    assert record.metrics == {"miou": 33.3333, "miou_kept": None}
    assert record.iou == {"background": 25, "cat": 33.3333, "dog": 50, "cow": None}
    text = record.to_json()
    assert json.loads(text)["confusion"] == confusion.tolist()
    assert "    [1, 1, 0, 0],\n" in text
    (tmp_path / "val.json").write_text(text)
    assert scoring.read_score(tmp_path / "val.json") == record


@pytest.mark.parametrize("text", ["", "{", "[]", '{"what": "val"}', '{"other": 1}'])
def test_damaged_record_is_named(tmp_path, text):
    (tmp_path / "val.json").write_text(text)
    with pytest.raises(UserError, match=r"val\.json: not a readable score"):
        scoring.read_score(tmp_path / "val.json")
