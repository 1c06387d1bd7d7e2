"""The one exception for mistakes that the user can mend."""

import contextlib
import errno
from collections.abc import Iterator, Sequence
from pathlib import Path


class UserError(ValueError):
    """A mistake of the user: its text says what is wrong, where, and what to do about it.

    The command line prints the text without a traceback and exits with 1. Every other exception
    is a mistake of ours and keeps its traceback.

    Attributes:
        problems: where it lists several, a line for each, of which the text may show the first alone.
    """

    problems: tuple[str, ...] = ()


def raise_problems(problems: Sequence[str], headline: str, limit: int = 50) -> None:
    """Raise one `UserError` that lists all problems, one line each; nothing if there are none."""
    if not problems:
        return
    shown = [f"  - {problem}" for problem in problems[:limit]]
    if len(problems) > limit:
        shown.append(f"  … and {len(problems) - limit} more")
    error = UserError("\n".join([headline, *shown]))
    error.problems = tuple(problems)
    raise error


@contextlib.contextmanager
def naming(path: Path) -> Iterator[None]:
    """Let the system's errors in the block name a file: those of a write do not by themselves."""
    try:
        yield
    except OSError as error:
        if error.filename is None:
            error.filename = str(path)
        raise


_NO_SPACE = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
_NOT_ALLOWED = {errno.EACCES, errno.EPERM, errno.EROFS}
_WRONG_KIND = {errno.ENOTDIR, errno.EISDIR, errno.EEXIST}


def explain(error: Exception, lower: str) -> str | None:
    """What is wrong and what to do, where the machine and not the program is at fault; else None.

    Args:
        error: any exception that a stage ended with.
        lower: the setting that makes the stage need less memory.
    """
    if _is_about_space(error):
        return f"no space is left{_on(error)}; free some and give the same command again"
    if isinstance(error, OSError) and error.errno in _NOT_ALLOWED:
        return f"not allowed: {error.strerror}{_on(error)}; correct its permissions, or choose another folder"
    if isinstance(error, OSError) and error.errno in _WRONG_KIND:
        return f"{error.strerror}{_on(error)}; move it out of the way and give the same command again"
    if getattr(error, "errno", None) == errno.ENAMETOOLONG:
        return f"a name is too long{_on(error)}; give a shorter one"
    if _is_about_memory(error):
        return f"out of memory ({(str(error) or type(error).__name__).splitlines()[0]}); lower {lower}"
    return None


def _is_about_space(error: Exception) -> bool:
    # safetensors tells in words alone
    words = ("No space left on device", "Disk quota exceeded", "File too large")
    return getattr(error, "errno", None) in _NO_SPACE or any(word in str(error) for word in words)


def _is_about_memory(error: Exception) -> bool:
    if isinstance(error, MemoryError) or getattr(error, "errno", None) == errno.ENOMEM:
        return True
    # torch: OutOfMemoryError of a card, a plain RuntimeError of the CPU's allocator
    # a pool's worker: ended by the system, for want of memory
    words = ["out of memory", "can't allocate memory", "not enough memory", "ALLOC_FAILED"]
    words.append("process pool was terminated abruptly")
    return isinstance(error, RuntimeError) and any(word in str(error) for word in words)


def _on(error: Exception) -> str:
    name = getattr(error, "filename2", None) or getattr(error, "filename", None)
    return f" ({name})" if name else ""
