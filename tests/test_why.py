"""`ecsnet why` on the real workflow: what it calls stale is what `snakemake -n` would run."""

import base64
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import snakemake.cli
import yaml
from conftest import REPOSITORY
from test_workflow import CONFIG as TINY

from ecsnet import changes, why
from ecsnet.cli import main
from ecsnet.errors import UserError
from ecsnet.plan import planned

CONFIG = {
    **TINY,
    "train_cam": {**TINY["train_cam"], "backbone": {"name": "resnet18", "weights": "own.safetensors"}},
}
VOC = {**CONFIG, "run": "photos", "dataset": {**CONFIG["dataset"], "kind": "voc"}}
RULES = re.compile(r"^(\w+) +\d+$", re.MULTILINE)


def write_config(folder, config):
    (folder / "config.yaml").write_text(yaml.safe_dump(config))


def snakemake_here(*arguments):
    """Snakemake in this process, without the hooks that take over signals."""
    options = ["--no-hooks", "--scheduler", "greedy", "--cores", "2", "--configfile", "config.yaml"]
    with pytest.raises(SystemExit) as ended:
        snakemake.cli.main([*arguments, *options])
    assert ended.value.code == 0


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """A folder with the workflow and its run: real up to the tables of masks, recorded stand-ins after."""
    folder = tmp_path_factory.mktemp("why")
    shutil.copy(REPOSITORY / "Snakefile", folder)
    for name in ("workflow", "config", "profiles"):
        shutil.copytree(REPOSITORY / name, folder / name)
    profile = folder / "profiles/default/config.yaml"
    limit = "max-checksum-file-size: 100kB"  # below Snakemake's default
    profile.write_text(re.sub(r"^max-checksum-file-size: .*", limit, profile.read_text(), flags=re.MULTILINE))
    (folder / "own.safetensors").write_bytes(b"weights" * 20_000)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.setenv("PATH", os.environ["PATH"])  # the Snakefile changes it
        write_config(folder, CONFIG)
        snakemake_here("--until", "check_masks", "--quiet", "all")
        with planned(["--configfile", "config.yaml"]) as dag:
            outputs = [Path(file) for job in dag.jobs for file in job.output]
        for path in outputs:
            if not path.exists():
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_text(f"stands for {path.name}")
        snakemake_here("--touch", "--forceall", "--quiet", "all")
        write_config(folder, VOC)
        snakemake_here("results/photos/check_masks/val.csv", "--quiet", "all")
    return folder


@pytest.fixture
def folder(finished, tmp_path, monkeypatch):
    """A copy of the finished folder, which is the current one."""
    copy = tmp_path / "copy"
    shutil.copytree(finished, copy)
    monkeypatch.chdir(copy)
    monkeypatch.setenv("PATH", os.environ["PATH"])
    write_config(copy, CONFIG)
    return copy


def files_of(folder):
    """Times of all files but what remembers the digests of data that were looked at."""
    files = [path for path in folder.rglob("*") if path.is_file() and "fingerprints" not in path.parts]
    return {path: path.stat().st_mtime_ns for path in files}


@pytest.fixture
def answer(folder, capsys):
    """Asks why; checks that nothing was written, and that `snakemake -n` would run what the answer names."""

    def ask(config=CONFIG, targets=()):
        write_config(folder, config)
        before = files_of(folder)
        why.run(targets, ["config.yaml"])
        text = capsys.readouterr().out
        assert files_of(folder) == before
        snakemake_here(*targets, "-n")
        table = capsys.readouterr().out.split("Job stats:")[-1].split("\n\n")[0]
        assert rules_named(text) == set(RULES.findall(table)) - {"all", "total", "supervised"}
        return text.splitlines()

    return ask


def rules_named(text):
    lists = re.findall(r"^(?:not run yet|these follow, .*?): (.*)", text, re.MULTILINE)
    names = [re.sub(r" \(.*?\)", "", name) for line in lists for name in line.split(", ")]
    return set(re.findall(r"^([a-z]\w+) is stale", text, re.MULTILINE)) | set(names)


def changed(section, **values):
    return {**CONFIG, section: {**CONFIG.get(section, {}), **values}}


