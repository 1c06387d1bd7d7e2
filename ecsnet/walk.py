"""Random walk of class maps over a picture, between places that a network's features find alike.

As in PSA (Ahn & Kwak, CVPR 2018) maps move along affinities of the picture's own places. The affinities are
not learned here: they are those of intermediate features, which tell things and stuff apart more finely than
the class maps, which are made of the last ones.
"""

import torch
from torch import Tensor
from torch.nn import functional

from .backbone import Features
from .settings import Walk
from .views import aligned_side, resize


def walk(maps: Tensor, picture: Tensor, features: Features, settings: Walk) -> Tensor:
    """Class maps [K, ·, ·] of one picture after the walk, float32 [K, h, w] on the walk's grid.

    T^n M over each map's own maximum, with T the affinities between the grid's cells, each cell's divided by
    their sum. What a map has in a few places is spread over all that look like them; the maximum is 1 again,
    so that small objects keep a sure place. A map that is zero stays so.

    Args:
        maps: in [0, 1], on any corner-aligned grid.
        picture: [3, H, W] in [0, 1].
        features: the network whose features tell which cells are alike.
    """
    if settings.steps == 0:
        return maps
    transitions, grid = transition(picture, features, settings)
    walked = resize(maps.unsqueeze(0).float(), grid)[0].flatten(1).T
    for _ in range(settings.steps):
        walked = transitions @ walked
    walked = walked / walked.amax(0).clamp(min=1e-6)
    return walked.T.reshape(-1, *grid).clamp(0, 1)


def transition(picture: Tensor, features: Features, settings: Walk) -> tuple[Tensor, tuple[int, int]]:
    """Probabilities [N, N] of a step from each of a grid's N cells to each other, and the grid."""
    factor = settings.cells * features.stride / max(picture.shape[1:])
    size = tuple(aligned_side(side * factor, features.stride) for side in picture.shape[1:])
    view = resize(picture.unsqueeze(0), size).contiguous(memory_format=torch.channels_last)
    levels = features.levels(view)
    grid = (levels[-1].shape[2], levels[-1].shape[3])
    likeness = similarity(levels[:-1] or levels, grid).clamp(min=0) ** settings.power
    return likeness / likeness.sum(1, keepdim=True).clamp(min=1e-12), grid


def similarity(levels: list[Tensor], grid: tuple[int, int]) -> Tensor:
    """Mean over feature maps [1, ·, h, w] of the cosine [N, N] between a grid's cells, within [-1, 1].

    The picture's mean is taken off each channel first: what all of its places have in common says nothing
    about which of them belong together.
    """
    cosines = []
    for level in levels:
        cells = functional.adaptive_avg_pool2d(level.float(), grid)[0].flatten(1)
        cells = functional.normalize(cells - cells.mean(1, keepdim=True), dim=0)
        cosines.append(cells.T @ cells)
    return torch.stack(cosines).mean(0)
