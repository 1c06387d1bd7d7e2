"""Scores of label maps against true masks: confusion matrix, IoU, coverage, accuracy.

Counts are added up over all images before anything is divided (VOC's rule), and pixels whose
truth is 255 are left out. Classes are numbered 0 (background) to C.
"""

import dataclasses
import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from .errors import UserError
from .grids import strongest
from .palette import IGNORE
from .store import ShardReader, ShardWriter


def count_pixels(truth: np.ndarray, labels: np.ndarray, classes: int) -> np.ndarray:
    """Pixels of one image by true and by given class.

    Args:
        truth, labels: uint8 [H, W] with values 0..C and 255 (ignored).
        classes: C, without background.

    Returns:
        int64 [C + 1, C + 2]: rows are the true class, columns the given one; the last column counts
        pixels whose label is 255. Pixels whose truth is 255 are left out.

    Raises:
        UserError: the sizes differ, or a value is none of the classes.
    """
    if truth.shape != labels.shape:
        sizes = f"the label is {_size(labels)} pixels, its true mask {_size(truth)}"
        raise UserError(f"{sizes}; rerun the stage that wrote the label")
    pairs = (truth.astype(np.uint16) << 8 | labels).ravel()
    # label images are made of long runs of one value: to count those is several times as fast
    starts = np.concatenate([[0], np.flatnonzero(pairs[1:] != pairs[:-1]) + 1])
    lengths = np.diff(starts, append=pairs.size)
    rows, columns = pairs[starts] >> 8, pairs[starts] & 255
    for kind, values in (("true mask", rows), ("label", columns)):
        unknown = values[(values > classes) & (values != IGNORE)]
        if len(unknown):
            raise UserError(
                f"the {kind} has the value {unknown.min()}, but there are only {classes} classes; "
                "correct dataset.classes, or rerun the stage that wrote the file"
            )
    size, scored = classes + 1, rows != IGNORE
    cells = rows[scored].astype(np.intp) * (size + 1) + np.minimum(columns[scored], size)
    counts = np.bincount(cells, lengths[scored], minlength=size * (size + 1))
    return counts.astype(np.int64).reshape(size, size + 1)


def all_pixels(counts: np.ndarray) -> np.ndarray:
    """Confusion matrix [C + 1, C + 1] of `count_pixels`, a label of 255 taken as background (as IRN does)."""
    confusion = counts[:, :-1].copy()
    confusion[:, 0] += counts[:, -1]
    return confusion


def kept_pixels(counts: np.ndarray) -> np.ndarray:
    """Confusion matrix [C + 1, C + 1] of `count_pixels` over the pixels whose label is not 255."""
    return counts[:, :-1]


def coverage(counts: np.ndarray) -> float:
    """Percentage of the pixels with a truth whose label is not 255."""
    return _percent(kept_pixels(counts).sum(), counts.sum())


def accuracy(confusion: np.ndarray) -> float:
    """Percentage of correct pixels; NaN without any pixel."""
    return _percent(np.trace(confusion), confusion.sum())


def iou_per_class(confusion: np.ndarray) -> np.ndarray:
    """TP / (truth + predicted − TP) in percent, float64 [C + 1]; NaN where a class is in neither."""
    hits = np.diagonal(confusion).astype(float)
    union = confusion.sum(0) + confusion.sum(1) - hits
    return 100 * np.divide(hits, union, out=np.full_like(hits, np.nan), where=union > 0)


def mean_iou(confusion: np.ndarray) -> float:
    """Mean IoU in percent over the classes that truth or prediction contain; NaN without any pixel.

    On VOC's train and val this is the official mean over 21 classes, as each of them occurs. In a
    small list a class that is neither there nor predicted has no IoU and is left out of the mean.
    """
    values = iou_per_class(confusion)
    return float(np.nanmean(values)) if confusion.sum() else float("nan")


