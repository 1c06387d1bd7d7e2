"""Unpacking archives of others: plain files, below one folder, within bounds. All else is refused by name.

tarfile finds the members, but nothing of it that unpacks is used, and so its `data` filter has nothing to
do: it lets duplicates and links within the folder pass, takes the slash off absolute names in silence,
knows no bounds, and early releases of Python 3.11 lack it. Here each file is made anew and filled with the
member's bytes: owners, permissions, times and links of an archive never reach the disk.
"""

import gzip
import os
import posixpath
import tarfile
import zlib
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO, Any

from .errors import UserError, naming

MAX_MEMBERS = 200_000
"""Several times what VOC and SBD have."""
MAX_BYTES = 16 << 30
"""Of all members together, unpacked; several times what VOC and SBD hold."""
HEADER_BYTES = 1 << 20
"""tarfile keeps headers in memory, and they may claim any size; true ones have some kilobytes."""
NAME_BYTES, PATH_BYTES = 255, 1000
"""What file systems take, and what leaves room for the folder above."""
BLOCK = 1 << 20
REMEDY = "take the archive from another source"

Keep = Callable[[str], str | None]
"""The place below the target folder of a member by its name; None where it is not wanted."""


def unpack(
    archive: Path,
    folder: Path,
    keep: Keep,
    standing: Path | None = None,
    max_members: int = MAX_MEMBERS,
    max_bytes: int = MAX_BYTES,
) -> Counter[str]:
    """Write the kept files of a tar archive, packed by gzip or not, below `folder`.

    Args:
        archive: the file.
        folder: where nothing of the kept files may be yet.
        keep: which members, and where to.
        standing: a folder whose top folders, if they hold anything, are not unpacked again but compared: the
            kept files must be there, of the same bytes.
        max_members: as many may be in the archive, kept or not.
        max_bytes: so large may they be together.

    Returns:
        the number of kept files in each top folder.

    Raises:
        UserError: the archive is damaged, has a member that is refused (see `_mistake`), or is too large; a
            folder in `standing` differs from it. Nothing outside of `folder` is written in any case.
    """
    counts: Counter[str] = Counter()
    other: dict[str, list[str]] = {}
    for place, blocks in kept_files(archive, keep, max_members, max_bytes):
        top = place.split("/")[0]
        counts[top] += 1
        if standing and is_filled(standing / top):
            if not _is_same(standing / place, blocks):
                other.setdefault(top, []).append(place)
        else:
            _write(archive, folder / place, blocks)
    for top, places in other.items():
        raise UserError(
            f"{standing}/{top} is there already, but of the {counts[top]:,} files that {archive} has for it "
            f"{len(places):,} are missing or different ({_shown(places[0])} is one); move it away"
        )
    return counts


def is_filled(folder: Path) -> bool:
    """Whether there is anything in a folder, or something else of its name."""
    return any(folder.iterdir()) if folder.is_dir() else os.path.lexists(folder)


def kept_files(
    archive: Path, keep: Keep, max_members: int = MAX_MEMBERS, max_bytes: int = MAX_BYTES
) -> Iterator[tuple[str, Iterator[bytes]]]:
    """Places and contents of the kept files in the archive's order; see `unpack`.

    All members are checked, those that are not kept too.
    """
    count = size = 0
    with _opened(archive) as file:
        stream = _Stream(archive, file)
        for member in _members(stream):
            count, size = count + 1, size + member.size
            if mistake := _mistake(member):
                raise _refused(archive, member.name, mistake)
            if count > max_members or size > max_bytes:
                raise UserError(
                    f"{archive}: refused, because it holds more than {max_members:,} members or "
                    f"{max_bytes:,} bytes; {REMEDY}"
                )
            place = None if member.isdir() else keep(_plain(member.name))
            if place is not None and (member.issym() or member.islnk()):
                raise _refused(archive, member.name, "is a link where a file has to be")
            if place is not None:
                yield place, _blocks(stream, member)


def _refused(archive: Path, name: str, mistake: str) -> UserError:
    return UserError(f"{archive}: refused, because its member {_shown(name)} {mistake}; {REMEDY}")


def _shown(name: str) -> str:
    return repr(name if len(name) <= 80 else name[:79] + "…")


def _plain(name: str) -> str:
    """A member's name without the dots and slashes that say nothing: ./a//b/ is a/b."""
    return "/".join(part for part in name.split("/") if part not in ("", "."))


