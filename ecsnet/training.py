"""One training loop for the classifier, ECS-Net and DeepLab.

SGD with the poly schedule. Everything random is a function of (seed, step), so that a training that
was killed and resumed takes the same steps as one that was not.
"""

import json
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor
from torch.utils.data import DataLoader

from . import stopping
from .device import autocast, choose_device, half_type
from .digest import code_digest
from .errors import UserError
from .images import RandomCrops
from .networks import Network, save_network, set_training_mode
from .progress import Progress
from .settings import Runtime, Training
from .store import atomic_path, file_fingerprint, fingerprint, write_text

Batch = dict[str, Tensor]
Loss = Callable[[Any, Batch], dict[str, Tensor]]
"""Named loss terms of a batch; their sum is minimised."""

HISTORY_ROWS = 50


@dataclass(frozen=True)
class Job:
    """A training: what is trained on what, and where its results go.

    Attributes:
        stage: name of the stage, for messages and the digest of its code.
        inputs: files that the result depends on; a resume file of others is not used.
        out: weights file; the resume file lies beside it.
        history: table of losses.
    """

    stage: str
    network: Network
    crops: RandomCrops
    loss: Loss
    settings: Training
    runtime: Runtime
    threads: int
    inputs: list[Path]
    out: Path
    history: Path

    @property
    def steps(self) -> int:
        return max(1, round(self.settings.epochs * len(self.crops) / self.settings.batch_size))


@dataclass
class State:
    """Where a training stands."""

    step: int = 0
    rows: list[dict[str, float]] = field(default_factory=list)
    sums: dict[str, Tensor] = field(default_factory=dict)
    summed: int = 0


def train(job: Job) -> None:
    """Run a training to its end, from its resume file if there is one, and write its results.

    Raises:
        UserError: the loss is not finite; the last good state is kept.
    """
    device = choose_device(job.runtime, job.threads)
    if device.type == "cpu":
        torch.set_num_threads(job.settings.cpu_threads)  # any other number rounds differently
    network = job.network.to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    set_training_mode(network, job.settings)
    optimizer = make_optimizer(network, job.settings)
    keeper = ResumeFile(job)
    state = keeper.load(network, optimizer)
    scaler = torch.amp.GradScaler(enabled=device.type == "cuda" and half_type() == torch.float16)
    progress = Progress(job.stage, job.steps, "steps", state.step)
    with stopping.deferred():
        for batch in _batches(job, state.step, device):
            _set_rates(optimizer, job.settings, state.step, job.steps)
            torch.manual_seed(job.settings.seed * 1_000_003 + state.step)  # dropout's draws
            losses = _take_step(job, network, optimizer, scaler, batch)
            _record(job, state, losses, optimizer.param_groups[0]["lr"])
            progress.step(note=f"loss {state.rows[-1]['loss']:.3f}" if state.rows else "")
            if stopping.asked():
                break
            keeper.save_if_due(network, optimizer, state)
        saved = keeper.save(network, optimizer, state)
        if state.step < job.steps:
            step = f"step {state.step} of {job.steps}" if saved else "the last good state before this step"
            stopping.leave(f"{step} is saved, and the same command goes on from there")
        # the state of the last step stays: were this job killed before Snakemake has noted its end, its
        # outputs would be deleted
        _finish(job, state)


def _take_step(
    job: Job, network: Network, optimizer: torch.optim.SGD, scaler: torch.amp.GradScaler, batch: Batch
) -> dict[str, Tensor]:
    """One step down the loss; the loss and its terms."""
    with autocast(batch["image"].device, job.runtime):
        terms = job.loss(network, batch)
    total = torch.stack(list(terms.values())).sum()
    optimizer.zero_grad(set_to_none=True)
    scaler.scale(total).backward()
    scaler.step(optimizer)
    scaler.update()
    return {"loss": total, **terms}


def make_optimizer(network: Network, settings: Training) -> torch.optim.SGD:
    """SGD with two groups: the backbone, and the heads at `head_factor` times its rate."""
    groups: dict[bool, list[Tensor]] = {True: [], False: []}
    for name, parameter in network.named_parameters():
        if parameter.requires_grad:
            groups[name.startswith("features.")].append(parameter)
    return torch.optim.SGD(
        [{"params": groups[True], "factor": 1.0}, {"params": groups[False], "factor": settings.head_factor}],
        lr=settings.learning_rate,
        momentum=settings.momentum,
        weight_decay=settings.weight_decay,
    )


def poly_rate(step: int, steps: int, settings: Training) -> float:
    """Learning rate of a step: lr (1 − step/steps)^power, rising linearly over the warm-up."""
    rate = settings.learning_rate * (1 - step / steps) ** settings.poly_power
    warmup = settings.warmup * steps
    return rate * min(1.0, (step + 1) / warmup) if warmup else rate


def _set_rates(optimizer: torch.optim.SGD, settings: Training, step: int, steps: int) -> None:
    for group in optimizer.param_groups:
        group["lr"] = poly_rate(step, steps, settings) * group["factor"]


def _batches(job: Job, first: int, device: torch.device) -> Iterator[Batch]:
    size = job.settings.batch_size
    positions = [range(step * size, (step + 1) * size) for step in range(first, job.steps)]
    workers = job.runtime.workers if job.runtime.workers is not None else max(1, job.threads - 1)
    loader = DataLoader(
        job.crops,
        batch_sampler=positions,  # type: ignore[arg-type]
        num_workers=workers,
        # the maps' readers are open files: forked workers inherit them, others could not be given them
        multiprocessing_context="fork" if workers else None,
        worker_init_fn=stopping.ignore_in_worker,
        pin_memory=device.type == "cuda",
    )
    for batch in _with_plain_errors(loader):
        batch = {name: tensor.to(device, non_blocking=True) for name, tensor in batch.items()}
        batch["image"] = batch["image"].contiguous(memory_format=torch.channels_last)
        yield batch


