import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from ecsnet.backbone import Features
from ecsnet.settings import Backbone, Walk
from ecsnet.walk import similarity, transition, walk


class Colours:
    """Features that are a picture's own colours, on a grid of half its size."""

    stride = 2

    def levels(self, images):
        return [images[:, :, ::2, ::2]]


def halves(height=8, width=12):
    """A picture of a red and a blue half, each with its own pattern of grey."""
    picture = torch.zeros(3, height + 1, width + 1)
    picture[0, :, : width // 2] = 1
    picture[2, :, width // 2 :] = 1
    return picture


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 1000), st.integers(1, 5), st.floats(0, 0.99), st.floats(0.5, 20))
def test_the_walk_keeps_probabilities(seed, classes, carry, power):
    generator = torch.Generator().manual_seed(seed)
    picture = torch.rand(3, 9, 13, generator=generator)
    scores = torch.rand(classes, 5, 7, generator=generator).softmax(0)
    walked = walk(scores, picture, Colours(), Walk(cells=6, power=power, carry=carry))
    assert walked.min() >= 0
    assert walked.sum(0) == pytest.approx(torch.ones(walked.shape[1:]).numpy(), abs=1e-3)


def test_scores_spread_within_what_looks_alike_and_not_beyond():
    scores = torch.zeros(2, 5, 7)
    scores[0] = 1
    scores[:, 2, 1] = torch.tensor([0.0, 1.0])  # one sure cell in the red half
    walked = walk(scores, halves(), Colours(), Walk(cells=6, carry=0.9))
    red, blue = walked[1, :, :3], walked[1, :, 3:]
    assert red.min() > 0.02
    assert blue.max() < 1e-6


def test_nothing_carried_on_leaves_the_scores():
    scores = torch.rand(2, 5, 7).softmax(0)
    assert torch.allclose(walk(scores, halves(), Colours(), Walk(cells=6, carry=0)), scores, atol=1e-6)


def test_no_cells_is_no_walk():
    scores = torch.rand(2, 5, 7)
    assert walk(scores, halves(), Colours(), Walk(cells=0)) is scores


def test_hand_computed_walk():
    """Two rows of red, red, blue; the walk starts in the left column."""
    picture = torch.zeros(3, 3, 5)
    picture[0, :, :4] = 1
    picture[2, :, 4] = 1
    start = torch.tensor([1.0, 0.0, 0.0]).expand(1, 2, 3)
    walked = walk(start, picture, Colours(), Walk(cells=2, carry=0.5))
    # a step goes to each of the three other red cells alike, so that the left column's l and the middle's m
    # are l = 1/2 + (l + 2 m) / 6 and m = (2 l + m) / 6
    assert walked[0, 0] == pytest.approx([5 / 7, 2 / 7, 0.0], abs=1e-5)


def test_alike_is_the_cosine_without_the_mean():
    level = torch.tensor([[2.0, 0.0, 1.0], [1.0, 3.0, 2.0]]).view(1, 2, 1, 3)
    # less the means 1 and 2: (1, −1), (−1, 1), (0, 0)
    expected = torch.tensor([[1.0, -1.0, 0.0], [-1.0, 1.0, 0.0], [0.0, 0.0, 0.0]])
    assert torch.allclose(similarity([level], (1, 3)), expected, atol=1e-6)
    assert torch.allclose(similarity([level, -level], (1, 3)), expected, atol=1e-6)


@pytest.mark.parametrize("size", [(64, 96), (300, 40), (17, 17)])
def test_the_grid_is_bounded_whatever_the_picture(size):
    features = Features(Backbone(name="resnet18", weights="none")).eval()
    with torch.inference_mode():
        steps, grid = transition(torch.rand(3, *size), features, Walk(cells=8))
    assert max(grid) == 9
    assert steps.shape == (grid[0] * grid[1],) * 2
    assert steps.sum(1) == pytest.approx(torch.ones(len(steps)).numpy(), abs=1e-4)
