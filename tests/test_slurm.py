"""The pipeline on a real SLURM: jobs that fail, are cancelled or out of time; no head, no node."""

import os
import re
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections import defaultdict
from pathlib import Path
from typing import ClassVar

import psutil
import pytest
import slurm_cluster
import yaml
from conftest import REPOSITORY
from test_same_bytes import TINY, Run, differing
from test_workflow import contents, disk  # noqa: F401

pytestmark = [
    pytest.mark.slurm,
    pytest.mark.timeout(900),
    pytest.mark.skipif(os.getuid() != 0, reason="only root may start SLURM's daemons"),
    pytest.mark.skipif(
        bool(slurm_cluster.missing()),
        reason=f"not installed: {', '.join(slurm_cluster.missing())}; Debian's packages slurmctld, slurmd, "
        "slurm-client and munge have them",
    ),
]

ON_A_CARD = {"train_cam", "erase", "evidence", "train_ecs", "ecs_labels", "train_segmenter", "predict"}
DEMO = REPOSITORY / "config" / "demo.yaml"
SHORT, ENDLESS = 5, 10_000
"""Epochs where the training itself is not looked at, and where it never comes to its end."""
WEIGHTS = "results/tiny/train_cam/weights.safetensors"
LOG = "logs/tiny/train_cam.log"
QUICK = ["--slurm-init-seconds-before-status-checks", "2", "--latency-wait", "5", "--max-threads", "2"]


def training(epochs):
    """The settings with a training of so many epochs, that saves its state every other second."""
    runtime = {"device": "cpu", "checkpoint_seconds": 2}
    return {**TINY, "train_cam": {**TINY["train_cam"], "epochs": epochs}, "runtime": runtime}


class Head(Run):
    """The process that submits the jobs and waits for them."""

    begun: ClassVar[list[Run]] = []

    def __init__(self, cluster, folder, config, *arguments, targets=(WEIGHTS,), configfile="config.yaml"):
        self.cluster = cluster
        if config is not None:
            (folder / "config.yaml").write_text(yaml.safe_dump(config))
        command = [
            sys.executable, "-m", "snakemake", "--snakefile", str(REPOSITORY / "Snakefile"), "--profile",
            str(REPOSITORY / "profiles" / "slurm"), *QUICK, "--configfile", str(configfile), *arguments,
            "--", *targets,
        ]  # fmt: skip
        environment = {**cluster.environment, "PYTHONPATH": str(REPOSITORY), "PYTHONUNBUFFERED": "1"}
        # two jobs on the pretended cards share the few cores: threads that wait must not keep them busy
        environment["OMP_WAIT_POLICY"] = "PASSIVE"
        self.process = subprocess.Popen(
            command, cwd=folder, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
            start_new_session=True,
        )  # fmt: skip
        Head.begun.append(self)
        self.lines: list[str] = []
        self._reader = threading.Thread(target=self._read)
        self._reader.start()

    def end(self, seconds: float = 500) -> int:
        try:
            self.process.wait(seconds)
        except subprocess.TimeoutExpired:
            pytest.fail(f"no end after {seconds} s:\n{self.output}")
        return super().end()

    def submitted(self) -> list[str]:
        """Numbers of the jobs that were submitted so far."""
        return re.findall(r"^Job \d+ has been submitted with SLURM jobid (\d+)", self.output, re.MULTILINE)

    def jobs(self) -> list[str]:
        """Rules of the jobs that were submitted so far, with their wildcards."""
        comments = self.cluster.jobs("all")
        return sorted(comments[number].removeprefix("rule_") for number in self.submitted())


@pytest.fixture(scope="module")
def cluster():
    with slurm_cluster.running() as cluster:
        yield cluster


@pytest.fixture(autouse=True)
def _nothing_goes_on(cluster):
    """No test leaves a head or jobs to the next one, whether it passed or not."""
    yield
    for head in Head.begun:
        if head.process.poll() is None:
            head.kill()
    Head.begun.clear()
    if cluster.jobs():
        cluster.call("scancel", "--user=root")
        cluster.wait_until(lambda: not cluster.jobs(), "jobs go on")


