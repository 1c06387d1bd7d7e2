# The final network: DeepLab on the filtered labels, and on true masks as the supervised bound.


rule train_segmenter:
    input:
        **TRAIN,
        labels=made_by("filter_labels", rules.filter_labels.output.table),
        imagenet=weights_of(CONFIG.train_segmenter.backbone),
    output:
        weights=f"{RESULTS}{{variant}}/train_segmenter/weights.safetensors",
        history=f"{RESULTS}{{variant}}/train_segmenter/history.csv",
    log:
        f"{LOGS}{{variant}}/train_segmenter.log",
    benchmark:
        f"{LOGS}{{variant}}/train_segmenter.benchmark.tsv"
    conda:
        "../envs/ecsnet.yaml"
    threads: 8
    resources:
        gpu=CARDS,
        mem_mb=growing(16000),
        runtime=growing(1440),
    params:
        settings=section("train_segmenter"),
        code=code("train_segmenter"),
        imagenet=lambda wildcards, input: imagenet_option(input.imagenet),
        folder=lambda wildcards, input: os.path.dirname(input.labels),
        root=aside(ROOT),
        runtime=aside(RUNTIME),
    shell:
        "ecsnet train_segmenter --settings {params.settings:q} --images {input.images} --classes {input.classes}"
        " --root {params.root:q} --labels {input.labels} --label-root {params.folder} {params.imagenet}"
        " --out {output.weights} --history {output.history} --runtime {params.runtime:q} --threads {threads}"
        " --log {log} 2>&1 | tee {log}"


rule train_supervised:
    input:
        **TRAIN,
        labels=f"{RESULTS}/check_masks/supervised.csv",
        imagenet=weights_of(CONFIG.train_segmenter.backbone),
    output:
        weights=f"{RESULTS}{{variant}}/supervised/weights.safetensors",
        history=f"{RESULTS}{{variant}}/supervised/history.csv",
    log:
        f"{LOGS}{{variant}}/supervised/train.log",
    benchmark:
        f"{LOGS}{{variant}}/supervised/train.benchmark.tsv"
    conda:
        "../envs/ecsnet.yaml"
    threads: 8
    resources:
        gpu=CARDS,
        mem_mb=growing(16000),
        runtime=growing(1440),
    params:
        settings=section("train_segmenter"),
        code=code("train_segmenter"),
        imagenet=lambda wildcards, input: imagenet_option(input.imagenet),
        root=aside(ROOT),
        runtime=aside(RUNTIME),
    shell:
        "ecsnet train_segmenter --settings {params.settings:q} --images {input.images} --classes {input.classes}"
        " --root {params.root:q} --labels {input.labels} --label-root {params.root:q} {params.imagenet}"
        " --out {output.weights} --history {output.history} --runtime {params.runtime:q} --threads {threads}"
        " --log {log} 2>&1 | tee {log}"


rule predict:
    input:
        images=predicted,
        weights=made_by("train_segmenter", rules.train_segmenter.output.weights),
    output:
        f"{RESULTS}{{variant}}/predict/shards/{{scatteritem}}.csv",
    log:
        f"{LOGS}{{variant}}/predict/{{scatteritem}}.log",
    benchmark:
        f"{LOGS}{{variant}}/predict/{{scatteritem}}.benchmark.tsv"
    conda:
        "../envs/ecsnet.yaml"
    threads: 4
    resources:
        gpu=1,
        mem_mb=growing(8000),
        runtime=growing(120),
    params:
        settings=section("predict"),
        code=code("predict"),
        folder=lambda wildcards: f"{RESULTS}{wildcards.variant}/predict",
        root=aside(ROOT),
        runtime=aside(RUNTIME),
    shell:
        "ecsnet predict --settings {params.settings:q} --images {input.images} --root {params.root:q}"
        " --weights {input.weights} --shard {wildcards.scatteritem} --folder {params.folder} --out {output}"
        " --runtime {params.runtime:q} --threads {threads} 2>&1 | tee {log}"


use rule predict as predict_supervised with:
    input:
        images=rules.prepare_val.output,
        weights=made_by("train_supervised", rules.train_supervised.output.weights),
    output:
        f"{RESULTS}{{variant}}/supervised/predict/shards/{{scatteritem}}.csv",
    log:
        f"{LOGS}{{variant}}/supervised/predict/{{scatteritem}}.log",
    benchmark:
        f"{LOGS}{{variant}}/supervised/predict/{{scatteritem}}.benchmark.tsv"
    params:
        settings=section("predict"),
        code=code("predict"),
        folder=lambda wildcards: f"{RESULTS}{wildcards.variant}/supervised/predict",
        root=aside(ROOT),
        runtime=aside(RUNTIME),


