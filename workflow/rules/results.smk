# Scores, tables, pictures: what a person looks at.

RESULT_OF = {
    "erase": rules.erase.output,
    "evidence": rules.evidence.output,
    "ecs_labels": ECS_LABELS,
    "filter_labels": rules.filter_labels.output.table,
    "predict": rules.gather_variant.output,
    "predict_supervised": rules.gather_supervised.output,
}


def scored(wildcards):
    """What is scored: the shards of a stage, or its table of label images."""
    stage = SOURCES[wildcards.what]
    shards = stage in ("erase", "evidence", "ecs_labels")
    return (shards_for if shards else made_for)(wildcards, stage, RESULT_OF[stage])


def split_of(what):
    return "val" if what in ("val", "supervised") else "train"


def list_of(what):
    """The name of the list that is scored, without its folder."""
    return Path({"train": CONFIG.score.train_list, "val": VAL_SCORED}[split_of(what)]).stem


rule score:
    input:
        source=scored,
        truth=lambda wildcards: f"{RESULTS}/check_masks/{split_of(wildcards.what)}.csv",
        classes=TRAIN["classes"],
    output:
        score=f"{RESULTS}{{variant}}/score/{{what}}.json",
        confusion=f"{RESULTS}{{variant}}/score/{{what}}_confusion.csv",
        counts=f"{RESULTS}{{variant}}/score/{{what}}_counts.npz",
    log:
        f"{LOGS}{{variant}}/score/{{what}}.log",
    benchmark:
        f"{LOGS}{{variant}}/score/{{what}}.benchmark.tsv"
    wildcard_constraints:
        what="|".join(SOURCES),
    threads: 4
    resources:
        mem_mb=growing(4000),
        runtime=growing(60),
    params:
        settings=section("score"),
        code=code("score"),
        split=lambda wildcards: list_of(wildcards.what),
    shell:
        "ecsnet score --settings {params.settings:q} --what {wildcards.what} --split {params.split:q}"
        " --source {input.source} --truth {input.truth} --classes {input.classes} --root {ROOT:q}"
        " --out {output.score} --out-confusion {output.confusion} --out-counts {output.counts}"
        " --threads {threads} 2>&1 | tee {log}"


WITH_ECS = VARIANTS.source("") == "ecs_labels"
# the kinds of a run's summary; labels for ECS-Net alone, with what the noise rule ignores, are the ablation's
WHATS = [what for what in SOURCES if what != "evidence" and (what != "ecs_labels" or WITH_ECS)]


def scores_of(whats):
    return expand(rules.score.output.score, what=whats, variant="")


def can_be_scored(what):
    """Whether there are true masks of the images."""
    masks = [CONFIG.score.val_masks if split_of(what) == "val" else CONFIG.score.train_masks]
    if what == "supervised":
        masks.append(CONFIG.supervised.masks)
    return None not in masks


SCORED = [what for what in WHATS if can_be_scored(what)]
SCORES = scores_of(what for what in SCORED if what != "supervised" or CONFIG.supervised.enabled)


rule summary:
    input:
        SCORES,
    output:
        report(f"{RESULTS}/summary.csv", category="Scores", caption="../report/summary.rst"),
    log:
        f"{LOGS}/summary.log",
    benchmark:
        f"{LOGS}/summary.benchmark.tsv"
    localrule: True
    params:
        code=code("summary"),
        scores=lambda wildcards, input: option("--scores", input),
    shell:
        "ecsnet summary {params.scores} --out {output} 2>&1 | tee {log}"


use rule summary as summary_supervised with:
    input:
        scores_of(SCORED),
    output:
        report(f"{RESULTS}/supervised/summary.csv", category="Scores", caption="../report/summary.rst"),
    log:
        f"{LOGS}/supervised/summary.log",
    benchmark:
        f"{LOGS}/supervised/summary.benchmark.tsv"


def bound_summary(wildcards):
    """The table with the bound in it."""
    masks_to_check("supervised")
    return rules.summary.output if CONFIG.supervised.enabled else rules.summary_supervised.output


