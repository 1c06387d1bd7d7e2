"""The command line: its table of stages fits the stages, its help is whole, its errors are short."""

import functools
import importlib
import inspect
import json
import re
import subprocess
import sys
import types
import typing
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from ecsnet import cli, commands, schema, settings
from ecsnet.errors import UserError
from ecsnet.store import Shard

REPOSITORY = Path(__file__).resolve().parents[1]
FROM_ELSEWHERE = ("settings", "runtime", "threads")
"""Parameters of `run` that come from options of their own, not from the table's arguments."""
SAMPLES = {Path: "some/file.csv", str: "text", int: "2", Shard: "3/16"}
ERASE = "erase --images i.csv --root data --weights w.safetensors --out o.npz --shard 3/16".split()
GATHER = "gather_labels --tables a.csv b.csv --folder masks --out o.csv".split()

every_stage = pytest.mark.parametrize("name", cli.STAGES)


def run_of(name: str) -> Callable[..., None]:
    return importlib.import_module(f"ecsnet.{name}").run


def options_of(name: str) -> dict[str, str]:
    """Option of each of a stage's arguments, by the name of the parameter of `run`."""
    options = {}
    for key in cli.STAGES[name].arguments.split():
        parameter = "source" if key == "source_name" else key
        options[parameter] = "--" + parameter.replace("_", "-")
    return options


def split_hint(hint: Any) -> tuple[type, bool, bool]:
    """Type of a parameter, whether it is a list, whether it may be None."""
    optional = isinstance(hint, types.UnionType)
    if optional:
        [hint] = [part for part in typing.get_args(hint) if part is not type(None)]
    many = typing.get_origin(hint) is list
    return (typing.get_args(hint)[0] if many else hint), many, optional


def command_line(name: str, *, whole: bool = True) -> list[str]:
    """A command line of a stage, with all of its options or only with those that it needs."""
    hints = typing.get_type_hints(run_of(name))
    words = [name]
    for parameter, option in options_of(name).items():
        kind, many, optional = split_hint(hints[parameter])
        if whole or not optional:
            words += [option, *[SAMPLES[kind]] * (2 if many else 1)]
    return words


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> Callable[[str], dict[str, Any]]:
    """Replaces a stage's `run` by a record of its arguments, which must fit the real one's parameters."""

    def watch(name: str) -> dict[str, Any]:
        run, recorded = run_of(name), {}

        @functools.wraps(run)
        def record(*positional: Any, **named: Any) -> None:
            recorded.update(inspect.signature(run).bind(*positional, **named).arguments)

        monkeypatch.setattr(f"ecsnet.{name}.run", record)
        return recorded

    return watch


def run_python(*words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, *words], cwd=REPOSITORY, capture_output=True, text=True)


def fails_to_parse(capsys: pytest.CaptureFixture[str], words: list[str]) -> str:
    """What stands on stderr after a command line that argparse refuses."""
    with pytest.raises(SystemExit) as stopped:
        cli.main(words)
    out, err = capsys.readouterr()
    assert stopped.value.code == 2
    assert out == ""
    return err


# the table of stages against the stages


@every_stage
def test_arguments_are_the_keyword_parameters_of_run(name):
    parameters = inspect.signature(run_of(name)).parameters
    assert next(iter(parameters)) == "settings"
    assert set(options_of(name)) == set(parameters) - set(FROM_ELSEWHERE)
    keywords = [parameter for key, parameter in parameters.items() if key != "settings"]
    assert all(parameter.kind is inspect.Parameter.KEYWORD_ONLY for parameter in keywords)


@every_stage
def test_section_and_runtime_are_those_that_run_takes(name):
    hints = typing.get_type_hints(run_of(name))
    assert hints["settings"] is (cli.STAGES[name].section or type(None))
    assert hints.get("runtime") is (settings.Runtime if cli.STAGES[name].runtime else None)


@every_stage
def test_values_have_the_types_that_run_declares(name, calls):
    recorded = calls(name)
    assert cli.main(command_line(name)) == 0
    hints = typing.get_type_hints(run_of(name))
    for parameter, value in recorded.items():
        kind, many, _ = split_hint(hints[parameter])
        assert isinstance(value, list) == many, parameter
        assert all(isinstance(item, kind) for item in (value if many else [value])), parameter
    assert set(recorded) == set(hints) - {"return"}


@every_stage
def test_what_may_be_none_may_be_left_out_and_nothing_else(name, calls, capsys):
    recorded = calls(name)
    assert cli.main(command_line(name, whole=False)) == 0
    hints = typing.get_type_hints(run_of(name))
    for parameter, option in options_of(name).items():
        optional = split_hint(hints[parameter])[2]
        assert (recorded[parameter] is None) == optional
        if not optional:
            capsys.readouterr()
            words = command_line(name)
            start = words.index(option)
            end = next((i for i in range(start + 1, len(words)) if words[i].startswith("--")), len(words))
            assert option in fails_to_parse(capsys, words[:start] + words[end:])


