import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from ecsnet import resampling, scoring

TWO = np.array([[[2, 0, 0], [0, 1, 1]], [[0, 4, 0], [0, 4, 0]]])
"""Of two images with one class, by hand: [true class, given class or ignored]."""


def loop(counts, times):
    """The scores of one resample, image by image."""
    drawn = [one for one, number in zip(counts, times, strict=True) for _ in range(int(number))]
    total = np.sum(drawn, axis=0)
    every, kept = scoring.all_pixels(total), scoring.kept_pixels(total)
    return {
        "miou": scoring.mean_iou(every),
        "miou_kept": scoring.mean_iou(kept),
        "coverage": scoring.coverage(total),
        "accuracy_kept": scoring.accuracy(kept),
    }, scoring.iou_per_class(every)


@settings(deadline=None)
@given(
    arrays.arrays(
        np.int32,
        st.integers(1, 3).flatmap(lambda c: st.tuples(st.integers(1, 5), st.just(c + 1), st.just(c + 2))),
        elements=st.integers(0, 4),
    )
)
def test_one_product_gives_what_a_loop_over_the_images_gives(counts):
    drawn = resampling.draws(len(counts), 10)
    values = resampling.metrics(drawn, resampling.parts(counts))
    ious = resampling.class_iou(drawn, resampling.parts(counts))
    assert set(values) == set(resampling.METRICS)
    for number, times in enumerate(drawn):
        expected, iou = loop(counts, times)
        np.testing.assert_allclose([values[name][number] for name in expected], list(expected.values()))
        np.testing.assert_allclose(ious[number], iou)


def test_scores_by_hand():
    drawn = np.array([[1, 1], [2, 0], [0, 2]])
    values = resampling.metrics(drawn, resampling.parts(TWO))
    # the ignored pixel counts as background: of both images, background has 2 of 7, the class 5 of 10
    np.testing.assert_allclose(values["miou"], [(200 / 7 + 50) / 2, (200 / 3 + 50) / 2, (0 + 50) / 2])
    np.testing.assert_allclose(values["miou_kept"], [(200 / 6 + 500 / 9) / 2, 100, 25])
    np.testing.assert_allclose(values["coverage"], [100 * 11 / 12, 75, 100])
    np.testing.assert_allclose(values["accuracy_kept"], [100 * 7 / 11, 100, 50])


def test_draws():
    drawn = resampling.draws(6, 500)
    assert drawn.shape == (501, 6)
    assert (drawn[0] == 1).all()
    assert (drawn.sum(1) == 6).all()
    assert abs(drawn[1:].mean() - 1) < 1e-9
    assert 0.7 < drawn[1:].var() < 1  # 5 / 6
    np.testing.assert_array_equal(drawn, resampling.draws(6, 500))


def test_interval_leaves_the_list_itself_out():
    assert resampling.interval(np.array([1000.0, *range(201)])) == (5, 195)
    assert resampling.interval(np.array([1.0, np.nan, 3.0])) == (3, 3)
    assert np.isnan(resampling.interval(np.array([1.0, np.nan]))).all()


def test_one_image_has_no_spread():
    values = resampling.metrics(resampling.draws(1, 20), resampling.parts(TWO[:1]))
    low, high = resampling.interval(values["miou"])
    assert low == high == pytest.approx(values["miou"][0])
