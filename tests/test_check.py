"""`ecsnet check` on the real workflow: what it finds, what it leaves alone, and how its sums are made."""

import dataclasses
import os
import re
import shutil
import socket
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import timm
import torch
import yaml
from coco_folder import DATASET, make_coco, write_picture
from conftest import REPOSITORY
from PIL import Image
from safetensors.torch import save_file
from voc_folder import CLASSES, make_voc, run_prepare, write_list

from ecsnet import check, estimate, machine, speeds, stand_ins, survey, trial
from ecsnet.cli import main
from ecsnet.plan import Jobs
from ecsnet.report import Report, size
from ecsnet.settings import VOC_CLASSES, Config, Dataset, Runtime, TrainCam, parse_config
from ecsnet.speeds import Speeds
from ecsnet.store import ShardWriter
from ecsnet.survey import Pictures
from ecsnet.tables import ImageRecord

BACKBONE = {"name": "resnet18", "weights": "none"}
SMALL = {"epochs": 1, "batch_size": 2, "crop_size": 33}
CONFIG = {
    "run": "tiny",
    "shards": 2,
    "dataset": {"root": "voc", "train_list": "train", "val_list": "val", "classes": list(CLASSES)},
    "train_cam": {**SMALL, "backbone": BACKBONE},
    "erase": {"scales": [1.0]},
    "train_ecs": {**SMALL, "head_channels": 8},
    "ecs_labels": {"scales": [1.0]},
    "train_segmenter": {**SMALL, "backbone": BACKBONE},
    "predict": {"scales": [1.0]},
    "score": {"train_list": "train"},
    "runtime": {"device": "cpu", "workers": 0},
}


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A project with a tiny data set of VOC's layout, which is the current folder."""
    for name in ("workflow", "config"):
        shutil.copytree(REPOSITORY / name, tmp_path / name)
    shutil.copy(REPOSITORY / "Snakefile", tmp_path)
    make_voc(tmp_path / "voc")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PATH", "/usr/bin:/bin")  # the Snakefile changes it
    return tmp_path


def changed(section, **values):
    return {**CONFIG, section: {**CONFIG.get(section, {}), **values}}


@pytest.fixture
def answer(folder, capsys):
    """Checks a configuration, and that nothing is written; the exit status and the lines."""

    def ask(config=CONFIG, *words):
        Path("mine.yaml").write_text(yaml.safe_dump(config))
        before = files_of(folder)
        code = main(["check", "mine.yaml", *(words or ["--no-timing"])])
        assert files_of(folder) == before
        return code, capsys.readouterr().out.splitlines()

    return ask


def files_of(folder):
    files = [path for path in folder.rglob("*") if path.is_file() and ".snakemake" not in path.parts]
    return {path: path.stat().st_mtime_ns for path in files}


def starting(lines, status):
    return [line.split(maxsplit=1)[1] for line in lines if line.startswith(status)]


# the whole command


def test_a_run_that_is_in_order(answer):
    code, lines = answer()
    assert code == 0
    assert not starting(lines, "problem")
    text = "\n".join(lines)
    assert "run tiny, shards 2\n" in text
    assert "batch_size 2, crop_size 33, backbone.name resnet18, backbone.weights none\n" in text
    assert "train: 2 pictures of train can be read" in text
    assert "2 classes, with 1 (dog) to 2 (cat) training pictures" in text
    assert "few training pictures, so that masks will be poor: dog 1, cat 2" in text
    assert "score.val_masks: 1 masks in SegmentationClass are in order" in text
    assert "resnet18 begins with random ones" in text
    assert lines[-1] == f"To run it: snakemake --cores {check.usable_cores()} --configfile mine.yaml"


def test_a_run_that_may_not_be_compared_is_told_before_it_runs(answer):
    _, lines = answer(changed("dataset", classes=list(VOC_CLASSES)))
    [note] = [line for line in starting(lines, "note") if line.startswith("results")]
    assert "it learned from 2 images, not from the 10582 of trainaug; scored on" in note
    assert "scored on 1 images, not on 1449: val" in note
    assert not any("published" in line for line in answer()[1])  # of other classes: nobody would


