"""What stands at the end of a run."""

import os

from ecsnet import ending


def write_benchmark(path, seconds, moment):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"s\th:m:s\tmax_rss\n{seconds}\t0:00:00\t1.0\n")
    os.utime(path, (moment, moment))


def test_times_are_added_up_by_stage_in_the_order_of_the_run(tmp_path, monkeypatch):
    monkeypatch.setenv("COLUMNS", "60")
    write_benchmark(tmp_path / "train_cam.benchmark.tsv", 61.0, 1)
    write_benchmark(tmp_path / "erase" / "1-of-2.benchmark.tsv", 10.0, 2)
    write_benchmark(tmp_path / "erase" / "2-of-2.benchmark.tsv", 20.5, 3)
    write_benchmark(tmp_path / "ablation" / "x" / "erase" / "1-of-1.benchmark.tsv", 3600.0, 4)
    write_benchmark(tmp_path / "summary.benchmark.tsv", 0.4, 5)
    (tmp_path / "summary.log").touch()
    times = ending.stage_times(tmp_path)
    assert list(times) == ["train_cam", "erase", "ablation", "summary"]
    assert times["erase"] == (30.5, 2, 1.0)
    assert ending.times_text(times).splitlines() == [
        "Time, all jobs added up: 1:01:32: train_cam 1:01, erase 0:30",
        "  (2 jobs), ablation 1:00:00",
    ]


def test_only_what_is_there_is_named(tmp_path):
    (tmp_path / "predict").mkdir()
    text = ending.places_text(tmp_path, "snakemake --report report.html")
    assert text.splitlines()[1:] == [
        "  predict             masks by the network",
        "  Snakemake's report  snakemake --report report.html",
    ]


def test_times_without_any_record(tmp_path):
    assert ending.times_text(ending.stage_times(tmp_path)) == ""
