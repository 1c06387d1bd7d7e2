"""The real Snakefile on a very small generated data set: every stage, as its user runs it."""

import io
import os
import re
import shutil
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import yaml
from conftest import REPOSITORY
from PIL import Image
from torchvision.datasets import VOCSegmentation

from ecsnet.overview import PICTURES
from ecsnet.palette import read_mask
from ecsnet.scenes import DEMO_CLASSES
from ecsnet.settings import FilterLabels

BACKBONE = {"name": "resnet18", "weights": "none"}
SMALL = {"epochs": 1, "batch_size": 4, "crop_size": 65}
CONFIG = {
    "run": "tiny",
    "shards": 2,
    "rounds": 2,
    "dataset": {
        "kind": "demo",
        "root": "resources/demo",
        "train_list": "train",
        "val_list": "val",
        "classes": list(DEMO_CLASSES),
    },
    "demo": {"train_images": 8, "val_images": 4, "width": 96, "height": 64},
    "train_cam": {**SMALL, "backbone": BACKBONE},
    "erase": {"scales": [1.0]},
    "train_ecs": {**SMALL, "head_channels": 8},
    "ecs_labels": {"scales": [1.0]},
    "train_segmenter": {
        **SMALL,
        "backbone": {"name": "tf_efficientnet_lite0", "weights": "package", "level": -2},
    },
    "predict": {"scales": [1.0]},
    "score": {"train_list": "train"},
    "supervised": {"enabled": True, "masks": "SegmentationClass"},
    "figures": {"panels": 3, "columns": 2},
}
STAGES = {
    "demo", "prepare", "check_masks", "train_cam", "erase", "evidence", "train_ecs", "ecs_labels",
    "filter_labels", "train_segmenter", "train_supervised", "predict", "predict_supervised",
    "gather_labels", "gather_supervised", "score", "summary", "figures", "fetch_weights", "pack_model",
    "overview",
}  # fmt: skip


def snakemake(folder, *arguments, config=CONFIG):
    """Run the real Snakefile in a folder of its own; the finished process."""
    (folder / "config.yaml").write_text(yaml.safe_dump(config))
    command = [
        sys.executable, "-m", "snakemake", *arguments, "--snakefile", REPOSITORY / "Snakefile",
        "--cores", "2", "--configfile", "config.yaml",
    ]  # fmt: skip
    environment = {**os.environ, "PYTHONPATH": str(REPOSITORY), "COLUMNS": "100"}
    return subprocess.run(
        list(map(str, command)), cwd=folder, env=environment, text=True,
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=600, check=False,
    )  # fmt: skip


def planned(folder, config=CONFIG, arguments=()):
    """The rules that a dry run would run."""
    result = snakemake(folder, "-n", *arguments, config=config)
    assert result.returncode == 0, result.stdout
    table = result.stdout.split("Job stats:")[-1].split("\n\n")[0]
    rules = set(re.findall(r"^(\w+) +\d+$", table, re.MULTILINE))
    return rules - {"all", "total"}


def processor_seconds():
    """What the processes started so far have taken, whatever else the machine does."""
    times = os.times()
    return times.children_user + times.children_system


def changed(section, **values):
    return {**CONFIG, section: {**CONFIG.get(section, {}), **values}}


@pytest.fixture(scope="module")
def finished(finished_run):
    """A folder with a finished run, and what the run printed."""
    return finished_run


@pytest.mark.timeout(600)
def test_the_run_ends_with_its_table(finished):
    folder, output = finished
    table = pd.read_csv(folder / "results/tiny/summary.csv")
    assert list(table.columns) == ["what", "split", "metric", "value"]
    assert set(table.what) == {"cam", "cam_refined", "ecs_labels", "filtered_labels", "val", "supervised"}
    assert set(table.split) == {"train", "val"}
    values = table[table.metric != "ratio_to_supervised"].value
    assert len(values) >= 18
    assert values.between(0, 100).all()
    assert (table.metric == "ratio_to_supervised").sum() == 1
    assert "filtered_labels" in output.split("steps (100%) done")[-1]  # printed at the very end


