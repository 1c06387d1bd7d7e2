"""A chart of where the pixels of the labels went in the filter, and why."""

from pathlib import Path

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from .errors import UserError
from .plots import DPI, save_figure
from .tables import ImageRecord

PARTS = {
    "kept": ("#08306b", "kept"),
    "confidence": ("#fdae6b", "below the class's threshold of confidence"),
    "agreement": ("#e6550d", "contradicted by the evidence"),
    "speck": ("#9e9ac8", "a speck"),
    "image": ("#d9d9d9", "the image was dropped"),
}
"""Shares of the pixels by what became of them: colour, and what it means."""


def read_table(path: Path) -> pd.DataFrame:
    """The table by `filter_labels`, by image id, with the share `image` that went with a whole image.

    Raises:
        UserError: it is missing, or not such a table.
    """
    rules = ["confidence", "agreement", "speck"]
    try:
        table = pd.read_csv(path, dtype={"id": str}, keep_default_na=False).set_index("id")
        shares = table[["kept", *rules]].astype(float)
    except (OSError, ValueError, KeyError) as error:
        raise UserError(
            f"{path}: not a readable table of labels ({error}); delete it and run again"
        ) from None
    dropped = table["dropped"] != ""
    # of an image that was dropped nothing is kept, whatever the rules took of it
    shares["image"] = np.where(dropped, 1 - shares[rules].sum(axis=1), 0).clip(0)
    return shares


def shares_by_class(
    shares: pd.DataFrame, records: list[ImageRecord], names: list[str]
) -> dict[str, pd.Series]:
    """Mean shares over all images, and over the images with each tag."""
    rows = {"all images": shares.mean()}
    for number, name in enumerate(names, 1):
        ids = [record.id for record in records if number in record.tags]
        if ids:
            rows[name] = shares.loc[ids].mean()
    return rows


def draw_filter(out: Path, filtered: Path, kept: Path, records: list[ImageRecord], names: list[str]) -> None:
    """Draw both tables of `filter_labels`: by image what each rule took, by class the threshold.

    Args:
        filtered, kept: the tables.
        records: the training images.
        names: of the classes, without background.
    """
    rows = shares_by_class(read_table(filtered), records, names)
    classes = pd.read_csv(kept, keep_default_na=False)
    height = 1.8 + 0.24 * max(len(rows), len(classes))
    figure = Figure((11, height), dpi=DPI, layout="constrained")
    left, right = figure.subplots(1, 2)
    _draw_shares(left, rows)
    _draw_thresholds(right, classes)
    figure.legend(loc="outside lower left", ncols=3, frameon=False)
    save_figure(figure, out)


def _draw_shares(axes: Axes, rows: dict[str, pd.Series]) -> None:
    start = np.zeros(len(rows))
    for part, (color, meaning) in PARTS.items():
        values = np.array([100 * row[part] for row in rows.values()])
        axes.barh(np.arange(len(rows)), values, 0.7, start, color=color, label=meaning)
        start += values
    axes.set_yticks(range(len(rows)), list(rows))
    axes.set(title="pixels of the images with each tag, in %", xlim=(0, 100), ylim=(len(rows) - 0.4, -0.6))
    _plain(axes)


def _draw_thresholds(axes: Axes, classes: pd.DataFrame) -> None:
    places = np.arange(len(classes))
    axes.barh(places, classes["threshold"], 0.7, color="#4292c6")
    for place, (_, row) in enumerate(classes.iterrows()):
        share = (
            f"{100 * row['confident_share']:.0f} % of its pixels" if row["labelled_cells"] else "not labelled"
        )
        axes.text(row["threshold"] + 0.01, place, share, va="center", size=8)
    axes.set_yticks(places, classes["class"])
    axes.set(title="confidence from which a class is kept", xlim=(0, 1))
    axes.set_ylim(len(classes) - 0.4, -0.6)
    _plain(axes)


def _plain(axes: Axes) -> None:
    axes.grid(axis="x", color="#e5e5e5")
    axes.set_axisbelow(True)
    axes.tick_params(axis="y", length=0)
    for side in ("top", "right", "left"):
        axes.spines[side].set_visible(False)
