"""Completion of the command line, by a real bash with the script that ecsnet prints."""

import subprocess
import sys

import pytest
from conftest import REPOSITORY

from ecsnet import cli, commands, completion

# what bash does at a tab: the words so far, the last one unfinished
ASK = """
source "$1"; shift
COMP_WORDS=("$@"); COMP_CWORD=$(($# - 1))
complete -p ecsnet
_shtab_ecsnet
printf '%s\\n' "${COMPREPLY[@]}"
"""


@pytest.fixture(scope="module")
def script(tmp_path_factory):
    path = tmp_path_factory.mktemp("completion") / "ecsnet.bash"
    path.write_text(completion.script("bash"))
    return path


@pytest.fixture
def complete(script, tmp_path):
    """What bash offers after some words, in a folder with a few files."""
    (tmp_path / "config").mkdir()
    for name in ("config/mine.yaml", "config/other.yaml", "train.csv"):
        (tmp_path / name).touch()

    def ask(*words):
        command = ["bash", "--norc", "-c", ASK, "bash", script, "ecsnet", *words]
        result = subprocess.run(command, cwd=tmp_path, text=True, capture_output=True, check=True)
        assert result.stderr == ""
        line, *offered = result.stdout.splitlines()
        assert line.endswith("_shtab_ecsnet ecsnet")
        return {word.strip() for word in offered if word}

    return ask


def test_commands_and_stages(complete):
    assert complete("") >= {*cli.STAGES, *commands.COMMANDS}
    assert complete("train_") == {"train_cam", "train_ecs", "train_segmenter"}
    assert complete("ch") == {"check", "check_masks"}


def test_options_of_a_stage_and_of_a_command(complete):
    offered = complete("erase", "--")
    options = {f"--{name.replace('_', '-')}" for name in cli.STAGES["erase"].arguments.split()}
    assert offered >= {*options, "--settings", "--runtime", "--threads", "--help"}
    assert complete("check", "--no") == {"--no-timing"}
    assert complete("completion", "") >= {"bash", "zsh"}


def test_files(complete):
    assert complete("check", "--configfile", "config/m") == {"config/mine.yaml"}
    assert complete("check", "config/") == {"config/mine.yaml", "config/other.yaml"}
    assert complete("erase", "--images", "tr") == {"train.csv"}
    assert complete("why", "--configfile", "config/mine.yaml", "config/o") == {"config/other.yaml"}


@pytest.mark.parametrize("shell", ["bash", "zsh", "tcsh"])
def test_the_script_is_printed_at_once(shell):
    code = "import sys; from ecsnet.cli import main; main(['completion', sys.argv[1]]); print(*sys.modules)"
    result = subprocess.run(
        [sys.executable, "-c", code, shell], cwd=REPOSITORY, text=True, capture_output=True, check=True
    )
    script, modules = result.stdout.rsplit("\n", 2)[:2]
    assert "train_segmenter" in script
    assert not {"torch", "pandas", "snakemake"} & set(modules.split())
