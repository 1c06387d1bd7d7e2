"""Writing tar archives whose bytes depend on nothing but what is in them."""

import gzip
import io
import tarfile
from collections.abc import Iterable
from pathlib import Path


def pack(path: Path, files: Iterable[tuple[str, bytes]]) -> None:
    """Write files, names and contents, in their order as a tar.gz without times, owners and its own name."""
    with (
        path.open("wb") as file,
        gzip.GzipFile("", "wb", fileobj=file, mtime=0) as packed,
        tarfile.open(fileobj=packed, mode="w") as tar,
    ):
        for name, content in files:
            member = tarfile.TarInfo(name)  # by default of no time, and of user and group 0
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))
