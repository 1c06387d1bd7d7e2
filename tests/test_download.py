"""Stage download against a local server: what it makes of the archives, and what a kill does to it."""

import errno
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time

import numpy as np
import pandas as pd
import pytest
import yaml
from conftest import REPOSITORY
from PIL import Image
from test_security import snakemake
from voc_archives import (
    CLASSES,
    HEIGHT,
    SBD,
    TRAIN,
    TRAINAUG,
    VAL,
    VOC,
    WIDTH,
    Archives,
    lines,
    mask_of,
    md5,
    packed,
    sbd_files,
    serving,
    voc_files,
)

from ecsnet import cli, download, transfer
from ecsnet.errors import UserError
from ecsnet.palette import read_mask, voc_palette
from ecsnet.settings import Download


@pytest.fixture(autouse=True)
def _no_pauses(monkeypatch):
    monkeypatch.setattr(transfer, "PAUSE", 0.01)


@pytest.fixture
def archives():
    return Archives()


def run(tmp_path, archives, address="http://127.0.0.1:9", **values):
    settings = Download(**archives.settings(address, archives=str(tmp_path / "archives"), **values))
    root = tmp_path / "root"
    download.run(settings, root=root, out=root / "download.json")
    return root


def files_of(root):
    return {
        path.relative_to(root).as_posix(): path.read_bytes() for path in root.rglob("*") if path.is_file()
    }


def expected_files():
    top = "VOCdevkit/VOC2012/"
    files = {name.removeprefix(top): content for name, content in voc_files().items()}
    return {name: content for name, content in files.items() if "SegmentationObject" not in name}


def test_voc_comes_to_its_place_with_trainaug(tmp_path, archives, capsys):
    with serving(archives.content) as server:
        root = run(tmp_path, archives, server.address)
        files = files_of(root)
        stamp = json.loads(files.pop("download.json"))
        assert files.pop("ImageSets/Segmentation/trainaug.txt") == lines(TRAINAUG)
        assert files == expected_files()
        assert stamp == {
            "archives": {
                name: {"md5": md5(content), "bytes": len(content)}
                for name, content in archives.content.items()
            },
            "files": {"JPEGImages": 7, "Annotations": 7, "ImageSets": 3, "SegmentationClass": 4},
            "trainaug": 5,
        }
        assert sorted(path.name for path in root.iterdir()) == [
            "Annotations", "ImageSets", "JPEGImages", "SegmentationClass", "download.json",
        ]  # fmt: skip
        assert "5 images on trainaug" in capsys.readouterr().out
        run(tmp_path, archives, server.address)  # again: nothing to fetch, the same files
        assert len(server.asked) == 2
    assert files_of(root).keys() == {*files, "download.json", "ImageSets/Segmentation/trainaug.txt"}


def test_archives_that_are_there_are_used(tmp_path, archives):
    archives.write(tmp_path / "archives")
    root = run(tmp_path, archives)  # there is no server
    assert (root / "ImageSets/Segmentation/trainaug.txt").read_bytes() == lines(TRAINAUG)
    assert sorted(path.name for path in (tmp_path / "archives").iterdir()) == [VOC, SBD]


def test_masks_are_vocs_own_and_sbds_for_the_others(tmp_path, archives):
    archives.write(tmp_path / "archives")
    root = run(tmp_path, archives, masks=True)
    masks = root / "SegmentationClassAug"
    assert sorted(path.stem for path in masks.iterdir()) == TRAINAUG
    for image_id in TRAIN:
        assert (masks / f"{image_id}.png").read_bytes() == (
            root / f"SegmentationClass/{image_id}.png"
        ).read_bytes()
    for number, image_id in enumerate(["b1", "b2", "b3"], 1):
        assert np.array_equal(read_mask(masks / f"{image_id}.png"), mask_of(number))
    with Image.open(masks / "b1.png") as mask:
        assert (mask.mode, mask.size, mask.getpalette()) == ("P", (WIDTH, HEIGHT), voc_palette())
    assert json.loads((root / "download.json").read_text())["files"]["SegmentationClassAug"] == 5


def test_files_are_on_the_disk_before_their_folders_have_their_names(tmp_path, archives, monkeypatch):
    calls = []
    sync, rename = os.sync, os.rename
    monkeypatch.setattr(os, "sync", lambda: calls.append("sync") or sync())
    monkeypatch.setattr(os, "rename", lambda *paths: calls.append(paths[1].name) or rename(*paths))
    archives.write(tmp_path / "archives")
    run(tmp_path, archives, masks=True)
    assert calls == ["sync", *download.FOLDERS, "sync", "SegmentationClassAug"]


