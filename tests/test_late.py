"""Files that show up seconds after they were written, as on a shared file system."""

import re
import subprocess
import sys
import threading
import time
from collections import Counter
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import yaml
from conftest import REPOSITORY
from test_generic import Queue
from test_same_bytes import differing
from test_workflow import CONFIG
from tiny_run import TinyRun

from ecsnet import late, runs
from ecsnet.errors import UserError
from ecsnet.tables import LabelTable

LABEL = np.full((3, 5), 1, np.uint8)
ONCE = {
    **CONFIG,
    "rounds": 1,
    "supervised": {"enabled": False, "masks": "SegmentationClass"},
    "runtime": {"device": "cpu"},
}


@pytest.fixture
def wait(monkeypatch):
    """Sets for how many seconds stages wait."""
    monkeypatch.setattr(late, "PAUSE", 0.02)
    return lambda seconds: monkeypatch.setenv(late.VARIABLE, str(seconds))


@pytest.fixture
def table(tmp_path):
    return TinyRun(tmp_path).write_labels("predict", {"a": LABEL, "b": LABEL, "c": LABEL})


def later(path, *contents):
    """Give a file its contents one after the other, the first of them soon."""

    def write():
        for content in contents:
            time.sleep(0.3)
            path.write_bytes(content)

    threading.Thread(target=write).start()


def test_a_label_image_that_comes_late_is_waited_for(table, wait, capsys):
    wait(20)
    a, b = (table.parent / f"predict/{name}.png" for name in "ab")
    whole = a.read_bytes()
    a.unlink()
    b.write_bytes(b"of an earlier run")
    labels = LabelTable(table, table.parent)
    later(a, whole[:50], whole)
    later(b, whole)
    assert all((labels.get(name) == LABEL).all() for name in "abc")
    assert capsys.readouterr().out == (
        f"{a}: not there, or not whole, yet; waiting for the file system, 20 s at most\n"
    )


def test_the_waits_for_all_that_is_missing_are_short_together(table, wait):
    wait(1)
    a, b = (table.parent / f"predict/{name}.png" for name in "ab")
    a.unlink()
    b.write_bytes(b"cut")
    start = time.monotonic()  # a table's patience begins with it
    labels = LabelTable(table, table.parent)
    for name, problem in (("a", "No such file"), ("b", "was changed after"), ("a", "No such file")):
        with pytest.raises(UserError, match=problem):
            labels.get(name)
    assert 1 <= time.monotonic() - start < 2


def test_what_is_there_or_no_file_of_ours_is_not_waited_for(table, wait, monkeypatch):
    wait(100)
    monkeypatch.setattr(time, "sleep", lambda _: pytest.fail("waits"))
    ours = LabelTable(table, table.parent)
    assert (ours.get("a") == LABEL).all()
    (table.parent / "predict/b.png").unlink()
    (table.parent / "predict/b.png").mkdir()  # which no wait turns into a file
    with pytest.raises(UserError, match="Is a directory"):
        ours.get("b")
    # a table of true masks, that lie in the data root
    (table.parent / "check_masks").mkdir()
    masks = table.rename(table.parent / "check_masks" / "val.csv")
    (table.parent / "predict/a.png").unlink()
    with pytest.raises(UserError, match="No such file"):
        LabelTable(masks, table.parent).get("a")


class Executor:
    """As Snakemake's of a cluster, which reports how jobs ended."""

    next_seconds_between_status_checks = 1

    def __init__(self):
        self.wait, self.said = True, []

    def report_job_success(self, job):
        self.said.append("success")

    def report_job_error(self, job, msg=None):
        self.said.append(msg)


