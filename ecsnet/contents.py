"""What is in a data set, as digests by content: they tell when tables of images and masks are stale.

Imports nothing heavy: the Snakefile asks while it plans. A file is read only where its size or one of its
times is not as when it was read last, so that a start costs a look at each file, not its bytes.
"""

import contextlib
import functools
import hashlib
import json
import os
import stat
import sys
import time
from collections.abc import Callable, Sequence, Set
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from .folder import Photo, with_masks
from .settings import Dataset
from .threads import mapped
from .voc import FLAGS, PICTURE_ENDINGS, list_path, rows, scan, tag_source

MEMORY = Path(".snakemake/fingerprints")
"""One file for each folder of data: what its files' digests were, and at which size and times."""
SETTLED_NS = 2_000_000_000
"""A file that changed this recently is read again next time: some clocks tell no shorter times apart."""
UNREADABLE = "unreadable"
MANY = 2000
"""So many files to read are announced: it may take a while."""


def table_contents(settings: Dataset, list_name: str) -> str:
    """Digests of all that a table of images is made of: its list, the list's pictures and their tags.

    JSON text with a count and a digest each, {"lists": "444 5f0c…", "pictures": …, "tags": …}. Neither the
    data root nor the list's name, nor any time is in it. Never raises: what is missing counts as such, and
    without the data root it is "absent".
    """
    root = Path(settings.root)
    if not os.path.isdir(root):
        return "absent"
    content, ids = _list(root, list_name)
    if tag_source(settings) == "annotations":
        tags = _fingerprints(root / "Annotations", (".xml",), ids)
    else:
        tags = _main_lists(root / "ImageSets" / "Main", settings.classes, content, ids)
    parts = {
        "lists": digest_of([content], len(ids)),
        "pictures": digest_of(_fingerprints(root / "JPEGImages", PICTURE_ENDINGS, ids)),
        "tags": digest_of(tags),
    }
    return json.dumps(parts)


def mask_contents(settings: Dataset, masks: str, list_name: str) -> str:
    """Digests of what `check_masks` reads: the list, and its masks in the folder `masks` under the data root.

    JSON text as of `table_contents`, {"lists": …, "masks": …}; never raises either.
    """
    root = Path(settings.root)
    if not os.path.isdir(root):
        return "absent"
    content, ids = _list(root, list_name)
    found = _fingerprints(root / masks, (".png",), ids)
    return json.dumps({"lists": digest_of([content], len(ids)), "masks": digest_of(found)})


def _list(root: Path, name: str) -> tuple[bytes, frozenset[str]]:
    """A list's bytes and its ids."""
    content = _content(list_path(root, name))
    return content, _ids(content)


@functools.lru_cache(maxsize=4)
def _ids(content: bytes) -> frozenset[str]:
    return frozenset(columns[0] for _, _, columns in rows(content.decode("utf-8-sig", "replace")))


def _main_lists(folder: Path, classes: Sequence[str], content: bytes, ids: Set[str]) -> list[bytes]:
    """For each class, a digest of the rows of its list of tags that concern a list of images."""
    suffix = hashlib.blake2b(content, digest_size=8).hexdigest()
    names = [f"{name}_trainval.txt" for name in classes]
    stamps = {f"{name} {suffix}": stamp_of(folder / name) for name in names}
    found = remembered(folder, stamps, lambda key: _digest_of_rows(folder / key.rpartition(" ")[0], ids))
    return [digest.encode() for digest in found.values()]


def _digest_of_rows(path: Path, ids: Set[str]) -> str:
    """Digest of a list's rows that concern the ids; of malformed ones too, which `prepare` refuses."""
    digest = hashlib.blake2b(digest_size=8)
    for _, line, columns in rows(_content(path).decode("utf-8-sig", "replace")):
        if columns[0] in ids or len(columns) != 2 or columns[1] not in FLAGS:
            digest.update(line.encode("utf-8", "surrogatepass") + b"\n")
    return digest.hexdigest()


def _content(path: Path) -> bytes:
    try:
        # unlike Path.is_file, false for names that are too long or hold a zero byte
        return path.read_bytes() if os.path.isfile(path) else b"absent"
    except OSError:
        return b"absent"


def digest_of(parts: list[bytes], count: int | None = None) -> str:
    """How many, those of `parts` if not said otherwise, and a digest."""
    digest = hashlib.blake2b(digest_size=16)
    for part in parts:
        digest.update(len(part).to_bytes(8, "big") + part)
    return f"{len(parts) if count is None else count} {digest.hexdigest()}"


def _fingerprints(folder: Path, endings: tuple[str, ...], ids: Set[str]) -> list[bytes]:
    """Name and digest of each file in `folder` that belongs to `ids`, by name."""
    stamps = {}
    for image_id, entry in scan(folder, endings):
        if image_id in ids:
            with contextlib.suppress(OSError):  # a dangling link
                stamps[entry.name] = _stamp(entry.stat())
    found = remembered(
        folder, stamps, lambda name: read_digest(f"{folder}/{name}") if stamps[name] else "no file"
    )
    return [os.fsencode(f"{name}\0{found[name]}") for name in sorted(found)]


