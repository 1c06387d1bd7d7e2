# Scores, tables, pictures: what a person looks at.

RESULT_OF = {
    "erase": rules.erase.output,
    "evidence": rules.evidence.output,
    "ecs_labels": ECS_LABELS,
    "filter_labels": rules.filter_labels.output.table,
    "predict": rules.gather_variant.output,
    "predict_supervised": rules.gather_supervised.output,
}


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
    conda:
        "../envs/ecsnet.yaml"
    threads: 4
    resources:
        mem_mb=growing(4000),
        runtime=growing(60),
    params:
        settings=section("score"),
        code=code("score"),
        split=lambda wildcards: list_of(wildcards.what),
        root=aside(ROOT),
    shell:
        "ecsnet score --settings {params.settings:q} --what {wildcards.what} --split {params.split:q}"
        " --source {input.source} --truth {input.truth} --classes {input.classes} --root {params.root:q}"
        " --out {output.score} --out-confusion {output.confusion} --out-counts {output.counts}"
        " --threads {threads} 2>&1 | tee {log}"


WITH_ECS = VARIANTS.source("") == "ecs_labels"
# the kinds of a run's summary; labels for ECS-Net alone, with what the noise rule ignores, are the ablation's
WHATS = [what for what in SOURCES if what != "evidence" and (what != "ecs_labels" or WITH_ECS)]


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
    conda:
        "../envs/ecsnet.yaml"
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
        erase=all_shards(rules.erase.output, variant=""),
        evidence=all_shards(rules.evidence.output, variant=""),
        ecs_labels=all_shards(ECS_LABELS, variant="", round=CONFIG.rounds) if WITH_ECS else [],
        filtered=expand(rules.filter_labels.output.table, variant=""),
        kept=expand(rules.filter_labels.output.kept, variant=""),
        predictions=f"{RESULTS}/predict.csv",
        truth=f"{RESULTS}/check_masks/train.csv" if can_be_scored("cam") else [],
        val_truth=f"{RESULTS}/check_masks/val.csv" if can_be_scored("val") else [],
        val_counts=f"{RESULTS}/score/val_counts.npz" if can_be_scored("val") else [],
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
        filter=report(f"{RESULTS}/figures/filter.png", category="Labels", caption="../report/filter.rst"),
        examples=report(
            f"{RESULTS}/figures/examples.png", category="Pictures", caption="../report/examples.rst"
        ),
    log:
        f"{LOGS}/figures.log",
    benchmark:
        f"{LOGS}/figures.benchmark.tsv"
    conda:
        "../envs/ecsnet.yaml"
    resources:
        mem_mb=growing(4000),
        runtime=growing(60),
    params:
        settings=section("figures"),
        code=code("figures"),
        folder=lambda wildcards: f"{RESULTS}/figures",
        optional=lambda wildcards, input: " ".join(
            option(f"--{name.replace('_', '-')}", input[name])
            for name in ("ecs_labels", "truth", "val_truth", "val_counts", "scores")
        ),
        root=aside(ROOT),
    shell:
        "ecsnet figures --settings {params.settings:q} --images {input.images} --val-images {input.val_images}"
        " --classes {input.classes} --root {params.root:q} --erase {input.erase} --evidence {input.evidence}"
        " --filtered {input.filtered} --kept {input.kept} --predictions {input.predictions}"
        " --histories {input.histories}"
        " {params.optional} --out {params.folder} 2>&1 | tee {log}"


FIGURES = rules.figures.output


# One page. The configuration is no param: what it changes shows in the inputs, and `runtime` in nothing.
rule overview:
    input:
        **TRAIN,
        val_images=rules.prepare_val.output,
        scores=SCORES,
        pictures=FIGURES,
    output:
        report(f"{RESULTS}/overview.html", category="Overview", caption="../report/overview.rst"),
    log:
        f"{LOGS}/overview.log",
    benchmark:
        f"{LOGS}/overview.benchmark.tsv"
    localrule: True
    conda:
        "../envs/ecsnet.yaml"
    params:
        code=code("overview"),
        scores=lambda wildcards, input: option("--scores", input.scores),
        configuration=aside(CONFIGURATION),
        logs=aside(LOGS),
    shell:
        "ecsnet overview --config {params.configuration:q} --images {input.images} --val-images {input.val_images}"
        " --classes {input.classes} {params.scores} --pictures {input.pictures} --logs {params.logs:q} --out {output}"
        " 2>&1 | tee {log}"


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
    conda:
        "../envs/ecsnet.yaml"
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
