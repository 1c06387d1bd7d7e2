"""One training loop for the classifier, ECS-Net and DeepLab.

SGD with the poly schedule. Everything random is a function of (seed, step), so that a training that
was killed and resumed takes the same steps as one that was not.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader

from . import parallel, stopping
from .curves import Curves
from .device import autocast, choose_device, half_type
from .errors import UserError
from .images import RandomCrops
from .networks import Network, save_network, set_training_mode
from .progress import Progress
from .resume import ResumeFile, State
from .settings import Runtime, Training
from .store import write_text

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
        log: log of the job; None: without one.
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
    log: Path | None = None

    @property
    def steps(self) -> int:
        return max(1, round(self.settings.epochs * len(self.crops) / self.settings.batch_size))


def train(job: Job) -> None:
    """Run a training to its end, from its resume file if there is one, and write its results.

    Raises:
        UserError: the loss is not finite; the last good state is kept.
    """
    device, learner = start(job)
    keeper = ResumeFile(job)
    state = keeper.load(learner)
    curves = Curves(job.runtime, job.log or job.history, parallel.rank() == 0)
    progress = Progress(job.stage, job.steps, "steps", state.step)
    with stopping.deferred():
        for batch in batches(job, state.step, device):
            losses = learner.step(state.step, batch)
            _record(job, state, losses, learner.rate)
            curves.show(state.rows)
            if parallel.rank() == 0:
                progress.step(note=f"loss {state.rows[-1]['loss']:.3f}" if state.rows else "")
            stop, due = parallel.any_of(stopping.asked(), keeper.is_due(state))
            if stop:
                break
            if due:
                keeper.save(learner, state)
        saved = keeper.save(learner, state)
        if state.step < job.steps:
            step = f"step {state.step} of {job.steps}" if saved else "the last good state before this step"
            note = f"{step} is saved, and the same command goes on from there"
            stopping.leave(note)
        # the state of the last step stays: were this job killed before Snakemake has noted its end, its
        # outputs would be deleted
        if parallel.rank() == 0:
            _finish(job, state)
    parallel.leave()


class Learner:
    """A network and what moves it down its loss, one step after the other.

    Attributes:
        rate: learning rate of the last step, that of the backbone.
    """

    def __init__(self, job: Job, network: Network) -> None:
        self.job, self.network = job, network
        device = next(network.parameters()).device
        self.optimizer = make_optimizer(network, job.settings)
        self.scaler = torch.amp.GradScaler(enabled=device.type == "cuda" and half_type() == torch.float16)
        self.rate = 0.0
        self._loss = parallel.share_gradients(_Loss(network, job.loss))

    def step(self, number: int, batch: Batch) -> dict[str, Tensor]:
        """One step down the loss; the loss and its terms."""
        settings = self.job.settings
        _set_rates(self.optimizer, settings, number, self.job.steps)
        self.rate = self.optimizer.param_groups[0]["lr"]
        # what is drawn is drawn for the whole batch, alike in each process
        torch.manual_seed(settings.seed * 1_000_003 + number)
        with autocast(batch["image"].device, self.job.runtime):
            terms = self._loss(batch)
        total = torch.stack(list(terms.values())).sum()
        self.optimizer.zero_grad(set_to_none=True)
        self.scaler.scale(total).backward()
        self.scaler.step(self.optimizer)
        self.scaler.update()
        return {"loss": total, **terms}


def start(job: Job) -> tuple[torch.device, Learner]:
    """The device that a training runs on, and its network there, ready to learn."""
    device = choose_device(job.runtime, job.threads)
    if device.type == "cpu":
        torch.set_num_threads(job.settings.cpu_threads)  # any other number rounds differently
    torch.backends.cudnn.benchmark = device.type == "cuda"  # its crops are all of one shape
    parallel.join()
    network = job.network.to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    set_training_mode(network, job.settings)
    parallel.see_whole_batch(network)
    return device, Learner(job, network)


class _Loss(nn.Module):
    """A loss as a module, the form in which gradients can be shared between processes."""

    def __init__(self, network: Network, loss: Loss) -> None:
        super().__init__()
        self.network, self.loss = network, loss

    def forward(self, batch: Batch) -> dict[str, Tensor]:
        return self.loss(self.network, batch)


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


def batches(job: Job, first: int, device: torch.device) -> Iterator[Batch]:
    """The batches of all steps from `first` on, on the device, cropped by workers ahead of it."""
    size = job.settings.batch_size
    whole = (range(step * size, (step + 1) * size) for step in range(first, job.steps))
    positions = [parallel.part(batch, size) for batch in whole]
    loader = DataLoader(
        job.crops,
        batch_sampler=positions,  # type: ignore[arg-type]
        num_workers=workers(job),
        # the maps' readers are open files: forked workers inherit them, others could not be given them
        multiprocessing_context="fork" if workers(job) else None,
        worker_init_fn=stopping.ignore_in_worker,
        pin_memory=device.type == "cuda",
    )
    for batch in _with_plain_errors(loader):
        batch = {name: tensor.to(device, non_blocking=True) for name, tensor in batch.items()}
        # maps come as bytes, an eighth of what losses take
        batch = {name: one.long() if one.dtype == torch.uint8 else one for name, one in batch.items()}
        batch["image"] = batch["image"].contiguous(memory_format=torch.channels_last)
        yield batch


def workers(job: Job) -> int:
    """Processes that decode and crop for this one."""
    given = job.runtime.workers
    return max(1, job.threads // parallel.size() - 1) if given is None else given


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
            "runtime.workers (0 needs least), and where /dev/shm is small, as in containers, give it more. "
            "The training goes on from its last saved state"
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
    means = {name: (sum_ / state.summed).item() for name, sum_ in parallel.mean(state.sums).items()}
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
