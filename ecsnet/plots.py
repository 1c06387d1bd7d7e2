"""Drawing: sheets of small pictures, training curves, IoU bars, confusion matrix; all written as PNG."""

import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.offsetbox import AnnotationBbox, HPacker, TextArea
from PIL import Image

from .grids import resize_labels, resize_maps
from .palette import IGNORE, voc_palette
from .scoring import ScoreRecord
from .store import atomic_path

DPI = 100
COLORS = np.array(voc_palette(), np.uint8).reshape(256, 3)
BAR_COLORS = {
    "cam": "#bdbdbd",
    "cam_refined": "#9ecae1",
    "ecs_labels": "#4292c6",
    "filtered_labels": "#08306b",
    "val": "#d55e00",
    "supervised": "#f5b98a",
}
"""Lightness tells the kinds of one list apart, also without colour vision."""

LINE_COLORS = ("#000000", "#0072b2", "#d55e00", "#009e73", "#cc79a7")
"""Okabe and Ito's, told apart without full colour vision."""


@dataclass(frozen=True)
class Entry:
    """One image on a sheet: its caption, the classes named beside it, its pictures [h, w, 3]."""

    caption: str
    classes: Sequence[int]
    pictures: Sequence[np.ndarray]


def thumbnail(path: Path, box: tuple[int, int]) -> np.ndarray:
    """A photograph scaled to fit into a box (width, height); uint8 [h, w, 3]."""
    with Image.open(path) as picture:
        factor = min(box[0] / picture.width, box[1] / picture.height)
        size = max(1, round(picture.width * factor)), max(1, round(picture.height * factor))
        return np.asarray(picture.convert("RGB").resize(size, Image.Resampling.LANCZOS))


def heat_overlay(photo: np.ndarray, cam: np.ndarray) -> np.ndarray:
    """A map in [0, 1], [h, w] of any size, over the greyed photograph: dark 0, bright 1."""
    strength = resize_maps(cam, *photo.shape[:2]).clip(0, 1)[..., None]
    color = 255 * colormaps["inferno"](strength[..., 0])[..., :3]
    share = 0.35 + 0.5 * strength
    return ((1 - share) * _grey(photo) + share * color).astype(np.uint8)


def erased_picture(photo: np.ndarray, region: np.ndarray) -> np.ndarray:
    """The photograph with a region (bool [h, w] of any size) filled with its own mean colour."""
    erased = resize_labels(region, *photo.shape[:2])[..., None]
    return np.where(erased, photo.mean((0, 1)).astype(np.uint8), photo)


