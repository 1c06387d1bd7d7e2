"""Drawing: sheets of small pictures, training curves, IoU bars, confusion matrix; all written as PNG."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from matplotlib import colormaps, rcParams
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.offsetbox import AnnotationBbox, HPacker, TextArea
from PIL import Image

from .fonts import families
from .grids import resize_labels, resize_maps
from .palette import COLORS, IGNORE
from .pictures import read_image
from .scoring import ScoreRecord
from .store import atomic_path

DPI = 100
GAP, HEAD, CAPTION = 6, 26, 20  # of a sheet, in pixels
MEAN_COLOR = np.array((124, 116, 104), np.uint8)
BAR_COLORS = {
    "cam": "#bdbdbd",
    "cam_refined": "#9ecae1",
    "evidence": "#6baed6",
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


def use_fonts_for(names: Sequence[str]) -> None:
    """From now on, draw text in fonts that have the signs of these names."""
    rcParams["font.family"] = families("".join(names))


def thumbnail(path: Path, box: tuple[int, int]) -> np.ndarray:
    """A photograph scaled to fit into a box (width, height); uint8 [h, w, 3]."""
    picture = Image.fromarray(read_image(path))
    factor = min(box[0] / picture.width, box[1] / picture.height)
    size = max(1, round(picture.width * factor)), max(1, round(picture.height * factor))
    return np.asarray(picture.resize(size, Image.Resampling.LANCZOS))


def heat_overlay(photo: np.ndarray, cam: np.ndarray) -> np.ndarray:
    """A map in [0, 1], [h, w] of any size, over the greyed photograph: dark 0, bright 1."""
    strength = resize_maps(cam, *photo.shape[:2]).clip(0, 1)[..., None]
    color = 255 * colormaps["inferno"](strength[..., 0])[..., :3]
    share = 0.35 + 0.5 * strength
    return ((1 - share) * _grey(photo) + share * color).astype(np.uint8)


def erased_picture(photo: np.ndarray, region: np.ndarray) -> np.ndarray:
    """The photograph with a region (bool [h, w] of any size) filled with ImageNet's mean colour."""
    erased = resize_labels(region, *photo.shape[:2])[..., None]
    return np.where(erased, MEAN_COLOR, photo)


