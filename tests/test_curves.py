import dataclasses

import pandas as pd
import pytest
import test_training
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from test_training import outputs, squared_error

from ecsnet import curves
from ecsnet.errors import UserError
from ecsnet.settings import Runtime
from ecsnet.training import train

folder = test_training.folder  # its fixture, which pytest finds by name here


def job(folder, name, tensorboard=True, **changes):
    plain = test_training.job(folder, name, **changes)
    runtime = dataclasses.replace(plain.runtime, tensorboard=tensorboard)
    return dataclasses.replace(plain, runtime=runtime, log=folder / name / "logs.txt")


def read(folder):
    """The points of each curve, steps and values."""
    events = EventAccumulator(str(folder))
    events.Reload()
    return {
        name: [(point.step, point.value) for point in events.Scalars(name)]
        for name in events.Tags()["scalars"]
    }


def history(job):
    table = pd.read_csv(job.history)
    names = [name for name in table.columns if name not in ("step", "epoch")]
    return {name: list(zip(table.step, table[name].astype("float32"), strict=True)) for name in names}


def test_the_curves_are_the_history_and_change_no_byte(folder):
    with_curves, without = job(folder, "a"), job(folder, "b", tensorboard=False)
    train(with_curves)
    train(without)
    found = read(folder / "a" / "logs" / "tensorboard")
    assert set(found) == {"loss", "error", "learning_rate"}
    assert found == history(with_curves)
    assert outputs(with_curves) == outputs(without)
    assert not (folder / "b" / "logs" / "tensorboard").exists()


def test_a_resumed_training_continues_its_curves_without_duplicates(folder):
    calls = []

    def interrupted(network, batch):
        calls.append(1)
        if len(calls) == 12:
            raise KeyboardInterrupt
        return squared_error(network, batch)

    first = job(folder, "a", loss=interrupted, checkpoint_seconds=0)
    with pytest.raises(KeyboardInterrupt):
        train(first)
    begun = read(folder / "a" / "logs" / "tensorboard")
    assert begun["loss"][-1][0] == 11
    resumed = job(folder, "a")
    train(resumed)
    assert read(folder / "a" / "logs" / "tensorboard") == history(resumed)
    assert read(folder / "a" / "logs" / "tensorboard")["loss"][:11] == begun["loss"]
    again = job(folder, "a", learning_rate=0.002)  # of other settings: anew, and the old curves go
    train(again)
    assert read(folder / "a" / "logs" / "tensorboard") == history(again)


def test_a_missing_package_is_told_before_the_training(folder, monkeypatch):
    monkeypatch.setattr(curves.importlib.util, "find_spec", lambda name: None)
    curves.require_package(Runtime())
    with pytest.raises(
        UserError, match=r"runtime\.tensorboard: the package tensorboard is not installed; run"
    ):
        train(job(folder, "a"))
    assert not (folder / "a").exists()
