"""Digests of a stage's code: change when, and only when, what the stage computes may change.

Snakemake does not look into the modules that a rule's command imports. So every rule has these
digests among its params: of the syntax trees of the stage's module and of all ecsnet modules that it
imports, directly or not, without docstrings, comments and layout.
"""

import ast
import functools
import hashlib
import json
from pathlib import Path

PACKAGE = Path(__file__).parent

NO_RESULT = frozenset(
    [
        *("cards", "cli", "copies", "curves", "device", "digest", "errors", "late", "launch", "progress"),
        *("schema", "settings", "stopping", "terminal"),
    ]
)
"""Modules that change no result: how to run, what to print; settings reach a stage as values."""


def code_digest(stage: str, package: Path = PACKAGE) -> str:
    """JSON text with twelve hexadecimal digits for each module that `stage` consists of.

    Sorted by module, {"ecsnet/cam.py": "5f0c…", …}, so that two of them tell which modules differ.
    """
    paths = {f"{PACKAGE.name}/{name}.py": _path(name, package) for name in modules_of(stage, package)}
    return json.dumps({name: _digest(path) for name, path in sorted(paths.items())})


def modules_of(stage: str, package: Path = PACKAGE) -> set[str]:
    """The stage's module and the ecsnet modules it imports, directly or not, less `NO_RESULT`."""
    found: set[str] = set()
    waiting = [stage]
    while waiting:
        name = waiting.pop()
        if name not in found and name not in NO_RESULT:
            found.add(name)
            waiting += _imports(_path(name, package), package)
    return found


def _path(name: str, package: Path) -> Path:
    return package / f"{name}.py"


def _imports(path: Path, package: Path) -> set[str]:
    """Names of the package's modules that a module imports by `from .name` or `from . import name`."""
    return {name for name in _names_imported(path, path.read_bytes()) if _path(name, package).exists()}


@functools.cache
def _names_imported(path: Path, content: bytes) -> frozenset[str]:
    names: set[str] = set()
    for node in ast.walk(ast.parse(content, str(path))):
        if isinstance(node, ast.ImportFrom) and node.level == 1:
            names |= {node.module} if node.module else {alias.name for alias in node.names}
    return frozenset(names)


def _digest(path: Path) -> str:
    """Of the syntax tree without docstrings (a string that stands alone as a statement)."""
    return _tree_digest(path, path.read_bytes())


@functools.cache
def _tree_digest(path: Path, content: bytes) -> str:
    tree = ast.dump(_WithoutDocstrings().visit(ast.parse(content, str(path))))
    return hashlib.blake2b(tree.encode(), digest_size=6).hexdigest()


class _WithoutDocstrings(ast.NodeTransformer):
    def visit_Expr(self, node: ast.Expr) -> ast.Expr | None:
        is_text = isinstance(node.value, ast.Constant) and isinstance(node.value.value, str)
        return None if is_text else node