def stamp_of(path: str | Path) -> str:
    """What tells of a file whether it was written since; nothing where there is none."""
    try:
        return _stamp(os.stat(path))
    except (OSError, ValueError):  # ValueError: a zero byte in the name
        return ""


def _stamp(status: os.stat_result) -> str:
    """Size, and times of change of the content and of the file; nothing where it is no file.

    Such a one is never read: a pipe would be waited for without end.
    """
    if not stat.S_ISREG(status.st_mode):
        return ""
    return f"{status.st_size} {status.st_mtime_ns} {status.st_ctime_ns}"


def remembered(folder: Path, stamps: dict[str, str], read: Callable[[str], str]) -> dict[str, str]:
    """Digests by name: those that were read when the stamp was the same; the others are read now."""
    memory = MEMORY / f"{hashlib.blake2b(os.fsencode(folder), digest_size=8).hexdigest()}.tsv"
    known = _recall(memory, stamp_of(memory))
    unread = [name for name, stamp in stamps.items() if not stamp or known.get(name, ("",))[0] != stamp]
    if len(unread) > MANY:
        print(f"Reading {len(unread):,} files of {folder}, to see later what changes.", file=sys.stderr)
    now = time.time_ns()
    with ThreadPoolExecutor(16) as pool:
        fresh = dict(zip(unread, mapped(pool, read, unread), strict=True))
    settled = [name for name in unread if fresh[name] != UNREADABLE and _is_settled(stamps[name], now)]
    if settled:
        _remember(memory, known | {name: (stamps[name], fresh[name]) for name in settled})
    return {name: fresh[name] if name in fresh else known[name][1] for name in stamps}


def _is_settled(stamp: str, now: int) -> bool:
    times = [int(number) for number in stamp.split()[1:]]
    return bool(times) and max(times) < now - SETTLED_NS


def read_digest(path: str) -> str:
    """Digest of a file, by the shortest way: a million small ones are read one after the other."""
    digest = hashlib.blake2b(digest_size=8)
    try:
        file = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
        try:
            while block := os.read(file, 1 << 20):
                digest.update(block)
        finally:
            os.close(file)
    except OSError:
        return UNREADABLE
    return digest.hexdigest()


@functools.lru_cache(maxsize=4)
def _recall(memory: Path, stamp: str) -> dict[str, tuple[str, str]]:
    """Stamp and digest of the files of a folder by name, of a memory file as its own stamp says it is.

    What cannot be read is not known.
    """
    try:
        lines = memory.read_bytes().decode("utf-8", "surrogateescape").split("\n")[:-1]
    except OSError:
        return {}
    cells = [line.split("\t", 2) for line in lines]
    return {row[2]: (row[0], row[1]) for row in cells if len(row) == 3}


def _remember(memory: Path, known: dict[str, tuple[str, str]]) -> None:
    """Write what `_recall` reads. It only saves time: that it cannot be written is no matter."""
    lines = [f"{stamp}\t{digest}\t{name}\n" for name, (stamp, digest) in known.items() if "\n" not in name]
    temporary = memory.with_suffix(f".{os.getpid()}.tmp")
    with contextlib.suppress(OSError):
        memory.parent.mkdir(parents=True, exist_ok=True)
        temporary.write_bytes("".join(lines).encode("utf-8", "surrogateescape"))
        os.replace(temporary, memory)
    with contextlib.suppress(OSError):
        temporary.unlink()


def folder_contents(settings: Dataset, photos: Sequence[Photo]) -> str:
    """Digests of what `import_folder` reads of some photographs; never raises.

    JSON text as of `table_contents`.
    """
    names = [f"{photo.name}\0{photo.id}" for photo in photos]
    labels = [f"{photo.id}\0{';'.join(photo.labels)}" for photo in photos]
    parts = {
        "lists": digest_of(list(map(os.fsencode, names))),
        "pictures": digest_of(named(settings.images, [photo.name for photo in photos])),
        "tags": digest_of(list(map(os.fsencode, labels))),
    }
    return json.dumps(parts)


def folder_masks_contents(settings: Dataset, photos: Sequence[Photo]) -> str:
    """Digests of what `import_masks` reads, as `folder_contents`; pictures are read for their size."""
    masked = [photo for photo in photos if photo.mask]
    lists = with_masks(photos, settings)
    parts = {
        "lists": digest_of([os.fsencode(f"{name} {' '.join(ids)}") for name, ids in lists.items()]),
        "masks": digest_of(named(settings.masks, [photo.mask for photo in masked])),
        "pictures": digest_of(named(settings.images, [photo.name for photo in masked])),
    }
    return json.dumps(parts)


def named(folder: str | None, names: Sequence[str]) -> list[bytes]:
    """Name and digest of files below a folder."""
    stamps = {name: stamp_of(f"{folder}/{name}") for name in names}
    found = remembered(
        Path(str(folder)), stamps, lambda name: read_digest(f"{folder}/{name}") if stamps[name] else "no file"
    )
    return [os.fsencode(f"{name}\0{found[name]}") for name in names]