def test_a_data_set_in_cocos_layout(answer, folder):
    make_coco(folder / "coco")
    config = {**CONFIG, "dataset": {**dataclasses.asdict(DATASET), "classes": list(DATASET.classes)}}
    del config["score"]
    code, lines = answer(config)
    assert code == 0, lines
    (folder / "coco/train/a.jpg").unlink()
    write_picture(folder / "coco/train/b.jpg", 1, size=(4, 6))
    (folder / "coco/val/n.jpg").write_text("no picture")
    code, lines = answer(config)
    assert code == 1
    problems = "\n".join(starting(lines, "problem"))
    assert "a.jpg is not in coco/train; add the picture, or take it out of the JSON" in problems
    assert "b.jpg: has 4×6 pixels, but coco/train.json says 6×4" in problems
    assert "n.jpg: is neither a JPEG nor a PNG picture" in problems
    shutil.rmtree(folder / "coco/train")
    (folder / "coco/train").mkdir()
    problems = starting(answer(config)[1], "problem")
    assert len(problems) == 2
    assert "none of its" in problems[0]


def test_what_is_done_is_left_out(answer, folder):
    data = make_voc(folder / "voc")
    run_prepare(data, folder / "results/tiny/prepare")
    _, lines = answer()
    assert "up to date, and left out here: prepare_train, prepare_val" in "\n".join(lines)


def test_every_problem_of_the_data_is_told(answer, folder):
    ids = [f"gone{number}" for number in range(12)]
    write_list(folder / "voc", "train", "\n".join(["a1", "a2", *ids]))
    (folder / "voc/JPEGImages/v1.jpg").write_bytes(b"no picture")
    code, lines = answer()
    assert code == 1
    problems = starting(lines, "problem")
    assert sum("is not in voc/JPEGImages" in line for line in problems) == 10
    # a picture that is absent has no tags either
    assert any("… and 14 more" in line for line in problems)
    assert "v1.jpg: is neither a JPEG nor a PNG picture" in problems[-1]
    assert lines[-1].startswith("25 problems. Once nothing is left of that: snakemake --cores ")


def test_masks_that_are_damaged_or_not_there(answer, folder):
    (folder / "voc/SegmentationClass/a1.png").write_bytes(b"")
    code, lines = answer(changed("score", val_masks=None))
    assert code == 1
    assert ["a1.png: is empty" in line for line in starting(lines, "problem")] == [True]
    assert "none (score.val_masks is null): the trained network will not be scored" in "\n".join(lines)
    code, lines = answer(changed("score", train_masks="nowhere"))
    assert "voc/nowhere: no such folder of true masks" in starting(lines, "problem")[0]


def test_a_root_that_is_not_there_is_told_once(answer):
    code, lines = answer(changed("dataset", root="nowhere"))
    assert code == 1
    assert ["there is no folder nowhere" in line for line in starting(lines, "problem")] == [True]


def test_mistakes_in_the_configuration_are_told_as_snakemake_tells_them(answer, folder, capsys):
    code, lines = answer(changed("erase", treshold=0.4))
    assert (code, lines) == (1, [])
    Path("mine.yaml").write_text(yaml.safe_dump(changed("erase", treshold=0.4)))
    assert main(["check", "--configfile", "mine.yaml"]) == 1
    said = capsys.readouterr().err.removeprefix("ecsnet check: ")
    assert main(["why", "--configfile", "mine.yaml"]) == 1  # as Snakemake has it
    assert capsys.readouterr().err.endswith(said)
    Path("mine.yaml").write_text("run: [")
    assert main(["check", "mine.yaml"]) == 1
    assert "not valid JSON or YAML" in capsys.readouterr().err
    Path("mine.yaml").write_bytes("run: mine\n".encode("utf-16"))
    for command in ("check", "why"):
        assert main([command, "mine.yaml"]) == 1
        assert "a configuration file is no UTF-8 text" in capsys.readouterr().err
    assert main(["check", "absent.yaml"]) == 1
    assert "absent.yaml" in capsys.readouterr().err