def test_masks_may_be_asked_for_later_and_stand_then(tmp_path, archives):
    archives.write(tmp_path / "archives")
    run(tmp_path, archives)
    root = run(tmp_path, archives, masks=True)
    before = files_of(root)
    assert files_of(run(tmp_path, archives, masks=True)) == before
    (root / "SegmentationClassAug" / "b2.png").unlink()
    with pytest.raises(
        UserError, match=r"SegmentationClassAug is there already, but 1 of the 5 images .* \(b2 is"
    ):
        run(tmp_path, archives, masks=True)


def test_what_a_user_has_is_never_changed(tmp_path, archives):
    archives.write(tmp_path / "archives")
    root = tmp_path / "root"
    (root / "JPEGImages").mkdir(parents=True)
    (root / "JPEGImages" / "mine.jpg").write_bytes(b"mine")
    (root / "Annotations").mkdir()  # empty: nobody's
    with pytest.raises(UserError, match=r"JPEGImages is there already, but of the 7 files .* 7 are missing"):
        run(tmp_path, archives)
    assert files_of(root) == {"JPEGImages/mine.jpg": b"mine"}
    for name, content in expected_files().items():
        if name.startswith("JPEGImages"):
            (root / name).write_bytes(content)
    run(tmp_path, archives)
    assert (root / "JPEGImages" / "mine.jpg").read_bytes() == b"mine"


def test_a_users_own_trainaug_stays(tmp_path, archives):
    archives.write(tmp_path / "archives")
    root = run(tmp_path, archives)
    path = root / "ImageSets/Segmentation/trainaug.txt"
    path.write_bytes(lines(TRAINAUG[::-1]))
    run(tmp_path, archives)
    assert path.read_bytes() == lines(TRAINAUG[::-1])
    path.write_bytes(lines(TRAINAUG[1:]))
    with pytest.raises(UserError, match=r"trainaug\.txt: is there already with other ids; move it away"):
        run(tmp_path, archives)


def test_another_number_of_ids_is_one_message(tmp_path, archives):
    archives.write(tmp_path / "archives")
    counts = r"5 ids, not 10,582 \(VOC train 2, SBD train 3 and val 2, without VOC val 2\); .*trainaug_count"
    with pytest.raises(UserError, match=counts):
        run(tmp_path, archives, trainaug_count=10582)
    assert not (tmp_path / "root/ImageSets/Segmentation/trainaug.txt").exists()
    assert not (tmp_path / "root/download.json").exists()


def replaced(archives, name, files, folder):
    archives.content[name] = packed(files, "w:gz")  # gzip is no matter for either
    archives.write(folder / "archives")


def test_an_id_without_a_picture_is_one_message(tmp_path, archives):
    files = voc_files()
    del files["VOCdevkit/VOC2012/JPEGImages/b2.jpg"]
    replaced(archives, VOC, files, tmp_path)
    with pytest.raises(
        UserError, match=r"JPEGImages: 1 of the 5 ids of trainaug have no picture there \(b2 is one\)"
    ):
        run(tmp_path, archives)


def test_an_archive_of_something_else_is_named(tmp_path, archives):
    replaced(archives, VOC, {"VOCdevkit/VOC2007/JPEGImages/a.jpg": b""}, tmp_path)
    with pytest.raises(UserError, match=r"tar: has no VOC2012/JPEGImages; correct download\.voc_url"):
        run(tmp_path, archives)
    archives = Archives()
    replaced(archives, SBD, {"dataset/train.txt": b"a1\n"}, tmp_path)
    with pytest.raises(
        UserError, match=r"benchmark\.tgz: has no dataset/val\.txt; correct download\.sbd_url"
    ):
        run(tmp_path, archives)


def test_an_id_that_is_a_path_is_refused(tmp_path, archives):
    replaced(archives, SBD, {**sbd_files(), "benchmark_RELEASE/dataset/val.txt": b"../../b2\n"}, tmp_path)
    with pytest.raises(UserError, match="is a path"):
        run(tmp_path, archives)


def test_two_downloads_do_not_meet(tmp_path, archives):
    archives.write(tmp_path / "archives")
    with (
        download._alone(tmp_path / "archives"),
        pytest.raises(UserError, match="archives: another download is at work there"),
    ):
        run(tmp_path, archives)
    run(tmp_path, archives)


def test_archives_may_lie_in_the_data_root(tmp_path, archives):
    archives.write(tmp_path / "root")
    settings = Download(**archives.settings(archives=str(tmp_path / "root")))
    download.run(settings, root=tmp_path / "root", out=tmp_path / "root/download.json")


def test_a_link_in_the_place_of_the_temporary_folder_is_refused(tmp_path, archives):
    archives.write(tmp_path / "archives")
    (tmp_path / "root").mkdir()
    (tmp_path / "precious").mkdir()
    (tmp_path / "precious" / "file").touch()
    (tmp_path / "root/.unpacking").symlink_to(tmp_path / "precious")
    with pytest.raises(UserError, match=r"\.unpacking: is in the way"):
        run(tmp_path, archives)
    assert (tmp_path / "precious" / "file").exists()