@pytest.mark.parametrize("ending", ["success", "error"])
def test_a_job_is_reported_when_its_log_is_there(tmp_path, wait, ending):
    executor, log = Executor(), tmp_path / "stage.log"
    wait(0)
    runs.wait_for_logs(executor, 20)
    later(log, b"why")
    job = SimpleNamespace(job=SimpleNamespace(log=[str(log)]))
    start = time.monotonic()
    if ending == "success":
        executor.report_job_success(job)
    else:
        executor.report_job_error(job, msg="failed")
    assert log.exists()
    assert time.monotonic() - start < 10
    assert executor.said == [{"success": "success", "error": "failed"}[ending]]


def test_logs_of_jobs_that_never_began_are_not_waited_for_one_by_one(tmp_path, monkeypatch):
    monkeypatch.setattr(runs, "PAUSE", 0.02)
    executor = Executor()
    runs.wait_for_logs(executor, 0.5)
    start = time.monotonic()
    for number in range(20):
        executor.report_job_error(SimpleNamespace(job=SimpleNamespace(log=[tmp_path / f"{number}.log"])))
    assert 0.5 <= time.monotonic() - start < 5
    assert len(executor.said) == 20


def test_a_run_that_ends_does_not_wait_for_logs(tmp_path):
    executor = Executor()
    runs.wait_for_logs(executor, 100)
    executor.wait = False
    start = time.monotonic()
    executor.report_job_success(SimpleNamespace(job=SimpleNamespace(log=[tmp_path / "none.log"])))
    assert time.monotonic() - start < 10


def late_queue(folder):
    queue = Queue(folder)
    queue.environment["LATE_FILES"] = str(Path(__file__).with_name("late_files.py"))
    return queue


def test_a_job_whose_log_comes_late_shows_why_it_failed(tmp_path):
    queue = late_queue(tmp_path)
    config = {**CONFIG, "dataset": {**CONFIG["dataset"], "kind": "voc", "root": "nowhere"}}
    head = queue.start(config, "results/tiny/prepare/val.csv", options=[])
    said, _ = head.communicate(timeout=60)
    assert head.returncode == 1
    assert "there is no folder nowhere" in said
    assert not (queue.queue / "overwritten").exists()


@pytest.mark.long
@pytest.mark.timeout(1500)
def test_a_run_whose_files_all_come_late_ends_with_the_same_bytes(tmp_path):
    """Jobs one by one: else what one has written could not be told from what the next one writes.

    Not the pictures of the data set: a user's are there before a run.
    """
    (tmp_path / "prompt").mkdir()
    (tmp_path / "prompt/config.yaml").write_text(yaml.safe_dump(ONCE))
    command = [
        sys.executable, "-m", "snakemake", "--snakefile", str(REPOSITORY / "Snakefile"), "--cores", "2",
        "--configfile", "config.yaml",
    ]  # fmt: skip
    (tmp_path / "late").mkdir()
    queue = late_queue(tmp_path / "late")
    subprocess.run(command, cwd=tmp_path / "prompt", env=queue.environment, check=True, timeout=600)
    head = queue.start(ONCE, "all", options=["--jobs", "1"])
    said, _ = head.communicate(timeout=900)
    assert head.returncode == 0, said
    assert differing(queue.folder, tmp_path / "prompt") == {}
    planned = {name: int(count) for name, count in re.findall(r"^(\w+) +(\d+)$", said, re.MULTILINE)}
    here = {"all", "fetch_weights", "gather_labels", "summary", "overview", "total"}
    names = [re.search(r"-N (\w+)\.\d+", submitted)[1] for submitted in queue.arguments()]
    assert Counter(names) == {name: count for name, count in planned.items() if name not in here}
    assert not (queue.queue / "overwritten").exists()
    assert said.count("Waiting at most 60 seconds for missing files") >= 15
    logs = {path.stem: path.read_text() for path in (queue.folder / "logs").rglob("*.log")}
    waited = {name for name, text in logs.items() if "waiting for the file system, 60 s at most" in text}
    assert waited & {"train_segmenter", "filtered_labels"}
    assert waited & {"val", "figures"}