def test_every_rule_leaves_a_log_with_its_command_and_a_benchmark(finished):
    folder, _ = finished
    logs = sorted((folder / "logs").rglob("*.log"))
    stages = {log.read_text().split()[1] for log in logs}
    assert stages >= {name for name in STAGES if "supervised" not in name}
    assert all(log.read_text().startswith("ecsnet ") for log in logs)
    assert len(list((folder / "logs").rglob("*.benchmark.tsv"))) == len(logs)


def test_labels_and_predictions_are_palette_pngs_of_every_image(finished):
    folder, _ = finished
    for name, split, count in (("filter_labels", "train", 8), ("predict", "val", 4)):
        masks = sorted((folder / "results/tiny" / name).glob("*.png"))
        assert [mask.stem for mask in masks] == [
            f"demo_{split}_{number:04d}" for number in range(1, count + 1)
        ]
        values = np.unique(np.concatenate([read_mask(mask).ravel() for mask in masks]))
        assert set(values) <= {*range(len(DEMO_CLASSES) + 1), 255}


RECIPE = re.search(r"```bash\n(.*?)```", (REPOSITORY / "docs/ecosystem.md").read_text(), re.DOTALL)[1]
# as mmsegmentation's PascalVOCDataset shows background and VOC's classes
COLORS = [
    (0, 0, 0), (128, 0, 0), (0, 128, 0), (128, 128, 0), (0, 0, 128), (128, 0, 128), (0, 128, 128),
    (128, 128, 128), (64, 0, 0), (192, 0, 0), (64, 128, 0), (192, 128, 0), (64, 0, 128), (192, 0, 128),
    (64, 128, 128), (192, 128, 128), (0, 64, 0), (128, 64, 0), (0, 192, 0), (128, 192, 0), (0, 64, 128),
]  # fmt: skip


@pytest.mark.parametrize(("labels", "name"), [("filter_labels", "train"), ("predict", "val")])
def test_other_readers_read_label_images(finished, labels, name, tmp_path):
    """By the recipe of docs/ecosystem.md."""
    folder, _ = finished
    first, rest = RECIPE.split("\n", 1)
    assert first == "run=results/voc root=data/VOCdevkit/VOC2012 labels=filter_labels list=train"
    given = f"run={folder}/results/tiny root={folder}/resources/demo labels={labels} list={name}\n"
    subprocess.run(["bash", "-euc", given + rest], cwd=tmp_path, check=True)
    table = pd.read_csv(folder / f"results/tiny/{labels}.csv", na_filter=False)
    kept = list(table.id[table.dropped == ""])
    data = VOCSegmentation(tmp_path / f"voc_{labels}", year="2012", image_set=name)
    assert len(data) == len(kept) > 0
    for (picture, mask), image_id in zip(data, kept, strict=True):
        assert (picture.mode, mask.mode, mask.size) == ("RGB", "P", picture.size)
        assert mask.getpalette()[: 3 * len(COLORS)] == [value for color in COLORS for value in color]
        # what mmsegmentation's LoadAnnotations does: Pillow's pixels as they are, squeezed to bytes
        path = tmp_path / f"voc_{labels}/VOCdevkit/VOC2012/SegmentationClass/{image_id}.png"
        values = np.array(Image.open(io.BytesIO(path.read_bytes()))).squeeze().astype(np.uint8)
        assert np.array_equal(values, read_mask(folder / f"results/tiny/{labels}/{image_id}.png"))
        assert values.shape == picture.size[::-1]
        assert set(np.unique(values)) <= {*range(len(DEMO_CLASSES) + 1), *([255] if name == "train" else [])}


def test_pictures_are_there(finished):
    folder, _ = finished
    names = {path.name for path in (folder / "results/tiny/figures").glob("*.png")}
    assert names == {f"{name}.png" for name in PICTURES}


def contents(path):
    """The bytes of a file, and of what is packed in it."""
    if path.suffix != ".npz":
        return path.read_bytes()
    with zipfile.ZipFile(path) as shard:
        return b"".join(name.encode() + shard.read(name) for name in shard.namelist())