def local(folder, config, *targets):
    (folder / "config.yaml").write_text(yaml.safe_dump(config))
    result = subprocess.run(
        [sys.executable, "-m", "snakemake", "--snakefile", str(REPOSITORY / "Snakefile"), "--cores", "2",
         "--configfile", "config.yaml", "--", *targets],
        cwd=folder, env={**os.environ, "PYTHONPATH": str(REPOSITORY)}, text=True, stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT, timeout=300, check=False,
    )  # fmt: skip
    assert result.returncode == 0, result.stdout


@pytest.fixture(scope="module")
def prepared(tmp_path_factory):
    """A folder in which a short training has been run, on this machine alone."""
    folder = tmp_path_factory.mktemp("prepared")
    local(folder, training(SHORT), WEIGHTS, "results/tiny/prepare/val.csv")
    return folder


@pytest.fixture(scope="module")
def speed(prepared):
    """Epochs that a training on this machine takes in a second."""
    steps = re.findall(r"([\d.]+) steps/s", (prepared / LOG).read_text())
    return float(steps[-1]) / 2  # 8 pictures, 4 at a time


@pytest.fixture(scope="module")
def reference(prepared, speed, tmp_path_factory):
    """An undisturbed local run of a training that lasts long enough to be disturbed."""
    folder = tmp_path_factory.mktemp("reference") / "run"
    shutil.copytree(prepared, folder)
    local(folder, training(max(20, round(35 * speed))), WEIGHTS)
    remove_states(folder)
    return folder


@pytest.fixture
def folder(prepared, tmp_path):
    """A folder of its own that goes on from the short training."""
    return Path(shutil.copytree(prepared, tmp_path / "run"))


@pytest.fixture
def long(reference):
    """The settings of the reference."""
    return yaml.safe_load((reference / "config.yaml").read_text())


def remove_states(folder):
    """Remove what trainings leave for a resumption until a whole run has ended."""
    for path in folder.rglob("*.resume.safetensors"):
        path.unlink()


def state(folder):
    return folder / WEIGHTS.replace(".safetensors", ".resume.safetensors")


def train_until_saved(cluster, folder, head):
    """Wait until a training runs and has saved a state; its job's number."""
    started = time.time()
    state(folder).unlink(missing_ok=True)
    cluster.wait_until(
        lambda: head.process.poll() is not None or state(folder).exists(), f"no training: {head.output}", 90
    )
    assert head.process.poll() is None, head.output
    assert time.time() - started < 90
    [job] = cluster.jobs("RUNNING")
    return job


def same_training(folder, reference):
    remove_states(folder)
    return differing(folder, reference) == {}


def stages(folder):
    """What runs in a folder: processes, their stages, and the cards that each may use."""
    seen = {}
    for process in psutil.process_iter():
        try:
            words = process.cmdline()[:4]
            names = [os.path.basename(word) for word in words[:3]]
            if "ecsnet" in names and process.cwd() == str(folder):
                card = process.environ().get("CUDA_VISIBLE_DEVICES", "")
                seen[process.pid] = (process, process.ppid(), words[names.index("ecsnet") + 1], card)
        except (psutil.Error, OSError, IndexError):
            continue
    # a data worker has its parent's command line
    return [(process, stage, card) for process, parent, stage, card in seen.values() if parent not in seen]


class Watcher(threading.Thread):
    """Looks at the stages that run in a folder, all the time."""

    def __init__(self, folder):
        super().__init__(daemon=True)
        self.folder = folder
        self.cards = defaultdict(set)  # of the stages, by name
        self.together = []  # cards in use at the same moment
        self.ended = threading.Event()

    def run(self):
        while not self.ended.wait(0.1):
            now = stages(self.folder)
            for _, stage, card in now:
                self.cards[stage].add(card)
            self.together.append([card for _, stage, card in now if stage in ON_A_CARD])


