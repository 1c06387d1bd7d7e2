"""Reading picture files: JPEG and PNG of bounded size, whatever their bytes hold.

No other module opens a picture file, so that the bounds hold everywhere.
"""

import contextlib
import io
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from PIL import Image, UnidentifiedImageError

from .errors import UserError

MAX_PIXELS = 128_000_000
"""Real photographs reach 100 megapixels. The bound is checked before a pixel is decoded."""
MAX_BYTES = 8 * MAX_PIXELS
"""Size of the largest such picture without any compression, of 16 bits and with transparency."""
DECODED = ("JPEG", "PNG")
"""Formats of a data set's pictures."""
MODES = ("1", "L", "LA", "P", "RGB", "RGBA", "CMYK")
"""Pixel formats that convert to 8-bit RGB without loss of meaning; 16-bit grey would be clipped."""

# Pillow's own limit depends on the process, and warns on stderr before it refuses
Image.MAX_IMAGE_PIXELS = None


class PictureError(ValueError):
    """A file that is no usable picture: what is wrong with it, and the remedy."""

    def __init__(self, problem: str, remedy: str) -> None:
        super().__init__(f"{problem}; {remedy}")
        self.problem, self.remedy = problem, remedy


def read_content(path: Path) -> bytes:
    """The bytes of a picture file; `PictureError` if it cannot be read, is empty or far too large.

    Raises `FileNotFoundError` where there is none: what to do then depends on the caller.
    """
    try:
        size = path.stat().st_size
        if size > MAX_BYTES:
            raise PictureError(f"is {size / 1e9:.1f} GB large", "no picture is: replace the file")
        content = path.read_bytes()
    except FileNotFoundError:
        raise
    except OSError as error:
        raise PictureError(f"cannot be read ({error.strerror})", "make it a readable file") from None
    if not content:
        raise PictureError("is empty (0 bytes)", "replace the file")
    return content


def decode(content: bytes, formats: tuple[str, ...] = DECODED) -> Image.Image:
    """A picture with all its pixels decoded; of an animation, the first frame.

    Raises:
        PictureError: it is of another format, damaged, cut off, or larger than `MAX_PIXELS`.
    """
    with _mistakes_told(formats):
        # a picture of another format would pass here and fail in a decoder later
        picture = Image.open(io.BytesIO(content), formats=formats)
        _check_size(picture)
        picture.load()
    return picture


@contextlib.contextmanager
def _mistakes_told(formats: tuple[str, ...]) -> Iterator[None]:
    """What a decoder refuses in the block, as a `PictureError`."""
    try:
        yield
    except (PictureError, MemoryError, FileNotFoundError):
        raise
    except UnidentifiedImageError:
        problem = f"is no {' or '.join(formats)} picture"
        if len(formats) == 2:
            problem = f"is neither a {formats[0]} nor a {formats[1]} picture"
        raise PictureError(problem, "convert or replace the file") from None
    except Exception as error:  # decoders raise errors of all kinds on damaged bytes
        raise PictureError(f"is damaged or cut off ({error})", "replace the file") from None


def _check_size(picture: Image.Image) -> None:
    if picture.width * picture.height > MAX_PIXELS:
        raise PictureError(
            f"has {picture.width}×{picture.height} pixels, more than {MAX_PIXELS // 10**6} megapixels",
            "make it smaller, and its mask alike if it has one",
        )


def header_size(path: Path) -> tuple[int, int]:
    """Width and height of a JPEG or PNG file, by its header alone.

    Raises:
        PictureError: it is of another format, or cannot be read.
        FileNotFoundError: there is none.
    """
    with _mistakes_told(DECODED), Image.open(path, formats=DECODED) as picture:
        return picture.size


def decode_photograph(content: bytes) -> Image.Image:
    """As `decode`, and refused where its pixels have no plain conversion to 8-bit RGB."""
    picture = decode(content)
    if picture.mode not in MODES:
        raise PictureError(f"has the pixel format {picture.mode}", "convert it to 8 bits a channel")
    return picture


def read_image(path: Path) -> np.ndarray:
    """An RGB picture, uint8 [H, W, 3], as its pixels are stored.

    EXIF rotation is ignored: masks and boxes are drawn on the stored pixels. Grey, palette and CMYK
    pictures are converted, the higher 8 bits of 16-bit colours taken, transparency is dropped, of an
    animation the first frame is read.

    Raises:
        UserError: the file is missing or no usable picture.
    """
    try:
        picture = decode_photograph(read_content(path))
    except FileNotFoundError:
        raise UserError(f"{path}: no such picture; is the data root right? Else run prepare again") from None
    except PictureError as error:
        raise UserError(f"{path}: {error}, then run snakemake again") from None
    if "transparency" in picture.info:
        picture = picture.convert("RGBA")  # Pillow warns of going from such palettes to RGB at once
    return np.array(picture.convert("RGB"))
