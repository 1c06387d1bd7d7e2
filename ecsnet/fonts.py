"""Fonts for the names of classes, in whatever script they are."""

from functools import cache
from pathlib import Path

import matplotlib
from matplotlib import font_manager
from matplotlib.ft2font import FT2Font

OWN = Path(matplotlib.get_data_path(), "fonts", "ttf", "DejaVuSans.ttf")
"""Comes with matplotlib: Latin, Greek, Cyrillic, Arabic and more, but no Chinese, Japanese or Korean."""
COMMON = ("cjk", "noto", "wqy", "pingfang", "hiragino", "yahei", "simhei", "simsun", "malgun", "gothic")
"""Parts of names of fonts that are looked into first, as they have the most signs."""


@cache
def font_file(text: str) -> Path:
    """File of a font that has each sign of a text: matplotlib's own, else one that is installed.

    Where no installed one has all, matplotlib's own, which draws boxes for what it has not.
    """
    signs = _signs_of(text)
    return next((path for path in (OWN, *_installed()) if signs <= _signs(path)), OWN)


def families(text: str) -> list[str]:
    """Names of fonts for matplotlib's `font.family` that together have each sign of a text, if any do."""
    names, missing = [_family(OWN)], _signs_of(text) - _signs(OWN)
    for path in _installed() if missing else ():
        if missing & _signs(path):
            missing -= _signs(path)
            font_manager.fontManager.addfont(path)
            names.append(_family(path))
    return names


def _signs_of(text: str) -> set[int]:
    """Code points of what is to be seen of a text."""
    return {ord(sign) for sign in text if sign.isprintable() and not sign.isspace()}


@cache
def _installed() -> tuple[Path, ...]:
    """Fonts of this machine, those that are likely to have many signs first."""
    paths = map(Path, font_manager.findSystemFonts())

    def rank(path: Path) -> tuple[bool, Path]:
        return not any(part in path.name.lower() for part in COMMON), path

    return tuple(sorted(paths, key=rank))


@cache
def _signs(path: Path) -> frozenset[int]:
    """Code points that a font has; none where it cannot be read."""
    try:
        return frozenset(FT2Font(str(path)).get_charmap())
    except (RuntimeError, OSError):
        return frozenset()


def _family(path: Path) -> str:
    return font_manager.FontProperties(fname=path).get_name()
