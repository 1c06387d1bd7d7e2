"""What becomes of an image's maps, on four cells, computed by hand."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from ecsnet.backbone import Features
from ecsnet.copies import to_host
from ecsnet.evidence import Used, arrays_of_image, refined_scores, used_maps, with_background
from ecsnet.palette import IGNORE
from ecsnet.settings import Backbone, Evidence, Refine, Walk

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
    [refined] = to_host(refined_scores([maps], torch.zeros(1, 3, 2, 2), None, chosen))
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


def test_background_is_the_power_of_what_no_class_claims():
    scores = with_background(torch.tensor([[[0.5, 1.0, 0.0]], [[0.25, 0.0, 0.0]]]), 2)
    # (1 − 0.5)² = 0.25 beside 0.5 and 0.25: divided by their sum 1.0
    assert scores[:, 0, 0].tolist() == [0.25, 0.5, 0.25]
    assert scores[:, 0, 1].tolist() == [0, 1, 0]
    assert scores[:, 0, 2].tolist() == [1, 0, 0]


@given(st.integers(1, 4), st.floats(0.1, 8), st.integers(0, 1000))
def test_scores_sum_to_one(classes, power, seed):
    maps = torch.rand(classes, 3, 3, generator=torch.Generator().manual_seed(seed))
    assert with_background(maps, power).sum(0).numpy() == pytest.approx(1, abs=1e-5)


def test_images_together_are_as_each_alone():
    features = Features(Backbone(name="resnet18", weights="none")).eval()
    pictures = torch.rand(3, 3, 60, 80)
    used = [Used(np.arange(count), *torch.rand(2, count, 15, 20).numpy()) for count in (1, 3, 2)]
    chosen = Evidence(walk=Walk(cells=6), refine=Refine(rounds=3))
    with torch.inference_mode():
        together = refined_scores(used, pictures, features, chosen)
        for place, (one, scores) in enumerate(zip(used, together, strict=True)):
            [alone] = refined_scores([one], pictures[place : place + 1], features, chosen)
            assert scores.shape == (2 * (1 + len(one.classes)), 30, 40)
            assert torch.allclose(scores, alone, atol=1e-4)
