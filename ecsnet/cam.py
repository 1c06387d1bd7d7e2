"""Class activation maps, and what they find erased from the picture."""

from functools import partial

import torch
from torch import Tensor
from torch.nn import functional

from .networks import Classifier
from .settings import Erase
from .views import average_views, resize


def activation_maps(network: Classifier, images: Tensor, settings: Erase, grid: tuple[int, int]) -> Tensor:
    """R(x): ReLU of the class maps, averaged over views; float32 [B, C, *grid], not normalised."""
    maps_of = partial(_positive_maps, network)
    return average_views(maps_of, images, settings, network.features.stride, grid)


def _positive_maps(network: Classifier, images: Tensor) -> Tensor:
    return functional.relu(network(images))


def normalise(maps: Tensor, maximum: Tensor) -> Tensor:
    """Maps [K, h, w] over each class's `maximum` [K], clipped to [0, 1].

    The erased image's maps are divided by the *original's* maxima. That keeps the two comparable: where
    nothing of the class is left, the erased map stays small. Its own maximum would blow noise up.
    """
    return (maps / maximum.clamp(min=1e-6).view(-1, 1, 1)).clamp(0, 1)


def erased_region(cams: Tensor, threshold: float) -> Tensor:
    """E = {S ≥ τ}, S the maximum over the present classes of normalised maps [K, h, w]; bool [h, w]."""
    return cams.amax(0) >= threshold


def erase(images: Tensor, regions: Tensor, fill: Tensor) -> Tensor:
    """Images [B, 3, H, W] with regions [B, h, w] filled by the colour `fill` [1, 3, 1, 1].

    `fill` is the mean that the network subtracts, so that the region is zero after normalisation.
    """
    mask = resize(regions.unsqueeze(1).float(), tuple(images.shape[2:])) >= 0.5
    return torch.where(mask, fill.to(images.dtype), images)