@pytest.mark.timeout(3200)
def test_the_demo_submitted_ends_with_the_bytes_of_a_local_run(cluster, tmp_path):
    """And on its way no two stages shared a card, of which the node has two."""
    watcher = Watcher(tmp_path)
    watcher.start()
    # as many threads as `make demo` takes: maps differ in their last bits with another number
    cores = str(len(os.sched_getaffinity(0)))
    limits = ["--retries", "0", "--max-threads", cores]
    head = Head(cluster, tmp_path, None, *limits, targets=(), configfile=DEMO)
    status = head.end(1500)
    watcher.ended.set()
    watcher.join()
    assert status == 0, head.output
    # nothing to do where the demo was run before
    command = [sys.executable, "-m", "snakemake", "--cores", cores, "--configfile", str(DEMO)]
    environment = {**os.environ, "PYTHONPATH": str(REPOSITORY)}
    subprocess.run(command, cwd=REPOSITORY, env=environment, check=True, timeout=1500)
    assert demo_differs(tmp_path) == {}
    assert set(watcher.cards) >= ON_A_CARD
    for stage, cards in watcher.cards.items():
        assert cards <= ({"0", "1"} if stage in ON_A_CARD else {""}), (stage, cards)
    assert max(map(len, watcher.together)) == 2
    assert all(len(set(cards)) == len(cards) for cards in watcher.together)
    assert {card for cards in watcher.together for card in cards} == {"0", "1"}


def demo_differs(folder):
    """What is not as in the repository's own run; that may have more beside the demo's."""
    names = ("results/demo/", "resources/demo/")
    return {
        name: how
        for name, how in differing(folder, REPOSITORY).items()
        if name.startswith(names) or how != "missing"
    }


def test_a_job_that_fails_shows_why_and_only_it_is_redone(cluster, folder):
    shards = [f"results/tiny/erase/{number}-of-2.npz" for number in (1, 2)]
    last = sorted((folder / "resources/demo/JPEGImages").glob("demo_train_*"))[-1]
    hidden = last.rename(folder / "hidden")
    head = Head(cluster, folder, training(SHORT), "--retries", "0", targets=shards)
    assert head.end() == 1
    # the first wildcard, the ablation's variant, is empty
    assert head.jobs() == ["erase_wildcards__1-of-2", "erase_wildcards__2-of-2"]
    said = (folder / "logs/tiny/erase/2-of-2.log").read_text().splitlines()[-1]
    assert last.name in said
    assert said in head.output
    assert "same command goes on from here" in head.output
    assert (folder / shards[0]).exists()
    assert not (folder / shards[1]).exists()
    kept = (folder / shards[0]).stat()
    hidden.rename(last)
    head = Head(cluster, folder, training(SHORT), "--retries", "0", targets=shards)
    assert head.end() == 0, head.output
    assert head.jobs() == ["erase_wildcards__2-of-2"]
    assert (folder / shards[0]).stat() == kept


def test_a_cancelled_training_is_reported_and_resumed(cluster, folder, long, reference):
    head = Head(cluster, folder, long, "--retries", "0")
    job = train_until_saved(cluster, folder, head)
    cluster.call("scancel", job)
    assert head.end() == 1
    assert f"SLURM-job '{job}' failed, SLURM status is: 'CANCELLED'" in head.output
    assert "same command goes on from here" in head.output
    said = (folder / LOG).read_text()
    assert re.search(r"train_cam: stopped by SIGTERM; .*the same command", said)
    head = Head(cluster, folder, long, "--retries", "0")
    assert head.end() == 0, head.output
    assert "resuming at step" in (folder / LOG).read_text()
    assert same_training(folder, reference)


def test_jobs_of_a_killed_head_are_not_started_twice(cluster, folder, long, reference):
    head = Head(cluster, folder, long, "--retries", "0")
    job = train_until_saved(cluster, folder, head)
    head.kill()
    time.sleep(2)
    assert list(cluster.jobs("RUNNING")) == [job]
    head = Head(cluster, folder, long, "--retries", "0")
    assert head.end(60) == 1
    assert list(cluster.jobs()) == [job]
    assert head.submitted() == []
    assert "Traceback" not in head.output
    remedy = re.search(r"\((scancel [\d ]+);", head.output)
    assert remedy, head.output
    cluster.call(*remedy[1].split())
    head = Head(cluster, folder, long, "--retries", "0")
    assert head.end() == 0, head.output
    assert head.jobs() == ["train_cam"]
    assert "resuming at step" in (folder / LOG).read_text()
    assert same_training(folder, reference)


