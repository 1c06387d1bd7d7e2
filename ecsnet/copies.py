"""Copies between the host and a card that hold up neither of the two."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor


def to_device(tensor: Tensor, device: torch.device) -> Tensor:
    """A tensor of the host on a device; a card fetches it from pinned memory when it comes to that."""
    if device.type == "cuda":
        return tensor.pin_memory().to(device, non_blocking=True)
    return tensor.to(device)


@dataclass(frozen=True)
class HostCopy:
    """A tensor on its way to the host; see `to_host`."""

    tensor: Tensor
    done: torch.cuda.Event | None

    def array(self) -> np.ndarray:
        """The values, as soon as they are there."""
        if self.done is not None:
            self.done.synchronize()
        return self.tensor.numpy()


def to_host(tensors: Sequence[Tensor]) -> list[HostCopy]:
    """Copies of tensors of one device, right behind the work that makes them.

    A thread that wants them later waits for that work alone, not for what a card was given since; with
    `Tensor.cpu` it would wait for all of it.
    """
    copies = [tensor.to("cpu", non_blocking=True) for tensor in tensors]  # pinned, where from a card
    done = None
    if tensors and tensors[0].device.type == "cuda":
        done = torch.cuda.Event(blocking=True)
        done.record()
    return [HostCopy(copy, done) for copy in copies]
