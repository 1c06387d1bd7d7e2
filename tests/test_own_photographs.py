"""A folder of one's own photographs through the real Snakefile, as README.md tells it."""

import csv
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
import yaml
from conftest import REPOSITORY
from PIL import Image, ImageOps
from test_workflow import planned, snakemake

from ecsnet.palette import read_mask, write_mask
from ecsnet.scenes import DEMO_CLASSES, draw_scene
from ecsnet.settings import Demo

pytestmark = [pytest.mark.long, pytest.mark.timeout(900)]

SMALL = {"epochs": 1, "batch_size": 4, "crop_size": 65}
SHORT = {
    "shards": 2,
    "train_cam": SMALL,
    "erase": {"scales": [1.0]},
    "train_ecs": {**SMALL, "head_channels": 8},
    "ecs_labels": {"scales": [1.0]},
    "train_segmenter": SMALL,
    "predict": {"scales": [1.0]},
    "figures": {"panels": 3, "columns": 2},
}
CONFIG = {**yaml.safe_load((REPOSITORY / "config" / "folder.yaml").read_text()), **SHORT}
for name in ("train_cam", "train_segmenter"):
    CONFIG[name] = {**CONFIG[name], "backbone": {"name": "tf_efficientnet_lite0", "weights": "package"}}
