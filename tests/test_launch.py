"""Trainings on several processes: the same loss curve, one message when one of them fails, no hang.

Two processes on the CPU, which talk by gloo as those on cards do by NCCL.
"""

import functools
import json
import re
import signal
import subprocess
import sys
import time
from types import SimpleNamespace

import numpy as np
import pandas as pd
import psutil
import pytest
from stage_data import CLASSES, make_chain, make_data

from ecsnet import launch
from ecsnet.launch import LOST
from ecsnet.store import file_fingerprint
from ecsnet.tables import LabelRecord, read_images, write_labels

SHORT = {
    "epochs": 6,
    "batch_size": 4,
    "crop_size": 65,
    "learning_rate": 0.01,
    "batch_norm": "frozen",
    "cpu_threads": 1,
}
BACKBONE = {"name": "resnet18", "weights": "none"}
CURVE = 2e-5
"""Relative tolerance between loss curves: sums of floats in another order."""


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    folder = make_data(tmp_path_factory.mktemp("launch") / "data")
    make_chain(folder)
    images = read_images(folder / "train.csv", CLASSES)
    masks = {image.id: f"SegmentationClass/{image.id}.png" for image in images}
    labels = [LabelRecord(name, mask, file_fingerprint(folder / mask)) for name, mask in masks.items()]
    write_labels(folder / "labels.csv", labels)
    return folder


def words(stage, data, out, count, checkpoint_seconds=300, **settings):
    """The command of a training whose results go into the folder `out`."""
    settings = {**SHORT, **({} if stage == "train_ecs" else {"backbone": BACKBONE}), **settings}
    runtime = {"device": "cpu", "workers": 0, "gpus_per_training": count}
    inputs = {
        "train_cam": f"--classes {data}/classes.txt",
        "train_ecs": f"--weights {data}/classifier --labels {data}/evidence.npz --regions {data}/erase.npz "
        "--round 1",
        "train_segmenter": f"--classes {data}/classes.txt --labels {data}/labels.csv --label-root {data}",
    }
    return [
        *(sys.executable, "-m", "ecsnet", stage, "--settings", json.dumps(settings)),
        *("--images", f"{data}/train.csv", "--root", str(data), *inputs[stage].split()),
        *("--out", f"{out}/weights.safetensors", "--history", f"{out}/history.csv"),
        *("--runtime", json.dumps({**runtime, "checkpoint_seconds": checkpoint_seconds})),
    ]


def run(*arguments, **settings):
    result = subprocess.run(words(*arguments, **settings), capture_output=True, text=True, timeout=120)
    assert result.returncode == 0, result.stderr
    return result


def curve(out):
    return pd.read_csv(out / "history.csv")


SETTINGS = {"train_cam": {}, "train_ecs": {"head_channels": 8}, "train_segmenter": {"atrous_rates": [2, 4]}}


@pytest.fixture(scope="module")
def alone(data, tmp_path_factory):
    """From a stage and its settings to the loss curve of a training in one process."""

    @functools.cache
    def train(stage, **settings):
        out = tmp_path_factory.mktemp("alone")
        run(stage, data, out, 1, **SETTINGS[stage], **settings)
        return curve(out)

    return train


@pytest.mark.parametrize(
    ("stage", "settings"),
    [
        ("train_cam", {}),
        ("train_ecs", {}),
        pytest.param("train_ecs", {"views": "either", "balanced": False}, marks=pytest.mark.long),
        ("train_segmenter", {}),
        pytest.param("train_segmenter", {"batch_norm": "live"}, marks=pytest.mark.long),
    ],
)
def test_two_processes_have_the_loss_curve_of_one(data, alone, tmp_path, stage, settings):
    """Losses of tags and pixels, what is drawn, batch norm that learns in the heads or everywhere."""
    result = run(stage, data, tmp_path, 2, **SETTINGS[stage], **settings)
    assert result.stdout.count("6/6  100 %") == 1
    assert result.stdout.count("done in") == 1
    assert result.stderr == ""
    one, two = alone(stage, **settings), curve(tmp_path)
    assert len(one) == 6
    np.testing.assert_allclose(two, one, rtol=CURVE)
    assert one.loss.max() > one.loss.min() + 1e-3  # it moved by much more than the tolerance


def begun(data, out, count, stage="train_cam", **settings):
    """A training of some processes that has written its state at least once."""
    process = subprocess.Popen(
        words(stage, data, out, count, checkpoint_seconds=0, **SETTINGS[stage], **settings),
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
    )  # fmt: skip
    while not (out / "weights.resume.safetensors").exists():
        assert process.poll() is None, process.communicate()[0]
        time.sleep(0.01)
    return process


@pytest.mark.parametrize(
    ("stage", "first", "second"),
    [
        ("train_cam", 2, 1),
        ("train_cam", 1, 2),
        ("train_ecs", 2, 1),
        pytest.param("train_segmenter", 1, 2, marks=pytest.mark.long),
    ],
)
def test_a_state_is_taken_up_by_another_number_of_processes(data, alone, tmp_path, stage, first, second):
    stopped = begun(data, tmp_path, first, stage)
    stopped.send_signal(signal.SIGTERM)
    said = stopped.communicate(timeout=60)[0]
    assert stopped.returncode == 128 + signal.SIGTERM
    assert len(re.findall(r"stopped by SIGTERM; step \d of 6 is saved", said)) == 1, said
    assert "Traceback" not in said
    result = run(stage, data, tmp_path, second, **SETTINGS[stage])
    assert re.search(r"resuming at step [1-5] of 6", result.stdout)
    np.testing.assert_allclose(curve(tmp_path), alone(stage), rtol=CURVE)


