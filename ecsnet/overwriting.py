"""What `ecsnet predict-folder` finds where it is to write: the user's own, what is done, what is stale."""

import os
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from .errors import UserError, raise_problems
from .masklist import Row, mask_name
from .palette import decode_mask
from .pictures import PictureError, read_content
from .store import fingerprint

END = b"IEND\xaeB`\x82"
"""Last chunk of every PNG."""


@dataclass(frozen=True)
class Places:
    """Where photographs are, and what is made of them."""

    folder: Path
    out: Path
    overlays: Path | None

    def mask(self, name: str) -> Path:
        return self.out / mask_name(name)

    def overlay(self, name: str) -> Path | None:
        return self.overlays / PurePosixPath(name).with_suffix(".jpg") if self.overlays else None

    def source(self) -> str:
        """The folder of photographs, from that of the masks, so that both may move together."""
        path = os.path.relpath(os.path.realpath(self.folder), os.path.realpath(self.out))
        return os.fsencode(path).decode("utf-8", "backslashreplace")

    def make(self) -> None:
        """Make the folders that are written to.

        Raises:
            UserError: there can be none, as within /proc.
        """
        for option, folder in (("--out", self.out), ("--overlays", self.overlays)):
            try:
                if folder:
                    folder.mkdir(parents=True, exist_ok=True)
            except FileNotFoundError as error:
                remedy = "name a folder that can be made"
                raise UserError(f"{option} {folder}: cannot be made ({error.strerror}); {remedy}") from None


@dataclass(frozen=True)
class Found:
    """Pictures whose mask an earlier run has made.

    Attributes:
        whole: it is as the table says, and so is what else is wanted.
        edited: it is another one that can be read and fits, so somebody has drawn in it.
    """

    whole: frozenset[str] = frozenset()
    edited: frozenset[str] = frozenset()


def key_of(content: bytes, way: str) -> str:
    """Digests of a picture, and of the network and how it is used."""
    return f"{fingerprint(content)}-{way}"


def is_of(row: Row, content: bytes) -> bool:
    """Whether a row is of a picture with this content, whatever the network."""
    return row["key"].split("-")[0] == fingerprint(content)


def refuse_overwriting(
    places: Places, names: Collection[str], rows: Mapping[str, Row], force: bool = False
) -> None:
    """Refuse to write over a photograph, what no earlier run has written, or another folder's masks.

    Args:
        rows: of the table that an earlier run left.
        force: write over masks of another folder's pictures.

    Raises:
        UserError: with a line for each such file.
    """
    photographs = {os.path.realpath(places.folder / name) for name in names}
    owners = {row["mask"]: name for name, row in rows.items()}
    source, table = places.source(), places.out / "masks.csv"
    problems = []
    for name in names:
        owner = owners.get(mask_name(name))
        for target in filter(None, (places.mask(name), places.overlay(name))):
            if os.path.realpath(target) in photographs:
                problems.append(f"{target}: is one of the photographs")
            elif target.exists() and owner is None:
                problems.append(f"{target}: is there already, and {table} does not list it")
            elif target.exists() and owner != name:
                problems.append(f"{target}: is there already, and of {owner}, as {table} says")
        row = None if force else rows.get(name)
        if row and row["folder"] not in ("", source) and _is_of_another(places, name, row):
            other = os.path.normpath(places.out / row["folder"])
            problems.append(
                f"{places.mask(name)}: is of another picture of that name, in {other}; --force writes over it"
            )
    raise_problems(problems, "Some files are in the way; name another folder:")


def _is_of_another(places: Places, name: str, row: Row) -> bool:
    """Whether a mask is there, and of a picture of other content."""
    try:
        return places.mask(name).exists() and not is_of(row, read_content(places.folder / name))
    except (OSError, PictureError):
        return False  # told later; nothing is written for it


def find_earlier(places: Places, names: Collection[str], rows: Mapping[str, Row], force: bool) -> Found:
    """What an earlier run has left of these pictures.

    Args:
        force: masks that somebody has drawn in count as stale.
    """
    whole, edited = set(), set()
    for name in names:
        row = rows.get(name)
        if not row or not row["digest"]:
            continue
        try:
            content = read_content(places.mask(name))
        except (OSError, PictureError):
            continue
        if fingerprint(content) != row["digest"]:
            if not force and _fits(content, row):
                edited.add(name)
        elif _is_drawn(places.overlay(name), row):
            whole.add(name)
    return Found(frozenset(whole), frozenset(edited))


def _fits(content: bytes, row: Row) -> bool:
    """Whether a file's content is a whole mask of the picture's size."""
    if END not in content:
        return False  # decoders do not miss it
    try:
        height, width = decode_mask(content).shape
    except PictureError:
        return False
    return (str(width), str(height)) == (row["width"], row["height"])


def _is_drawn(overlay: Path | None, row: Row) -> bool:
    """Whether the overlay, if one is wanted, is there, and of the mask in the table."""
    try:
        return overlay is None or fingerprint(overlay.read_bytes()) == row["overlay"]
    except OSError:
        return False
