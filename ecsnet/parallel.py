"""One training on several cards, a process for each: what the processes must agree on.

Every function does nothing, or next to nothing, in a training that is one process.
"""

from collections.abc import Mapping
from typing import Any

import torch
from timm.layers.norm_act import convert_sync_batchnorm  # torch's own drops timm's activations
from torch import Tensor, distributed, nn
from torch.nn import functional

from .errors import UserError
from .launch import is_worker


def size() -> int:
    """Number of processes of this training."""
    return distributed.get_world_size() if distributed.is_initialized() else 1


def rank() -> int:
    """Number of this process, from 0; the first one writes files and speaks."""
    return distributed.get_rank() if distributed.is_initialized() else 0


def join() -> None:
    """Meet the other processes, where `launch` started several."""
    if is_worker() and not distributed.is_initialized():
        # sums of numbers in memory by gloo, gradients between cards by NCCL
        backend = "cpu:gloo,cuda:nccl" if torch.cuda.is_available() else "gloo"
        distributed.init_process_group(backend)


def leave() -> None:
    """Part from the other processes."""
    if distributed.is_initialized():
        distributed.destroy_process_group()


def part(positions: range, batch_size: int) -> range:
    """This process's share of a batch's positions in the stream of crops.

    Raises:
        UserError: the batch has no equal shares.
    """
    share, rest = divmod(batch_size, size())
    if rest:
        raise UserError(
            f"batch_size: {batch_size} pictures cannot be shared equally by {size()} cards; change it or "
            "runtime.gpus_per_training"
        )
    return positions[rank() * share : (rank() + 1) * share]


def own_rows(whole: Tensor) -> Tensor:
    """This process's share of a tensor with a row for each picture of the whole batch."""
    share = len(whole) // size()
    return whole[rank() * share : (rank() + 1) * share]


def total(tensor: Tensor) -> Tensor:
    """Sum over all processes, without a gradient."""
    if size() > 1:
        tensor = tensor.detach().clone()
        distributed.all_reduce(tensor)
    return tensor


def mean(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Means over all processes, by name."""
    return {name: total(tensor) / size() for name, tensor in tensors.items()}


def any_of(*flags: bool) -> list[bool]:
    """For each flag, whether it is up in any process: all act on it at the same step."""
    if size() == 1:
        return list(flags)
    raised = torch.tensor(flags, dtype=torch.uint8)
    distributed.all_reduce(raised, distributed.ReduceOp.MAX)
    return [bool(flag) for flag in raised.tolist()]


def see_whole_batch(network: nn.Module) -> None:
    """Let batch norm that learns, and dropout, do as they would in one process with the whole batch."""
    if size() == 1:
        return
    for name, layer in list(network.named_modules()):
        if isinstance(layer, nn.Dropout):
            network.set_submodule(name, _SharedDropout(layer.p))
    if next(network.parameters()).device.type == "cuda":
        convert_sync_batchnorm(network)
        return
    for layer in network.modules():
        if isinstance(layer, nn.modules.batchnorm._BatchNorm) and layer.training:
            # torch has no synced one for CPUs. To send all pictures takes time, but is right for any such
            # layer, timm's with an activation in it too, and equal to the last bit
            layer.register_forward_pre_hook(lambda _, inputs: (_Gather.apply(inputs[0]),))
            layer.register_forward_hook(lambda _, inputs, output: own_rows(output))


class _SharedDropout(nn.Dropout):
    """Dropout by draws for the whole batch, alike in all processes, of which each takes its share."""

    def forward(self, input: Tensor) -> Tensor:
        # draws follow the order in memory, which `cat` keeps
        whole = torch.cat([torch.ones_like(input)] * size())
        return input * own_rows(functional.dropout(whole, self.p, self.training))


class _Gather(torch.autograd.Function):
    """The rows of all processes; a row's gradient is the sum of what all processes have for it."""

    @staticmethod
    def forward(context: Any, own: Tensor) -> Tensor:
        parts = [torch.empty_like(own, memory_format=torch.contiguous_format) for _ in range(size())]
        distributed.all_gather(parts, own.contiguous())
        last = own.is_contiguous(memory_format=torch.channels_last)
        order = torch.channels_last if last else torch.contiguous_format
        return torch.cat(parts).contiguous(memory_format=order)

    @staticmethod
    def backward(context: Any, gradient: Tensor) -> Tensor:
        return own_rows(total(gradient.contiguous()))


def wait() -> None:
    """Wait until all processes are here."""
    if size() > 1:
        distributed.barrier()


def say(text: str) -> None:
    """Print a line, once."""
    if rank() == 0:
        print(text, flush=True)


def share_gradients(module: nn.Module) -> nn.Module:
    """The module, whose gradients will be the means over all processes."""
    if size() == 1:
        return module
    device = next(module.parameters()).device
    ids = [device.index] if device.type == "cuda" else None
    return nn.parallel.DistributedDataParallel(module, device_ids=ids)
