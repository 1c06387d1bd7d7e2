"""Which cards (GPUs) are a process's own: Snakemake counts them, but gives none out."""

import contextlib
import fcntl
import os
import stat
import subprocess
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import IO, NamedTuple

from .errors import UserError

_held: list[IO[str]] = []  # open lock files: a claim lasts as long as the process
FULL = 0.5
"""A card of which another program uses more than this share of the memory is passed over."""


class Card(NamedTuple):
    """A card as `nvidia-smi` knows it: number, UUID, memory in MiB."""

    number: str
    uuid: str
    used: float
    total: float


def visible_cards(variable: str | None, count: int) -> list[str]:
    """Names of the visible cards: CUDA_VISIBLE_DEVICES' own (numbers, UUIDs, MIG), or 0, 1, …

    A scheduler such as SLURM names exactly the cards that are ours; on a shared machine without one,
    the names tell the cards apart for `claim_cards`.
    """
    if variable:
        return [name.strip() for name in variable.split(",")][:count]
    return [str(index) for index in range(count)]


def list_cards() -> list[Card]:
    """All cards of the machine, also those that are not visible; none where nobody can tell."""
    words = ["nvidia-smi", "--query-gpu=index,uuid,memory.used,memory.total", "--format=csv,noheader,nounits"]
    try:
        result = subprocess.run(words, capture_output=True, text=True, timeout=30, check=True)
    except (OSError, subprocess.SubprocessError):
        return []
    cards = []
    for line in result.stdout.splitlines():
        cells = [cell.strip() for cell in line.split(",")]
        with contextlib.suppress(TypeError, ValueError):  # "[N/A]" for memory, on cards cut up by MIG
            cards.append(Card(cells[0], cells[1], *map(float, cells[2:])))
    return cards


def known_as(name: str, cards: Sequence[Card]) -> Card | None:
    """The card of a name in CUDA_VISIBLE_DEVICES: its number, or its UUID or the beginning of that."""
    for card in cards:
        if name == card.number or (name.startswith("GPU-") and card.uuid.startswith(name)):
            return card
    return None


def claim_cards(
    names: Sequence[str], count: int = 1, folder: Path | None = None, poll: float = 1.0
) -> list[int]:
    """Indices of `count` of the named cards, which this process alone then uses; waits until they are free.

    Each card has a lock file, known by its UUID where there is one, so that it is the same card by whatever
    name. The lock (flock) is released by the kernel when the process and its data workers have ended, however
    they ended; it is among the stages of one user. Cards that another program fills are passed over; where
    no others are to be had, that is said.

    Raises:
        UserError: there are fewer cards; the folder of the lock files belongs to somebody else.
    """
    if count > len(names):
        there = f"{len(names)} cards are visible ({', '.join(names)})"
        raise UserError(f"runtime.gpus_per_training: {count}, but {there}; lower it")
    folder = own_folder(folder) if folder else _lock_folder()
    waited = False
    while True:
        claimed = _try_to_claim(names, count, folder)
        if claimed:
            _held.extend(claimed.values())
            return list(claimed)
        if not waited:
            print(f"waiting for {count} of the cards {', '.join(names)}: other stages hold them", flush=True)
            waited = True
        time.sleep(poll)


def any_free(names: Sequence[str]) -> bool:
    """Whether one of the named cards could be claimed now."""
    locks = _try_to_claim(names, 1, _lock_folder())
    for lock in locks.values():
        lock.close()
    return bool(locks)


def _lock_folder() -> Path:
    return own_folder(Path(tempfile.gettempdir()) / f"ecsnet-cards-{os.getuid()}")


def own_folder(folder: Path) -> Path:
    """A folder that is this user's alone, made where there is none: anybody may put a link into /tmp.

    Raises:
        UserError: it is not.
    """
    folder.mkdir(mode=0o700, exist_ok=True)
    status = folder.lstat()
    if not stat.S_ISDIR(status.st_mode) or status.st_uid != os.getuid():
        raise UserError(
            f"{folder}: is not a folder of yours; remove it, or set TMPDIR to a folder of your own"
        )
    return folder


def _try_to_claim(names: Sequence[str], count: int, folder: Path) -> dict[int, IO[str]]:
    """Locks of `count` cards by index; none where that many are not to be had now."""
    cards = list_cards()
    known = {index: known_as(name, cards) for index, name in enumerate(names)}
    locks: dict[int, IO[str]] = {}
    for index, name in enumerate(names):
        card = known[index]
        lock = _try_lock(folder / (card.uuid if card else name).replace("/", "_"))
        if lock:
            locks[index] = lock
    chosen = _choose(list(locks), count, known, everything=len(locks) == len(names))
    for index in set(locks) - set(chosen):
        locks.pop(index).close()
    for index in chosen:
        _tell_if_full(names[index], known[index])
    return locks


def _choose(free: list[int], count: int, known: Mapping[int, Card | None], everything: bool) -> list[int]:
    """The cards to take: those that nobody fills; full ones only where waiting would bring no other."""
    by_use = sorted(free, key=lambda index: (_share(known[index]) > FULL, index))
    wanted = by_use[:count]
    usable = len(wanted) == count and (everything or all(_share(known[index]) <= FULL for index in wanted))
    return wanted if usable else []


def _share(card: Card | None) -> float:
    return card.used / card.total if card and card.total else 0.0


def _tell_if_full(name: str, card: Card | None) -> None:
    if card and _share(card) > FULL:
        print(
            f"card {name}: another program uses {card.used / 1024:.0f} of its {card.total / 1024:.0f} GiB, "
            "and no other card is free; if memory runs out, end that program, or name another card in "
            "CUDA_VISIBLE_DEVICES",
            flush=True,
        )


def _try_lock(path: Path) -> IO[str] | None:
    lock = path.open("w")
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        lock.close()
        return None
    return lock
