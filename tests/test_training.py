"""The training loop on a network of a few weights, so that whole trainings take a second."""

import dataclasses

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image
from torch import nn

from ecsnet.errors import UserError
from ecsnet.images import RandomCrops
from ecsnet.resume import ResumeFile
from ecsnet.settings import Runtime, Training
from ecsnet.tables import ImageRecord
from ecsnet.training import Job, make_optimizer, poly_rate, train


class Tiny(nn.Module):
    """A convolution as backbone and one as head, with dropout between."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.spec = {}
        self.features = nn.Sequential(nn.Conv2d(3, 4, 3, stride=4), nn.BatchNorm2d(4))
        self.head = nn.Sequential(nn.Dropout(0.5), nn.Conv2d(4, 1, 1))

    def forward(self, images):
        return self.head(self.features(images)).mean((1, 2, 3))


def squared_error(network, batch):
    return {"error": (network(batch["image"]) - batch["tags"][:, 0]).square().mean()}


@pytest.fixture
def folder(tmp_path):
    return write_pictures(tmp_path)


def write_pictures(folder):
    generator = np.random.default_rng(0)
    for index in range(5):
        picture = generator.integers(0, 256, (40, 40, 3), dtype=np.uint8)
        Image.fromarray(picture).save(folder / f"{index}.png")
    (folder / "train.csv").write_text("the stage's input")
    return folder


def job(folder, name="out", loss=squared_error, **changes):
    runtime = Runtime(
        workers=0, **{key: changes.pop(key) for key in ("checkpoint_seconds",) if key in changes}
    )
    settings = Training(**{"epochs": 8, "batch_size": 2, "crop_size": 33, "learning_rate": 0.01, **changes})
    records = [ImageRecord(str(index), f"{index}.png", 40, 40, (1,) * (index % 2), "") for index in range(5)]
    crops = RandomCrops(records, folder, settings, torch.zeros(3), 1)
    out = folder / name / "weights.safetensors"
    inputs = [folder / "train.csv"]
    return Job(
        "train_cam", Tiny(), crops, loss, settings, runtime, 1, inputs, out, out.with_name("history.csv")
    )


def outputs(job):
    return job.out.read_bytes(), job.history.read_text()


def test_poly_schedule_by_hand():
    settings = Training(learning_rate=0.1, poly_power=0.9)
    assert poly_rate(0, 100, settings) == 0.1
    assert poly_rate(50, 100, settings) == pytest.approx(0.1 * 0.5**0.9)
    assert poly_rate(99, 100, settings) == pytest.approx(0.1 * 0.01**0.9)


def test_warm_up_rises_linearly():
    settings = Training(learning_rate=0.1, poly_power=0, warmup=0.1)
    assert [poly_rate(step, 100, settings) for step in (0, 4, 9, 50)] == pytest.approx([0.01, 0.05, 0.1, 0.1])


def test_heads_learn_faster_and_frozen_parameters_not_at_all():
    network = Tiny()
    network.features[1].requires_grad_(False)
    groups = make_optimizer(network, Training(head_factor=10)).param_groups
    assert [group["factor"] for group in groups] == [1, 10]
    assert [len(group["params"]) for group in groups] == [2, 2]


def test_a_training_learns_and_writes_its_history(folder):
    todo = job(folder, epochs=60, learning_rate=0.02)
    train(todo)
    history = pd.read_csv(todo.history)
    assert history.columns.tolist() == ["epoch", "step", "learning_rate", "loss", "error"]
    assert history.step.iloc[-1] == todo.steps == 150
    assert history.epoch.iloc[-1] == 60
    assert history.loss.iloc[-5:].mean() < history.loss.iloc[:5].mean()


def test_steps_are_at_least_one(folder):
    assert job(folder, epochs=0.01).steps == 1


def test_same_seed_same_bytes(folder):
    first, second, other = job(folder, "1"), job(folder, "2"), job(folder, "3", seed=1)
    for todo in (first, second, other):
        train(todo)
    assert outputs(first) == outputs(second)
    assert outputs(first) != outputs(other)


class Killed(Exception):
    pass


def killed_at(step):
    """The loss, up to a step at which the process "dies"."""
    calls = iter(range(step))

    def loss(network, batch):
        if next(calls, None) is None:
            raise Killed
        return squared_error(network, batch)

    return loss


@pytest.mark.parametrize("step", [1, 7, 19])
def test_a_killed_training_goes_on_to_the_same_bytes(folder, step, capsys):
    whole = job(folder, "whole")
    train(whole)
    with pytest.raises(Killed):
        train(job(folder, "killed", killed_at(step), checkpoint_seconds=0))
    again = job(folder, "killed")
    train(again)
    assert f"resuming at step {step} of 20" in capsys.readouterr().out
    assert outputs(again) == outputs(whole)
    # were its outputs lost now, no step would be taken again
    last = job(folder, "killed", killed_at(0))
    last.out.unlink()
    train(last)
    assert outputs(last) == outputs(whole)


@pytest.mark.parametrize("change", ["settings", "inputs", "damage"])
def test_a_state_that_does_not_fit_is_not_used(folder, change, capsys):
    with pytest.raises(Killed):
        train(job(folder, "killed", killed_at(7), checkpoint_seconds=0))
    again = job(folder, "killed")
    if change == "settings":
        again = job(folder, "killed", learning_rate=0.02)
    elif change == "inputs":
        (folder / "train.csv").write_text("another input")
    else:
        path = ResumeFile(again).path
        path.write_bytes(path.read_bytes()[:-1])
    train(again)
    assert "starts anew" in capsys.readouterr().out
    whole = dataclasses.replace(
        again, network=Tiny(), out=folder / "w" / "w.safetensors", history=folder / "w" / "h.csv"
    )
    train(whole)
    assert outputs(again) == outputs(whole)


def test_a_loss_that_is_not_finite_stops_and_keeps_the_last_good_state(folder):
    todo = job(
        folder, "diverged", lambda network, batch: {"error": network(batch["image"]).sum() * float("nan")}
    )
    with pytest.raises(
        UserError, match=r"train_cam: the loss is not finite at step 1 of 20.*train_cam\.learning_rate"
    ):
        train(todo)
    assert not todo.out.exists()
    assert not todo.history.exists()