# Those of the run itself alone, so that it may be a target: a rule with wildcards may not.
rule gather_labels:
    input:
        all_shards(rules.predict.output, variant=""),
    output:
        f"{RESULTS}/predict.csv",
    log:
        f"{LOGS}/predict/gather.log",
    benchmark:
        f"{LOGS}/predict/gather.benchmark.tsv"
    localrule: True
    conda:
        "../envs/ecsnet.yaml"
    params:
        code=code("gather_labels"),
        folder=lambda wildcards: f"{RESULTS}/predict",
    shell:
        "ecsnet gather_labels --tables {input} --folder {params.folder} --out {output} 2>&1 | tee {log}"


use rule gather_labels as gather_variant with:
    input:
        shards_by("predict", rules.predict.output),
    output:
        f"{RESULTS}{{variant}}/predict.csv",
    log:
        f"{LOGS}{{variant}}/predict/gather.log",
    benchmark:
        f"{LOGS}{{variant}}/predict/gather.benchmark.tsv"
    wildcard_constraints:
        variant="|".join(VARIANTS.folders()[1:]),
    params:
        code=code("gather_labels"),
        folder=lambda wildcards: f"{RESULTS}{wildcards.variant}/predict",


use rule gather_labels as gather_supervised with:
    input:
        shards_by("predict_supervised", rules.predict_supervised.output),
    output:
        f"{RESULTS}{{variant}}/supervised/predict.csv",
    log:
        f"{LOGS}{{variant}}/supervised/predict/gather.log",
    benchmark:
        f"{LOGS}{{variant}}/supervised/predict/gather.benchmark.tsv"
    params:
        code=code("gather_labels"),
        folder=lambda wildcards: f"{RESULTS}{wildcards.variant}/supervised/predict",


# To pass on: with classes, preprocessing and what `predict` does. Apart from the weights, for another setting of
# `predict` is no reason to train again.
rule pack_model:
    input:
        images=TRAIN["images"],
        weights=expand(rules.train_segmenter.output.weights, variant=""),
    output:
        f"{RESULTS}/segmenter.safetensors",
    log:
        f"{LOGS}/pack_model.log",
    benchmark:
        f"{LOGS}/pack_model.benchmark.tsv"
    conda:
        "../envs/ecsnet.yaml"
    resources:
        mem_mb=growing(4000),
        runtime=growing(30),
    params:
        settings=VARIANTS.settings("", "pack_model"),
        predict=VARIANTS.settings("", "predict"),
        code=code("pack_model"),
    shell:
        "ecsnet pack_model --settings {params.settings:q} --predict {params.predict:q} --images {input.images}"
        " --weights {input.weights} --out {output} 2>&1 | tee {log}"


# Of one's own photographs: masks under their names, of their size.
rule export_folder:
    input:
        photos=expand(rules.import_folder.output, part=folder.PARTS),
        predictions=rules.gather_labels.output,
    output:
        f"{RESULTS}/masks.csv",
    log:
        f"{LOGS}/export_folder.log",
    benchmark:
        f"{LOGS}/export_folder.benchmark.tsv"
    conda:
        "../envs/ecsnet.yaml"
    threads: 4
    resources:
        mem_mb=growing(4000),
        runtime=growing(60),
    params:
        code=code("export_folder"),
        folder=lambda wildcards: f"{RESULTS}/masks",
    shell:
        "ecsnet export_folder --photos {input.photos} --predictions {input.predictions} --folder {params.folder}"
        " --out {output} --threads {threads} 2>&1 | tee {log}"


use rule predict as predict_submission with:
    input:
        images=rules.prepare_submission.output,
        weights=expand(rules.train_segmenter.output.weights, variant=""),
    output:
        f"{RESULTS}/submission/predict/shards/{{scatteritem}}.csv",
    log:
        f"{LOGS}/submission/predict/{{scatteritem}}.log",
    benchmark:
        f"{LOGS}/submission/predict/{{scatteritem}}.benchmark.tsv"
    params:
        settings=section("predict"),
        code=code("predict"),
        folder=lambda wildcards: f"{RESULTS}/submission/predict",
        root=aside(ROOT),
        runtime=aside(RUNTIME),


use rule gather_labels as gather_submission with:
    input:
        all_shards(rules.predict_submission.output),
    output:
        f"{RESULTS}/submission/predict.csv",
    log:
        f"{LOGS}/submission/predict/gather.log",
    benchmark:
        f"{LOGS}/submission/predict/gather.benchmark.tsv"
    params:
        code=code("gather_labels"),
        folder=lambda wildcards: f"{RESULTS}/submission/predict",


# On demand: the archive for VOC's test server.
rule submission:
    input:
        images=rules.prepare_submission.output,
        classes=TRAIN["classes"],
        predictions=rules.gather_submission.output,
    output:
        f"{RESULTS}/submission.tar.gz",
    log:
        f"{LOGS}/submission.log",
    benchmark:
        f"{LOGS}/submission.benchmark.tsv"
    conda:
        "../envs/ecsnet.yaml"
    resources:
        mem_mb=growing(2000),
        runtime=growing(60),
    params:
        settings=section("submission"),
        code=code("submission"),
    shell:
        "ecsnet submission --settings {params.settings:q} --images {input.images} --classes {input.classes}"
        " --predictions {input.predictions} --out {output} 2>&1 | tee {log}"
