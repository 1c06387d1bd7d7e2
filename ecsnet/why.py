"""Why a stage is stale, in plain words: `ecsnet why`.

Snakemake decides what is stale, as in a dry run with the same profile. Then what it recorded of each
job's last run is held against what the job would be given now: settings, modules, files of the data
set, inputs.
"""

import os
import re
import shlex
from ast import literal_eval
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from .changes import params_changes
from .plan import planned, snakefile_option, stage_of, words_of

Reason = tuple[str, str]
"""A name and what is the matter with it ("erase.npz", "is missing"), or a whole text and nothing."""

NOT_RUN: Reason = ("no result yet", "")


def run(targets: Sequence[str] = (), configfiles: Sequence[str] = (), snakefile: Path | None = None) -> None:
    """Print why what is stale is stale; targets and configuration files as `plan.words_of` takes them.

    Raises:
        UserError: where snakemake would not start either.
    """
    targets, config = words_of(targets, configfiles)
    config = [*snakefile_option(snakefile), *config]
    with planned([*config, "--", *targets]) as dag:
        stale, totals = stale_jobs(dag)
    if not stale:
        print("Nothing is stale: every result is up to date.")
        return
    print(*tell(stale, totals), sep="\n")
    own = {rule for rule, jobs in stale.items() if any(reasons and reasons != [NOT_RUN] for reasons in jobs)}
    if own & {"prepare_train", "prepare_val"} and own != set(stale):
        tables = shlex.join(["snakemake", "prepare", "--cores", "all", *config])
        print(f"First `{tables}`: where it writes the same tables again, what only follows is up to date.")
    command = shlex.join(["snakemake", *targets, "--cores", "all", *config])
    print(f"Nothing was run. `{command}` does it.")


def stale_jobs(dag: Any) -> tuple[dict[str, list[list[Reason]]], dict[str, int]]:
    """The reasons of each job that would run, by rule, none where it only follows; and jobs by rule."""
    stale: dict[str, list[list[Reason]]] = {}
    totals: dict[str, int] = {}
    fresh = {str(file) for job in dag.needrun_jobs() for file in job.output}
    for rule in dag.workflow.rules:
        jobs = [job for job in dag.jobs if job.rule is rule and job.output]
        totals[rule.name] = len(jobs)
        found = [_reasons(job, dag, fresh) for job in sorted(jobs, key=str) if dag.needrun(job)]
        if found:
            stale[rule.name] = found
    return stale, totals


def tell(stale: dict[str, list[list[Reason]]], totals: dict[str, int]) -> list[str]:
    """What `stale_jobs` found as lines for a person."""
    lines, new, follow = [], [], []
    for rule, jobs in stale.items():
        own = [reasons for reasons in jobs if reasons]
        share = f" ({len(own)} of {totals[rule]} jobs)" if len(own) < totals[rule] else ""
        if not own:
            follow.append(rule)
        elif all(reasons == [NOT_RUN] for reasons in own):
            new.append(rule + share)
        else:
            lines.append(f"{rule} is stale{share}: {'; '.join(_joined(own))}")
    if new:
        lines.append(f"not run yet: {', '.join(new)}")
    if follow:
        them = "them" if len(lines) > 1 or len(new) > 1 else "it"
        lines.append(f"these follow, since they depend on {them}: {', '.join(follow)}")
    return lines


def _joined(jobs: Iterable[list[Reason]]) -> list[str]:
    """The reasons of a rule's jobs, each once; names that share a matter in one text."""
    matters: dict[str, list[str]] = {}
    for name, matter in dict.fromkeys(reason for reasons in jobs for reason in reasons):
        matters.setdefault(matter or name, []).append(name if matter else "")
    texts = []
    for matter, names in matters.items():
        shown = names if len(names) <= 3 else [*names[:2], f"{len(names) - 2} more"]
        verb = matter if len(names) == 1 else re.sub("^is ", "are ", matter)
        texts.append(f"{', '.join(shown[:-1])} and {shown[-1]} {verb}" if shown[1:] else f"{shown[0]} {verb}")
    return [text.strip() for text in texts]


