"""Pixel-adaptive refinement of class scores by the image's own edges, in plain torch.

PAMR (Araslanov & Roth, CVPR 2020) and PAR (Ru et al., CVPR 2022): each round replaces a pixel's scores
by a weighted mean of its neighbours' at several distances; like colours weigh more.
"""

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor
from torch.nn import functional

from .copies import to_device
from .settings import Refine
from .views import resize

NEIGHBOURS = ((-1, -1), (-1, 0), (-1, 1), (0, -1), (0, 1), (1, -1), (1, 0), (1, 1))


def refine(scores: Sequence[Tensor], images: Tensor, settings: Refine) -> list[Tensor]:
    """Refined scores [K, h, w], on the working grid, of each of some pictures of one shape.

    Args:
        scores: of each picture [K, ·, ·], with its own K, all on one corner-aligned grid.
        images: [B, 3, H, W] in [0, 1].

    Each result is a mean of scores with weights that sum to one, so that scores which add up to one
    over the classes still do.
    """
    grid = working_grid(images, settings.size)
    counts = [len(one) for one in scores]
    every = resize(torch.cat(list(scores)).unsqueeze(0), grid)[0]
    if settings.rounds:
        owners = torch.repeat_interleave(torch.arange(len(counts)), torch.tensor(counts))
        owners = to_device(owners, images.device)
        every = _refined(every, affinity(resize(images, grid), settings), owners, settings)
    return list(every.split(counts))


def _refined(scores: Tensor, weights: Tensor, owners: Tensor, settings: Refine) -> Tensor:
    """Scores [S, h, w] after all rounds, with the weights [N, B, h, w] of the images, `owners`, int [S]."""
    alone = weights.shape[1] == 1
    for _ in range(settings.rounds):
        # neighbour by neighbour: all of them stacked would not fit a processor's caches, or a card
        total = torch.zeros_like(scores)
        for neighbour, weight in zip(_neighbours(scores, settings.dilations), weights, strict=True):
            total.addcmul_(neighbour, weight if alone else weight[owners])
        scores = total
    return scores


def working_grid(picture: Tensor, size: float) -> tuple[int, int]:
    """The grid that a picture [..., H, W] is refined on: its size times `size`, two cells a side at least."""
    height, width = picture.shape[-2:]
    return max(2, round(height * size)), max(2, round(width * size))


def affinity(images: Tensor, settings: Refine) -> Tensor:
    """Weights [N, B, h, w] of each pixel's N neighbours in images [B, 3, h, w]; they sum to one over N.

    softmax_n( −mean_rgb (|ΔI| / (w σ))² ) + λ softmax_n( −(d / (w σ_d))² ), divided by 1 + λ, with σ the
    standard deviation of the colour over the neighbours and σ_d that of their distances d.
    """
    neighbours = torch.stack(list(_neighbours(images, settings.dilations)), 2)
    difference = (neighbours - images.unsqueeze(2)).abs()
    # as torch.std, which takes ten times as long across planes
    squares = (neighbours - neighbours.mean(2, keepdim=True)).square_().sum(2, keepdim=True)
    spread = (squares / (neighbours.shape[2] - 1)).sqrt_() * settings.color_width + 1e-8
    color = torch.softmax(-(difference / spread).square().mean(1), dim=1)
    distance = to_device(_distances(settings.dilations), images.device)
    nearness = torch.softmax(-(distance / (distance.std() * settings.color_width + 1e-8)).square(), dim=0)
    weight = settings.position_weight
    return ((color + weight * nearness.view(-1, 1, 1)) / (1 + weight)).transpose(0, 1)


def _neighbours(maps: Tensor, dilations: tuple[int, ...]) -> Iterator[Tensor]:
    """The maps [..., K, h, w] as each neighbour sees them; edges are repeated outwards."""
    height, width = maps.shape[-2:]
    reach = max(dilations)
    padded = functional.pad(maps, (reach,) * 4, mode="replicate")
    for d in dilations:
        for dy, dx in NEIGHBOURS:
            top, left = reach + dy * d, reach + dx * d
            yield padded[..., top : top + height, left : left + width]


def _distances(dilations: tuple[int, ...]) -> Tensor:
    return torch.tensor([d * (dy * dy + dx * dx) ** 0.5 for d in dilations for dy, dx in NEIGHBOURS])
