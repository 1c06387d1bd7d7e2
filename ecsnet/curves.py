"""A training's history for TensorBoard, where `runtime.tensorboard` asks for it.

Imports nothing heavy: the Snakefile asks whether the package is there.
"""

import importlib.util
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from .errors import UserError
from .settings import Runtime

Row = Mapping[str, float]
"""A row of a history: step, epoch, and what TensorBoard gets a curve of."""


def require_package(runtime: Runtime) -> None:
    """Check that TensorBoard is there, if it is asked for.

    Raises:
        UserError: it is not.
    """
    if runtime.tensorboard and importlib.util.find_spec("tensorboard") is None:
        raise UserError(
            "runtime.tensorboard: the package tensorboard is not installed; run `pip install tensorboard` in "
            "ecsnet's environment, or set it to false"
        )


class Curves:
    """Event files in a folder, a curve for each column of the history.

    They hold the history and nothing else: what an earlier training left is removed, and the rows of one that
    goes on are written anew. So each step stands there once.
    """

    def __init__(self, runtime: Runtime, file: Path, is_first: bool) -> None:
        """The folder is `tensorboard`, in one that has the name of a file, and lies beside it.

        Nothing is written unless it is asked for, and this is the first process of a training.
        """
        require_package(runtime)
        self._folder = file.with_suffix("") / "tensorboard" if runtime.tensorboard and is_first else None
        self._shown = 0
        self._writer: Any = None

    def show(self, rows: Sequence[Row]) -> None:
        """Write the rows of the history that are not yet written."""
        if self._folder is None or self._shown == len(rows):
            return
        if self._writer is None:
            self._writer = _new_writer(self._folder)
        for row in rows[self._shown :]:
            for name, value in row.items():
                if name not in ("step", "epoch"):
                    self._writer.add_scalar(name, value, int(row["step"]))
        self._shown = len(rows)
        self._writer.flush()


def _new_writer(folder: Path) -> Any:
    from torch.utils.tensorboard import SummaryWriter  # takes a second

    for path in folder.glob("events.out.tfevents.*"):
        path.unlink()
    return SummaryWriter(str(folder))