CONFIG["dataset"] = {**CONFIG["dataset"], "longest_side": 96}


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A finished run on eleven photographs, one of them untagged, of several formats."""
    folder = tmp_path_factory.mktemp("own")
    (folder / "photos" / "in the garden").mkdir(parents=True)
    (folder / "drawn" / "in the garden").mkdir(parents=True)
    demo = Demo(width=120, height=80)
    tags = {}
    for number in range(11):
        name = [f"{number}.jpg", f"in the garden/photo {number}.png", f"{number}.webp"][number % 3]
        scene = draw_scene(demo, "train", number)
        picture = Image.fromarray(scene.picture)
        exif = Image.Exif()
        if number == 3:
            exif[0x0112] = 8
        picture.save(folder / "photos" / name, exif=exif)
        stem = name.rsplit(".", 1)[0]
        Image.fromarray(scene.labels()).save(folder / "drawn" / f"{stem}.png")
        if number != 10:
            tags[name] = ";".join(sorted({DEMO_CLASSES[index - 1] for index in scene.classes}))
    write_tags(folder, tags)
    result = snakemake(folder, config=CONFIG)
    assert result.returncode == 0, result.stdout
    return folder, result.stdout, tags


def write_tags(folder, tags):
    with (folder / "tags.csv").open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([["image", "labels"], *tags.items()])


def parts_of(folder):
    """The part that each photograph was."""
    with (folder / "results/mine/masks.csv").open(encoding="utf-8", newline="") as file:
        return {row["image"]: row["part"] for row in csv.DictReader(file)}


def test_every_photograph_has_a_mask_of_its_own_size(run):
    folder, _, _ = run
    names = {path.relative_to(folder / "photos").as_posix() for path in (folder / "photos").rglob("*.*")}
    with (folder / "results/mine/masks.csv").open(encoding="utf-8", newline="") as file:
        rows = {row["image"]: row for row in csv.DictReader(file)}
    assert set(rows) == names
    for name, row in rows.items():
        with Image.open(folder / "photos" / name) as picture:
            size = ImageOps.exif_transpose(picture).size
        mask = read_mask(folder / "results/mine" / row["mask"])
        assert mask.shape == size[::-1]
        assert set(np.unique(mask)) <= set(range(len(DEMO_CLASSES) + 1))
    assert [row["part"] for row in rows.values()].count("val") == 1
    assert rows["in the garden/photo 10.png"]["part"] == "rest"


def test_what_cannot_be_scored_is_said(run):
    folder, output, _ = run
    assert "Not scored, for want of true masks: cam, cam_refined, ecs_labels, filtered_labels, val" in output
    assert (folder / "results/mine/summary.csv").read_text() == "what,split,metric,value\n"
    assert "masks of your photographs, under their names" in output
    assert (folder / "results/mine/figures/panels.png").exists()


def test_an_ablation_without_masks_is_refused(run):
    folder, _, _ = run
    result = snakemake(folder, "ablation", config=CONFIG)
    assert result.returncode == 1
    assert "there are no true masks (train), so there is nothing to score with" in result.stdout


def test_only_what_is_stale_runs_again(run, tmp_path):
    folder, _, tags = run
    assert planned(folder, CONFIG) == set()
    copy = tmp_path / "run"
    shutil.copytree(folder, copy, symlinks=True)
    labels = {"evidence", "ecs_labels", "filter_labels"}
    learned = {"train_cam", "erase", "train_ecs", "train_segmenter", "pack_model"}
    shown = {"prepare_all", "predict", "gather_labels", "export_folder", "figures", "overview"}
    Image.new("RGB", (50, 40)).save(copy / "photos" / "new.jpg")  # untagged: everything else stays
    assert planned(copy, CONFIG) == {"import_folder", *shown}
    (copy / "photos" / "new.jpg").unlink()
    tagged = next(name for name in tags if parts_of(folder)[name] == "train")
    found = tags[tagged].split(";")
    more = next(name for name in DEMO_CLASSES if name not in found)
    write_tags(copy, {**tags, tagged: ";".join([*found, more])})
    assert {"import_folder", "prepare_train", *learned, *labels, *shown} <= planned(copy, CONFIG)


def test_masks_bring_scores_and_train_nothing_again(run):
    folder, _, tags = run
    [held] = [name for name, part in parts_of(folder).items() if part == "val"]
    learned = next(name for name in tags if name != held)
    for name in (held, learned):
        mask = f"{name.rsplit('.', 1)[0]}.png"
        (folder / "masks" / mask).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(folder / "drawn" / mask, folder / "masks" / mask)
    # masks have the values of classes that are given; these are those of the tags, too
    assert (folder / "results/mine/prepare/classes.txt").read_text().split() == list(DEMO_CLASSES)
    config = {**CONFIG, "dataset": {**CONFIG["dataset"], "masks": "masks", "classes": list(DEMO_CLASSES)}}
    scored = {"import_masks", "check_masks", "score", "summary", "figures", "overview"}
    assert planned(folder, config) == scored
    result = snakemake(folder, config=config)
    assert result.returncode == 0, result.stdout
    assert "Not scored" not in result.stdout
    assert re.search(r"^filtered_labels .* train_masked ", result.stdout, re.MULTILINE)
    assert planned(folder, config) == set()
    mask = folder / "masks" / f"{held.rsplit('.', 1)[0]}.png"
    write_mask(mask, read_mask(mask) * 0)
    assert planned(folder, config) == scored
    assert snakemake(folder, str(LAID_OUT / "masks.csv"), config=config).returncode == 0
    assert planned(folder, config) == scored - {"import_masks"}


LAID_OUT = Path("resources/folder/mine")


def test_supervised_needs_masks(run):
    folder, _, _ = run
    result = snakemake(folder, "supervised", config=CONFIG)
    assert result.returncode == 1
    assert "there are no true masks (supervised)" in result.stdout


def test_photographs_that_moved_are_linked_anew(run, tmp_path):
    folder, _, _ = run
    copy = tmp_path / "run"
    shutil.copytree(folder, copy, symlinks=True)
    (copy / "photos").rename(copy / "pictures")
    config = {**CONFIG, "dataset": {**CONFIG["dataset"], "images": "pictures"}}
    assert "import_folder" in planned(copy, config)
    parts = [str(LAID_OUT / f"{part}.csv") for part in ("train", "val", "rest")]
    result = snakemake(copy, *parts, config=config)
    assert result.returncode == 0, result.stdout
    assert all(path.exists() for path in (copy / LAID_OUT / "JPEGImages").iterdir())
