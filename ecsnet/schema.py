"""From declared settings to the checks of a configuration, help texts and a JSON schema.

A section is a frozen dataclass whose fields are made by `setting`; `settings` has them all.
"""

import dataclasses
import difflib
import json
import math
import re
import types
import typing
from collections.abc import Mapping, Sequence
from dataclasses import field
from typing import Any

USABLE_TEXT = r"^(?!-)(?=[\s\S]*\S)(?![\s\S]*[\x00-\x1f\x7f-\x9f{}])"
"""What texts match: they become file names, arguments (no option) and patterns of Snakemake (no wildcard)."""


def setting(
    default: Any,
    text: str,
    *,
    low: float | None = None,
    high: float | None = None,
    choices: Sequence[Any] | None = None,
    inherited: bool = False,
) -> Any:
    """Declare a setting: default, meaning, closed range and choices (of each element).

    `inherited` marks a setting that the workflow fills in from the top level of the configuration.
    """
    metadata = {
        "text": text,
        "low": low,
        "high": high,
        "choices": choices,
        "inherited": inherited,
    }
    if isinstance(default, type) and dataclasses.is_dataclass(default):
        return field(default_factory=default, metadata=metadata)
    return field(default=default, metadata=metadata)


def other_default(kind: type, name: str, default: Any) -> Any:
    """Declare a setting of the base class `kind` again, with another default and all else as there."""
    [item] = [item for item in dataclasses.fields(kind) if item.name == name]
    return field(default=default, metadata=item.metadata)


def parse_section(kind: type, values: Any, where: str, problems: list[str]) -> Any:
    if not isinstance(values, Mapping):
        where = where or "the configuration"
        remedy = "write keys and values below it, or take it out"
        problems.append(f"{where}: expected a section of settings, found {show(values)}; {remedy}")
        return kind()
    hints = typing.get_type_hints(kind)
    known = {item.name: item for item in dataclasses.fields(kind)}
    parsed = {}
    for name, value in values.items():
        if name not in known:
            name = show(name).strip('"')
            problems.append(_unknown(f"{where}.{name}" if where else name, repr(name), name, list(known)))
            continue
        path = f"{where}.{name}" if where else name
        parsed[name] = _parse_value(hints[name], value, path, known[name].metadata, problems)
    return kind(**{name: value for name, value in parsed.items() if value is not _BAD})


_BAD = object()


def _parse_value(hint: Any, value: Any, path: str, meta: Mapping[str, Any], problems: list[str]) -> Any:
    """The value in the type of `hint`; `_BAD` and a line in `problems` if it is not of it."""
    if dataclasses.is_dataclass(hint):
        return parse_section(typing.cast(type, hint), value, path, problems)
    if isinstance(hint, types.UnionType):
        if value is None:
            return None
        hint = next(part for part in typing.get_args(hint) if part is not type(None))
    if typing.get_origin(hint) is tuple:
        return _parse_list(hint, value, path, meta, problems)
    result = _convert(hint, value)
    if result is _BAD:
        remedy = _type_remedy(hint, value, meta)
        problems.append(f"{path}: expected {_TYPE_NAMES[hint]}, found {show(value)}; {remedy}")
    elif meta["choices"] and result not in meta["choices"]:
        choices = [str(choice) for choice in meta["choices"]]
        problems.append(_unknown(path, show(value), show(value).strip('"'), choices, "value"))
        result = _BAD
    elif hint is str and not re.match(USABLE_TEXT, result):
        remedy = "it must not be empty, begin with a dash, or hold braces or control characters"
        problems.append(f"{path}: {show(value)} is no usable text; {remedy}")
        result = _BAD
    elif _out_of_range(result, meta):
        problems.append(f"{path}: {show(value)} is out of range; give {_range_text(meta)}")
        result = _BAD
    return result


def _parse_list(hint: Any, value: Any, path: str, meta: Mapping[str, Any], problems: list[str]) -> Any:
    arguments = typing.get_args(hint)
    length = None if arguments[-1] is Ellipsis else len(arguments)
    if not isinstance(value, list | tuple):
        remedy = f"write {_as_list(arguments[0], value)}"
        problems.append(f"{path}: expected a list, found {show(value)}; {remedy}")
        return _BAD
    if not value or (length is not None and len(value) != length):
        wanted, remedy = (length, "that many") if length else ("one or more", "at least one")
        problems.append(f"{path}: expected a list of {wanted} values, found {show(value)}; write {remedy}")
        return _BAD
    items = [
        _parse_value(arguments[0], item, f"{path}[{index}]", meta, problems)
        for index, item in enumerate(value)
    ]
    return _BAD if _BAD in items else tuple(items)


def _as_list(hint: type, value: Any) -> str:
    """A list for a person to write instead of a value; commas in a text stand between elements."""
    if not isinstance(value, str) or "," not in value:
        return f"[{show(value)}]"
    parts = [part.strip() for part in value.split(",") if part.strip()]
    return f"[{', '.join(show(part) if hint is str else part for part in parts)}]"


_TYPE_NAMES = {
    bool: "true or false",
    int: "a whole number",
    float: "a number",
    str: "text",
}


