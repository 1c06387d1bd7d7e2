"""Files that are either whole or absent: atomic writes, and shards of arrays keyed by image id."""

import contextlib
import hashlib
import os
import re
import socket
import zipfile
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType

import numpy as np
import psutil

from .errors import UserError

_temporaries: set[Path] = set()  # of this process, not yet renamed
os.register_at_fork(after_in_child=_temporaries.clear)  # the parent's are not the child's to remove
_HOST = f"{zlib.crc32(socket.gethostname().encode()):08x}"  # process ids count on one machine alone


@contextlib.contextmanager
def atomic_path(path: Path, durable: bool = True) -> Iterator[Path]:
    """A temporary path beside `path` that takes its place when the block ends without an error.

    The rename is atomic within a file system, so nobody ever sees half a file under `path`. Where it is
    durable, the content is on the disk before the name: a power cut leaves no empty file either. Not so for
    thousands of small images: the table that is written after them holds a digest of each.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{_HOST}-{os.getpid()}.tmp")
    _temporaries.add(temporary)
    try:
        yield temporary
        if durable:
            with temporary.open("rb") as file:
                os.fsync(file.fileno())
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)
        _temporaries.discard(temporary)


def remove_temporaries() -> None:
    """Remove what this process has begun to write: for one that ends in the middle."""
    for temporary in list(_temporaries):
        temporary.unlink(missing_ok=True)


def remove_leftovers(folder: Path) -> None:
    """Remove what processes that were killed had begun to write in a folder."""
    for path in folder.glob(f".*.{_HOST}-*.tmp"):
        number = re.search(r"-(\d+)\.tmp$", path.name)
        if number and not _is_alive(int(number[1])):
            path.unlink(missing_ok=True)


def _is_alive(number: int) -> bool:
    try:
        return psutil.Process(number).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False
    except psutil.AccessDenied:
        return True


def write_text(path: Path, text: str) -> None:
    """Write a text file atomically, as UTF-8 with Unix line ends."""
    with atomic_path(path) as temporary:
        temporary.write_text(text, encoding="utf-8", newline="\n")


def fingerprint(content: bytes) -> str:
    """Digest of a file's content, as 16 hexadecimal digits."""
    return hashlib.blake2b(content, digest_size=8).hexdigest()


def file_fingerprint(path: Path) -> str:
    """`fingerprint` of a file of any size."""
    digest = hashlib.blake2b(digest_size=8)
    with path.open("rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


@dataclass(frozen=True)
class Shard:
    """One of `count` parts of a list, numbered from 1; "3-of-16" or "3/16" on the command line."""

    index: int
    count: int

    @classmethod
    def parse(cls, text: str) -> "Shard":
        parts = text.replace("-of-", "/").split("/")
        if len(parts) == 2 and all(part.isdecimal() for part in parts):
            index, count = map(int, parts)
            if 1 <= index <= count:
                return cls(index, count)
        raise UserError(f"--shard {text}: expected a number of a count, as 3/16")

    def select(self, items: list) -> list:
        """This part's items: contiguous, all parts together give the list in its order."""
        return items[self.within(len(items))]

    def within(self, length: int) -> slice:
        """Where this part lies in a list of a length."""
        return slice((self.index - 1) * length // self.count, self.index * length // self.count)


class ShardWriter:
    """Writes arrays to one .npz file as they come, so that memory stays flat.

    The file is an ordinary npz (`numpy.load` reads it) with the members `<image id>/<name>`. Each
    member carries a checksum and the directory stands at the end, so a damaged or cut file is
    noticed on reading. It appears under its name only when the block ends without an error.
    """

    def __init__(self, path: Path) -> None:
        self._stack = contextlib.ExitStack()
        self._path = path

    def __enter__(self) -> "ShardWriter":
        temporary = self._stack.enter_context(atomic_path(self._path))
        self._file = self._stack.enter_context(zipfile.ZipFile(temporary, "w", zipfile.ZIP_STORED))
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stack.__exit__(kind, error, trace)

    def add(self, image_id: str, **arrays: np.ndarray) -> None:
        """Store the arrays of one image."""
        for name, array in arrays.items():
            # a ZipInfo of its own: its default date makes equal contents equal bytes
            member = zipfile.ZipInfo(f"{image_id}/{name}.npy")
            with self._file.open(member, "w", force_zip64=True) as stream:
                np.lib.format.write_array(stream, np.ascontiguousarray(array), allow_pickle=False)


class ShardReader:
    """Reads the arrays of single images from one or several shard files.

    Safe to use in forked workers: each process opens the files for itself.
    """

    def __init__(self, paths: list[Path]) -> None:
        self._archives: dict[tuple[int, Path], zipfile.ZipFile] = {}
        self._paths = {
            name.rsplit("/", 1)[0]: path for path in paths for name in self._archive(path).namelist()
        }

    def _archive(self, path: Path) -> zipfile.ZipFile:
        key = (os.getpid(), path)
        if key not in self._archives:
            try:
                self._archives[key] = zipfile.ZipFile(path)
            except (zipfile.BadZipFile, NotImplementedError, OSError, ValueError) as error:
                raise UserError(_damaged(path, error)) from None
        return self._archives[key]

    def __contains__(self, image_id: str) -> bool:
        return image_id in self._paths

    def ids(self) -> list[str]:
        """Image ids in the order of the files."""
        return list(self._paths)

    def get(self, image_id: str, name: str) -> np.ndarray:
        """One array of one image.

        Raises:
            UserError: the image is in none of the shards, or its bytes are damaged.
        """
        if image_id not in self._paths:
            raise UserError(
                f"image {image_id} is in none of the shards read; rerun the stage that wrote them"
            )
        path = self._paths[image_id]
        try:
            with self._archive(path).open(f"{image_id}/{name}.npy") as stream:
                return np.lib.format.read_array(stream, allow_pickle=False)
        except (UserError, MemoryError):
            raise
        except Exception as error:  # zipfile and numpy raise errors of all kinds on damaged bytes
            raise UserError(_damaged(path, error)) from None


def _damaged(path: Path, error: Exception) -> str:
    return f"{path}: damaged or cut off ({error}); delete the file and run snakemake again"
