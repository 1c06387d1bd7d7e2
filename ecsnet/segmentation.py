"""Inference of the segmentation networks: class probabilities of pictures, averaged over views."""

from functools import partial

import torch
from torch import Tensor

from .networks import DeepLab, EcsNet
from .settings import Views
from .views import average_views


def probabilities(
    network: EcsNet | DeepLab,
    images: Tensor,
    views: Views,
    grid: tuple[int, int],
    absent: Tensor | None = None,
) -> Tensor:
    """Softmax over background and classes, mean over views; float32 [B, 1 + C, *grid].

    Args:
        images: [B, 3, H, W] in [0, 1].
        absent: bool [B, 1 + C], classes known to be absent; they get probability 0.
    """
    maps_of = partial(_softmax, network, absent)
    return average_views(maps_of, images, views, network.features.stride, grid)


def _softmax(network: EcsNet | DeepLab, absent: Tensor | None, images: Tensor) -> Tensor:
    logits = network.segment(images).float()
    if absent is not None:
        absent = absent.repeat(len(images) // len(absent), 1)  # of the mirrored images, too
        logits = logits.masked_fill(absent[:, :, None, None], -torch.inf)
    return logits.softmax(1)
