"""A card for machines without one: its tensors lie in the host's memory, but say that they do not.

Code that would end in an error on a real card ends in one here: tensors of both places in one operation,
numbers read without a copy, numbers of the wrong place in a state that is taken up. Sums come out as on the
CPU, to the last bit where they are computed in the same precision. And it counts what a card would have to
wait for: each value that the host asks for, and each copy that it does not make by the way.
"""

import sys
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode

from ecsnet import device

CARD = torch.device("cuda", 0)
VALUES = {"item", "tolist", "__bool__", "__int__", "__float__", "__index__", "__contains__", "is_nonzero"}
"""What hands a tensor's values to the host."""
SIZES = {"nonzero", "argwhere", "masked_select", "unique", "bincount", "equal", "allclose", "histc"}
"""What makes something whose size, or truth, the host must know."""
ANYWHERE = {"copy_", "_has_compatible_shallow_copy_type", "__get__", "__set__", "__getitem__", "is_set_to"}
"""What takes tensors of both places, or looks after it itself."""


class Card(TorchFunctionMode):
    """While it is entered, `cuda` is a device.

    Attributes:
        waits: how often the host waited for the card, by what it asked for.
    """

    def __init__(self) -> None:
        super().__init__()
        self.waits: Counter[str] = Counter()

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs, name = dict(kwargs or {}), getattr(func, "__name__", "")
        of = getattr(func, "__self__", None)
        if of is Tensor.device:
            return CARD if on_card(args[0]) else func(*args)
        if of is Tensor.is_cuda:
            return on_card(args[0])
        if func in (Tensor.to, Tensor.cuda, Tensor.cpu):
            return self._moved(name, args[0], args[1:], kwargs)
        if func is Tensor.pin_memory:
            assert not on_card(args[0]), "only memory of the host can be pinned"
            return args[0].clone()
        # indices may lie anywhere
        tensors = list(tensors_in([args[0], *args[2:]] if name == "__setitem__" else [args, kwargs]))
        ours = any(map(on_card, tensors))
        if name == "__set__" and of is Tensor.data:
            mark(args[0], on_card(args[1]))
        if ours and func is Tensor.numpy:
            raise TypeError("can't convert cuda:0 device type tensor to numpy. Use Tensor.cpu() first")
        self._count(name, args, ours)
        if ours and name not in ANYWHERE and not all(on_card(one) or one.dim() == 0 for one in tensors):
            raise RuntimeError(
                f"{name}: expected all tensors to be on the same device, but found cuda:0 and cpu"
            )
        if name == "__getitem__" and ours and not on_card(args[0]):
            raise RuntimeError("indices should be on the same device as the indexed tensor (cpu)")
        if kwargs.get("device") is not None:
            ours = torch.device(kwargs["device"]).type == "cuda"
            kwargs["device"] = "cpu" if ours else kwargs["device"]
        result = func(*args, **kwargs)
        if name == "copy_" or name == "__set__":
            return result
        for tensor in tensors_in(result):
            if not any(tensor is one for one in tensors):
                mark(tensor, ours)
        return result

    def _moved(self, name: str, tensor: Tensor, args: tuple, kwargs: dict) -> Tensor:
        """`Tensor.to`, `cpu` and `cuda`."""
        if name != "to":
            args = (name, *args)
        kwargs.pop("copy", None)  # it is one anyway, between the two places
        device, kind, by_the_way, order = torch._C._nn._parse_to(*args, **kwargs)
        if args and isinstance(args[0], Tensor):
            device = CARD if on_card(args[0]) else device
        there = on_card(tensor) if device is None else device.type == "cuda"
        result = tensor.to(dtype=kind, memory_format=order or torch.preserve_format)
        if there == on_card(tensor):
            return result if result is tensor else mark(result, there)
        if not by_the_way:
            self.waits[f"to the {'card' if there else 'host'}"] += 1
        return mark(result.clone() if result is tensor else result, there)

    def _count(self, name: str, args: tuple, ours: bool) -> None:
        if not ours:
            return
        by_mask = name in ("__getitem__", "__setitem__") and any(
            one.dtype in (torch.bool, torch.uint8) for one in tensors_in(args[1])
        )
        if name in VALUES or name in SIZES or by_mask or (name == "where" and len(args) == 1):
            self.waits[name] += 1


def on_card(tensor: Tensor) -> bool:
    return getattr(tensor, "_on_card", False)


def mark(tensor: Tensor, there: bool) -> Tensor:
    tensor._on_card = there
    return tensor


def tensors_in(values: Any) -> Iterator[Tensor]:
    """The tensors in nested lists, tuples and dictionaries."""
    if isinstance(values, Tensor):
        yield values
    elif isinstance(values, dict):
        yield from tensors_in(list(values.values()))
    elif isinstance(values, list | tuple):
        for value in values:
            yield from tensors_in(value)


class Event:
    """As torch.cuda.Event: all work is done at once."""

    def __init__(self, **_: Any) -> None:
        self.recorded = False

    def record(self) -> None:
        self.recorded = True

    def synchronize(self) -> None:
        assert self.recorded, "waits for nothing"


@contextmanager
def pretended_card(half: bool = True) -> Iterator[Card]:
    """A machine with one card; `half`: that computes in bfloat16, as all cards of today do."""
    card, run, cast = Card(), threading.Thread.run, torch.autocast

    def run_with_card(thread: threading.Thread) -> None:
        with card:  # a mode is one thread's alone
            run(thread)

    def autocast(kind: str, *args: Any, **kwargs: Any) -> torch.autocast:
        return cast("cpu" if kind == "cuda" else kind, *args, **kwargs)

    with pytest.MonkeyPatch.context() as patch:
        for name, value in {
            "is_available": True,
            "device_count": 1,
            "set_device": None,
            "current_device": 0,
            "synchronize": None,
            "get_device_name": "Pretended",
            "mem_get_info": (70 * 2**30, 80 * 2**30),
            "max_memory_allocated": 2**30,
            "is_bf16_supported": half,
        }.items():
            patch.setattr(torch.cuda, name, lambda *_, value=value, **__: value)
        patch.setattr(torch.cuda, "Event", Event)
        patch.setattr(torch.accelerator, "current_device_index", lambda: 0)
        patch.setattr(torch.accelerator, "set_device_index", lambda index: None)
        patch.setattr(torch, "autocast", autocast)
        patch.setattr(torch.backends.cudnn, "benchmark", False)
        patch.setattr(sys, "setswitchinterval", lambda seconds: None)
        patch.setattr(threading.Thread, "run", run_with_card)
        # a claim lasts as long as its process, which has others before it
        patch.setattr(device, "claimed_card", lambda: 0)
        with card:
            yield card
