"""A training on several cards: one process for each, started and watched by torchrun's agent.

The agent works in a thread: in the main thread it would answer signals itself, leave at the second one, and
orphan processes that are still saving their step.
"""

import contextlib
import ctypes
import json
import logging
import os
import shutil
import signal
import sys
import tempfile
import threading
import time
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import psutil

from . import stopping
from .errors import UserError
from .settings import Runtime

LOST = 75
"""Exit status of a process that lost another one: whatever ended that one is the reason."""
GRACE_SECONDS = 120
"""Time for the processes to save their step when the training is asked to stop."""
_LAUNCHER, _REPORTS = "ECSNET_LAUNCHER", "ECSNET_REPORTS"  # not torchrun's names: others set those too


def is_worker() -> bool:
    """Whether this process is one of several of a training."""
    return _LAUNCHER in os.environ


def is_first() -> bool:
    """Whether this process is the one that speaks for its training: the first of several, or the only one."""
    return not is_worker() or os.environ["RANK"] == "0"


def stay_with_launcher() -> None:
    """Let the system end a worker whose launcher is gone: nobody would wait for it, or know of it."""
    if not is_worker() or not sys.platform.startswith("linux"):
        return
    pr_set_pdeathsig = 1
    ctypes.CDLL(None).prctl(pr_set_pdeathsig, signal.SIGKILL)
    if os.getppid() != int(os.environ[_LAUNCHER]):  # it went before the line above
        os._exit(LOST)


def processes(runtime: Runtime) -> int:
    """How many processes are to be started for a training: 1 where this one will do.

    Without a card one does, unless the CPU is asked for by name.
    """
    if runtime.gpus_per_training == 1 or is_worker():
        return 1
    import torch

    if runtime.device == "cpu" or torch.cuda.is_available():
        return runtime.gpus_per_training
    if runtime.device == "auto":
        print("runtime.gpus_per_training: there is no card; one process trains on the CPU", flush=True)
    return 1


def train(arguments: Sequence[str], runtime: Runtime) -> None:
    """Run `ecsnet` with the same arguments in a process for each card, to its end.

    Raises:
        UserError: a process failed; with its own message, or with how it ended.
    """
    if runtime.device != "cpu":
        _take_cards(runtime.gpus_per_training)
    folder = Path(tempfile.mkdtemp(prefix="ecsnet-training-"))
    os.environ[_LAUNCHER], os.environ[_REPORTS] = str(os.getpid()), str(folder)
    try:
        agent = _Agent(arguments, runtime.gpus_per_training, folder)
        with stopping.deferred():
            agent.start()
            agent.watch()
            stopped = stopping.asked()
        reason = _reason(_reports(folder), agent.failures) if agent.failures else ""
    finally:
        del os.environ[_LAUNCHER], os.environ[_REPORTS]
        shutil.rmtree(folder, ignore_errors=True)
    if stopped or (agent.failures and not reason):
        stopping.leave("")  # the first process has said it
    if reason:
        raise UserError(reason)


def _take_cards(count: int) -> None:
    """Claim cards, and let the processes see them alone."""
    from .device import claim, own_cards

    names = own_cards()
    os.environ["CUDA_VISIBLE_DEVICES"] = ",".join(names[index] for index in claim(names, count))


class _Agent(threading.Thread):
    """torchrun's agent, which starts the processes, and ends all of them when one fails.

    Attributes:
        failures: how processes failed, by rank; empty where all ended well.
    """

    def __init__(self, arguments: Sequence[str], count: int, folder: Path) -> None:
        super().__init__(daemon=True)
        self.failures: dict[int, Any] = {}
        # the agent takes $ for the beginning of a variable of its own
        self._arguments = [argument.replace("$", "$$") for argument in arguments]
        self._count, self._folder = count, folder
        self._error: BaseException | None = None

    def run(self) -> None:
        from torch.distributed.elastic.multiprocessing import DefaultLogsSpecs
        from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
        from torch.distributed.launcher.api import LaunchConfig, elastic_launch

        # what it says, we say shorter
        logging.getLogger("torch.distributed.elastic").setLevel(logging.CRITICAL)
        config = LaunchConfig(
            min_nodes=1,
            max_nodes=1,
            nproc_per_node=self._count,
            run_id=f"ecsnet-{os.getpid()}",
            rdzv_backend="c10d",
            rdzv_endpoint="localhost:0",
            local_addr="127.0.0.1",  # a machine's name may lead anywhere
            max_restarts=0,
            logs_specs=DefaultLogsSpecs(log_dir=str(self._folder)),
        )
        try:
            elastic_launch(config, sys.executable)("-m", __package__, *self._arguments)
        except ChildFailedError as error:
            self.failures = dict(error.failures)
        except BaseException as error:
            self._error = error

    def watch(self) -> None:
        """Wait for the end; pass a signal on to the processes once, and end those that do not heed it."""
        end = None
        while self.is_alive():
            self.join(0.1)
            if stopping.asked() and end is None:
                end = time.monotonic() + GRACE_SECONDS
                _signal_workers(signal.SIGTERM)
            if end and time.monotonic() > end:
                _signal_workers(signal.SIGKILL)
        if self._error and not stopping.asked():
            raise self._error


def _signal_workers(number: int) -> None:
    for child in psutil.Process().children():
        with contextlib.suppress(psutil.NoSuchProcess):
            child.send_signal(number)


def _reports(folder: Path) -> list[dict[str, Any]]:
    """What processes said of their end, the first one first."""
    found = []
    for path in folder.glob("*.json"):
        with contextlib.suppress(OSError, ValueError):
            found.append(json.loads(path.read_text(encoding="utf-8")))
    return sorted(found, key=lambda report: report["time"])


def _reason(reports: Iterable[dict[str, Any]], failures: dict[int, Any]) -> str:
    """What ended a training: what a process said of itself, else how the first one ended.

    Nothing where they were asked to stop.
    """
    told = [report["text"] for report in reports if not report["lost"]]
    if told:
        return told[0]
    in_time = sorted(failures.items(), key=lambda item: item[1].timestamp)
    for rank, failure in in_time:
        if failure.exitcode < 0 and failure.exitcode != -signal.SIGTERM:
            return (
                f"process {rank} of the training was killed ({failure.signal_name()}); if for want of "
                "memory, lower runtime.workers. The training goes on from its last saved state"
            )
    if any(failure.exitcode in stopping.STOPPED for _, failure in in_time):
        return ""
    for rank, failure in in_time:
        if failure.exitcode not in (LOST, -signal.SIGTERM):
            return f"process {rank} of the training failed (its traceback stands above)"
    lost = [report["text"] for report in reports]
    return f"the processes of the training do not reach each other: {lost[0] if lost else 'one is gone'}"


def report(stage: str, text: str, lost: bool = False) -> None:
    """Say what went wrong; one of several processes says it to the one that started them."""
    if is_worker():
        content = json.dumps({"text": text, "lost": lost, "time": time.time()})
        with contextlib.suppress(OSError):  # no space there either: then it is said here
            path = Path(os.environ[_REPORTS]) / f"{os.environ['RANK']}.json"
            path.write_text(content, encoding="utf-8")
            return
    print(f"\necsnet {stage}: {text}", file=sys.stderr, flush=True)


def is_loss_of_another(error: Exception) -> bool:
    """Whether an error may say no more than that another process of the training is gone."""
    words = ("Connection closed by peer", "Connection reset by peer", "Broken pipe", "NCCL", "gloo")
    return is_worker() and isinstance(error, RuntimeError) and any(word in str(error) for word in words)