def touch_later(path, content=None):
    status = path.stat()
    if content is not None:
        path.write_bytes(content)
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns + 3_600_000_000_000))


def other_bytes(path):
    content = bytearray(path.read_bytes())
    content[-20] ^= 1
    path.write_bytes(content)


def record(path):
    return Path(".snakemake/metadata", base64.urlsafe_b64encode(path.encode()).decode())


def test_nothing_is_stale(answer):
    assert answer() == ["Nothing is stale: every result is up to date."]


def test_settings_are_named_with_both_values_and_what_depends_on_them_follows(answer):
    config = changed("erase", threshold=0.4, scales=[1.0, 0.5])
    config["predict"] = {"scales": [1.0], "refine": {"rounds": 3}}
    lines = answer({**config, "seed": 7})
    assert lines[1] == "erase is stale: erase.scales: [1.0] → [1.0, 0.5]; erase.threshold: 0.5 → 0.4"
    assert "train_cam is stale: seed: 0 → 7" in lines
    # a change below a stale stage is told too
    assert "predict_supervised is stale: predict.refine.rounds: 10 → 3" in lines
    follow = "these follow, since they depend on them: evidence, ecs_labels, filter_labels, gather_labels,"
    assert lines[-2].startswith(follow)
    assert lines[-1] == "Nothing was run. `snakemake --cores all --configfile config.yaml` does it."


def test_another_number_of_shards_or_rounds(answer):
    lines = answer({**CONFIG, "shards": 3})
    assert "erase is stale: shards: 2 → 3" in lines
    assert "predict_supervised is stale: shards: 2 → 3" in lines
    lines = answer({**CONFIG, "rounds": 1})
    assert "results/tiny/ecs_labels/round1/2-of-2.npz are read now" in lines[0]
    assert "results/tiny/ecs_labels/round2/2-of-2.npz are no longer read" in lines[0]
    for number in (1, 2, 3):
        Path(f"results/tiny/erase/{number}-of-3.npz").write_text("")
    lines = answer({**CONFIG, "shards": 3})
    assert "train_ecs is stale: shards: 2 → 3" in lines
    assert "score is stale (1 of 6 jobs): shards: 2 → 3" in lines


def test_files_that_are_missing_unfinished_or_replaced(answer):
    for name in ("summary.csv", "score/val.json", "figures/iou.png"):
        Path("results/tiny", name).unlink()
    unfinished = Path(".snakemake/incomplete", record("results/tiny/evidence/2-of-2.npz").name)
    unfinished.write_text("{}")
    Path(".snakemake/locks").mkdir(exist_ok=True)
    Path(".snakemake/locks/0.output.lock").write_text("results/tiny/summary.csv\n")  # must stay
    touch_later(Path("own.safetensors"), b"other" * 30_000)
    touch_later(Path("results/tiny/filter_labels.csv"))  # the same content
    touch_later(Path("results/tiny/prepare/val.csv"), b"another table")
    lines = answer()
    assert "train_cam is stale: own.safetensors is newer than the result" in lines
    assert (
        "evidence is stale (1 of 2 jobs): results/tiny/evidence/2-of-2.npz is unfinished"
        " (its job was stopped, or is running)" in lines
    )
    assert "score is stale (1 of 6 jobs): results/tiny/score/val.json is missing" in lines
    assert "predict is stale: results/tiny/prepare/val.csv changed" in lines
    assert "check_masks is stale (1 of 3 jobs): results/tiny/prepare/val.csv changed" in lines
    assert not any("filter_labels.csv" in line for line in lines)


def test_other_weights(answer):
    backbone = {"name": "resnet18", "weights": "other.safetensors"}
    shutil.copy("own.safetensors", "other.safetensors")
    line = answer(changed("train_cam", backbone=backbone))[0]
    assert line.startswith(
        "train_cam is stale: train_cam.backbone.weights: own.safetensors → other.safetensors;"
    )
    assert line.endswith("other.safetensors is read now; own.safetensors is no longer read")