def label_overlay(photo: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Labels [h, w] of any size in VOC's colours over the greyed photograph; 255 is hatched white."""
    small = resize_labels(labels, *photo.shape[:2])
    rows, columns = np.indices(small.shape)
    hatch = np.where((rows + columns) % 6 < 2, 190, 245)[..., None]
    share = np.where(small == 0, 0.55, 0.7)[..., None]
    mixed = (1 - share) * _grey(photo) + share * COLORS[small]
    return np.where((small == IGNORE)[..., None], hatch, mixed).astype(np.uint8)


def _grey(photo: np.ndarray) -> np.ndarray:
    return (photo @ np.array([0.299, 0.587, 0.114]))[..., None]


def draw_sheet(
    out: Path,
    entries: Sequence[Entry],
    titles: Sequence[str],
    names: Sequence[str],
    box: tuple[int, int],
    across: int = 1,
) -> None:
    """Draw entries as rows of pictures under column titles, pixel for pixel.

    Args:
        entries: each with as many pictures as there are titles.
        names: class names, background first.
        box: width and height of a picture's place.
        across: entries beside each other.
    """
    gap, head, caption = 6, 30, 22
    width = len(titles) * (box[0] + gap) + gap
    step = caption + box[1] + gap
    canvas = np.full((head + -(-len(entries) // across) * step, across * width, 3), 255, np.uint8)
    figure = Figure((canvas.shape[1] / DPI, canvas.shape[0] / DPI), dpi=DPI)
    for index, title in enumerate(titles * min(across, len(entries))):
        left = index // len(titles) * width + gap + index % len(titles) * (box[0] + gap)
        _text(figure, canvas, left + box[0] / 2, head / 2, title, ha="center", weight="bold")
    for index, entry in enumerate(entries):
        left, top = index % across * width + gap, head + index // across * step
        _caption(figure, canvas, left, top + caption / 2, entry, names)
        for number, picture in enumerate(entry.pictures):
            height, wide = picture.shape[:2]
            x = left + number * (box[0] + gap) + (box[0] - wide) // 2
            y = top + caption + (box[1] - height) // 2
            canvas[y : y + height, x : x + wide] = picture
    figure.figimage(canvas, zorder=-1)
    _save(figure, out)


def _text(figure: Figure, canvas: np.ndarray, x: float, y: float, text: str, **style: str) -> None:
    figure.text(x / canvas.shape[1], 1 - y / canvas.shape[0], text, va="center", size=8, **style)


def _caption(
    figure: Figure, canvas: np.ndarray, x: float, y: float, entry: Entry, names: Sequence[str]
) -> None:
    """The caption, then each class's name after a square of its colour."""
    parts = [TextArea(entry.caption, textprops={"size": 8})]
    for index in entry.classes:
        square = TextArea("■", textprops={"size": 10, "color": COLORS[index] / 255})
        parts.append(HPacker(children=[square, TextArea(names[index], textprops={"size": 8})], pad=0, sep=2))
    row = HPacker(children=parts, pad=0, sep=8, align="center")
    place = (x / canvas.shape[1], 1 - y / canvas.shape[0])
    figure.add_artist(
        AnnotationBbox(row, place, xycoords="figure fraction", frameon=False, box_alignment=(0, 0.5), pad=0)
    )


def draw_curves(out: Path, histories: dict[str, pd.DataFrame]) -> None:
    """Loss, its parts and the learning rate against epochs, one axis for each training."""
    count = max(1, len(histories))
    figure = Figure((5.2 * min(count, 2), 3.4 * -(-count // 2)), dpi=DPI, layout="constrained")
    for index, (name, history) in enumerate(histories.items()):
        _curve(figure.add_subplot(-(-count // 2), min(count, 2), index + 1), name, history)
    _save(figure, out)


def _curve(axes: Axes, name: str, history: pd.DataFrame) -> None:
    rate = axes.twinx()
    rate.plot(history["epoch"], history["learning_rate"], color="#999999", linestyle=":", linewidth=1.2)
    rate.set_ylabel("learning rate (dotted)", color="#777777")
    rate.tick_params(colors="#777777")
    rate.set_ylim(bottom=0)
    window = max(1, len(history) // 40)
    for column, color in zip(history.columns[3:], LINE_COLORS, strict=False):
        if window > 1:
            axes.plot(history["epoch"], history[column], color=color, linewidth=0.5, alpha=0.3)
        smooth = history[column].rolling(window, center=True, min_periods=1).mean()
        axes.plot(history["epoch"], smooth, color=color, linewidth=1.6, label=column.replace("_", " "))
    axes.set(title=name, xlabel="epoch", ylabel="loss", ylim=(0, None), xlim=(0, None))
    axes.grid(color="#e5e5e5")
    axes.legend(frameon=False)
    for side in (axes, rate):
        side.spines["top"].set_visible(False)


def draw_iou(out: Path, records: Sequence[ScoreRecord]) -> None:
    """IoU by class as bars, one panel for each list of images, the mean in the legend."""
    panels: dict[str, list[ScoreRecord]] = {}
    for record in records:
        panels.setdefault(record.split, []).append(record)
    if not panels:
        return _note(out, "Nothing is scored: there are no true masks.")
    names = list(records[0].iou)
    bars = max(map(len, panels.values()))
    size = (1.5 + 4.5 * len(panels), 1.3 + len(names) * (0.1 + 0.085 * bars))
    figure = Figure(size, dpi=DPI, layout="constrained")
    plots = figure.subplots(1, len(panels), sharey=True, squeeze=False)[0]
    for axes, (split, group) in zip(plots, panels.items(), strict=True):
        _bars(axes, group)
        axes.set(title=f"scored on {split}", xlabel="IoU in %", xlim=(0, 100))
    plots[0].set_yticks(range(len(names)), names)
    plots[0].set_ylim(len(names) - 0.4, -0.6)
    _save(figure, out)


def _bars(axes: Axes, records: Sequence[ScoreRecord]) -> None:
    thick = 0.8 / len(records)
    for index, record in enumerate(records):
        values = np.array(list(record.iou.values()), float)  # None becomes NaN: no bar
        offset = (index - (len(records) - 1) / 2) * thick
        best = " at best threshold" if record.what == "cam" else ""
        label = f"{record.what}{best}: mean {np.nanmean(values):.1f}"
        axes.barh(np.arange(len(values)) + offset, values, thick, color=BAR_COLORS[record.what], label=label)
    axes.grid(axis="x", color="#e5e5e5")
    axes.set_axisbelow(True)
    axes.tick_params(axis="y", length=0)
    for side in ("top", "right", "left"):
        axes.spines[side].set_visible(False)
    axes.legend(loc="upper center", bbox_to_anchor=(0.5, -0.06), frameon=False)


def draw_confusion(out: Path, record: ScoreRecord | None) -> None:
    """Where the pixels of each true class went, in percent of the class."""
    if record is None:
        return _note(out, "Nothing is scored: there are no true masks.")
    names = list(record.iou)
    counts = np.array(record.confusion, float)
    total = counts.sum(1, keepdims=True)
    share = np.divide(100 * counts, total, out=np.full_like(counts, np.nan), where=total > 0)
    side = 2.2 + 0.36 * len(names)
    figure = Figure((side + 0.6, side), dpi=DPI, layout="constrained")
    axes = figure.add_subplot()
    picture = axes.imshow(share, cmap="Blues", vmin=0, vmax=100)
    for row, column in np.argwhere(share >= 0.5):
        value = share[row, column]
        axes.text(
            column,
            row,
            f"{value:.0f}",
            ha="center",
            va="center",
            size=7,
            color="white" if value > 55 else "#333333",
        )
    axes.set_xticks(range(len(names)), names, rotation=90)
    axes.set_yticks(range(len(names)), names)
    axes.set(
        xlabel="predicted", ylabel="true", title=f"{record.what} on {record.split}: percent of the true class"
    )
    axes.tick_params(length=0)
    figure.colorbar(picture, shrink=0.6, label="%")
    _save(figure, out)


def _note(out: Path, text: str) -> None:
    figure = Figure((5, 1), dpi=DPI)
    figure.text(0.5, 0.5, text, ha="center", va="center")
    _save(figure, out)


def _save(figure: Figure, out: Path) -> None:
    """Write a PNG of 256 colours: photographs take a third of the space, and no eye sees it."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=DPI)
    with atomic_path(out) as temporary, Image.open(buffer) as picture:
        picture.convert("RGB").quantize(256, dither=Image.Dither.NONE).save(
            temporary, format="PNG", optimize=True
        )