def test_a_mask_that_is_damaged_or_missing_is_named(tmp_path, archives):
    files = sbd_files()
    files["benchmark_RELEASE/dataset/cls/b2.mat"] = b"nothing"
    replaced(archives, SBD, files, tmp_path)
    with pytest.raises(UserError, match=r"b2\.mat of SBD's archive is no class mask"):
        run(tmp_path, archives, masks=True)
    del files["benchmark_RELEASE/dataset/cls/b2.mat"]
    (tmp_path / "archives" / SBD).unlink()
    replaced(archives, SBD, files, tmp_path)
    with pytest.raises(
        UserError, match=r"1 of the 5 images of trainaug have no mask .* \(b2 is one\); .* false"
    ):
        run(tmp_path, archives, masks=True)


# The command


def command(tmp_path, archives, address, **values):
    settings = archives.settings(address, archives=str(tmp_path / "archives"), **values)
    root = tmp_path / "root"
    words = [
        "download",
        "--settings",
        json.dumps(settings),
        "--root",
        str(root),
        "--out",
        f"{root}/download.json",
    ]
    return words


@pytest.mark.parametrize(
    ("status", "said"), [(404, "the server answers 404"), (500, "the server answers 500")]
)
def test_a_failure_is_one_message_and_exit_status_1(status, said, tmp_path, archives, capsys):
    with serving(archives.content) as server:
        server.faults = [status] * 9
        assert cli.main(command(tmp_path, archives, server.address, attempts=2)) == 1
        text = capsys.readouterr().err
        assert re.fullmatch(rf"\necsnet download: {server.address}/{VOC}: {said} .*\n", text)
        server.faults = []
        assert cli.main(command(tmp_path, archives, server.address)) == 0


@pytest.mark.parametrize("name", ["archives", "root"])
def test_a_file_in_the_place_of_a_folder_is_named(name, tmp_path, archives, capsys):
    (tmp_path / name).touch()
    assert cli.main(command(tmp_path, archives, "http://127.0.0.1:9")) == 1
    assert re.search(rf"download: .* \(.*/{name}\); move it out of the way", capsys.readouterr().err)


@pytest.mark.parametrize("name", ["archives", "root"])
def test_a_folder_that_may_not_be_written_is_named(name, tmp_path, archives, capsys, monkeypatch):
    """Permissions do not bind root, who may run the tests: a system that refuses stands in for them."""
    (tmp_path / name).mkdir()
    real_mkdir, real_open = os.mkdir, type(tmp_path).open

    def denied(path):
        if str(path).startswith(f"{tmp_path / name}/"):
            raise PermissionError(errno.EACCES, "Permission denied", str(path))

    monkeypatch.setattr(os, "mkdir", lambda path, *rest: denied(path) or real_mkdir(path, *rest))
    monkeypatch.setattr(
        type(tmp_path), "open", lambda path, mode="r", *rest: (
            denied(path) if mode[0] in "wax" else None) or real_open(path, mode, *rest),
    )  # fmt: skip
    with serving(archives.content) as server:
        assert cli.main(command(tmp_path, archives, server.address)) == 1
    assert re.search(rf"not allowed: .*{name}/.*; correct its permissions", capsys.readouterr().err)


def test_a_killed_command_goes_on_wherever_it_was(tmp_path, archives):
    """Killed at ever later calls of the file system, until it comes through; the same files in the end."""
    archives.write(tmp_path / "archives")
    wanted = files_of(run(tmp_path, archives, masks=True))
    shutil.rmtree(tmp_path / "root")
    shutil.rmtree(tmp_path / "archives")
    script = tmp_path / "kill.py"
    script.write_text(KILLED_AFTER)
    kills, step = 0, 1
    with serving(archives.content) as server:
        words = command(tmp_path, archives, server.address, masks=True)
        while True:
            process = subprocess.run(
                [sys.executable, script, str(step), *words], cwd=REPOSITORY, timeout=60, text=True,
                env={**os.environ, "PYTHONPATH": str(REPOSITORY)}, capture_output=True, check=False,
            )  # fmt: skip
            if process.returncode == 0:
                break
            assert process.returncode == -signal.SIGKILL, process.stderr
            assert not (tmp_path / "root/download.json").exists()
            for folder in (
                "JPEGImages",
                "Annotations",
                "ImageSets",
                "SegmentationClass",
                "SegmentationClassAug",
            ):
                assert_whole(tmp_path / "root", folder, wanted)
            kills, step = kills + 1, step + 9
    assert kills >= 6
    assert files_of(tmp_path / "root") == wanted


