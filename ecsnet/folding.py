"""Batch norm folded into the convolutions before it: the same function with less to compute."""

import copy
import itertools
from pathlib import Path

import torch
from timm.layers.norm_act import BatchNormAct2d
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from .networks import AGAIN, Kind, load_network

TOLERANCE = 1e-3
"""Largest difference of features, as a share of the largest of them, that rounding is blamed for."""


def load_folded(
    path: Path, kind: type[Kind], device: torch.device | str = "cpu", remedy: str = AGAIN
) -> Kind:
    """As `networks.load_network`, with batch norm folded: for inference alone, not to train or to save."""
    network = fold_batch_norm(load_network(path, kind, remedy=remedy))
    return network.to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]


def fold_batch_norm(network: Kind) -> Kind:
    """A network of the same outputs to rounding, whose convolutions do what batch norm did after them.

    With the stored statistics, batch norm is a factor and an addend for each channel, which a convolution's
    weights and bias can hold. Layers are taken for one after the other where they are defined so; that is no
    proof for a network from timm, so its features of a picture of noise are compared, and where they differ,
    the network is given back as it was.

    Args:
        network: in evaluation mode, on the CPU; is not changed.
    """
    folded = copy.deepcopy(network)
    for module in list(folded.modules()):
        for (name, layer), (after, norm) in itertools.pairwise(list(module.named_children())):
            if isinstance(layer, nn.Conv2d) and isinstance(norm, nn.BatchNorm2d) and _folds(layer, norm):
                setattr(module, name, fuse_conv_bn_eval(layer, norm))
                setattr(module, after, _activation(norm))
    return folded if _same_features(network, folded) else network


def _folds(layer: nn.Conv2d, norm: nn.BatchNorm2d) -> bool:
    """Whether the second may be all that happens between the first and an activation."""
    known = type(norm) in (nn.BatchNorm2d, BatchNormAct2d) and norm.running_mean is not None
    return known and layer.out_channels == norm.num_features


def _activation(norm: nn.BatchNorm2d) -> nn.Module:
    """What else the layer does: timm's has its activation within."""
    return nn.Sequential(norm.drop, norm.act) if isinstance(norm, BatchNormAct2d) else nn.Identity()


@torch.inference_mode()
def _same_features(network: Kind, folded: Kind) -> bool:
    noise = torch.rand(1, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    pairs = zip(network.features.levels(noise), folded.features.levels(noise), strict=True)
    return all(_close(one, other) for one, other in pairs)


def _close(one: Tensor, other: Tensor) -> bool:
    return bool((one - other).abs().max() <= TOLERANCE * one.abs().max())
