"""profiles/generic as it is, with stand-ins for PBS that run jobs in the background."""

import os
import re
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import pytest
import yaml
from conftest import REPOSITORY
from test_workflow import CONFIG

STAND_IN = """#!{python} -S
import os, signal, subprocess, sys, time
from pathlib import Path

queue, name, words = Path(os.environ["QUEUE"]), Path(sys.argv[0]).name, sys.argv[1:]
if name == "qsub" and words[0] == "--run":  # the job itself
    number, script = words[1:]
    signal.signal(signal.SIGTERM, lambda *_: None)  # not ignored, which the job would inherit
    part = queue / (number + ".part")
    begun = time.time_ns()
    status = subprocess.call(["sh", script])
    if "LATE_FILES" in os.environ:
        subprocess.call([sys.executable, os.environ["LATE_FILES"], "hide", number, str(begun)])
    part.write_text(str(status))
    part.rename(queue / (number + ".status"))
elif name == "qsub":
    number = str(len(list(queue.glob("*.arguments"))) + 1)
    (queue / (number + ".arguments")).write_text(" ".join(words))
    with open(queue / (number + ".output"), "w") as output:
        job = subprocess.Popen(
            [__file__, "--run", number, words[-1]], start_new_session=True, stdin=subprocess.DEVNULL,
            stdout=output, stderr=output,
        )
    (queue / (number + ".group")).write_text(str(job.pid))
    print(number)
elif name == "qdel":
    for number in words:
        os.killpg(int((queue / (number + ".group")).read_text()), signal.SIGTERM)
elif name == "qstat":
    status = queue / (words[-1] + ".status")
    print("    job_state = " + ("F" if status.exists() else "R"))
    if status.exists():
        print("    Exit_status = " + status.read_text())
"""
QUICK = ["--latency-wait", "5"]
WEIGHTS = "results/tiny/train_cam/weights.safetensors"


class Queue:
    """A folder with a run, and what was submitted from there."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.queue, programs = folder, folder / "queue", folder / "bin"
        self.queue.mkdir()
        programs.mkdir()
        for name in ("qsub", "qdel", "qstat"):
            (programs / name).write_text(STAND_IN.format(python=sys.executable))
            (programs / name).chmod(0o755)
        self.environment = {
            **os.environ, "PATH": f"{programs}:{os.environ['PATH']}", "QUEUE": str(self.queue),
            "PYTHONPATH": str(REPOSITORY),
        }  # fmt: skip

    def start(self, config: dict, *targets: str, options: Sequence[str] = QUICK) -> subprocess.Popen:
        (self.folder / "config.yaml").write_text(yaml.safe_dump(config))
        command = [
            sys.executable, "-m", "snakemake", "--snakefile", str(REPOSITORY / "Snakefile"), "--profile",
            str(REPOSITORY / "profiles" / "generic"), "--configfile", "config.yaml", "--retries", "0",
            "--seconds-between-status-checks", "1", "--max-threads", "2", *options, "--", *targets,
        ]  # fmt: skip
        return subprocess.Popen(
            command, cwd=self.folder, env=self.environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
            text=True,
        )  # fmt: skip

    def arguments(self) -> list[str]:
        """What qsub was called with, in order."""
        files = sorted(self.queue.glob("*.arguments"), key=lambda path: int(path.stem))
        return [path.read_text() for path in files]


@pytest.fixture
def queue(tmp_path):
    return Queue(tmp_path)


def test_a_run_is_submitted_stopped_and_taken_up(queue):
    config = {**CONFIG, "train_cam": {**CONFIG["train_cam"], "epochs": 50},
              "runtime": {"device": "cpu", "checkpoint_seconds": 0.2}}  # fmt: skip
    head = queue.start(config, WEIGHTS)
    state = queue.folder / WEIGHTS.replace(".safetensors", ".resume.safetensors")
    while not state.exists() and head.poll() is None:
        time.sleep(0.1)
    head.terminate()
    start = time.monotonic()
    said, _ = head.communicate(timeout=60)
    assert time.monotonic() - start < 15
    assert head.returncode == 1, said
    assert "the same command goes on from here" in said
    log = queue.folder / "logs/tiny/train_cam.log"
    while "stopped by SIGTERM" not in log.read_text():  # as qdel ended it
        assert time.monotonic() - start < 30, log.read_text()
        time.sleep(0.1)
    demo, prepare, training = queue.arguments()
    assert "-N demo." in demo
    assert "ncpus=1:mem=2000mb:ngpus=0 -l walltime=600 " in demo
    assert "mem=2000mb:ngpus=0 -l walltime=3600 " in prepare
    assert "ncpus=2:mem=16000mb:ngpus=1 -l walltime=43200 " in training
    head = queue.start(config, WEIGHTS)
    said, _ = head.communicate(timeout=120)
    assert head.returncode == 0, said
    assert len(queue.arguments()) == 4
    assert "resuming at step" in log.read_text()


def test_a_job_that_fails_is_noticed(queue):
    config = {**CONFIG, "dataset": {**CONFIG["dataset"], "kind": "voc", "root": "nowhere"}}
    head = queue.start(config, "results/tiny/prepare/val.csv")
    said, _ = head.communicate(timeout=60)
    assert head.returncode == 1
    assert "nowhere" in said
    assert re.search("external jobid '?1", said)
    assert len(queue.arguments()) == 1
