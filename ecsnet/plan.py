"""What Snakemake would run, without running it: its dry run as an object instead of a text.

All that depends on the inside of Snakemake's programming interface is here, and in `why` the
questions to its jobs.
"""

import contextlib
import io
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from snakemake.api import SnakemakeApi, resolve_snakefile
from snakemake.cli import parse_args, parse_config
from snakemake.common.configfile import load_configfile
from snakemake.exceptions import ApiError, CliException, RuleException, WorkflowError
from snakemake.settings.enums import Quietness
from snakemake.settings.types import (
    ConfigSettings,
    DAGSettings,
    OutputSettings,
    ResourceSettings,
    WorkflowSettings,
)
from snakemake.utils import update_config

from . import runs
from .errors import UserError

YAML = (".yaml", ".yml")


def words_of(words: Sequence[str], configfiles: Sequence[str]) -> tuple[list[str], list[str]]:
    """Targets, and the option that names configuration files, as a person gives them in whatever order.

    Both are known by their endings; JSON among `words` is a target.
    """
    files = [word for word in words if word.endswith(YAML)]
    files += [word for word in configfiles if word.endswith((*YAML, ".json"))]
    targets = [word for word in (*words, *configfiles) if word not in files]
    return targets, ["--configfile", *files] if files else []


def snakefile_option(snakefile: Path | None) -> list[str]:
    """The option that names a Snakefile elsewhere."""
    return ["--snakefile", str(snakefile)] if snakefile else []


@contextlib.contextmanager
def planned(arguments: Sequence[str]) -> Iterator[Any]:
    """Snakemake's graph of jobs for arguments of its command line, with the profile that it would take.

    Nothing is run or locked, and no file is written but what `contents` remembers.

    Raises:
        UserError: where snakemake would not start either: a mistake in the configuration, an unknown
            target, no Snakefile here.
    """
    with _mistakes_told():
        options = _parsed(["--dry-run", *arguments])
        with SnakemakeApi(OutputSettings(quiet={Quietness.ALL}, enable_file_logging=False)) as api:
            yield _graph(api, options)


@contextlib.contextmanager
def _mistakes_told() -> Iterator[None]:
    """What Snakemake refuses in the block is the user's to mend."""
    try:
        yield
    except (WorkflowError, RuleException, ApiError, CliException) as error:
        # what Snakemake adds says where in its files it was
        text = re.split(r"\n(?:Wildcards|Traceback):", str(error))[0]
        text = text.removeprefix("WorkflowError:").strip()
        if text.startswith("No Snakefile found"):
            text = "there is no Snakefile here; give this command in ecsnet's folder, or add --snakefile"
        raise UserError(text) from None
    except FileNotFoundError as error:
        raise UserError(f"there is no file {error.filename}") from None
    except UnicodeDecodeError as error:
        raise UserError(f"a configuration file is no UTF-8 text ({error}); save it as UTF-8") from None


def _parsed(arguments: Sequence[str]) -> Any:
    """Snakemake's own reading of arguments, which takes in the profile."""
    said = io.StringIO()
    try:
        with contextlib.redirect_stderr(said):
            return parse_args(arguments)[1]
    except SystemExit:
        raise UserError(said.getvalue().strip()) from None


def _graph(api: SnakemakeApi, options: Any) -> Any:
    workflow_api = api.workflow(
        resource_settings=ResourceSettings(cores=1, overwrite_scatter=options.set_scatter),
        config_settings=ConfigSettings(
            config=parse_config(options.config),
            configfiles=options.configfile,
            replace_workflow_config=options.replace_workflow_config,
        ),
        workflow_settings=WorkflowSettings(consider_ancient=options.consider_ancient),
        snakefile=options.snakefile,
        workdir=options.directory,
    )
    settings = DAGSettings(
        targets=options.targets,
        force_incomplete=options.rerun_incomplete,
        rerun_triggers=options.rerun_triggers,
        max_checksum_file_size=options.max_checksum_file_size,
    )
    with _no_note():
        workflow = workflow_api.dag(settings).workflow_api._workflow
    workflow._prepare_dag(forceall=False, ignore_incomplete=False, lock_warn_only=True)
    # else what the last dry run knew of files would be deleted
    workflow.persistence.drop_iocache = lambda: None
    workflow._build_dag()
    return workflow.dag


@contextlib.contextmanager
def _no_note() -> Iterator[None]:
    """The Snakefile leaves out what begins a run: a question is none, and a lock stays as it is."""
    begin = runs.begin
    runs.begin = _nothing
    try:
        yield
    finally:
        runs.begin = begin


def _nothing(folder: Path = Path(), submits: bool = False) -> None:
    pass


def configuration(arguments: Sequence[str]) -> dict[str, Any]:
    """The configuration that the Snakefile would see, as plain values: its own file's, then those given.

    Raises:
        UserError: a file is not there, or is no YAML with keys at its top.
    """
    options = _parsed(["--dry-run", *arguments])
    values: dict[str, Any] = {}
    with _mistakes_told():
        folder = Path(options.snakefile or resolve_snakefile(None)).parent
        for path in [folder / "config/config.yaml", *(options.configfile or [])]:
            update_config(values, load_configfile(path))
        update_config(values, parse_config(options.config))
    return values


class Jobs(NamedTuple):
    """A rule's jobs: of which stage, how many would run, and how many there are in all."""

    stage: str
    todo: int
    total: int


def jobs_by_rule(dag: Any) -> dict[str, Jobs]:
    """The jobs of each rule, in the order of the rules."""
    counts = {}
    for rule in dag.workflow.rules:
        jobs = [job for job in dag.jobs if job.rule is rule and job.output]
        if jobs:
            todo = sum(bool(dag.needrun(job)) for job in jobs)
            counts[rule.name] = Jobs(stage_of(rule), todo, len(jobs))
    return counts


def stage_of(rule: Any) -> str:
    """The stage that a rule runs, by its command."""
    return re.findall(r"\becsnet (\w+)", rule.shellcmd)[0]
