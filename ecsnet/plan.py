"""What Snakemake would run, without running it: its dry run as an object instead of a text.

All that depends on the inside of Snakemake's programming interface is here, and in `why` the
questions to its jobs.
"""

import contextlib
import io
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from snakemake.api import SnakemakeApi
from snakemake.cli import parse_args, parse_config
from snakemake.exceptions import ApiError, CliException, RuleException, WorkflowError
from snakemake.settings.enums import Quietness
from snakemake.settings.types import (
    ConfigSettings,
    DAGSettings,
    OutputSettings,
    ResourceSettings,
    WorkflowSettings,
)

from . import runs
from .errors import UserError


@contextlib.contextmanager
def planned(arguments: Sequence[str]) -> Iterator[Any]:
    """Snakemake's graph of jobs for arguments of its command line, with the profile that it would take.

    Nothing is run or locked, and no file is written but what `contents` remembers.

    Raises:
        UserError: where snakemake would not start either: a mistake in the configuration, an unknown
            target, no Snakefile here.
    """
    try:
        options = _parsed(["--dry-run", *arguments])
        with SnakemakeApi(OutputSettings(quiet={Quietness.ALL}, enable_file_logging=False)) as api:
            yield _graph(api, options)
    except (WorkflowError, RuleException, ApiError, CliException) as error:
        raise UserError(str(error)) from None
    except FileNotFoundError as error:
        raise UserError(f"there is no file {error.filename}") from None


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