def test_no_artifact_holds_an_absolute_path(finished):
    folder, _ = finished
    artifacts = [path for path in (folder / "results").rglob("*") if path.is_file()]
    assert len(artifacts) > 40
    assert [path for path in artifacts if str(folder).encode() in contents(path)] == []


@pytest.fixture
def disk(tmp_path):
    """Another file system than the code's; where none can be mounted, another folder."""
    folder = tmp_path / "disk"
    folder.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=500m", "tmpfs", folder]
    mounted = subprocess.run(command, capture_output=True, check=False).returncode == 0
    yield folder
    if mounted:
        subprocess.run(["umount", "--lazy", folder], check=True)


def test_results_may_lie_on_another_file_system(finished, disk, tmp_path):
    (disk / "results").mkdir()
    folder = tmp_path / "run"
    folder.mkdir()
    (folder / "results").symlink_to(disk / "results")
    result = snakemake(folder, "results/tiny/erase/1-of-2.npz")
    assert result.returncode == 0, result.stdout
    written = {path for path in (disk / "results").rglob("*") if path.is_file()}
    written -= set(disk.rglob("*.resume.safetensors"))  # goes when a whole run has ended
    assert {path.name for path in written} >= {"train.csv", "weights.safetensors", "1-of-2.npz"}
    for path in written:
        assert path.read_bytes() == (finished[0] / path.relative_to(disk)).read_bytes()
        assert not [place for place in (folder, disk) if str(place).encode() in contents(path)]


def test_a_second_run_does_nothing_and_quickly(finished):
    folder, _ = finished
    seconds = []
    for _ in range(2):
        before = processor_seconds()
        result = snakemake(folder)
        seconds.append(processor_seconds() - before)
        assert result.returncode == 0
        assert "Nothing to be done" in result.stdout
    assert min(seconds) < 3


FROM_FILTER = {
    "filter_labels", "train_segmenter", "predict", "gather_labels", "pack_model", "score", "summary",
    "figures", "overview",
}  # fmt: skip


@pytest.mark.parametrize(
    ("section", "values", "expected"),
    [
        ("runtime", {"checkpoint_seconds": 1, "inference_batch": 3}, set()),
        ("figures", {"panels": 4}, {"figures", "overview"}),
        ("filter_labels", {"drop_share": 0.2}, FROM_FILTER),
        ("predict", {"scales": [1.5]}, {"predict", "predict_supervised", "gather_labels", "gather_supervised",
                                        "pack_model", "score", "summary", "figures", "overview"}),
    ],
)  # fmt: skip
def test_what_a_changed_setting_reruns(finished, section, values, expected):
    folder, _ = finished
    assert planned(folder, changed(section, **values)) == expected


def test_swapped_values_are_noticed(finished):
    folder, _ = finished
    assert FilterLabels().drop_share == 0.1
    assert FilterLabels().agreement == 0.8
    assert planned(folder, changed("filter_labels", agreement=0.1, drop_share=0.8)) == FROM_FILTER


def test_no_stage_before_scoring_reads_a_mask(finished, tmp_path):
    folder, _ = finished
    assert snakemake(tmp_path, "demo").returncode == 0
    shutil.rmtree(tmp_path / "resources/demo/SegmentationClass")
    result = snakemake(tmp_path, "gather_labels", "--rerun-triggers", "mtime")
    assert result.returncode == 0, result.stdout
    for path in sorted((folder / "results/tiny/predict").glob("*.png")):
        assert (tmp_path / "results/tiny/predict" / path.name).read_bytes() == path.read_bytes()
    result = snakemake(tmp_path, "--rerun-triggers", "mtime")
    assert result.returncode == 1
    assert "SegmentationClass" in result.stdout


SUBMISSION = {"prepare_submission", "predict_submission", "gather_submission", "submission"}


