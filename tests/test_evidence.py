"""What becomes of an image's maps, on four cells, computed by hand."""

import numpy as np
import pytest
import torch

from ecsnet.evidence import arrays_of_image, refined_scores, used_maps
from ecsnet.palette import IGNORE
from ecsnet.settings import Evidence, Refine, Walk

CAM = [[[0, 0.5], [0.9, 0.1]], [[0, 0], [0.1, 0.9]]]
ERASED = [[[0, 0], [0.2, 0]], [[0, 0.4], [0.8, 0]]]
CLASSES = [3, 7]


def arrays(probability=((0.1, 0.1), (0.9, 0.9)), **changed):
    """What the stage stores: without weight, walk and refinement, and without noise rules but those named."""
    plain = {"residual": 0.5, "conflict": 1.0, "margin": 0.0, "speck": 0.0, "background_power": 3.0}
    chosen = Evidence(
        norm_power=0, walk=Walk(steps=0), refine=Refine(rounds=0, size=1.0), **{**plain, **changed}
    )
    maps = used_maps(
        chosen.residual,
        np.array(CLASSES, np.uint8),
        np.array(CAM, np.float16),
        np.array(ERASED, np.float16),
        np.array(probability, np.float32),
    )
    refined = refined_scores(maps, torch.zeros(1, 3, 2, 2), None, chosen)
    image_id, found = arrays_of_image("cat", maps, refined, chosen)
    assert image_id == "cat"
    return found


def scores_of(*maps):
    background = (1 - max(maps)) ** 3
    return np.array([background, *maps]) / (background + sum(maps))


def test_scores_are_the_larger_map_against_the_background():
    found = arrays()
    for place, maps in {(0, 0): (0, 0), (0, 1): (0.5, 0.4), (1, 0): (0.9, 0.8), (1, 1): (0.1, 0.9)}.items():
        assert found["scores"][:, *place] == pytest.approx(scores_of(*maps), abs=2e-3)
    assert found["label"].tolist() == [[0, 3], [3, 7]]
    assert found["classes"].tolist() == CLASSES


def test_without_the_erased_map():
    found = arrays(erased=False)
    assert found["scores"][:, 0, 1] == pytest.approx(scores_of(0.5, 0), abs=2e-3)
    assert found["scores"][:, 1, 0] == pytest.approx(scores_of(0.9, 0.1), abs=2e-3)


def test_n1_looks_at_the_probability_on_the_erased_image():
    found = arrays(probability=((0.9, 0.9), (0.9, 0.4)))
    assert found["scores"][:, 0, 1] == pytest.approx(scores_of(0.5, 0), abs=2e-3)
    assert found["scores"][:, 1, 0] == pytest.approx(scores_of(0.9, 0.1), abs=2e-3)
    assert arrays(probability=((0.9, 0.9), (0.9, 0.4)), residual=0.3)["scores"][2, 0, 1] > 0.3


def test_n2_ignores_where_the_maps_name_different_classes():
    assert arrays(conflict=0.5)["label"].tolist() == [[0, 3], [IGNORE, 7]]
    assert arrays(conflict=0.85)["label"].tolist() == [[0, 3], [3, 7]]
    # what N1 has dropped is in no conflict
    assert arrays(conflict=0.5, probability=((0.9, 0.9), (0.9, 0.4)))["label"].tolist() == [[0, 3], [3, 7]]
    assert arrays(conflict=0.5, erased=False)["label"].tolist() == [[0, 3], [3, 7]]


def test_n3_ignores_close_scores():
    assert arrays(margin=0.15)["label"].tolist() == [[0, IGNORE], [IGNORE, 7]]


def test_the_refined_cam_is_of_the_cam_alone_and_without_rules():
    found = arrays(conflict=0.5, margin=0.9)
    assert found["cam_label"].tolist() == [[0, 3], [3, 7]]
    assert arrays(background_power=0.1)["cam_label"].tolist() == [[0, 0], [3, 7]]
