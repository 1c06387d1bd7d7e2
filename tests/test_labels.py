import numpy as np

from ecsnet import labels
from ecsnet.palette import IGNORE


def grid(*rows):
    return np.array(rows, np.float32)


def test_n1_drops_the_erased_map_of_a_class_that_the_classifier_no_longer_sees():
    erased = np.ones((2, 1, 2), np.float32)
    kept = labels.residual_rule(erased, np.array([0.05, 0.1]), 0.1)
    assert kept.tolist() == [[[0, 0]], [[1, 1]]]


def test_n1_switched_off_keeps_everything():
    erased = np.ones((1, 1, 1), np.float32)
    assert labels.residual_rule(erased, np.array([0.0]), 0.0).tolist() == [[[1]]]


def test_evidence_is_the_maximum_of_both_maps():
    cam, erased = grid([[0.2, 0.9]]), grid([[0.5, 0.1]])
    assert np.array_equal(labels.evidence(cam, erased), grid([[0.5, 0.9]]))
    assert labels.evidence(cam, None) is cam


def test_n2_marks_where_both_maps_are_sure_of_different_classes():
    cam = grid([[0.9, 0.9, 0.4]], [[0.1, 0.1, 0.1]])
    erased = grid([[0.1, 0.8, 0.1]], [[0.6, 0.1, 0.9]])
    assert labels.conflict_rule(cam, erased, 0.5).tolist() == [[True, False, False]]
    assert not labels.conflict_rule(cam, erased, 1.0).any()


def test_n2_needs_two_classes():
    assert not labels.conflict_rule(np.ones((1, 2, 2)), np.ones((1, 2, 2)), 0.5).any()


def test_n3_marks_where_the_best_two_are_close():
    scores = np.array([[[0.5, 0.1]], [[0.45, 0.8]], [[0.05, 0.1]]])
    assert labels.margin_rule(scores, 0.1).tolist() == [[True, False]]
    assert not labels.margin_rule(scores, 0.0).any()


def test_n4_only_tagged_classes_and_background_appear():
    scores = np.random.default_rng(0).random((3, 20, 20))
    assert set(np.unique(labels.label_values(scores, np.array([7, 15])))) == {0, 7, 15}


def test_n5_marks_small_connected_regions_diagonals_joined():
    values = np.zeros((10, 10), np.uint8)
    values[0, 0] = values[1, 1] = 3  # two pixels that touch at a corner: one region
    values[5:8, 5:8] = 3
    values[9, 0] = 4
    assert labels.speck_rule(values, 0.025).sum() == 3  # regions under 2.5 pixels: the pair and the single
    assert labels.speck_rule(values, 0.015).tolist() == (values == 4).tolist()
    assert not labels.speck_rule(values, 0.0).any()


def test_n5_leaves_ignored_pixels_alone():
    values = np.full((4, 4), IGNORE, np.uint8)
    values[0, 0] = 0
    assert labels.speck_rule(values, 0.2).sum() == 1


def test_clean_labels_apply_margin_then_specks():
    scores = np.zeros((2, 4, 4), np.float32)
    scores[0] = 0.9
    scores[1] = 0.1
    scores[:, 0, 0] = [0.2, 0.8]  # a speck of the class
    scores[:, 3, 3] = [0.5, 0.5]  # undecided
    cleaned = labels.clean_labels(scores, np.array([2]), margin=0.1, speck=0.1)
    assert cleaned[0, 0] == IGNORE
    assert cleaned[3, 3] == IGNORE
    assert (cleaned == 0).sum() == 14
