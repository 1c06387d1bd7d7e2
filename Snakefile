# From image tags to pixel masks: ECS-Net (ICCV 2021) as a pipeline of cached stages.
#
#   snakemake --cores 8 --resources gpu=2                      VOC 2012, config/config.yaml
#   snakemake --cores 2 --configfile config/demo.yaml          the generated data set
#   snakemake supervised --cores 8 --resources gpu=2           and the fully supervised bound
#   snakemake ablation --cores 8 --resources gpu=2             what each step is worth
#
# A stage is one rule, one module ecsnet/<stage>.py, one section of the configuration, one folder
# of results and one of logs, all with the same name.
from snakemake.utils import min_version

min_version("9.0")


configfile: workflow.source_path("config/config.yaml")


include: "workflow/rules/common.smk"
include: "workflow/rules/inputs.smk"
include: "workflow/rules/handlers.smk"


wildcard_constraints:
    scatteritem=r"\d+-of-\d+",
    round=r"\d+",
    variant="|".join(VARIANTS.folders()),


report: "workflow/report/workflow.rst"


include: "workflow/rules/data.smk"
include: "workflow/rules/labels.smk"
include: "workflow/rules/segmenter.smk"
include: "workflow/rules/results.smk"


rule all:
    input:
        f"{RESULTS}/summary.csv",
        FIGURES,
        rules.pack_model.output,
        rules.overview.output,
        rules.export_folder.output if FOLDER else [],


onstart:
    STOP.install(workflow.scheduler._executor)
    wait_for_late_files()


onsuccess:
    remove_resume_files()
    print_results()


onerror:
    print_how_to_go_on()
