"""Times taken side by side, and tables of them."""

import contextlib
import gc
import io
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

import torch

Row = dict[str, object]


def wait_for_card() -> None:
    """Until the card, where there is one, has done what it was given."""
    if torch.cuda.is_available():
        torch.cuda.synchronize()


def seconds(work: Callable[[], object]) -> float:
    """Wall-clock seconds of a call, what it prints taken away."""
    gc.collect()
    wait_for_card()
    with contextlib.redirect_stdout(io.StringIO()):
        start = time.perf_counter()
        work()
        wait_for_card()
        return time.perf_counter() - start


def least(work: Callable[[], object], repeats: int = 3) -> float:
    """Least seconds of some calls."""
    return min(seconds(work) for _ in range(repeats))


def side_by_side(works: dict[str, Callable[[], object]], repeats: int = 3) -> dict[str, float]:
    """Least seconds of each of several works, which take turns: what disturbs one disturbs all."""
    return in_turns({name: partial(seconds, work) for name, work in works.items()}, repeats)


def in_turns(measurements: dict[str, Callable[[], float]], repeats: int) -> dict[str, float]:
    """The least of each of several measurements of seconds, which take turns."""
    taken: dict[str, list[float]] = {name: [] for name in measurements}
    for _ in range(repeats):
        for name, measure in measurements.items():
            taken[name].append(measure())
    return {name: min(times) for name, times in taken.items()}


def table(rows: Sequence[Row]) -> str:
    """Rows as a Markdown table; numbers with three digits that count."""
    names = list(rows[0])
    lines = [names, ["---"] * len(names), *([shown(row[name]) for name in names] for row in rows)]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def shown(value: object) -> str:
    """A cell's text."""
    if not isinstance(value, float):
        return "" if value is None else str(value)
    return f"{value:.0f}" if abs(value) >= 100 else f"{value:.3g}"


def write(rows: Sequence[Row], path: Path, head: str) -> None:
    """Print rows, and write them as a Markdown table below a line that says what was measured on what."""
    text = f"{head}\n\n{table(rows)}"
    print(f"\n{path.stem}\n\n{text}", flush=True)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")