def _with_plain_errors(loader: DataLoader) -> Iterator[Batch]:
    """The loader's batches; a worker's `UserError` without the traceback that torch wraps it in."""
    try:
        yield from loader
    except UserError as error:
        raise UserError(str(error).rsplit("UserError: ", 1)[-1].rstrip()) from None
    except RuntimeError as error:
        if not str(error).startswith("DataLoader worker (pid"):
            raise  # an error within a worker, not its death
        raise UserError(
            f"a data worker died ({str(error).splitlines()[0]}); if it was killed for want of memory, lower "
            "runtime.workers (0 needs least). The training goes on from its last saved state"
        ) from None


def _record(job: Job, state: State, terms: dict[str, Tensor], rate: float) -> None:
    """Add a step's losses; close a history row where one is due, the only point that waits for the card."""
    for name, value in terms.items():
        value = value.detach().double()
        state.sums[name] = state.sums[name] + value if name in state.sums else value
    state.step += 1
    state.summed += 1
    if state.step % max(1, job.steps // HISTORY_ROWS) and state.step != job.steps:
        return
    means = {name: (total / state.summed).item() for name, total in state.sums.items()}
    if not all(map(_finite, means.values())):
        raise UserError(
            f"{job.stage}: the loss is not finite at step {state.step} of {job.steps} ({means}); lower "
            f"{job.stage}.learning_rate, or set runtime.precision to float32, with which the training goes "
            "on from its last good state"
        )
    epoch = state.step * job.settings.batch_size / len(job.crops)
    row = {"epoch": round(epoch, 4), "step": state.step, "learning_rate": rate}
    state.rows.append(row | {name: round(mean, 6) for name, mean in means.items()})
    state.sums, state.summed = {}, 0


def _finite(value: float) -> bool:
    return abs(value) < float("inf")


def _finish(job: Job, state: State) -> None:
    write_text(job.history, pd.DataFrame(state.rows).to_csv(index=False, lineterminator="\n"))
    save_network(job.out, job.network, job.settings)


class ResumeFile:
    """The state of an unfinished training, beside its output but declared nowhere.

    Snakemake deletes the declared outputs of a job that failed; this file stays, and is used when the
    same code is run with the same settings on the same inputs again.
    """

    def __init__(self, job: Job) -> None:
        self.path = job.out.with_name(f"{job.out.stem}.resume.safetensors")
        self.stamp = _stamp(job)
        self.interval = job.runtime.checkpoint_seconds
        self.total = job.steps
        self._last = time.monotonic()

    def load(self, network: Network, optimizer: torch.optim.SGD) -> State:
        """Bring network and optimizer to the kept state; a new state where there is none that fits."""
        if not self.path.exists():
            return State()
        try:
            with safe_open(self.path, framework="pt") as file:
                metadata = file.metadata() or {}
                tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        except (SafetensorError, OSError) as error:
            print(f"{self.path}: damaged ({error}); the training starts anew", flush=True)
            return State()
        if metadata.get("stamp") != self.stamp:
            print(f"{self.path}: of other settings, code or inputs; the training starts anew", flush=True)
            return State()
        network.load_state_dict({name: tensors[f"network.{name}"] for name in network.state_dict()})
        for index, parameter in enumerate(_parameters(optimizer)):
            if f"momentum.{index}" in tensors:
                momentum = tensors[f"momentum.{index}"].to(parameter.device)
                optimizer.state[parameter]["momentum_buffer"] = momentum
        state = State(int(metadata["step"]), json.loads(metadata["rows"]), {}, int(metadata["summed"]))
        device = next(network.parameters()).device
        state.sums = {name: tensors[f"sum.{name}"].to(device) for name in json.loads(metadata["sums"])}
        print(f"resuming at step {state.step} of {self.total}", flush=True)
        return state

    def save_if_due(self, network: Network, optimizer: torch.optim.SGD, state: State) -> None:
        """Write the state, at most every `runtime.checkpoint_seconds`."""
        if time.monotonic() - self._last >= self.interval and state.step < self.total:
            self.save(network, optimizer, state)

    def save(self, network: Network, optimizer: torch.optim.SGD, state: State) -> bool:
        """Write the state; False, and nothing is written, if it is not finite."""
        if not all(tensor.isfinite().all() for tensor in [*state.sums.values(), *network.parameters()]):
            return False  # the next history row stops the training; the state before it is the good one
        tensors = {f"network.{name}": tensor for name, tensor in network.state_dict().items()}
        for index, parameter in enumerate(_parameters(optimizer)):
            if "momentum_buffer" in optimizer.state[parameter]:
                tensors[f"momentum.{index}"] = optimizer.state[parameter]["momentum_buffer"]
        tensors |= {f"sum.{name}": total for name, total in state.sums.items()}
        metadata = {
            "stamp": self.stamp,
            "step": str(state.step),
            "rows": json.dumps(state.rows),
            "summed": str(state.summed),
            "sums": json.dumps(list(state.sums)),
        }
        with atomic_path(self.path) as temporary:
            save_file({name: tensor.contiguous() for name, tensor in tensors.items()}, temporary, metadata)
        self._last = time.monotonic()
        return True


def _parameters(optimizer: torch.optim.SGD) -> list[Tensor]:
    return [parameter for group in optimizer.param_groups for parameter in group["params"]]


def _stamp(job: Job) -> str:
    """What a resume file must agree with: code, settings, and the inputs' content."""
    inputs = [(path.name, file_fingerprint(path)) for path in job.inputs]
    text = repr((code_digest(job.stage), job.settings, inputs, torch.__version__))
    return fingerprint(text.encode())
