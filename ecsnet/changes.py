"""What differs between a rule's params of its last run and now, in plain words.

The params are what the rules of the workflow give: a section of settings (`settings.section_json`), the
modules of a stage (`digest.code_digest`), the contents of a data set (`contents.table_contents`,
`contents.mask_contents`), and plain texts.
"""

import contextlib
import json
from collections.abc import Sequence
from typing import Any

FILES = {
    "lists": "a list changed",
    "pictures": "a picture changed, came or went",
    "tags": "a tag file changed, came or went",
    "masks": "a mask changed, came or went",
}
"""Keys of the digests of a data set, and what a change of each means."""

TEXTS = {"masks": "folder of masks", "only": "list of masks", "split": "list that is scored"}
"""Params that are plain texts."""

LISTS = {"rows": "the rows of the table"}
"""Params that are lists, too long to be told."""


def params_changes(section: str, before: Sequence[Any], after: dict[str, Any]) -> list[str]:
    """Texts for what differs between a rule's params of its last run, which have no names, and now."""
    old = {kind: value for value in before if (kind := _kind(value)) != "text"}
    texts = []
    if "settings" in after:
        texts += settings_changes(section, _table(old.get("settings")), _table(after["settings"]))
    if "code" in after:
        texts += code_changes(_table(old.get("code")), _table(after["code"]))
    if "files" in after:
        texts += files_changes("absent" if "absent" in before else old.get("files", ""), after["files"])
    texts += [f"{text} changed" for name, text in LISTS.items() if name in after]
    plain = [value for value in before if _kind(value) == "text" and value != "absent"]
    was = f": {plain[0]} →" if len(plain) == 1 else " is now"
    for name, value in after.items():
        if name not in ("settings", "code", "files", *LISTS):
            texts.append(f"{TEXTS.get(name, name)}{was} {value}".replace("--list-name ", ""))
    return texts


def _kind(value: Any) -> str:
    """settings, code or files by the keys of a JSON text; else text."""
    keys = _table(value).keys()
    if not keys:
        return "text"
    if all(key.endswith(".py") for key in keys):
        return "code"
    return "files" if keys <= FILES.keys() else "settings"


def _table(value: Any) -> dict[str, Any]:
    """A JSON object's content; nothing where the text is none."""
    with contextlib.suppress(TypeError, ValueError):
        content = json.loads(value)
        return content if isinstance(content, dict) else {}
    return {}


def settings_changes(section: str, before: dict[str, Any], after: dict[str, Any]) -> list[str]:
    """`section.key.subkey: before → after` for each setting that differs, in the order of their names."""
    old, new = _flat(section, before), _flat(section, after)
    texts = []
    for key in sorted(old | new):
        if key not in old:
            texts.append(f"{key}: {new[key]} (a new setting)")
        elif key not in new:
            texts.append(f"{key}: {old[key]} (no setting any more)")
        elif old[key] != new[key]:
            texts.append(f"{key}: {old[key]} → {new[key]}")
    return texts


def _flat(prefix: str, values: dict[str, Any]) -> dict[str, str]:
    """Settings by their full names, as they are written in YAML."""
    flat: dict[str, str] = {}
    for key, value in values.items():
        # one seed for all sections but the demo's
        name = "seed" if key == "seed" and prefix != "demo" else f"{prefix}.{key}"
        if isinstance(value, dict):
            flat |= _flat(name, value)
        else:
            flat[name] = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    return flat


def code_changes(before: dict[str, str], after: dict[str, str]) -> list[str]:
    """The modules that differ, of two `digest.code_digest`."""
    if not before:
        return ["its code changed"]
    texts = [f"{name} changed" for name in after if name in before and before[name] != after[name]]
    texts += [f"{name} is used now" for name in after if name not in before]
    return texts + [f"{name} is no longer used" for name in before if name not in after]


def files_changes(before: str, after: str) -> list[str]:
    """What differs in a data set, of two `contents.table_contents` or `contents.mask_contents`."""
    if "absent" in (before, after):
        return ["the data set is gone" if after == "absent" else "the data set is there now"]
    old, new = _table(before), _table(after)
    if old.keys() != new.keys():
        return ["the data set is another one"]
    texts = []
    for key in new:
        if old[key] != new[key]:
            counts = [text.split()[0] for text in (old[key], new[key])]
            texts.append(FILES[key] + (f" ({' → '.join(counts)})" if counts[0] != counts[1] else ""))
    return texts
