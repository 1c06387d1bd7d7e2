"""Every setting as a page of documentation, docs/configuration.md; `make schema` writes it."""

import dataclasses
import json
import typing
from typing import Any

from .schema import describe
from .settings import Config

HEAD = """\
# Configuration

Generated from `ecsnet/settings.py` by `make schema`. [config/config.yaml](../config/config.yaml) has the same
keys with their defaults, and a comment on how to choose each. A run of your own is a small YAML file that
names what differs; several, after `--configfile`, are merged, the later ones over the earlier. Editors
that know [the schema](../workflow/schemas/config.schema.yaml) complete keys and check values as you type.
`ecsnet <stage> --help` shows a stage's own section.
"""


def configuration() -> str:
    """The page, as Markdown."""
    hints = typing.get_type_hints(Config)
    fields = [item for item in dataclasses.fields(Config) if not item.metadata["inherited"]]
    plain = [item for item in fields if not dataclasses.is_dataclass(hints[item.name])]
    rows = [(item.name, item.default, item.metadata["text"]) for item in plain]
    parts = [HEAD, _table(rows)]
    for item in fields:
        if item not in plain:
            kind = typing.cast(type, hints[item.name])
            parts.append(
                f"## `{item.name}`\n\n{item.metadata['text'][0].upper()}{item.metadata['text'][1:]}.\n"
            )
            parts.append(_table(describe(kind, inherited=False)))
    return "\n".join(parts)


def _table(rows: list[tuple[str, Any, str]]) -> str:
    lines = [
        f"| `{name}` | `{json.dumps(default, ensure_ascii=False)}` | {_cell(text)} |\n"
        for name, default, text in rows
    ]
    return "| key | default | meaning |\n|---|---|---|\n" + "".join(lines)


def _cell(text: str) -> str:
    """A text that ends no column."""
    return text.replace("|", "\\|").replace("\n", " ").replace("<", "&lt;")
