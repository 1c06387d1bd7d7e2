"""Runs of the workflow: ending one at once, and taking up one that was killed. For the Snakefile.

Snakemake's lock outlives a run that was killed (SIGKILL, power cut) and then stops every later one until
a person removes it by hand. So each run leaves a note while it lives. On a cluster the jobs outlive it too.
"""

import asyncio
import atexit
import contextlib
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path
from types import FrameType
from typing import Any

import psutil

from .errors import UserError, raise_problems
from .late import PAUSE, look_anew


def require_folders(names: list[str]) -> None:
    """Check that folders exist or can be made, and can be written: Snakemake answers with a traceback.

    Raises:
        UserError: with a line for each folder that cannot be used.
    """
    problems = []
    for name in names:
        existing = next(path for path in (Path(name), *Path(name).parents) if os.path.lexists(path))
        if not existing.is_dir():
            problems.append(f"{existing}: is a file, but {name} has to be a folder; move it away")
        elif not os.access(existing, os.W_OK | os.X_OK):
            problems.append(f"{existing}: may not be written, but {name} has to be; correct its permissions")
    raise_problems(problems, "The run has no place for its results:")


def warn_without_records(results: str, folder: Path = Path(".snakemake")) -> None:
    """Tell when results are there but Snakemake's records are not: no changed setting would be noticed."""
    there = (Path(results) / "prepare" / "train.csv").exists()
    if there and not any((folder / "metadata").glob("*")):
        print(
            f"{results} has results, but {folder} no record of how they were made: settings, code and data "
            "that changed since would rerun nothing. Bring the folder back, or move the results away.",
            file=sys.stderr,  # stdout may be a graph for another program
        )


def begin(folder: Path = Path(".snakemake"), submits: bool = False) -> None:
    """Note this process as alive in Snakemake's `folder`, and remove a lock that no living run holds.

    A folder that cannot be written is left to Snakemake, which says so.

    Args:
        submits: whether this run submits its jobs to a cluster.

    Raises:
        UserError: if jobs of an earlier run, which is no more, are still in SLURM's queue.
    """
    with contextlib.suppress(OSError):
        notes = folder / "runs"
        notes.mkdir(parents=True, exist_ok=True)
        # a run notes itself before Snakemake locks, and notes are listed after locks: also on a shared file
        # system, whoever sees a run's lock sees its note
        locks = sorted((folder / "locks").glob("*.lock"))
        others = _others(notes)
        # beside a living run, whose jobs they would be, Snakemake's own lock ends this one
        if not (others and locks) and (submits or locks):
            _require_empty_queue()
        if not others and locks:
            _end_orphans()
            for lock in locks:
                lock.unlink(missing_ok=True)
            print("A run was killed here: its lock is removed, what it finished is kept.", file=sys.stderr)
        note = notes / f"{socket.gethostname()}-{os.getpid()}.json"
        this = {"host": socket.gethostname(), "process": os.getpid(), "started": _started(psutil.Process())}
        note.write_text(json.dumps(this))
        atexit.register(note.unlink, missing_ok=True)


def jobs_in_queue() -> dict[str, bool]:
    """This folder's jobs in SLURM's queue: their numbers, and whether each is about to end.

    Empty where there is no SLURM, or none that answers, which is said.
    """
    if not shutil.which("squeue"):
        return {}
    # %F: an array's one number, %k: a comment that Snakemake's plugin writes, %Z: where it was submitted
    command = ["squeue", "--noheader", f"--user={os.getuid()}", "--format=%F|%t|%k|%Z"]
    try:
        result = subprocess.run(command, text=True, capture_output=True, timeout=60, check=True)
    except (OSError, subprocess.SubprocessError):
        print(
            "squeue does not answer: where a run that was killed here has left jobs in SLURM's queue, they "
            "are now started a second time. Look with squeue --me once it answers; scancel the older ones.",
            file=sys.stderr,
        )
        return {}
    jobs: dict[str, bool] = {}
    for line in result.stdout.splitlines():
        number, state, comment, folder = line.split("|", 3)
        if comment.startswith("rule_") and os.path.realpath(folder) == os.getcwd():
            jobs[number] = jobs.get(number, True) and state == "CG"
    return jobs


def _require_empty_queue(seconds: float = 60) -> None:
    """Raise where a dead run has jobs left, which a new run would start again; wait for those that end."""
    end = time.monotonic() + seconds
    jobs = jobs_in_queue()
    while jobs and all(jobs.values()) and time.monotonic() < end:
        time.sleep(1)
        jobs = jobs_in_queue()
    if jobs:
        raise UserError(
            f"A run that was killed here has left jobs in SLURM's queue: {', '.join(jobs)}. A new run would "
            f"start them a second time. Cancel them (scancel {' '.join(jobs)}; a training keeps its step) "
            "or wait until they have ended (squeue --me); then give the same command again."
        )


def _started(process: psutil.Process) -> float:
    """Seconds after the machine's start, which a change of the clock leaves as they are."""
    return process.create_time() - psutil.boot_time()


def _end_orphans() -> None:
    """Stop stages of a run whose Snakemake alone was killed: they would write beside the new run's."""
    orphans = [process for process in psutil.process_iter() if _is_orphan(process)]
    for process in orphans:
        print(f"Process {process.pid} is a stage of a run that was killed: it is stopped.", file=sys.stderr)
        with contextlib.suppress(psutil.Error):
            process.terminate()
    _, alive = psutil.wait_procs(orphans, timeout=60)
    for process in alive:
        with contextlib.suppress(psutil.Error):
            process.kill()


