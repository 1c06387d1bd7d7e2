"""A stage that is asked to stop, in a process of its own."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

HEAD = """
import sys, time
from pathlib import Path
from ecsnet import stopping
from ecsnet.store import atomic_path
"""
WRITING = """
with stopping.watching("erase"), atomic_path(Path("out.npz")) as temporary:
    temporary.write_text("half")
    print("ready", flush=True)
    time.sleep(60)
"""
TRAINING = """
with stopping.watching("train_cam"):
    with stopping.deferred():
        print("ready", flush=True)
        for step in range(600):
            time.sleep(0.1)
            if stopping.asked():
                break
    stopping.leave("step 7 is saved")
"""
POOL = """
from concurrent.futures import ProcessPoolExecutor
with stopping.watching("filter_labels"), ProcessPoolExecutor(2) as pool:
    futures = [pool.submit(time.sleep, 60) for _ in range(8)]
    time.sleep(0.5)
    print("ready", flush=True)
    futures[0].result()
"""


def start(folder: Path, program: str) -> subprocess.Popen:
    process = subprocess.Popen(
        [sys.executable, "-c", HEAD + program],
        cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True,
    )  # fmt: skip
    assert process.stdout.readline() == "ready\n"
    return process


def end(process: subprocess.Popen) -> str:
    """What the process said at its end, which must come soon, with nobody left of its group."""
    _, said = process.communicate(timeout=10)
    for _ in range(50):
        try:
            os.killpg(process.pid, 0)
        except ProcessLookupError:
            return said
        time.sleep(0.1)
    pytest.fail("a process of the group outlives the stage")


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_nothing_half_written_stays(tmp_path, number):
    process = start(tmp_path, WRITING)
    assert len(list(tmp_path.iterdir())) == 1
    process.send_signal(number)
    said = end(process)
    assert f"ecsnet erase: stopped by {number.name}; nothing is half-written" in said
    assert "Traceback" not in said
    assert process.returncode == 128 + number
    assert list(tmp_path.iterdir()) == []


def test_a_deferred_stop_lets_the_step_end(tmp_path):
    process = start(tmp_path, TRAINING)
    process.terminate()
    time.sleep(0.01)
    process.terminate()  # the terminal's own and Snakemake's: both arrive
    assert "ecsnet train_cam: stopped by SIGTERM; step 7 is saved" in end(process)


def test_a_second_interrupt_does_not_wait(tmp_path):
    process = start(tmp_path, TRAINING.replace("if stopping.asked():", "if False:"))
    process.send_signal(signal.SIGINT)
    time.sleep(1.3)
    assert process.poll() is None
    process.send_signal(signal.SIGINT)
    assert "stopped by SIGINT" in end(process)


@pytest.mark.parametrize("whole_group", [False, True])
def test_a_pool_of_processes_ends_with_its_stage(tmp_path, whole_group):
    process = start(tmp_path, POOL)
    (os.killpg if whole_group else os.kill)(process.pid, signal.SIGTERM)
    said = end(process)
    assert said.count("stopped by") == 1
    assert "Traceback" not in said


def test_handlers_are_put_back():
    from ecsnet import stopping

    before = signal.getsignal(signal.SIGTERM)
    with stopping.watching("score"):
        assert signal.getsignal(signal.SIGTERM) is not before
    assert signal.getsignal(signal.SIGTERM) is before
