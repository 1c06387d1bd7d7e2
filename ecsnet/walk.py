"""Class maps on their way to evidence: led to things by the features' norm, and spread by a random walk.

The walk goes over a picture, between places that a network's features find alike.

As in PSA (Ahn & Kwak, CVPR 2018) maps move along affinities of the picture's own places. The affinities are
not learned here: they are those of intermediate features, which tell things and stuff apart more finely than
the class maps, which are made of the last ones.
"""

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional

from .backbone import Features
from .settings import Evidence
from .views import aligned_side, resize


def spread(maps: Sequence[Tensor], pictures: Tensor, features: Features, settings: Evidence) -> list[Tensor]:
    """Class maps [K, ·, ·] of each of some pictures, weighted by the features' norm and after the walk.

    In [0, 1], float32 [K, h, w]: on a grid of `walk.cells` cells along the longer side, or unchanged where
    both are switched off.

    Args:
        maps: of each picture, with its own K, in [0, 1], on any corner-aligned grid.
        pictures: [B, 3, H, W] in [0, 1].
        features: the classifier's.
    """
    if settings.norm_power == 0 and settings.walk.steps == 0:
        return list(maps)
    levels = features.levels(view_of_cells(pictures, features.stride, settings.walk.cells))
    of_pictures = zip(*(level.split(1) for level in levels), strict=True)
    # a picture's transitions may be hundreds of megabytes: not those of all at once
    return [_spread(own, list(each), settings) for own, each in zip(maps, of_pictures, strict=True)]


def _spread(maps: Tensor, levels: list[Tensor], settings: Evidence) -> Tensor:
    grid = (levels[-1].shape[2], levels[-1].shape[3])
    maps = resize(maps.unsqueeze(0).float(), grid)[0]
    maps = to_maximum(maps * norm_weight(levels[-1][0]) ** settings.norm_power)
    if settings.walk.steps == 0:
        return maps
    return walk(maps, transition(levels, settings.walk.power), settings.walk.steps)


def view_of_cells(pictures: Tensor, stride: int, cells: int) -> Tensor:
    """Pictures [B, 3, H, W] as [B, 3, h, w], such that the longer side has `cells` feature cells and one."""
    factor = cells * stride / max(pictures.shape[2:])
    size = tuple(aligned_side(side * factor, stride) for side in pictures.shape[2:])
    return resize(pictures, size).contiguous(memory_format=torch.channels_last)


def norm_weight(level: Tensor) -> Tensor:
    """The norm over the channels of features [C, h, w], stretched to [0, 1]; 1 if it is the same everywhere.

    Networks that learned to name things answer strongly where there are some, and weakly to sky, water or
    walls, whatever the class.
    """
    norm = level.float().norm(dim=0)
    low, high = norm.min(), norm.max()
    # no `if`, for which the host would wait for the card
    return torch.where(high > low, (norm - low) / (high - low), 1.0)


def to_maximum(maps: Tensor) -> Tensor:
    """Maps [K, h, w], not negative, each over its own maximum; a map that is zero stays so."""
    maximum = maps.amax((1, 2), keepdim=True)
    return torch.where(maximum > 0, maps / maximum.clamp(min=1e-30), 0).clamp(0, 1)


def walk(maps: Tensor, transitions: Tensor, steps: int) -> Tensor:
    """T^n M over each map's own maximum, [K, h, w].

    What a map has in a few places is spread over all that look like them; the maximum is 1 again, so that
    small objects keep a sure place.

    Args:
        transitions: T [h w, h w], from `transition`.
    """
    walked = maps.flatten(1).T
    for _ in range(steps):
        walked = transitions @ walked
    return to_maximum(walked.T.reshape(maps.shape))


def transition(levels: list[Tensor], power: float) -> Tensor:
    """Probabilities [N, N] of a step from each of the last level's N cells to each other.

    Args:
        levels: feature maps [1, ·, ·, ·]; all but the last one, if there are several, tell which cells
            are alike.
    """
    grid = (levels[-1].shape[2], levels[-1].shape[3])
    likeness = similarity(levels[:-1] or levels, grid).clamp(min=0) ** power
    return likeness / likeness.sum(1, keepdim=True).clamp(min=1e-12)


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
