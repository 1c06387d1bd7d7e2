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


def segmentation_loss(logits: Tensor, labels: Tensor, balance: str) -> Tensor:
    """Cross-entropy of logits [B, 1 + C, h, w] on labels [B, H, W]; 255 is left out.

    Zero where every pixel is ignored. Means are taken over the batch; a group without a pixel is left out.

    Args:
        balance: "none": the mean over all pixels. "objects": of the background's mean and the objects' mean,
            so that a network cannot do well by saying background everywhere. "classes": of the background's
            mean and the mean over the classes of their means, so that large ones do not drown small ones.
    """
    labels = labels[:, ::LABEL_STRIDE, ::LABEL_STRIDE]
    logits = functional.interpolate(logits.float(), labels.shape[1:], mode="bilinear", align_corners=True)
    loss = functional.cross_entropy(logits, labels, ignore_index=IGNORE, reduction="none")
    if balance == "none":
        return _mean_of_means(loss, (labels != IGNORE).unsqueeze(0))[0]
    if balance == "objects":
        objects = ((labels > 0) & (labels != IGNORE)).unsqueeze(0)
    else:
        objects = torch.stack([labels == value for value in range(1, logits.shape[1])])
    sides = [_mean_of_means(loss, (labels == 0).unsqueeze(0)), _mean_of_means(loss, objects)]
    (background, some_background), (object_mean, some_objects) = sides
    return (background + object_mean) / (some_background + some_objects).clamp(min=1)


def _mean_of_means(values: Tensor, parts: Tensor) -> tuple[Tensor, Tensor]:
    """Mean of the means of values [B, h, w] over parts [P, B, h, w] that are not empty; 1, or 0 if none is.

    Of a batch that several processes share, it is this process's share: the mean over the processes is
    the mean over the whole batch, however the pixels are spread.
    """
    sums = (values * parts).flatten(1).sum(1)
    counts = parallel.total(parts.flatten(1).sum(1))
    means = sums * parallel.size() / counts.clamp(min=1)
    return means.sum() / (counts > 0).sum().clamp(min=1), (counts > 0).any().long()
