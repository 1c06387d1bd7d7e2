"""Label images: the VOC colour palette, and reading and writing masks as palette PNGs."""

import io
from pathlib import Path

import numpy as np
from PIL import Image

from .errors import UserError
from .pictures import PictureError, decode, read_content
from .store import atomic_path

IGNORE = 255
"""Mask value of pixels that are neither trained on nor scored (VOC's object borders)."""


def voc_palette() -> list[int]:
    """The VOC colour map: 256 RGB triples, flat, each in 0..255 (VOCcode/VOClabelcolormap.m)."""
    colors = []
    for index in range(256):
        red = green = blue = 0
        for bit in range(8):
            shift = 7 - bit
            red |= (index >> (3 * bit) & 1) << shift
            green |= (index >> (3 * bit + 1) & 1) << shift
            blue |= (index >> (3 * bit + 2) & 1) << shift
        colors += [red, green, blue]
    return colors


_PALETTE = bytes(voc_palette())
COLORS = np.frombuffer(_PALETTE, np.uint8).reshape(256, 3)
"""The VOC colour map as an array: RGB by class, read-only."""


def write_mask(path: Path, labels: np.ndarray, durable: bool = False) -> bytes:
    """Write class indices (uint8 [H, W]) as a palette PNG, atomically, and return the file's content.

    `durable` is as of `atomic_path`.
    """
    assert (labels.dtype, labels.ndim) == (np.uint8, 2), (labels.dtype, labels.shape)
    picture = Image.fromarray(labels)  # mode L; putpalette turns it into P
    picture.putpalette(_PALETTE)
    content = io.BytesIO()
    picture.save(content, format="PNG")
    with atomic_path(path, durable=durable) as temporary:
        temporary.write_bytes(content.getbuffer())
    return content.getvalue()


def read_mask(path: Path) -> np.ndarray:
    """Class indices (uint8 [H, W]) of a palette or grey PNG.

    Raises:
        UserError: the file is missing, no usable PNG, or holds colours instead of class indices.
    """
    try:
        return decode_mask(read_content(path))
    except FileNotFoundError:
        raise UserError(f"{path}: no such mask; rerun the stage that writes it, or add the file") from None
    except PictureError as error:
        raise UserError(f"{path}: {error}") from None


def decode_mask(content: bytes) -> np.ndarray:
    """Class indices (uint8 [H, W]) of a PNG's bytes; `PictureError` if it does not hold such."""
    picture = decode(content, ("PNG",))
    if picture.mode not in ("P", "L"):
        raise PictureError(
            f"this is a {picture.mode} picture, but a mask holds one class index per pixel",
            "convert it to a palette or 8-bit grey PNG",
        )
    depth, color = content[24], content[25]  # of the PNG header; colour 0 is grey
    if color == 0 and depth < 8:
        # decoders stretch such values to 0..255: class 1 of a 4-bit mask would become 17
        raise PictureError(f"is a {depth}-bit grey PNG", "save it with 8 bits or with a palette")
    return np.array(picture, dtype=np.uint8)


def remove_others(folder: Path, ids: set[str]) -> None:
    """Delete PNGs that an earlier run left for images that are no longer in the data set."""
    for path in folder.glob("*.png"):
        if path.stem not in ids:
            path.unlink()