def test_every_argument_is_some_stages():
    used = {key for stage in cli.STAGES.values() for key in stage.arguments.split()}
    assert used == set(cli.ARGUMENTS)
    assert all(key in cli.STAGES[name].arguments.split() for name, key in cli.SINGLE | cli.OPTIONAL)


def test_every_section_of_a_stage_has_a_subcommand_of_its_name():
    # dataset is prepare's; supervised and runtime are no stages
    sections = set(typing.get_type_hints(settings.Config)) - {"run", "seed", "shards", "rounds"}
    assert sections - {"dataset", "supervised", "runtime"} <= set(cli.STAGES)
    for name, hint in typing.get_type_hints(settings.Config).items():
        if name in cli.STAGES:
            assert cli.STAGES[name].section is hint


# what reaches a stage


def test_settings_runtime_and_threads_reach_the_stage(calls):
    recorded = calls("erase")
    extra = ["--settings", '{"threshold": 0.4}', "--runtime", '{"device": "cpu"}', "--threads", "3"]
    assert cli.main([*ERASE, *extra]) == 0
    assert recorded["settings"] == settings.Erase(threshold=0.4)
    assert recorded["runtime"] == settings.Runtime(device="cpu")
    assert recorded["threads"] == 3
    assert recorded["shard"] == Shard(3, 16)


def test_defaults_are_the_settings_own(calls):
    recorded = calls("erase")
    assert cli.main(ERASE) == 0
    assert recorded["settings"] == settings.Erase()
    assert recorded["runtime"] == settings.Runtime()
    assert recorded["threads"] == 1


@pytest.mark.parametrize("text", ["3/16", "3-of-16"])
def test_shard_on_the_command_line(text, calls):
    recorded = calls("erase")
    assert cli.main([*ERASE[:-1], text]) == 0
    assert recorded["shard"] == Shard(3, 16)


@pytest.mark.parametrize("text", ["0/16", "17/16", "3", "a/b", "3/0", ""])
def test_a_shard_that_is_none_says_what_is_expected(text, capsys):
    assert f"--shard {text}: expected a number of a count, as 3/16" in fails_to_parse(
        capsys, [*ERASE[:-1], text]
    )


@pytest.mark.parametrize("text", ["0", "-1", "1.5", "many"])
def test_threads_are_a_whole_number_from_one(text, capsys):
    err = fails_to_parse(capsys, [*ERASE, f"--threads={text}"])
    assert f"argument --threads: '{text}': expected a whole number of 1 or more" in err


