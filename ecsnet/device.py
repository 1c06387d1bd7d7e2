"""Which card a stage computes on, and how: nothing here changes a result."""

import ctypes
import os
import sys
from functools import cache

import torch

from .cards import claim_cards, known_as, list_cards, visible_cards
from .errors import UserError
from .launch import is_worker
from .settings import Runtime


def choose_device(runtime: Runtime, threads: int) -> torch.device:
    """The device of this process: a card that no other stage has claimed, or the CPU.

    Raises:
        UserError: `runtime.device` asks for a card and torch sees none.
    """
    torch.set_num_threads(max(1, threads))
    _keep_memory()
    if runtime.device == "cpu" or not torch.cuda.is_available():
        if runtime.device == "cuda":
            raise UserError(
                "runtime.device: cuda, but torch sees no card; set it to auto, or check the driver"
            )
        return torch.device("cpu")
    # Python code of the threads beside the network would keep it waiting for 5 ms at a time
    sys.setswitchinterval(0.0005)
    index = claimed_card()
    torch.cuda.set_device(index)
    # else convolutions round what goes in to ten bits
    torch.backends.cudnn.allow_tf32 = runtime.precision == "auto"
    torch.backends.cudnn.benchmark = False  # which a training of this process may have switched on
    return torch.device("cuda", index)


@cache
def claimed_card() -> int:
    """Index of this process's card, claimed when it is first asked for."""
    names = own_cards()
    # of a training on several cards, each process has its own
    index = int(os.environ["LOCAL_RANK"]) if is_worker() else claim(names)[0]
    print(f"device: card {names[index]} ({torch.cuda.get_device_name(index)})", flush=True)
    return index


def own_cards() -> list[str]:
    """Names of the cards that this process sees."""
    return visible_cards(os.environ.get("CUDA_VISIBLE_DEVICES"), torch.cuda.device_count())


def claim(names: list[str], count: int = 1) -> list[int]:
    """Indices of `count` cards for this process alone."""
    numbers = [name for name in names if name.isdecimal()]
    if os.environ.get("CUDA_VISIBLE_DEVICES") and len(names) == count and numbers:
        cards = list_cards()
        if not all(known_as(name, cards) for name in numbers):
            # a scheduler's choice; and it may call each job's card 0, so that the name is none to lock by
            return list(range(count))
    return claim_cards(names, count)


def _keep_memory() -> None:
    """Let glibc keep freed memory instead of handing it back to the system after each layer.

    Faulting the pages in again took up to two thirds of a training step on a CPU. The peak is unchanged.
    Beside a card it is the data workers that gain.
    """
    try:
        mallopt = ctypes.CDLL("libc.so.6").mallopt
    except (OSError, AttributeError):
        return  # another C library: slower, nothing else
    m_trim_threshold, m_mmap_max = -1, -4
    mallopt(m_mmap_max, 0)
    mallopt(m_trim_threshold, 2**31 - 1)


def autocast(device: torch.device, runtime: Runtime) -> torch.autocast:
    """Mixed precision on a card (bfloat16, or float16 on older ones); none on the CPU."""
    enabled = device.type == "cuda" and runtime.precision == "auto"
    return torch.autocast(device.type, dtype=half_type() if enabled else None, enabled=enabled)


def half_type() -> torch.dtype:
    """bfloat16 where the card computes it, else float16."""
    return torch.bfloat16 if torch.cuda.is_bf16_supported(including_emulation=False) else torch.float16


def inference_batch(runtime: Runtime, device: torch.device) -> int:
    """Pictures per forward pass.

    On a CPU one with its mirror image is nearly as fast as more (benchmarks/README.md), and what goes
    together with what does not depend on the shards then. On a card 16, or fewer on a small
    one: one for each GiB of its memory.
    """
    if runtime.inference_batch or device.type == "cpu":
        return runtime.inference_batch or 1
    _, memory = torch.cuda.mem_get_info(device)
    return max(1, min(16, round(memory / 2**30)))