def assert_whole(root, folder, wanted):
    """A folder of its last name is there with all its files, or not at all."""
    names = {name for name in wanted if name.startswith(f"{folder}/") and not name.endswith("trainaug.txt")}
    if (root / folder).exists():
        assert {name for name in names if (root / name).exists()} == names


KILLED_AFTER = """
import os, signal, sys
from ecsnet import cli
left = int(sys.argv[1])
def watch(event, arguments):
    global left
    writes = event == "open" and arguments[2] & (os.O_WRONLY | os.O_RDWR)
    if writes or event in ("os.rename", "os.mkdir", "os.remove"):
        left -= 1
        if left < 0:
            os.kill(os.getpid(), signal.SIGKILL)
if __name__ == "__main__":
    sys.addaudithook(watch)
    sys.exit(cli.main(sys.argv[2:]))
"""


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_a_transfer_that_was_ended_goes_on(number, tmp_path, archives):
    with serving(archives.content) as server:
        server.faults = ["stall"]
        words = command(tmp_path, archives, server.address)
        process = subprocess.Popen(
            [sys.executable, "-m", "ecsnet", *words], cwd=REPOSITORY, text=True,
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        )  # fmt: skip
        part, half = tmp_path / "archives" / f"{VOC}.part", len(archives.content[VOC]) // 2
        end = time.monotonic() + 20
        while not (part.exists() and part.stat().st_size) and time.monotonic() < end:
            os.sched_yield()
        process.send_signal(number)
        process.communicate(timeout=20)
        assert process.returncode in (-number, 128 + number)
        kept = part.stat().st_size
        assert 0 < kept <= half
        assert cli.main(words) == 0
        assert server.asked[1] == (VOC, f"bytes={kept}-")


# The Snakefile


def test_snakemake_download_and_then_prepare(tmp_path, archives):
    with serving(archives.content) as server:
        server.faults = ["cut:5000"]
        config = {
            "run": "small",
            "dataset": {"root": "data/VOC2012", "classes": list(CLASSES)},
            "download": archives.settings(server.address, archives="data/archives", timeout=5),
        }
        snakemake(tmp_path, config, "download")
        root = tmp_path / "data/VOC2012"
        assert (root / "ImageSets/Segmentation/trainaug.txt").read_bytes() == lines(TRAINAUG)
        assert (tmp_path / "logs/small/download.log").read_text().startswith("ecsnet download --settings ")
        assert "rule download:" not in snakemake(tmp_path, config, "prepare")  # only when asked for
        for split, ids in (("train", TRAINAUG), ("val", VAL)):
            assert list(pd.read_csv(tmp_path / f"results/small/prepare/{split}.csv").id) == ids
        # where from and how is no reason to do it again
        other = {"voc_url": "http://127.0.0.1:9/a", "attempts": 7, "timeout": 9, "archives": "data/archives"}
        config["download"] |= other
        assert "Nothing to be done" in snakemake(tmp_path, config, "download")


def failing(folder, config, *arguments):
    (folder / "config.yaml").write_text(yaml.safe_dump(config))
    result = subprocess.run(
        [sys.executable, "-m", "snakemake", "download", *arguments, "--snakefile", REPOSITORY / "Snakefile",
         "--cores", "1", "--configfile", "config.yaml"],
        cwd=folder, env={**os.environ, "PYTHONPATH": str(REPOSITORY)}, text=True, timeout=100,
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, check=False,
    )  # fmt: skip
    assert result.returncode == 1
    assert "Traceback (most" not in result.stdout
    return result.stdout


def test_a_failed_job_deletes_nothing_and_runs_once(tmp_path, archives):
    root = tmp_path / "data"
    (root / "JPEGImages").mkdir(parents=True)
    (root / "JPEGImages/mine.jpg").touch()
    archives.write(tmp_path / "resources/archives")
    config = {"dataset": {"root": "data"}, "download": archives.settings()}
    said = failing(tmp_path, config, "--retries", "3")
    assert "data/JPEGImages is there already" in said
    assert (tmp_path / "logs/voc/download.log").read_text().count("is there already") == 1
    assert "Trying to restart" not in said
    assert (root / "JPEGImages/mine.jpg").exists()


def test_it_is_refused_before_anything_runs_where_voc_has_no_place(tmp_path, archives):
    config = {"dataset": {"kind": "demo", "root": "demo"}, "download": archives.settings()}
    assert "dataset.kind: demo, but `download` is for VOC 2012; set it to voc" in failing(tmp_path, config)
    (tmp_path / "data").touch()
    config["dataset"] = {"root": "data/VOC2012"}
    assert "data: is a file, but data/VOC2012 has to be a folder" in failing(tmp_path, config)