def test_weights_that_are_missing_or_out_of_reach(answer, monkeypatch):
    def refuse(address, timeout):
        raise OSError(101, "Network is unreachable")

    monkeypatch.setattr(socket, "create_connection", refuse)
    monkeypatch.setattr(machine, "try_to_load_from_cache", lambda *words: None)
    monkeypatch.setattr(machine.constants, "HF_HUB_OFFLINE", False)
    for name in ("HTTPS_PROXY", "https_proxy", "ALL_PROXY", "all_proxy"):
        monkeypatch.delenv(name, raising=False)
    config = changed("train_cam", backbone={"name": "resnet18", "weights": "timm"})
    config["train_segmenter"] = {**SMALL, "backbone": {"name": "resnet18", "weights": "own.safetensors"}}
    code, lines = answer(config)
    assert code == 1
    problems = starting(lines, "problem")
    assert any("there is no file own.safetensors" in line for line in problems)
    assert any(
        "but there is no connection (Network is unreachable); set train_cam" in line for line in problems
    )
    config = changed("train_cam", backbone={"name": "resnet81", "weights": "timm"})
    assert any("backbone 'resnet81'" in line for line in starting(answer(config)[1], "problem"))


def test_weights_of_another_network_are_told_before_the_run(answer, folder):
    config = changed("train_cam", backbone={"name": "resnet18", "weights": "own.safetensors"})
    network = timm.create_model("resnet18")
    save_file(network.state_dict(), folder / "own.safetensors")
    code, lines = answer(config)
    assert code == 0
    assert any("resnet18: own.safetensors is there" in line for line in starting(lines, "ok"))
    save_file(timm.create_model("test_resnet").state_dict(), folder / "own.safetensors")
    assert "own.safetensors: not the weights of resnet18" in starting(answer(config)[1], "problem")[0]
    torch.save(network.state_dict(), folder / "own.safetensors")
    assert "own.safetensors: not a readable safetensors" in starting(answer(config)[1], "problem")[0]


def test_a_generated_data_set(answer):
    dataset = {"kind": "demo", "root": "resources/demo", "train_list": "train", "val_list": "val"}
    config = {**CONFIG, "dataset": {**dataset, "classes": ["beetle", "cactus"]}}
    code, lines = answer({**config, "demo": {"train_images": 8, "val_images": 4}})
    assert code == 0
    assert "the run itself makes it: 8 + 4 pictures" in "\n".join(lines)


def test_a_folder_of_photographs(answer, folder):
    (folder / "photos").mkdir()
    tags = ["image,labels"]
    for number in range(6):
        Image.new("RGB", (90, 40), (number, 0, 0)).save(folder / f"photos/{number}.png")
        tags.append(f"{number}.png,cat")
    Image.new("RGB", (90, 40)).save(folder / "photos/untagged.png")
    (folder / "tags.csv").write_text("\n".join(tags))
    config = {**CONFIG, "dataset": {"kind": "folder", "images": "photos", "tags": "tags.csv"}}
    code, lines = answer({**config, "dataset": {**config["dataset"], "longest_side": 45}})
    text = "\n".join(lines)
    assert code == 0, text
    assert "7 photographs: 5 to learn from, 1 held back, 1 without labels get masks alone" in text
    assert "none: the labels from cam to filtered_labels will not be scored" in text
    (folder / "photos/3.png").write_bytes(b"broken")
    code, lines = answer(config)
    assert code == 1
    assert "photos/3.png" in starting(lines, "problem")[0]
    (folder / "tags.csv").write_text("image,labels\n9.png,cat\n")
    code, lines = answer(config)
    assert code == 1
    assert sum("9.png is not in photos" in line for line in lines) == 1


def test_masks_of_photographs(tmp_path, capsys):
    for name in ("photos", "drawn"):
        (tmp_path / name).mkdir()
    Image.new("RGB", (90, 40)).save(tmp_path / "photos/a.png")
    (tmp_path / "tags.csv").write_text("a.png,cat\n")
    paths = {"images": str(tmp_path / "photos"), "tags": str(tmp_path / "tags.csv")}
    source = Dataset(kind="folder", **paths, masks=str(tmp_path / "drawn"), classes=("cat",))

    def found():
        report = Report()
        survey._survey_drawn(source, 1, report)
        return report.problems, capsys.readouterr().out

    count, text = found()
    assert count == 0
    assert text.startswith("note")
    assert f"0 masks in {tmp_path / 'drawn'}" in text
    for value, problems, words in ((255, 1, "no mask has any class"), (1, 0, "are in order, values 1")):
        Image.new("L", (90, 40), value).save(tmp_path / "drawn/a.png")
        count, text = found()
        assert (count, words in text) == (problems, True), text