def test_the_command_line_and_the_end_are_printed(calls, capsys):
    calls("gather_labels")
    assert cli.main([*GATHER[:-1], "a file.csv"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "ecsnet gather_labels --tables a.csv b.csv --folder masks --out 'a file.csv'"
    assert re.fullmatch(r"gather_labels: done in \d+:\d\d", lines[-1])


# mistakes of the user


def failing(monkeypatch: pytest.MonkeyPatch, error: Exception) -> None:
    def run(settings: None, *, tables: list[Path], folder: Path, out: Path) -> None:
        raise error

    monkeypatch.setattr("ecsnet.gather_labels.run", run)


def test_a_users_mistake_is_one_message_with_the_stages_name(monkeypatch, capsys):
    failing(monkeypatch, UserError("a.csv: no such table; run the stage that writes it"))
    assert cli.main(GATHER) == 1
    out, err = capsys.readouterr()
    assert err == "\necsnet gather_labels: a.csv: no such table; run the stage that writes it\n"
    assert out == f"ecsnet {' '.join(GATHER)}\n"  # and no "done"


def test_a_users_mistake_in_a_process_of_its_own(tmp_path):
    words = ["--tables", "absent.csv", "--folder", "masks", "--out", str(tmp_path / "o.csv")]
    result = run_python("-m", "ecsnet", "gather_labels", *words)
    assert result.returncode == 1
    assert result.stdout.startswith("ecsnet gather_labels --tables absent.csv")
    assert result.stderr.strip().startswith("ecsnet gather_labels: absent.csv: ")
    assert "Traceback" not in result.stderr
    assert list(tmp_path.iterdir()) == []


def test_a_bug_keeps_its_traceback(monkeypatch):
    failing(monkeypatch, RuntimeError("a mistake of ours"))
    with pytest.raises(RuntimeError, match="a mistake of ours") as caught:
        cli.main(GATHER)
    assert caught.traceback[-1].name == "run"


@pytest.mark.parametrize(
    ("option", "text", "expected"),
    [
        ("--settings", "{threshold: 0.5}", "ecsnet erase: erase: not JSON ("),
        ("--settings", "", "ecsnet erase: erase: not JSON ("),
        ("--runtime", "{'device': 'cpu'}", "ecsnet erase: runtime: not JSON ("),
        ("--settings", "[0.5]", "expected a section of settings, found [0.5]"),
        (
            "--settings",
            '{"treshold": 0.5}',
            "erase.treshold: unknown setting 'treshold'; did you mean threshold?",
        ),
        ("--settings", '{"threshold": "high"}', 'erase.threshold: expected a number, found "high"'),
        ("--settings", '{"threshold": 1.5}', "erase.threshold: 1.5 is out of range; give 0.01 to 1"),
        ("--runtime", '{"devise": "cpu"}', "runtime.devise: unknown setting 'devise'; did you mean device?"),
    ],
)
def test_bad_settings_are_refused_before_the_stage_runs(option, text, expected, calls, capsys):
    recorded = calls("erase")
    assert cli.main([*ERASE, option, text]) == 1
    assert expected in capsys.readouterr().err
    assert recorded == {}


def test_all_mistakes_of_the_settings_at_once(capsys):
    assert cli.main([*ERASE, "--settings", '{"flipp": true, "threshold": 2, "scales": []}']) == 1
    lines = capsys.readouterr().err.strip().splitlines()
    assert lines[0] == "ecsnet erase: The settings of erase have mistakes:"
    assert [line.split(":")[0] for line in lines[1:]] == [
        "  - erase.flipp",
        "  - erase.threshold",
        "  - erase.scales",
    ]


@pytest.mark.parametrize("words", [[], ["eraze"], [*ERASE, "--thresh", "0.5"]])
def test_what_argparse_refuses_shows_the_usage(words, capsys):
    assert fails_to_parse(capsys, words).startswith("usage: ecsnet")


def test_a_missing_argument_is_named_under_its_stages_usage(capsys):
    err = fails_to_parse(capsys, ERASE[:-2])
    assert err.startswith("usage: ecsnet erase ")
    assert err.endswith("the following arguments are required: --shard\n")


# help

HEAVY = ("torch", "torchvision", "timm", "pandas", "scipy", "matplotlib", "snakemake")

SHOW_HELP = """
import contextlib, json, os, sys
from ecsnet.cli import main
with contextlib.suppress(SystemExit):
    main(sys.argv[1:])
print(json.dumps(sorted(sys.modules)), file=sys.stderr)
"""


@pytest.mark.parametrize("words", [["--help"], ["erase", "--help"], ["check", "--help"]])
def test_help_imports_nothing_heavy(words):
    result = run_python("-c", SHOW_HELP, *words)
    assert result.stdout.startswith("usage: ecsnet")
    loaded = json.loads(result.stderr)
    assert "ecsnet.cli" in loaded
    assert not set(HEAVY) & set(loaded)


def printed_help(capsys: pytest.CaptureFixture[str], *words: str) -> str:
    with pytest.raises(SystemExit) as stopped:
        cli.main([*words, "--help"])
    assert stopped.value.code == 0
    return capsys.readouterr().out


def test_help_names_every_stage_and_what_it_does(capsys):
    text = printed_help(capsys)
    for name, stage in {**cli.STAGES, **commands.COMMANDS}.items():
        assert re.search(rf"^ +{name} ", text, re.MULTILINE), name
        assert f"{name} {stage.text}" in " ".join(text.split())
    groups = [text.index(name) for name in ("commands for people:", "stages, in the order", "examples:")]
    assert groups == sorted(groups)
    assert "  ecsnet check --configfile config/demo.yaml\n" in text


@pytest.mark.parametrize("columns", [60, 80])
@pytest.mark.parametrize("words", [(), *((name,) for name in commands.COMMANDS)])
def test_help_fits_a_narrow_terminal(words, columns, monkeypatch, capsys):
    monkeypatch.setenv("COLUMNS", str(columns))
    lines = printed_help(capsys, *words).splitlines()
    # an example is to be copied as one line
    assert max(len(line) for line in lines if not line.startswith("  ecsnet ")) <= columns


@pytest.mark.parametrize("name", commands.COMMANDS)
def test_examples_of_commands_can_be_parsed(name, capsys):
    assert commands.COMMANDS[name].example in printed_help(capsys, name)
    line = commands.COMMANDS[name].example.split('"$(')[-1].split(")")[0]
    assert cli.make_parser().parse_args(line.split()[1:]).stage == name


@pytest.mark.parametrize("columns", ["60", "200"])
@every_stage
def test_help_of_a_stage_shows_every_setting(name, columns, monkeypatch, capsys):
    monkeypatch.setenv("COLUMNS", columns)
    text = printed_help(capsys, name)
    # lines are broken between words and after hyphens: compared without white space
    packed = "".join(text.split())
    for option in options_of(name).values():
        assert option in text
    sections = [cli.STAGES[name].section, settings.Runtime if cli.STAGES[name].runtime else None]
    for section in filter(None, sections):
        for key, value, meaning in schema.describe(section):
            default = schema.show(value)
            assert f"\n  {key}  {default}\n" in text
            assert "".join(f"{key}{default}{meaning}".split()) in packed


def test_version(capsys):
    with pytest.raises(SystemExit) as stopped:
        cli.main(["--version"])
    assert stopped.value.code == 0
    assert re.fullmatch(r"ecsnet \d+\.\d+\.\d+\n", capsys.readouterr().out)