def _type_remedy(hint: type, value: Any, meta: Mapping[str, Any]) -> str:
    if hint is bool:
        return "write true or false without quotes"
    if meta["choices"]:
        return f"choose {', '.join(map(str, meta['choices']))}"
    if hint is not str:
        return f"give {_range_text(meta)}"
    return "write one text" if value is None or isinstance(value, Mapping | list) else "put it in quotes"


def _convert(hint: type, value: Any) -> Any:
    if hint is float:
        if isinstance(value, bool) or not isinstance(value, int | float | str):
            return _BAD
        try:
            value = float(value)  # YAML 1.1 reads 1e-4 as text; what is meant is clear
        except (ValueError, OverflowError):
            return _BAD
        return value if math.isfinite(value) else _BAD
    if hint is int:
        if isinstance(value, float) and value.is_integer():
            return int(value)
        return value if isinstance(value, int) and not isinstance(value, bool) else _BAD
    if isinstance(value, str) and re.search("[\ud800-\udfff]", value):
        return _BAD  # halves of characters, which no file can hold
    return value if isinstance(value, hint) else _BAD


def _out_of_range(value: Any, meta: Mapping[str, Any]) -> bool:
    if isinstance(value, bool) or not isinstance(value, int | float):
        return False
    low, high = meta["low"], meta["high"]
    return (low is not None and value < low) or (high is not None and value > high)


def _range_text(meta: Mapping[str, Any]) -> str:
    low, high = meta["low"], meta["high"]
    if high is None:
        return f"{low} or more"
    return f"{high} or less" if low is None else f"{low} to {high}"


def _unknown(path: str, shown: str, name: str, known: list[str], kind: str = "setting") -> str:
    near = difflib.get_close_matches(name, known, 1, 0.5)
    remedy = f"did you mean {near[0]}?" if near else f"known are {', '.join(known)}"
    return f"{path}: unknown {kind} {shown}; {remedy}"


def show(value: Any) -> str:
    """A value of any kind, cut to one short line; the work is small too where the value is huge."""
    text = ""
    try:
        for part in json.JSONEncoder(default=str, ensure_ascii=False).iterencode(value):
            text += part
            if len(text) > 60:
                break
    except (TypeError, ValueError, RecursionError):
        # keys that JSON has not, anchors that hold themselves, numbers of 5,000 digits
        text = f"something of the type {type(value).__name__}"
    text = text.encode("utf-8", "backslashreplace").decode()
    return text if len(text) <= 60 else text[:57] + "…"


def describe(kind: type, prefix: str = "", inherited: bool = True) -> list[tuple[str, Any, str]]:
    """Rows (name, default, meaning) of a section's settings, nested ones with dotted names.

    Those that the workflow fills in are among them where `inherited` is true.
    """
    rows = []
    hints = typing.get_type_hints(kind)
    for item in dataclasses.fields(kind):
        name = prefix + item.name
        if item.metadata["inherited"] and not inherited:
            continue
        if dataclasses.is_dataclass(hints[item.name]):
            rows += describe(typing.cast(type, hints[item.name]), name + ".", inherited)
            continue
        text = item.metadata["text"]
        if item.metadata["choices"]:
            text += f" ({', '.join(map(str, item.metadata['choices']))})"
        elif item.metadata["low"] is not None or item.metadata["high"] is not None:
            text += f" ({_range_text(item.metadata)})"
        rows.append((name, item.default, text))
    return rows


def json_schema(kind: type) -> dict[str, Any]:
    """JSON schema of a section: closed, every key described. Editors and reviewers read it."""
    hints = typing.get_type_hints(kind)
    properties = {}
    for item in dataclasses.fields(kind):
        if not item.metadata["inherited"]:
            properties[item.name] = _property(hints[item.name], item)
    return {
        "type": "object",
        "description": (kind.__doc__ or "").strip(),
        "additionalProperties": False,
        "properties": properties,
    }


def _property(hint: Any, item: dataclasses.Field) -> dict[str, Any]:
    text = item.metadata["text"]
    if dataclasses.is_dataclass(hint):
        return {**json_schema(typing.cast(type, hint)), "description": text}
    nullable = isinstance(hint, types.UnionType)
    if nullable:
        hint = next(part for part in typing.get_args(hint) if part is not type(None))
    if typing.get_origin(hint) is tuple:
        arguments = typing.get_args(hint)
        schema: dict[str, Any] = {
            "type": "array",
            "items": _scalar(arguments[0], item.metadata),
            "minItems": 1,
        }
        if arguments[-1] is not Ellipsis:
            schema.update(minItems=len(arguments), maxItems=len(arguments))
    else:
        schema = _scalar(hint, item.metadata)
    if nullable:
        schema = {"anyOf": [schema, {"type": "null"}]}
    default = list(item.default) if isinstance(item.default, tuple) else item.default
    return {"description": text, "default": default, **schema}


def _scalar(hint: type, meta: Mapping[str, Any]) -> dict[str, Any]:
    schema: dict[str, Any] = {"type": {bool: "boolean", int: "integer", float: "number", str: "string"}[hint]}
    if meta["choices"]:
        schema["enum"] = list(meta["choices"])
    elif hint is str:
        schema["pattern"] = USABLE_TEXT
    if meta["low"] is not None:
        schema["minimum"] = meta["low"]
    if meta["high"] is not None:
        schema["maximum"] = meta["high"]
    return schema