def count_thresholds(
    truth: np.ndarray, cam: np.ndarray, present: np.ndarray, thresholds: np.ndarray, classes: int
) -> np.ndarray:
    """Pixels of one image by true class, strongest class, and how many thresholds its score exceeds.

    All background thresholds share a pixel's strongest class, so one pass serves them all.

    Args:
        truth: uint8 [H, W] with values 0..C and 255.
        cam: class activation maps, float32 [K, H, W].
        present: their classes, uint8 [K], each in 1..C.
        thresholds: background scores, float32 [T], ascending.
        classes: C.

    Returns:
        int64 [C + 1, C + 1, T + 1], which may be added up over images.
    """
    scored = truth != IGNORE
    classes_there = present[strongest(cam)[scored]].astype(np.intp)
    exceeded = np.searchsorted(thresholds, cam.max(0)[scored], side="left")
    shape = (classes + 1, classes + 1, len(thresholds) + 1)
    flat = (truth[scored] * np.intp(shape[1]) + classes_there) * shape[2] + exceeded
    return np.bincount(flat, minlength=np.prod(shape)).reshape(shape)


def threshold_confusions(counts: np.ndarray) -> np.ndarray:
    """Confusion matrices int64 [T, C + 1, C + 1], one for each threshold of `count_thresholds`.

    A pixel is background where no map is above the threshold: the argmax with background first.
    """
    above = counts[:, :, ::-1].cumsum(2)[:, :, ::-1][:, :, 1:]
    confusions = above.transpose(2, 0, 1).copy()
    confusions[:, :, 0] += (counts.sum(2)[:, :, None] - above).sum(1).T
    return confusions


@dataclass(frozen=True)
class ScoreRecord:
    """The result of scoring one kind of label.

    Attributes:
        what: the kind, one of `score.WHATS`.
        split: name of the list of images.
        images: how many there are.
        metrics: by name, in percent (best_threshold: in [0, 1]); None where no pixel defines it.
        iou: by class, background included, in percent; None for a class in neither truth nor label.
        confusion: pixels by true class (rows) and given class, in the order of `iou`.
            For cam, `iou` and `confusion` are those at the best threshold.
    """

    what: str
    split: str
    images: int
    metrics: dict[str, float | None]
    iou: dict[str, float | None]
    confusion: list[list[int]]

    def to_json(self) -> str:
        """JSON text with one line for each value and each row of the matrix."""
        values = dataclasses.asdict(self)
        rows = ",\n    ".join(json.dumps(row) for row in values.pop("confusion"))
        head = json.dumps(values, indent=2, ensure_ascii=False, allow_nan=False).removesuffix("\n}")
        return f'{head},\n  "confusion": [\n    {rows}\n  ]\n}}\n'


def make_record(
    what: str, split: str, images: int, metrics: dict[str, float], confusion: np.ndarray, names: list[str]
) -> ScoreRecord:
    """A record with four decimals; `names` are those of the classes without background."""
    iou = dict(zip(["background", *names], iou_per_class(confusion).tolist(), strict=True))
    return ScoreRecord(what, split, images, _rounded(metrics), _rounded(iou), confusion.tolist())


def read_score(path: Path) -> ScoreRecord:
    """Read what `ScoreRecord.to_json` wrote; raises `UserError` if the file is not such a record."""
    try:
        return ScoreRecord(**json.loads(path.read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError) as error:
        raise UserError(
            f"{path}: not a readable score ({error}); delete it and run snakemake again"
        ) from None


@dataclass(frozen=True)
class ImageCounts:
    """What `count_pixels` found in each image of a list.

    Attributes:
        split: name of the list.
        ids: of the images.
        counts: int32 [N, C + 1, C + 2].
    """

    split: str
    ids: list[str]
    counts: np.ndarray


def write_image_counts(path: Path, split: str, ids: list[str], counts: np.ndarray) -> None:
    """Write `ImageCounts` as an npz file; resampled without any mask, they give a score its interval."""
    with ShardWriter(path) as writer:
        writer.add("images", split=np.array([split]), ids=np.array(ids), counts=counts)


def read_image_counts(path: Path) -> ImageCounts:
    """Read what `write_image_counts` wrote; raises `UserError` if the file is damaged."""
    reader = ShardReader([path])
    split, ids, counts = (reader.get("images", name) for name in ("split", "ids", "counts"))
    return ImageCounts(str(split[0]), ids.tolist(), counts)


def _rounded(values: dict[str, float]) -> dict[str, float | None]:
    return {name: None if np.isnan(value) else round(value, 4) for name, value in values.items()}


def _percent(part: int, whole: int) -> float:
    return 100 * float(part) / float(whole) if whole else float("nan")


def _size(labels: np.ndarray) -> str:
    return f"{labels.shape[1]}×{labels.shape[0]}"
