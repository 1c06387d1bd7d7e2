from functools import partial

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from ecsnet.backbone import Features
from ecsnet.settings import Backbone, Evidence, Walk
from ecsnet.walk import norm_weight, similarity, spread, to_maximum, transition, view_of_cells, walk


class Colours:
    """Features that are a picture's own colours, on a grid of half its size."""

    stride = 2

    def levels(self, images):
        return [images[:, :, ::2, ::2]]


def walk_alone(maps, picture, steps, cells=6, power=4.0):
    chosen = Evidence(norm_power=0, walk=Walk(cells=cells, power=power, steps=steps))
    [walked] = spread([maps], picture[None], Colours(), chosen)
    return walked


def halves(height=8, width=12):
    """A picture of a red and a blue half, each with its own pattern of grey."""
    picture = torch.zeros(3, height + 1, width + 1)
    picture[0, :, : width // 2] = 1
    picture[2, :, width // 2 :] = 1
    return picture


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 1000), st.integers(1, 5), st.integers(1, 9), st.floats(0.5, 20))
def test_maps_stay_in_range_and_reach_one(seed, classes, steps, power):
    generator = torch.Generator().manual_seed(seed)
    picture = torch.rand(3, 9, 13, generator=generator)
    maps = torch.rand(classes, 5, 7, generator=generator)
    walked = walk_alone(maps, picture, steps, power=power)
    assert walked.min() >= 0
    assert walked.amax((1, 2)) == pytest.approx(torch.ones(classes).numpy())


def test_maps_spread_within_what_looks_alike_and_not_beyond():
    maps = torch.zeros(1, 5, 7)
    maps[0, 2, 1] = 1.0  # one sure cell in the red half
    walked = walk_alone(maps, halves(), 4)
    assert walked[0, :, :3].min() > 0.9
    assert walked[0, :, 3:].max() < 1e-6


def test_no_steps_are_no_walk():
    maps = torch.rand(2, 5, 7)
    assert walk_alone(maps, halves(), 0) is maps


def test_an_empty_map_stays_empty():
    walked = walk_alone(torch.zeros(2, 5, 7), halves(), 3)
    assert torch.equal(walked, torch.zeros(2, 5, 7))


def test_hand_computed_step():
    """Two rows of dark red, red, blue, the first two unlike each other by less than each is unlike blue."""
    picture = torch.zeros(3, 3, 5)
    picture[0, :, :2], picture[0, :, 2:4] = 0.8, 1
    picture[2, :, 4] = 1
    cells = picture[:, 0, ::2] - picture[:, 0, ::2].mean(1, keepdim=True)
    unit = cells / cells.norm(dim=0)
    likeness = (unit.T @ unit).clamp(min=0)
    weights = likeness / likeness.sum(
        1, keepdim=True
    )  # both rows are alike: a mean over both changes nothing
    walked = walk_alone(torch.tensor([1.0, 0.0, 0.0]).expand(1, 2, 3), picture, 1, cells=2, power=1)
    assert walked[0, 0] == pytest.approx((weights[:, 0] / weights[:, 0].max()).numpy(), abs=1e-5)


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
        levels = features.levels(view_of_cells(torch.rand(1, 3, *size), features.stride, 8))
        steps = transition(levels, 4.0)
    grid = levels[-1].shape[2:]
    assert max(grid) == 9
    assert steps.shape == (grid[0] * grid[1],) * 2
    assert steps.sum(1) == pytest.approx(torch.ones(len(steps)).numpy(), abs=1e-4)


def test_the_norm_weighs_maps_by_hand():
    """Norms 5, 10, 0: weights 1/2, 1, 0."""
    level = torch.tensor([[3.0, 6.0, 0.0], [4.0, 8.0, 0.0]]).view(2, 1, 3)
    assert norm_weight(level).tolist() == [[0.5, 1.0, 0.0]]
    assert norm_weight(torch.full((2, 2, 2), 3.0)).tolist() == [[1.0, 1.0], [1.0, 1.0]]


def test_maps_leave_places_of_weak_features():
    """Of a dark and a bright half, with equal maps on both, the bright one keeps its own."""
    picture = torch.full((3, 9, 13), 0.1)
    picture[:, :, 6:] = 1
    maps = torch.ones(1, 5, 7)
    weigh = partial(spread, pictures=picture[None], features=Colours())
    [weighed] = weigh([maps], settings=Evidence(norm_power=1, walk=Walk(steps=0, cells=6)))
    assert weighed[0].tolist() == [[0.0] * 3 + [1.0] * 4] * 5
    [half] = weigh([0.5 * maps], settings=Evidence(norm_power=2, walk=Walk(steps=0, cells=6)))
    assert torch.equal(half, weighed)  # each over its own maximum


@given(st.integers(0, 1000), st.floats(0, 8))
def test_weighed_maps_reach_one_and_empty_ones_stay(seed, power):
    generator = torch.Generator().manual_seed(seed)
    maps = torch.rand(2, 4, 5, generator=generator)
    maps[1] = 0
    weighed = to_maximum(maps * norm_weight(torch.rand(3, 4, 5, generator=generator)) ** power)
    assert weighed.amax((1, 2)).tolist() == [1.0, 0.0]
    assert walk(weighed, torch.eye(20), 3).equal(weighed)


class TwoLevels(Colours):
    """Colours, and then a level that is strong in one red cell alone."""

    def levels(self, images):
        colours = super().levels(images)[0]
        strong = torch.zeros(1, 1, *colours.shape[2:])
        strong[0, 0, 2, 1] = 5
        return [colours, strong]


def test_weighed_by_the_last_level_first_then_led_by_those_before():
    chosen = Evidence(walk=Walk(cells=6, steps=2))
    [walked] = spread([torch.ones(1, 5, 7)], halves()[None], TwoLevels(), chosen)
    assert walked[0, :, :3].min() > 0.9  # of the one strong cell, the walk has made the red half
    assert walked[0, :, 3:].max() < 1e-6


def test_strong_powers_leave_a_maximum_of_one():
    level = torch.tensor([0.0, 0.15, 1.0]).view(1, 1, 3)
    maps = torch.tensor([[0.0, 1.0, 0.0]]).view(1, 1, 3)
    assert to_maximum(maps * norm_weight(level) ** 8)[0, 0].tolist() == [0, 1, 0]