def test_a_node_that_goes_down_and_comes_back(cluster, folder, long, reference):
    head = Head(cluster, folder, long, "--retries", "2")
    job = train_until_saved(cluster, folder, head)
    frozen = [process for process, _, _ in stages(folder)]  # else it might end before the node is missed
    for process in frozen:
        process.suspend()
    cluster.stop_node()
    try:
        cluster.wait_until(lambda: cluster.states() & {"down", "down*"}, "the node is not down")
    finally:
        for process in frozen:
            process.resume()
        cluster.start_node()
    assert head.end() == 0, head.output
    first, *others = head.submitted()
    assert first == job
    assert 1 <= len(others) <= 2
    assert same_training(folder, reference)


def test_a_time_limit_stops_a_training_and_the_next_attempt_resumes(cluster, folder):
    """With more time, too; SLURM counts in minutes."""
    limits = ["--set-resources", "train_cam:runtime=1 if attempt == 1 else 5 * attempt"]
    head = Head(cluster, folder, training(ENDLESS), "--retries", "2", *limits)

    def resumed():
        try:
            return re.search(r"resuming at step (\d+)", (folder / LOG).read_text())
        except FileNotFoundError:  # the head removes an attempt's log before it submits the next
            return None

    cluster.wait_until(lambda: resumed() or head.process.poll() is not None, "no second attempt", 300)
    first, second = head.submitted()
    text = cluster.call("squeue", "-h", "-t", "all", "-o", "%i %T %l")
    jobs = {number: (state, limit) for number, state, limit in map(str.split, text.splitlines())}
    assert jobs[first] == ("TIMEOUT", "1:00")
    assert jobs[second] == ("RUNNING", "10:00")
    assert "SLURM status is: 'TIMEOUT'" in head.output
    # from the first attempt's log
    kept = re.search(r"train_cam: stopped by SIGTERM; step (\d+) of \d+ is saved", head.output)
    assert kept[1] == resumed()[1]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_to_the_head_cancels_its_jobs_at_once(cluster, folder, number):
    patient = ["--slurm-init-seconds-before-status-checks", "25"]
    head = Head(cluster, folder, training(ENDLESS), "--retries", "2", *patient)
    begun = time.monotonic()
    job = train_until_saved(cluster, folder, head)
    # now the second pause between two looks at the jobs has begun, of 35 seconds: it must not be waited for
    time.sleep(max(0, begun + 28 - time.monotonic()))
    start = time.monotonic()
    os.kill(head.process.pid, number)
    status = head.end(100)
    assert time.monotonic() - start < 12
    assert status == 1
    assert "the same command goes on from here" in head.output
    assert "Traceback" not in head.output
    cluster.wait_until(lambda: not cluster.jobs(), "the jobs go on", 40)
    assert job in cluster.jobs("CANCELLED")
    assert "stopped by SIGTERM" in (folder / LOG).read_text()
    assert state(folder).exists()


def test_a_job_on_its_way_into_the_queue_is_cancelled_too(cluster, folder):
    """Ctrl-C while sbatch waits for the scheduler: Snakemake cancels only jobs whose numbers it has."""
    slow = cluster.folder / "bin" / "sbatch"
    slow.write_text(f'#!/bin/sh\ntouch {folder}/asked\nsleep 4\nexec {shutil.which("sbatch")} "$@"\n')
    slow.chmod(0o755)
    try:
        head = Head(cluster, folder, training(ENDLESS), "--retries", "0")
        cluster.wait_until((folder / "asked").exists, f"no job is submitted: {head.output}")
        head.process.send_signal(signal.SIGINT)
        assert head.end(60) == 1
    finally:
        slow.unlink()
    [job] = head.submitted()
    assert f"Cancelled in SLURM's queue: {job}" in head.output
    cluster.wait_until(lambda: not cluster.jobs(), "the job goes on", 40)
    assert job in cluster.jobs("CANCELLED")


def test_results_on_another_file_system(cluster, folder, disk):  # noqa: F811, the fixture
    shutil.move(folder / "results", disk / "results")
    (folder / "results").symlink_to(disk / "results")
    target = "results/tiny/erase/1-of-2.npz"
    head = Head(cluster, folder, training(SHORT), "--retries", "0", targets=[target])
    assert head.end() == 0, head.output
    assert head.jobs() == ["erase_wildcards__1-of-2"]
    assert (disk / target).exists()
    for path in (disk / "results").rglob("*"):
        if path.is_file():
            assert not [place for place in (folder, disk) if str(place).encode() in contents(path)], path
