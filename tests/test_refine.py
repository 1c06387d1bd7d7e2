import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from ecsnet.refine import affinity, refine, working_grid
from ecsnet.settings import Refine

SMALL = Refine(rounds=3, size=1.0, dilations=(1, 2))


def refined(scores, image, settings):
    """Of one picture."""
    [result] = refine([scores], image[None], settings)
    return result


def edge(height=12, width=16):
    """A picture of two flat colours, and scores that are sure of the left border and undecided elsewhere."""
    image = torch.zeros(3, height, width)
    image[:, :, width // 2 :] = 1
    scores = torch.full((2, height, width), 0.5)
    scores[:, :, :2] = torch.tensor([0.0, 1.0]).view(2, 1, 1)
    return image, scores


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 1000), st.integers(2, 5), st.integers(3, 15), st.integers(3, 15))
def test_refinement_keeps_probabilities(seed, classes, height, width):
    generator = torch.Generator().manual_seed(seed)
    image = torch.rand(3, height, width, generator=generator)
    scores = torch.rand(classes, height, width, generator=generator).softmax(0)
    result = refined(scores, image, SMALL)
    assert result.min() >= 0
    assert result.sum(0) == pytest.approx(torch.ones(height, width).numpy(), abs=1e-4)


def test_weights_of_the_neighbours_sum_to_one():
    weights = affinity(torch.rand(2, 3, 9, 7), SMALL)
    assert weights.shape == (16, 2, 9, 7)
    assert weights.sum(0) == pytest.approx(torch.ones(2, 9, 7).numpy(), abs=1e-5)


def test_one_round_is_the_weighted_mean_of_the_neighbours():
    image, scores = torch.rand(3, 5, 5), torch.rand(2, 5, 5)
    one = Refine(rounds=1, size=1.0, dilations=(1,))
    weights = affinity(image[None], one)[:, 0, 2, 2]
    around = [(1, 1), (1, 2), (1, 3), (2, 1), (2, 3), (3, 1), (3, 2), (3, 3)]
    expected = sum(weight * scores[:, y, x] for weight, (y, x) in zip(weights, around, strict=True))
    assert torch.allclose(refined(scores, image, one)[:, 2, 2], expected)


def test_hand_computed_weights():
    # along a row of pixels 0, 0, 1: the middle's left neighbour has its own colour, the right has not
    image = torch.tensor([0.0, 0.0, 1.0]).expand(3, 3, 3)
    settings = Refine(rounds=1, size=1.0, dilations=(1,), color_width=1.0, position_weight=0.0)
    neighbours = torch.tensor([0.0, 0, 1, 0, 1, 0, 0, 1])
    spread = neighbours.std()
    expected = torch.softmax(-((neighbours / spread) ** 2), 0)
    assert torch.allclose(affinity(image[None], settings)[:, 0, 1, 1], expected, atol=1e-5)


def test_scores_flow_within_a_colour_and_stop_at_its_edge():
    image, scores = edge()
    result = refined(scores, image, Refine(rounds=10, size=1.0, dilations=(1, 2, 4)))
    assert result[1, 6, 5] > 0.65
    assert result[1, 6, 12] < 0.51


def test_no_rounds_only_resizes():
    scores = torch.rand(2, 4, 4)
    assert torch.equal(refined(scores, torch.rand(3, 4, 4), Refine(rounds=0, size=1.0)), scores)


@pytest.mark.parametrize(("side", "size", "expected"), [(100, 0.5, 50), (1, 0.5, 2), (333, 1.0, 333)])
def test_working_grid(side, size, expected):
    assert working_grid(torch.empty(3, side, side), size) == (expected, expected)


def test_pictures_that_go_together_come_out_as_they_do_alone():
    images = torch.rand(3, 3, 11, 8)
    scores = [torch.rand(classes, 5, 4) for classes in (2, 4, 3)]
    together = refine(scores, images, SMALL)
    for one, image, result in zip(scores, images, together, strict=True):
        assert torch.allclose(result, refined(one, image, SMALL), atol=1e-6)
