"""A photograph with its mask over it, and the names of what is in it."""

import io
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from .fonts import font_file
from .palette import COLORS
from .store import atomic_path

SHARE = 0.5
"""Of a class's colour in what is drawn over the photograph."""
QUALITY = 90
LINE, GAP, FONT = 22, 8, 14  # of the legend, in pixels


def draw_overlay(out: Path, photo: np.ndarray, labels: np.ndarray, names: list[str]) -> bytes:
    """Write a JPEG: the photograph, uint8 [h, w, 3], classes [h, w] in VOC's colours, a legend below.

    Args:
        names: of the classes, background first; it keeps the photograph's colours.

    Returns:
        The file's content.
    """
    present = [int(number) for number in np.unique(labels) if 0 < number < len(names)]
    colored = (1 - SHARE) * photo + SHARE * COLORS[labels]
    drawn = np.where((labels == 0)[..., None], photo, colored)
    drawn[borders(labels)] = 255
    picture = with_legend(Image.fromarray(drawn.astype(np.uint8)), [(COLORS[n], names[n]) for n in present])
    content = io.BytesIO()
    picture.save(content, format="JPEG", quality=QUALITY)
    with atomic_path(out, durable=False) as temporary:
        temporary.write_bytes(content.getbuffer())
    return content.getvalue()


def borders(labels: np.ndarray) -> np.ndarray:
    """Bool [h, w]: pixels whose neighbour to the right or below is of another class."""
    border = np.zeros(labels.shape, bool)
    border[:, :-1] |= labels[:, :-1] != labels[:, 1:]
    border[:-1] |= labels[:-1] != labels[1:]
    return border


def with_legend(picture: Image.Image, entries: list[tuple[np.ndarray, str]]) -> Image.Image:
    """The picture above lines with a coloured square and a name for each entry."""
    font = ImageFont.truetype(str(font_file("".join(name for _, name in entries))), FONT)
    places, x, y = [], GAP, 0
    for _, name in entries:
        width = LINE + int(font.getlength(name)) + GAP
        if x > GAP and x + width > picture.width:
            x, y = GAP, y + LINE
        places.append((x, y))
        x += width
    height = y + LINE if entries else 0
    sheet = Image.new("RGB", (picture.width, picture.height + height), "white")
    sheet.paste(picture, (0, 0))
    draw = ImageDraw.Draw(sheet)
    for (x, y), (color, name) in zip(places, entries, strict=True):
        top = picture.height + y + (LINE - FONT) // 2
        draw.rectangle((x, top, x + FONT, top + FONT), fill=tuple(map(int, color)))
        draw.text((x + LINE, picture.height + y + LINE // 2), name, "black", font, anchor="lm")
    return sheet
