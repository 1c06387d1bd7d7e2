"""The documents: every command is run, or planned where it would take hours; every link leads somewhere."""

import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import yaml
from conftest import REPOSITORY
from PIL import Image
from stage_data import make_data
from test_pack_model import pack
from voc_folder import write_list, write_picture

from ecsnet.palette import write_mask
from ecsnet.settings import parse_config

DOCUMENTS = [REPOSITORY / "README.md", *sorted((REPOSITORY / "docs").glob("*.md"))]
DOCUMENTS += [path for path in [REPOSITORY / "CONTRIBUTING.md"] if path.exists()]
PROGRAMS = ("snakemake", "ecsnet", "make", "python")
KNOWN = {
    *("snakemake --unlock", "snakemake --forceall", "snakemake --lint"),  # of Snakemake's own
    "snakemake --cores 16 --resources gpu=2 --configfile config/coco.yaml",  # tests/test_coco.py
    *("snakemake results/demo/score/cam_refined.json", "snakemake results/small/erase/1-of-2.npz"),
    *("ecsnet predict-folder --overlays", "ecsnet score-folder"),  # names, not commands
}
"""What is not to be tried here: what other tests do, and words that are no whole command."""


def commands() -> list[str]:
    """The commands of all documents: in code blocks, and as `code` within a line."""
    found = []
    for path in DOCUMENTS:
        text = path.read_text(encoding="utf-8")
        for language, block in re.findall(r"^```(\w*)\n(.*?)^```", text, re.MULTILINE | re.DOTALL):
            if language in ("", "bash", "sh"):
                found += [re.split(" +#", line)[0].strip() for line in block.splitlines()]
        plain = re.sub(r"^```.*?^```", "", text, flags=re.MULTILINE | re.DOTALL)
        found += [code for code in re.findall(r"`([^`\n]+)`", plain) if " " in code]
    whole = [line for line in found if not set("<…") & set(line)]
    return sorted({line for line in whole if line.split(" ")[0] in PROGRAMS})


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """What the documents take for granted: configurations, photographs, a trained network."""
    folder = tmp_path_factory.mktemp("docs")
    for name in ("profiles", "Snakefile", "workflow", "Makefile"):
        (folder / name).symlink_to(REPOSITORY / name)
    shutil.copytree(REPOSITORY / "config", folder / "config")
    (folder / "config" / "mine.yaml").write_text("run: third\nseed: 3\n")
    voc = folder / "data" / "VOCdevkit" / "VOC2012"
    write_list(voc, "test", "t1\n")
    write_list(voc, "val", "v1\n")
    for labels in (folder / "irn_masks", voc / "SegmentationClass"):  # of another method
        write_mask(labels / "v1.png", np.eye(8, dtype=np.uint8))
    write_picture(voc / "JPEGImages" / "t1.jpg")
    (folder / "photos" / "may").mkdir(parents=True)
    for number in range(8):
        Image.new("RGB", (48, 40), (30 * number, 90, 120)).save(folder / "photos" / "may" / f"{number}.jpg")
    shutil.copytree(folder / "photos", folder / "holiday")
    rows = [f"may/{number}.jpg,{'cat;dog' if number % 2 else 'dog'}\n" for number in range(8)]
    (folder / "tags.csv").write_text("".join(["image,labels\n", *rows]))
    shutil.copy(REPOSITORY / "config" / "folder.yaml", folder / "mine.yaml")
    model = folder / "results" / "mine" / "segmenter.safetensors"
    pack(make_data(tmp_path_factory.mktemp("data")), model, scales=[1.0], refine={"rounds": 1})
    return folder


def run(place: Path, command: str, *more: str) -> subprocess.CompletedProcess[str]:
    folder = os.path.dirname(sys.executable)
    environment = {**os.environ, "PYTHONPATH": str(REPOSITORY), "PATH": f"{folder}:{os.environ['PATH']}"}
    return subprocess.run(
        [*shlex.split(command), *more], cwd=place, env=environment, text=True, stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT, timeout=240, check=False,
    )  # fmt: skip


def test_there_are_commands():
    assert {"make demo", "make test"} <= set(commands())
    assert len(commands()) > 20


@pytest.mark.parametrize("command", [one for one in commands() if one not in KNOWN])
def test_a_command_works(place, command):
    more = {"make": ["-n"], "snakemake": ["-n", "--quiet"]}.get(command.split()[0], [])
    if command.startswith("ecsnet check"):
        more = ["--no-timing"]
    result = run(REPOSITORY if command.startswith("make") else place, command, *more)
    # not all data is here: that is said, then
    allowed = (0, 1) if command.startswith("ecsnet check") else (0,)
    assert result.returncode in allowed, result.stdout
    assert "Traceback" not in result.stdout


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: path.name)
def test_links_lead_somewhere(path):
    text = path.read_text(encoding="utf-8")
    for target in re.findall(r"\]\(([^)\s]+)\)", text):
        if target.startswith(("http://", "https://")):
            continue
        name, _, anchor = target.partition("#")
        other = (path.parent / name).resolve() if name else path
        assert other.exists(), f"{path.name}: {target}"
        if anchor and other.suffix == ".md":
            assert anchor in anchors(other), f"{path.name}: {target}"


def anchors(path: Path) -> set[str]:
    """The anchors of a document's headings, as GitHub makes them."""
    headings = re.findall(r"^#+ (.+)$", path.read_text(encoding="utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


SETTINGS = {
    match
    for path in DOCUMENTS
    for match in re.findall(r"`([a-z_]+(?:\.[a-z_]+)+: [^`\n]+)`", path.read_text(encoding="utf-8"))
}


@pytest.mark.parametrize("line", sorted(SETTINGS))
def test_a_setting_in_the_text_is_taken(line):
    key, value = line.split(": ", 1)
    nested = yaml.safe_load(value)
    for name in reversed(key.split(".")):
        nested = {name: nested}
    parse_config(nested)
