"""Losses of the three trainings."""

from torch import Tensor
from torch.nn import functional

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
    if not balanced:
        return _mean_where(loss, labels != IGNORE)
    background = labels == 0
    objects = (labels != IGNORE) & ~background
    both = background.any() & objects.any()
    return (_mean_where(loss, background) + _mean_where(loss, objects)) / (1 + both.float())


def _mean_where(values: Tensor, mask: Tensor) -> Tensor:
    return (values * mask).sum() / mask.sum().clamp(min=1)
