"""A training on several cards: one process for each, started and watched by torchrun's agent."""

import json
import logging
import os
import signal
import sys
import time
from collections.abc import Sequence

from . import stopping
from .errors import UserError
from .settings import Runtime

LOST = 75
"""Exit status of a process that lost another one: whatever ended that one is the reason."""


def is_worker() -> bool:
    """Whether this process is one of several of a training."""
    return "WORLD_SIZE" in os.environ


def is_first() -> bool:
    """Whether this process is the one that speaks for its training: the first of several, or the only one."""
    return os.environ.get("RANK", "0") == "0"


def processes(runtime: Runtime) -> int:
    """How many processes are to be started for a training: 1 where this one will do.

    Without a card one does, unless the CPU is asked for by name.
    """
    if runtime.gpus_per_training == 1 or is_worker():
        return 1
    import torch

    if runtime.device == "cpu" or torch.cuda.is_available():
        return runtime.gpus_per_training
    print("runtime.gpus_per_training: there is no card; one process trains on the CPU", flush=True)
    return 1


def train(arguments: Sequence[str], runtime: Runtime) -> None:
    """Run `ecsnet` with the same arguments in a process for each card, to its end.

    Raises:
        UserError: a process failed; with its own message, or with how it ended.
    """
    from torch.distributed.elastic.multiprocessing import DefaultLogsSpecs, SignalException
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
    from torch.distributed.launcher.api import LaunchConfig, elastic_launch

    count = runtime.gpus_per_training
    if runtime.device != "cpu":
        _take_cards(count)
    logging.getLogger("torch.distributed.elastic").setLevel(logging.CRITICAL)  # what it says, we say shorter
    config = LaunchConfig(
        min_nodes=1,
        max_nodes=1,
        nproc_per_node=count,
        run_id=f"ecsnet-{os.getpid()}",
        rdzv_backend="c10d",
        rdzv_endpoint="localhost:0",
        max_restarts=0,
        logs_specs=DefaultLogsSpecs(),
    )
    try:
        elastic_launch(config, sys.executable)("-m", __package__, *arguments)
    except ChildFailedError as error:
        ends = [failure.exitcode for failure in error.failures.values()]
        if any(end in stopping.STOPPED for end in ends):
            stopping.leave("")  # the first process has said it
        raise UserError(_reason(error.failures)) from None
    except SignalException as error:
        stopping.leave("", error.sigval)


def _reason(failures: dict) -> str:
    """What ended a training: what a process said of itself, else how the first one ended."""
    in_time = sorted(failures.items(), key=lambda item: item[1].timestamp)
    for _, failure in in_time:
        if os.path.isfile(failure.error_file):
            return failure.message
    others = [item for item in in_time if item[1].exitcode not in (LOST, -signal.SIGTERM)] or in_time
    rank, failure = others[0]
    if failure.exitcode < 0:
        return (
            f"process {rank} of the training was killed ({failure.signal_name()}); if for want of memory, "
            "lower runtime.workers. The training goes on from its last saved state"
        )
    return f"process {rank} of the training failed (its traceback stands above)"


def _take_cards(count: int) -> None:
    """Claim cards, and let the processes see them alone."""
    from .device import claim, own_cards

    names = own_cards()
    os.environ["CUDA_VISIBLE_DEVICES"] = ",".join(names[index] for index in claim(names, count))


def report(stage: str, text: str) -> None:
    """Say what went wrong; one of several processes says it to the one that started them."""
    path = os.environ.get("TORCHELASTIC_ERROR_FILE") if is_worker() else None
    if path:
        with open(path, "w", encoding="utf-8") as file:
            json.dump({"message": text, "timestamp": int(time.time())}, file)
    else:
        print(f"\necsnet {stage}: {text}", file=sys.stderr, flush=True)


def is_loss_of_another(error: Exception) -> bool:
    """Whether an error says no more than that another process of the training is gone."""
    words = ("Connection closed by peer", "Connection reset by peer", "Broken pipe", "NCCL", "gloo")
    return is_worker() and isinstance(error, RuntimeError) and any(word in str(error) for word in words)
