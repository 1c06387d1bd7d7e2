"""A network's maps averaged over scales and mirrored copies of a picture."""

from collections.abc import Callable, Iterable

import torch
from torch import Tensor
from torch.nn import functional

from .copies import to_device
from .settings import Views


def average_views(
    maps_of: Callable[[Tensor], Tensor], images: Tensor, views: Views, stride: int, grid: tuple[int, int]
) -> Tensor:
    """Mean over all views of the maps that `maps_of` gives, each brought to one grid.

    Args:
        maps_of: maps [N, K, h, w] of images [N, 3, H, W]; N is B, or 2 B with the mirrored ones at the end,
            which go with the others: two together are faster than one after the other, on a CPU too.
        images: [B, 3, H, W] in [0, 1].
        stride: the network's output stride.
        grid: size of the result, corner-aligned with the images.

    Returns:
        float32 [B, K, *grid].
    """
    total: Tensor | float = 0.0
    for scale in views.scales:
        size = tuple(aligned_side(side * scale, stride) for side in images.shape[2:])
        view = resize(images, size)
        view = torch.cat([view, view.flip(-1)]) if views.flip else view
        maps = resize(maps_of(view.contiguous(memory_format=torch.channels_last)).float(), grid)
        total = total + maps[: len(images)]
        if views.flip:
            total = total + maps[len(images) :].flip(-1)
    return total / (len(views.scales) * (2 if views.flip else 1))  # type: ignore[return-value]


def aligned_side(side: float, stride: int) -> int:
    """The length nearest to `side` that is a multiple of the stride plus one, two cells at least.

    With such lengths the outer feature cells lie exactly on the outer pixels, so that maps of all
    scales and of mirrored pictures fit on each other without a shift.
    """
    return max(1, round((side - 1) / stride)) * stride + 1


def picked(maps: Tensor, classes: Iterable[Iterable[int]]) -> Tensor:
    """Of each image's maps [B, C, ...] those of its `classes`, one image's after the other's: [S, ...]."""
    pairs = [(place, int(number)) for place, own in enumerate(classes) for number in own]
    places, numbers = to_device(torch.tensor(pairs), maps.device).T
    return maps[places, numbers]


def resize(maps: Tensor, size: tuple[int, ...]) -> Tensor:
    """Bilinear, corner-aligned resize of [B, K, h, w].

    Where it shrinks, it averages areas instead, so that fine texture does not alias; areas cannot be
    corner-aligned, which moves what lies at the border by half a source pixel at factor 0.5.
    """
    if maps.shape[2:] == size:
        return maps
    shrinks = size[0] < maps.shape[2] or size[1] < maps.shape[3]
    return functional.interpolate(maps, size, mode="bilinear", align_corners=True, antialias=shrinks)
