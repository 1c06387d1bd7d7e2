"""Which card a stage computes on, and how: nothing here changes a result."""

import ctypes
import fcntl
import os
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import IO

import torch

from .errors import UserError
from .settings import Runtime

_held: list[IO[str]] = []  # open lock files: the claim lasts as long as the process


def choose_device(runtime: Runtime, threads: int) -> torch.device:
    """The device of this process: a card that no other stage has claimed, or the CPU.

    Raises:
        UserError: `runtime.device` asks for a card and torch sees none.
    """
    torch.set_num_threads(max(1, threads))
    if runtime.device == "cpu" or not torch.cuda.is_available():
        if runtime.device == "cuda":
            raise UserError(
                "runtime.device: cuda, but torch sees no card; set it to auto, or check the driver"
            )
        _keep_memory()
        return torch.device("cpu")
    variable = os.environ.get("CUDA_VISIBLE_DEVICES")
    cards = visible_cards(variable, torch.cuda.device_count())
    # one card named for us, as a scheduler does, is ours already
    index = 0 if variable and len(cards) == 1 else claim_card(cards)
    torch.cuda.set_device(index)
    print(f"device: card {cards[index]} ({torch.cuda.get_device_name(index)})", flush=True)
    return torch.device("cuda", index)


def _keep_memory() -> None:
    """Let glibc keep freed memory instead of handing it back to the system after each layer.

    Faulting the pages in again took up to two thirds of a training step on a CPU. The peak is unchanged.
    """
    try:
        mallopt = ctypes.CDLL("libc.so.6").mallopt
    except (OSError, AttributeError):
        return  # another C library: slower, nothing else
    m_trim_threshold, m_mmap_max = -1, -4
    mallopt(m_mmap_max, 0)
    mallopt(m_trim_threshold, 2**31 - 1)


def visible_cards(variable: str | None, count: int) -> list[str]:
    """Names of the visible cards: CUDA_VISIBLE_DEVICES' own (numbers, UUIDs, MIG), or 0, 1, …

    A scheduler such as SLURM names exactly the cards that are ours; on a shared machine without one,
    the names tell the cards apart for `claim_card`.
    """
    if variable:
        return [name.strip() for name in variable.split(",")][:count]
    return [str(index) for index in range(count)]


def claim_card(cards: Sequence[str], folder: Path | None = None, poll: float = 1.0) -> int:
    """Index of a card whose lock file this process now holds; waits until one is free.

    Snakemake counts cards but assigns none, so two jobs would both take the first. The lock (flock)
    is released by the kernel when the process ends, however it ends.
    """
    folder = folder or Path(tempfile.gettempdir()) / f"ecsnet-cards-{os.getuid()}"
    folder.mkdir(mode=0o700, exist_ok=True)
    waited = False
    while True:
        for index, card in enumerate(cards):
            lock = (folder / card.replace("/", "_")).open("w")
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                lock.close()
                continue
            _held.append(lock)
            return index
        if not waited:
            print(f"waiting for one of the cards {', '.join(cards)}: other stages hold them all", flush=True)
            waited = True
        time.sleep(poll)


def autocast(device: torch.device, runtime: Runtime) -> torch.autocast:
    """Mixed precision on a card (bfloat16, or float16 on older ones); none on the CPU."""
    enabled = device.type == "cuda" and runtime.precision == "auto"
    return torch.autocast(device.type, dtype=half_type() if enabled else None, enabled=enabled)


def half_type() -> torch.dtype:
    """bfloat16 where the card computes it, else float16."""
    return torch.bfloat16 if torch.cuda.is_bf16_supported(including_emulation=False) else torch.float16


def inference_batch(runtime: Runtime, device: torch.device) -> int:
    """Pictures per forward pass; on a CPU one at a time stays in its caches and is fastest."""
    return runtime.inference_batch or (16 if device.type == "cuda" else 1)