def _is_orphan(process: psutil.Process) -> bool:
    """Whether it is a stage, in this folder, of a rule's shell that no Snakemake waits for."""
    try:
        if not _is_stage(process) or process.cwd() != os.getcwd():
            return False
        shell = process.parent()
        if shell is None or "trap '' INT TERM" not in " ".join(shell.cmdline()):
            return False
        above = shell.parent()
        return above is None or not any("snakemake" in word for word in above.cmdline())
    except psutil.Error:
        return False


def _is_stage(process: psutil.Process) -> bool:
    """Whether it is the `ecsnet` command, with or without its Python before it."""
    return "ecsnet" in [os.path.basename(word) for word in process.cmdline()[:3]]


def _others(notes: Path) -> list[Path]:
    """Notes of runs that live or may live; those of dead ones are removed."""
    living = []
    for note in notes.glob("*.json"):
        if _may_live(note):
            living.append(note)
        else:
            note.unlink(missing_ok=True)
    return living


def _may_live(note: Path) -> bool:
    try:
        run = json.loads(note.read_text())
        if run["host"] != socket.gethostname():
            return True  # cannot be known from here
        return abs(_started(psutil.Process(run["process"])) - run["started"]) < 1
    except psutil.AccessDenied:
        return True
    except (ValueError, KeyError, TypeError, psutil.NoSuchProcess):
        return False


class Stop:
    """Ends a run at once when asked to, by Ctrl-C (SIGINT) or SIGTERM.

    Snakemake, asked to stop, waits for the running jobs, which may take days. `install`, called in its
    process, passes the signal on to the stages and has Snakemake end the run as after Ctrl-C, which cancels
    the jobs of a cluster. A second signal kills what is left.
    """

    def __init__(self) -> None:
        self.asked = False
        self._moment = 0.0
        self._submits = False

    def install(self, executor: Any = None) -> None:
        """Take over SIGINT and SIGTERM; main thread only.

        Args:
            executor: Snakemake's, whether of a cluster or not.
        """
        self._submits = _submits(executor)
        if self._submits:
            end_when_told(executor)
        with contextlib.suppress(ValueError):  # within a thread of another program: left to that
            for number in (signal.SIGINT, signal.SIGTERM):
                signal.signal(number, self._handle)

    def _handle(self, number: int, _: FrameType | None) -> None:
        now = time.monotonic()
        if self.asked and now - self._moment < 2:
            return  # one signal, sent to the process and to its group
        again, self.asked, self._moment = self.asked, True, now
        threading.Thread(target=_end_stages, args=(again,), daemon=True).start()
        if not again:
            if self._submits:
                atexit.register(_cancel_left)
            raise KeyboardInterrupt


def end_when_told(executor: Any) -> None:
    """Let Snakemake's executor of a cluster sleep no longer than its run lasts.

    It sleeps up to three minutes between two looks at its jobs, and a run that is stopped waits for that.
    """

    async def sleep() -> None:
        end = time.monotonic() + executor.next_seconds_between_status_checks
        while executor.wait and time.monotonic() < end:
            await asyncio.sleep(0.5)

    executor.sleep = sleep


def wait_for_logs(executor: Any, seconds: float) -> None:
    """Let Snakemake's executor of a cluster report a job's end once the job's logs show up here.

    Of a log that comes later it would show nothing, and make an empty file in its place. A job that failed
    before it began has no log: after one such, those of failed jobs are waited for no more.
    """
    if not _submits(executor):
        return
    success, error = executor.report_job_success, executor.report_job_error
    patience = {"seconds": seconds}

    def report_success(job: Any) -> None:
        _see_logs(executor, job, seconds)
        success(job)

    def report_error(job: Any, *arguments: Any, **named: Any) -> None:
        if not _see_logs(executor, job, patience["seconds"]):
            patience["seconds"] = 0
        error(job, *arguments, **named)

    executor.report_job_success, executor.report_job_error = report_success, report_error


def _see_logs(executor: Any, job: Any, seconds: float) -> bool:
    """Whether all logs of a job are there, at the end of some seconds if need be; sooner if the run ends."""
    end = time.monotonic() + seconds
    missing = [path for path in map(Path, job.job.log) if not path.exists()]
    while missing and executor.wait and time.monotonic() < end:
        time.sleep(PAUSE)
        for path in missing:
            look_anew(path.parent)
        missing = [path for path in missing if not path.exists()]
    return not missing


def _submits(executor: Any) -> bool:
    return hasattr(executor, "next_seconds_between_status_checks")


def _cancel_left() -> None:
    """Cancel what was on its way into the queue when Snakemake cancelled the jobs that it knew of."""
    if left := [number for number, ends in jobs_in_queue().items() if not ends]:
        print(f"Cancelled in SLURM's queue: {', '.join(left)}", file=sys.stderr)
        subprocess.run(["scancel", *left], timeout=60, check=False)


def _end_stages(kill: bool) -> None:
    """Signal the stages until none is left: one that has just started may not listen yet."""
    while stages := stages_below():
        for stage in stages:
            with contextlib.suppress(psutil.Error):
                stage.kill() if kill else stage.terminate()
        time.sleep(1)


def stages_below() -> list[psutil.Process]:
    """Processes of `ecsnet` below this one, without the workers of their own."""
    stages: dict[int, psutil.Process] = {}
    for process in psutil.Process().children(recursive=True):  # parents first
        with contextlib.suppress(psutil.Error):
            if _is_stage(process) and process.ppid() not in stages:
                stages[process.pid] = process
    return list(stages.values())