def test_a_submission_trains_nothing_and_is_stale_with_the_network(finished):
    folder, _ = finished
    result = snakemake(folder, "submission", "-n")
    assert result.returncode == 1
    assert "submission.test_list: test, but the demo has the lists train and val alone" in result.stdout
    config = changed("submission", test_list="val")
    result = snakemake(folder, "submission", config=config)
    assert result.returncode == 0, result.stdout
    assert set(re.findall(r"^(?:local)?rule (\w+):$", result.stdout, re.MULTILINE)) == SUBMISSION
    assert "4 predictions in results/tiny/submission.tar.gz, read back and found right" in result.stdout
    with tarfile.open(folder / "results/tiny/submission.tar.gz") as tar:
        found = {Path(member.name).name: tar.extractfile(member).read() for member in tar}
    # of the validation list, the run's own predictions
    assert found == {path.name: path.read_bytes() for path in (folder / "results/tiny/predict").glob("*.png")}
    assert planned(folder, config) == planned(folder, config, ["submission"]) == set()
    other = {**config, "train_segmenter": {**CONFIG["train_segmenter"], "learning_rate": 0.02}}
    assert planned(folder, other, ["submission"]) == {"train_segmenter", *SUBMISSION - {"prepare_submission"}}


def test_captions_exist():
    for path in [REPOSITORY / "Snakefile", *(REPOSITORY / "workflow" / "rules").glob("*.smk")]:
        for name in re.findall(r'(?:caption=|^report: )"(.+\.rst)"', path.read_text(), re.MULTILINE):
            assert (path.parent / name).exists(), name


def test_a_typo_is_refused_before_any_job(tmp_path):
    result = snakemake(tmp_path, config=changed("erase", treshold=0.4))
    assert result.returncode == 1
    assert "erase.treshold: unknown setting 'treshold'; did you mean threshold?" in result.stdout
    assert "Traceback" not in result.stdout
    assert not (tmp_path / "results").exists()


def test_a_missing_data_root_ends_in_prepare_with_a_message(tmp_path):
    config = {**CONFIG, "dataset": {**CONFIG["dataset"], "kind": "voc", "root": "nowhere"}}
    result = snakemake(tmp_path, config=config)
    assert result.returncode == 1
    assert "nowhere" in result.stdout
    assert "Traceback" not in result.stdout
    assert "MissingOutputException" not in result.stdout  # the stage's own exit status ends the job
    left = [
        path.relative_to(tmp_path).as_posix() for path in (tmp_path / "results").rglob("*") if path.is_file()
    ]
    assert {f"results/tiny/prepare/{split}_problems.csv" for split in ("train", "val")} >= set(left) > set()


def plan_default(folder, **environment):
    """A dry run of the default configuration, without data; the process and its user and system time."""
    before = processor_seconds()
    result = subprocess.run(
        [sys.executable, "-m", "snakemake", "-n", "--snakefile", str(REPOSITORY / "Snakefile")],
        cwd=folder, env={**os.environ, "PYTHONPATH": str(REPOSITORY), **environment},
        text=True, capture_output=True, timeout=120, check=False,
    )  # fmt: skip
    assert result.returncode == 0, result.stdout[-2000:]
    return result, processor_seconds() - before


def test_planning_the_default_config_is_quick(tmp_path):
    # processor time, of one process: other programs on the machine do not matter
    assert min(plan_default(tmp_path)[1] for _ in range(2)) < 3


def test_planning_imports_nothing_heavy(tmp_path):
    result, _ = plan_default(tmp_path, PYTHONPROFILEIMPORTTIME="1")
    imported = set(re.findall(r"\| +([\w.]+)$", result.stderr, re.MULTILINE))
    assert "ecsnet.settings" in imported
    assert not imported & {"torch", "timm", "torchvision", "scipy", "matplotlib"}  # snakemake imports pandas


def test_a_mistyped_weights_path_is_named_before_any_job(tmp_path):
    wrong = {**SMALL, "backbone": {"name": "resnet18", "weights": "Timm"}}
    result = snakemake(tmp_path, config={**CONFIG, "train_cam": wrong})
    assert result.returncode == 1
    assert "there is no file Timm (relative to where snakemake runs); give timm, package" in result.stdout
    assert "Traceback" not in result.stdout


