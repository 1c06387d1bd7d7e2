"""Fetching large files over HTTP: checked by their MD5, and taken up where a transfer broke off.

urllib does it: what a download library would add beside it (parallel parts, sessions) is not needed, and the
little that is, ranges and pauses between attempts, is below. Only http and https are ever opened.
"""

import hashlib
import http.client
import os
import shutil
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .errors import UserError, naming
from .progress import Progress, say

MAX_BYTES = 16 << 30
"""A server that sends more than this for one file is wrong or wants to fill the disk."""
GAIN = 1 << 20
"""An attempt that brings fewer bytes than this counts as one that failed."""
PAUSE, LONGEST_PAUSE = 1.0, 60.0
"""Seconds before the second attempt, twice as many before each further one, and the most of them."""
BUSY = (408, 425, 429)
"""Answers, beside all from 500, that may be others a little later."""


@dataclass(frozen=True, kw_only=True)
class Source:
    """Where a file comes from, and how patiently it is fetched; `key` names both in messages."""

    key: str
    url: str
    md5: str
    attempts: int
    timeout: float


class _Broken(Exception):
    """A transfer that broke off, or did not begin: worth another attempt."""


def fetch(source: Source, path: Path) -> None:
    """Have the file at `path`, checked; it is not transferred if it is there already.

    A transfer that breaks off leaves `<name>.part`, with which the next one goes on. MD5 is what is published
    for these archives: it finds damage and mix-ups, not every forgery.

    Raises:
        UserError: no connection, an answer of the server that is an error, a wrong checksum, no space.
    """
    if path.exists():
        _require(source, path)
        print(f"{path}: is there, and its MD5 is right", flush=True)
        return
    part = path.with_name(f"{path.name}.part")
    if _md5(part) != source.md5.lower():
        _fetch_part(source, part)
    with part.open("rb") as file:
        os.fsync(file.fileno())
    os.replace(part, path)


def _require(source: Source, path: Path) -> None:
    found = _md5(path)
    if found != source.md5.lower():
        raise UserError(
            f"{path}: its MD5 is {found}, not {source.md5}; delete it, then it is fetched anew, or correct "
            f"{source.key}_md5"
        )


def _md5(path: Path) -> str:
    """MD5 of a file of any size; nothing where there is none."""
    if not path.exists():
        return ""
    with path.open("rb") as file:
        return hashlib.file_digest(file, lambda: hashlib.md5(usedforsecurity=False)).hexdigest()


def _fetch_part(source: Source, part: Path) -> None:
    """Complete the partial file; if then its checksum is wrong, once more from its first byte."""
    for attempt in ("first", "second"):
        _transfer(source, part)
        found = _md5(part)
        if found == source.md5.lower():
            return
        part.unlink(missing_ok=True)
        if attempt == "first":
            print(f"{source.url}: came with the MD5 {found}, not {source.md5}; once more", flush=True)
    raise UserError(
        f"{source.url}: came twice with a wrong MD5, {found}, not {source.md5}; set {source.key}_url to a "
        f"mirror, or {source.key}_md5 where another file is meant"
    )


def _transfer(source: Source, part: Path) -> None:
    """Receive until all is there, with pauses between the attempts."""
    most, failures = _size(part), 0
    while True:
        try:
            return _receive(source, part)
        except _Broken as error:
            reason = error
        gained, most = _size(part) - most, max(_size(part), most)
        failures = 0 if gained >= GAIN else failures + 1
        if failures >= source.attempts:
            raise UserError(
                f"{source.url}: {reason} ({failures} times in a row); check the network and the address, set "
                f"{source.key}_url to a mirror, or put {part.stem} into {part.parent} yourself. What was "
                "fetched is kept: the same command goes on from there."
            )
        pause = min(PAUSE * 2 ** max(failures - 1, 0), LONGEST_PAUSE)
        say(f"{source.url}: {reason}; {_size(part):,} bytes are here, on in {pause:.0f} s")
        time.sleep(pause)


