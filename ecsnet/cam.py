"""Class activation maps, and what they find erased from the picture."""

import torch
from torch import Tensor
from torch.nn import functional

from .networks import Classifier
from .settings import Erase
from .views import average_views, resize


def activation_maps(
    network: Classifier, images: Tensor, settings: Erase, grid: tuple[int, int]
) -> tuple[Tensor, Tensor]:
    """Class activation maps and class probabilities of images [B, 3, H, W] in [0, 1].

    Returns:
        R(x): ReLU of the class maps, mean over the views, float32 [B, C, *grid], not normalised; and the
        sigmoid of the classes' scores, mean over the views, float32 [B, C].
    """
    scores = []

    def maps_of(view: Tensor) -> Tensor:
        maps = network(view).float()
        scores.append(maps.mean((2, 3)).unflatten(0, (-1, len(images))))
        return functional.relu(maps)

    maps = average_views(maps_of, images, settings, network.features.stride, grid)
    return maps, torch.sigmoid(torch.cat(scores).mean(0))


def normalise(maps: Tensor, maximum: Tensor) -> Tensor:
    """Maps [K, h, w] over each class's `maximum` [K], clipped to [0, 1].

    The erased image's maps are divided by the *original's* maxima. That keeps the two comparable: where
    nothing of the class is left, the erased map stays small. Its own maximum would blow noise up. A class
    whose maximum is zero has no evidence to be compared with: its map is zero.
    """
    maximum = maximum.view(-1, 1, 1)
    return torch.where(maximum > 1e-6, maps / maximum.clamp(min=1e-6), 0).clamp(0, 1)


def erased_region(cams: Tensor, threshold: float) -> Tensor:
    """E = {S ≥ τ}, S the maximum over the present classes of normalised maps [K, h, w]; bool [h, w]."""
    return cams.amax(0) >= threshold


def erase(images: Tensor, regions: Tensor, fill: Tensor) -> Tensor:
    """Images [B, 3, H, W] with regions [B, h, w] filled by the colour `fill` [1, 3, 1, 1].

    `fill` is the mean that the network subtracts, so that the region is zero after normalisation.
    """
    mask = resize(regions.unsqueeze(1).float(), tuple(images.shape[2:])) >= 0.5
    return torch.where(mask, fill.to(images.dtype), images)