def _mistake(member: tarfile.TarInfo) -> str:
    """Why a member is refused; nothing if it is not.

    A link that stays in the archive's own folder is no reason, unless it is to be kept. Nor is the setgid
    bit of a folder, as usual where a group shares it.
    """
    if mistake := _name_mistake(member.name):
        return mistake
    if member.size < 0:
        return "has a negative size"
    if member.isdir():
        return ""
    if member.mode & 0o6000:
        return "has the setuid or setgid bit"
    if member.issym() or member.islnk():
        return "is a link that leaves its folder" if _leaves(member) else ""
    if member.type not in (tarfile.REGTYPE, tarfile.AREGTYPE) or member.issparse():
        return "is no plain file, but a device, a pipe or the like"
    return ""


def _name_mistake(name: str) -> str:
    if name.startswith("/"):
        return "has an absolute name"
    if ".." in name.split("/"):
        return "leaves its folder"
    if not name.isprintable() or "\\" in name:
        return "has an unprintable character or a backslash in its name"
    sizes = [len(part.encode()) for part in name.split("/")]
    if max(sizes) > NAME_BYTES or sum(sizes) + len(sizes) > PATH_BYTES:
        return "has too long a name"
    return ""


def _leaves(member: tarfile.TarInfo) -> bool:
    """Whether a link points out of the archive's folder; a hard one counts from there."""
    folder = posixpath.dirname(_plain(member.name)) if member.issym() else ""
    return posixpath.normpath(posixpath.join(folder, member.linkname)).startswith(("/", ".."))


def _opened(archive: Path) -> IO[bytes]:
    with archive.open("rb") as file:
        packed = file.read(2) == b"\x1f\x8b"
    return gzip.open(archive) if packed else archive.open("rb")  # type: ignore[return-value]


class _Stream:
    """An archive's bytes for tarfile, which reads headers alone: forward only, and a bounded number for each.

    Damaged or made for it, a header could else send tarfile back for ever, or have it read all into memory.
    """

    def __init__(self, archive: Path, file: IO[bytes]) -> None:
        self.archive, self._file = archive, file
        self._position, self.budget = 0, HEADER_BYTES

    def read(self, size: int) -> bytes:
        if not 0 <= size <= self.budget:
            raise self.damaged("a header has no end")
        self.budget -= size
        return self.take(size)

    def take(self, size: int) -> bytes:
        """As `read`, without a bound."""
        data: bytes = self._try(self._file.read, size)
        self._position += len(data)
        return data

    def seek(self, position: int) -> None:
        if position < self._position:
            raise self.damaged("a header points back")
        self._try(self._file.seek, position)
        self._position = position

    def tell(self) -> int:
        return self._position

    def _try(self, function: Callable[[int], Any], argument: int) -> Any:
        try:
            return function(argument)
        except (OSError, EOFError, zlib.error, OverflowError) as error:
            raise self.damaged(error) from None

    def damaged(self, reason: object) -> UserError:
        return UserError(
            f"{self.archive}: damaged, or no tar archive ({reason}); delete it, and it is fetched anew"
        )


def _members(stream: _Stream) -> Iterator[tarfile.TarInfo]:
    try:
        with tarfile.open(fileobj=stream, mode="r:") as tar:  # type: ignore[call-overload]
            while member := tar.next():
                yield member
                stream.budget = HEADER_BYTES
    except UserError:
        raise
    except (tarfile.TarError, ValueError, RecursionError) as error:  # of headers that are nonsense
        raise stream.damaged(error) from None


def _blocks(stream: _Stream, member: tarfile.TarInfo) -> Iterator[bytes]:
    stream.seek(member.offset_data)
    left = member.size
    while left:
        block = stream.take(min(left, BLOCK))
        if not block:
            raise stream.damaged("it is cut off")
        left -= len(block)
        yield block


def _is_same(path: Path, blocks: Iterator[bytes]) -> bool:
    if not path.is_file():
        return False
    with path.open("rb") as file:
        return all(file.read(len(block)) == block for block in blocks) and not file.read(1)


def _write(archive: Path, path: Path, blocks: Iterator[bytes]) -> None:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with naming(path), path.open("xb") as file:  # x: never through a link, never twice
            file.writelines(blocks)
    except (FileExistsError, NotADirectoryError):
        raise _refused(archive, path.name, "is there twice, or as a file and as a folder") from None
