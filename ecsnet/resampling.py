"""How much a score owes to the images drawn: the bootstrap over the images of a list.

All scores are of counts that are added up over images, so a resample is a weighted sum of what is known of
each image, and all resamples are one matrix product.
"""

import numpy as np

METRICS = ("miou", "miou_kept", "coverage", "accuracy_kept")
"""As in `score`, all in percent."""


def draws(images: int, resamples: int) -> np.ndarray:
    """How often each resample holds each image: float64 [1 + resamples, images].

    The first line is the list itself, each image once. The same numbers give the same draws, so that scores
    of the same images may be compared resample by resample.
    """
    generator = np.random.default_rng(0)
    drawn = generator.multinomial(images, np.full(images, 1 / images), resamples)
    return np.concatenate([np.ones((1, images)), drawn])


def parts(counts: np.ndarray) -> np.ndarray:
    """What the scores of an image's counts [N, C + 1, C + 2] (`scoring.count_pixels`) are made of.

    Returns:
        float64 [N, 4, C + 1], pixels by class: of it and given it, of it, given it, of it and ignored.
    """
    kept = counts[:, :, :-1]
    hits = kept.diagonal(axis1=1, axis2=2)
    return np.stack([hits, counts.sum(2), kept.sum(1), counts[:, :, -1]], axis=1).astype(float)


def metrics(drawn: np.ndarray, parts: np.ndarray) -> dict[str, np.ndarray]:
    """Scores of each resample by their names, [R]; NaN where no pixel defines one.

    Args:
        drawn: [R, N], see `draws`.
        parts: [N, 4, C + 1], see `parts`.
    """
    hits, truth, given, ignored = np.moveaxis(np.tensordot(drawn, parts, 1), 1, 0)
    kept = truth - ignored
    values = (
        mean_iou(class_iou(drawn, parts)),
        mean_iou(_percent(hits, kept + given - hits)),
        _percent(kept.sum(1), truth.sum(1)),
        _percent(hits.sum(1), kept.sum(1)),
    )
    return dict(zip(METRICS, values, strict=True))


def class_iou(drawn: np.ndarray, parts: np.ndarray) -> np.ndarray:
    """IoU by class in percent, [R, C + 1], ignored pixels taken as background; NaN as in `scoring`."""
    hits, truth, given, ignored = np.moveaxis(np.tensordot(drawn, parts, 1), 1, 0)
    hits, given = hits.copy(), given.copy()
    hits[:, 0] += ignored[:, 0]
    given[:, 0] += ignored.sum(1)
    return _percent(hits, truth + given - hits)


def mean_iou(values: np.ndarray) -> np.ndarray:
    """Mean [R] over the classes of [R, C + 1] that are not NaN."""
    there = ~np.isnan(values)
    total, number = np.where(there, values, 0).sum(1), there.sum(1)
    return np.divide(total, number, out=np.full(len(values), np.nan), where=number > 0)


def interval(values: np.ndarray) -> tuple[float, float]:
    """The middle 95 % of the resamples of [1 + R] values, whose first one is that of the list itself."""
    found = values[1:][~np.isnan(values[1:])]
    low, high = np.percentile(found, (2.5, 97.5)) if len(found) else (np.nan, np.nan)
    return float(low), float(high)


def _percent(part: np.ndarray, whole: np.ndarray) -> np.ndarray:
    return 100 * np.divide(part, whole, out=np.full_like(part, np.nan), where=whole > 0)
