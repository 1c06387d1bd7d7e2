"""The one exception for mistakes that the user can mend."""

from collections.abc import Sequence


class UserError(ValueError):
    """A mistake of the user: its text says what is wrong, where, and what to do about it.

    The command line prints the text without a traceback and exits with 1. Every other exception
    is a mistake of ours and keeps its traceback.
    """


def raise_problems(problems: Sequence[str], headline: str, limit: int = 50) -> None:
    """Raise one `UserError` that lists all problems, one line each; nothing if there are none."""
    if not problems:
        return
    shown = [f"  - {problem}" for problem in problems[:limit]]
    if len(problems) > limit:
        shown.append(f"  … and {len(problems) - limit} more")
    raise UserError("\n".join([headline, *shown]))
