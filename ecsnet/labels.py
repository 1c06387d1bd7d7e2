"""Evidence from two maps, labels from scores, and the rules that keep noise out of them.

Scores are [1 + K, h, w] with background first, then the image's K present classes. Labels hold the
classes' own numbers, 0 for background and 255 where a rule ignores a pixel.
"""

import numpy as np
from scipy import ndimage

from .grids import strongest
from .palette import IGNORE


def residual_rule(erased_cam: np.ndarray, probability: np.ndarray, residual: float) -> np.ndarray:
    """N1: A' [K, h, w] without the classes whose probability [K] on the erased image is below ρ.

    Where the classifier no longer believes in a class, what its map still shows is not the object.
    """
    return erased_cam * (probability >= residual)[:, None, None]


def evidence(cam: np.ndarray, erased_cam: np.ndarray | None) -> np.ndarray:
    """M = max(A, A'), [K, h, w] in [0, 1]; A alone without `erased_cam`."""
    return cam if erased_cam is None else np.maximum(cam, erased_cam)


def conflict_rule(cam: np.ndarray, erased_cam: np.ndarray, level: float) -> np.ndarray:
    """N2: bool [h, w], where A and A' both reach `level` and name different classes."""
    if level >= 1 or len(cam) < 2:
        return np.zeros(cam.shape[1:], bool)
    sure = (cam.max(0) >= level) & (erased_cam.max(0) >= level)
    return sure & (cam.argmax(0) != erased_cam.argmax(0))


def margin_rule(scores: np.ndarray, margin: float) -> np.ndarray:
    """N3: bool [h, w], where the best two scores are closer than δ."""
    best = np.partition(scores, -2, axis=0)[-2:]
    return best[1] - best[0] < margin


def speck_rule(labels: np.ndarray, share: float) -> np.ndarray:
    """N5: bool [h, w], connected regions (8 neighbours) of one label under a share of the image."""
    specks = np.zeros(labels.shape, bool)
    smallest = share * labels.size
    for value in np.unique(labels[labels != IGNORE]):
        regions, _ = ndimage.label(labels == value, structure=np.ones((3, 3)))
        sizes = np.bincount(regions.ravel())
        sizes[0] = labels.size
        specks |= (sizes < smallest)[regions]
    return specks


def label_values(scores: np.ndarray, classes: np.ndarray) -> np.ndarray:
    """The best label of each cell, uint8 [h, w]; only background and tagged classes appear (N4)."""
    return np.insert(classes.astype(np.uint8), 0, 0)[strongest(scores)]


def clean_labels(scores: np.ndarray, classes: np.ndarray, margin: float, speck: float) -> np.ndarray:
    """Labels of scores, with N3 and N5 applied; uint8 [h, w]."""
    labels = label_values(scores, classes)
    labels[margin_rule(scores, margin)] = IGNORE
    labels[speck_rule(labels, speck)] = IGNORE
    return labels