def test_a_disk_without_room(answer, monkeypatch):
    monkeypatch.setattr(machine.shutil, "disk_usage", lambda path: shutil._ntuple_diskusage(10, 9, 1_000_000))
    code, lines = answer()
    assert code == 1
    assert "where 1 MB are free" in starting(lines, "problem")[0]


def test_stages_are_timed(answer, monkeypatch):
    monkeypatch.setattr(trial, "SECONDS", 0.01)
    monkeypatch.setattr(speeds, "_start_seconds", lambda: 1.0)
    code, lines = answer(CONFIG, "--configfile", "mine.yaml")
    assert code == 0, lines
    rules = ["train_cam", "erase", "evidence", "train_ecs", "ecs_labels", "train_segmenter", "predict"]
    times = [line for line in lines if any(f"  {rule} " in line for rule in [*rules, "in all"])]
    assert [re.split(r" \d+:\d\d", line)[0].split()[-1] for line in times] == [*rules, "all"]
    assert any("for the largest job in the trial" in line for line in lines)
    assert torch.get_num_threads() >= 1


def test_a_trial_that_fails_is_a_problem(answer, monkeypatch):
    def fail(*arguments, **named):
        raise torch.OutOfMemoryError("CUDA out of memory.")

    monkeypatch.setattr(speeds, "_start_seconds", lambda: 1.0)
    monkeypatch.setattr(trial, "time_steps", fail)
    code, lines = answer(CONFIG, "--configfile", "mine.yaml")
    assert code == 1
    assert "train_cam: out of memory" in starting(lines, "problem")[0]


def test_without_torch_where_the_configuration_is_wrong(folder):
    (folder / "mine.yaml").write_text("erase: {treshold: 1}")
    code = (
        "import sys; from ecsnet.cli import main; main(['check', 'mine.yaml']); print('torch' in sys.modules)"
    )
    result = subprocess.run(
        [sys.executable, "-c", code], cwd=folder, text=True,
        env={**os.environ, "PYTHONPATH": str(REPOSITORY)}, capture_output=True, check=True,
    )  # fmt: skip
    assert result.stdout == "False\n"


# its parts

RECORD = ImageRecord("a", "a.jpg", 50, 37, (1, 3), "0")


def test_bytes_of_shards_are_those_of_the_arrays(tmp_path):
    cells, half = (10, 13), (18, 25)
    path = tmp_path / "erase.npz"
    with ShardWriter(path) as writer:
        for number in range(20):
            maps = np.zeros((2, *cells), np.float16)
            writer.add(
                f"image{number}", classes=np.array([1, 3], np.uint8), cam=maps, erased_cam=maps,
                region=np.zeros(cells, bool), probability=np.zeros((2, 2), np.float32),
            )  # fmt: skip
    assert path.stat().st_size == pytest.approx(20 * estimate.erase_bytes(RECORD, 4), rel=0.05)
    with ShardWriter(path) as writer:
        label, scores = np.zeros(half, np.uint8), np.zeros((3, *half), np.float16)
        for number in range(20):
            classes = np.array([1, 3], np.uint8)
            writer.add(f"image{number}", classes=classes, scores=scores, label=label, cam_label=label)
    assert path.stat().st_size == pytest.approx(20 * estimate.scores_bytes(RECORD, 0.5, 2), rel=0.05)


