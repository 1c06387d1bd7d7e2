"""Random walk of class scores over a picture, between places that a network's features find alike.

As in PSA (Ahn & Kwak, CVPR 2018) scores move along affinities of the picture's own places; as in the
random walk with restart (Tong et al., ICDM 2006) each step may return to where it began, so that the walk
has a limit, which is solved for. The affinities are not learned: they are those of intermediate features,
which tell things and stuff apart more finely than the class maps, which are made of the last ones.
"""

import torch
from torch import Tensor
from torch.nn import functional

from .backbone import Features
from .settings import Walk
from .views import aligned_side, resize


def walk(scores: Tensor, picture: Tensor, features: Features, settings: Walk) -> Tensor:
    """Scores [K, ·, ·] of one picture after the walk, float32 [K, h, w] on the walk's grid.

    P = (1 − γ) (1 − γ T)⁻¹ S, with T the affinities between the grid's cells, each cell's divided by their
    sum: the mean of all S T^n, weighted by (1 − γ) γ^n. Each result is a mean of scores with weights that
    sum to one, so that scores which add up to one over the classes still do.

    Args:
        scores: any corner-aligned grid.
        picture: [3, H, W] in [0, 1].
        features: the network whose features tell which cells are alike.
    """
    if settings.cells == 0:
        return scores
    transitions, grid = transition(picture, features, settings)
    start = resize(scores.unsqueeze(0).float(), grid)[0].flatten(1).T
    system = torch.eye(len(transitions), device=scores.device) - settings.carry * transitions
    ends = torch.linalg.solve(system, (1 - settings.carry) * start)
    return ends.T.reshape(-1, *grid).clamp(0, 1)


def transition(picture: Tensor, features: Features, settings: Walk) -> tuple[Tensor, tuple[int, int]]:
    """Probabilities [N, N] of a step from each of a grid's N cells to each other, and the grid."""
    factor = settings.cells * features.stride / max(picture.shape[1:])
    size = tuple(aligned_side(side * factor, features.stride) for side in picture.shape[1:])
    view = resize(picture.unsqueeze(0), size).contiguous(memory_format=torch.channels_last)
    levels = features.levels(view)
    grid = (levels[-1].shape[2], levels[-1].shape[3])
    likeness = similarity(levels[:-1] or levels, grid).clamp(min=0) ** settings.power
    likeness.fill_diagonal_(0)
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
