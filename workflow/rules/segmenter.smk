# The final network: DeepLab on the filtered labels, and on true masks as the supervised bound.


rule train_segmenter:
    input:
        **TRAIN,
        labels=rules.filter_labels.output.table,
        imagenet=weights_of(CONFIG.train_segmenter.backbone),
    output:
        weights=f"{RESULTS}/train_segmenter/weights.safetensors",
        history=f"{RESULTS}/train_segmenter/history.csv",
    log:
        f"{LOGS}/train_segmenter.log",
    benchmark:
        f"{LOGS}/train_segmenter.benchmark.tsv"
    threads: 8
    resources:
        gpu=CARDS,
        mem_mb=growing(16000),
        runtime=growing(1440),
    params:
        settings=section("train_segmenter"),
        code=code("train_segmenter"),
        imagenet=lambda wildcards, input: imagenet_option(input.imagenet),
    shell:
        "ecsnet train_segmenter --settings {params.settings:q} --images {input.images} --classes {input.classes}"
        " --root {ROOT:q} --labels {input.labels} --label-root {RESULTS} {params.imagenet}"
        " --out {output.weights} --history {output.history} --runtime {RUNTIME:q} --threads {threads}"
        " 2>&1 | tee {log}"


rule train_supervised:
    input:
        **TRAIN,
        labels=f"{RESULTS}/check_masks/supervised.csv",
        imagenet=weights_of(CONFIG.train_segmenter.backbone),
    output:
        weights=f"{RESULTS}/supervised/weights.safetensors",
        history=f"{RESULTS}/supervised/history.csv",
    log:
        f"{LOGS}/supervised/train.log",
    benchmark:
        f"{LOGS}/supervised/train.benchmark.tsv"
    threads: 8
    resources:
        gpu=CARDS,
        mem_mb=growing(16000),
        runtime=growing(1440),
    params:
        settings=section("train_segmenter"),
        code=code("train_segmenter"),
        imagenet=lambda wildcards, input: imagenet_option(input.imagenet),
    shell:
        "ecsnet train_segmenter --settings {params.settings:q} --images {input.images} --classes {input.classes}"
        " --root {ROOT:q} --labels {input.labels} --label-root {ROOT:q} {params.imagenet}"
        " --out {output.weights} --history {output.history} --runtime {RUNTIME:q} --threads {threads}"
        " 2>&1 | tee {log}"


rule predict:
    input:
        images=rules.prepare_val.output,
        weights=rules.train_segmenter.output.weights,
    output:
        f"{RESULTS}/predict/shards/{{scatteritem}}.csv",
    log:
        f"{LOGS}/predict/{{scatteritem}}.log",
    benchmark:
        f"{LOGS}/predict/{{scatteritem}}.benchmark.tsv"
    threads: 4
    resources:
        gpu=1,
        mem_mb=growing(8000),
        runtime=growing(120),
    params:
        settings=section("predict"),
        code=code("predict"),
        folder=f"{RESULTS}/predict",
    shell:
        "ecsnet predict --settings {params.settings:q} --images {input.images} --root {ROOT:q}"
        " --weights {input.weights} --shard {wildcards.scatteritem} --folder {params.folder} --out {output}"
        " --runtime {RUNTIME:q} --threads {threads} 2>&1 | tee {log}"


use rule predict as predict_supervised with:
    input:
        images=rules.prepare_val.output,
        weights=rules.train_supervised.output.weights,
    output:
        f"{RESULTS}/supervised/predict/shards/{{scatteritem}}.csv",
    log:
        f"{LOGS}/supervised/predict/{{scatteritem}}.log",
    benchmark:
        f"{LOGS}/supervised/predict/{{scatteritem}}.benchmark.tsv"
    params:
        settings=section("predict"),
        code=code("predict"),
        folder=f"{RESULTS}/supervised/predict",


rule gather_labels:
    input:
        gather.shard(rules.predict.output),
    output:
        f"{RESULTS}/predict.csv",
    log:
        f"{LOGS}/predict/gather.log",
    benchmark:
        f"{LOGS}/predict/gather.benchmark.tsv"
    localrule: True
    params:
        code=code("gather_labels"),
        folder=f"{RESULTS}/predict",
    shell:
        "ecsnet gather_labels --tables {input} --folder {params.folder} --out {output} 2>&1 | tee {log}"


use rule gather_labels as gather_supervised with:
    input:
        gather.shard(rules.predict_supervised.output),
    output:
        f"{RESULTS}/supervised/predict.csv",
    log:
        f"{LOGS}/supervised/predict/gather.log",
    benchmark:
        f"{LOGS}/supervised/predict/gather.benchmark.tsv"
    params:
        code=code("gather_labels"),
        folder=f"{RESULTS}/supervised/predict",
