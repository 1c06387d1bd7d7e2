"""The state of an unfinished training, from which it goes on."""

import json
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from . import parallel
from .backbone import write_weights
from .digest import code_digest
from .late import look_anew
from .store import file_fingerprint, fingerprint

if TYPE_CHECKING:
    from .training import Job, Learner


@dataclass
class State:
    """Where a training stands."""

    step: int = 0
    rows: list[dict[str, float]] = field(default_factory=list)
    sums: dict[str, Tensor] = field(default_factory=dict)
    summed: int = 0


class ResumeFile:
    """The state of an unfinished training, beside its output but declared nowhere.

    Snakemake deletes the declared outputs of a job that failed; this file stays, and is used when the
    same code is run with the same settings on the same inputs again.
    """

    def __init__(self, job: "Job") -> None:
        self.path = job.out.with_name(f"{job.out.stem}.resume.safetensors")
        self.stamp = _stamp(job)
        self.interval = job.runtime.checkpoint_seconds
        self.total = job.steps
        self._last = time.monotonic()

    def load(self, learner: "Learner") -> State:
        """Bring a learner to the kept state; a new state where there is none that fits."""
        network, optimizer = learner.network, learner.optimizer
        # the node that trained until now may be another one. It is not waited for: most often there is none,
        # and a training that misses it, or goes on from an earlier one, ends with the same weights, later
        look_anew(self.path.parent)
        if not self.path.exists():
            return State()
        try:
            with safe_open(self.path, framework="pt") as file:
                metadata = file.metadata() or {}
                tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        except (SafetensorError, OSError) as error:
            parallel.say(f"{self.path}: damaged ({error}); the training starts anew")
            return State()
        if metadata.get("stamp") != self.stamp:
            parallel.say(f"{self.path}: of other settings, code or inputs; the training starts anew")
            return State()
        network.load_state_dict({name: tensors[f"network.{name}"] for name in network.state_dict()})
        for name, parameter in network.named_parameters():
            # none yet where no step was taken
            if parameter.requires_grad and f"momentum.{name}" in tensors:
                # in the parameter's layout of memory, without which a card takes a step one by one
                momentum = torch.empty_like(parameter, requires_grad=False)
                optimizer.state[parameter]["momentum_buffer"] = momentum.copy_(tensors[f"momentum.{name}"])
        state = State(int(metadata["step"]), json.loads(metadata["rows"]), {}, int(metadata["summed"]))
        device = next(network.parameters()).device
        state.sums = {name: tensors[f"sum.{name}"].to(device) for name in json.loads(metadata["sums"])}
        scaler = json.loads(metadata["scaler"])
        if learner.scaler.is_enabled() and scaler:  # empty from where none was needed
            learner.scaler.load_state_dict(scaler)
        parallel.say(f"resuming at step {state.step} of {self.total}")
        return state

    def is_due(self, state: State) -> bool:
        """Whether `runtime.checkpoint_seconds` have passed since the state was last written."""
        return time.monotonic() - self._last >= self.interval and state.step < self.total

    def save(self, learner: "Learner", state: State) -> bool:
        """Write the state; False, and nothing is written, if it is not finite.

        All processes of a training call it together; the first one writes what is the same for all.
        """
        network, optimizer = learner.network, learner.optimizer
        state.sums = parallel.mean(state.sums)
        if not all(tensor.isfinite().all() for tensor in [*state.sums.values(), *network.parameters()]):
            return False  # the next history row stops the training; the state before it is the good one
        tensors = {f"network.{name}": tensor for name, tensor in network.state_dict().items()}
        for name, parameter in network.named_parameters():
            if "momentum_buffer" in optimizer.state.get(parameter, {}):
                tensors[f"momentum.{name}"] = optimizer.state[parameter]["momentum_buffer"]
        tensors |= {f"sum.{name}": total for name, total in state.sums.items()}
        metadata = {
            "stamp": self.stamp,
            "step": str(state.step),
            "rows": json.dumps(state.rows),
            "summed": str(state.summed),
            "sums": json.dumps(list(state.sums)),
            "scaler": json.dumps(learner.scaler.state_dict()),
        }
        if parallel.rank() == 0:
            whole = {name: tensor.cpu().contiguous() for name, tensor in tensors.items()}
            write_weights(self.path, whole, metadata)
        parallel.wait()
        self._last = time.monotonic()
        return True


def _stamp(job: "Job") -> str:
    """What a resume file must agree with: code, settings, and the inputs' content."""
    inputs = [(path.name, file_fingerprint(path)) for path in job.inputs]
    text = repr((code_digest(job.stage), job.settings, inputs, torch.__version__))
    return fingerprint(text.encode())