def _size(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0


def _receive(source: Source, part: Path) -> None:
    """One attempt: from the end of what is there, or from the start where the server knows no ranges."""
    answer = _open(source, part)
    if answer is None:
        return
    with answer:
        start = _size(part) if answer.status == 206 else 0
        if answer.status == 206 and not (answer.headers["Content-Range"] or "").startswith(f"bytes {start}-"):
            part.unlink(missing_ok=True)
            raise _Broken("the server sends another part than asked for")
        total = None if answer.length is None else start + answer.length
        _require_space(source, part, answer.length or 0, total or 0)
        progress = Progress(f"fetch {part.stem}", -(-total >> 20), "MiB", start >> 20) if total else None
        with naming(part), part.open("ab" if start else "wb") as file:
            for block in _blocks(answer):
                file.write(block)
                start += len(block)
                if start > MAX_BYTES:
                    raise _too_large(source)
                if progress:
                    progress.step((-(-start >> 20) if start == total else start >> 20) - progress.done)
    if total is not None and start < total:
        raise _Broken(f"the connection ended after {start:,} of {total:,} bytes")


def _open(source: Source, part: Path) -> Any:
    """The server's answer; None where the server has nothing beyond what is there."""
    headers = {"User-Agent": "ecsnet"}
    if start := _size(part):
        headers["Range"] = f"bytes={start}-"
    try:
        request = urllib.request.Request(source.url, headers=headers)
        return _opener().open(request, timeout=source.timeout)
    except urllib.error.HTTPError as error:
        error.close()
        if error.code == 416:
            return None  # the checksum tells whether what is there is the file
        if error.code in BUSY or error.code >= 500:
            raise _Broken(f"the server answers {error.code} {error.reason}") from None
        raise UserError(
            f"{source.url}: the server answers {error.code} {error.reason}; set {source.key}_url to a "
            f"mirror, or put {part.stem} into {part.parent} yourself"
        ) from None
    except (OSError, http.client.HTTPException) as error:
        raise _Broken(_reason(error)) from None
    except ValueError as error:
        raise UserError(f"{source.key}_url: {source.url} is no address ({error}); correct it") from None


def _opener() -> urllib.request.OpenerDirector:
    """urllib's own without files and ftp, where a redirection could lead."""
    opener = urllib.request.OpenerDirector()
    for handler in (
        urllib.request.ProxyHandler,
        urllib.request.HTTPHandler,
        urllib.request.HTTPSHandler,
        urllib.request.HTTPRedirectHandler,
        urllib.request.HTTPErrorProcessor,
        urllib.request.HTTPDefaultErrorHandler,
        urllib.request.UnknownHandler,
    ):
        opener.add_handler(handler())
    return opener


def _reason(error: Exception) -> str:
    inner = getattr(error, "reason", error)
    return getattr(inner, "strerror", None) or str(inner) or type(inner).__name__


def _require_space(source: Source, part: Path, coming: int, total: int) -> None:
    if total > MAX_BYTES:
        raise _too_large(source)
    free = shutil.disk_usage(part.parent).free
    if coming > free:
        raise UserError(
            f"no space is left for {source.url} ({part.parent}): {coming:,} bytes are to come, {free:,} are "
            "free; free some, or set download.archives to another disk's folder. What was fetched is kept."
        )


def _too_large(source: Source) -> UserError:
    return UserError(
        f"{source.url}: is larger than {MAX_BYTES:,} bytes; set {source.key}_url to another mirror"
    )


def _blocks(answer: Any) -> Iterator[bytes]:
    """What comes, as it comes: nothing that was received is lost when the connection breaks."""
    while True:
        try:
            block = answer.read1(1 << 16)
        except (OSError, http.client.HTTPException) as error:
            raise _Broken(_reason(error)) from None
        if not block:
            return
        yield block