def test_jobs_without_a_result_never_ran_or_failed(answer):
    shutil.rmtree("results/tiny/erase")
    shutil.rmtree("logs/tiny/erase")
    Path("results/tiny/summary.csv").unlink()
    for number in (1, 2):
        record(f"results/tiny/erase/{number}-of-2.npz").unlink()
        Path(f"results/tiny/evidence/{number}-of-2.npz").unlink()
    assert answer()[0] == "summary is stale: results/tiny/summary.csv is missing"
    lines = answer(changed("evidence", margin=0.2))
    assert lines[-3] == "not run yet: erase"
    log = Path("logs/tiny/erase/1-of-2.log")
    log.parent.mkdir(parents=True)
    log.write_text("out of memory")
    lines = answer(changed("evidence", margin=0.2))
    text = "erase is stale: logs/tiny/erase/1-of-2.log is of a run that left no result; no result yet"
    assert lines[0] == text


def test_an_upgrade_brings_and_takes_settings_and_modules(answer):
    path = record("results/tiny/filter_labels.csv")
    content = json.loads(path.read_text())
    texts = [param.replace('"agreement": 0.8', '"dropped": 1') for param in content["params"]]
    texts = [re.sub(r'"ecsnet/palette.py": "\w+"', '"ecsnet/gone.py": "0"', text) for text in texts]
    path.write_text(json.dumps({**content, "params": texts}))
    line = answer()[0]
    assert (
        "filter_labels.agreement: 0.8 (a new setting); filter_labels.dropped: 1 (no setting any more)" in line
    )
    assert "ecsnet/palette.py is used now; ecsnet/gone.py is no longer used" in line


def test_the_command_of_a_rule(answer):
    path = Path("workflow/rules/labels.smk")
    path.write_text(path.read_text().replace('"ecsnet evidence --', '"ecsnet evidence  --'))
    lines = answer()
    assert lines[0] == "evidence is stale: its rule in workflow/rules changed"
    assert lines[1].startswith("these follow, since they depend on it: train_ecs, ecs_labels, filter_labels")


def test_lists_pictures_tags_and_masks_of_a_data_set(answer):
    root = Path("resources/demo")
    targets = ["results/photos/check_masks/val.csv"]
    assert answer(VOC, targets) == ["Nothing is stale: every result is up to date."]
    for name in ("SegmentationClass/demo_val_0001.png", "JPEGImages/demo_val_0001.jpg"):
        touch_later(root / name)
    assert answer(VOC, targets) == ["Nothing is stale: every result is up to date."]
    other_bytes(root / "SegmentationClass/demo_val_0001.png")
    lines = answer(VOC, targets)
    assert lines[0] == "check_masks is stale: a mask changed, came or went"
    assert (
        lines[1] == f"Nothing was run. `snakemake {targets[0]} --cores all --configfile config.yaml` does it."
    )
    other_bytes(root / "SegmentationClass/demo_val_0001.png")  # as it was
    other_bytes(root / "JPEGImages/demo_val_0001.jpg")
    other_bytes(root / "Annotations/demo_val_0001.xml")
    text = "prepare_val is stale: a picture changed, came or went; a tag file changed, came or went"
    lines = answer(VOC, targets)
    assert lines[0] == text
    assert lines[-2].startswith("First `snakemake prepare --cores all --configfile config.yaml`: where")
    (root / "JPEGImages/demo_val_0001.jpg").unlink()
    (root / "ImageSets/Segmentation/val.txt").write_text("demo_val_0002\n")
    text = "prepare_val is stale: a list changed (4 → 1); a picture changed, came or went (4 → 1);"
    assert answer(VOC, targets)[0].startswith(text)
    shutil.rmtree(root)
    line = answer(VOC, targets)[0]
    assert line == "prepare_train is stale: dataset.tags: annotations → main; the data set is gone"


def test_a_fresh_folder(tmp_path, monkeypatch, capsys):
    shutil.copytree(REPOSITORY / "workflow", tmp_path / "workflow")
    shutil.copytree(REPOSITORY / "config", tmp_path / "config")
    shutil.copy(REPOSITORY / "Snakefile", tmp_path)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PATH", os.environ["PATH"])
    before = files_of(tmp_path)
    assert main(["why", "--configfile", "config/demo.yaml", "results/demo/prepare/val.csv"]) == 0
    assert capsys.readouterr().out.splitlines() == [
        "not run yet: demo, prepare_val",
        "Nothing was run. `snakemake results/demo/prepare/val.csv --cores all --configfile config/demo.yaml`"
        " does it.",
    ]
    assert files_of(tmp_path) == before


