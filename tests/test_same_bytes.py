"""A small run ends with the same bytes: undisturbed, killed, stopped, or cut up in another way.

Each kill is SIGKILL of the whole process group, at a moment of a stage drawn from how long that stage
takes, and is followed by the very same command.
"""

import contextlib
import os
import random
import re
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pandas as pd
import psutil
import pytest
import yaml
from conftest import REPOSITORY
from test_workflow import CONFIG

from ecsnet.store import ShardReader

pytestmark = [pytest.mark.long, pytest.mark.timeout(1500)]

TINY = {
    **CONFIG,
    "rounds": 1,
    "supervised": {"enabled": False, "masks": "SegmentationClass"},
    "runtime": {"device": "cpu", "checkpoint_seconds": 0.3},
    **{name: {**CONFIG[name], "epochs": 6} for name in ("train_cam", "train_ecs", "train_segmenter")},
}
CHAIN = [
    "demo", "prepare", "train_cam", "erase", "evidence", "train_ecs", "ecs_labels", "filter_labels",
    "train_segmenter", "predict", "gather_labels", "summary", "figures",
]  # fmt: skip
"""Stages of which each waits for the one before; check_masks and the scores run beside them."""
TOLERANCE = 2e-3
"""Of maps in [0, 1], stored as float16, between batches of other sizes or other numbers of threads."""
TRAININGS = {"train_cam", "train_ecs", "train_segmenter"}


class Run:
    """A run in a group of its own, and what it has printed so far."""

    def __init__(self, folder: Path, *arguments: str, cores: int = 2, **changes: object) -> None:
        (folder / "config.yaml").write_text(yaml.safe_dump({**TINY, **changes}))
        command = [
            sys.executable, "-m", "snakemake", "--snakefile", str(REPOSITORY / "Snakefile"), "--cores",
            str(cores), "--configfile", "config.yaml", *arguments,
        ]  # fmt: skip
        environment = {**os.environ, "PYTHONPATH": str(REPOSITORY), "PYTHONUNBUFFERED": "1"}
        self.process = subprocess.Popen(
            command, cwd=folder, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
            start_new_session=True,
        )  # fmt: skip
        self.lines: list[str] = []
        self._reader = threading.Thread(target=self._read)
        self._reader.start()

    def _read(self) -> None:
        for line in self.process.stdout:
            self.lines.append(line)

    @property
    def output(self) -> str:
        return "".join(self.lines)

    def begins(self, *stages: str) -> str:
        """Wait until the command of one of the stages is printed; its name, or "" if the run ends before."""
        while self.process.poll() is None:
            for line in list(self.lines):
                if line.startswith("ecsnet ") and line.split()[1] in stages:
                    return line.split()[1]
            time.sleep(0.02)
        return ""

    def kill(self) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.end()

    def end(self) -> int:
        status = self.process.wait()
        self._reader.join()
        return status


def artifacts(folder: Path) -> dict[str, bytes]:
    """All files of the results, hidden ones too, but for the pages that tell how long the run took."""
    files = [*(folder / "results").rglob("*"), *(folder / "resources").rglob("*")]
    timed = ("overview.html", "report.html")
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in files
        if path.is_file() and path.name not in timed
    }


def differing(folder: Path, other: Path) -> dict[str, str]:
    """What is in one of two folders alone, or not the same; bytes themselves would tell nobody anything.

    Maps between the stages may differ in their last bits.
    """
    ours, theirs = artifacts(folder), artifacts(other)
    return {
        name: "more" if name not in theirs else "missing" if name not in ours else "other bytes"
        for name in sorted({*ours, *theirs})
        if ours.get(name) != theirs.get(name)
        and not (name in ours and name in theirs and are_near(folder / name, other / name))
    }


def are_near(path: Path, other: Path) -> bool:
    """Whether these are maps that differ in their last bits alone, and all else in them is the same."""
    if path.suffix != ".npz":
        return False
    first, second = np.load(path), np.load(other)
    return first.files == second.files and all(
        np.allclose(first[name].astype(float), second[name].astype(float), rtol=0, atol=TOLERANCE)
        if np.issubdtype(first[name].dtype, np.floating)
        else np.array_equal(first[name], second[name])
        for name in first.files
    )


def seconds(folder: Path) -> dict[str, float]:
    """How long a job of each stage took."""
    taken = {}
    for path in (folder / "logs").rglob("*.benchmark.tsv"):
        stage = path.relative_to(folder / "logs").parts[1].split(".")[0]
        taken[stage] = float(pd.read_csv(path, sep="\t").s.iloc[0])
    return {**taken, "gather_labels": 1.0}  # its log is among those of predict


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory):
    folder = tmp_path_factory.mktemp("undisturbed")
    run = Run(folder)
    assert run.end() == 0, run.output
    return folder