def test_a_worker_that_dies_ends_the_training_with_one_message(data, tmp_path):
    process = begun(data, tmp_path, 2, epochs=5000)
    workers = psutil.Process(process.pid).children(recursive=True)
    assert len(workers) == 2
    workers[1].kill()
    start = time.monotonic()
    said = process.communicate(timeout=60)[0]
    assert time.monotonic() - start < 45
    assert process.returncode == 1
    message = r"\necsnet train_cam: process 1 of the training was killed \(SIGKILL\); if for want of memory"
    assert len(re.findall(message, said)) == 1, said
    assert "Traceback" not in said
    assert not any(worker.is_running() for worker in workers)


@pytest.mark.parametrize(
    ("settings", "problem"),
    [
        ({"batch_size": 3}, "batch_size: 3 pictures cannot be shared equally by 2 cards"),
        ({"learning_rate": 10, "epochs": 60}, "the loss is not finite at step"),
    ],
)
def test_a_mistake_is_told_once(data, tmp_path, settings, problem):
    arguments = words("train_cam", data, tmp_path, 2, **settings)
    result = subprocess.run(arguments, capture_output=True, text=True, timeout=120)
    assert result.returncode == 1
    assert result.stderr.count(problem) == 1, result.stderr
    assert "Traceback" not in result.stderr


def test_signals_every_second_do_not_orphan_processes_that_save(data, tmp_path, monkeypatch):
    """As Snakemake's side sends them until the stage is gone (`runs.Stop`)."""
    process = begun(data, tmp_path, 2, epochs=5000)
    workers = psutil.Process(process.pid).children(recursive=True)
    workers[1].suspend()  # it cannot save now: the other one waits for it
    for _ in range(4):
        process.terminate()
        time.sleep(1)
    assert process.poll() is None
    workers[1].resume()
    said = process.communicate(timeout=60)[0]
    assert process.returncode == 128 + signal.SIGTERM
    assert len(re.findall(r"stopped by SIGTERM; step \d+ of \d+ is saved", said)) == 1, said
    assert not any(worker.is_running() for worker in workers)


def test_processes_do_not_outlive_who_started_them(data, tmp_path):
    process = begun(data, tmp_path, 2, epochs=5000)
    workers = psutil.Process(process.pid).children(recursive=True)
    process.kill()
    process.communicate(timeout=60)
    _, alive = psutil.wait_procs(workers, timeout=20)
    assert not alive


def failure(exitcode, timestamp=0):
    name = signal.Signals(-exitcode).name if exitcode < 0 else ""
    return SimpleNamespace(exitcode=exitcode, timestamp=timestamp, signal_name=lambda: name)


def test_the_reason_is_what_came_first_and_no_consequence_of_it():
    lost, ended, stopped = failure(LOST, 1), failure(-signal.SIGTERM, 1), failure(143, 1)
    told = [{"text": "gone", "lost": True}, {"text": "its own words", "lost": False}]
    assert launch._reason(told, {0: lost, 1: failure(1, 9), 2: failure(-9, 2)}) == "its own words"
    killed = launch._reason([], {0: lost, 1: ended, 2: failure(-9, 5), 3: stopped})
    assert killed.startswith("process 2 of the training was killed (SIGKILL)")
    assert launch._reason([], {0: lost, 3: failure(1, 4)}) == (
        "process 3 of the training failed (its traceback stands above)"
    )
    assert launch._reason([], {0: stopped, 1: lost}) == ""
    network = launch._reason([{"text": "NCCL error", "lost": True}], {0: lost, 1: lost})
    assert network == "the processes of the training do not reach each other: NCCL error"


def test_a_worker_reports_to_who_started_it(tmp_path, monkeypatch, capsys):
    closed = RuntimeError("[gloo/transport/tcp/pair.cc] Connection closed by peer")
    assert not launch.is_loss_of_another(closed)
    launch.report("train_cam", "wrong")
    assert capsys.readouterr().err == "\necsnet train_cam: wrong\n"
    monkeypatch.setenv("ECSNET_LAUNCHER", "1")
    monkeypatch.setenv("ECSNET_REPORTS", str(tmp_path))
    monkeypatch.setenv("RANK", "1")
    launch.report("train_cam", "wrong")
    assert capsys.readouterr().err == ""
    assert [told["text"] for told in launch._reports(tmp_path)] == ["wrong"]
    monkeypatch.setenv("ECSNET_REPORTS", str(tmp_path / "gone"))
    launch.report("train_cam", "no space is left")
    assert "no space is left" in capsys.readouterr().err
    assert launch.is_loss_of_another(closed)
    assert not launch.is_loss_of_another(RuntimeError("shapes differ"))


def test_variables_of_another_launcher_are_not_ours(monkeypatch):
    for name in ("RANK", "LOCAL_RANK", "WORLD_SIZE"):
        monkeypatch.setenv(name, "3")
    assert not launch.is_worker()
    assert launch.is_first()
