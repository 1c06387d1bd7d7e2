"""Notes of living runs, and what is left of dead ones."""

import asyncio
import json
import os
import socket
import subprocess
import sys
import threading
import time
from types import SimpleNamespace

import psutil
import pytest

from ecsnet import runs
from ecsnet.errors import UserError


@pytest.fixture
def folder(tmp_path):
    """Snakemake's folder with a lock."""
    (tmp_path / "locks").mkdir()
    (tmp_path / "locks" / "0.input.lock").write_text("results/summary.csv\n")
    (tmp_path / "runs").mkdir()
    return tmp_path


def note(folder, process, started, host=None):
    text = json.dumps({"host": host or socket.gethostname(), "process": process, "started": started})
    (folder / "runs" / "other.json").write_text(text)


def locked(folder):
    return any((folder / "locks").iterdir())


def test_the_lock_of_a_killed_run_is_removed(folder, capsys):
    dead = subprocess.Popen([sys.executable, "-c", ""])
    dead.wait()
    note(folder, dead.pid, 0.0)
    runs.begin(folder)
    assert not locked(folder)
    assert "its lock is removed" in capsys.readouterr().err
    assert len(list((folder / "runs").iterdir())) == 1  # our own


def test_the_lock_of_a_living_run_stays(folder):
    note(folder, os.getpid(), psutil.Process().create_time() - psutil.boot_time())
    runs.begin(folder)
    assert locked(folder)


def test_another_process_with_the_number_of_a_dead_run_is_not_that_run(folder):
    note(folder, os.getpid(), psutil.Process().create_time() - psutil.boot_time() - 1000)
    runs.begin(folder)
    assert not locked(folder)


def test_the_lock_of_a_run_on_another_machine_stays(folder):
    note(folder, 1, 0.0, host="elsewhere")
    runs.begin(folder)
    assert locked(folder)


def test_a_damaged_note_is_of_a_dead_run(folder):
    (folder / "runs" / "other.json").write_text("{")
    runs.begin(folder)
    assert not locked(folder)


@pytest.fixture
def squeue(tmp_path, monkeypatch):
    """A stand-in for SLURM's squeue: prints the lines that it is given, one list for each call."""
    programs = tmp_path / "programs"
    programs.mkdir()
    monkeypatch.setenv("PATH", f"{programs}:{os.environ['PATH']}")
    monkeypatch.chdir(tmp_path)

    def answer(*calls, status=0):
        for number, lines in enumerate(calls):
            (programs / f"{number}.txt").write_text("".join(f"{line}\n" for line in lines))
        program = f"""#!/bin/sh
cd {programs}
cat "$(ls *.txt | sort -n | head -n 1)"
[ $(ls *.txt | wc -l) -eq 1 ] || rm "$(ls *.txt | sort -n | head -n 1)"
echo "$@" >> calls
exit {status}
"""
        (programs / "squeue").write_text(program)
        (programs / "squeue").chmod(0o755)
        return programs / "calls"

    return answer


def test_jobs_of_a_killed_run_end_a_new_one(folder, squeue):
    here = os.getcwd()
    squeue(
        [
            f"12|R|rule_train_cam|{here}",
            f"13|PD|rule_erase_wildcards_1-of-2|{here}",
            f"13|CG|rule_erase_wildcards_2-of-2|{here}",  # of an array
            "14|R|rule_train_cam|/elsewhere",
            f"15|R|(null)|{here}",
        ]
    )
    with pytest.raises(UserError, match=r"SLURM's queue: 12, 13\. .* \(scancel 12 13; .*same command"):
        runs.begin(folder)
    assert locked(folder)  # for the next one to look again
    assert list((folder / "runs").iterdir()) == []


def test_jobs_that_are_about_to_end_are_waited_for(folder, squeue):
    job = f"12|CG|rule_train_cam|{os.getcwd()}"
    squeue([job], [job], [])
    runs.begin(folder)
    assert not locked(folder)


def test_without_a_lock_only_a_run_that_submits_looks_into_the_queue(folder, squeue):
    calls = squeue([f"12|R|rule_train_cam|{os.getcwd()}"])
    (folder / "locks" / "0.input.lock").unlink()
    runs.begin(folder)
    assert not calls.exists()
    with pytest.raises(UserError, match="scancel 12"):
        runs.begin(folder, submits=True)


def test_the_jobs_of_a_living_run_are_left_to_it(folder, squeue):
    note(folder, os.getpid(), psutil.Process().create_time() - psutil.boot_time())
    squeue([f"12|R|rule_train_cam|{os.getcwd()}"])
    runs.begin(folder, submits=True)
    assert locked(folder)  # by which Snakemake ends this one


def test_a_scheduler_that_does_not_answer_ends_no_run_and_is_named(folder, squeue, capsys):
    squeue(["slurm_load_jobs error: Unable to contact slurm controller"], status=1)
    runs.begin(folder, submits=True)
    assert not locked(folder)
    assert "squeue does not answer" in capsys.readouterr().err


def test_a_clusters_executor_sleeps_no_longer_than_its_run():
    executor = SimpleNamespace(wait=True, next_seconds_between_status_checks=100)
    runs.end_when_told(executor)
    threading.Timer(0.3, lambda: setattr(executor, "wait", False)).start()
    start = time.monotonic()
    asyncio.run(executor.sleep())
    assert 0.2 < time.monotonic() - start < 10
    executor.wait, executor.next_seconds_between_status_checks = True, 0.6
    asyncio.run(executor.sleep())  # ends by itself too


def test_a_note_goes_with_its_process(tmp_path):
    program = f"from pathlib import Path; from ecsnet import runs; runs.begin(Path({str(tmp_path)!r}))"
    subprocess.run([sys.executable, "-c", program], check=True)
    assert list((tmp_path / "runs").iterdir()) == []


def test_a_file_in_the_place_of_a_folder_is_named(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    runs.require_folders(["results/voc", "logs/voc"])
    (tmp_path / "results").write_text("")
    with pytest.raises(UserError, match=r"results: is a file, but results/voc has to be a folder; move it"):
        runs.require_folders(["results/voc", "logs/voc"])


def test_results_without_records_are_told(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    runs.warn_without_records("results/voc")
    (tmp_path / "results/voc/prepare").mkdir(parents=True)
    (tmp_path / "results/voc/prepare/train.csv").write_text("")
    (tmp_path / ".snakemake/metadata").mkdir(parents=True)
    (tmp_path / ".snakemake/metadata/a").write_text("{}")
    runs.warn_without_records("results/voc")
    assert capsys.readouterr().err == ""
    (tmp_path / ".snakemake/metadata/a").unlink()
    runs.warn_without_records("results/voc")
    assert (
        "results/voc has results, but .snakemake no record of how they were made" in capsys.readouterr().err
    )


@pytest.mark.skipif(os.getuid() == 0, reason="root may write everywhere")
def test_a_folder_that_may_not_be_written_is_named(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "results").mkdir(mode=0o500)
    with pytest.raises(UserError, match="results: may not be written, but results/voc has to be"):
        runs.require_folders(["results/voc"])