def test_killed_at_many_moments_of_every_stage(undisturbed, tmp_path):
    generator = random.Random(0)
    taken = seconds(undisturbed)
    killed, messages = [], ""
    for number, stage in enumerate(CHAIN):
        for _ in range(3 if stage in TRAININGS else 2 if taken[stage] > 1 else 1):
            run = Run(tmp_path)
            begun = run.begins(*CHAIN[number:])  # a later one where this one was done before the kill
            time.sleep(generator.uniform(0, 0.9) * taken[begun or stage])
            killed += [begun] if run.process.poll() is None else []
            run.kill()
            messages += run.output
    run = Run(tmp_path)
    assert run.end() == 0, run.output
    messages += run.output
    assert len(killed) >= 20
    assert set(killed) >= TRAININGS | {"prepare", "erase", "evidence", "ecs_labels", "filter_labels"}
    assert "Traceback" not in messages
    assert "its lock is removed" in messages
    assert "resuming at step" in messages
    assert differing(tmp_path, undisturbed) == {}


def test_the_stage_of_a_killed_snakemake_is_stopped_before_the_next_run(undisturbed, tmp_path):
    run = Run(tmp_path)
    assert run.begins("train_cam")
    time.sleep(3)
    stages = [
        child for child in psutil.Process(run.process.pid).children(True) if "ecsnet" in str(child.cmdline())
    ]
    run.process.kill()
    run.process.wait()
    assert any(stage.is_running() for stage in stages)
    run = Run(tmp_path)
    assert run.end() == 0, run.output
    assert "is a stage of a run that was killed: it is stopped" in run.output
    assert differing(tmp_path, undisturbed) == {}


@pytest.mark.parametrize("stage", ["train_cam", "erase", "filter_labels"])
@pytest.mark.parametrize(("number", "group"), [("SIGTERM", False), ("SIGINT", True), ("SIGTERM", True)])
def test_stopped_at_once_and_clean(undisturbed, tmp_path_factory, stage, number, group):
    folder = tmp_path_factory.getbasetemp() / f"stopped-{number}-{group}"
    folder.mkdir(exist_ok=True)
    run = Run(folder)
    assert run.begins(stage), run.output
    if stage != "filter_labels":  # which takes no second
        time.sleep(2)
    if run.process.poll() is not None:
        pytest.fail(f"{stage} was over before it could be stopped")
    group_of = [child.pid for child in psutil.Process(run.process.pid).children(recursive=True)]
    start = time.monotonic()
    (os.killpg if group else os.kill)(run.process.pid, getattr(signal, number))
    status = run.end()
    assert time.monotonic() - start < 8
    assert status == 1
    assert not [pid for pid in group_of if psutil.pid_exists(pid)]
    assert re.search(r"ecsnet \w+: stopped by SIG(INT|TERM); .*the same command", run.output)
    assert "the same command goes on from here" in run.output
    assert "Traceback" not in run.output
    assert not list(folder.rglob("*.tmp"))
    # the last of the three that stop this folder's run; of the three kinds of signal, two will do
    if stage == "filter_labels" and (number, group) != ("SIGTERM", True):
        run = Run(folder)
        assert run.end() == 0, run.output
        assert differing(folder, undisturbed) == {}


def test_a_clock_that_jumped_back_between_two_stages(undisturbed):
    """What was made in the future is dated now, and the run goes on."""
    future = time.time() + 5000
    for path in (undisturbed / "results").rglob("*"):
        if path.is_file():
            os.utime(path, (future, future))
    before = artifacts(undisturbed)
    (undisturbed / "results/tiny/summary.csv").unlink()
    run = Run(undisturbed, "--forcerun", "filter_labels")
    assert run.end() == 0, run.output
    assert artifacts(undisturbed) == before


def test_cores_shards_and_batches_change_no_label(undisturbed, tmp_path):
    """Weights and labels are equal byte by byte; maps, in other shards, to the rounding of a batch."""
    run = Run(tmp_path, cores=1, shards=3, runtime={**TINY["runtime"], "inference_batch": 3, "workers": 0})
    assert run.end() == 0, run.output
    ours, theirs = artifacts(tmp_path), artifacts(undisturbed)
    sharded = {name for name in {*ours, *theirs} if "-of-" in name}
    assert len(sharded) == 4 * (2 + 3)
    drawn = {name for name in theirs if "figures/panels" in name}  # its maps differ in the last bit
    assert {name for name in theirs if ours.get(name) != theirs[name]} <= sharded | drawn
    assert set(ours) - sharded == set(theirs) - sharded
    for stage, arrays in (("erase", ("cam", "erased_cam")), ("ecs_labels/round1", ("scores",))):
        first, second = (
            ShardReader(sorted((folder / "results/tiny" / stage).glob("*.npz")))
            for folder in (tmp_path, undisturbed)
        )
        for image_id in first.ids():
            for name in arrays:
                one, other = (reader.get(image_id, name).astype(float) for reader in (first, second))
                assert np.abs(one - other).max() <= TOLERANCE, (stage, image_id, name)