def test_rule_and_stage_names_agree():
    rules = set()
    for path in (REPOSITORY / "workflow" / "rules").glob("*.smk"):
        rules |= set(re.findall(r"^(?:use rule \w+ as|rule) (\w+)", path.read_text(), re.MULTILINE))
    others = {
        "prepare_train",
        "prepare_val",
        "supervised",
        "summary_supervised",
        "gather_variant",
        "ablation",
        "download",
        *("import_folder", "import_masks", "prepare_all", "export_folder"),
        *("import_coco", "import_coco_masks"),
        *SUBMISSION,
    }
    assert rules == STAGES | others


def test_gpu_rules_declare_what_they_need():
    text = "".join(path.read_text() for path in Path(REPOSITORY / "workflow" / "rules").glob("*.smk"))
    for name in ("train_cam", "erase", "evidence", "train_ecs", "ecs_labels", "train_segmenter", "predict"):
        rule = text.split(f"\nrule {name}:")[1].split("\nrule ")[0]
        for word in (
            "gpu=CARDS" if "train" in name else "gpu=1",
            "threads:",
            "mem_mb=growing(",
            "runtime=growing(",
        ):
            assert word in rule, (name, word)


def test_one_gpu_job_at_a_time_unless_said_otherwise(tmp_path):
    for arguments, budget in (((), 1), (("--resources", "gpu=2"), 2)):
        result = snakemake(tmp_path, "results/tiny/prepare/val.csv", "--forceall", *arguments)
        assert re.search(rf"Provided resources: gpu=\D*{budget}\b", result.stdout), result.stdout


def test_a_training_on_several_cards_has_a_budget_of_as_many(tmp_path):
    config = {**CONFIG, "runtime": {"device": "cpu", "gpus_per_training": 2}}
    plan = ("-n", "results/tiny/train_cam/weights.safetensors")
    result = snakemake(tmp_path, *plan, config=config)
    assert "gpu=2" in result.stdout.split("rule train_cam:")[1]
    result = snakemake(tmp_path, *plan, "--resources", "gpu=1", config=config)
    assert result.returncode == 1
    assert "runtime.gpus_per_training: 2, but --resources gpu=1; lower the one or raise" in result.stdout


@pytest.mark.long
@pytest.mark.timeout(900)
def test_speed_is_measured_on_a_finished_run(finished):
    """Every table but that of start-up, which takes minutes, with as few images as may be."""
    folder, _ = finished
    command = [
        sys.executable, REPOSITORY / "benchmarks" / "bench.py",
        *"ceiling inference precision training refinement decoding counting planning shares growth".split(),
        *"--configfile config.yaml --out tables --threads 1 --images 4 --growth 2 8".split(),
    ]  # fmt: skip
    environment = {**os.environ, "PYTHONPATH": str(REPOSITORY)}
    result = subprocess.run(
        list(map(str, command)), cwd=folder, env=environment, text=True, capture_output=True, check=False
    )
    assert result.returncode == 0, result.stderr
    lines = {path.stem: path.read_text().splitlines() for path in (folder / "tables").glob("*.md")}
    assert all(found[0].startswith("run tiny, commit ") for found in lines.values())
    tables = {name: [row.strip("| ").split(" | ") for row in found[2:]] for name, found in lines.items()}
    assert {name: len(table) - 2 for name, table in tables.items()} == {
        "ceiling": 4, "inference": 3, "precision": 1, "training": 3, "refinement": 2, "decoding": 6,
        "counting": 1, "planning": 3, "shares": 15, "growth": 11,
    }  # fmt: skip
    assert [row[0] for row in tables["inference"][2:]] == ["erase", "ecs_labels", "predict"]
    assert {int(row[1]) for row in tables["inference"][2:]} == {4}
    assert tables["growth"][0][1:3] == ["MB at 2", "MB at 8"]
    assert float(tables["shares"][-1][2]) == pytest.approx(1)
