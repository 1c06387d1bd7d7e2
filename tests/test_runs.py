"""Notes of living runs, and what is left of dead ones."""

import json
import os
import socket
import subprocess
import sys

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