# A target: the table with the fully supervised bound in it. Where supervised.enabled has every run end
# with the bound, that is the run's own table; else a second one beside the bound.
rule supervised:
    input:
        bound_summary,


ROUNDS = range(1, CONFIG.rounds + 1) if WITH_ECS else []
HISTORIES = [
    *expand(rules.train_cam.output.history, variant=""),
    *expand(rules.train_ecs.output.history, variant="", round=ROUNDS),
    *expand(rules.train_segmenter.output.history, variant=""),
]


rule figures:
    input:
        **TRAIN,
        val_images=rules.prepare_val.output,
        erase=gather.shard(rules.erase.output, variant=""),
        evidence=gather.shard(rules.evidence.output, variant=""),
        ecs_labels=gather.shard(ECS_LABELS, variant="", round=CONFIG.rounds) if WITH_ECS else [],
        filtered=expand(rules.filter_labels.output.table, variant=""),
        predictions=f"{RESULTS}/predict.csv",
        truth=f"{RESULTS}/check_masks/train.csv" if can_be_scored("cam") else [],
        val_truth=f"{RESULTS}/check_masks/val.csv" if can_be_scored("val") else [],
        histories=HISTORIES,
        scores=SCORES,
    output:
        panels=report(f"{RESULTS}/figures/panels.png", category="Pictures", caption="../report/panels.rst"),
        predictions=report(
            f"{RESULTS}/figures/predictions.png", category="Pictures", caption="../report/predictions.rst"
        ),
        curves=report(f"{RESULTS}/figures/curves.png", category="Training", caption="../report/curves.rst"),
        iou=report(f"{RESULTS}/figures/iou.png", category="Scores", caption="../report/iou.rst"),
        confusion=report(
            f"{RESULTS}/figures/confusion.png", category="Scores", caption="../report/confusion.rst"
        ),
    log:
        f"{LOGS}/figures.log",
    benchmark:
        f"{LOGS}/figures.benchmark.tsv"
    resources:
        mem_mb=growing(4000),
        runtime=growing(60),
    params:
        settings=section("figures"),
        code=code("figures"),
        folder=f"{RESULTS}/figures",
        optional=lambda wildcards, input: " ".join(
            option(f"--{name.replace('_', '-')}", input[name])
            for name in ("ecs_labels", "truth", "val_truth", "scores")
        ),
    shell:
        "ecsnet figures --settings {params.settings:q} --images {input.images} --val-images {input.val_images}"
        " --classes {input.classes} --root {ROOT:q} --erase {input.erase} --evidence {input.evidence}"
        " --filtered {input.filtered} --predictions {input.predictions} --histories {input.histories}"
        " {params.optional} --out {params.folder} 2>&1 | tee {log}"


FIGURES = rules.figures.output


# From counts of pixels alone: the masks were read by `score`.
rule ablation:
    input:
        counts=lambda wildcards: [
            f"{RESULTS}{variant}/score/{row.what}_counts.npz" for row, _, variant in VARIANTS.rows()
        ],
        classes=TRAIN["classes"],
    output:
        table=report(f"{RESULTS}/ablation.csv", category="Scores", caption="../report/ablation.rst"),
        iou=report(f"{RESULTS}/ablation_iou.csv", category="Scores", caption="../report/ablation.rst"),
    log:
        f"{LOGS}/ablation.log",
    benchmark:
        f"{LOGS}/ablation.benchmark.tsv"
    resources:
        mem_mb=growing(4000),
        runtime=growing(60),
    params:
        settings=section("ablation"),
        code=code("ablation"),
        rows=lambda wildcards: [f"{row.name}/{seed}" for row, seed, _ in VARIANTS.rows()],
    shell:
        "ecsnet ablation --settings {params.settings:q} --rows {params.rows:q} --counts {input.counts}"
        " --classes {input.classes} --out {output.table} --out-iou {output.iou} 2>&1 | tee {log}"


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
