"""What is wrong with a run before it starts, and what it will cost: `ecsnet check`.

Runs nothing of the workflow, and writes nothing but into temporary folders (and what `contents` remembers of
files that it has looked at).
"""

import dataclasses
import shlex
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from . import coco, folder
from .errors import UserError, explain
from .plan import Jobs, configuration, jobs_by_rule, planned, snakefile_option, words_of
from .progress import clock
from .published import differences
from .report import Report, told
from .settings import VOC_CLASSES, Config, changed_settings, parse_config
from .threads import usable_cores
from .voc import scan_list

if TYPE_CHECKING:
    from .estimate import Cost
    from .speeds import Speeds
    from .survey import Pictures

LONGEST_VALUE = 40
SPREAD = "an estimate: a third more or less is possible"


@dataclasses.dataclass
class Look:
    """A look at a run: what is to be run, and how far the report has come.

    Attributes:
        config: with the data set as the stages see it.
        jobs: of each rule that is asked for; empty where Snakemake would not start.
        cores: processor cores that this process may use.
        cards: cards that jobs can run on at the same time; 0 where the processor computes.
    """

    config: Config
    jobs: dict[str, Jobs]
    report: Report
    cores: int
    cards: int = 0

    @property
    def todo(self) -> dict[str, Jobs]:
        """The jobs of rules that have something to do."""
        return {rule: job for rule, job in self.jobs.items() if job.todo}


def run(
    words: Sequence[str] = (),
    configfiles: Sequence[str] = (),
    snakefile: Path | None = None,
    timing: bool = True,
) -> bool:
    """Print what is known of a run beforehand; whether nothing is wrong with it.

    Args:
        words, configfiles: targets and configuration files (see `plan.words_of`).
        snakefile: where it is not in this folder.
        timing: also time some steps of each stage.

    Raises:
        UserError: the configuration has mistakes: there is no run to look at.
    """
    targets, files = words_of(words, configfiles)
    option = [*snakefile_option(snakefile), *files]
    given = parse_config(configuration(option))
    report = Report()
    _report_configuration(given, files[1:], report)
    look = Look(given, _jobs(targets, option, report), report, usable_cores())
    pictures = _look_at_data(look)
    _look_at_machine(look)
    if pictures and look.todo and not report.problems:
        _look_at_costs(look, pictures, timing)
    _tell_command(look, targets, option)
    return not report.problems


def _report_configuration(config: Config, files: Sequence[str], report: Report) -> None:
    """The settings that are not the defaults, with their values, section by section."""
    sections: dict[str, list[str]] = {}
    for name, value in changed_settings(config).items():
        section, _, key = name.partition(".")
        sections.setdefault(section if key else "", []).append(f"{key or section} {_shown(value)}")
    count = sum(map(len, sections.values()))
    report.ok(
        "config", f"{', '.join(files) or 'config/config.yaml'}: {count} settings differ from the defaults"
    )
    for section, texts in sections.items():
        report.ok("config", f"{section}: {', '.join(texts)}" if section else ", ".join(texts))


def _shown(value: Any) -> str:
    if isinstance(value, tuple):
        value = f"[{', '.join(map(_shown, value))}]"
    text = f"{value:g}" if isinstance(value, float) else str(value)
    text = text.lower() if isinstance(value, bool) else text
    return text if len(text) <= LONGEST_VALUE else text[: LONGEST_VALUE - 1] + "…"


def _jobs(targets: Sequence[str], option: Sequence[str], report: Report) -> dict[str, Jobs]:
    """The jobs that Snakemake plans; none where it would not start."""
    try:
        with planned([*option, "--", *targets]) as dag:
            return jobs_by_rule(dag)
    except UserError as error:
        report.many("plan", *told(error))
        return {}


def _look_at_data(look: Look) -> "Pictures | None":
    from .survey import survey, survey_masks  # imports pandas

    report = look.report
    try:
        config, photos = folder.resolved(coco.resolved(look.config))
    except UserError:
        return None  # Snakemake has said it
    source = config.dataset
    look.config = dataclasses.replace(config, dataset=folder.laid_out(source, config.run))
    made = "demo" in look.jobs and not look.jobs["demo"].todo
    pictures = survey(look.config, source, photos, made, look.cores, report)
    if pictures:
        wants_bound = config.supervised.enabled or "train_supervised" in look.jobs
        survey_masks(look.config, source, pictures, wants_bound, look.cores, report)
        if source.kind == "voc" and source.classes == tuple(VOC_CLASSES):
            _report_protocol(look.config, pictures, report)
    return pictures