def label_overlay(photo: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Labels [h, w] of any size in VOC's colours over the greyed photograph; 255 is hatched white."""
    small = resize_labels(labels, *photo.shape[:2])
    rows, columns = np.indices(small.shape)
    hatch = np.where((rows + columns) % 6 < 2, 110, 255)[..., None]
    background = small[..., None] == 0
    # a pale photograph around them sets off VOC's dark colours
    mixed = np.where(background, 0.5 * _grey(photo) + 115, 0.3 * _grey(photo) + 0.7 * COLORS[small])
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
    width = len(titles) * (box[0] + GAP) + GAP
    lines = [entries[start : start + across] for start in range(0, len(entries), across)]
    heights = [CAPTION + GAP + max(entry.pictures[0].shape[0] for entry in line) for line in lines]
    size = width * across, HEAD + sum(heights)
    figure = Figure((size[0] / DPI, size[1] / DPI), dpi=DPI)
    for column, title in enumerate([*titles] * min(across, len(entries))):
        left = column // len(titles) * width + GAP + column % len(titles) * (box[0] + GAP)
        place = _place(size, left + box[0] / 2, HEAD / 2)
        figure.text(*place, title, size=8, weight="bold", ha="center", va="center")
    pictures = []
    tops = HEAD + np.cumsum([0, *heights])
    for index, entry in enumerate(entries):
        left, top = index % across * width + GAP, int(tops[index // across])
        figure.add_artist(_caption(entry, names, _place(size, left, top + CAPTION / 2)))
        for number, picture in enumerate(entry.pictures):
            indent = (box[0] - picture.shape[1]) // 2
            pictures.append((left + number * (box[0] + GAP) + indent, top + CAPTION, picture))
    save_figure(figure, out, pictures)


def _place(size: tuple[int, int], x: float, y: float) -> tuple[float, float]:
    """Pixels from the upper left corner as matplotlib's fractions from the lower left one."""
    return x / size[0], 1 - y / size[1]


def _caption(entry: Entry, names: Sequence[str], place: tuple[float, float]) -> AnnotationBbox:
    """The caption, then each class's name after a square of its colour."""
    parts: list[Artist] = [TextArea(entry.caption, textprops={"size": 8})]
    for index in entry.classes:
        square = TextArea("■", textprops={"size": 10, "color": COLORS[index] / 255})
        parts.append(HPacker(children=[square, TextArea(names[index], textprops={"size": 8})], pad=0, sep=2))
    row = HPacker(children=parts, pad=0, sep=8, align="center")
    return AnnotationBbox(
        row, place, xycoords="figure fraction", frameon=False, box_alignment=(0, 0.5), pad=0
    )


def draw_curves(out: Path, histories: dict[str, pd.DataFrame]) -> None:
    """Loss, its parts and the learning rate against epochs, one axis for each training."""
    count = max(1, len(histories))
    figure = Figure((5.2 * min(count, 2), 3.4 * -(-count // 2)), dpi=DPI, layout="constrained")
    for index, (name, history) in enumerate(histories.items()):
        _curve(figure.add_subplot(-(-count // 2), min(count, 2), index + 1), name, history)
    save_figure(figure, out)


def _curve(axes: Axes, name: str, history: pd.DataFrame) -> None:
    rate = axes.twinx()
    rate.plot(history["epoch"], history["learning_rate"], color="#999999", linestyle=":", linewidth=1.2)
    rate.set_ylabel("learning rate (dotted)", color="#777777")
    rate.tick_params(colors="#777777")
    rate.set_ylim(bottom=0)
    window = max(1, len(history) // 40)
    marker = "." if window == 1 else ""  # a history of one row would show no line
    losses = list(history.columns[3:])
    if len(losses) == 2:
        losses = losses[1:]  # a single part is the whole loss
    for column, color in zip(losses, LINE_COLORS, strict=False):
        if window > 1:
            axes.plot(history["epoch"], history[column], color=color, linewidth=0.5, alpha=0.3)
        smooth = history[column].rolling(window, center=True, min_periods=1).mean()
        axes.plot(history["epoch"], smooth, color=color, linewidth=1.6, marker=marker, label=column)
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
        return draw_note(out, "Nothing is scored: there are no true masks.")
    names = list(records[0].iou)
    bars = max(map(len, panels.values()))
    size = (1.5 + 4.5 * len(panels), 0.8 + 0.2 * bars + len(names) * (0.1 + 0.085 * bars))
    figure = Figure(size, dpi=DPI, layout="constrained")
    plots = figure.subplots(1, len(panels), sharey=True, squeeze=False)[0]
    for axes, (split, group) in zip(plots, panels.items(), strict=True):
        _bars(axes, group)
        axes.set(title=f"IoU in %, scored on {split}", xlim=(0, 100))
    plots[0].set_yticks(range(len(names)), names)
    plots[0].set_ylim(len(names) - 0.4, -0.6)
    save_figure(figure, out)


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
    axes.legend(
        loc="upper center", bbox_to_anchor=(0.5, 0), borderaxespad=2, frameon=False
    )  # below the ticks


def draw_confusion(out: Path, record: ScoreRecord | None) -> None:
    """Where the pixels of each true class went, in percent of the class."""
    if record is None:
        return draw_note(out, "Nothing is scored: there are no true masks.")
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
    save_figure(figure, out)


def draw_note(out: Path, text: str) -> None:
    """Write a text in the place of a picture that there is nothing for."""
    figure = Figure((5, 1), dpi=DPI)
    figure.text(0.5, 0.5, text, ha="center", va="center")
    save_figure(figure, out)


def save_figure(figure: Figure, out: Path, pictures: Sequence[tuple[int, int, np.ndarray]] = ()) -> None:
    """Write a figure as PNG, with pictures (left, top, [h, w, 3]) put on it pixel for pixel."""
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    pixels = np.array(canvas.buffer_rgba())[..., :3]
    for left, top, picture in pictures:
        pixels[top : top + picture.shape[0], left : left + picture.shape[1]] = picture
    with atomic_path(out) as temporary:
        Image.fromarray(np.ascontiguousarray(pixels)).save(temporary, format="PNG", optimize=True)
