"""What happens at a run's start and end. A workflow that has this one as a module may call the handlers, too."""


def wait_for_late_files():
    """Have what Snakemake does not wait for waited for as long; only when jobs start is it known how long."""
    seconds = workflow.execution_settings.latency_wait
    os.environ.update({late.VARIABLE: str(seconds)})
    runs.wait_for_logs(workflow.scheduler._executor, seconds)


def remove_resume_files():
    """Trainings that Snakemake has recorded as done need their last state no more."""
    for path in Path(RESULTS).rglob("*.resume.safetensors"):
        if path.with_name(path.name.replace(".resume", "")).exists():
            path.unlink()


def print_results():
    """The last table of scores, how long it took, where everything is; after single stages no table."""
    from ecsnet import ablation, ending, summary  # pandas: not while planning

    printers = {
        Path(rules.summary.output[0]): summary.format_table,
        Path(rules.summary_supervised.output[0]): summary.format_table,
        Path(rules.ablation.output.table): ablation.format_table,
    }
    scores = [Path(score) for score in SCORES]
    if scores and all(score.exists() for score in scores):
        newest = max(score.stat().st_mtime for score in scores)
        current = [table for table in printers if table.exists() and table.stat().st_mtime >= newest]
        if current:
            last = max(current, key=lambda table: table.stat().st_mtime)
            print(f"\n{printers[last](last)}\n")
    unscored = [what for what in WHATS if what != "supervised" and not can_be_scored(what)]
    if unscored:
        print(f"Not scored, for want of true masks: {', '.join(unscored)}")
    files = [os.path.relpath(path) for path in workflow.overwrite_configfiles]
    report_command = f"snakemake --report report.html {option('--configfile', files)}"
    times = ending.times_text(ending.stage_times(Path(LOGS)))
    print(*filter(None, [times, ending.places_text(Path(RESULTS), report_command.strip())]), sep="\n")


def print_how_to_go_on():
    """What is left after a failure or a stop, and how to take it up."""
    if STOP.asked:
        print("Stopped. What is finished is kept, and trainings at their last step:", end=" ")
    else:
        print("A stage failed: its message stands above and in its log. What is finished is kept;", end=" ")
    print("the same command goes on from here.")