def _report_protocol(config: Config, pictures: "Pictures", report: Report) -> None:
    """Whether what comes out may stand beside published numbers; better known before hours of training."""
    score, scored = config.score, {}
    if score.train_masks:
        scored["the labels"] = len(scan_list(Path(config.dataset.root), score.train_list, []))
    if score.val_masks:
        scored["val"] = len(pictures.val)
    reasons = differences(config, len(pictures.train), scored)
    if reasons:
        report.note("results", f"not to be compared with published ones: {'; '.join(reasons)}")
    else:
        report.ok("results", "to be compared with published ones: of VOC 2012's own lists and masks")


def _look_at_machine(look: Look) -> None:
    from . import machine  # imports torch, which takes seconds: what is wrong with the data is told before

    machine.report_weights(look.config, look.report)
    look.cards = machine.report_device(look.config, look.cores, look.report)


def _look_at_costs(look: Look, pictures: "Pictures", timing: bool) -> None:
    """Report on the space, time and memory that what is to be done will take."""
    from . import estimate, machine

    report, done = look.report, [rule for rule, job in look.jobs.items() if not job.todo]
    if done:
        report.ok("stages", f"up to date, and left out here: {', '.join(done)}")
    needed = estimate.bytes_of(look.config, pictures, look.todo)
    machine.report_space(needed, estimate.ASSUMPTION, f"results/{look.config.run}", report)
    if not timing:
        report.note("time", "not measured (--no-timing)")
    elif look.cards and not machine.any_free_card():
        report.note("time", "not measured: other stages hold the card(s)")
    else:
        machine.report_load(look.cores, report)
        speeds = _speeds(look, pictures)
        if speeds.errors:
            return
        if speeds.memory:
            machine.report_memory(speeds.memory, look.cards > 0, report)
        _report_times(look, estimate.costs(look.config, pictures, look.todo, speeds, max(1, look.cards)))


def _speeds(look: Look, pictures: "Pictures") -> "Speeds":
    from .cli import memory_setting
    from .speeds import measure

    stages = {job.stage for job in look.todo.values()}
    with tempfile.TemporaryDirectory() as name:
        speeds = measure(look.config, pictures, stages, Path(name), look.cores)
    for stage, error in speeds.errors.items():
        text = str(error) if isinstance(error, UserError) else explain(error, memory_setting(stage))
        if text is None:
            raise error
        look.report.problem("time", f"{stage}: {text}")
    return speeds


def _report_times(look: Look, costs: "list[Cost]") -> None:
    wide = max(len(cost.rule) for cost in costs)
    for cost in costs:
        look.report.ok("time", f"{cost.rule:<{wide}}  {clock(cost.seconds):>8}  {cost.text}")
    total = sum(cost.seconds for cost in costs)
    look.report.ok("time", f"{'in all':<{wide}}  {clock(total):>8}  about {duration(total)}; {SPREAD}")


def duration(seconds: float) -> str:
    """A long time for a person."""
    for unit, length in (("days", 86400), ("hours", 3600), ("minutes", 60)):
        if seconds >= 1.5 * length:
            return f"{seconds / length:.2g} {unit}"
    return "a minute" if seconds > 30 else "a few seconds"


def _tell_command(look: Look, targets: Sequence[str], option: Sequence[str]) -> None:
    cards = ["--resources", f"gpu={look.cards}"] if look.cards > 1 else []
    command = shlex.join(["snakemake", *targets, "--cores", str(look.cores), *cards, *option])
    if look.report.problems:
        count = look.report.problems
        head = "One problem" if count == 1 else f"{count} problems"
        print(f"{head}. Once nothing is left of that: {command}")
    elif look.jobs and not look.todo:
        print(f"Nothing is to be done: every result is up to date. ({command})")
    else:
        print(f"To run it: {command}")