def test_times_are_jobs_steps_and_pictures_times_what_was_measured():
    config = dataclasses.replace(Config(), shards=4, train_cam=TrainCam(epochs=2, batch_size=8))
    records = [ImageRecord(str(number), "", 1000, 500, (1,), "") for number in range(40)]
    pictures = Pictures(records, records[:8], 8, None)
    measured = Speeds(step={"train_cam": 0.5}, image={"erase": 2.0, "predict": 4.0}, start=3.0)
    jobs = {
        "train_cam": Jobs("train_cam", 1, 1),
        "erase": Jobs("erase", 2, 4),
        "predict_supervised": Jobs("predict", 4, 4),
    }
    cam, erase, predict = estimate.costs(config, pictures, jobs, measured, 1)
    assert cam.seconds == 3 + estimate.END_SECONDS + 10 * 0.5
    assert cam.text == "10 steps, 0.50 s each"
    assert erase.seconds == 2 * (3 + estimate.END_SECONDS) + 20 * 0.5 * 2.0
    assert predict.seconds == 4 * (3 + estimate.END_SECONDS) + 8 * 0.5 * 4.0
    [_, shared, _] = estimate.costs(config, pictures, jobs, measured, 2)
    assert shared.seconds == erase.seconds / 2


def test_a_sample_is_spread_over_the_sizes():
    records = [ImageRecord(str(side), "", side, 10, (1,), "") for side in range(1, 101)]
    chosen = [one.width for one in stand_ins.sample(records, 4, same_shape=False)]
    assert sorted(chosen) == [13, 38, 63, 88]
    assert chosen[0] == 63
    assert len(stand_ins.sample(records, 500, same_shape=False)) == 100
    assert stand_ins.sample(records[:1], 8, same_shape=True) == records[:1]


def test_pictures_drawn_in_place_of_others_have_their_size(tmp_path):
    record = stand_ins.draw(RECORD, tmp_path)
    with Image.open(tmp_path / record.image) as picture:
        assert picture.size == (50, 37)
    maps = stand_ins.maps(RECORD)
    assert set(np.unique(maps["label"])) == {0, 1, 3, 255}
    assert maps["region"].shape == maps["label"].shape == (18, 25)


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (9, "a few seconds"),
        (70, "a minute"),
        (493, "8.2 minutes"),
        (4467, "74 minutes"),
        (90000, "25 hours"),
        (3e5, "3.5 days"),
    ],
)
def test_durations(seconds, text):
    assert check.duration(seconds) == text


@pytest.mark.parametrize(
    ("count", "text"), [(900, "1 kB"), (2.5e6, "2 MB"), (3.21e9, "3.2 GB"), (5e12, "5000.0 GB")]
)
def test_sizes(count, text):
    assert size(count) == text


def test_cards_against_what_is_asked_for(capsys):
    config = parse_config({"runtime": {"gpus_per_training": 3}, "train_ecs": {"batch_size": 15}})
    report = Report()
    machine._report_sharing(config, 2, report)
    text = capsys.readouterr().out
    assert "runtime.gpus_per_training: 3, but 2 card(s) are visible" in text
    assert "train_cam.batch_size: 16 pictures cannot be shared equally by 3 cards" in text
    assert "train_ecs" not in text
    assert report.problems == 3


def test_a_device_that_is_not_there(monkeypatch, capsys):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    report = Report()
    config = dataclasses.replace(Config(), runtime=Runtime(device="cuda"))
    assert machine.report_device(config, 8, report) == 0
    text = capsys.readouterr().out
    assert report.problems == 1
    assert "runtime.device: cuda, but torch sees no card" in text
    assert "trainings compute with cpu_threads 2 of 8 cores" in text


def test_many_problems_are_counted_but_not_all_shown(capsys):
    report = Report()
    report.many("data", [f"problem {number}" for number in range(25)], "the rest is elsewhere")
    lines = capsys.readouterr().out.splitlines()
    assert report.problems == 25
    assert len(lines) == 11
    assert lines[0].split() == ["problem", "data", "problem", "0"]
    assert lines[-1].endswith("… and 15 more; the rest is elsewhere")
    assert lines[1].index("problem 1") == lines[0].index("problem 0")


def test_unscored_kinds_of_the_bound(capsys):
    config = parse_config({"supervised": {"masks": None}})
    survey.survey_masks(config, config.dataset, Pictures([], [], 0, None), True, 1, Report())
    assert "(supervised.masks is null): the supervised bound will not be scored" in capsys.readouterr().out
