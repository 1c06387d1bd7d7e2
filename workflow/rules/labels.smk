# From tags to pixel labels: classifier, erasing, evidence, ECS-Net, filter.


rule train_cam:
    input:
        **TRAIN,
        imagenet=weights_of(CONFIG.train_cam.backbone),
    output:
        weights=f"{RESULTS}{{variant}}/train_cam/weights.safetensors",
        history=f"{RESULTS}{{variant}}/train_cam/history.csv",
    log:
        f"{LOGS}{{variant}}/train_cam.log",
    benchmark:
        f"{LOGS}{{variant}}/train_cam.benchmark.tsv"
    conda:
        "../envs/ecsnet.yaml"
    threads: 8
    resources:
        gpu=CARDS,
        mem_mb=growing(16000),
        runtime=growing(720),
    params:
        settings=section("train_cam"),
        code=code("train_cam"),
        imagenet=lambda wildcards, input: imagenet_option(input.imagenet),
        root=aside(ROOT),
        runtime=aside(RUNTIME),
    shell:
        "ecsnet train_cam --settings {params.settings:q} --images {input.images} --classes {input.classes}"
        " --root {params.root:q} {params.imagenet} --out {output.weights} --history {output.history}"
        " --runtime {params.runtime:q} --threads {threads}"
        " --log {log} 2>&1 | tee {log}"


rule erase:
    input:
        images=TRAIN["images"],
        weights=made_by("train_cam", rules.train_cam.output.weights),
    output:
        f"{RESULTS}{{variant}}/erase/{{scatteritem}}.npz",
    log:
        f"{LOGS}{{variant}}/erase/{{scatteritem}}.log",
    benchmark:
        f"{LOGS}{{variant}}/erase/{{scatteritem}}.benchmark.tsv"
    conda:
        "../envs/ecsnet.yaml"
    threads: 4
    resources:
        gpu=1,
        mem_mb=growing(8000),
        runtime=growing(120),
    params:
        settings=section("erase"),
        code=code("erase"),
        root=aside(ROOT),
        runtime=aside(RUNTIME),
    shell:
        "ecsnet erase --settings {params.settings:q} --images {input.images} --root {params.root:q}"
        " --weights {input.weights} --shard {wildcards.scatteritem} --out {output}"
        " --runtime {params.runtime:q} --threads {threads} 2>&1 | tee {log}"


rule evidence:
    input:
        **TRAIN,
        weights=made_by("train_cam", rules.train_cam.output.weights),
        maps=made_by("erase", rules.erase.output),
    output:
        f"{RESULTS}{{variant}}/evidence/{{scatteritem}}.npz",
    log:
        f"{LOGS}{{variant}}/evidence/{{scatteritem}}.log",
    benchmark:
        f"{LOGS}{{variant}}/evidence/{{scatteritem}}.benchmark.tsv"
    conda:
        "../envs/ecsnet.yaml"
    threads: 4
    resources:
        gpu=1,
        mem_mb=growing(8000),
        runtime=growing(120),
    params:
        settings=section("evidence"),
        code=code("evidence"),
        root=aside(ROOT),
        runtime=aside(RUNTIME),
    shell:
        "ecsnet evidence --settings {params.settings:q} --images {input.images} --classes {input.classes}"
        " --root {params.root:q} --weights {input.weights} --maps {input.maps} --shard {wildcards.scatteritem} --out {output}"
        " --runtime {params.runtime:q} --threads {threads} 2>&1 | tee {log}"


ECS_WEIGHTS = f"{RESULTS}{{variant}}/train_ecs/round{{round}}/weights.safetensors"
ECS_LABELS = f"{RESULTS}{{variant}}/ecs_labels/round{{round}}/{{scatteritem}}.npz"


rule train_ecs:
    input:
        unpack(start_of_round),
        images=TRAIN["images"],
        regions=shards_by("erase", rules.erase.output),
    output:
        weights=ECS_WEIGHTS,
        history=f"{RESULTS}{{variant}}/train_ecs/round{{round}}/history.csv",
    log:
        f"{LOGS}{{variant}}/train_ecs/round{{round}}.log",
    benchmark:
        f"{LOGS}{{variant}}/train_ecs/round{{round}}.benchmark.tsv"
    conda:
        "../envs/ecsnet.yaml"
    threads: 8
    resources:
        gpu=CARDS,
        mem_mb=growing(16000),
        runtime=growing(1440),
    params:
        settings=section("train_ecs"),
        code=code("train_ecs"),
        root=aside(ROOT),
        runtime=aside(RUNTIME),
    shell:
        "ecsnet train_ecs --settings {params.settings:q} --images {input.images} --root {params.root:q}"
        " --weights {input.weights} --labels {input.labels} --regions {input.regions}"
        " --round {wildcards.round} --out {output.weights} --history {output.history}"
        " --runtime {params.runtime:q} --threads {threads}"
        " --log {log} 2>&1 | tee {log}"


rule ecs_labels:
    input:
        images=TRAIN["images"],
        weights=made_by("train_ecs", ECS_WEIGHTS),
        evidence=made_by("evidence", rules.evidence.output),
        regions=made_by("erase", rules.erase.output),
    output:
        ECS_LABELS,
    log:
        f"{LOGS}{{variant}}/ecs_labels/round{{round}}/{{scatteritem}}.log",
    benchmark:
        f"{LOGS}{{variant}}/ecs_labels/round{{round}}/{{scatteritem}}.benchmark.tsv"
    conda:
        "../envs/ecsnet.yaml"
    threads: 4
    resources:
        gpu=1,
        mem_mb=growing(8000),
        runtime=growing(120),
    params:
        settings=section("ecs_labels"),
        code=code("ecs_labels"),
        root=aside(ROOT),
        runtime=aside(RUNTIME),
    shell:
        "ecsnet ecs_labels --settings {params.settings:q} --images {input.images} --root {params.root:q}"
        " --weights {input.weights} --evidence {input.evidence} --regions {input.regions}"
        " --shard {wildcards.scatteritem} --out {output}"
        " --runtime {params.runtime:q} --threads {threads} 2>&1 | tee {log}"


LABELS = {"ecs_labels": ECS_LABELS, "evidence": rules.evidence.output}


rule filter_labels:
    input:
        **TRAIN,
        labels=labels_to_filter,
        evidence=shards_by("evidence", rules.evidence.output),
    output:
        table=f"{RESULTS}{{variant}}/filter_labels.csv",
        kept=report(
            f"{RESULTS}{{variant}}/filter_labels/kept.csv",
            category="Labels",
            caption="../report/kept.rst",
        ),
    log:
        f"{LOGS}{{variant}}/filter_labels.log",
    benchmark:
        f"{LOGS}{{variant}}/filter_labels.benchmark.tsv"
    conda:
        "../envs/ecsnet.yaml"
    threads: 8
    resources:
        mem_mb=growing(8000),
        runtime=growing(60),
    params:
        settings=section("filter_labels"),
        code=code("filter_labels"),
    shell:
        "ecsnet filter_labels --settings {params.settings:q} --images {input.images} --classes {input.classes}"
        " --labels {input.labels} --evidence {input.evidence} --out {output.table} --kept {output.kept}"
        " --threads {threads} 2>&1 | tee {log}"
