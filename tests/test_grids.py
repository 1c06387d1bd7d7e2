import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from ecsnet import grids
from ecsnet.grids import argmax_labels, enlarged_labels, resize_labels, resize_maps, strongest

SIDES = st.integers(1, 12)


@given(SIDES, SIDES, SIDES, SIDES, st.integers(0, 2**32 - 1))
def test_resize_maps_is_torchs_corner_aligned_bilinear(h, w, height, width, seed):
    maps = np.random.default_rng(seed).random((2, h, w)).astype(np.float32)
    expected = torch.nn.functional.interpolate(
        torch.from_numpy(maps)[None], (height, width), mode="bilinear", align_corners=True
    )[0]
    np.testing.assert_allclose(resize_maps(maps, height, width), expected.numpy(), atol=1e-5)


@given(arrays(np.uint8, st.tuples(SIDES, SIDES)))
def test_resize_labels_to_the_same_size_changes_nothing(labels):
    assert np.array_equal(resize_labels(labels, *labels.shape), labels)


def test_resize_labels_takes_the_nearest_and_keeps_corners():
    labels = np.array([[1, 2], [3, 255]], np.uint8)
    assert resize_labels(labels, 4, 4).tolist() == [
        [1, 1, 2, 2],
        [1, 1, 2, 2],
        [3, 3, 255, 255],
        [3, 3, 255, 255],
    ]


def test_argmax_labels_gives_the_classes_own_numbers():
    scores = np.zeros((3, 1, 3), np.float16)
    scores[0, 0, 0] = scores[1, 0, 1] = scores[2, 0, 2] = 1
    assert argmax_labels(scores, np.array([0, 4, 20]), 1, 3).tolist() == [[0, 4, 20]]


@given(
    arrays(
        np.float32, st.tuples(st.integers(1, 5), SIDES, SIDES), elements=st.sampled_from([0, 0.25, 0.5, 1])
    )
)
def test_strongest_is_the_first_of_the_best(scores):
    assert np.array_equal(strongest(scores), scores.argmax(0))


@given(st.integers(0, 2**32 - 1), SIDES, SIDES, SIDES, SIDES)
def test_labels_are_the_same_band_by_band(seed, h, w, height, width):
    scores = np.random.default_rng(seed).random((3, h, w)).astype(np.float16)
    values = np.array([0, 7, 9])
    expected = values[strongest(resize_maps(scores, height, width))]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(grids, "BAND", 2 * width + 1)
        patch.setattr(grids, "FEWEST", 1)
        assert np.array_equal(argmax_labels(scores, values, height, width), expected)


def test_enlarged_labels_go_smoothly_round_corners():
    labels = np.array([[5, 0], [0, 0]], np.uint8)
    # class 5 is the stronger one where (1 - x)(1 - y) > 1/2
    assert enlarged_labels(labels, 5, 5).tolist() == [
        [5, 5, 0, 0, 0],
        [5, 5, 0, 0, 0],
        [0, 0, 0, 0, 0],
        [0, 0, 0, 0, 0],
        [0, 0, 0, 0, 0],
    ]
    assert np.array_equal(enlarged_labels(labels, 2, 2), labels)
