"""Photographs of one's own: of any common format and size, turned as EXIF says, reduced to a longest side."""

import contextlib
from dataclasses import dataclass
from pathlib import Path

from PIL import Image

from .errors import UserError
from .folder import BUILT
from .pictures import MODES, PictureError, decode, read_content

FORMATS = ("JPEG", "PNG", "WEBP", "BMP", "TIFF", "GIF", *(name for name in BUILT if name != "HEIF"))
if "HEIF" in BUILT:
    with contextlib.suppress(ImportError):  # installed, but broken: such pictures are refused, others are not
        import pillow_heif

        pillow_heif.register_heif_opener()
        FORMATS = (*FORMATS, "HEIF")
ORIENTATION = 0x0112
TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
"""What makes a picture stand upright, by EXIF's orientation."""
LYING = tuple(turn for orientation, turn in TURNS.items() if orientation >= 5)
"""Turns that swap width and height."""


@dataclass(frozen=True)
class Opened:
    """A photograph, decoded.

    Attributes:
        stored: as its pixels are stored.
        turn: what makes it stand upright; None where it does.
    """

    stored: Image.Image
    turn: Image.Transpose | None

    @property
    def size(self) -> tuple[int, int]:
        """Width and height in pixels as it is to be seen."""
        width, height = self.stored.size
        return (height, width) if self.turn in LYING else (width, height)

    @property
    def seen(self) -> Image.Image:
        """As it is to be seen."""
        return self.stored if self.turn is None else self.stored.transpose(self.turn)

    def reduced(self, longest: int) -> Image.Image:
        """As it is to be seen, in RGB, without transparency, the longest side at most `longest`."""
        seen = self.seen
        # Pillow warns of going from palettes with transparency to RGB at once
        plain = seen.convert("RGBA") if "transparency" in seen.info else seen
        size = reduced(seen.size, longest)
        return plain.convert("RGB").resize(size, Image.Resampling.LANCZOS, reducing_gap=3)


def opened_photo(path: Path, content: bytes | None = None) -> Opened:
    """A photograph in any of `FORMATS`; `content` is the file's, where it is read already.

    Raises:
        UserError: it cannot be read.
    """
    try:
        picture = decode(read_content(path) if content is None else content, FORMATS)
        if picture.mode not in MODES:
            raise PictureError(f"has the pixel format {picture.mode}", "convert it to 8 bits a channel")
    except FileNotFoundError:
        raise UserError(f"{path}: is gone; start again when nothing else moves files there") from None
    except PictureError as error:
        raise UserError(f"{path}: {error}, or move it out of the folder") from None
    try:
        turn = TURNS.get(picture.getexif().get(ORIENTATION, 1))
    except Exception:  # errors of all kinds on damaged EXIF; the picture itself is good
        turn = None
    return Opened(picture, turn)


def reduced(size: tuple[int, int], longest: int) -> tuple[int, int]:
    """Width and height with the longest side at most `longest`, one pixel at least."""
    factor = min(1.0, longest / max(size))
    return max(1, round(size[0] * factor)), max(1, round(size[1] * factor))