def test_what_snakemake_refuses(folder, tmp_path, monkeypatch, capsys):
    with pytest.raises(UserError, match="No rule to produce nothing"):
        why.run(["nothing"], ["config.yaml"])
    with pytest.raises(UserError, match=r"there is no file other\.yaml"):
        why.run([], ["other.yaml"])
    write_config(folder, changed("erase", treshold=0.4))
    assert main(["why", "--configfile", "config.yaml"]) == 1
    assert "erase.treshold: unknown setting 'treshold'; did you mean threshold?" in capsys.readouterr().err
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match=r"there is no Snakefile here; .* or add --snakefile"):
        why.run()
    shutil.copy(folder / "config.yaml", "config.yaml")
    assert main(["why", "config.yaml", "--snakefile", str(REPOSITORY / "Snakefile")]) == 1
    assert "unknown setting 'treshold'" in capsys.readouterr().err


def test_modules_by_the_command_line(folder):
    shutil.copytree(REPOSITORY / "ecsnet", folder / "ecsnet", ignore=shutil.ignore_patterns("__pycache__"))
    module = folder / "ecsnet" / "filter_labels.py"
    module.write_text(module.read_text() + "\n\ndef another() -> None:\n    pass\n")
    code = "import sys; from ecsnet.cli import main; sys.exit(main())"
    result = subprocess.run(
        [sys.executable, "-c", code, "why", "--configfile", "config.yaml"],
        cwd=folder, env={**os.environ, "PYTHONPATH": str(folder)},
        text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=60, check=False,
    )  # fmt: skip
    lines = result.stdout.splitlines()
    assert lines[0] == "filter_labels is stale: ecsnet/filter_labels.py changed"
    assert lines[1].startswith("these follow, since they depend on it: train_segmenter, ")


def test_texts_and_unknown_records():
    assert changes.params_changes("score", ["train"], {"split": "val"}) == [
        "list that is scored: train → val"
    ]
    assert changes.params_changes("x", ["a", "--list-name b"], {"masks": "c", "only": "--list-name d"}) == [
        "folder of masks is now c",
        "list of masks is now d",
    ]
    rows = changes.params_changes("ablation", [["cam/0"]], {"rows": ["cam/0", "cam/1"]})
    assert rows == ["the rows of the table changed"]
    code = '{"ecsnet/erase.py": "1"}'
    assert changes.params_changes("erase", ["e52279ce6aa6a79e"], {"code": code}) == ["its code changed"]
    files = '{"lists": "2 a", "masks": "2 b"}'
    assert changes.params_changes("x", [""], {"files": files}) == ["the data set is another one"]
    assert changes.params_changes("x", ["absent"], {"files": files}) == ["the data set is there now"]


def test_settings_that_look_alike_are_told_apart():
    before = {"a": None, "b": True, "c": [1, 2], "d": {"e": "ä", "f": 1}, "g": 1.0}
    after = {"a": 0, "b": False, "c": [2, 1], "d": {"e": "ö", "f": 1}, "g": 1}
    assert changes.settings_changes("s", before, after) == [
        "s.a: null → 0",
        "s.b: true → false",
        "s.c: [1, 2] → [2, 1]",
        "s.d.e: ä → ö",
        "s.g: 1.0 → 1",
    ]
    assert changes.settings_changes("demo", {"seed": 1}, {"seed": 2}) == ["demo.seed: 1 → 2"]


def test_many_files_are_counted():
    jobs = [[(f"{number}.npz", "is missing"), ("its code changed", "")] for number in range(5)]
    assert why.tell({"erase": jobs}, {"erase": 9}) == [
        "erase is stale (5 of 9 jobs): 0.npz, 1.npz and 3 more are missing; its code changed"
    ]
    assert why.tell({"erase": [[]]}, {"erase": 1}) == ["these follow, since they depend on it: erase"]
