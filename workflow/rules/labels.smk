# From tags to pixel labels: classifier, erasing, evidence, ECS-Net, filter.


rule train_cam:
    input:
        **TRAIN,
        imagenet=weights_of(CONFIG.train_cam.backbone),
    output:
        weights=f"{RESULTS}/train_cam/weights.safetensors",
        history=f"{RESULTS}/train_cam/history.csv",
    log:
        f"{LOGS}/train_cam.log",
    benchmark:
        f"{LOGS}/train_cam.benchmark.tsv"
    threads: 8
    resources:
        gpu=CARDS,
        mem_mb=growing(16000),
        runtime=growing(720),
    params:
        settings=section("train_cam"),
        code=code("train_cam"),
        imagenet=lambda wildcards, input: imagenet_option(input.imagenet),
    shell:
        "ecsnet train_cam --settings {params.settings:q} --images {input.images} --classes {input.classes}"
        " --root {ROOT:q} {params.imagenet} --out {output.weights} --history {output.history}"
        " --runtime {RUNTIME:q} --threads {threads} 2>&1 | tee {log}"


rule erase:
    input:
        images=TRAIN["images"],
        weights=rules.train_cam.output.weights,
    output:
        f"{RESULTS}/erase/{{scatteritem}}.npz",
    log:
        f"{LOGS}/erase/{{scatteritem}}.log",
    benchmark:
        f"{LOGS}/erase/{{scatteritem}}.benchmark.tsv"
    threads: 4
    resources:
        gpu=1,
        mem_mb=growing(8000),
        runtime=growing(120),
    params:
        settings=section("erase"),
        code=code("erase"),
    shell:
        "ecsnet erase --settings {params.settings:q} --images {input.images} --root {ROOT:q}"
        " --weights {input.weights} --shard {wildcards.scatteritem} --out {output}"
        " --runtime {RUNTIME:q} --threads {threads} 2>&1 | tee {log}"


rule evidence:
    input:
        **TRAIN,
        weights=rules.train_cam.output.weights,
        maps=rules.erase.output,
    output:
        f"{RESULTS}/evidence/{{scatteritem}}.npz",
    log:
        f"{LOGS}/evidence/{{scatteritem}}.log",
    benchmark:
        f"{LOGS}/evidence/{{scatteritem}}.benchmark.tsv"
    threads: 4
    resources:
        gpu=1,
        mem_mb=growing(8000),
        runtime=growing(120),
    params:
        settings=section("evidence"),
        code=code("evidence"),
    shell:
        "ecsnet evidence --settings {params.settings:q} --images {input.images} --classes {input.classes}"
        " --root {ROOT:q} --weights {input.weights} --maps {input.maps} --shard {wildcards.scatteritem} --out {output}"
        " --runtime {RUNTIME:q} --threads {threads} 2>&1 | tee {log}"


def start_of_round(wildcards):
    """The network that a round starts from, and the labels that it learns from."""
    number = int(wildcards.round)
    if number == 1:
        return {"weights": rules.train_cam.output.weights, "labels": gather.shard(rules.evidence.output)}
    before = number - 1
    return {
        "weights": f"{round_folder('train_ecs', before)}/weights.safetensors",
        "labels": gather.shard(f"{round_folder('ecs_labels', before)}/{{scatteritem}}.npz"),
    }


rule train_ecs:
    input:
        unpack(start_of_round),
        images=TRAIN["images"],
        regions=gather.shard(rules.erase.output),
    output:
        weights=f"{RESULTS}/train_ecs/round{{round}}/weights.safetensors",
        history=f"{RESULTS}/train_ecs/round{{round}}/history.csv",
    log:
        f"{LOGS}/train_ecs/round{{round}}.log",
    benchmark:
        f"{LOGS}/train_ecs/round{{round}}.benchmark.tsv"
    threads: 8
    resources:
        gpu=CARDS,
        mem_mb=growing(16000),
        runtime=growing(1440),
    params:
        settings=section("train_ecs"),
        code=code("train_ecs"),
    shell:
        "ecsnet train_ecs --settings {params.settings:q} --images {input.images} --root {ROOT:q}"
        " --weights {input.weights} --labels {input.labels} --regions {input.regions}"
        " --round {wildcards.round} --out {output.weights} --history {output.history}"
        " --runtime {RUNTIME:q} --threads {threads} 2>&1 | tee {log}"


rule ecs_labels:
    input:
        images=TRAIN["images"],
        weights=rules.train_ecs.output.weights,
        evidence=rules.evidence.output,
        regions=rules.erase.output,
    output:
        f"{RESULTS}/ecs_labels/round{{round}}/{{scatteritem}}.npz",
    log:
        f"{LOGS}/ecs_labels/round{{round}}/{{scatteritem}}.log",
    benchmark:
        f"{LOGS}/ecs_labels/round{{round}}/{{scatteritem}}.benchmark.tsv"
    threads: 4
    resources:
        gpu=1,
        mem_mb=growing(8000),
        runtime=growing(120),
    params:
        settings=section("ecs_labels"),
        code=code("ecs_labels"),
    shell:
        "ecsnet ecs_labels --settings {params.settings:q} --images {input.images} --root {ROOT:q}"
        " --weights {input.weights} --evidence {input.evidence} --regions {input.regions}"
        " --shard {wildcards.scatteritem} --out {output}"
        " --runtime {RUNTIME:q} --threads {threads} 2>&1 | tee {log}"


rule filter_labels:
    input:
        **TRAIN,
        labels=gather.shard(last_labels()),
        evidence=gather.shard(rules.evidence.output),
    output:
        table=f"{RESULTS}/filter_labels.csv",
        kept=report(
            f"{RESULTS}/filter_labels/kept.csv",
            category="Labels",
            caption="../report/kept.rst",
        ),
    log:
        f"{LOGS}/filter_labels.log",
    benchmark:
        f"{LOGS}/filter_labels.benchmark.tsv"
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
