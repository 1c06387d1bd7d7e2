"""Bytes of pictures and masks of every kind that a user's folder may hold."""

import io
import struct
import zlib
from collections.abc import Iterable

import numpy as np
from PIL import Image

RED = (200, 30, 30)
SIZE = (40, 30)


def encoded(format_name: str, mode: str = "RGB", size: tuple[int, int] = SIZE, **options) -> bytes:
    """A red picture with a dark left half."""
    pixels = np.full((size[1], size[0], 3), RED, np.uint8)
    pixels[:, : size[0] // 2] = 20
    return saved(Image.fromarray(pixels).convert(mode), format_name, **options)


def saved(picture: Image.Image, format_name: str = "PNG", **options) -> bytes:
    stream = io.BytesIO()
    picture.save(stream, format_name, **options)
    return stream.getvalue()


def rotated(format_name: str) -> bytes:
    """EXIF says to turn it by 90 degrees to show it."""
    exif = Image.Exif()
    exif[0x0112] = 6
    return encoded(format_name, exif=exif)


def animated(format_name: str) -> bytes:
    frames = [Image.new("RGB", SIZE, color) for color in ("blue", "white")]
    return encoded(format_name, save_all=True, append_images=frames)


def transparent_palette() -> bytes:
    picture = Image.new("RGBA", SIZE, (*RED, 255)).quantize(4)
    return saved(picture, transparency=bytes([255, 128, 0, 0]))


def png(width: int, height: int, depth: int, color: int, rows: Iterable[bytes]) -> bytes:
    """A PNG of raw rows (each with its filter byte); depth and colour type as in its header."""
    packer = zlib.compressobj(1)
    data = b"".join([packer.compress(row) for row in rows]) + packer.flush()
    header = struct.pack(">IIBBBBB", width, height, depth, color, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))
        for name, body in ((b"IHDR", header), (b"IDAT", data), (b"IEND", b""))
    )


def png_header(width: int, height: int) -> bytes:
    """A PNG that claims a size and holds next to nothing."""
    return png(width, height, 8, 2, [b"\0" * 1000])


def zeros(side: int) -> bytes:
    """A whole square PNG of black pixels, a thousand times smaller than they are."""
    rows = 100
    return png(side, side, 1, 0, (bytes(rows * (1 + (side + 7) // 8)) for _ in range(side // rows)))


def wide_grey(width: int, height: int) -> bytes:
    """A 16-bit grey PNG."""
    return png(width, height, 16, 0, [b"\0" + b"\x12\x34" * width] * height)


def wide_color(width: int, height: int) -> bytes:
    """A 16-bit RGB PNG whose higher bytes are `RED`."""
    pixel = b"".join(bytes([value, 0x34]) for value in RED)
    return png(width, height, 16, 2, [b"\0" + pixel * width] * height)


def flat_grey(width: int, height: int, depth: int, value: int) -> bytes:
    """A grey PNG of one value with less than 8 bits a pixel."""
    row = bytes([sum(value << shift for shift in range(0, 8, depth))]) * ((width * depth + 7) // 8)
    return png(width, height, depth, 0, [b"\0" + row] * height)
