"""ecsnet as a module of another workflow, as docs/ecosystem.md tells it."""

import os
import re
import subprocess
import sys

import pytest
import yaml
from conftest import REPOSITORY
from test_workflow import CONFIG

OUTER = f"""
configfile: "config.yaml"

rule everything:
    input:
        "traps.txt",

module ecsnet:
    snakefile: {str(REPOSITORY / "Snakefile")!r}
    config: config["ecsnet"]

use rule * from ecsnet as ecsnet_*

module other:
    snakefile: {str(REPOSITORY / "Snakefile")!r}
    config: config["other"]

use rule * from other exclude fetch_weights as other_*

rule traps:
    input:
        config["wanted"],
    output:
        "traps.txt",
    shell:
        "trap -p > {{output}}"

onstart: ecsnet.onstart()
onsuccess: ecsnet.onsuccess()
onerror: ecsnet.onerror()
"""
OTHER = {
    **CONFIG,
    "run": "other",
    "shards": 3,
    "dataset": {**CONFIG["dataset"], "root": "resources/other"},
}
RUNS = {"ecsnet": CONFIG, "other": OTHER}


@pytest.fixture
def outer(tmp_path):
    """Runs Snakemake on the outer workflow, which wants some results of the two runs."""
    (tmp_path / "Snakefile").write_text(OUTER)

    def run(wanted, *arguments, **changes):
        (tmp_path / "config.yaml").write_text(yaml.safe_dump({**RUNS, "wanted": wanted, **changes}))
        return subprocess.run(
            [sys.executable, "-m", "snakemake", "--cores", "2", *arguments],
            cwd=tmp_path, env={**os.environ, "PYTHONPATH": str(REPOSITORY)}, text=True,
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=200, check=False,
        )  # fmt: skip

    run.folder = tmp_path
    return run


def jobs(output):
    table = output.split("Job stats:")[-1].split("\n\n")[0]
    return {rule: int(count) for rule, count in re.findall(r"^(\w+) +(\d+)$", table, re.MULTILINE)}


def test_everything_is_planned_for_both_runs(outer):
    result = outer(["results/tiny/figures/panels.png", "results/other/summary.csv"], "-n")
    assert result.returncode == 0, result.stdout
    found = jobs(result.stdout)
    stages = {name.removeprefix("ecsnet_") for name in found if name.startswith("ecsnet_")}
    assert stages >= {"demo", "prepare_train", "train_cam", "erase", "predict", "score", "figures"}
    assert (found["ecsnet_erase"], found["other_erase"]) == (2, 3)
    assert (found["everything"], found["ecsnet_fetch_weights"]) == (1, 1)


def test_a_run_leaves_other_rules_and_locks_alone(outer):
    locks = outer.folder / ".snakemake" / "locks"
    result = outer(["results/tiny/prepare/train.csv", "results/other/prepare/val.csv"])
    assert result.returncode == 0, result.stdout
    traps = (outer.folder / "traps.txt").read_text()
    assert not {"SIGINT", "SIGTERM"} & set(traps.split())  # neither is ignored in other rules
    assert "Results in results/tiny" in result.stdout  # its handler, which was called
    locks.mkdir(exist_ok=True)
    (locks / "0.output.lock").write_text("traps.txt\n")  # of a run that may live
    (outer.folder / "traps.txt").unlink()
    result = outer(["results/tiny/prepare/train.csv"])
    assert result.returncode == 1
    assert "locked" in result.stdout.lower()


def test_a_mistake_in_its_configuration_is_told(outer):
    result = outer([], "-n", ecsnet={"run": "tiny", "erase": {"treshold": 0.4}})
    assert result.returncode == 1
    assert "erase.treshold: unknown setting 'treshold'; did you mean threshold?" in result.stdout


def test_a_prefix_is_refused(outer):
    (outer.folder / "Snakefile").write_text(OUTER.replace('["ecsnet"]\n', '["ecsnet"]\n    prefix: "sub"\n'))
    result = outer([], "-n")
    assert result.returncode == 1
    assert "a module of ecsnet takes no prefix; its setting `run` names its folders" in result.stdout


def test_the_catalogues_snakefile_is_the_same_workflow(tmp_path):
    def jobs(snakefile):
        (tmp_path / "config.yaml").write_text(yaml.safe_dump(CONFIG))
        command = ["--snakefile", str(REPOSITORY / snakefile), "--cores", "2", "--configfile", "config.yaml"]
        result = subprocess.run(
            [sys.executable, "-m", "snakemake", "-n", *command], cwd=tmp_path, text=True, check=False,
            env={**os.environ, "PYTHONPATH": str(REPOSITORY)}, capture_output=True,
        )  # fmt: skip
        result.stdout += result.stderr
        assert result.returncode == 0, result.stdout
        table = result.stdout.split("Job stats:")[-1].split("\n\n")[0]
        return dict(re.findall(r"^(\w+) +(\d+)$", table, re.MULTILINE))

    ours, theirs = jobs("Snakefile"), jobs("workflow/Snakefile")
    assert theirs.pop("everything") == ours.pop("all") == "1"
    assert ours == theirs
