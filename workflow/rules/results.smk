# Scores, tables, pictures: what a person looks at.

SOURCES = {
    "cam": gather.shard(rules.erase.output),
    "cam_refined": gather.shard(rules.evidence.output),
    "ecs_labels": gather.shard(last_labels()),
    "filtered_labels": rules.filter_labels.output.table,
    "val": f"{RESULTS}/predict.csv",
    "supervised": f"{RESULTS}/supervised/predict.csv",
}


def split_of(what):
    return "val" if what in ("val", "supervised") else "train"


def list_of(what):
    """The name of the list that is scored, without its folder."""
    return Path({"train": CONFIG.score.train_list, "val": CONFIG.dataset.val_list}[split_of(what)]).stem


rule score:
    input:
        source=lambda wildcards: SOURCES[wildcards.what],
        truth=lambda wildcards: f"{RESULTS}/check_masks/{split_of(wildcards.what)}.csv",
        classes=TRAIN["classes"],
    output:
        score=f"{RESULTS}/score/{{what}}.json",
        confusion=f"{RESULTS}/score/{{what}}_confusion.csv",
    log:
        f"{LOGS}/score/{{what}}.log",
    benchmark:
        f"{LOGS}/score/{{what}}.benchmark.tsv"
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
        " --out {output.score} --out-confusion {output.confusion} --threads {threads} 2>&1 | tee {log}"


SCORES = [
    f"{RESULTS}/score/{what}.json" for what in SOURCES if what != "supervised" or CONFIG.supervised.enabled
]


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
    shell:
        "ecsnet summary --scores {input} --out {output} 2>&1 | tee {log}"


use rule summary as summary_supervised with:
    input:
        expand(rules.score.output.score, what=SOURCES),
    output:
        report(f"{RESULTS}/supervised/summary.csv", category="Scores", caption="../report/summary.rst"),
    log:
        f"{LOGS}/supervised/summary.log",
    benchmark:
        f"{LOGS}/supervised/summary.benchmark.tsv"


# A target: the table with the fully supervised bound in it. Where supervised.enabled has every run end
# with the bound, that is the run's own table; else a second one beside the bound.
rule supervised:
    input:
        rules.summary.output if CONFIG.supervised.enabled else rules.summary_supervised.output,


HISTORIES = [
    rules.train_cam.output.history,
    *expand(rules.train_ecs.output.history, round=range(1, CONFIG.rounds + 1)),
    rules.train_segmenter.output.history,
]


rule figures:
    input:
        **TRAIN,
        val_images=rules.prepare_val.output,
        erase=gather.shard(rules.erase.output),
        evidence=gather.shard(rules.evidence.output),
        ecs_labels=gather.shard(last_labels()),
        filtered=rules.filter_labels.output.table,
        predictions=f"{RESULTS}/predict.csv",
        truth=f"{RESULTS}/check_masks/train.csv",
        val_truth=f"{RESULTS}/check_masks/val.csv",
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
    shell:
        "ecsnet figures --settings {params.settings:q} --images {input.images} --val-images {input.val_images}"
        " --classes {input.classes} --root {ROOT:q} --erase {input.erase} --evidence {input.evidence}"
        " --ecs-labels {input.ecs_labels} --filtered {input.filtered} --predictions {input.predictions}"
        " --truth {input.truth} --val-truth {input.val_truth} --histories {input.histories}"
        " --scores {input.scores} --out {params.folder} 2>&1 | tee {log}"


FIGURES = rules.figures.output


def remove_resume_files():
    """Trainings that Snakemake has recorded as done need their last state no more."""
    for path in Path(RESULTS).rglob("*.resume.safetensors"):
        if path.with_name(path.name.replace(".resume", "")).exists():
            path.unlink()


def print_results():
    """The table of scores, and where everything is; after a run of single stages, only where."""
    from ecsnet.summary import format_table  # pandas: not while planning

    tables = [Path(rules.summary.output[0]), Path(rules.summary_supervised.output[0])]
    scores = [Path(score) for score in SCORES]
    if all(score.exists() for score in scores):
        newest = max(score.stat().st_mtime for score in scores)
        current = [table for table in tables if table.exists() and table.stat().st_mtime >= newest]
        if current:
            print(format_table(max(current, key=lambda table: table.stat().st_mtime)))
    print(
        f"Results: {RESULTS}   scores: summary.csv   pictures: figures   label images: filter_labels, predict"
    )


def print_how_to_go_on():
    """What is left after a failure or a stop, and how to take it up."""
    if STOP.asked:
        print("Stopped. What is finished is kept, and trainings at their last step:", end=" ")
    else:
        print("A stage failed: its message stands above and in its log. What is finished is kept;", end=" ")
    print("the same command goes on from here.")
