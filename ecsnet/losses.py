"""Losses of the three trainings."""

import torch
from torch import Tensor
from torch.nn import functional

from . import parallel
from .palette import IGNORE

LABEL_STRIDE = 4
"""Pixels per cell of the grid on which a segmentation is compared with its labels.

Logits come at stride 8 to 32, so that nothing is gained by comparing at every pixel, and a sixteenth
of the memory and time of the softmax is enough. Crops are a multiple of 4 plus one, so the grid's
points lie exactly on pixels.
"""


def tag_loss(class_maps: Tensor, tags: Tensor) -> Tensor:
    """Multi-label soft margin loss of the averaged class maps [B, C, h, w] on tags [B, C] in {0, 1}.

    −mean_c [ t log σ(s) + (1 − t) log(1 − σ(s)) ], s the spatial mean of the class's map.
    """
    return functional.multilabel_soft_margin_loss(class_maps.float().mean((2, 3)), tags)


def segmentation_loss(logits: Tensor, labels: Tensor, balanced: bool) -> Tensor:
    """Cross-entropy of logits [B, 1 + C, h, w] on labels [B, H, W]; 255 is left out.

    Balanced: the mean of the background's mean loss and the objects' mean loss, so that a network
    cannot do well by saying background everywhere. Zero where every pixel is ignored.
    """
    labels = labels[:, ::LABEL_STRIDE, ::LABEL_STRIDE]
    logits = functional.interpolate(logits.float(), labels.shape[1:], mode="bilinear", align_corners=True)
    loss = functional.cross_entropy(logits, labels, ignore_index=IGNORE, reduction="none")
    counted = labels != IGNORE
    parts = torch.stack([counted & (labels == 0), counted & (labels > 0)] if balanced else [counted])
    return _mean_of_means(loss, parts)


def _mean_of_means(values: Tensor, parts: Tensor) -> Tensor:
    """Mean of the means of values [B, h, w] over those of the parts [P, B, h, w] that are not empty.

    Of a batch that several processes share, it is this process's share: the mean over the processes is
    the mean over the whole batch, however the pixels are spread.
    """
    sums = (values * parts).flatten(1).sum(1)
    counts = parallel.total(parts.flatten(1).sum(1))
    return (sums * parallel.size() / counts.clamp(min=1)).sum() / (counts > 0).sum().clamp(min=1)
