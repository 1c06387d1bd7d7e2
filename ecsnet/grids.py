"""Maps on coarse grids, brought to a picture's own size without torch.

All maps of ecsnet are corner-aligned: the first and last cell of a grid lie on the first and last
pixel of the picture (DeepLab's convention, torch's ``align_corners=True``). Networks see pictures
whose sides are a multiple of the output stride plus one, where this is exact.
"""

import numpy as np

BAND, FEWEST = 1 << 16, 32
"""Pixels whose labels are made at a time, and the least number of rows."""


def resize_maps(maps: np.ndarray, height: int, width: int) -> np.ndarray:
    """Bilinear, corner-aligned resize of float maps [..., h, w] to float32 [..., height, width]."""
    maps = maps.astype(np.float32, copy=False)
    return _resize_axis(_resize_axis(maps, height, -2), width, -1)


def resize_labels(labels: np.ndarray, height: int, width: int) -> np.ndarray:
    """Nearest, corner-aligned resize of class indices [h, w] to [height, width]."""
    rows = np.rint(np.linspace(0, labels.shape[0] - 1, height)).astype(int)
    columns = np.rint(np.linspace(0, labels.shape[1] - 1, width)).astype(int)
    return labels.take(columns, 1).take(rows, 0)


def strongest(scores: np.ndarray) -> np.ndarray:
    """Number of the best of scores [K, h, w], the first of equal ones; uint8 [h, w].

    As `argmax(0)`, which goes from pixel to pixel and takes several times as long.
    """
    best = scores[0].copy()
    numbers = np.zeros(best.shape, np.uint8)
    for number, one in enumerate(scores[1:], 1):
        np.copyto(numbers, number, where=one > best)
        np.maximum(best, one, out=best)
    return numbers


def argmax_labels(scores: np.ndarray, values: np.ndarray, height: int, width: int) -> np.ndarray:
    """Label map (uint8 [height, width]) of scores [K, h, w]: of the best score its value, of [K].

    Rows are worked on some at a time, as many as a processor's cache holds: the scores of a large photograph
    need not fit into memory. They are turned by 90 degrees for it, so that what is copied lies together.
    """
    scores, labels = scores.astype(np.float32, copy=False), np.empty((height, width), np.uint8)
    rows = max(FEWEST, BAND // width)
    for start in range(0, height, rows):
        part = slice(start, start + rows)
        turned = np.ascontiguousarray(_resize_axis(scores, height, -2, part).swapaxes(1, 2))
        labels[part] = strongest(_resize_axis(turned, width, -2)).T
    return values.astype(np.uint8).take(labels)


def enlarged_labels(labels: np.ndarray, height: int, width: int) -> np.ndarray:
    """Class indices [h, w] at a larger size, with borders that go smoothly between the pixels."""
    values = np.unique(labels)
    return argmax_labels(labels == values[:, None, None], values, height, width)


def _resize_axis(maps: np.ndarray, target: int, axis: int, part: slice = slice(None)) -> np.ndarray:
    """Linear interpolation between aligned end points along one of the last two axes, or a part of it.

    Not a matrix product: a BLAS uses threads of its own, which slow parallel callers down, and its
    last bits depend on the processor.
    """
    source = maps.shape[axis]
    position = np.linspace(0, source - 1, target)[part]
    low = np.minimum(position.astype(int), max(source - 2, 0))
    share = (position - low).astype(np.float32)
    after = np.minimum(np.arange(source) + 1, source - 1)
    found = (maps.take(after, axis) - maps).take(low, axis)
    found *= share[:, None] if axis == -2 else share
    found += maps.take(low, axis)
    return found