def _reasons(job: Any, dag: Any, fresh: set[str]) -> list[Reason]:
    """What is wrong with a job itself; nothing where it only follows one that makes `fresh` files."""
    memory = dag.workflow.persistence
    reasons = _about_outputs(job, memory)
    inputs = {str(file) for file in job.input}
    if memory.has_metadata(job) and not memory.has_outdated_metadata(job):
        if any(memory.code_changed(job)):
            reasons.append(("its rule in workflow/rules changed", ""))
        before = {file for output in job.output for file in memory.input(output)}
        reasons += _about_params(job, memory) + _about_input_names(before, inputs, fresh)
        inputs &= before
    reasons += dag.workflow.async_run(_about_inputs(job, memory, inputs - fresh))
    if not reasons and fresh.isdisjoint(job.input):
        reasons.append((str(dag.reason(job)), ""))
    return reasons


def _about_outputs(job: Any, memory: Any) -> list[Reason]:
    begun = memory._filter_incomplete_keys(map(str, job.output))
    if begun:
        return [(str(file), "is unfinished (its job was stopped, or is running)") for file in sorted(begun)]
    missing = [str(file) for file in job.output if not os.path.exists(file)]
    if len(missing) < len(job.output) or any(memory.metadata(file) for file in job.output):
        return [(file, "is missing") for file in missing]
    folder = Path(missing[0]).parent
    before = _shards(map(str, folder.iterdir())) if folder.is_dir() else set()
    if _shards(missing) and before and not before & _shards(missing):
        return [_changed_shards(before, _shards(missing))]
    logs = [str(log) for log in job.log if os.path.exists(log)]
    return [(logs[-1], "is of a run that left no result")] if logs else [NOT_RUN]


def _shards(files: Iterable[str]) -> set[str]:
    """The numbers of shards that file names tell: 16 of 3-of-16.npz."""
    return {found[1] for file in files if (found := re.search(r"\b\d+-of-(\d+)\.\w+$", file))}


def _changed_shards(before: set[str], after: set[str]) -> Reason:
    return f"shards: {' and '.join(sorted(before, key=int))} → {' and '.join(sorted(after, key=int))}", ""


def _about_input_names(before: set[str], after: set[str], fresh: set[str]) -> list[Reason]:
    come, gone = sorted(after - before), sorted(before - after)
    if come and fresh.issuperset(come):
        return []  # follows from the jobs that make them
    if _shards(come) and _shards(gone) and _shards(come) != _shards(gone):
        return [_changed_shards(_shards(gone), _shards(come))]
    return [(file, "is read now") for file in come] + [(file, "is no longer read") for file in gone]


async def _about_inputs(job: Any, memory: Any, names: set[str]) -> list[Reason]:
    """Inputs with other content, by Snakemake's rules: by checksum, or by time where they are large."""
    reasons = []
    oldest, limit = await job.output_mintime, memory.max_checksum_file_size
    for file in job.input:
        if oldest is None or str(file) not in names:
            continue
        if not await file.exists() or not await file.is_newer(oldest):
            continue
        if not await file.is_checksum_eligible(limit):
            reasons.append((str(file), "is newer than the result"))
        elif [await file.is_same_checksum(old, limit) for old in memory.input_checksums(job, file)] != [True]:
            reasons.append((str(file), "changed"))
    return reasons


def _about_params(job: Any, memory: Any) -> list[Reason]:
    change = memory.params_changed(job)
    if not change:
        return []
    stage = stage_of(job.rule)
    section = "dataset" if stage == "prepare" or stage.startswith("import_") else stage
    before = [literal_eval(text) for text in sorted(change.only_old)]
    after = {name: value for name, value in job.params.items() if repr(value) in change.only_new}
    return [(text, "") for text in params_changes(section, before, after)] or [("its parameters changed", "")]
